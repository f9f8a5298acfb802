//! The small services over UDP: a handler serves all clients of a socket, until no datagram comes for a while.
//!
//! The source address of a datagram may be forged. A service that answers everybody can be made to exchange
//! datagrams with another one without end (CVE-1999-0103), or to flood a third party. Therefore it does not answer
//!
//! - a port below 1024, since those belong to services (xinetd and OpenBSD's inetd have the same rule), nor a port of the
//!   table's own datagram services;
//! - an address that is not of a single host, nor a datagram that was sent to more than one host.
//!
//! An answer is never longer than the request, except for the 26 bytes of `daytime` and the 4 of `time`, which fit
//! into the shortest frame.
//!
//! If the daemon must check the sender (`allow`, `deny` or rates), a handler serves one source alone. It ends when
//! another source sends a datagram, and leaves this one in the socket, so that the daemon checks that source.
//!
//! A datagram without an answer is read and dropped; the first one of each handler is reported on standard error.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::command::{Builtin, BuiltinContext, BuiltinKind};
use super::failure::{BuiltinFailure, BuiltinResult};
use super::text;
use crate::exit;
use crate::sys::{clock, socket};

/// Ports below this one belong to services, not to clients (`IPPORT_RESERVED`).
pub(crate) const CLIENT_PORT_MIN: u16 = 1024;

/// One byte more than the largest payload of a datagram.
const DATAGRAM_LEN_MAX: usize = 65_536;

/// The longest answer of chargen in bytes (RFC 864).
const CHARGEN_LEN_MAX: usize = 512;

/// After this time a busy handler ends too. The daemon at once starts another one, with the settings of the current
/// table.
const HANDLER_LIFETIME_MAX: Duration = Duration::from_secs(60);

/// Serves the clients of a socket. `complain` is called for the first datagram that gets no answer.
pub(super) fn serve_socket(
    socket: &OwnedFd,
    builtin: &Builtin,
    context: &BuiltinContext,
    complain: impl Fn(&str),
) -> BuiltinResult {
    let wrong =
        |word: &String| word.parse().map_err(|_| BuiltinFailure::new(exit::USAGE, format!("{word:?} is no port")));
    let own_ports = context.words.iter().map(wrong).collect::<Result<Vec<u16>, _>>()?;
    let mut service = match &builtin.kind {
        BuiltinKind::Redirect(_) | BuiltinKind::Tcpmux => {
            return Err(BuiltinFailure::new(exit::USAGE, "this serves connections, and descriptor 0 takes datagrams"));
        }
        kind => DatagramService { kind: kind.clone(), lines: text::chargen_lines(), next: 0 },
    };
    // Makes the kernel report the address to which a datagram was sent. One of the two options is for the other
    // family.
    let v4 = setsockopt(socket, sockopt::Ipv4PacketInfo, &true);
    let v6 = setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true);
    v4.or(v6).map_err(|errno| BuiltinFailure::system("packet information")(errno.into()))?;
    let end = clock::monotonic() + HANDLER_LIFETIME_MAX;
    let mut complained = false;
    let mut source = None;
    let mut receiver = Receiver::new();
    while clock::monotonic() < end && wait_readable(socket, builtin.idle_timeout)? {
        if context.one_source && !is_same_source(socket, &mut source) {
            break;
        }
        let Some(received) = receiver.receive(socket) else { continue };
        match received.refusal_reason(&own_ports) {
            None => service.send_answer(socket, &received, receiver.bytes(&received)),
            Some(why) if !complained && service.kind != BuiltinKind::Discard => {
                complained = true;
                complain(&format!("no answer to {}: {why}", received.from));
            }
            Some(_) => {}
        }
    }
    Ok(exit::DONE)
}

/// Waits for a datagram. Whether one came.
fn wait_readable(socket: &OwnedFd, idle: Duration) -> Result<bool, BuiltinFailure> {
    let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(idle).unwrap_or(PollTimeout::MAX);
    match poll(&mut set, timeout) {
        Ok(found) => Ok(found > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(BuiltinFailure::system("poll")(errno.into())),
    }
}

/// Whether the next datagram comes from the source that is being served. The first datagram sets the source.
fn is_same_source(socket: &OwnedFd, source: &mut Option<IpAddr>) -> bool {
    match socket::peek_sender(socket.as_fd()) {
        Ok(Some(sender)) => *source.get_or_insert(sender.ip()) == sender.ip(),
        // The datagram is gone, or has no internet address; receiving it will tell.
        Ok(None) | Err(_) => true,
    }
}

/// A datagram that was received; its bytes are in the receiver's buffer.
struct Received {
    size: usize,
    address: SockaddrStorage,
    from: SocketAddr,
    /// The address that it was sent to.
    to: IpAddr,
    /// Whether that is an address of this machine alone, not a broadcast or multicast address.
    to_us_alone: bool,
    interface: u32,
}

struct Receiver {
    bytes: Vec<u8>,
    space: Vec<u8>,
}

impl Receiver {
    fn new() -> Self {
        Self { bytes: vec![0; DATAGRAM_LEN_MAX], space: nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo) }
    }

    fn bytes(&self, received: &Received) -> &[u8] {
        &self.bytes[..received.size.min(self.bytes.len())]
    }

    /// Receives a datagram. `None` if there is none, or if its source or destination is unknown.
    fn receive(&mut self, socket: &OwnedFd) -> Option<Received> {
        let mut slices = [IoSliceMut::new(&mut self.bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut self.space), flags).ok()?;
        let address = message.address?;
        let (mut to, mut to_us_alone, mut interface) = (None, false, 0);
        for control in message.cmsgs().ok()? {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let (sent_to, ours) = (info.ipi_addr.s_addr, info.ipi_spec_dst.s_addr);
                    let address = Ipv4Addr::from_bits(u32::from_be(sent_to));
                    // For broadcast and multicast the two differ: the second is one of our addresses (ip(7)). It is
                    // missing in a datagram that came before the option was set.
                    to_us_alone = if ours == 0 { is_unicast(address) } else { sent_to == ours };
                    to = Some(IpAddr::V4(address));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let address = IpAddr::from(info.ipi6_addr.s6_addr);
                    (to, to_us_alone, interface) = (Some(address), !address.is_multicast(), info.ipi6_ifindex);
                }
                _ => {}
            }
        }
        let from = socket_address(&address)?;
        Some(Received { size: message.bytes, address, from, to: to?, to_us_alone, interface })
    }
}

/// Whether this is the address of a single machine. The kernel refuses to connect a datagram socket to a broadcast
/// address (connect(2), `EACCES`). Connecting sends nothing.
fn is_unicast(address: Ipv4Addr) -> bool {
    let connected = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((address, 9)));
    connected.is_ok() && !address.is_multicast()
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| {
        let v6 = address.as_sockaddr_in6()?;
        Some(SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into())
    })
}

impl Received {
    /// The reason why this datagram gets no answer, if there is one.
    fn refusal_reason(&self, own_ports: &[u16]) -> Option<&'static str> {
        let no_host = match self.from.ip().to_canonical() {
            IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast() || v4.octets()[0] == 0,
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
        };
        match self.from.port() {
            _ if no_host => Some("that is no single host"),
            _ if !self.to_us_alone => Some("it has sent to many at once"),
            0..CLIENT_PORT_MIN => Some("ports below 1024 are services, which might answer back"),
            port if own_ports.contains(&port) => Some("that is the port of a service of this table"),
            _ => None,
        }
    }
}

struct DatagramService {
    kind: BuiltinKind,
    lines: Vec<u8>,
    /// The offset in `lines` at which the next answer of chargen begins.
    next: usize,
}

impl DatagramService {
    /// Sends an answer, unless the send buffer is full.
    fn send_answer(&mut self, socket: &OwnedFd, to: &Received, bytes: &[u8]) {
        let now = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
        let _ = match self.kind {
            BuiltinKind::Echo => send_from(socket, to, bytes),
            BuiltinKind::Chargen => send_from(socket, to, self.next_characters(bytes.len())),
            BuiltinKind::Daytime => send_from(socket, to, text::daytime_line(now).as_bytes()),
            BuiltinKind::Time => send_from(socket, to, &text::rfc868_time(now)),
            BuiltinKind::Discard | BuiltinKind::Tcpmux | BuiltinKind::Redirect(_) => Ok(()),
        };
    }

    /// At most `most` characters, beginning with the next line.
    fn next_characters(&mut self, most: usize) -> &[u8] {
        let line = self.lines.iter().position(|byte| *byte == b'\n').map_or(self.lines.len(), |end| end + 1);
        if self.next + CHARGEN_LEN_MAX > self.lines.len() {
            self.next = 0;
        }
        let start = self.next;
        self.next += line;
        &self.lines[start..start + most.min(CHARGEN_LEN_MAX)]
    }
}

/// Sends an answer from the address to which the request was sent.
fn send_from(socket: &OwnedFd, to: &Received, bytes: &[u8]) -> io::Result<()> {
    let (v4, v6);
    let from = match to.to {
        IpAddr::V4(address) => {
            let ours = libc::in_addr { s_addr: address.to_bits().to_be() };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: ours, ipi_addr: libc::in_addr { s_addr: 0 } };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(address) => {
            // Only a link-local address needs its interface; any other answer may leave through another one.
            let ipi6_ifindex = if address.is_unicast_link_local() { to.interface } else { 0 };
            v6 = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    let flags = MsgFlags::MSG_DONTWAIT;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &[from], flags, Some(&to.address))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(from: &str, to_us_alone: bool) -> Received {
        let from: SocketAddr = from.parse().unwrap();
        Received { size: 1, address: from.into(), from, to: [127, 0, 0, 1].into(), to_us_alone, interface: 0 }
    }

    #[test]
    fn services_crowds_and_own_ports_get_no_answer() {
        let own = [10_007, 10_019];
        for (from, alone, part) in [
            ("192.0.2.1:0", true, "below 1024"),
            ("192.0.2.1:7", true, "below 1024"),
            ("192.0.2.1:1023", true, "below 1024"),
            ("[2001:db8::1]:19", true, "below 1024"),
            ("192.0.2.1:10007", true, "of this table"),
            ("[::1]:10019", true, "of this table"),
            ("255.255.255.255:5000", true, "no single host"),
            ("224.0.0.1:5000", true, "no single host"),
            ("0.0.0.0:5000", true, "no single host"),
            ("[ff02::1]:5000", true, "no single host"),
            ("[::ffff:224.0.0.1]:5000", true, "no single host"),
            ("192.0.2.1:5000", false, "many"),
        ] {
            assert!(received(from, alone).refusal_reason(&own).is_some_and(|why| why.contains(part)), "{from}");
        }
        for from in ["192.0.2.1:1024", "192.0.2.1:65535", "[2001:db8::1]:5000"] {
            assert_eq!(received(from, true).refusal_reason(&own), None, "{from}");
        }
    }

    #[test]
    fn the_address_of_a_crowd_is_known() {
        assert!(is_unicast(Ipv4Addr::LOCALHOST) && is_unicast(Ipv4Addr::new(127, 5, 6, 7)));
        for crowd in ["127.255.255.255", "255.255.255.255", "224.0.0.1"] {
            assert!(!is_unicast(crowd.parse().unwrap()), "{crowd}");
        }
    }

    #[test]
    fn chargen_says_no_more_than_it_was_told() {
        let mut service = DatagramService { kind: BuiltinKind::Chargen, lines: text::chargen_lines(), next: 0 };
        for asked in [0, 1, 74, 511, 512, 513, 65_507] {
            for _ in 0..200 {
                assert_eq!(service.next_characters(asked).len(), asked.min(512));
            }
        }
    }
}
