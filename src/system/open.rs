//! One listening socket: create it, set its options, bind it and listen; or find it among those that the service
//! manager passed. A new table may change its options later.
//!
//! [`super::table_sockets`] opens with this what a table needs. Nothing here waits, and a socket that cannot be
//! opened leaves nothing behind. An error names the key, the endpoint and what to do about it.

use nix::errno::Errno;
use nix::sys::socket::{self as net, AddressFamily, Backlog, SockType, SockaddrStorage, UnixAddr, sockopt};
use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{Service, SocketOptions};
use crate::dispatch::commit::NewSocket;
use crate::net::socket_file::SocketFile;
use crate::net::{Endpoint, Transport};
use crate::sys::descriptor::{self, Inheritable};
use crate::sys::{errno_of, socket};

/// A socket that could not be opened.
#[derive(Debug)]
pub(crate) struct OpenSocketError {
    /// The file and key of the service's entry, then the endpoint and what is wrong.
    pub message: String,
    /// The error number of the system call that failed.
    pub errno: Errno,
}

impl fmt::Display for OpenSocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for OpenSocketError {}

/// An open listening socket, its file and its options. An upgrade hands it over as it is. Where a program only
/// checks that it can read the state, `D` and `F` are plain values.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListenerSocket<D = Inheritable, F = SocketFile> {
    pub(super) descriptor: D,
    /// The file of a Unix socket, if this program has made it.
    file: Option<F>,
    /// The options that are set now.
    options: SocketOptions,
    /// Accepted connections may inherit a packet filter from it.
    pub(super) filtered: bool,
}

/// Finds the socket for `endpoint` among those that the service manager passed, or opens it. `None` if it is the
/// IPv6 half of a service on a machine without IPv6.
pub(super) fn claim_or_open<'a>(
    passed: &mut Vec<OwnedFd>,
    endpoint: &Endpoint,
    service: &Service,
    neighbours: impl Iterator<Item = &'a ListenerSocket>,
) -> Result<Option<NewSocket<ListenerSocket>>, OpenSocketError> {
    if let Some(socket) = claim_passed(passed, endpoint, service) {
        return Ok(Some(NewSocket { socket, how: "adopted" }));
    }
    let opened = open_endpoint(endpoint, service, neighbours)?;
    Ok(opened.map(|socket| NewSocket { socket, how: "opened" }))
}

/// Opens `endpoint`. `None` if it is the IPv6 half of a service on a machine without IPv6.
///
/// `neighbours` are open listeners that may occupy its port: for example a dual-stack socket where the new table
/// has an IPv4 one. The socket is opened beside them, so both exist until the new table is in force.
fn open_endpoint<'a>(
    endpoint: &Endpoint,
    service: &Service,
    neighbours: impl Iterator<Item = &'a ListenerSocket>,
) -> Result<Option<ListenerSocket>, OpenSocketError> {
    let result = match try_open(endpoint, service, false) {
        Err(Errno::EAFNOSUPPORT) if has_ipv4_half(endpoint, service) => return Ok(None),
        Err(Errno::EADDRINUSE) => open_beside(endpoint, service, &neighbours.collect::<Vec<_>>()),
        result => result,
    };
    result.map(Some).map_err(|errno| OpenSocketError {
        message: format!("{}: services.{}.listen: {endpoint}: {}", service.origin, service.name, explain_errno(errno)),
        errno,
    })
}

/// Opens a socket beside others of ours. All of them have `SO_REUSEPORT` (socket(7)) while it is bound, and not
/// longer. Even so the kernel may let another program of the same user share the port afterwards, if it sets the
/// option too.
fn open_beside(endpoint: &Endpoint, service: &Service, neighbours: &[&ListenerSocket]) -> nix::Result<ListenerSocket> {
    if neighbours.is_empty() {
        return Err(Errno::EADDRINUSE);
    }
    // If the option can't be set, binding fails.
    let set_all = |on| {
        for one in neighbours {
            let _ = set_reuse_port(&one.descriptor, on);
        }
    };
    set_all(true);
    let result = try_open(endpoint, service, true);
    set_all(false);
    let opened = result?;
    set_reuse_port(&opened.descriptor, false)?;
    Ok(opened)
}

fn set_reuse_port(socket: impl AsFd, on: bool) -> nix::Result<()> {
    net::setsockopt(&socket, sockopt::ReusePort, &on)
}

/// Plain `udp/PORT` is two sockets; without IPv6 the IPv4 one is enough.
fn has_ipv4_half(endpoint: &Endpoint, service: &Service) -> bool {
    let Endpoint::Inet { transport, address: SocketAddr::V6(v6), dual: false } = endpoint else { return false };
    let half = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.port()));
    let half = Endpoint::Inet { transport: *transport, address: half, dual: false };
    v6.ip().is_unspecified() && service.listen.contains(&half)
}

fn explain_errno(errno: Errno) -> String {
    let hint = match errno {
        Errno::EADDRINUSE => "another program listens there, or a handler still has the socket of a removed service",
        Errno::EADDRNOTAVAIL => "this machine has no such address; `socket: {freebind: true}` allows it",
        Errno::EACCES => "ports below 1024 and foreign directories need root or a capability",
        Errno::EPERM => "this option needs root or CAP_NET_ADMIN",
        Errno::ENOENT => "the directory does not exist",
        _ => return errno.desc().to_owned(),
    };
    format!("{} ({hint})", errno.desc())
}

fn try_open(endpoint: &Endpoint, service: &Service, beside: bool) -> nix::Result<ListenerSocket> {
    match endpoint {
        Endpoint::Inet { transport, address, dual } => {
            match open_inet(*transport, *address, *dual, service, beside) {
                // A machine without IPv6 can have only the IPv4 half.
                Err(Errno::EAFNOSUPPORT) if *dual => {
                    let address = (Ipv4Addr::UNSPECIFIED, address.port()).into();
                    open_inet(*transport, address, false, service, beside)
                }
                result => result,
            }
        }
        Endpoint::UnixStream(path) => open_unix(path, SockType::Stream, service),
        Endpoint::UnixDatagram(path) => open_unix(path, SockType::Datagram, service),
    }
}

fn open_inet(
    transport: Transport,
    address: SocketAddr,
    dual: bool,
    service: &Service,
    beside: bool,
) -> nix::Result<ListenerSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match transport {
        Transport::Tcp => (SockType::Stream, libc::IPPROTO_TCP),
        Transport::Mptcp => (SockType::Stream, libc::IPPROTO_MPTCP),
        Transport::Udp => (SockType::Datagram, libc::IPPROTO_UDP),
    };
    let socket = new_socket(family, kind, protocol)?;
    if transport != Transport::Udp {
        // Not for UDP, where it would let two programs share a port.
        net::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        net::setsockopt(&socket, sockopt::Ipv6V6Only, &!dual)?;
    }
    if beside {
        set_reuse_port(&socket, true)?;
    }
    set_options(&socket, transport != Transport::Udp, &service.socket, &SocketOptions::default())?;
    net::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    start_listening(&socket, kind, &service.socket)?;
    Ok(ListenerSocket::new(socket, &service.socket))
}

fn open_unix(path: &Path, kind: SockType, service: &Service) -> nix::Result<ListenerSocket> {
    let socket = new_socket(AddressFamily::Unix, kind, 0)?;
    set_options(&socket, false, &service.socket, &SocketOptions::default())?;
    let file = SocketFile::bind(&socket, kind, path, service.socket.mode.unwrap_or(UNIX_MODE))?;
    change_owner(&file, service)?;
    start_listening(&socket, kind, &service.socket)?;
    let mut opened = ListenerSocket::new(socket, &service.socket);
    opened.file = Some(file);
    Ok(opened)
}

/// The mode of a Unix socket's file unless `mode` sets another: every user may connect, as with a TCP port
/// (unix(7)).
const UNIX_MODE: u32 = 0o666;

fn change_owner(file: &SocketFile, service: &Service) -> nix::Result<()> {
    service.socket.owner.map_or(Ok(()), |(uid, gid)| file.change_owner(Some(uid), Some(gid)))
}

fn new_socket(family: AddressFamily, kind: SockType, protocol: i32) -> nix::Result<OwnedFd> {
    let socket = socket::create(family as i32, kind as i32, protocol).and_then(descriptor::move_high);
    socket.map_err(|error| errno_of(&error))
}

fn start_listening(socket: &OwnedFd, kind: SockType, options: &SocketOptions) -> nix::Result<()> {
    if kind == SockType::Datagram {
        return Ok(());
    }
    // The kernel limits the length to net.core.somaxconn, which is the right default.
    let length = options.backlog.map_or(i32::from(i16::MAX), |length| i32::try_from(length).unwrap_or(i32::MAX));
    net::listen(socket, Backlog::new(length).unwrap_or(Backlog::MAXCONN))
}

/// Sets each option whose value differs from `before`, which is another table's or the kernel's default.
fn set_options(socket: &OwnedFd, tcp: bool, wanted: &SocketOptions, before: &SocketOptions) -> nix::Result<()> {
    let set =
        |level, name, value: i32| socket::set_option(socket, level, name, value).map_err(|error| errno_of(&error));
    if wanted.keepalive != before.keepalive {
        set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, wanted.keepalive.into())?;
    }
    if tcp && wanted.nodelay != before.nodelay {
        set(libc::IPPROTO_TCP, libc::TCP_NODELAY, wanted.nodelay.into())?;
    }
    if tcp && wanted.defer_accept != before.defer_accept {
        let seconds = wanted.defer_accept.map_or(0, |time| i32::try_from(time.as_secs()).unwrap_or(i32::MAX));
        set(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)?;
    }
    if wanted.freebind != before.freebind {
        net::setsockopt(socket, sockopt::IpFreebind, &wanted.freebind)?;
    }
    if wanted.device != before.device {
        net::setsockopt(socket, sockopt::BindToDevice, &wanted.device.clone().unwrap_or_default().into())?;
    }
    if wanted.mark != before.mark {
        net::setsockopt(socket, sockopt::Mark, &wanted.mark.unwrap_or(0))?;
    }
    // A buffer size that the new table does not set stays: the kernel has no way back to its default.
    if let Some(size) = wanted.send_buffer.filter(|_| wanted.send_buffer != before.send_buffer) {
        net::setsockopt(socket, sockopt::SndBuf, &(size as usize))?;
    }
    if let Some(size) = wanted.receive_buffer.filter(|_| wanted.receive_buffer != before.receive_buffer) {
        net::setsockopt(socket, sockopt::RcvBuf, &(size as usize))?;
    }
    Ok(())
}

impl ListenerSocket {
    fn new(socket: OwnedFd, options: &SocketOptions) -> Self {
        Self { descriptor: Inheritable(socket), options: options.clone(), file: None, filtered: false }
    }

    /// The local address of every connection; `None` if the socket listens on all addresses.
    pub(super) fn fixed_address(&self) -> Option<SocketAddr> {
        let address = socket::local_address(self.descriptor.as_fd()).ok().flatten()?;
        (!address.ip().is_unspecified()).then_some(address)
    }

    /// Changes the options to those of a new table.
    pub(super) fn change_options(&mut self, endpoint: &Endpoint, service: &Service) -> nix::Result<()> {
        let tcp = is_tcp(endpoint);
        set_options(&self.descriptor.0, tcp, &service.socket, &self.options)?;
        if service.socket.backlog != self.options.backlog && !endpoint.is_datagram() {
            start_listening(&self.descriptor.0, SockType::Stream, &service.socket)?;
        }
        self.change_file(service)?;
        self.options = service.socket.clone();
        Ok(())
    }

    /// Changes the mode and owner to those of a new table, if the file is still ours.
    fn change_file(&self, service: &Service) -> nix::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mode = service.socket.mode.unwrap_or(UNIX_MODE);
        if mode != self.options.mode.unwrap_or(UNIX_MODE) {
            file.change_mode(mode)?;
        }
        if service.socket.owner != self.options.owner { change_owner(file, service) } else { Ok(()) }
    }
}

fn is_tcp(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Inet { transport: Transport::Tcp | Transport::Mptcp, .. })
}

/// Takes the socket for `endpoint` out of those that the service manager passed, if it is among them.
fn claim_passed(passed: &mut Vec<OwnedFd>, endpoint: &Endpoint, service: &Service) -> Option<ListenerSocket> {
    let index = passed.iter().position(|socket| listens_on(socket, endpoint))?;
    let socket = passed.swap_remove(index);
    // The service manager made the socket, so an option that can't be set on it is no error here.
    let _ = set_options(&socket, is_tcp(endpoint), &service.socket, &SocketOptions::default());
    // The service manager may have attached a packet filter to it.
    Some(ListenerSocket { filtered: true, ..ListenerSocket::new(socket, &service.socket) })
}

fn listens_on(socket: &OwnedFd, endpoint: &Endpoint) -> bool {
    let Ok(kind) = net::getsockopt(socket, sockopt::SockType) else { return false };
    if (kind == SockType::Datagram) != endpoint.is_datagram() {
        return false;
    }
    match endpoint {
        Endpoint::Inet { address, dual, .. } => {
            let only = net::getsockopt(socket, sockopt::Ipv6V6Only).unwrap_or(true);
            let same = socket::local_address(socket.as_fd()).ok().flatten() == Some(*address);
            same && (address.is_ipv4() || *dual != only)
        }
        Endpoint::UnixStream(path) | Endpoint::UnixDatagram(path) => {
            net::getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok_and(|own| own.path() == Some(path.as_path()))
        }
    }
}

impl<D: AsFd, F> AsFd for ListenerSocket<D, F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
