//! Open sockets as an upgrade hands them to the next program.
//!
//! The new program takes them over as they are and then puts the table in force as a reload does, which keeps, closes and
//! resumes them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::open::Opened;
use super::{Listener, ListenerId, Listeners, State};
use crate::config::{Endpoint, SocketOptions};
use crate::net::socket_file::{self, SocketFile};
use crate::sys::descriptor;
use crate::types::{Reason, ServiceId, Ticket};

/// One open socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carried {
    id: ListenerId,
    endpoint: Endpoint,
    service: ServiceId,
    name: Arc<str>,
    lent: Option<Ticket>,
    wait: bool,
    filtered: bool,
    failures: u32,
    descriptor: RawFd,
    file: Option<socket_file::Carried>,
    options: SocketOptions,
}

impl Listeners {
    /// What a new program needs to go on with the same sockets.
    pub fn carry(&self) -> impl Iterator<Item = Carried> + '_ {
        self.open.iter().map(|(&id, listener)| Carried {
            id,
            endpoint: listener.endpoint.clone(),
            service: listener.service,
            name: Arc::clone(&listener.name),
            lent: match listener.state {
                State::Lent(ticket) => Some(ticket),
                State::Listening | State::Paused(..) => None,
            },
            wait: listener.wait,
            filtered: listener.filtered,
            failures: listener.failures,
            descriptor: listener.opened.socket.as_raw_fd(),
            file: listener.opened.file.as_ref().map(SocketFile::carry),
            options: listener.opened.options.clone(),
        })
    }

    /// The descriptors that must stay open for it.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.values().map(AsFd::as_fd)
    }

    /// Takes over a socket of the program before this one. It is left alone until a table is put in force.
    ///
    /// # Errors
    /// Its descriptor is not open.
    pub fn take_over(&mut self, carried: Carried) -> io::Result<()> {
        let Carried { id, endpoint, service, name, lent, wait, filtered, failures, descriptor, file, options } =
            carried;
        let socket = descriptor::inherit(descriptor)?;
        let file = file.map(SocketFile::from_carried);
        let opened = Opened { socket, how: "adopted", file, options };
        let state = lent.map_or(State::Paused(Reason::Backoff, None), State::Lent);
        let local = opened.fixed_address();
        let listener =
            Listener { endpoint, service, name, state, local, wait, filtered, opened, before: None, failures };
        self.last = self.last.max(id.0);
        self.open.insert(id, listener);
        Ok(())
    }
}
