//! Waiting for many descriptors at once: epoll(7), with a number of the caller's choice for each descriptor.
//!
//! The server, the control socket and the reaper wait with this. A set owns no descriptor but its own, and decides
//! nothing about what it finds. Adding a descriptor can fail for want of memory; a wait cannot.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::signals::Signals;

/// A set of descriptors to wait for, level-triggered.
#[derive(Debug)]
pub struct Poll(Epoll);

/// The event that makes a descriptor ready. A descriptor whose other end has closed is ready in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// There is something to read.
    Reading,
    /// There is room to write.
    Writing,
    /// No event but the close of the other end.
    Nothing,
}

impl From<Interest> for EpollFlags {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Reading => Self::EPOLLIN,
            Interest::Writing => Self::EPOLLOUT,
            Interest::Nothing => Self::empty(),
        }
    }
}

/// The descriptors that one wait has found ready.
#[derive(Debug)]
pub struct ReadyList {
    events: Vec<EpollEvent>,
    found: usize,
}

impl ReadyList {
    /// A list with room for `size` descriptors. The next wait finds those that did not fit.
    pub fn new(size: usize) -> Self {
        Self { events: vec![EpollEvent::empty(); size], found: 0 }
    }

    /// The numbers of the ready descriptors.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.events[..self.found].iter().map(EpollEvent::data)
    }
}

impl Poll {
    /// An empty set. Its descriptor is close-on-exec and has a high number (see [`super::descriptor::move_high`]).
    ///
    /// # Errors
    /// No descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self(Epoll(super::descriptor::move_high(epoll.0)?)))
    }

    /// Adds a descriptor, for reading.
    ///
    /// # Errors
    /// `ENOSPC` beyond `fs.epoll.max_user_watches`, `ENOMEM`.
    pub fn add(&self, descriptor: impl AsFd, number: u64) -> io::Result<()> {
        Ok(self.0.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, number))?)
    }

    /// Changes the event that a descriptor is waited for.
    ///
    /// # Errors
    /// `ENOENT` if it is not in the set.
    pub fn change_interest(&self, descriptor: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.modify(descriptor, &mut EpollEvent::new(interest.into(), number))?)
    }

    /// Removes a descriptor, which stays open.
    ///
    /// # Errors
    /// `ENOENT` if it is not in the set.
    pub fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(descriptor)?)
    }

    /// Finds the ready descriptors without waiting.
    ///
    /// # Errors
    /// None that a valid set can have.
    pub fn try_wait(&self, ready: &mut ReadyList) -> io::Result<()> {
        self.wait_masked(ready, Some(Duration::ZERO), None)
    }

    /// Waits until a descriptor is ready, a signal has arrived or `timeout` is over. The caller has blocked the
    /// signals that the daemon catches; they are unblocked during the wait and only then.
    ///
    /// # Errors
    /// None that a valid set can have; a signal counts as nothing ready.
    pub(crate) fn wait(&self, ready: &mut ReadyList, timeout: Option<Duration>, signals: &Signals) -> io::Result<()> {
        self.wait_masked(ready, timeout, Some(signals.wait_mask()))?;
        if ready.found > 0 {
            // If a descriptor is ready at once, epoll_pwait(2) returns without delivering any signal: while clients
            // keep coming, none would ever be delivered.
            signals.deliver_pending();
        }
        Ok(())
    }

    fn wait_masked(
        &self,
        ready: &mut ReadyList,
        timeout: Option<Duration>,
        mask: Option<&libc::sigset_t>,
    ) -> io::Result<()> {
        ready.found = 0;
        let mask = mask.map_or(std::ptr::null(), std::ptr::from_ref);
        let size = i32::try_from(ready.events.len()).unwrap_or(i32::MAX);
        let (set, events) = (self.as_fd().as_raw_fd(), ready.events.as_mut_ptr().cast());
        // SAFETY: nix's EpollEvent is a transparent epoll_event; the kernel writes at most `size` of them, and
        // `mask` is null or points to a signal set that outlives the call.
        let found = unsafe { libc::epoll_pwait(set, events, size, timeout_millis(timeout), mask) };
        match super::check(found.into()) {
            Ok(found) => ready.found = usize::try_from(found).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whole milliseconds, rounded up so that a deadline has really passed when the wait is over; -1 waits for ever.
fn timeout_millis(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |time| i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

/// A set is itself a descriptor. It is readable while one of its own descriptors is ready.
impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}
