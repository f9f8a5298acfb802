//! The source of a connection: an address becomes the [`Source`] under which it is counted.
//!
//! Anyone may call this. It holds no state and cannot fail: every peer address maps to exactly one source.
//! An IPv4 address that arrives mapped into IPv6 (RFC 4291 §2.5.5.2) is the IPv4 source; an IPv6 address is cut to
//! its prefix, because one host usually owns a whole /64 (RFC 6177); a Unix peer is its uid.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The lengths of the prefixes that distinguish one source from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefixes {
    /// The length for IPv4, 0 to 32.
    pub ipv4: u8,
    /// The length for IPv6, 0 to 128.
    pub ipv6: u8,
}

impl Prefixes {
    /// The default of `per_source`: an IPv4 address, an IPv6 /64.
    pub const SOURCE: Self = Self { ipv4: 32, ipv6: 64 };
    /// The default of `per_network`: an IPv4 /24, an IPv6 /48.
    pub const NETWORK: Self = Self { ipv4: 24, ipv6: 48 };
}

/// The other end of a connection, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// An IP address and a port. The address is canonical: an IPv4-mapped one is IPv4.
    Inet(IpAddr, u16),
    /// A process on this machine, by its credentials when it connected (unix(7), `SO_PEERCRED`).
    Unix {
        /// The effective user id.
        uid: u32,
        /// The effective group id.
        gid: u32,
    },
    /// No single client: the handler of a `wait` service reads the socket itself.
    Unknown,
}

impl Peer {
    /// The source under which this peer is counted.
    #[must_use]
    pub fn source(&self, prefixes: Prefixes) -> Source {
        match *self {
            Self::Inet(address, _) => Source::from_address(address, prefixes),
            Self::Unix { uid, .. } => Source::Uid(uid),
            Self::Unknown => Source::Unknown,
        }
    }
}

/// Prints the address, or `uid:N`, or `-`, as logs show it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address, _) => address.fmt(f),
            Self::Unix { uid, .. } => write!(f, "uid:{uid}"),
            Self::Unknown => f.write_str("-"),
        }
    }
}

/// The key under which connections are counted and limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// An IPv4 network: its first address and its length.
    V4(Ipv4Addr, u8),
    /// An IPv6 network: its first address and its length.
    V6(Ipv6Addr, u8),
    /// A local user, who connects through a Unix socket.
    Uid(u32),
    /// The source of an unknown peer.
    Unknown,
}

impl Source {
    /// The source of `address`: the canonical address with its host bits cleared.
    #[must_use]
    pub fn from_address(address: IpAddr, prefixes: Prefixes) -> Self {
        let Prefixes { ipv4, ipv6 } = prefixes;
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(Ipv4Addr::from_bits(v4.to_bits() & v4_mask(ipv4)), ipv4),
            IpAddr::V6(v6) => Self::V6(Ipv6Addr::from_bits(v6.to_bits() & v6_mask(ipv6)), ipv6),
        }
    }

    /// The source as a network; `None` for a user or an unknown peer.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        match *self {
            Self::V4(address, length) => IpNet::new(address.into(), length).ok(),
            Self::V6(address, length) => IpNet::new(address.into(), length).ok(),
            Self::Uid(_) | Self::Unknown => None,
        }
    }

    /// Do the source and a network have an address in common?
    #[must_use]
    pub fn overlaps(&self, network: IpNet) -> bool {
        self.network().is_some_and(|own| own.contains(&network) || network.contains(&own))
    }
}

/// Prints a host as its address and a network as `ADDRESS/LENGTH`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address, 32) => address.fmt(f),
            Self::V4(address, length) => write!(f, "{address}/{length}"),
            Self::V6(address, 128) => address.fmt(f),
            Self::V6(address, length) => write!(f, "{address}/{length}"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Unknown => f.write_str("-"),
        }
    }
}

fn v4_mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0)
}

fn v6_mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str, prefixes: Prefixes) -> String {
        Source::from_address(address.parse().unwrap(), prefixes).to_string()
    }

    #[test]
    fn an_ipv4_address_is_itself_and_a_mapped_one_too() {
        assert_eq!(source("203.0.113.9", Prefixes::SOURCE), "203.0.113.9");
        assert_eq!(source("::ffff:203.0.113.9", Prefixes::SOURCE), "203.0.113.9");
    }

    #[test]
    fn an_ipv6_source_is_its_64() {
        assert_eq!(source("2001:db8:1:2:3:4:5:6", Prefixes::SOURCE), "2001:db8:1:2::/64");
        assert_eq!(source("2001:db8:1:2:ffff::1", Prefixes::SOURCE), "2001:db8:1:2::/64");
        assert_ne!(source("2001:db8:1:3::1", Prefixes::SOURCE), "2001:db8:1:2::/64");
    }

    #[test]
    fn networks_and_the_ends_of_the_range() {
        assert_eq!(source("203.0.113.9", Prefixes::NETWORK), "203.0.113.0/24");
        assert_eq!(source("2001:db8:1:2::1", Prefixes::NETWORK), "2001:db8:1::/48");
        let all = Prefixes { ipv4: 0, ipv6: 0 };
        assert_eq!(source("203.0.113.9", all), "0.0.0.0/0");
        assert_eq!(source("2001:db8::1", all), "::/0");
        let host = Prefixes { ipv4: 32, ipv6: 128 };
        assert_eq!(source("2001:db8::1", host), "2001:db8::1");
    }

    #[test]
    fn a_unix_peer_is_its_uid() {
        let peer = Peer::Unix { uid: 1000, gid: 100 };
        assert_eq!(peer.source(Prefixes::SOURCE), Source::Uid(1000));
        assert_eq!(peer.to_string(), "uid:1000");
    }
}
