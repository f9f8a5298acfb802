//! Waiting for many descriptors at once: epoll(7), with a number of the caller's choice for each descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::signals::Signals;

/// A set of descriptors to be waited for, level-triggered.
#[derive(Debug)]
pub struct Poll(Epoll);

/// What a descriptor is waited for. That the other end is gone is told in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// There is something to read.
    Reading,
    /// There is room to write.
    Writing,
    /// Nothing else.
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

/// Room for what one wait finds.
#[derive(Debug)]
pub struct Ready {
    events: Vec<EpollEvent>,
    found: usize,
}

impl Ready {
    /// Room for at most `size` descriptors; more are found by the next wait.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { events: vec![EpollEvent::empty(); size], found: 0 }
    }

    /// The numbers of the descriptors that were found ready.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.events[..self.found].iter().map(EpollEvent::data)
    }
}

impl Poll {
    /// An empty set; its descriptor is close-on-exec and lies high (see [`super::descriptor::high`]).
    ///
    /// # Errors
    /// No descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self(Epoll(super::descriptor::high(epoll.0)?)))
    }

    /// Adds a descriptor, for reading.
    ///
    /// # Errors
    /// `ENOSPC` beyond `fs.epoll.max_user_watches`, `ENOMEM`.
    pub fn add(&self, descriptor: impl AsFd, number: u64) -> io::Result<()> {
        Ok(self.0.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, number))?)
    }

    /// Waits for something else of a descriptor from now on.
    ///
    /// # Errors
    /// `ENOENT` if it is not in the set.
    pub fn change(&self, descriptor: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.modify(descriptor, &mut EpollEvent::new(interest.into(), number))?)
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    /// `ENOENT` if it is not in the set.
    pub fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(descriptor)?)
    }

    /// Looks which descriptors are ready, without waiting.
    ///
    /// # Errors
    /// None that a valid set can have.
    pub fn look(&self, ready: &mut Ready) -> io::Result<()> {
        self.wait_masked(ready, Some(Duration::ZERO), None)
    }

    /// Waits until a descriptor is ready, a signal has come or `timeout` is over. The signals that the daemon catches are
    /// let through during the wait and only then: the caller has blocked them.
    ///
    /// # Errors
    /// None that a valid set can have; a signal counts as nothing ready.
    pub fn wait(&self, ready: &mut Ready, timeout: Option<Duration>, signals: &Signals) -> io::Result<()> {
        self.wait_masked(ready, timeout, Some(signals.mask()))?;
        if ready.found > 0 {
            // With a descriptor ready at once, epoll_pwait(2) returns without having let any signal through: while
            // clients keep coming, none would ever be heard.
            signals.let_through();
        }
        Ok(())
    }

    fn wait_masked(
        &self,
        ready: &mut Ready,
        timeout: Option<Duration>,
        mask: Option<&libc::sigset_t>,
    ) -> io::Result<()> {
        ready.found = 0;
        let mask = mask.map_or(std::ptr::null(), std::ptr::from_ref);
        let size = i32::try_from(ready.events.len()).unwrap_or(i32::MAX);
        // SAFETY: nix's EpollEvent is a transparent epoll_event; the kernel writes at most `size` of them, and `mask`
        // is null or points to a signal set that outlives the call.
        let found = unsafe {
            libc::epoll_pwait(self.as_fd().as_raw_fd(), ready.events.as_mut_ptr().cast(), size, millis(timeout), mask)
        };
        match super::check(found.into()) {
            Ok(found) => ready.found = usize::try_from(found).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whole milliseconds, rounded up so that a deadline has really passed when the wait is over; -1 waits for ever.
fn millis(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |time| i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

/// A set is itself a descriptor that is readable while one of its descriptors is.
impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}
