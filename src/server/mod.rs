//! The server: it owns everything, ties it together, and runs one turn after another until a signal stops it.
//!
//! A turn waits, takes the pending signals, lets the dispatcher settle the handlers that have ended, does what signals and
//! requests ask for, and accepts a bounded number of connections; so limits are always evaluated on fresh counts. Only the
//! wait blocks. `main` calls [`run`], [`take_over`] and [`preflight`]. A connection or a reload that fails is logged and
//! counted; only the start can fail as a whole.

mod error;
mod options;
mod pid_file;
mod prepare;
mod reload;
mod requests;
mod start;
mod upgrade;

pub use error::StartError;
pub use options::{Inherited, ServerOptions};
pub use start::run;
pub use upgrade::preflight::preflight;
pub use upgrade::program::{PREFLIGHT_VALUE, TAKE_OVER_OPTION};
#[cfg(any(test, fuzzing))]
pub use upgrade::state::can_restore;
pub use upgrade::take_over;

use std::rc::Rc;
use std::time::Duration;

use upgrade::preflight::Preflight;
use upgrade::program::RunningProgram;

use crate::api::Upgrades;
use crate::config::Table;
use crate::control::{self, ControlServer};
use crate::dispatch::Dispatcher;
use crate::limits::histogram::{Histogram, TURNS};
use crate::log::{Event, Log};
use crate::sys::clock;
use crate::sys::descriptor::Nofile;
use crate::sys::notify::Notify;
use crate::sys::poll::{Poll, ReadyList};
use crate::sys::signals::{PendingSignals, Signals};
use crate::system::System;
use crate::system::packet_filter::PacketFilter;
use crate::types::{ListenerId, Now};

/// Numbers in the epoll set. Those of listeners and of the control socket are larger.
const POLL_SIGNALS: u64 = 0;
const POLL_PROCESSES: u64 = 1;
const POLL_PREFLIGHT: u64 = 2;

/// The largest number of ready descriptors in one turn. The next turn finds the others first.
const READY_MAX: usize = 64;

/// The longest time that the end of the daemon waits for handlers to end: SIGTERM, five seconds, SIGKILL, and a reserve.
const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time that the end of the daemon waits for the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether another turn follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnOutcome {
    Continue,
    Stop,
}

/// The events that a wait has found.
#[derive(Debug, Default)]
struct TurnEvents {
    signals: PendingSignals,
    /// Has a handler ended?
    ended: bool,
    /// The listeners with clients in their queues.
    listeners: Vec<ListenerId>,
}

/// The whole state of the daemon.
struct Server {
    options: options::ServerOptions,
    table: Table,
    log: Log,
    poll: Rc<Poll>,
    ready: ReadyList,
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
    /// The time on the wall clock when the table was put in force.
    table_since: Duration,
    upgrades: Upgrades,
    preflight: Option<Preflight>,
    program: RunningProgram,
    next_ping: Duration,
    /// The latest time to stop, once SIGQUIT has ended the handlers.
    quitting: Option<Duration>,
}

impl Server {
    /// One turn: wait, settle exits, act on signals and requests, accept.
    fn run_turn(&mut self) -> TurnOutcome {
        let timeout = self.wait_timeout();
        let _ = self.poll.wait(&mut self.ready, timeout, &self.signals);
        let now = Now { monotonic: clock::monotonic(), wall: clock::wall() };
        let TurnEvents { signals, ended, listeners } = self.collect_events(now.monotonic);
        self.dispatcher.begin_turn(now, ended, signals.child);
        self.run_timers(now.monotonic);
        if let TurnOutcome::Stop = self.handle_signals(signals, now.monotonic) {
            return TurnOutcome::Stop;
        }
        self.handle_request(now.monotonic);
        self.dispatcher.accept(listeners);
        let took = clock::monotonic().saturating_sub(now.monotonic);
        self.turns.add(took);
        self.longest_turn = self.longest_turn.max(took);
        // Last, because an upgrade may replace this process: the requests of this turn are done, and the new program gets
        // the next ones.
        self.continue_upgrade(now);
        TurnOutcome::Continue
    }

    /// Sorts the ready descriptors. The signal pipe is emptied before anything is done about its signals.
    fn collect_events(&mut self, now: Duration) -> TurnEvents {
        let mut events = TurnEvents::default();
        for number in self.ready.numbers() {
            match number {
                POLL_SIGNALS => events.signals = self.signals.take_pending(),
                POLL_PROCESSES => events.ended = true,
                number if control::owns_number(number) => self.control.on_ready(&self.poll, number, now),
                // The preflight is in the set only to end the wait.
                number => events.listeners.extend(ListenerId::from_number(number)),
            }
        }
        events
    }

    /// Does what is due by the clock, except for the dispatcher's timers.
    fn run_timers(&mut self, now: Duration) {
        self.control.run_timers(&self.poll, now);
        let warning = self.packet_filter.refresh(&mut self.dispatcher, now);
        for warning in warning.into_iter().chain(self.dispatcher.admission_mut().take_complaint()) {
            self.warn(warning);
        }
        if self.notify.watchdog_interval().is_some() && now >= self.next_ping {
            self.notify.send("WATCHDOG=1");
            self.next_ping = now + self.notify.watchdog_interval().unwrap_or_default();
        }
    }

    /// The time until the next deadline; `None` if there is none.
    fn wait_timeout(&self) -> Option<Duration> {
        let now = clock::monotonic();
        let ping = self.notify.watchdog_interval().map(|_| self.next_ping);
        let preflight = self.preflight.as_ref().map(Preflight::deadline);
        let filter = self.packet_filter.deadline(self.dispatcher.admission(), now);
        let deadlines =
            [self.dispatcher.deadline(now), self.control.deadline(), preflight, filter, self.quitting, ping];
        deadlines.into_iter().flatten().min().map(|when| when.saturating_sub(now))
    }

    /// Does what signals ask for. A daemon that is ending neither reloads nor upgrades.
    fn handle_signals(&mut self, signals: PendingSignals, now: Duration) -> TurnOutcome {
        if signals.status {
            let json = serde_json::to_string(&self.take_snapshot(now)).unwrap_or_default();
            self.log.write(Event::Status { json });
        }
        if signals.reload && self.quitting.is_none() {
            // The log has the result.
            let _ = self.reload(now);
        }
        if signals.upgrade && self.quitting.is_none() {
            self.begin_upgrade();
        }
        if let Some(signal) = signals.stop {
            self.stop_listening(signal);
            return TurnOutcome::Stop;
        }
        if signals.quit && self.quitting.is_none() {
            self.stop_listening("SIGQUIT");
            self.dispatcher.end_all_handlers();
            self.quitting = Some(now + QUIT_TIMEOUT);
        }
        match self.quitting {
            Some(end) if self.dispatcher.handlers().next().is_none() || now >= end => TurnOutcome::Stop,
            _ => TurnOutcome::Continue,
        }
    }

    /// Closes the listeners and the control socket. Handlers continue.
    fn stop_listening(&mut self, signal: &'static str) {
        self.notify.send("STOPPING=1\nSTATUS=Stopping");
        self.dispatcher.close_all_listeners();
        self.control.close_socket(&self.poll);
        self.log.write(Event::Stop { signal, handlers: self.dispatcher.handlers().count() });
    }

    fn warn(&self, message: String) {
        self.log.write(Event::Warning { message });
    }
}
