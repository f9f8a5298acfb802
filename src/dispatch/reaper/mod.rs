//! Finds out which handlers have ended, and puts them on the exit queue.
//!
//! Each handler is a descriptor (pidfd) in the reaper's own epoll set, with its ticket as the data: an exit names its
//! ticket from the first moment, and a process id that the kernel gives away again can't release somebody else's place.
//! No signal is involved. The daemon's loop calls [`Reaper::reap`] and then [`Reaper::drain`]; only what it does
//! with the drained exits changes a count. The reaper also ends handlers that outlive their time.
//!
//! It never blocks and never fails: a handler that can't be watched for lack of memory is looked at in every turn.

mod carry;

pub use carry::Carried;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dispatch::listeners::ListenerId;
use crate::net::Peer;
use crate::planted::{Bug, planted};
use crate::sys::descriptor;
use crate::sys::pidfd::{self, Ended};
use crate::sys::poll::{Poll, Ready};
use crate::types::Ticket;

/// What the reaper needs of the kernel; the model test has another one.
pub trait Kernel {
    /// A process that was started: what [`Kernel::collect`] needs to know it by.
    type Handle;

    /// From now on tell when this process has ended.
    ///
    /// # Errors
    /// No memory.
    fn watch(&mut self, handle: &Self::Handle, ticket: Ticket) -> io::Result<()>;

    /// Appends the tickets of watched processes that have ended, a bounded number. Those that are not collected are
    /// found again by the next call.
    fn ended(&mut self, found: &mut Vec<Ticket>);

    /// Collects a process that has ended; `None` if it still runs.
    ///
    /// # Errors
    /// It has been collected by somebody else.
    fn collect(&mut self, handle: &Self::Handle) -> io::Result<Option<Ended>>;

    /// Collects a process that is about to end, whoever waits for it for a moment, and forgets how it ended.
    fn bury(&mut self, handle: &Self::Handle);

    /// Sends a signal to the process group of a process that has not been collected.
    fn signal(&mut self, pid: i32, signal: i32);

    /// The number by which the program that an upgrade starts knows a process again.
    fn number(handle: &Self::Handle) -> RawFd;

    /// In that program: the process with this number.
    ///
    /// # Errors
    /// There is none.
    fn inherit(number: RawFd) -> io::Result<Self::Handle>;
}

/// What the logs want to know of a handler when it has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The service's name.
    pub service: Arc<str>,
    /// Whom it served.
    pub peer: Peer,
    /// The listener that it was lent, if it is a `wait` service's.
    pub lent: Option<ListenerId>,
    /// When it was started, on the monotonic clock.
    pub since: Duration,
    /// Is its end to be logged?
    pub log: bool,
}

/// A handler's end.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The place that it held.
    pub ticket: Ticket,
    /// Its process id; for the log.
    pub pid: i32,
    /// What it was.
    pub about: About,
    /// How it ended; `None` if somebody else has collected it.
    pub ended: Option<Ended>,
    /// When that was found, on the monotonic clock.
    pub at: Duration,
}

/// A handler that was sent a signal because its time is over.
#[derive(Clone, Debug)]
pub struct Killed {
    /// Its process id.
    pub pid: i32,
    /// What it is.
    pub about: About,
    /// The signal's name.
    pub signal: &'static str,
}

struct Handler<H> {
    pid: i32,
    handle: H,
    about: About,
    /// Its start is over. Until then its end is nobody's business: it may be that of a child that is no handler.
    born: bool,
    /// When to send which signal, if it lives that long.
    end: Option<(Duration, i32)>,
}

/// How long a handler has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How often handlers are looked at that could not be watched.
const UNWATCHED: Duration = Duration::from_secs(1);

/// The live handlers and the exit queue.
pub struct Reaper<K: Kernel> {
    kernel: K,
    handlers: HashMap<Ticket, Handler<K::Handle>>,
    exits: Vec<Exit>,
    ends: BTreeSet<(Duration, Ticket)>,
    unwatched: Vec<Ticket>,
    found: Vec<Ticket>,
    /// Handlers that were started since the last turn's [`Reaper::reap`].
    started: usize,
}

impl<K: Kernel> Reaper<K> {
    /// No handlers yet.
    pub fn new(kernel: K) -> Self {
        Self {
            kernel,
            handlers: HashMap::new(),
            exits: Vec::new(),
            ends: BTreeSet::new(),
            unwatched: Vec::new(),
            found: Vec::new(),
            started: 0,
        }
    }

    /// Takes over a process that is to be a handler, with the time after which it is to be ended. It is collected when
    /// it has ended and its start is over: [`Reaper::born`], or else [`Reaper::forget`].
    pub fn record(&mut self, ticket: Ticket, pid: i32, handle: K::Handle, about: About, lifetime: Option<Duration>) {
        if planted(Bug::EndsBeforeRecorded) && matches!(self.kernel.collect(&handle), Ok(Some(_))) {
            return;
        }
        if self.kernel.watch(&handle, ticket).is_err() {
            self.unwatched.push(ticket);
        }
        let end = lifetime.map(|time| (about.since.saturating_add(time), libc::SIGTERM));
        self.ends.extend(end.map(|(when, _)| (when, ticket)));
        self.handlers.insert(ticket, Handler { pid, handle, about, born: false, end });
        self.started += 1;
    }

    /// The process is a handler now.
    pub fn born(&mut self, ticket: Ticket) {
        if let Some(handler) = self.handlers.get_mut(&ticket) {
            handler.born = true;
        }
    }

    /// Collects handlers that have ended and puts them on the exit queue: a bounded number, but never fewer than have been
    /// started since the last call, or a flood of short ones would pile up. Called in every turn, also when the kernel
    /// told of no `ended` one, or all that were started in the meantime could be collected in a single turn.
    pub fn reap(&mut self, ended: bool, now: Duration) {
        let mut most = BATCH + std::mem::take(&mut self.started);
        if !ended && self.unwatched.is_empty() {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        found.extend(&self.unwatched);
        while most > 0 {
            let before = self.exits.len();
            self.kernel.ended(&mut found);
            if planted(Bug::OneExitPerWakeUp) {
                found.truncate(1);
            }
            for ticket in found.drain(..) {
                self.collect(ticket, now);
            }
            let collected = self.exits.len() - before;
            // Fewer than a batch: there are no more, or those whose start is not over.
            if collected < BATCH {
                break;
            }
            most = most.saturating_sub(collected);
        }
        self.found = found;
    }

    fn collect(&mut self, ticket: Ticket, now: Duration) {
        let Some(handler) = self.handlers.get(&ticket) else { return };
        if !handler.born && !planted(Bug::UnbornCollected) {
            return;
        }
        let ended = match self.kernel.collect(&handler.handle) {
            Ok(None) => return,
            Ok(ended) => ended,
            Err(_) => None,
        };
        let Some(Handler { pid, about, .. }) = self.remove(ticket) else { return };
        self.exits.push(Exit { ticket, pid, about, ended, at: now });
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Handler<K::Handle>> {
        let handler = self.handlers.remove(&ticket)?;
        if let Some((when, _)) = handler.end {
            self.ends.remove(&(when, ticket));
        }
        self.unwatched.retain(|&other| other != ticket);
        Some(handler)
    }

    /// A child that could not become a handler, and is ending: collects it. It is on no exit queue.
    pub fn forget(&mut self, ticket: Ticket) {
        if let Some(handler) = self.remove(ticket) {
            self.kernel.bury(&handler.handle);
        }
    }

    /// Empties the exit queue.
    pub fn drain(&mut self) -> Vec<Exit> {
        if planted(Bug::QueueClearedLate) {
            let exits = self.exits.clone();
            self.reap(true, Duration::ZERO);
            self.exits.clear();
            return exits;
        }
        let mut exits = std::mem::take(&mut self.exits);
        if planted(Bug::PidOnTheQueue) {
            for exit in &mut exits {
                let holder = self.handlers.iter().find(|(_, handler)| handler.pid == exit.pid);
                exit.ticket = holder.map_or(exit.ticket, |(&ticket, _)| ticket);
            }
        }
        exits
    }

    /// Ends handlers whose time is over: SIGTERM to their process group, SIGKILL five seconds later.
    pub fn end_overdue(&mut self, now: Duration) -> Vec<Killed> {
        let mut killed = Vec::new();
        while let Some(&(when, ticket)) = self.ends.first().filter(|(when, _)| *when <= now) {
            self.ends.remove(&(when, ticket));
            let Some(handler) = self.handlers.get_mut(&ticket) else { continue };
            let Some((_, signal)) = handler.end.take() else { continue };
            self.kernel.signal(handler.pid, signal);
            let name = if signal == libc::SIGTERM { "SIGTERM" } else { "SIGKILL" };
            killed.push(Killed { pid: handler.pid, about: handler.about.clone(), signal: name });
            if signal == libc::SIGTERM {
                handler.end = Some((now + GRACE, libc::SIGKILL));
                self.ends.insert((now + GRACE, ticket));
            }
        }
        killed
    }

    /// From now on every handler's time is over.
    pub fn end_all(&mut self, now: Duration) {
        for (&ticket, handler) in &mut self.handlers {
            if let Some((when, _)) = handler.end.take() {
                self.ends.remove(&(when, ticket));
            }
            handler.end = Some((now, libc::SIGTERM));
            self.ends.insert((now, ticket));
        }
    }

    /// When [`Reaper::end_overdue`] or [`Reaper::reap`] has something to do at the latest.
    #[must_use]
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let look = (!self.unwatched.is_empty()).then(|| now + UNWATCHED);
        self.ends.first().map(|&(when, _)| when).into_iter().chain(look).min()
    }

    /// How many handlers live or have not been collected.
    #[must_use]
    pub fn handlers(&self) -> usize {
        self.handlers.len()
    }

    /// How many exits wait to be drained.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.exits.len()
    }

    /// As process 1: collects children that are no handlers, orphans of handlers for instance, so that they do not
    /// stay as zombies. A handler that is found among them is collected as a handler. A bounded number: may there be
    /// more? No signal will tell of those again.
    #[must_use]
    pub fn reap_strangers(&mut self, now: Duration) -> bool {
        for _ in 0..BATCH {
            let Some(pid) = pidfd::any_ended() else { return false };
            match self.handlers.iter().find(|(_, handler)| handler.pid == pid) {
                Some((&ticket, _)) => self.collect(ticket, now),
                None => pidfd::discard(pid),
            }
        }
        true
    }
}

/// So many handlers are collected in one turn beside as many as were started. Where many end at once, each is up to a third
/// of a millisecond of the kernel's work, and others wait for their turn.
const BATCH: usize = 16;

/// The real kernel: pidfds in an epoll set, readable when their process has ended.
#[derive(Debug)]
pub struct Pidfds {
    poll: Poll,
    ready: Ready,
}

impl Pidfds {
    /// An empty set.
    ///
    /// # Errors
    /// No descriptors or memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, ready: Ready::new(BATCH) })
    }
}

impl Kernel for Pidfds {
    type Handle = OwnedFd;

    fn watch(&mut self, handle: &OwnedFd, ticket: Ticket) -> io::Result<()> {
        self.poll.add(handle, ticket.number())
    }

    fn ended(&mut self, found: &mut Vec<Ticket>) {
        if self.poll.look(&mut self.ready).is_ok() {
            found.extend(self.ready.numbers().map(Ticket::from_number));
        }
    }

    fn collect(&mut self, handle: &OwnedFd) -> io::Result<Option<Ended>> {
        pidfd::collect(handle)
    }

    fn bury(&mut self, handle: &OwnedFd) {
        // Microseconds: it is in _exit(2) already. If somebody else has collected it, all the better.
        let _ = pidfd::wait_for_end(handle);
    }

    fn signal(&mut self, pid: i32, signal: i32) {
        // A group that has gone meanwhile, or that has become somebody we may not signal, needs none.
        let _ = pidfd::signal_group(pid, signal);
    }

    fn number(handle: &OwnedFd) -> RawFd {
        handle.as_raw_fd()
    }

    fn inherit(number: RawFd) -> io::Result<OwnedFd> {
        descriptor::inherit(number)
    }
}

/// Readable while a handler has ended that has not been collected.
impl AsFd for Reaper<Pidfds> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.poll.as_fd()
    }
}

#[cfg(test)]
mod tests;
