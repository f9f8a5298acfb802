//! Connections that a handler of `tcpmux` gives back, because their clients want another service.
//!
//! A copy of each connection that such a handler serves is kept here until the handler has ended. If its exit status is
//! [`PASS_ON`], the client's request is the next thing to be read, and that is read here, without waiting: a line of
//! limited length. Then he is judged like anybody who comes to the service that he names. He has been accepted already,
//! so where others would wait in a queue he is turned away.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use serde::{Deserialize, Serialize};

use super::connection::{discard_received, send_banner};
use super::{Acceptor, Desk, Entry};
use crate::builtin::{LONGEST_REQUEST, PASS_ON, What, request};
use crate::config::Refuse;
use crate::dispatch::listeners::ListenerId;
use crate::dispatch::reaper::Exit;
use crate::limits::penalty::Cause;
use crate::net::Peer;
use crate::sys::descriptor;
use crate::types::{Ending, ServiceId, Ticket};

/// A connection that may be given back.
#[derive(Debug)]
pub struct Kept {
    connection: OwnedFd,
    /// Where it was accepted.
    listener: ListenerId,
    peer: Peer,
}

/// What clients of `tcpmux` can ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    service: ServiceId,
    /// Are they told here that they may go on?
    plus: bool,
}

/// The services by the names that clients of `tcpmux` know them by.
pub(super) fn names(entries: &[Entry]) -> impl Iterator<Item = (String, Wanted)> + '_ {
    let names = |entry: &Entry| {
        let (service, names) = (entry.id, entry.service.tcpmux.clone());
        names.into_iter().map(move |name| (name.name, Wanted { service, plus: name.plus }))
    };
    entries.iter().flat_map(names)
}

/// A connection that is kept, for the program that follows this one in an upgrade.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carried {
    ticket: Ticket,
    descriptor: RawFd,
    listener: ListenerId,
    peer: Peer,
}

impl Acceptor {
    /// What a new program needs to go on with the connections that are kept.
    pub fn carry(&self) -> impl Iterator<Item = Carried> + '_ {
        self.kept.iter().map(|(&ticket, Kept { connection, listener, peer })| {
            let (descriptor, listener, peer) = (connection.as_raw_fd(), *listener, *peer);
            Carried { ticket, descriptor, listener, peer }
        })
    }

    /// The descriptors that must stay open for it.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.kept.values().map(|kept| kept.connection.as_fd())
    }

    /// Goes on with a connection that the program before this one has kept.
    ///
    /// # Errors
    /// Its descriptor is not open.
    pub fn take_over(&mut self, carried: Carried) -> io::Result<()> {
        let Carried { ticket, descriptor, listener, peer } = carried;
        let connection = descriptor::inherit(descriptor)?;
        self.kept.insert(ticket, Kept { connection, listener, peer });
        Ok(())
    }

    /// Keeps a copy of a connection if its handler may give it back. Without a descriptor for it nothing is kept, and the
    /// client will find his connection closed.
    pub(super) fn keep(&self, entry: &Entry, connection: &OwnedFd, listener: ListenerId, peer: Peer) -> Option<Kept> {
        let builtin = entry.service.program.builtin.as_ref()?;
        if builtin.what != What::Tcpmux {
            return None;
        }
        let connection = descriptor::copy_high(connection.as_fd()).ok()?;
        Some(Kept { connection, listener, peer })
    }

    /// A handler has ended: gives the connection that it passes on, and takes that for a good end.
    pub fn given_back(&mut self, exit: &mut Exit) -> Option<Kept> {
        let kept = self.kept.remove(&exit.ticket)?;
        let ended = exit.ended.as_mut()?;
        if ended.ending != Ending::Exited(PASS_ON.into()) {
            return None;
        }
        ended.ending = Ending::Exited(0);
        Some(kept)
    }

    /// Admits a client to the service that he has asked for, or turns him away.
    pub fn pass_on(&mut self, desk: &mut Desk<'_>, kept: Kept) {
        let Kept { connection, listener, peer } = kept;
        let wanted = take_request(&connection).and_then(|name| self.muxed.get(&name).copied());
        let entry = wanted.and_then(|wanted| self.entries.get(&wanted.service).cloned());
        // A reload may have taken the service away since the handler was started.
        let Some((wanted, entry)) = wanted.zip(entry) else {
            return decline(&connection, &Refuse::Close);
        };
        let client = self.admission.client(entry.id, peer);
        match self.admit(desk, &entry, &client) {
            Ok(()) => {
                self.charge(desk, &entry, client.peer, Some(Cause::Trap));
                if wanted.plus {
                    send_banner(&connection, b"+Go\r\n");
                }
                self.start(desk, listener, &entry, connection, client);
            }
            Err(refusal) => {
                decline(&connection, &entry.service.refuse);
                self.refuse(desk, &entry, &client, refusal);
            }
        }
    }
}

/// Takes exactly the request: what follows it is for the service.
fn take_request(connection: &OwnedFd) -> Option<String> {
    let mut bytes = [0; LONGEST_REQUEST];
    let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let seen = recv(connection.as_raw_fd(), &mut bytes, look).ok()?;
    let (name, length) = request(&bytes[..seen])?;
    recv(connection.as_raw_fd(), &mut bytes[..length], MsgFlags::MSG_DONTWAIT).ok()?;
    Some(name)
}

/// A no is a line that begins with `-` (RFC 1078).
fn decline(connection: &OwnedFd, refuse: &Refuse) {
    let text = match refuse {
        Refuse::Text(text) => text.as_slice(),
        Refuse::Reset | Refuse::Close => b"Service not available",
    };
    let line = [b"-", text.trim_ascii_end(), b"\r\n"].concat();
    let _ = send(connection.as_raw_fd(), &line, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Write);
    discard_received(connection.as_fd());
}
