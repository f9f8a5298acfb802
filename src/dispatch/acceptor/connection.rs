//! What is done with one accepted connection, besides handing it to a handler: who is at the other end, a word to him,
//! and how he is let go.
//!
//! Only the acceptor calls this. Nothing here waits or fails: what can't be sent or found out is left.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{MsgFlags, Shutdown, UnixAddr, getpeername, getsockopt, recv, send, shutdown, sockopt};

use crate::config::{Endpoint, Refuse, Transport};
use crate::dispatch::listeners::Listener;
use crate::net::Peer;
use crate::sys::socket::{self, Accepted};

/// The other end of a connection. An IPv4 client of an IPv6 socket becomes one of an IPv4 socket.
pub(super) fn peer_of(accepted: &Accepted) -> Peer {
    let Some(address) = accepted.peer else { return unix_peer(&accepted.socket) };
    let canonical = address.ip().to_canonical();
    if address.is_ipv6() && canonical.is_ipv4() {
        socket::to_ipv4(&accepted.socket);
    }
    Peer::Inet(canonical, address.port())
}

/// The sender of the first datagram that waits in a listener; `None` if he can't be known, and for other listeners.
///
/// # Errors
/// No datagram waits after all: one with a wrong checksum, say.
pub(super) fn sender_of(listener: &Listener) -> Result<Option<Peer>, NoDatagram> {
    if !matches!(listener.endpoint, Endpoint::Inet { transport: Transport::Udp, .. }) {
        return Ok(None);
    }
    match socket::sender(listener.as_fd()) {
        Ok(sender) => Ok(sender.map(|address| Peer::Inet(address.ip().to_canonical(), address.port()))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(NoDatagram),
        Err(_) => Ok(None),
    }
}

/// There is none.
pub(super) struct NoDatagram;

fn unix_peer(connection: &OwnedFd) -> Peer {
    match getsockopt(connection, sockopt::PeerCredentials) {
        Ok(credentials) => Peer::Unix { uid: credentials.uid(), gid: credentials.gid() },
        Err(_) => Peer::Unknown,
    }
}

pub(super) fn path_of(connection: &OwnedFd) -> Option<PathBuf> {
    getpeername::<UnixAddr>(connection.as_raw_fd()).ok()?.path().map(Into::into)
}

pub(super) fn local_of(endpoint: &Endpoint, connection: &OwnedFd) -> Option<SocketAddr> {
    match endpoint {
        Endpoint::Inet { .. } => socket::local_address(connection.as_fd()).ok().flatten(),
        Endpoint::UnixStream(_) | Endpoint::UnixDatagram(_) => None,
    }
}

/// Sends the banner as far as the new connection's empty send buffer takes it; a client who has gone misses it.
pub(super) fn send_banner(connection: &OwnedFd, banner: &[u8]) {
    if !banner.is_empty() {
        let _ = send(connection.as_raw_fd(), banner, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
}

/// Lets a client go who is not served. The socket is closed by its owner afterwards.
pub(super) fn turn_away(connection: &OwnedFd, how: &Refuse) {
    match how {
        Refuse::Reset => socket::reset_on_close(connection),
        Refuse::Close => {}
        Refuse::Text(text) => {
            send_banner(connection, text);
            let _ = shutdown(connection.as_raw_fd(), Shutdown::Write);
            discard_received(connection.as_fd());
        }
    }
}

/// Reads what the client has sent so far: closing a socket with unread data sends a reset, which would overtake the
/// text (RFC 2525 §2.17).
pub(super) fn discard_received(connection: BorrowedFd<'_>) {
    let mut bytes = [0; 4096];
    for _ in 0..4 {
        if !matches!(recv(connection.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT), Ok(1..)) {
            return;
        }
    }
}
