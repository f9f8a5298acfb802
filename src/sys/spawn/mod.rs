//! From an [`ExecPlan`] to a running process: `clone(CLONE_VM | CLONE_FILES | CLONE_PIDFD)`, then execve(2).
//!
//! A plan is compiled and checked when a table is loaded (`plan.rs`); a [`SpawnSlot`] starts one child after
//! another by such plans. The daemon's memory is not copied (fork(2) costs time in proportion to it) and its
//! descriptor table neither: the child shares both until its first step, `close_range(…, CLOSE_RANGE_UNSHARE)`,
//! which copies only what lies below the connection's descriptor. The daemon does not sleep meanwhile, as it would
//! with vfork(2): it serves other clients, several starts can run on several processors, and a child that never
//! finishes (its user may stop it, a file system may hang) delays no other client. All memory that a child uses
//! until execve(2) belongs to its slot. The kernel tells the slot when the child has left that memory; then the
//! slot has the step that failed and its errno.
//!
//! The child makes raw system calls only: no libc wrapper (errno is a variable of the daemon's thread, and glibc's
//! setuid(3) signals other threads), no allocation, no lock, no panic. The caller keeps all signals blocked, so no
//! signal handler of the daemon can run in the child.

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

/// Checks that the kernel has close_range(2), the newest system call that a start needs (Linux 5.9).
///
/// # Errors
/// `ENOSYS` if not.
pub fn check_kernel() -> std::io::Result<()> {
    // SAFETY: the range holds no descriptor, and no memory is involved.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) }).map(|_| ())
}
