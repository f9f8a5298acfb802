//! The packet filter: the kernel drops the packets of banned and penalised clients, before they cost anything.
//!
//! With `daemon.drop_banned: kernel`, every Internet socket gets a classic BPF program (`program`) that drops such
//! a client's first packet. A socket that is lent to a handler that accepts for itself gets none. The program holds
//! as many networks as fit: bans first, then the penalties that last longest. Admission refuses the other clients,
//! and decides alone on those that a service exempts. Packets that the kernel drops are counted nowhere.
//!
//! The server calls this in each turn. It attaches new programs at most once a second, and in one turn only for a
//! few milliseconds. It never closes a socket and never refuses a client. If the kernel does not take a program, a
//! warning says so once, and admission alone refuses.

mod program;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;

use super::{ListenerSocket, System};
use crate::admission::{Admission, Blocked};
use crate::dispatch::Dispatcher;
use crate::dispatch::listeners::Listeners;
use crate::sys::bpf::{self, Instruction};
use crate::sys::clock;
use crate::types::ServiceId;
use crate::types::{ListenerId, Now};

/// The shortest time between two updates of the programs.
const UPDATE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The longest time that one turn attaches programs. The kernel takes some 4 ms to translate the longest program.
const ATTACH_TIME_MAX: Duration = Duration::from_millis(4);

/// Programs are made shorter while the kernel has no memory for them, but not shorter than this.
const INSTRUCTIONS_MIN: usize = 32;

/// The programs that are attached, and the sockets that still need a new one.
#[derive(Debug, Default)]
pub(crate) struct PacketFilter {
    enabled: bool,
    /// The number of changes of bans and penalties at the last update, and when the first of them ends.
    seen: Option<(u64, Option<Duration>)>,
    /// The time of the last update.
    updated_at: Option<Duration>,
    blocked: Vec<Blocked>,
    /// The program for all services that exempt no client.
    common: Option<Rc<[Instruction]>>,
    /// Listeners that still have their former program.
    outdated: VecDeque<ListenerId>,
    /// The largest number of instructions that the kernel has memory for.
    instructions_max: usize,
    has_warned: bool,
}

impl PacketFilter {
    /// Starts again with the listeners of a new table, or detaches all programs if the table does not enable the
    /// filter.
    pub(crate) fn configure(&mut self, enabled: bool, dispatcher: &mut Dispatcher<System>) {
        if !enabled {
            detach_all(dispatcher.listeners_and_admission().0);
        }
        let (updated_at, has_warned) = (self.updated_at, self.has_warned);
        let instructions_max = bpf::INSTRUCTIONS_MAX;
        *self = Self { enabled, updated_at, has_warned, instructions_max, ..Self::default() };
    }

    /// Attaches new programs where bans or penalties have changed. Returns a warning if the kernel takes none,
    /// once.
    pub(crate) fn refresh(&mut self, dispatcher: &mut Dispatcher<System>, now: Duration) -> Option<String> {
        if !self.enabled {
            return None;
        }
        let (listeners, admission) = dispatcher.listeners_and_admission();
        if self.is_stale(admission, now) && self.updated_at.is_none_or(|last| now >= last + UPDATE_INTERVAL_MIN) {
            self.note_blocked(admission, listeners, now);
        }
        let end = clock::monotonic() + ATTACH_TIME_MAX;
        while let Some(id) = self.outdated.pop_front() {
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
    pub(crate) fn deadline(&self, admission: &Admission, now: Duration) -> Option<Duration> {
        let next = self.updated_at.map_or(now, |last| last + UPDATE_INTERVAL_MIN);
        match self.seen {
            _ if !self.enabled => None,
            _ if !self.outdated.is_empty() => Some(now),
            _ if self.is_stale(admission, now) => Some(next),
            seen => seen.and_then(|(_, ends)| ends).map(|ends| ends.max(next)),
        }
    }

    fn is_stale(&self, admission: &Admission, now: Duration) -> bool {
        let Some((changes, ends)) = self.seen else { return true };
        changes != admission.blocked_changes() || ends.is_some_and(|ends| now >= ends)
    }

    /// Notes the clients to drop, and that all listeners need a new program.
    fn note_blocked(&mut self, admission: &Admission, listeners: &Listeners<System>, now: Duration) {
        self.blocked = admission.list_blocked(Now { monotonic: now, wall: Duration::ZERO }, bpf::INSTRUCTIONS_MAX);
        let ends = self.blocked.iter().filter_map(|one| one.until).min();
        (self.seen, self.updated_at, self.common) = (Some((admission.blocked_changes(), ends)), Some(now), None);
        self.outdated = listeners.iter().map(|(id, _)| id).collect();
    }

    /// Attaches the program to one listener; a shorter one if the kernel has no memory for it.
    fn attach(&mut self, admission: &Admission, listeners: &mut Listeners<System>, id: ListenerId) -> io::Result<()> {
        let Some(listener) = listeners.get(id) else { return Ok(()) };
        let (service, takes) = (listener.service, listener.takes_filter());
        loop {
            let program = if takes { self.program_for(admission, service) } else { None };
            let Some(socket) = listeners.socket_mut(id) else { return Ok(()) };
            match socket.set_filter(program.as_deref()) {
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOMEM) && self.instructions_max > INSTRUCTIONS_MIN =>
                {
                    (self.instructions_max, self.common) = (self.instructions_max / 2, None);
                }
                result => return result,
            }
        }
    }

    /// The program for the sockets of a service; `None` if there is no client to drop.
    fn program_for(&mut self, admission: &Admission, service: ServiceId) -> Option<Rc<[Instruction]>> {
        let excepts = admission.has_exemptions(service);
        if let Some(common) = self.common.as_ref().filter(|_| !excepts) {
            return Some(Rc::clone(common));
        }
        let dropped = self.blocked.iter().filter(|one| !excepts || admission.blocks_network(service, one));
        let networks: Vec<IpNet> = dropped.map(|one| one.network).collect();
        let (program, taken) = program::build_program(&networks, self.instructions_max);
        let program = (taken > 0).then(|| Rc::from(program));
        if !excepts {
            self.common.clone_from(&program);
        }
        program
    }

    fn give_up(&mut self, listeners: &mut Listeners<System>, error: &io::Error) -> Option<String> {
        detach_all(listeners);
        self.enabled = false;
        if std::mem::replace(&mut self.has_warned, true) {
            return None;
        }
        let hint = match error.raw_os_error() {
            Some(libc::EPERM) => "; it needs CAP_NET_ADMIN",
            Some(libc::ENOMEM) => "; net.core.optmem_max is too low",
            _ => "",
        };
        Some(format!(
            "daemon.drop_banned: the kernel takes no packet filter ({error}{hint}); the daemon refuses these clients"
        ))
    }
}

/// Detaches the programs from all listeners.
fn detach_all(listeners: &mut Listeners<System>) {
    let ids: Vec<_> = listeners.iter().map(|(id, _)| id).collect();
    for id in ids {
        if let Some(socket) = listeners.socket_mut(id) {
            // Detaching can't fail.
            let _ = socket.set_filter(None);
        }
    }
}

impl ListenerSocket {
    /// Attaches a program to the socket in place of an earlier one, or detaches it. Errors are those of
    /// [`bpf::attach_program`].
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
