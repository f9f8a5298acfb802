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

/// Declares an enum whose values each have a word, which is the same in logs, status and metrics.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $Name { $($(#[$doc])* $value,)* }

        impl $Name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$value,)*];

            /// The word in logs, status and metrics.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }
    };
}

words! {
    /// Why a client was refused, or a listener paused. The reasons of admission's checks come first, in the order of
    /// the checks; what else there is to say of such a reason stands where its check is declared
    /// (`admission::checks`).
    pub enum Reason {
        /// The administrator has drained the service.
        Drained = "drained",
        /// `allow` and `deny` refuse the client.
        Access = "access",
        /// The service is closed at this time, by `times`.
        Times = "times",
        /// The administrator has banned the source.
        Ban = "ban",
        /// The source has a penalty for what it did before, by `penalties`.
        Penalty = "penalty",
        /// The service is a trap and serves nobody.
        Trap = "trap",
        /// The source has its `per_source.instances` handlers.
        SourceInstances = "source_instances",
        /// The source comes more often than `per_source.rate` allows.
        SourceRate = "source_rate",
        /// The network has its `per_network.instances` handlers.
        NetworkInstances = "network_instances",
        /// The network comes more often than `per_network.rate` allows.
        NetworkRate = "network_rate",
        /// Clients come more often than `rate` allows.
        ServiceRate = "service_rate",
        /// The service has its `instances` handlers.
        ServiceInstances = "service_instances",
        /// The daemon has its `daemon.instances` handlers.
        DaemonInstances = "daemon_instances",
        /// The load average has reached `max_load`.
        Load = "load",
        /// The handler could not be started; the step and errno are in a `spawn_failed` line.
        SpawnFailed = "spawn_failed",
        /// No descriptors or memory to accept with.
        Resources = "resources",
        /// A `wait` handler ended without taking anything from its socket.
        Backoff = "backoff",
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

words! {
    /// The steps from a connection to a running handler, in order.
    pub enum Step {
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
