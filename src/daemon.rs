//! The turn: one pass after another, until a signal says stop. It owns everything and ties it together.
//!
//! A turn waits, empties the signal pipe, puts ended handlers on the exit queue, drains that queue (the only place
//! where counts go down), does what was asked for, and accepts a bounded number of connections, so that limits
//! are always judged on fresh counts. Nothing in it blocks but the wait. What goes wrong with one connection or one
//! reload is logged and counted; only the start can fail.

mod carried;
mod reload;
mod requests;
mod start;
mod upgrade;

pub use start::{Inherited, Options, StartError, run, status};
#[cfg(any(test, fuzzing))]
pub use upgrade::understands;
pub use upgrade::{REHEARSE, TAKE_OVER, rehearse, take_over};

use std::sync::Arc;
use std::time::Duration;

use crate::acceptor::{Acceptor, Desk, log_pause, log_resume};
use crate::control::{self, Control};
use crate::histogram::{Histogram, TURNS};
use crate::ledger::Ledger;
use crate::listeners::{Borrower, ListenerId, Listeners};
use crate::log::{Event, Log, Reason};
use crate::reaper::{Exit, Killed, Pidfds, Reaper};
use crate::report::Upgrades;
use crate::sieve::Sieve;
use crate::sys::clock;
use crate::sys::descriptor::Nofile;
use crate::sys::notify::Notify;
use crate::sys::pidfd::Ending;
use crate::sys::poll::{Poll, Ready};
use crate::sys::signals::{Asked, Signals};
use crate::sys::spawn::ProcessState;
use crate::table::Table;

/// Numbers in the epoll set; listeners come after them.
const SIGNALS: u64 = 0;
const REAPER: u64 = 1;
const UPGRADE: u64 = 2;

/// At most so many ready descriptors are looked at in one turn; the others are first in the next.
const READY: usize = 64;

/// How long handlers have to end when the daemon is told to end them: SIGTERM, five seconds, SIGKILL, and some more.
const QUIT: Duration = Duration::from_secs(10);

/// What a turn says about the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Continue,
    Stop,
}

/// Everything.
struct Daemon {
    options: Options,
    table: Table,
    log: Log,
    poll: Poll,
    ready: Ready,
    signals: Signals,
    notify: Notify,
    nofile: Nofile,
    /// What handlers inherit.
    process: ProcessState,
    ledger: Ledger,
    listeners: Listeners,
    reaper: Reaper<Pidfds>,
    acceptor: Acceptor,
    sieve: Sieve,
    control: Control,
    instances: u32,
    since: Duration,
    turns: Histogram<{ TURNS.len() }>,
    longest_turn: Duration,
    reloads: (u64, u64),
    /// When the table in force came into force, on the wall clock.
    table_since: Duration,
    upgrades: Upgrades,
    rehearsal: Option<upgrade::Rehearsal>,
    program: upgrade::Program,
    next_ping: Duration,
    /// As process 1: there may be more ended children that are no handlers.
    strangers: bool,
    /// When to stop at the latest, once handlers have been told to end.
    quitting: Option<Duration>,
}

impl Daemon {
    /// One pass: wait, signals, reap, settle, what was asked for, accept.
    fn turn(&mut self) -> Then {
        let timeout = self.timeout();
        let _ = self.poll.wait(&mut self.ready, timeout, &self.signals);
        let now = clock::monotonic();
        let (asked, ended, listeners) = self.sort_out(now);
        self.with_desk(now, |acceptor, desk| acceptor.follow_late(desk));
        self.reaper.reap(ended, now);
        if asked.child || self.strangers {
            self.strangers = self.reaper.reap_strangers(now);
        }
        self.settle(now);
        self.on_time(now);
        if let Then::Stop = self.obey(asked, now) {
            return Then::Stop;
        }
        self.hear(now);
        self.with_desk(now, |acceptor, desk| acceptor.accept(desk, listeners));
        let took = clock::monotonic().saturating_sub(now);
        self.turns.add(took);
        self.longest_turn = self.longest_turn.max(took);
        // Last of all: what this turn was asked for is done, and what comes from now on finds the new program.
        self.go_on_with_upgrade(now);
        Then::Continue
    }

    /// What the wait has found. The signal pipe is emptied before anything is done about its signals.
    fn sort_out(&mut self, now: Duration) -> (Asked, bool, Vec<ListenerId>) {
        let (mut asked, mut ended) = (Asked::default(), false);
        let mut listeners = Vec::new();
        for number in self.ready.numbers() {
            match number {
                SIGNALS => asked = self.signals.take(),
                REAPER => ended = true,
                number if control::owns(number) => self.control.ready(&self.poll, number, now),
                // Others are there to wake us.
                number => listeners.extend(ListenerId::from_number(number)),
            }
        }
        (asked, ended, listeners)
    }

    fn with_desk<T>(&mut self, now: Duration, work: impl FnOnce(&mut Acceptor, &mut Desk<'_>) -> T) -> T {
        let mut desk = Desk {
            poll: &self.poll,
            ledger: &mut self.ledger,
            listeners: &mut self.listeners,
            reaper: &mut self.reaper,
            log: &self.log,
            now,
            wall: clock::wall(),
        };
        work(&mut self.acceptor, &mut desk)
    }

    /// Drains the exit queue: here, and nowhere else, the counts of ended handlers go down.
    fn settle(&mut self, now: Duration) {
        for mut exit in self.reaper.drain() {
            let given_back = self.acceptor.given_back(&mut exit);
            let Some(place) = self.ledger.settle(exit.ticket) else {
                self.inconsistent(&exit);
                continue;
            };
            match exit.ended {
                Some(ended) => {
                    let lived = exit.at.saturating_sub(exit.about.since);
                    self.ledger.note_ending(place.service, ended.ending, lived);
                }
                None => self.warn(format!("handler {} was not ours to collect; how it ended is unknown", exit.pid)),
            }
            log_exit(&self.log, &exit);
            self.take_back(&exit, now);
            self.with_desk(now, |acceptor, desk| {
                acceptor.ended(desk, place, &exit);
                given_back.into_iter().for_each(|connection| acceptor.pass_on(desk, connection));
            });
        }
    }

    fn inconsistent(&mut self, exit: &Exit) {
        debug_assert!(false, "{exit:?} has no place in the ledger");
        let (what, found) = (format!("ticket of pid {}", exit.pid), "no such ticket".to_owned());
        self.log.write(Event::Inconsistency { what, expected: "a place".to_owned(), found });
    }

    /// A `wait` handler has ended: its listener is ours again.
    fn take_back(&mut self, exit: &Exit, now: Duration) {
        let Some(id) = exit.about.lent else { return };
        let lived = exit.at.saturating_sub(exit.about.since);
        let failed = exit.ended.is_none_or(|ended| ended.ending != Ending::Exited(0));
        let borrower = Borrower { lived, failed };
        let delay = self.listeners.take_back(&self.poll, id, exit.ticket, borrower, now);
        if delay.is_some() {
            log_pause(&self.log, &self.listeners, id, Reason::Backoff, delay);
        }
    }

    /// What is due by the clock.
    fn on_time(&mut self, now: Duration) {
        for Killed { pid, about, signal } in self.reaper.end_overdue(now) {
            self.log.write(Event::Kill { service: about.service, peer: about.peer, pid, signal });
        }
        for id in self.listeners.due(now) {
            self.listeners.resume(&self.poll, id);
            log_resume(&self.log, &self.listeners, id);
        }
        self.control.on_time(&self.poll, now);
        self.acceptor.log_suppressed(&self.log, now);
        let complaint = self.sieve.refresh(self.acceptor.admission(), &mut self.listeners, now);
        for complaint in complaint.into_iter().chain(self.acceptor.complaint()) {
            self.warn(complaint);
        }
        if self.notify.interval().is_some() && now >= self.next_ping {
            self.notify.send("WATCHDOG=1");
            self.next_ping = now + self.notify.interval().unwrap_or_default();
        }
    }

    /// How long the wait may last.
    fn timeout(&self) -> Option<Duration> {
        let now = clock::monotonic();
        let ping = self.notify.interval().map(|_| self.next_ping);
        let at_once = self.strangers.then_some(now);
        let (reaper, control) = (self.reaper.deadline(now), self.control.deadline());
        let rehearsal = self.rehearsal.as_ref().map(upgrade::Rehearsal::deadline);
        let sieve = self.sieve.deadline(self.acceptor.admission(), now);
        let deadlines = [reaper, control, rehearsal, sieve, self.listeners.deadline(), self.acceptor.deadline(now)];
        deadlines.into_iter().chain([self.quitting, ping, at_once]).flatten().min().map(|when| when.saturating_sub(now))
    }

    /// Does what signals have asked for.
    fn obey(&mut self, asked: Asked, now: Duration) -> Then {
        if asked.status {
            let json = serde_json::to_string(&self.snapshot(now)).unwrap_or_default();
            self.log.write(Event::Status { json });
        }
        if asked.reload && self.quitting.is_none() {
            // The log has said how it went.
            let _ = self.reload(now);
        }
        if asked.upgrade && self.quitting.is_none() {
            self.begin_upgrade(now);
        }
        if let Some(signal) = asked.stop {
            self.stop(signal);
            return Then::Stop;
        }
        if asked.quit && self.quitting.is_none() {
            self.stop("SIGQUIT");
            self.reaper.end_all(now);
            self.quitting = Some(now + QUIT);
        }
        match self.quitting {
            Some(end) if self.reaper.handlers() == 0 || now >= end => Then::Stop,
            _ => Then::Continue,
        }
    }

    /// Stops listening. Handlers live on.
    fn stop(&mut self, signal: &'static str) {
        self.notify.send("STOPPING=1\nSTATUS=Stopping");
        self.listeners.close_all(&self.poll);
        self.control.close(&self.poll);
        self.log.write(Event::Stop { signal, handlers: self.reaper.handlers() });
    }

    fn warn(&self, message: String) {
        self.log.write(Event::Warning { message });
    }
}

fn log_exit(log: &Log, exit: &Exit) {
    let Some(ended) = exit.ended.filter(|_| exit.about.log) else { return };
    log.write(Event::Exit {
        service: Arc::clone(&exit.about.service),
        peer: exit.about.peer,
        pid: exit.pid,
        ending: ended.ending,
        duration: exit.at.saturating_sub(exit.about.since),
        cpu: ended.cpu,
        rss: ended.rss,
    });
}
