//! The control socket in the saved state of an upgrade.
//!
//! The server saves the open socket for the new program, and the new program restores it. Clients are not saved: their
//! connections end, and they ask again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::socket::OpenSocket;
use super::{ControlServer, LISTENER_NUMBER};
use crate::sys::poll::Poll;

impl ControlServer {
    /// The open socket for the new program, if there is one.
    #[must_use]
    pub(crate) fn save(&self) -> Option<&OpenSocket> {
        self.open.as_ref()
    }

    /// The descriptor of the socket, which must stay open for the new program.
    #[must_use]
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    /// Continues with the socket of the program before this one.
    ///
    /// # Errors
    /// There is no memory to poll it.
    pub(crate) fn restore(&mut self, poll: &Poll, open: OpenSocket) -> io::Result<()> {
        poll.add(&open.socket, LISTENER_NUMBER)?;
        self.open = Some(open);
        Ok(())
    }
}
