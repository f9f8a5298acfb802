//! The control socket as an upgrade hands it to the next program. Its clients are dropped: they ask again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::place::Open;
use super::{Control, FIRST};
use crate::sys::poll::Poll;

impl Control {
    /// The open socket for the next program, if there is one.
    #[must_use]
    pub fn save(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// The descriptor that must stay open for it.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    /// Goes on with the socket of the program before this one.
    ///
    /// # Errors
    /// No memory to watch it.
    pub fn restore(&mut self, poll: &Poll, open: Open) -> io::Result<()> {
        poll.add(&open.socket, FIRST)?;
        self.open = Some(open);
        Ok(())
    }
}
