//! Processes by descriptor (pidfd_open(2)): how one ended, and signals that can't reach another process.
//!
//! The real kernel of the dispatcher and the preflight of an upgrade use this. Nothing here keeps a process or
//! knows a handler, and only [`reap_blocking`] waits. Errors are those of the system.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::types::{Ended, Ending};

/// Reaps a process that has ended (waitid(2)), so that no zombie is left; `None` if it still runs.
///
/// # Errors
/// `ECHILD` if it is no child of ours or has been reaped already.
pub(crate) fn try_reap(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    wait_by_pidfd(pidfd, libc::WNOHANG)
}

/// Waits until the process has ended, and reaps it. Only for a process that is about to end.
///
/// # Errors
/// As [`try_reap`].
pub(crate) fn reap_blocking(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    wait_by_pidfd(pidfd, 0)
}

fn wait_by_pidfd(pidfd: &OwnedFd, flags: i32) -> io::Result<Option<Ended>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // The system call has a fifth argument that libc's waitid() lacks: resource usage.
    // SAFETY: both pointers are to memory of the right type that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            libc::WEXITED | flags,
            usage.as_mut_ptr(),
        )
    };
    super::check(result)?;
    // SAFETY: zeroed is a valid value of both plain C structures, and the kernel has filled them in.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: these fields are valid for a siginfo_t written by waitid; all are zero if no process has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let ending = if info.si_code == libc::CLD_EXITED { Ending::Exited(status) } else { Ending::Signaled(status) };
    let rss = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    Ok(Some(Ended { ending, cpu: to_duration(usage.ru_utime) + to_duration(usage.ru_stime), rss }))
}

fn to_duration(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    let micros = u64::try_from(value.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Ends a process by SIGKILL, if it has not been reaped.
pub(crate) fn kill_process(process: &OwnedFd) {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null pointer asks for no further information; a process that has ended needs no signal.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, none, 0) };
}

/// Sends a signal to the process group that this process leads (each handler leads one, by setsid).
///
/// The group's number is the process's id, which the kernel gives to no other process while this one has not been
/// reaped; so the caller must not have reaped the process yet.
///
/// # Errors
/// `ESRCH` when the whole group is gone, `EPERM`.
pub(crate) fn signal_group(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::kill(-pid, signal) };
    super::check(result.into()).map(|_| ())
}

/// The id of some child that has ended. The child is not reaped (`WNOWAIT`).
pub(crate) fn find_ended_child() -> Option<i32> {
    peek_ended(libc::P_ALL, 0).ok().flatten()
}

/// Has this child ended? It is not reaped. A process that is no child of ours any more has ended, too.
#[cfg(target_env = "musl")]
pub(super) fn has_ended(pid: i32) -> bool {
    !matches!(peek_ended(libc::P_PID, pid.unsigned_abs()), Ok(None))
}

/// The id of one of these children that has ended (waitid(2)).
fn peek_ended(whose: libc::idtype_t, id: libc::id_t) -> io::Result<Option<i32>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is memory of the right type that outlives the call.
    super::check(unsafe { libc::waitid(whose, id, info.as_mut_ptr(), flags) }.into())?;
    // SAFETY: zeroed is a valid siginfo_t, and the kernel has filled it in if a child has ended.
    let pid = unsafe { info.assume_init().si_pid() };
    Ok((pid > 0).then_some(pid))
}

/// Reaps the child with this id, which has ended and is no handler.
pub(crate) fn reap_orphan(pid: i32) {
    // SAFETY: no memory is involved: a null pointer asks for no status.
    unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) };
}
