//! What the daemon itself does with an accepted connection: identify the peer, send a text, refuse the client, and
//! read the request of a `tcpmux` client.
//!
//! Only [`super::System`] calls this. Nothing here waits or fails: a text that can't be sent is dropped, and an
//! address that the kernel does not tell is unknown.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{MsgFlags, Shutdown, UnixAddr, getpeername, getsockopt, recv, send, shutdown, sockopt};

use crate::builtin::{REQUEST_LEN_MAX, parse_request};
use crate::config::Refuse;
use crate::net::Endpoint;
use crate::net::Peer;
use crate::sys::socket::{self, Accepted};

/// The peer of a connection. If an IPv4 client has connected to an IPv6 socket, the connection becomes an IPv4 one.
pub(super) fn identify_peer(accepted: &Accepted) -> Peer {
    let Some(address) = accepted.peer else { return unix_peer(&accepted.socket) };
    let canonical = address.ip().to_canonical();
    if address.is_ipv6() && canonical.is_ipv4() {
        socket::convert_to_ipv4(&accepted.socket);
    }
    Peer::Inet(canonical, address.port())
}

fn unix_peer(connection: &OwnedFd) -> Peer {
    match getsockopt(connection, sockopt::PeerCredentials) {
        Ok(credentials) => Peer::Unix { uid: credentials.uid(), gid: credentials.gid() },
        Err(_) => Peer::Unknown,
    }
}

pub(super) fn peer_path(connection: &OwnedFd) -> Option<PathBuf> {
    getpeername::<UnixAddr>(connection.as_raw_fd()).ok()?.path().map(Into::into)
}

pub(super) fn local_address(endpoint: &Endpoint, connection: &OwnedFd) -> Option<SocketAddr> {
    match endpoint {
        Endpoint::Inet { .. } => socket::local_address(connection.as_fd()).ok().flatten(),
        Endpoint::UnixStream(_) | Endpoint::UnixDatagram(_) => None,
    }
}

/// Sends as much of a text as fits into the new connection's send buffer.
pub(super) fn send_text(connection: &OwnedFd, text: &[u8]) {
    if !text.is_empty() {
        let _ = send(connection.as_raw_fd(), text, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
}

/// Refuses a client. The caller closes the socket afterwards.
pub(super) fn refuse_client(connection: &OwnedFd, how: &Refuse) {
    match how {
        Refuse::Reset => socket::reset_on_close(connection),
        Refuse::Close => {}
        Refuse::Text(text) => {
            send_text(connection, text);
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

/// Reads the request of a `tcpmux` client (RFC 1078), and not one byte more: the rest is for the service.
pub(super) fn take_mux_request(connection: &OwnedFd) -> Option<String> {
    let mut bytes = [0; REQUEST_LEN_MAX];
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let seen = recv(connection.as_raw_fd(), &mut bytes, peek).ok()?;
    let (name, length) = parse_request(&bytes[..seen])?;
    recv(connection.as_raw_fd(), &mut bytes[..length], MsgFlags::MSG_DONTWAIT).ok()?;
    Some(name)
}

/// Refuses a `tcpmux` client with a line that begins with `-` (RFC 1078).
pub(super) fn refuse_mux(connection: &OwnedFd, refuse: &Refuse) {
    let text = match refuse {
        Refuse::Text(text) => text.as_slice(),
        Refuse::Reset | Refuse::Close => b"Service not available",
    };
    let line = [b"-", text.trim_ascii_end(), b"\r\n"].concat();
    let _ = send(connection.as_raw_fd(), &line, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Write);
    discard_received(connection.as_fd());
}
