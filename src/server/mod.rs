//! The turn: one pass after another, until a signal says stop. The server owns everything and ties it together.
//!
//! A turn waits, empties the signal pipe, lets the dispatcher settle what has ended, does what was asked for, and accepts a
//! bounded number of connections, so that limits are always judged on fresh counts. Nothing in it blocks but the wait. What
//! goes wrong with one connection or one reload is logged and counted; only the start can fail.

mod pid_file;
mod prepare;
mod reload;
mod requests;
mod start;
mod upgrade;

pub use start::{Inherited, Options, StartError, run};
#[cfg(any(test, fuzzing))]
pub use upgrade::state::understands;
pub use upgrade::{PREFLIGHT, TAKE_OVER, preflight, take_over};

use std::rc::Rc;
use std::time::Duration;

use crate::api::Upgrades;
use crate::config::Table;
use crate::control::{self, ControlServer};
use crate::dispatch::Dispatcher;
use crate::dispatch::listeners::ListenerId;
use crate::limits::histogram::{Histogram, TURNS};
use crate::log::{Event, Log};
use crate::sys::clock;
use crate::sys::descriptor::Nofile;
use crate::sys::notify::Notify;
use crate::sys::poll::{Poll, Ready};
use crate::sys::signals::{Asked, Signals};
use crate::system::System;
use crate::system::packet_filter::PacketFilter;
use crate::types::Now;

/// Numbers in the epoll set; listeners come after them.
const SIGNALS: u64 = 0;
const PROCESSES: u64 = 1;
const UPGRADE: u64 = 2;

/// At most so many ready descriptors are looked at in one turn; the others are first in the next.
const READY_MAX: usize = 64;

/// How long handlers have to end when the daemon is told to end them: SIGTERM, five seconds, SIGKILL, and some more.
const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a turn says about the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Continue,
    Stop,
}

/// What the wait has found.
#[derive(Debug, Default)]
struct Events {
    asked: Asked,
    /// Handlers have ended.
    ended: bool,
    /// Listeners at which clients wait.
    listeners: Vec<ListenerId>,
}

/// Everything.
struct Daemon {
    options: Options,
    table: Table,
    log: Log,
    poll: Rc<Poll>,
    ready: Ready,
    signals: Signals,
    notify: Notify,
    nofile: Nofile,
    dispatcher: Dispatcher<System>,
    packet_filter: PacketFilter,
    control: ControlServer,
    instances: u32,
    since: Duration,
    turns: Histogram<{ TURNS.len() }>,
    longest_turn: Duration,
    reloads: (u64, u64),
    /// When the table in force came into force, on the wall clock.
    table_since: Duration,
    upgrades: Upgrades,
    preflight: Option<upgrade::Preflight>,
    program: upgrade::Program,
    next_ping: Duration,
    /// When to stop at the latest, once handlers have been told to end.
    quitting: Option<Duration>,
}

impl Daemon {
    /// One pass: wait, exits and their counts, what was asked for, accept.
    fn turn(&mut self) -> Then {
        let timeout = self.timeout();
        let _ = self.poll.wait(&mut self.ready, timeout, &self.signals);
        let now = Now { monotonic: clock::monotonic(), wall: clock::wall() };
        let Events { asked, ended, listeners } = self.collect_events(now.monotonic);
        self.dispatcher.begin_turn(now, ended, asked.child);
        self.run_timers(now.monotonic);
        if let Then::Stop = self.handle_signals(asked, now.monotonic) {
            return Then::Stop;
        }
        self.handle_request(now.monotonic);
        self.dispatcher.accept(listeners);
        let took = clock::monotonic().saturating_sub(now.monotonic);
        self.turns.add(took);
        self.longest_turn = self.longest_turn.max(took);
        // Last of all: what this turn was asked for is done, and what comes from now on finds the new program.
        self.continue_upgrade(now);
        Then::Continue
    }

    /// What the wait has found. The signal pipe is emptied before anything is done about its signals.
    fn collect_events(&mut self, now: Duration) -> Events {
        let mut events = Events::default();
        for number in self.ready.numbers() {
            match number {
                SIGNALS => events.asked = self.signals.take(),
                PROCESSES => events.ended = true,
                number if control::owns_number(number) => self.control.on_ready(&self.poll, number, now),
                // Others are there to wake us.
                number => events.listeners.extend(ListenerId::from_number(number)),
            }
        }
        events
    }

    /// What is due by the clock, besides the dispatcher's timers.
    fn run_timers(&mut self, now: Duration) {
        self.control.run_timers(&self.poll, now);
        let complaint = self.packet_filter.refresh(&mut self.dispatcher, now);
        for complaint in complaint.into_iter().chain(self.dispatcher.admission_mut().complaint()) {
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
        let preflight = self.preflight.as_ref().map(upgrade::Preflight::deadline);
        let filter = self.packet_filter.deadline(self.dispatcher.admission(), now);
        let deadlines =
            [self.dispatcher.deadline(now), self.control.deadline(), preflight, filter, self.quitting, ping];
        deadlines.into_iter().flatten().min().map(|when| when.saturating_sub(now))
    }

    /// Does what signals have asked for. A daemon that is ending neither reloads nor upgrades.
    fn handle_signals(&mut self, asked: Asked, now: Duration) -> Then {
        if asked.status {
            let json = serde_json::to_string(&self.snapshot(now)).unwrap_or_default();
            self.log.write(Event::Status { json });
        }
        if asked.reload && self.quitting.is_none() {
            // The log has said how it went.
            let _ = self.reload(now);
        }
        if asked.upgrade && self.quitting.is_none() {
            self.begin_upgrade();
        }
        if let Some(signal) = asked.stop {
            self.stop(signal);
            return Then::Stop;
        }
        if asked.quit && self.quitting.is_none() {
            self.stop("SIGQUIT");
            self.dispatcher.end_all_handlers();
            self.quitting = Some(now + QUIT_TIMEOUT);
        }
        match self.quitting {
            Some(end) if self.dispatcher.handlers().next().is_none() || now >= end => Then::Stop,
            _ => Then::Continue,
        }
    }

    /// Stops listening. Handlers live on.
    fn stop(&mut self, signal: &'static str) {
        self.notify.send("STOPPING=1\nSTATUS=Stopping");
        self.dispatcher.close_all_listeners();
        self.control.close_socket(&self.poll);
        self.log.write(Event::Stop { signal, handlers: self.dispatcher.handlers().count() });
    }

    fn warn(&self, message: String) {
        self.log.write(Event::Warning { message });
    }
}
