//! What can be logged: one typed [`Event`] for each kind of line, so that text, JSON and the man page agree.

use std::sync::Arc;
use std::time::Duration;

use crate::net::Peer;
use crate::types::{Ending, Reason};

/// How much a line matters, most important first; the numbers are those of syslog (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The daemon's own books disagree, or it can't go on.
    Critical = 2,
    /// Something that was asked for was not done.
    Error = 3,
    /// Something that the administrator should look at.
    Warning = 4,
    /// A change of state.
    Notice = 5,
    /// The daily business: handlers and sockets that come and go.
    Info = 6,
    /// For whoever looks for a fault.
    Debug = 7,
}

impl Level {
    /// The words of the table, most important first.
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

    /// The level with this number, or the nearest.
    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL.into_iter().find(|&level| level as u8 >= number).unwrap_or(Self::Debug)
    }
}

/// A count beside its limit; printed `2/10`, or `2` where there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of {
    /// How many there are now.
    pub count: u32,
    /// How many there may be.
    pub limit: Option<u32>,
}

/// Something that happened. `service` is the service's name, shared so that an event costs no copy.
#[derive(Clone, Debug)]
#[allow(
    missing_docs,
    reason = "fields are named as in the line that they become; oxinetd(8), DIAGNOSTICS, explains each"
)]
pub enum Event {
    /// The daemon is ready.
    Start { version: &'static str, pid: i32, services: usize, listeners: usize },
    /// A listener was opened or adopted.
    Listen { service: Arc<str>, endpoint: String, how: &'static str },
    /// A listener was closed.
    Unlisten { service: Arc<str>, endpoint: String },
    /// A handler was started.
    Accept { service: Arc<str>, peer: Peer, pid: i32, source_count: Of, service_count: Of },
    /// A connection was turned away, or would have been without `dry_run`. `retry` is when it would not be any more.
    Refuse { service: Arc<str>, peer: Peer, reason: Reason, retry: Option<Duration>, dry_run: bool },
    /// A source is refused from now on, for what it has done.
    Penalty { service: Arc<str>, peer: Peer, cause: &'static str, retry: Duration },
    /// A burst is over of which this many lines were not written.
    Suppressed { service: Arc<str>, reason: Reason, suppressed: u64 },
    /// A handler ended. `rss` is in bytes.
    Exit { service: Arc<str>, peer: Peer, pid: i32, ending: Ending, duration: Duration, cpu: Duration, rss: u64 },
    /// A handler could not be started: the step that failed and why.
    SpawnFailed { service: Arc<str>, peer: Peer, step: &'static str, errno: i32 },
    /// A listener is not polled for now.
    Pause { service: Arc<str>, endpoint: String, reason: Reason, retry: Option<Duration> },
    /// A listener is polled again.
    Resume { service: Arc<str>, endpoint: String },
    /// A handler outlived its `lifetime` (or the daemon's end) and was sent this signal.
    Kill { service: Arc<str>, peer: Peer, pid: i32, signal: &'static str },
    /// A new table is in force; how many services were added, removed, altered, left alone.
    Reload { added: usize, removed: usize, altered: usize, kept: usize },
    /// A new table could not be used; the old one is still in force. One event for each problem.
    ReloadFailed { problem: String },
    /// Somebody has asked for a change over the control socket: for what, his user and process.
    Control { command: String, uid: u32, pid: i32 },
    /// This program gives way to the one on disk.
    Upgrade { program: String },
    /// The program on disk can't take over; this one goes on.
    UpgradeFailed { problem: String },
    /// The daemon ends: the signal that asked for it, and how many handlers live on.
    Stop { signal: &'static str, handlers: usize },
    /// The books disagree: what was expected and what was found.
    Inconsistency { what: String, expected: String, found: String },
    /// The status, asked for by SIGUSR1, as one JSON document.
    Status { json: String },
    /// Lines were dropped because the log could not keep up.
    Dropped { lines: u64 },
    /// Anything else that should be looked at.
    Warning { message: String },
}
