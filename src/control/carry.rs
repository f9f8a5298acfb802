//! The control socket as an upgrade hands it to the next program. Its clients are let go: they ask again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use serde::{Deserialize, Serialize};

use super::place::Open;
use super::{Control, FIRST};
use crate::net::socket_file::{self, SocketFile};
use crate::sys::descriptor;
use crate::sys::poll::Poll;

/// The open socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carried {
    descriptor: RawFd,
    group: Option<u32>,
    file: socket_file::Carried,
}

impl Control {
    /// What a new program needs to go on with the same socket, if there is one.
    #[must_use]
    pub fn carry(&self) -> Option<Carried> {
        let open = self.open.as_ref()?;
        Some(Carried { descriptor: open.socket.as_raw_fd(), group: open.group, file: open.file.carry() })
    }

    /// The descriptor that must stay open for it.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    /// Takes over the socket of the program before this one.
    ///
    /// # Errors
    /// Its descriptor is not open, or there is no memory to watch it.
    pub fn take_over(&mut self, poll: &Poll, carried: Carried) -> io::Result<()> {
        let Carried { descriptor, group, file } = carried;
        let socket = descriptor::inherit(descriptor)?;
        poll.add(&socket, FIRST)?;
        self.open = Some(Open { socket, group, file: SocketFile::from_carried(file) });
        Ok(())
    }
}
