//! Where a service listens: one socket, by transport and address or by path.
//!
//! An endpoint is a plain value that every module may use: it identifies a listener, a reload compares tables by it, and it
//! prints in the grammar of the key `listen`. The module `config` reads that grammar. Nothing here opens a socket or fails.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One socket to listen on. Two endpoints are the same socket if they are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Endpoint {
    /// An Internet socket with its transport protocol.
    Inet {
        /// TCP, Multipath TCP or UDP.
        transport: Transport,
        /// The address to bind to.
        address: SocketAddr,
        /// With an IPv6 address: accept IPv4 clients too (`IPV6_V6ONLY` off). Only for `[::]`.
        dual: bool,
    },
    /// A Unix socket of type `SOCK_STREAM`.
    UnixStream(PathBuf),
    /// A Unix socket of type `SOCK_DGRAM`.
    UnixDatagram(PathBuf),
}

/// The protocol of an Internet endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp,
    /// Multipath TCP (RFC 8684), which falls back to TCP with clients that do not know it.
    Mptcp,
    /// UDP (RFC 768), only for `wait` services.
    Udp,
}

impl Endpoint {
    /// Does this endpoint carry datagrams?
    #[must_use]
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::UnixDatagram(_) | Self::Inet { transport: Transport::Udp, .. })
    }

    /// Do the two exclude each other? Equal endpoints do, and two of one port where one binds to all addresses.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (
            Self::Inet { transport: mine, address: one, dual: both },
            Self::Inet { transport: theirs, address: two, dual: either },
        ) = (self, other)
        else {
            return self == other;
        };
        let same_protocol = (*mine == Transport::Udp) == (*theirs == Transport::Udp);
        let same_family = *both || *either || one.is_ipv4() == two.is_ipv4();
        let any = one.ip().is_unspecified() || two.ip().is_unspecified();
        same_protocol && one.port() == two.port() && same_family && (any || one.ip() == two.ip())
    }
}

/// Prints in the grammar of `listen`, with the family spelled out, so that it reads back to the same endpoint.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnixStream(path) => write!(f, "unix:{}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unix-dgram:{}", path.display()),
            Self::Inet { transport, address, dual } => {
                let transport = match transport {
                    Transport::Tcp => "tcp",
                    Transport::Mptcp => "mptcp",
                    Transport::Udp => "udp",
                };
                if *dual {
                    return write!(f, "{transport}/{}", address.port());
                }
                match (transport, address) {
                    ("mptcp", _) => write!(f, "mptcp/{address}"),
                    (_, SocketAddr::V4(v4)) if v4.ip().is_unspecified() => write!(f, "{transport}4/{}", v4.port()),
                    (_, SocketAddr::V6(v6)) if v6.ip().is_unspecified() => write!(f, "{transport}6/{}", v6.port()),
                    _ => write!(f, "{transport}/{address}"),
                }
            }
        }
    }
}
