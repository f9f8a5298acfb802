//! What a child runs before execve(2), in the daemon's memory: raw system calls, and nothing that could allocate,
//! lock, panic or touch a variable of the daemon's thread. Its plan says which steps it takes, in which order.

use std::ffi::{c_int, c_long, c_void};

#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use syscalls::Sysno::{setgroups as SETGROUPS, setresgid as SETRESGID, setresuid as SETRESUID};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use syscalls::Sysno::{setgroups32 as SETGROUPS, setresgid32 as SETRESGID, setresuid32 as SETRESUID};
use syscalls::{Errno, Sysno, raw};

use super::plan::ExecPlan;
use super::shared::Shared;
use super::step::{ChildStep, Failure, Rlimit, StderrTo, Step};
use crate::sys::signals::KERNEL_SIGSET;

/// The function in which clone(2) starts the child.
pub(super) extern "C" fn child_main(shared: *mut c_void) -> c_int {
    // SAFETY: `SpawnSlot::spawn` passes a `Shared` that stays where it is until the kernel has said that this
    // process has left the daemon's memory; until then the daemon changes nothing in it.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // SAFETY: a word that outlives this process. The call can't fail.
    #[cfg(target_env = "musl")]
    let _ = unsafe { raw::syscall1(Sysno::set_tid_address, shared.tid.as_ptr() as usize) };
    if let Some(plan) = &shared.plan {
        let Err(failure) = follow_plan(plan, shared);
        // SAFETY: while the child lives here the daemon does not look at this.
        unsafe { shared.failure.get().write(Some(failure)) };
    }
    // SAFETY: ends this process only; no destructor or atexit function of the daemon may run here.
    unsafe { raw::syscall1(Sysno::exit_group, 127) };
    127
}

enum Never {}

/// Takes the steps and executes the program. Returns only if one of them fails.
fn follow_plan(plan: &ExecPlan, shared: &Shared) -> Result<Never, Failure> {
    for step in plan.steps() {
        if let Err(errno) = take_step(step, shared.connection.into()) {
            // Where securebits forbid this step, `fs.suid_dumpable` is the only guard.
            if *step != ChildStep::KeepCapabilities {
                return Err(Failure { step: step.kind().reported_as(), errno });
            }
        }
    }
    let (path, argv, env) = (plan.path.as_ptr(), plan.argv.as_ptr(), shared.env.as_ptr());
    let result = make_call(Sysno::execve, [path as c_long, argv as c_long, env as c_long, 0]);
    Err(Failure { step: Step::Exec, errno: result.err().unwrap_or(libc::ENOEXEC) })
}

/// Takes one step; `errno` if the kernel refuses it.
fn take_step(step: &ChildStep, connection: c_long) -> Result<(), i32> {
    const LAST: c_long = u32::MAX as c_long;
    const UNSHARE: c_long = libc::CLOSE_RANGE_UNSHARE as c_long;
    /// The kernel's struct sigaction: handler, flags, restorer and mask; all zero is SIG_DFL without flags.
    static DEFAULT: [u64; 4] = [0; 4];
    static NO_SIGNAL: u64 = 0;
    let (number, arguments) = match step {
        ChildStep::UnshareDescriptors => (Sysno::close_range, [connection + 1, LAST, UNSHARE, 0]),
        // dup3(2), which every architecture has. The copy is not close-on-exec.
        ChildStep::SetStderr(StderrTo::Null) => (Sysno::dup3, [0, 2, 0, 0]),
        ChildStep::SetStderr(StderrTo::Connection) => (Sysno::dup3, [connection, 2, 0, 0]),
        ChildStep::SetStdin => (Sysno::dup3, [connection, 0, 0, 0]),
        ChildStep::SetStdout => (Sysno::dup3, [connection, 1, 0, 0]),
        ChildStep::CloseOthers => (Sysno::close_range, [3, LAST, 0, 0]),
        ChildStep::StartSession => (Sysno::setsid, [0; 4]),
        ChildStep::SetRlimit(Rlimit { resource, value }) => {
            (Sysno::prlimit64, [0, (*resource).into(), value.as_ptr() as c_long, 0])
        }
        ChildStep::SetNice(nice) => (Sysno::setpriority, [libc::PRIO_PROCESS as c_long, 0, (*nice).into(), 0]),
        ChildStep::SetUmask(mask) => (Sysno::umask, [*mask as c_long, 0, 0, 0]),
        ChildStep::ChangeRoot(path) => (Sysno::chroot, [path.as_ptr() as c_long, 0, 0, 0]),
        ChildStep::EnterRoot => (Sysno::chdir, [c"/".as_ptr() as c_long, 0, 0, 0]),
        ChildStep::ChangeDirectory(path) => (Sysno::chdir, [path.as_ptr() as c_long, 0, 0, 0]),
        ChildStep::SetGroups(groups) => (SETGROUPS, [groups.len() as c_long, groups.as_ptr() as c_long, 0, 0]),
        ChildStep::SetGid(gid) => (SETRESGID, [*gid as c_long, *gid as c_long, *gid as c_long, 0]),
        ChildStep::KeepCapabilities => (Sysno::prctl, [libc::PR_SET_KEEPCAPS.into(), 1, 0, 0]),
        ChildStep::SetUid(uid) => (SETRESUID, [*uid as c_long, *uid as c_long, *uid as c_long, 0]),
        ChildStep::ForbidDump => (Sysno::prctl, [libc::PR_SET_DUMPABLE.into(), 0, 0, 0]),
        ChildStep::ResetSignal(signal) => {
            (Sysno::rt_sigaction, [(*signal).into(), DEFAULT.as_ptr() as c_long, 0, KERNEL_SIGSET])
        }
        ChildStep::UnblockSignals => {
            (Sysno::rt_sigprocmask, [libc::SIG_SETMASK.into(), &raw const NO_SIGNAL as c_long, 0, KERNEL_SIGSET])
        }
    };
    make_call(number, arguments)
}

/// Makes a raw system call with up to four arguments.
fn make_call(number: Sysno, [a, b, c, d]: [c_long; 4]) -> Result<(), i32> {
    // SAFETY: every caller above passes what its system call demands: numbers, or addresses of values that live
    // longer than the call.
    let result = unsafe { raw::syscall4(number, a as usize, b as usize, c as usize, d as usize) };
    Errno::from_ret(result).map(|_| ()).map_err(Errno::into_raw)
}
