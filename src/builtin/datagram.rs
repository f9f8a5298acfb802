//! The small services over UDP: a handler serves all clients of a socket, until none comes for a while.
//!
//! Who sends a datagram may lie about where it comes from. So a service that answers everybody can be made to talk to
//! another one without end (CVE-1999-0103), or to bombard a third party. Hence what is answered, and how:
//!
//! - never a port below 1024, since those are services (xinetd and OpenBSD's inetd know this rule), nor a port of the
//!   daemon's own services of datagrams;
//! - never an address that is no single host, nor a datagram that was sent to more than one;
//! - never with more than was received, but for the 26 and 4 bytes of `daytime` and `time`, which fill what the shortest
//!   frame leaves free.
//!
//! Where the daemon has to ask who sends, by `allow`, `deny` or rates, a handler serves one source alone and ends when
//! another sends something, which it leaves in the socket: the daemon then asks about him.
//!
//! What is not answered is read and dropped; the first one of each handler is told on standard error.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::{Builtin, Failure, Outcome, RESERVED_PORTS, Told, What, text};
use crate::exit;
use crate::sys::{clock, socket};

/// The largest payload of a datagram, and one more.
const LARGEST: usize = 65_536;
/// The most that chargen sends (RFC 864).
const CHARACTERS: usize = 512;
/// After this time a busy handler ends too: the daemon starts another at once, by the table as it is then.
const LONGEST: Duration = Duration::from_secs(60);

/// Serves whoever sends something. `complain` is told of the first datagram that is not answered.
pub(super) fn serve(socket: &OwnedFd, builtin: &Builtin, told: &Told, complain: impl Fn(&str)) -> Outcome {
    let wrong = |word: &String| word.parse().map_err(|_| Failure::new(exit::USAGE, format!("{word:?} is no port")));
    let own_ports = told.words.iter().map(wrong).collect::<Result<Vec<u16>, _>>()?;
    let mut service = match &builtin.what {
        What::Redirect(_) | What::Tcpmux => {
            return Err(Failure::new(exit::USAGE, "this serves connections, and descriptor 0 takes datagrams"));
        }
        what => Service { what: what.clone(), lines: text::characters(), next: 0 },
    };
    // To know to whom a datagram was sent. One of the two is for the other family.
    let v4 = setsockopt(socket, sockopt::Ipv4PacketInfo, &true);
    let v6 = setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true);
    v4.or(v6).map_err(|errno| Failure::system("packet information")(errno.into()))?;
    let end = clock::monotonic() + LONGEST;
    let mut complained = false;
    let mut source = None;
    let mut receiver = Receiver::new();
    while clock::monotonic() < end && wait(socket, builtin.idle_timeout)? {
        if told.one_source && !is_of(socket, &mut source) {
            break;
        }
        let Some(received) = receiver.receive(socket) else { continue };
        match received.suspicion(&own_ports) {
            None => service.answer(socket, &received, receiver.bytes(&received)),
            Some(why) if !complained && *service.what() != What::Discard => {
                complained = true;
                complain(&format!("no answer to {}: {why}", received.from));
            }
            Some(_) => {}
        }
    }
    Ok(exit::DONE)
}

/// Waits for a datagram; false if none comes.
fn wait(socket: &OwnedFd, idle: Duration) -> Result<bool, Failure> {
    let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(idle).unwrap_or(PollTimeout::MAX);
    match poll(&mut set, timeout) {
        Ok(found) => Ok(found > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(Failure::system("poll")(errno.into())),
    }
}

/// Does the datagram that waits come from the source that was served so far? The first one decides who that is.
fn is_of(socket: &OwnedFd, source: &mut Option<IpAddr>) -> bool {
    match socket::peek_sender(socket.as_fd()) {
        Ok(Some(sender)) => *source.get_or_insert(sender.ip()) == sender.ip(),
        // It has gone, or has no sender to be asked about; receiving it will tell.
        Ok(None) | Err(_) => true,
    }
}

/// A datagram that was received; its bytes are the receiver's.
struct Received {
    size: usize,
    address: SockaddrStorage,
    from: SocketAddr,
    /// The address that it was sent to.
    to: IpAddr,
    /// Was that the address of this machine, and of no other?
    to_us_alone: bool,
    interface: u32,
}

struct Receiver {
    bytes: Vec<u8>,
    space: Vec<u8>,
}

impl Receiver {
    fn new() -> Self {
        Self { bytes: vec![0; LARGEST], space: nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo) }
    }

    fn bytes(&self, received: &Received) -> &[u8] {
        &self.bytes[..received.size.min(self.bytes.len())]
    }

    /// Takes a datagram, if there is one that says where it comes from and where it was sent.
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
                    // The two differ for what was sent to many: then the second is one of our addresses (ip(7)). It is
                    // missing from what came before the kernel was asked for it.
                    to_us_alone = if ours == 0 { is_single(address) } else { sent_to == ours };
                    to = Some(IpAddr::V4(address));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let address = IpAddr::from(info.ipi6_addr.s6_addr);
                    (to, to_us_alone, interface) = (Some(address), !address.is_multicast(), info.ipi6_ifindex);
                }
                _ => {}
            }
        }
        let from = internet(&address)?;
        Some(Received { size: message.bytes, address, from, to: to?, to_us_alone, interface })
    }
}

/// Is this the address of one machine? The kernel refuses to connect to those of many (connect(2), `EACCES`), and sends
/// nothing when it does connect a socket of datagrams.
fn is_single(address: Ipv4Addr) -> bool {
    let connected = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((address, 9)));
    connected.is_ok() && !address.is_multicast()
}

fn internet(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| {
        let v6 = address.as_sockaddr_in6()?;
        Some(SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into())
    })
}

impl Received {
    /// Why this gets no answer.
    fn suspicion(&self, own_ports: &[u16]) -> Option<&'static str> {
        let no_host = match self.from.ip().to_canonical() {
            IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast() || v4.octets()[0] == 0,
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
        };
        match self.from.port() {
            _ if no_host => Some("that is no single host"),
            _ if !self.to_us_alone => Some("it has sent to many at once"),
            0..RESERVED_PORTS => Some("ports below 1024 are services, which might answer back"),
            port if own_ports.contains(&port) => Some("that is the port of a service of this table"),
            _ => None,
        }
    }
}

struct Service {
    what: What,
    lines: Vec<u8>,
    /// Where in the lines the next answer of chargen begins.
    next: usize,
}

impl Service {
    fn what(&self) -> &What {
        &self.what
    }

    /// Answers as far as the socket takes it at once.
    fn answer(&mut self, socket: &OwnedFd, to: &Received, bytes: &[u8]) {
        let now = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
        let _ = match self.what {
            What::Echo => send(socket, to, bytes),
            What::Chargen => send(socket, to, self.characters(bytes.len())),
            What::Daytime => send(socket, to, text::daytime(now).as_bytes()),
            What::Time => send(socket, to, &text::seconds(now)),
            What::Discard | What::Tcpmux | What::Redirect(_) => Ok(()),
        };
    }

    /// At most so many characters, of a line that no answer has begun with for a while.
    fn characters(&mut self, most: usize) -> &[u8] {
        let line = self.lines.iter().position(|byte| *byte == b'\n').map_or(self.lines.len(), |end| end + 1);
        if self.next + CHARACTERS > self.lines.len() {
            self.next = 0;
        }
        let start = self.next;
        self.next += line;
        &self.lines[start..start + most.min(CHARACTERS)]
    }
}

/// Sends an answer from the address that the question was sent to.
fn send(socket: &OwnedFd, to: &Received, bytes: &[u8]) -> io::Result<()> {
    let (v4, v6);
    let from = match to.to {
        IpAddr::V4(address) => {
            let ours = libc::in_addr { s_addr: address.to_bits().to_be() };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: ours, ipi_addr: libc::in_addr { s_addr: 0 } };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(address) => {
            // Only a link-local address needs its interface; for all others the way back may be another one.
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
            assert!(received(from, alone).suspicion(&own).is_some_and(|why| why.contains(part)), "{from}");
        }
        for from in ["192.0.2.1:1024", "192.0.2.1:65535", "[2001:db8::1]:5000"] {
            assert_eq!(received(from, true).suspicion(&own), None, "{from}");
        }
    }

    #[test]
    fn the_address_of_a_crowd_is_known() {
        assert!(is_single(Ipv4Addr::LOCALHOST) && is_single(Ipv4Addr::new(127, 5, 6, 7)));
        for crowd in ["127.255.255.255", "255.255.255.255", "224.0.0.1"] {
            assert!(!is_single(crowd.parse().unwrap()), "{crowd}");
        }
    }

    #[test]
    fn chargen_says_no_more_than_it_was_told() {
        let mut service = Service { what: What::Chargen, lines: text::characters(), next: 0 };
        for asked in [0, 1, 74, 511, 512, 513, 65_507] {
            for _ in 0..200 {
                assert_eq!(service.characters(asked).len(), asked.min(512));
            }
        }
    }
}
