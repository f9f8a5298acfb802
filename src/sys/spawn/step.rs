//! The steps of a child: what each does ([`ChildStep`]), where it stands among the others ([`StepKind`]), and by
//! which word its failure is reported ([`Step`]). Data alone; [`super::plan`] puts steps together, `child.rs` does
//! them.
//!
//! A new step needs an entry in the list below, an arm in `child.rs`, one in [`super::ProcessState`] if the process
//! may be in that state already, and a row in SECURITY.md. [`StepKind::UnshareDescriptors`] closes every descriptor
//! above the connection's, and the daemon keeps its own high: so a descriptor of the daemon (a Landlock ruleset, a
//! control group) is closed by the second step. A step that needs one opens it in the child by path, or gets it as
//! the child gets the connection, with a lower number.

use std::ffi::{CString, c_int};

pub use crate::types::{SpawnFailure as Failure, Step};

/// What descriptor 2 becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StderrTo {
    /// A copy of the daemon's 0, which is /dev/null (see [`crate::sys::descriptor::null_stdin`]).
    Null,
    /// The connection.
    Connection,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident $(($argument:ty))? = $step:ident, $call:literal,)*) => {
        /// One step, with the argument of its system call.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ChildStep { $($(#[$doc])* $name $(($argument))?,)* }

        /// The kinds of steps, in the order in which a child does them: the one list of that order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum StepKind { $($(#[$doc])* $name,)* }

        impl ChildStep {
            /// Its place among the others.
            pub fn kind(&self) -> StepKind {
                match self { $(Self::$name { .. } => StepKind::$name,)* }
            }
        }

        impl StepKind {
            /// Every kind, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The step that a failure is reported as.
            pub fn reported_as(self) -> Step {
                match self { $(Self::$name => Step::$step,)* }
            }

            /// The call that it makes, as in SECURITY.md.
            #[cfg(test)]
            pub(super) fn call_text(self) -> &'static str {
                match self { $(Self::$name => $call,)* }
            }
        }
    };
}

steps! {
    /// Leaves the shared descriptor table with a copy of all up to the connection. The first step: before it the
    /// table is the daemon's own.
    UnshareDescriptors = Descriptors, "close_range(connection + 1, ∞, UNSHARE)",
    /// Sets descriptor 2, before 0 is overwritten, which is /dev/null until then.
    SetStderr(StderrTo) = Descriptors, "dup3(…, 2)",
    /// Descriptor 0 becomes the connection.
    SetStdin = Descriptors, "dup3(…, 0)",
    /// Descriptor 1 becomes the connection.
    SetStdout = Descriptors, "dup3(…, 1)",
    /// Closes all above 2, after the connection has been copied.
    CloseOthers = Descriptors, "close_range(3, ∞)",
    /// A new session, with a group by which a handler can be ended.
    StartSession = Session, "setsid",
    /// Sets a resource limit, while it may still be raised; once for each resource.
    SetRlimit(Rlimit) = Rlimits, "prlimit",
    /// Sets the priority, -20 to 19, while it may still be raised.
    SetNice(i32) = Nice, "setpriority",
    /// Sets the file mode creation mask. Cannot fail.
    SetUmask(u32) = Directory, "umask",
    /// A new root directory. Needs root.
    ChangeRoot(CString) = Chroot, "chroot",
    /// `/` becomes the working directory: nothing outside of the new root stays open.
    EnterRoot = Chroot, "chdir(/)",
    /// Another working directory, relative to the new root.
    ChangeDirectory(CString) = Directory, "chdir",
    /// The supplementary groups. Needs the rights that the next steps give up.
    SetGroups(Box<[u32]>) = Groups, "setgroups",
    /// Real, effective and saved group id.
    SetGid(u32) = Group, "setresgid",
    /// Keeps root's capabilities, without effect, until execve(2), so that the new user can't reach the memory that
    /// is still shared. Where securebits forbid it the child goes on.
    KeepCapabilities = User, "PR_SET_KEEPCAPS",
    /// Real, effective and saved user id.
    SetUid(u32) = User, "setresuid",
    /// Forbids core dumps, and tracing by the new user.
    ForbidDump = User, "PR_SET_DUMPABLE",
    /// The default disposition of a signal, before any can be delivered; once for each signal.
    ResetSignal(c_int) = Signals, "rt_sigaction",
    /// Unblocks all signals, after everything that must not be interrupted.
    UnblockSignals = Signals, "rt_sigprocmask",
}

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// `libc::RLIMIT_*`.
    pub resource: c_int,
    /// Soft and hard limit, as prlimit(2) takes them; `u64::MAX` is unlimited.
    pub value: [u64; 2],
}

impl ChildStep {
    /// Whether both set the same thing, so that a plan can have only one of them.
    pub(super) fn sets_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SetRlimit(one), Self::SetRlimit(two)) => one.resource == two.resource,
            (Self::ResetSignal(one), Self::ResetSignal(two)) => one == two,
            _ => self.kind() == other.kind(),
        }
    }
}
