//! Types that all modules share: why a client is refused, how a process ended, which step of a start failed, and the
//! numbers of services, tickets and listeners.
//!
//! Every module may use this one. It uses no other module, makes no system call, and nothing in it fails.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The number of a service, which stays the same while the service is in the table or has handlers. Two names never get
/// the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceId(pub(crate) u32);

impl ServiceId {
    /// The number itself, as a key of the rates and the epoll set.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The place of one live handler in the ledger: a number that is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[must_use = "a ticket that is dropped without being settled is a count that never goes down"]
pub struct Ticket(pub(crate) u64);

impl Ticket {
    /// The number itself, which the kernel keeps as a descriptor's epoll data.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The ticket whose [`Ticket::number`] this is.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// A listener; a number that is never used twice, and its number in the daemon's epoll set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ListenerId(pub(crate) u64);

impl ListenerId {
    /// Numbers below this are not listeners; the daemon has other descriptors in the same epoll set.
    pub(crate) const FIRST: u64 = 16;

    /// The listener with this number in the epoll set.
    #[must_use]
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        (number >= Self::FIRST).then_some(Self(number))
    }

    /// Its number in the epoll set.
    #[must_use]
    pub(crate) fn number(self) -> u64 {
        self.0
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

            /// The word for it in logs, status and metrics.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }
    };
}

words! {
    /// Why a client was refused, or a listener paused. The reasons of admission's checks come first, in the order of
    /// the checks; the declaration of a check (`admission::checks`) says more about its reason.
    pub enum Reason {
        /// The administrator has drained the service.
        Drained = "drained",
        /// `allow` and `deny` exclude the client's address.
        Access = "access",
        /// The service is closed at this time, by `times`.
        Times = "times",
        /// The administrator has banned the source.
        Ban = "ban",
        /// The source has a penalty for what it did before, by `penalties`.
        Penalty = "penalty",
        /// The service is a trap, which serves no client.
        Trap = "trap",
        /// The source has `per_source.instances` handlers already.
        SourceInstances = "source_instances",
        /// The source connects more often than `per_source.rate` allows.
        SourceRate = "source_rate",
        /// The network has `per_network.instances` handlers already.
        NetworkInstances = "network_instances",
        /// The network connects more often than `per_network.rate` allows.
        NetworkRate = "network_rate",
        /// All clients together connect more often than `rate` allows.
        ServiceRate = "service_rate",
        /// The service has `instances` handlers already.
        ServiceInstances = "service_instances",
        /// The daemon has `daemon.instances` handlers already.
        DaemonInstances = "daemon_instances",
        /// The load average has reached `max_load`.
        Load = "load",
        /// The handler could not be started; the step and errno are in a `spawn_failed` line.
        SpawnFailed = "spawn_failed",
        /// There are no descriptors or no memory to accept a connection.
        Resources = "resources",
        /// A `wait` handler ended without taking anything from its socket.
        Backoff = "backoff",
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By exit(2), with this status from 0 to 255.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

words! {
    /// The steps from a connection to a running handler, in order.
    pub enum Step {
        /// clone(2) could make no process; the only step that fails in the daemon itself.
        Clone = "clone",
        /// close_range(2) and dup2(2) set descriptors 0, 1 and 2.
        Descriptors = "descriptors",
        /// setsid(2) makes the handler the leader of a session.
        Session = "setsid",
        /// prlimit(2) sets the resource limits.
        Rlimits = "rlimits",
        /// setpriority(2) sets the nice value.
        Nice = "nice",
        /// chroot(2) changes the root directory.
        Chroot = "chroot",
        /// chdir(2) changes the working directory.
        Directory = "directory",
        /// setgroups(2) sets the supplementary groups.
        Groups = "groups",
        /// setresgid(2) sets the group.
        Group = "group",
        /// setresuid(2) sets the user.
        User = "user",
        /// rt_sigaction(2) and rt_sigprocmask(2) set signals back to their defaults.
        Signals = "signals",
        /// execve(2) runs the program.
        Exec = "exec",
    }
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The time on the monotonic clock, by which rates and penalties are measured.
    pub monotonic: Duration,
    /// The time since 1970-01-01 00:00 UTC, by which `times` are evaluated.
    pub wall: Duration,
}

impl Now {
    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.monotonic.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The end of a process, with the resources that it and the children it waited for have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How the process ended.
    pub ending: Ending,
    /// User and system time together.
    pub cpu: Duration,
    /// The largest resident set in bytes.
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

/// The signals that end a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KillSignal {
    /// SIGTERM, which the handler can catch.
    Term,
    /// SIGKILL, which it cannot catch.
    Kill,
}

impl KillSignal {
    /// The signal's name in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }
}
