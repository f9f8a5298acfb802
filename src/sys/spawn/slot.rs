//! A place from which one child after another is started, with all memory that a child uses until execve(2).
//!
//! [`crate::system`] keeps some of them, and an upgrade makes one for its preflight. A start never waits; it fails with
//! step and errno, at once if there can be no process, and later by [`SpawnSlot::finish`] if the child could not go on.

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
    /// Its process id; for logs and for signals to its group, never to look something up.
    pub pid: i32,
    /// Readable when it has ended; close-on-exec.
    pub pidfd: OwnedFd,
}

/// A place from which one child after another is started. [`SpawnSlot::spawn`] makes a child; until
/// [`SpawnSlot::has_exec_or_exited`] says that it has left the daemon's memory, all that it uses is kept here, unchanged.
#[derive(Debug)]
pub struct SpawnSlot {
    /// A pointer, not a box, because a child that is under way has the same pointer.
    shared: NonNull<Shared>,
    /// Open as long as the child may not have its own copy: its number must not become somebody else's.
    connection: Option<OwnedFd>,
}

impl SpawnSlot {
    /// A place with a stack, and no child.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { shared: NonNull::from(Box::leak(Box::new(Shared::new()?))), connection: None })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the pointer is valid as long as `self`; a child that is under way reads too, or writes what may be
        // written through a shared reference.
        unsafe { self.shared.as_ref() }
    }

    /// All of it, while no child is under way.
    fn unused_mut(&mut self) -> Option<&mut Shared> {
        if !self.has_exec_or_exited() {
            return None;
        }
        // SAFETY: as above, and nobody else has the pointer once the child has left.
        Some(unsafe { self.shared.as_mut() })
    }

    /// Starts a process as `plan` says, with `connection` as its descriptors 0 and 1, in the environment that `fill`
    /// writes (see [`super::Strings::refill`]). All signals must be blocked in the calling thread. The connection, whose
    /// number must be above 2, is kept until [`SpawnSlot::finish`].
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
        match self.clone() {
            Ok(child) => {
                self.connection = Some(connection);
                Ok(child)
            }
            Err(errno) => Err((Failure { step: Step::Clone, errno }, connection)),
        }
    }

    /// Lets a child live in [`Shared`]; errno if there can be none.
    fn clone(&self) -> Result<Child, i32> {
        let clears = if cfg!(target_env = "musl") { 0 } else { libc::CLONE_CHILD_CLEARTID };
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_PIDFD | clears | libc::SIGCHLD;
        let (stack, tid) = (self.shared().stack.top(), &self.shared().tid);
        let (mut pidfd, no_tls): (RawFd, *mut c_void) = (-1, ptr::null_mut());
        tid.store(1, Ordering::Relaxed);
        // SAFETY: the child runs `child_main` on a stack of its own, in our memory. What it reads is neither changed nor
        // freed before `tid` is zero, and owns or co-owns all that it points to. It makes raw system calls only. `tid`
        // is a valid word for the kernel to clear and wake.
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
        // SAFETY: clone succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // It lives long. Where there is no high number it keeps its own, and starts cost more.
        let pidfd = descriptor::copy_high(pidfd.as_fd()).unwrap_or(pidfd);
        Ok(Child { pid, pidfd })
    }

    /// Has the child left the daemon's memory, by execve(2) or by its end? True where there is none.
    #[must_use]
    pub fn has_exec_or_exited(&self) -> bool {
        #[cfg(target_env = "musl")]
        self.look_for_end();
        self.shared().is_unused()
    }

    /// A child that was killed before it could ask for its word to be cleared will never be told of by it. A process that
    /// has ended has left its memory before; the reaper collects nobody who is still here, so the id is the child's.
    #[cfg(target_env = "musl")]
    fn look_for_end(&self) {
        let tid = &self.shared().tid;
        let pid = tid.load(Ordering::Acquire);
        if pid != 0 && crate::sys::pidfd::has_ended(pid) {
            tid.store(0, Ordering::Release);
        }
    }

    /// Waits until the child has left the daemon's memory, but no longer than `patience`. Says whether it has.
    pub fn wait(&self, patience: Duration) -> bool {
        let tid = &self.shared().tid;
        let value = tid.load(Ordering::Acquire);
        if value != 0 {
            // The kernel wakes waiters of this word when it clears it (set_tid_address(2)).
            wait_for_change(tid, value, patience);
        }
        self.has_exec_or_exited()
    }

    /// How it went, and the connection; nothing while the child is still here, or when this has been asked before.
    pub fn finish(&mut self) -> Option<(OwnedFd, Option<Failure>)> {
        let shared = self.unused_mut()?;
        shared.plan = None;
        let failure = shared.failure.get_mut().take();
        Some((self.connection.take()?, failure))
    }
}

/// A child that is still under way keeps its memory and its connection for ever: there is nobody to tell when it has
/// left.
impl Drop for SpawnSlot {
    fn drop(&mut self) {
        if self.has_exec_or_exited() {
            // SAFETY: it came from a box in `new`, and nobody else has the pointer once the child has left.
            drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
        } else {
            std::mem::forget(self.connection.take());
        }
    }
}

/// Sleeps until `word` is no longer `value` and somebody has said so, or `patience` is over (futex(2)).
fn wait_for_change(word: &AtomicI32, value: c_int, patience: Duration) {
    let patience = libc::timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i32::MAX.into()),
        tv_nsec: patience.subsec_nanos().into(),
    };
    // SAFETY: the word and the time outlive the call. Not FUTEX_PRIVATE: the kernel's own wake-up is not, either.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const patience) };
}
