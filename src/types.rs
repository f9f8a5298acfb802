//! Words that everybody shares: why a client is refused, how a process ended, which step of a start failed, and the
//! numbers of services and tickets.
//!
//! Every module may use this one. It uses none, knows no kernel, and nothing in it fails.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A service, for as long as it is in the table or has handlers. Never used for two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceId(pub(crate) u32);

impl ServiceId {
    /// Its number, never used for two names.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The place of one live handler; a number that is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[must_use = "a ticket that is dropped without being settled is a count that never goes down"]
pub struct Ticket(pub(crate) u64);

impl Ticket {
    /// Its number, to be carried through the kernel as a descriptor's epoll data.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The ticket that [`Ticket::number`] was asked of.
    pub fn from_number(number: u64) -> Self {
        Self(number)
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

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It called exit(2) with this status, 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The steps from a connection to a running handler, in order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Step { $($(#[$doc])* $name,)* }
        impl Step {
            /// Every step, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// The word in logs, status and metrics.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

steps! {
    /// clone(2): no process could be made; the only step that fails in the daemon itself.
    Clone = "clone",
    /// close_range(2), dup2(2): descriptors 0, 1 and 2.
    Descriptors = "descriptors",
    /// setsid(2).
    Session = "setsid",
    /// prlimit(2).
    Rlimits = "rlimits",
    /// setpriority(2).
    Nice = "nice",
    /// chroot(2).
    Chroot = "chroot",
    /// chdir(2).
    Directory = "directory",
    /// setgroups(2).
    Groups = "groups",
    /// setresgid(2).
    Group = "group",
    /// setresuid(2).
    User = "user",
    /// rt_sigaction(2), rt_sigprocmask(2).
    Signals = "signals",
    /// execve(2).
    Exec = "exec",
}

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The clock that never goes back; rates are measured by it.
    pub monotonic: Duration,
    /// Since 1970-01-01 00:00 UTC; `times` are judged by it.
    pub wall: Duration,
}

impl Now {
    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.monotonic.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The end of a process, with what it and the children it waited for have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// User and system time together.
    pub cpu: Duration,
    /// Largest resident set, in bytes.
    pub rss: u64,
}

/// Why a handler could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// The step that failed.
    pub step: Step,
    /// The error number of its system call.
    pub errno: i32,
}

/// The signals that end a handler whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KillSignal {
    /// It may tidy up.
    Term,
    /// It has no choice.
    Kill,
}

impl KillSignal {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }
}
