//! From an [`ExecPlan`] to a running process: `clone(CLONE_VM | CLONE_FILES | CLONE_PIDFD)`, then execve(2).
//!
//! A plan is compiled and checked when a table is loaded (`plan.rs`); a [`SpawnSlot`] starts one child after another by
//! such plans. The daemon's memory is not copied (fork(2) costs time in proportion to it) and its descriptor table
//! neither: the child shares both until its first act, `close_range(…, CLOSE_RANGE_UNSHARE)`, which copies only what lies
//! below the connection's descriptor. The daemon does not sleep meanwhile, as vfork(2) would make it: it goes on with
//! other clients, so that several starts are under way on several processors, and a child that comes to no end (the user
//! that it becomes may stop it, a file system may be dead) holds up nobody. All memory that a child uses until execve(2)
//! belongs to its slot, which is told by the kernel when the child has left it, and then knows the failing step and its
//! errno as a value.
//!
//! The child makes raw system calls and nothing else: no libc wrapper (errno is a variable of the daemon's thread, and
//! glibc's setuid(3) speaks to other threads), no allocation, no lock, no panic. The caller keeps all signals blocked,
//! so no handler of the daemon can run in it.

mod child;
mod plan;
mod shared;
mod slot;
mod state;
mod step;
mod strings;

pub use plan::{ExecPlan, PlanError};
pub use slot::{Child, SpawnSlot};
pub use state::ProcessState;
pub use step::{ChildStep, Failure, Rlimit, StderrTo, Step, StepKind};
pub use strings::Strings;

/// Does this kernel know close_range(2) with `CLOSE_RANGE_UNSHARE`, the youngest call that is needed (Linux 5.9)?
///
/// # Errors
/// `ENOSYS` if not.
pub fn supported() -> std::io::Result<()> {
    // SAFETY: the range holds no descriptor, and no memory is involved.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) }).map(|_| ())
}
