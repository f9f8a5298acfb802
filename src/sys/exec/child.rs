//! The child's whole life before execve(2), in the daemon's memory: raw system calls, and nothing that could allocate,
//! lock, panic or touch a variable of the daemon's thread.

use std::ffi::{c_int, c_long, c_void};

#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use syscalls::Sysno::{setgroups as SETGROUPS, setresgid as SETRESGID, setresuid as SETRESUID};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use syscalls::Sysno::{setgroups32 as SETGROUPS, setresgid32 as SETRESGID, setresuid32 as SETRESUID};
use syscalls::{Errno, Sysno, raw};

use super::start::Shared;
use super::{Failure, KERNEL_SIGSET, Recipe, Stderr};
use crate::types::Step;

/// Where clone(2) lets the child begin.
pub(super) extern "C" fn live(shared: *mut c_void) -> c_int {
    // SAFETY: `Start::go` passes a `Shared` that stays where it is until the kernel has said that this process has left
    // the daemon's memory; until then the daemon changes nothing in it.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // SAFETY: a word that outlives this process. The call can't fail.
    #[cfg(target_env = "musl")]
    let _ = unsafe { raw::syscall1(Sysno::set_tid_address, shared.tid() as usize) };
    if let Some(recipe) = shared.recipe() {
        let Err(failure) = become_handler(recipe, shared);
        shared.fail(failure);
    }
    // SAFETY: ends this process only; no destructor or atexit function of the daemon may run here.
    unsafe { raw::syscall1(Sysno::exit_group, 127) };
    127
}

enum Never {}

/// Runs the steps of `recipe`. Comes back only if one fails.
fn become_handler(recipe: &Recipe, shared: &Shared) -> Result<Never, Failure> {
    descriptors(recipe.stderr, shared.connection().into())?;
    call(Step::Session, Sysno::setsid, [0; 4])?;
    for limit in &recipe.rlimits {
        let value = [limit.soft, limit.hard];
        let arguments = [0, limit.resource.into(), value.as_ptr() as c_long, 0];
        call(Step::Rlimits, Sysno::prlimit64, arguments)?;
    }
    if let Some(nice) = recipe.nice {
        call(Step::Nice, Sysno::setpriority, [libc::PRIO_PROCESS as c_long, 0, nice.into(), 0])?;
    }
    call(Step::Directory, Sysno::umask, [recipe.umask as c_long, 0, 0, 0])?;
    if let Some(root) = &recipe.chroot {
        call(Step::Chroot, Sysno::chroot, [root.as_ptr() as c_long, 0, 0, 0])?;
        call(Step::Chroot, Sysno::chdir, [c"/".as_ptr() as c_long, 0, 0, 0])?;
    }
    call(Step::Directory, Sysno::chdir, [recipe.directory.as_ptr() as c_long, 0, 0, 0])?;
    if let Some((uid, gid, groups)) = &recipe.credentials {
        let (uid, gid) = (*uid as c_long, *gid as c_long);
        call(Step::Groups, SETGROUPS, [groups.len() as c_long, groups.as_ptr() as c_long, 0, 0])?;
        call(Step::Group, SETRESGID, [gid, gid, gid, 0])?;
        become_user(uid)?;
    }
    default_signals(&recipe.signals)?;
    let (path, argv, env) = (recipe.path.as_ptr(), recipe.argv.as_ptr(), shared.env().as_ptr());
    call(Step::Exec, Sysno::execve, [path as c_long, argv as c_long, env as c_long, 0])?;
    Err(Failure { step: Step::Exec, errno: libc::ENOEXEC })
}

/// Leaves the shared descriptor table, then makes 0, 1 and 2 and closes the rest.
fn descriptors(stderr: Stderr, connection: c_long) -> Result<(), Failure> {
    let last = c_long::from(u32::MAX);
    // Before this call the daemon's own table must not be touched.
    call(Step::Descriptors, Sysno::close_range, [connection + 1, last, libc::CLOSE_RANGE_UNSHARE.into(), 0])?;
    match stderr {
        Stderr::Keep => {}
        Stderr::Null => duplicate(0, 2)?,
        Stderr::Connection => duplicate(connection, 2)?,
    }
    duplicate(connection, 0)?;
    duplicate(connection, 1)?;
    call(Step::Descriptors, Sysno::close_range, [3, last, 0, 0])
}

/// dup2(2) by dup3(2), which every architecture has. The copy is not close-on-exec.
fn duplicate(from: c_long, to: c_long) -> Result<(), Failure> {
    call(Step::Descriptors, Sysno::dup3, [from, to, 0, 0])
}

/// Root becomes somebody else, who must not get at the memory that this process shares with the daemon until execve(2).
/// By itself the kernel sees to that only where `fs.suid_dumpable` is 0. So the process keeps its capabilities until
/// then, without effect: nobody who lacks them may trace it or open its memory (ptrace(2), "Ptrace access mode
/// checking"). And it leaves no core: before Linux 5.16 a dump ended every process that shared the memory.
fn become_user(uid: c_long) -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    let leaves_root = uid != 0 && unsafe { raw::syscall0(Sysno::geteuid) } == 0;
    if leaves_root {
        // Where securebits forbid it, `fs.suid_dumpable` is the only guard.
        let _ = call(Step::User, Sysno::prctl, [libc::PR_SET_KEEPCAPS.into(), 1, 0, 0]);
    }
    call(Step::User, SETRESUID, [uid, uid, uid, 0])?;
    if leaves_root {
        call(Step::User, Sysno::prctl, [libc::PR_SET_DUMPABLE.into(), 0, 0, 0])?;
    }
    Ok(())
}

/// Ignored signals stay ignored over execve, and caught ones could run the daemon's handler in this process once they
/// are unblocked: both go back to their default. Then nothing is blocked any more.
fn default_signals(signals: &[c_int]) -> Result<(), Failure> {
    // The kernel's struct sigaction: handler, flags, restorer and mask; all zero is SIG_DFL without flags.
    let default = [0_u64; 4];
    for &signal in signals {
        let arguments = [signal.into(), default.as_ptr() as c_long, 0, KERNEL_SIGSET];
        call(Step::Signals, Sysno::rt_sigaction, arguments)?;
    }
    let empty = 0_u64;
    let arguments = [libc::SIG_SETMASK.into(), &raw const empty as c_long, 0, KERNEL_SIGSET];
    call(Step::Signals, Sysno::rt_sigprocmask, arguments)
}

/// One raw system call with up to four arguments.
fn call(step: Step, number: Sysno, [a, b, c, d]: [c_long; 4]) -> Result<(), Failure> {
    // SAFETY: every caller above passes what its system call demands: numbers, or addresses of values that live
    // longer than the call.
    let result = unsafe { raw::syscall4(number, a as usize, b as usize, c as usize, d as usize) };
    match Errno::from_ret(result) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Failure { step, errno: errno.into_raw() }),
    }
}
