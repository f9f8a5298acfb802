//! The steps of a child: what each does ([`ChildStep`]), where it stands among the others ([`StepKind`]), and by which
//! word its failure is reported ([`Step`]). Data alone; [`super::plan`] puts steps together, `child.rs` does them.
//!
//! A new kind of step needs a line in the list of kinds, a variant of [`ChildStep`], an arm in `child.rs`, one in
//! [`super::ProcessState`] if the process may have the wish already, and a row in SECURITY.md. Its place is the question.
//! [`StepKind::UnshareDescriptors`] closes every descriptor above the connection's, and the daemon keeps its own high: so a
//! descriptor of the daemon's (a Landlock ruleset, a control group) is gone by the second step. Whatever needs one opens it
//! in the child by path, or comes to the child as the connection does, below it.

use std::ffi::{CString, c_int};

pub use crate::types::{SpawnFailure as Failure, Step};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $step:ident, $call:literal,)*) => {
        /// What the child does, in the order in which it does it: the one list of that order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum StepKind { $($(#[$doc])* $name,)* }
        impl StepKind {
            /// Every kind, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// As which step its failure is reported.
            #[must_use]
            pub fn reported_as(self) -> Step {
                match self { $(Self::$name => Step::$step,)* }
            }
            /// The call that it makes, as in SECURITY.md.
            #[must_use]
            pub fn call(self) -> &'static str {
                match self { $(Self::$name => $call,)* }
            }
        }
    };
}

kinds! {
    /// The first act: before it the descriptor table is the daemon's own.
    UnshareDescriptors = Descriptors, "close_range(connection + 1, ∞, UNSHARE)",
    /// Before 0 is overwritten, which is /dev/null until then.
    SetStderr = Descriptors, "dup3(…, 2)",
    /// Descriptor 0.
    SetStdin = Descriptors, "dup3(…, 0)",
    /// Descriptor 1.
    SetStdout = Descriptors, "dup3(…, 1)",
    /// After the connection has been copied.
    CloseOthers = Descriptors, "close_range(3, ∞)",
    /// A group of its own, by which a handler can be ended.
    StartSession = Session, "setsid",
    /// While they may still be raised; once for each resource.
    SetRlimit = Rlimits, "prlimit",
    /// While it may still be raised.
    SetNice = Nice, "setpriority",
    /// Cannot fail.
    SetUmask = Directory, "umask",
    /// Needs root.
    ChangeRoot = Chroot, "chroot",
    /// Leaves nothing outside of the new root.
    EnterRoot = Chroot, "chdir(/)",
    /// Relative to the new root.
    ChangeDirectory = Directory, "chdir",
    /// Needs the rights that the next ones give up.
    SetGroups = Groups, "setgroups",
    /// All three ids.
    SetGid = Group, "setresgid",
    /// The new user must not get at the memory that is still shared.
    KeepCapabilities = User, "PR_SET_KEEPCAPS",
    /// All three ids.
    SetUid = User, "setresuid",
    /// The same, and no core.
    ForbidDump = User, "PR_SET_DUMPABLE",
    /// Once for each signal; before any can come through.
    ResetSignal = Signals, "rt_sigaction",
    /// After everything that must not be interrupted.
    UnblockSignals = Signals, "rt_sigprocmask",
}

/// One step, with the arguments of its system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildStep {
    /// Leaves the shared descriptor table with a copy of all up to the connection.
    UnshareDescriptors,
    /// Descriptor 2 becomes a copy of the daemon's 0, which is /dev/null (see [`crate::sys::descriptor::null_stdin`]).
    NullToStderr,
    /// Descriptor 2 becomes the connection.
    ConnectionToStderr,
    /// Descriptor 0 becomes the connection.
    ConnectionToStdin,
    /// Descriptor 1 becomes the connection.
    ConnectionToStdout,
    /// Closes all above 2.
    CloseOthers,
    /// A new session.
    StartSession,
    /// Sets a resource limit.
    SetRlimit {
        /// `libc::RLIMIT_*`.
        resource: c_int,
        /// Soft and hard limit, as prlimit(2) takes them; `u64::MAX` is unlimited.
        value: [u64; 2],
    },
    /// Sets the priority, -20 to 19.
    SetNice(i32),
    /// Sets the file mode creation mask.
    SetUmask(u32),
    /// A new root directory.
    ChangeRoot(CString),
    /// `/` becomes the working directory.
    EnterRoot,
    /// Another working directory, below the new root.
    ChangeDirectory(CString),
    /// The supplementary groups.
    SetGroups(Box<[u32]>),
    /// Real, effective and saved group id.
    SetGid(u32),
    /// Keeps the capabilities that root has, without effect, until execve(2). Where securebits forbid it the child goes on.
    KeepCapabilities,
    /// Real, effective and saved user id.
    SetUid(u32),
    /// Leaves no core, and is not to be traced.
    ForbidDump,
    /// The default disposition of a signal.
    ResetSignal(c_int),
    /// No signal is blocked any more.
    UnblockSignals,
}

impl ChildStep {
    /// Where it stands among the others.
    #[must_use]
    pub fn kind(&self) -> StepKind {
        match self {
            Self::UnshareDescriptors => StepKind::UnshareDescriptors,
            Self::NullToStderr | Self::ConnectionToStderr => StepKind::SetStderr,
            Self::ConnectionToStdin => StepKind::SetStdin,
            Self::ConnectionToStdout => StepKind::SetStdout,
            Self::CloseOthers => StepKind::CloseOthers,
            Self::StartSession => StepKind::StartSession,
            Self::SetRlimit { .. } => StepKind::SetRlimit,
            Self::SetNice(_) => StepKind::SetNice,
            Self::SetUmask(_) => StepKind::SetUmask,
            Self::ChangeRoot(_) => StepKind::ChangeRoot,
            Self::EnterRoot => StepKind::EnterRoot,
            Self::ChangeDirectory(_) => StepKind::ChangeDirectory,
            Self::SetGroups(_) => StepKind::SetGroups,
            Self::SetGid(_) => StepKind::SetGid,
            Self::KeepCapabilities => StepKind::KeepCapabilities,
            Self::SetUid(_) => StepKind::SetUid,
            Self::ForbidDump => StepKind::ForbidDump,
            Self::ResetSignal(_) => StepKind::ResetSignal,
            Self::UnblockSignals => StepKind::UnblockSignals,
        }
    }

    /// Are both for the same thing, so that one of them alone can be meant?
    pub(super) fn is_for_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SetRlimit { resource: one, .. }, Self::SetRlimit { resource: two, .. })
            | (Self::ResetSignal(one), Self::ResetSignal(two)) => one == two,
            _ => self.kind() == other.kind(),
        }
    }
}
