//! A slot, which starts one child after another and has all memory that a child uses until execve(2).
//!
//! [`crate::system`] keeps some slots, and an upgrade makes one for its preflight. A start never waits. It fails
//! with step and errno: at once if no process can be made, and later, by [`SpawnSlot::finish`], if a step of the
//! child fails.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::child::child_main;
use super::plan::ExecPlan;
use super::shared::Shared;
use super::step::{Failure, Step};
use crate::sys::descriptor;

/// A process that was started.
#[derive(Debug)]
pub struct Child {
    /// Its process id, for logs and for signals to its group; it identifies no handler.
    pub pid: i32,
    /// Readable when the process has ended; close-on-exec.
    pub pidfd: OwnedFd,
}

/// Starts one child after another by [`SpawnSlot::spawn`]. Until [`SpawnSlot::has_exec_or_exited`], the slot keeps
/// all that the child uses, unchanged.
#[derive(Debug)]
pub struct SpawnSlot {
    /// A pointer, not a box, because a child that has not left has the same pointer.
    shared: NonNull<Shared>,
    /// Open until the child certainly has its own copy: its number must not come to mean another descriptor.
    connection: Option<OwnedFd>,
}

impl SpawnSlot {
    /// A slot without a child.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { shared: NonNull::from(Box::leak(Box::new(Shared::new()?))), connection: None })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the pointer is valid as long as `self`; a child that has not left reads too, or writes what may
        // be written through a shared reference.
        unsafe { self.shared.as_ref() }
    }

    /// The memory, if no child uses it.
    fn unused_mut(&mut self) -> Option<&mut Shared> {
        if !self.has_exec_or_exited() {
            return None;
        }
        // SAFETY: as above, and only this slot has the pointer once the child has left.
        Some(unsafe { self.shared.as_mut() })
    }

    /// Starts a process as `plan` says, with `connection` as its descriptors 0 and 1, in the environment that
    /// `fill` writes (see [`super::Strings::refill`]). All signals must be blocked in the calling thread. The
    /// connection, whose number must be above 2, is kept until [`SpawnSlot::finish`].
    ///
    /// # Errors
    /// No process could be made; the connection comes back.
    pub fn spawn(
        &mut self,
        plan: &Rc<ExecPlan>,
        connection: OwnedFd,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Child, (Failure, OwnedFd)> {
        let Some(shared) = self.unused_mut() else {
            return Err((Failure { step: Step::Clone, errno: libc::EBUSY }, connection));
        };
        shared.env.refill(fill);
        shared.plan = Some(Rc::clone(plan));
        shared.connection = connection.as_raw_fd();
        *shared.failure.get_mut() = None;
        match self.clone_child() {
            Ok(child) => {
                self.connection = Some(connection);
                Ok(child)
            }
            Err(errno) => Err((Failure { step: Step::Clone, errno }, connection)),
        }
    }

    /// Makes a process that shares the daemon's memory; errno if there can be none.
    fn clone_child(&self) -> Result<Child, i32> {
        let clears = if cfg!(target_env = "musl") { 0 } else { libc::CLONE_CHILD_CLEARTID };
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_PIDFD | clears | libc::SIGCHLD;
        let (stack, tid) = (self.shared().stack.top(), &self.shared().tid);
        let (mut pidfd, no_tls): (RawFd, *mut c_void) = (-1, ptr::null_mut());
        tid.store(1, Ordering::Relaxed);
        // SAFETY: the child runs `child_main` on a stack of its own, in our memory. What it reads is neither
        // changed nor freed before `tid` is zero, and owns or co-owns all that it points to. It makes raw system
        // calls only. `tid` is a valid word for the kernel to clear and wake.
        let pid = unsafe {
            libc::clone(child_main, stack, flags, self.shared.as_ptr().cast(), &raw mut pidfd, no_tls, tid.as_ptr())
        };
        if pid < 0 {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
            tid.store(0, Ordering::Relaxed);
            return Err(errno);
        }
        // Unless it has left already.
        let _ = tid.compare_exchange(1, pid, Ordering::Relaxed, Ordering::Relaxed);
        // SAFETY: clone succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nothing else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // It stays open for long. Without a high number left it keeps its own, and starts cost more.
        let pidfd = descriptor::copy_high(pidfd.as_fd()).unwrap_or(pidfd);
        Ok(Child { pid, pidfd })
    }

    /// Whether the child has left the daemon's memory, by execve(2) or by its end. True without a child.
    pub fn has_exec_or_exited(&self) -> bool {
        #[cfg(target_env = "musl")]
        self.look_for_end();
        self.shared().is_unused()
    }

    /// Clears the word of a child that was killed before it could ask the kernel to do so. A process that has ended
    /// has left the memory. The reaper reaps no child that still uses it, so the id is the child's.
    #[cfg(target_env = "musl")]
    fn look_for_end(&self) {
        let tid = &self.shared().tid;
        let pid = tid.load(Ordering::Acquire);
        if pid != 0 && crate::sys::pidfd::has_ended(pid) {
            tid.store(0, Ordering::Release);
        }
    }

    /// Waits until the child has left the daemon's memory, at most for `timeout`. Returns whether it has.
    pub fn wait_for_exec(&self, timeout: Duration) -> bool {
        let tid = &self.shared().tid;
        let value = tid.load(Ordering::Acquire);
        if value != 0 {
            // The kernel wakes waiters of this word when it clears it (set_tid_address(2)).
            wait_for_change(tid, value, timeout);
        }
        self.has_exec_or_exited()
    }

    /// The connection, and the step that failed, if one did. None while the child uses the memory.
    pub fn finish(&mut self) -> Option<(OwnedFd, Option<Failure>)> {
        let shared = self.unused_mut()?;
        shared.plan = None;
        let failure = shared.failure.get_mut().take();
        Some((self.connection.take()?, failure))
    }
}

/// If a child still uses the memory, the memory and the connection are never freed.
impl Drop for SpawnSlot {
    fn drop(&mut self) {
        if self.has_exec_or_exited() {
            // SAFETY: it came from a box in `new`, and only this slot has the pointer once the child has left.
            drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
        } else {
            std::mem::forget(self.connection.take());
        }
    }
}

/// Sleeps until the kernel has changed `word` from `value` and woken its waiters, at most for `timeout` (futex(2)).
fn wait_for_change(word: &AtomicI32, value: c_int, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i32::MAX.into()),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word and the time outlive the call. Not FUTEX_PRIVATE: the kernel's own wake-up is not, either.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const timeout) };
}
