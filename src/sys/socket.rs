//! Sockets, where nix has no safe function: accept with the peer's address, options by number, and what is queued.
//!
//! Any module that has a socket may call this. Nothing here waits, or keeps a socket. Errors are those of the
//! system calls.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::c_int;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{getsockname, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

/// Makes a socket that does not block, close-on-exec. It takes the numbers of socket(2), because nix lacks
/// Multipath TCP.
///
/// # Errors
/// Those of socket(2).
pub fn create(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    super::adopt(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) })
}

/// A connection that was accepted: close-on-exec and blocking, as handlers expect it.
#[derive(Debug)]
pub struct Accepted {
    /// The connection's own socket.
    pub socket: OwnedFd,
    /// The client's address; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
}

/// Accepts one connection from a listening socket, which must not block.
///
/// # Errors
/// `EAGAIN` when no connection is queued; the errors of accept(2). The address is the one from accept(2) itself,
/// because getpeername(2) fails once the client has gone.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Accepted> {
    let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = socklen_of::<libc::sockaddr_storage>();
    // SAFETY: the kernel writes at most `length` bytes of address and its true length.
    let number = unsafe {
        libc::accept4(listener.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut length, libc::SOCK_CLOEXEC)
    };
    let socket = super::adopt(number)?;
    // SAFETY: `address` is a sockaddr_storage; no address is longer.
    let peer = unsafe { SockaddrStorage::from_raw(address.as_ptr().cast(), Some(length)) };
    Ok(Accepted { socket, peer: peer.and_then(internet_address) })
}

/// The sender of the first queued datagram, which stays in the queue; `None` if the sender has no Internet address.
///
/// # Errors
/// `EAGAIN` when no datagram is queued; the errors of recvfrom(2).
pub fn peek_sender(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], None, flags)?;
    Ok(message.address.and_then(internet_address))
}

/// Discards the first queued datagram, if there is one.
pub fn discard_datagram(socket: BorrowedFd<'_>) {
    let _ = nix::sys::socket::recv(socket.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT);
}

/// The address that a socket is bound to; `None` for a Unix socket.
///
/// # Errors
/// None that an open socket can have.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    Ok(internet_address(getsockname(socket.as_raw_fd())?))
}

/// The Internet address in a socket address; `None` for another family.
fn internet_address(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}

/// Sets an option that is an int.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_option(socket: impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = socklen_of::<c_int>();
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: `value` is an int that outlives the call, and `length` is its size.
    let result = unsafe { libc::setsockopt(descriptor, level, name, (&raw const value).cast(), length) };
    super::check(result.into()).map(|_| ())
}

/// The supplementary groups that the process at the other end of a Unix socket had when it connected
/// (`SO_PEERGROUPS`, Linux 4.13), if they fit into a page; none if the kernel does not tell them.
pub fn peer_groups(socket: BorrowedFd<'_>) -> Vec<u32> {
    let mut groups = vec![0_u32; 1024];
    let mut length = libc::socklen_t::try_from(mem::size_of_val(groups.as_slice())).unwrap_or(0);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERGROUPS);
    // SAFETY: the kernel writes at most `length` bytes, and sets `length` to the number of bytes written.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, groups.as_mut_ptr().cast(), &raw mut length) };
    groups.truncate(if result == 0 { length as usize / mem::size_of::<u32>() } else { 0 });
    groups
}

/// Turns the IPv6 socket of an IPv4-mapped peer into an IPv4 socket (`IPV6_ADDRFORM`, ipv6(7)), because real
/// handlers do not know mapped peers. A connection that is gone already stays as it is.
pub fn convert_to_ipv4(socket: impl AsFd) {
    let _ = set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM, libc::AF_INET);
}

/// Makes the next close of a TCP socket a reset, which leaves no TIME-WAIT state (`SO_LINGER` with time 0,
/// socket(7)).
pub fn reset_on_close(socket: impl AsFd) {
    // A failure only makes the close an orderly one.
    let _ = setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}

/// The queue of a socket before it is lent to a handler. A comparison shows whether the handler took anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueuedInput {
    /// The number of connections in the queue of a listening TCP socket.
    Connections(u32),
    /// The time when the first datagram of a datagram socket arrived.
    Datagram(TimeSpec),
    /// The queue is not empty; the kernel tells no more of a Unix stream socket.
    Unspecified,
}

impl QueuedInput {
    /// The queue of a socket now; `None` if it is empty.
    pub fn of_socket(socket: BorrowedFd<'_>) -> Option<Self> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut set = [PollFd::new(socket, PollFlags::POLLIN)];
        if !matches!(poll(&mut set, PollTimeout::ZERO), Ok(1..)) {
            return None;
        }
        let connections = accept_queue_len(socket).map(Self::Connections);
        Some(connections.or_else(|| peek_datagram(socket)).unwrap_or(Self::Unspecified))
    }

    /// Whether everything of `before` is still queued, as far as the kernel tells.
    pub fn still_holds(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Connections(now), Self::Connections(before)) => now >= before,
            (now, before) => now == before,
        }
    }
}

/// The length of a listening TCP socket's accept queue (`tcpi_unacked`; it is what ss(8) shows as Recv-Q).
fn accept_queue_len(listener: BorrowedFd<'_>) -> Option<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = socklen_of::<libc::tcp_info>();
    // SAFETY: the kernel writes at most `length` bytes.
    let result = unsafe {
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        libc::getsockopt(listener.as_raw_fd(), level, name, info.as_mut_ptr().cast(), &raw mut length)
    };
    // SAFETY: zeroed is a valid tcp_info.
    (result == 0).then(|| unsafe { info.assume_init() }.tcpi_unacked)
}

/// The first datagram, identified by its arrival time. The kernel stamps each datagram once, at the latest when it
/// is first peeked at, so a client that sends the same bytes again cannot look like a handler that takes nothing.
/// The option is switched off again before a handler gets the socket.
fn peek_datagram(socket: BorrowedFd<'_>) -> Option<QueuedInput> {
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).ok()?;
    let arrival = peek_arrival_time(socket);
    let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &false);
    arrival.map(QueuedInput::Datagram)
}

/// Room in bytes for the control messages of a datagram; each kind takes some 20 to 40 (cmsg(3)).
const CONTROL_LEN: usize = 1024;

fn peek_arrival_time(socket: BorrowedFd<'_>) -> Option<TimeSpec> {
    // A handler may have asked for more than the time, for instance for the address that a datagram was sent to
    // (in.tftpd does), and the socket keeps that option. If the messages do not all fit, the kernel cuts them off.
    let mut space = vec![0; CONTROL_LEN];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut [], Some(&mut space), flags).ok()?;
    message.cmsgs().ok()?.find_map(|found| match found {
        ControlMessageOwned::ScmTimestampns(time) => Some(time),
        _ => None,
    })
}

/// Takes the sockets that the service manager passes (sd_listen_fds(3)): descriptors 3 and up, moved high and made
/// close-on-exec. `count` is from LISTEN_FDS. Call it once, before anything else is opened.
///
/// # Errors
/// A descriptor of that range is not open.
pub fn take_passed(count: i32) -> io::Result<Vec<OwnedFd>> {
    let numbers = 3..count.max(0).saturating_add(3);
    // All are checked before the first is moved: afterwards, a number that was not passed could be one of ours.
    for number in numbers.clone() {
        // SAFETY: no memory is involved.
        super::check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    }
    numbers.map(|number| super::descriptor::move_high(super::adopt(number)?)).collect()
}

fn socklen_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(0)
}
