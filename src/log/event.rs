//! What can be logged: one typed [`Event`] for each kind of line, so that text, JSON and the man page agree.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::source::Peer;
pub use crate::sys::pidfd::Ending;

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

/// Why a connection was turned away, or a listener paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// The administrator has drained the service.
    Drained,
    /// `allow` and `deny` say no.
    Access,
    /// It is none of the `times`.
    Times,
    /// The administrator has banned the source.
    Ban,
    /// The source owes time for what it did before, by `penalties`.
    Penalty,
    /// The service is a trap and serves nobody.
    Trap,
    /// The source has its `per_source.instances` handlers.
    SourceInstances,
    /// The source comes more often than `per_source.rate` allows.
    SourceRate,
    /// The network has its `per_network.instances` handlers.
    NetworkInstances,
    /// The network comes more often than `per_network.rate` allows.
    NetworkRate,
    /// Clients come more often than `rate` allows.
    ServiceRate,
    /// The service has its `instances` handlers.
    ServiceInstances,
    /// The daemon has its `daemon.instances` handlers.
    DaemonInstances,
    /// The load average has reached `max_load`.
    Load,
    /// The handler could not be started; the step and errno are in a `spawn_failed` line.
    SpawnFailed,
    /// No descriptors or memory to accept with.
    Resources,
    /// A `wait` handler ended without taking anything from its socket.
    Backoff,
}

impl Reason {
    /// Is it about the client alone, so that another may fare otherwise at the same moment?
    #[must_use]
    pub fn is_personal(self) -> bool {
        matches!(
            self,
            Self::Access
                | Self::Ban
                | Self::Penalty
                | Self::SourceInstances
                | Self::SourceRate
                | Self::NetworkInstances
                | Self::NetworkRate
        )
    }

    /// The word in logs, status and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Access => "access",
            Self::Times => "times",
            Self::Ban => "ban",
            Self::Penalty => "penalty",
            Self::Trap => "trap",
            Self::SourceInstances => "source_instances",
            Self::SourceRate => "source_rate",
            Self::NetworkInstances => "network_instances",
            Self::NetworkRate => "network_rate",
            Self::ServiceRate => "service_rate",
            Self::ServiceInstances => "service_instances",
            Self::DaemonInstances => "daemon_instances",
            Self::Load => "load",
            Self::SpawnFailed => "spawn_failed",
            Self::Resources => "resources",
            Self::Backoff => "backoff",
        }
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
