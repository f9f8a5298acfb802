//! Opening listening sockets: create, set options, bind, listen; or find one among those that the service manager passed.
//!
//! [`System::open_sockets`] opens every new socket of a table before anything is changed, and gives all that could not be opened.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::socket::{self as net, AddressFamily, Backlog, SockType, SockaddrStorage, UnixAddr, sockopt};

use serde::{Deserialize, Serialize};

use super::System;
use crate::config::{Service, SocketOptions};
use crate::dispatch::Dispatcher;
use crate::dispatch::commit::{NewSocket, NewSockets};
use crate::dispatch::listeners::Listeners;
use crate::net::socket_file::SocketFile;
use crate::net::{Endpoint, Transport};
use crate::sys::descriptor::{self, Inheritable};
use crate::sys::socket;

/// A socket that could not be opened.
#[derive(Debug)]
pub struct OpenError {
    /// The service's name and where its entry stands, then the endpoint and what is wrong.
    pub message: String,
    /// The reason.
    pub errno: Errno,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An open listening socket and what must be undone with it. An upgrade hands it over as it is; `D` and `F` are plain
/// values where it is only to be looked at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Socket<D = Inheritable, F = SocketFile> {
    pub(super) descriptor: D,
    /// The file of a Unix socket that we have made.
    file: Option<F>,
    /// The options that are set.
    options: SocketOptions,
    /// May accepted connections have inherited a packet filter?
    pub(super) filtered: bool,
}

impl Dispatcher<System> {
    /// As [`System::open_sockets`], beside the sockets that are open.
    ///
    /// # Errors
    /// All that could not be opened; then none is.
    pub fn open_sockets(&mut self, services: &[Rc<Service>]) -> Result<NewSockets<Socket>, Vec<OpenError>> {
        let (system, listeners) = self.kernel_and_listeners();
        system.open_sockets(services, listeners)
    }
}

impl System {
    /// Opens every socket of the enabled services that is not among the `open` ones, or finds it among those that the
    /// service manager passed.
    ///
    /// # Errors
    /// All that could not be opened; then none is.
    fn open_sockets(
        &mut self,
        services: &[Rc<Service>],
        open: &Listeners<Self>,
    ) -> Result<NewSockets<Socket>, Vec<OpenError>> {
        let kept: HashSet<&Endpoint> = open.iter().map(|(_, listener)| &*listener.endpoint).collect();
        let (mut fresh, mut errors) = (NewSockets::default(), Vec::new());
        for service in services {
            for endpoint in service.listen.iter().filter(|endpoint| !kept.contains(endpoint)) {
                let neighbours = open.iter().filter(|(_, one)| one.endpoint.overlaps(endpoint));
                match self.claim_or_open(endpoint, service, neighbours.map(|(_, one)| &one.socket)) {
                    Ok(socket) => fresh.extend(socket.map(|socket| (endpoint.clone(), socket))),
                    Err(error) => errors.push(error),
                }
            }
        }
        if errors.is_empty() { Ok(fresh) } else { Err(errors) }
    }

    fn claim_or_open<'a>(
        &mut self,
        endpoint: &Endpoint,
        service: &Service,
        neighbours: impl Iterator<Item = &'a Socket>,
    ) -> Result<Option<NewSocket<Socket>>, OpenError> {
        if let Some(socket) = claim(&mut self.passed, endpoint, service) {
            return Ok(Some(NewSocket { socket, how: "adopted" }));
        }
        let opened = open(endpoint, service, neighbours)?;
        Ok(opened.map(|socket| NewSocket { socket, how: "opened" }))
    }
}

/// Opens `endpoint`. `None` if it is the IPv6 half of a service on a machine without IPv6.
///
/// `neighbours` are open listeners that may be in its way: a dual-stack socket, say, where the new table wants an IPv4
/// one. A socket is opened beside them, so that both exist until the new table is in force.
fn open<'a>(
    endpoint: &Endpoint,
    service: &Service,
    neighbours: impl Iterator<Item = &'a Socket>,
) -> Result<Option<Socket>, OpenError> {
    let result = match try_open(endpoint, service, false) {
        Err(Errno::EAFNOSUPPORT) if has_ipv4_half(endpoint, service) => return Ok(None),
        Err(Errno::EADDRINUSE) => open_beside(endpoint, service, &neighbours.collect::<Vec<_>>()),
        result => result,
    };
    result.map(Some).map_err(|errno| OpenError {
        message: format!("{}: services.{}.listen: {endpoint}: {}", service.origin, service.name, explain(errno)),
        errno,
    })
}

/// Opens a socket beside others of ours. They and it have `SO_REUSEPORT` (socket(7)) while it is bound and not longer.
/// Even so the kernel may let another program of the same user share the port afterwards, if it sets the option too.
fn open_beside(endpoint: &Endpoint, service: &Service, neighbours: &[&Socket]) -> nix::Result<Socket> {
    if neighbours.is_empty() {
        return Err(Errno::EADDRINUSE);
    }
    // What can't be set shows when the socket is bound.
    let set_all = |on| {
        for one in neighbours {
            let _ = set_beside(&one.descriptor, on);
        }
    };
    set_all(true);
    let result = try_open(endpoint, service, true);
    set_all(false);
    let opened = result?;
    set_beside(&opened.descriptor, false)?;
    Ok(opened)
}

fn set_beside(socket: impl AsFd, on: bool) -> nix::Result<()> {
    net::setsockopt(&socket, sockopt::ReusePort, &on)
}

/// Plain `udp/PORT` stands for two sockets; without IPv6 the other one is enough.
fn has_ipv4_half(endpoint: &Endpoint, service: &Service) -> bool {
    let Endpoint::Inet { transport, address: SocketAddr::V6(v6), dual: false } = endpoint else { return false };
    let half = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.port()));
    let half = Endpoint::Inet { transport: *transport, address: half, dual: false };
    v6.ip().is_unspecified() && service.listen.contains(&half)
}

fn explain(errno: Errno) -> String {
    let hint = match errno {
        Errno::EADDRINUSE => {
            "another program listens there, or a handler that was lent the socket of a removed service"
        }
        Errno::EADDRNOTAVAIL => "this machine has no such address; `socket: {freebind: true}` binds all the same",
        Errno::EACCES => "ports below 1024 and foreign directories need root or a capability",
        Errno::EPERM => "this option needs root or CAP_NET_ADMIN",
        Errno::ENOENT => "the directory does not exist",
        _ => return errno.desc().to_owned(),
    };
    format!("{} ({hint})", errno.desc())
}

fn try_open(endpoint: &Endpoint, service: &Service, beside: bool) -> nix::Result<Socket> {
    match endpoint {
        Endpoint::Inet { transport, address, dual } => {
            match open_inet(*transport, *address, *dual, service, beside) {
                // A machine without IPv6: the IPv4 half is all that there can be.
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
) -> nix::Result<Socket> {
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
        set_beside(&socket, true)?;
    }
    set_options(&socket, transport != Transport::Udp, &service.socket, &SocketOptions::default())?;
    net::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, kind, &service.socket)?;
    Ok(Socket::new(socket, &service.socket))
}

fn open_unix(path: &Path, kind: SockType, service: &Service) -> nix::Result<Socket> {
    let socket = new_socket(AddressFamily::Unix, kind, 0)?;
    set_options(&socket, false, &service.socket, &SocketOptions::default())?;
    let file = SocketFile::bind(&socket, kind, path, service.socket.mode.unwrap_or(UNIX_MODE))?;
    give_to_owner(&file, service)?;
    listen(&socket, kind, &service.socket)?;
    let mut opened = Socket::new(socket, &service.socket);
    opened.file = Some(file);
    Ok(opened)
}

/// Everyone may connect, as with a TCP port; unix(7).
const UNIX_MODE: u32 = 0o666;

fn give_to_owner(file: &SocketFile, service: &Service) -> nix::Result<()> {
    service.socket.owner.map_or(Ok(()), |(uid, gid)| file.give(Some(uid), Some(gid)))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn new_socket(family: AddressFamily, kind: SockType, protocol: i32) -> nix::Result<OwnedFd> {
    let socket = socket::create(family as i32, kind as i32, protocol).map_err(errno)?;
    descriptor::move_high(socket).map_err(errno)
}

fn listen(socket: &OwnedFd, kind: SockType, options: &SocketOptions) -> nix::Result<()> {
    if kind == SockType::Datagram {
        return Ok(());
    }
    // The kernel caps it at net.core.somaxconn, which is what one wants by default.
    let length = options.backlog.map_or(i32::from(i16::MAX), |length| i32::try_from(length).unwrap_or(i32::MAX));
    net::listen(socket, Backlog::new(length).unwrap_or(Backlog::MAXCONN))
}

/// Sets every option that is wanted otherwise than it was before: by another table, or by the kernel itself.
fn set_options(socket: &OwnedFd, tcp: bool, wanted: &SocketOptions, before: &SocketOptions) -> nix::Result<()> {
    let set = |level, name, value: i32| socket::set_option(socket, level, name, value).map_err(errno);
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
    // A size that is not asked for any more stays: the kernel has no way back to its default.
    if let Some(size) = wanted.send_buffer.filter(|_| wanted.send_buffer != before.send_buffer) {
        net::setsockopt(socket, sockopt::SndBuf, &(size as usize))?;
    }
    if let Some(size) = wanted.receive_buffer.filter(|_| wanted.receive_buffer != before.receive_buffer) {
        net::setsockopt(socket, sockopt::RcvBuf, &(size as usize))?;
    }
    Ok(())
}

impl Socket {
    fn new(socket: OwnedFd, options: &SocketOptions) -> Self {
        Self { descriptor: Inheritable(socket), options: options.clone(), file: None, filtered: false }
    }

    /// The address of every connection, if it does not listen on all addresses.
    pub(super) fn fixed_address(&self) -> Option<SocketAddr> {
        let address = socket::local_address(self.descriptor.as_fd()).ok().flatten()?;
        (!address.ip().is_unspecified()).then_some(address)
    }

    /// Takes over the options of a new table.
    pub(super) fn change_options(&mut self, endpoint: &Endpoint, service: &Service) -> nix::Result<()> {
        let tcp = is_tcp(endpoint);
        set_options(&self.descriptor.0, tcp, &service.socket, &self.options)?;
        if service.socket.backlog != self.options.backlog && !endpoint.is_datagram() {
            listen(&self.descriptor.0, SockType::Stream, &service.socket)?;
        }
        self.change_file(service)?;
        self.options = service.socket.clone();
        Ok(())
    }

    /// Takes over the mode and owner of a new table, if the file is still ours.
    fn change_file(&self, service: &Service) -> nix::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mode = service.socket.mode.unwrap_or(UNIX_MODE);
        if mode != self.options.mode.unwrap_or(UNIX_MODE) {
            file.change_mode(mode)?;
        }
        if service.socket.owner != self.options.owner { give_to_owner(file, service) } else { Ok(()) }
    }
}

fn is_tcp(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Inet { transport: Transport::Tcp | Transport::Mptcp, .. })
}

/// Takes the socket for `endpoint` out of those that were passed, if it is among them.
fn claim(passed: &mut Vec<OwnedFd>, endpoint: &Endpoint, service: &Service) -> Option<Socket> {
    let index = passed.iter().position(|socket| listens_on(socket, endpoint))?;
    let socket = passed.swap_remove(index);
    // Options that can't be set on a socket that was made elsewhere are the business of whoever made it.
    let _ = set_options(&socket, is_tcp(endpoint), &service.socket, &SocketOptions::default());
    // The process that has passed it may have put a packet filter on it.
    Some(Socket { filtered: true, ..Socket::new(socket, &service.socket) })
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

impl<D: AsFd, F> AsFd for Socket<D, F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
