//! Lets the kernel drop the packets of clients that are banned or penalised, before they cost anything.
//!
//! With `daemon.drop_banned: kernel`, every Internet socket that is not lent to handlers which accept for themselves
//! gets a program of classic BPF (`program`) that drops the first packet of such a client already. It holds as many
//! networks as fit, bans first, then those penalties that last longest. Admission refuses the rest, and all clients for
//! which a service makes an exception. What the kernel drops is counted nowhere.
//!
//! The server calls this in each turn. A change is passed on at most once a second, and to no more sockets in one turn
//! than a few milliseconds allow. If the kernel refuses, that is said once, and admission alone does the work.

mod program;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Socket, System};
use crate::admission::{Admission, Barred};
use crate::dispatch::Dispatcher;
use crate::dispatch::listeners::{ListenerId, Listeners};
use crate::sys::bpf::{self, Instruction};
use crate::sys::clock;
use crate::types::Now;
use crate::types::ServiceId;

/// A change waits until the last one is this old.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long sockets may be changed in one turn. The kernel takes some 4 ms to translate the longest program.
const TIME_MAX: Duration = Duration::from_millis(4);

/// Programs are made shorter while the kernel has no memory for them, but not shorter than this.
const LENGTH_MIN: usize = 32;

/// What the kernel has been told.
#[derive(Debug, Default)]
pub struct PacketFilter {
    on: bool,
    /// The state of the bans and penalties at the last look, and when the first of them ends.
    looked: Option<(u64, Option<Duration>)>,
    /// When that was.
    last: Option<Duration>,
    barred: Vec<Barred>,
    /// The program for all services that make no exception.
    common: Option<Rc<[Instruction]>>,
    /// Listeners that have not been told yet.
    waiting: VecDeque<ListenerId>,
    /// The most instructions that the kernel takes.
    most: usize,
    complained: bool,
}

impl PacketFilter {
    /// Begins anew, with the listeners of a new table: is the kernel to help?
    pub fn serve(&mut self, on: bool, dispatcher: &mut Dispatcher<System>) {
        if !on {
            detach_all(dispatcher.listeners_and_admission().0);
        }
        let (last, complained) = (self.last, self.complained);
        *self = Self { on, last, complained, most: bpf::INSTRUCTIONS_MAX, ..Self::default() };
    }

    /// Tells the kernel what has changed. Gives what the administrator should know, once.
    pub fn refresh(&mut self, dispatcher: &mut Dispatcher<System>, now: Duration) -> Option<String> {
        if !self.on {
            return None;
        }
        let (listeners, admission) = dispatcher.listeners_and_admission();
        if self.is_stale(admission, now) && self.last.is_none_or(|last| now >= last + INTERVAL) {
            self.note_blocked(admission, listeners, now);
        }
        let end = clock::monotonic() + TIME_MAX;
        while let Some(id) = self.waiting.pop_front() {
            if let Err(error) = self.attach(admission, listeners, id) {
                return self.give_up(listeners, &error);
            }
            if clock::monotonic() >= end {
                break;
            }
        }
        None
    }

    /// When [`PacketFilter::refresh`] has something to do.
    #[must_use]
    pub fn deadline(&self, admission: &Admission, now: Duration) -> Option<Duration> {
        let soon = self.last.map_or(now, |last| last + INTERVAL);
        match self.looked {
            _ if !self.on => None,
            _ if !self.waiting.is_empty() => Some(now),
            _ if self.is_stale(admission, now) => Some(soon),
            looked => looked.and_then(|(_, ends)| ends).map(|ends| ends.max(soon)),
        }
    }

    fn is_stale(&self, admission: &Admission, now: Duration) -> bool {
        let Some((changes, ends)) = self.looked else { return true };
        changes != admission.barred_changes() || ends.is_some_and(|ends| now >= ends)
    }

    /// Notes who is to be dropped, and that all listeners are to be told.
    fn note_blocked(&mut self, admission: &Admission, listeners: &Listeners<System>, now: Duration) {
        self.barred = admission.barred(Now { monotonic: now, wall: Duration::ZERO }, bpf::INSTRUCTIONS_MAX);
        let ends = self.barred.iter().filter_map(|one| one.until).min();
        (self.looked, self.last, self.common) = (Some((admission.barred_changes(), ends)), Some(now), None);
        self.waiting = listeners.iter().map(|(id, _)| id).collect();
    }

    /// Gives one listener its program, a shorter one if the kernel has no memory for more.
    fn attach(&mut self, admission: &Admission, listeners: &mut Listeners<System>, id: ListenerId) -> io::Result<()> {
        let Some(listener) = listeners.get(id) else { return Ok(()) };
        let (service, takes) = (listener.service, listener.takes_filter());
        loop {
            let program = if takes { self.program(admission, service) } else { None };
            let Some(socket) = listeners.socket_mut(id) else { return Ok(()) };
            match socket.set_filter(program.as_deref()) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && self.most > LENGTH_MIN => {
                    (self.most, self.common) = (self.most / 2, None);
                }
                result => return result,
            }
        }
    }

    /// The program for the sockets of a service; none if nobody is to be dropped.
    fn program(&mut self, admission: &Admission, service: ServiceId) -> Option<Rc<[Instruction]>> {
        let excepts = admission.makes_exceptions(service);
        if let Some(common) = self.common.as_ref().filter(|_| !excepts) {
            return Some(Rc::clone(common));
        }
        let dropped = self.barred.iter().filter(|one| !excepts || admission.enforces(service, one));
        let networks: Vec<IpNet> = dropped.map(|one| one.network).collect();
        let (program, taken) = program::program(&networks, self.most);
        let program = (taken > 0).then(|| Rc::from(program));
        if !excepts {
            self.common.clone_from(&program);
        }
        program
    }

    fn give_up(&mut self, listeners: &mut Listeners<System>, error: &io::Error) -> Option<String> {
        detach_all(listeners);
        self.on = false;
        if std::mem::replace(&mut self.complained, true) {
            return None;
        }
        let hint = match error.raw_os_error() {
            Some(libc::EPERM) => "; it wants CAP_NET_ADMIN",
            Some(libc::ENOMEM) => "; net.core.optmem_max is too low",
            _ => "",
        };
        Some(format!("daemon.drop_banned: the kernel does not help ({error}{hint}); all are refused here"))
    }
}

/// Leaves the kernel out of it.
fn detach_all(listeners: &mut Listeners<System>) {
    let ids: Vec<_> = listeners.iter().map(|(id, _)| id).collect();
    for id in ids {
        if let Some(socket) = listeners.socket_mut(id) {
            // To take a program off can't fail.
            let _ = socket.set_filter(None);
        }
    }
}

impl Socket {
    /// Puts a program on a socket that says which packets the kernel is to drop, in place of an earlier one; or takes it
    /// off again. Errors are those of [`bpf::attach_program`].
    fn set_filter(&mut self, program: Option<&[Instruction]>) -> io::Result<()> {
        match program {
            Some(program) => {
                bpf::attach_program(self.as_fd(), program)?;
                self.filtered = true;
            }
            None if self.filtered => bpf::detach_program(self.as_fd()),
            None => {}
        }
        Ok(())
    }
}
