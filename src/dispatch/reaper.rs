//! The end of a handler, from a process that has ended to counts that have gone down and sockets that are polled again.
//!
//! Read from top to bottom it is the way of an exit. Each handler is watched under its ticket: an exit names its ticket from
//! the first moment, and a process id that the kernel gives away again can't release somebody else's place. No signal is
//! involved. `Dispatcher::reap` puts ended handlers on the exit queue; `Dispatcher::settle_exits` empties it between two
//! polls, and there alone the counts of handlers go down. The reaper also ends handlers that outlive their time.
//!
//! It never blocks and never fails: a handler that can't be watched for lack of memory is looked at in every turn.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Dispatcher;
use super::handler::{Exit, Handler, Phase};
use super::kernel::Kernel;
use crate::limits::ledger::Place;
use crate::limits::penalty::Cause;
use crate::log::Event;
use crate::types::{Ended, KillSignal, Ticket};

/// So many handlers are collected in one turn beside as many as were started. Where many end at once, each is up to a third
/// of a millisecond of the kernel's work, and others wait for their turn.
pub(crate) const EXIT_BATCH: usize = 16;

/// How long a handler has between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How often handlers are looked at that could not be watched.
const UNWATCHED_INTERVAL: Duration = Duration::from_secs(1);

/// The exit queue, and what is to be remembered from one turn to the next.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    exits: Vec<Exit>,
    /// Handlers whose time ends, and when.
    deadlines: BTreeSet<(Duration, Ticket)>,
    unwatched: Vec<Ticket>,
    found: Vec<Ticket>,
    /// Handlers that were started since the last turn's [`Dispatcher::reap`].
    started: usize,
    /// As process 1: there may be more ended children that are no handlers.
    more_orphans: bool,
}

impl<K: Kernel> Dispatcher<K> {
    /// Makes a handler known, and watches its process.
    pub(super) fn watch_handler(&mut self, ticket: Ticket, handler: Handler<K>) {
        if self.kernel.watch(&handler.process, ticket).is_err() {
            self.reaper.unwatched.push(ticket);
        }
        self.reaper.deadlines.extend(handler.deadline.map(|(when, _)| (when, ticket)));
        self.reaper.started += 1;
        self.handlers.insert(ticket, handler);
    }

    /// Collects handlers that have ended and puts them on the exit queue: a bounded number, but never fewer than have been
    /// started since the last call, or a flood of short ones would pile up. Called in every turn, also when the kernel
    /// told of no `ended` one, or all that were started in the meantime could be collected in a single turn.
    pub(super) fn reap(&mut self, ended: bool) {
        let mut most = EXIT_BATCH + std::mem::take(&mut self.reaper.started);
        if !ended && self.reaper.unwatched.is_empty() {
            return;
        }
        let mut found = std::mem::take(&mut self.reaper.found);
        found.extend(&self.reaper.unwatched);
        while most > 0 {
            let before = self.reaper.exits.len();
            self.kernel.ended(&mut found);
            found.drain(..).for_each(|ticket| self.collect(ticket));
            let collected = self.reaper.exits.len() - before;
            // Fewer than a batch: there are no more, or those whose start is not over.
            if collected < EXIT_BATCH {
                break;
            }
            most = most.saturating_sub(collected);
        }
        self.reaper.found = found;
    }

    /// As process 1: collects children that are no handlers, orphans of handlers for instance, so that they do not stay as
    /// zombies. A handler that is found among them is collected as a handler. A bounded number: no signal will tell of those
    /// that are left.
    pub(super) fn reap_orphans(&mut self) {
        for _ in 0..EXIT_BATCH {
            let Some(pid) = self.kernel.next_ended_child() else {
                self.reaper.more_orphans = false;
                return;
            };
            match self.handlers.iter().find(|(_, handler)| handler.pid == pid && !handler.has_ended()) {
                Some((&ticket, _)) => self.collect(ticket),
                None => self.kernel.reap_orphan(pid),
            }
        }
        self.reaper.more_orphans = true;
    }

    /// May there be more orphans, of which no signal will tell?
    pub(super) fn has_more_orphans(&self) -> bool {
        self.reaper.more_orphans
    }

    /// Puts one handler on the exit queue, if it has ended. A child that has not called execve(2) is left alone: its end
    /// means that the start has failed, and the spawner will hear of that.
    fn collect(&mut self, ticket: Ticket) {
        let Some(handler) = self.handlers.get_mut(&ticket) else { return };
        if !matches!(handler.phase, Phase::Running) {
            return;
        }
        let ended = match self.kernel.collect(&handler.process) {
            Ok(None) => return,
            Ok(ended) => ended,
            Err(_) => None,
        };
        handler.phase = Phase::Ended;
        if let Some((when, _)) = handler.deadline.take() {
            self.reaper.deadlines.remove(&(when, ticket));
        }
        self.reaper.unwatched.retain(|&other| other != ticket);
        self.reaper.exits.push(Exit { ticket, ended, at: self.now.monotonic });
    }

    /// Empties the exit queue: here, and nowhere else, the counts of ended handlers go down.
    pub(super) fn settle_exits(&mut self) {
        for exit in std::mem::take(&mut self.reaper.exits) {
            self.settle(exit);
        }
    }

    /// The exit of one handler, in this order: the ledger, the log, the client's charge or the lent socket, the listeners that
    /// waited for room, and the connection that a handler of `tcpmux` hands back.
    fn settle(&mut self, mut exit: Exit) {
        let Some(mut handler) = self.handlers.remove(&exit.ticket) else { return };
        let handed_back = handler.take_handed_back(&mut exit);
        let Some(place) = self.ledger.settle(exit.ticket) else { return self.log_inconsistency(&handler) };
        let lived = exit.at.saturating_sub(handler.since);
        match exit.ended {
            Some(ended) => self.ledger.note_ending(place.service, ended.ending, lived),
            None => self.warn(format!("handler {} was not ours to collect; how it ended is unknown", handler.pid)),
        }
        self.log_exit(&handler, exit.ended, lived);
        if handler.lent {
            self.take_back_after(handler.origin.listener, exit.ticket, lived, exit.ended);
        } else {
            self.charge_for_exit(place, &handler, exit.ended);
        }
        self.update_polling_of(place.service);
        if let Some(connection) = handed_back {
            self.pass_on(handler.origin, handler.peer, connection);
        }
    }

    /// Charges a client for a bad end of its handler, if the service does. Nobody knows which of its clients a lent socket's
    /// handler has failed for, and a datagram's sender can be forged, so those are charged nothing.
    fn charge_for_exit(&mut self, place: Place, handler: &Handler<K>, ended: Option<Ended>) {
        let cause = ended.and_then(|ended| Cause::of_ending(ended.ending));
        if let Some(served) = self.services.get(&place.service).cloned().filter(|_| cause.is_some()) {
            self.charge(&served, handler.peer, cause);
        }
    }

    /// A child that could not become a handler, and is ending: collects it, and gives its record. It is on no exit queue.
    pub(super) fn forget_failed_child(&mut self, ticket: Ticket) -> Option<Handler<K>> {
        let handler = self.handlers.remove(&ticket)?;
        if let Some((when, _)) = handler.deadline {
            self.reaper.deadlines.remove(&(when, ticket));
        }
        self.reaper.unwatched.retain(|&other| other != ticket);
        self.kernel.reap_failed_child(&handler.process);
        Some(handler)
    }

    /// Ends handlers whose time is over: SIGTERM to their process group, SIGKILL five seconds later.
    pub(super) fn end_overdue_handlers(&mut self) {
        let now = self.now.monotonic;
        while let Some(&(when, ticket)) = self.reaper.deadlines.first().filter(|(when, _)| *when <= now) {
            self.reaper.deadlines.remove(&(when, ticket));
            let Some(handler) = self.handlers.get_mut(&ticket) else { continue };
            let Some((_, signal)) = handler.deadline.take() else { continue };
            self.kernel.signal_group(handler.pid, signal);
            if signal == KillSignal::Term {
                handler.deadline = Some((now + KILL_GRACE, KillSignal::Kill));
                self.reaper.deadlines.insert((now + KILL_GRACE, ticket));
            }
            let (service, peer, pid) = (Arc::clone(&handler.service), handler.peer, handler.pid);
            self.kernel.log(Event::Kill { service, peer, pid, signal: signal.word() });
        }
    }

    /// From now on every handler's time is over. Not in the middle of a turn, when there are exits on the queue.
    pub(crate) fn end_all_handlers(&mut self) {
        let now = self.now.monotonic;
        for (&ticket, handler) in &mut self.handlers {
            if let Some((when, _)) = handler.deadline.take() {
                self.reaper.deadlines.remove(&(when, ticket));
            }
            handler.deadline = Some((now, KillSignal::Term));
            self.reaper.deadlines.insert((now, ticket));
        }
    }

    /// When [`Dispatcher::end_overdue_handlers`] or [`Dispatcher::reap`] has something to do at the latest.
    pub(super) fn reaper_deadline(&self, now: Duration) -> Option<Duration> {
        let unwatched = (!self.reaper.unwatched.is_empty()).then(|| now + UNWATCHED_INTERVAL);
        let orphans = self.reaper.more_orphans.then_some(now);
        let first = self.reaper.deadlines.first().map(|&(when, _)| when);
        [first, unwatched, orphans].into_iter().flatten().min()
    }

    fn log_exit(&self, handler: &Handler<K>, ended: Option<Ended>, duration: Duration) {
        let Some(Ended { ending, cpu, rss }) = ended.filter(|_| handler.log_exit) else { return };
        let (service, peer, pid) = (Arc::clone(&handler.service), handler.peer, handler.pid);
        self.kernel.log(Event::Exit { service, peer, pid, ending, duration, cpu, rss });
    }

    fn log_inconsistency(&self, handler: &Handler<K>) {
        debug_assert!(false, "pid {} has no place in the ledger", handler.pid);
        let (what, found) = (format!("ticket of pid {}", handler.pid), "no such ticket".to_owned());
        self.kernel.log(Event::Inconsistency { what, expected: "a place".to_owned(), found });
    }
}
