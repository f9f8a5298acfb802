//! What can be logged: one typed [`Event`] for each kind of line, so that text, JSON and the man page agree.

use std::sync::Arc;
use std::time::Duration;

use crate::net::Peer;
use crate::types::{Ending, Reason};

/// How much a line matters, most important first; the numbers are those of syslog (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The daemon's own counts disagree, or it cannot continue.
    Critical = 2,
    /// A requested action failed.
    Error = 3,
    /// The administrator should look at this.
    Warning = 4,
    /// A change of state.
    Notice = 5,
    /// Daily business: handlers start and end, sockets open and close.
    Info = 6,
    /// Details for troubleshooting.
    Debug = 7,
}

impl Level {
    /// All levels, most important first.
    pub const ALL: [Self; 6] = [Self::Critical, Self::Error, Self::Warning, Self::Notice, Self::Info, Self::Debug];

    /// The word in the table and in JSON lines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The level with this number, or else the next less important one.
    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL.into_iter().find(|&level| level as u8 >= number).unwrap_or(Self::Debug)
    }
}

/// A count and its limit; written as `2/10`, or `2` if there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountOf {
    /// The current number.
    pub count: u32,
    /// The largest number allowed.
    pub limit: Option<u32>,
}

/// Something that happened. Fields have the names that they have in the line; oxinetd(8), DIAGNOSTICS, explains
/// each. `service` is the service's name, shared so that an event needs no copy of it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "fields are named as in the line")]
pub enum Event {
    /// The daemon is ready.
    Start { version: &'static str, pid: i32, services: usize, listeners: usize },
    /// A listener was opened or adopted.
    Listen { service: Arc<str>, endpoint: String, how: &'static str },
    /// A listener was closed.
    Unlisten { service: Arc<str>, endpoint: String },
    /// A handler was started.
    Accept { service: Arc<str>, peer: Peer, pid: i32, source_count: CountOf, service_count: CountOf },
    /// A connection was refused, or would have been without `dry_run`. After `retry` it would no longer be refused.
    Refuse { service: Arc<str>, peer: Peer, reason: Reason, retry: Option<Duration>, dry_run: bool },
    /// A source is penalised, and refused from now on.
    Penalty { service: Arc<str>, peer: Peer, cause: &'static str, retry: Duration },
    /// A burst of refusals has ended; this many of its lines were not written.
    Suppressed { service: Arc<str>, reason: Reason, suppressed: u64 },
    /// A handler ended. `rss` is in bytes.
    Exit { service: Arc<str>, peer: Peer, pid: i32, ending: Ending, duration: Duration, cpu: Duration, rss: u64 },
    /// A handler could not be started: the step that failed and why.
    SpawnFailed { service: Arc<str>, peer: Peer, step: &'static str, errno: i32 },
    /// A listener is paused: it is not polled for now.
    Pause { service: Arc<str>, endpoint: String, reason: Reason, retry: Option<Duration> },
    /// A listener is polled again.
    Resume { service: Arc<str>, endpoint: String },
    /// A handler exceeded its `lifetime`, or the daemon ends; this signal was sent to the handler.
    Kill { service: Arc<str>, peer: Peer, pid: i32, signal: &'static str },
    /// A new table is in force: numbers of services that were added, removed, altered and kept.
    Reload { added: usize, removed: usize, altered: usize, kept: usize },
    /// A new table cannot be used; the old one stays in force. One event for each problem.
    ReloadFailed { problem: String },
    /// A change was requested over the control socket: the command, and the client's user and process.
    Control { command: String, uid: u32, pid: i32 },
    /// An upgrade begins: this program is replaced by the one on disk.
    Upgrade { program: String },
    /// The program on disk cannot take over; this one continues.
    UpgradeFailed { problem: String },
    /// The daemon ends: the signal that it received, and how many handlers stay alive.
    Stop { signal: &'static str, handlers: usize },
    /// A count is wrong: the expected value and the one found.
    Inconsistency { what: String, expected: String, found: String },
    /// The status as one JSON document, requested by SIGUSR1.
    Status { json: String },
    /// Lines were dropped because the log could not keep up.
    Dropped { lines: u64 },
    /// Anything else that the administrator should look at.
    Warning { message: String },
}
