//! Which clients are accepted by address and by time of day, and which entry of `allow` or `deny` decides.
//!
//! Admission makes an [`Access`] when a table comes into force, and asks it for each connection. It is a value: it
//! reads no clock and no file, logs nothing, and never fails.
//!
//! The most specific network that contains an address decides; of two that are equally long, the one in `deny`. An
//! address in no network is accepted, unless there is an `allow`. The networks are flattened once into ranges that
//! don't overlap, each with the rule that decides there, so a decision is one binary search whatever the number of
//! networks. Networks of IPv4-mapped addresses (`::ffff:10.0.0.0/104`) are IPv4 networks, and others of IPv6
//! contain no IPv4 address, `::/0` included. Peers that aren't IP are not subject to networks.

mod ranges;
mod times;

pub(crate) use times::{LocalTime, Span};

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::net::Peer;
use ranges::{Network, Ranges};

/// The entry that decided, by its index in the list that [`Access::new`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    // The order matters: of equally long networks, the first in this order decides.
    /// An entry of `deny`.
    Deny(u32),
    /// An entry of `allow`.
    Allow(u32),
}

/// Whether a peer is accepted, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The peer is accepted.
    pub allowed: bool,
    /// The entry that decided. None where no network contains the peer: it is accepted without an `allow`.
    pub rule: Option<Rule>,
}

/// The `allow`, `deny` and `times` of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// There is an `allow`, so an address in no network is refused.
    has_allow_list: bool,
    times: Vec<Span>,
}

impl Access {
    /// Takes the lists as written, in any order. Of two equal entries the first is the one that is named. An empty
    /// `allow` is the same as none; without `times` the service is always open.
    pub fn new(allow: &[IpNet], deny: &[IpNet], times: &[Span]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let denied = (0..).map(Rule::Deny).zip(deny);
        let allowed = (0..).map(Rule::Allow).zip(allow);
        for (rule, network) in denied.chain(allowed) {
            match unmap_network(*network) {
                IpNet::V4(net) => v4.push(Network::new(net.network(), net.broadcast(), rule)),
                IpNet::V6(net) => v6.push(Network::new(net.network(), net.broadcast(), rule)),
            }
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6), has_allow_list: !allow.is_empty(), times: times.to_vec() }
    }

    /// Whether the networks accept `peer`.
    pub fn judge_peer(&self, peer: &Peer) -> Verdict {
        let Peer::Inet(address, _) = peer else {
            return Verdict { allowed: true, rule: None };
        };
        let rule = match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.find_rule(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.find_rule(v6.to_bits()),
        };
        let allowed = match rule {
            Some(Rule::Allow(_)) => true,
            Some(Rule::Deny(_)) => false,
            None => !self.has_allow_list,
        };
        Verdict { allowed, rule }
    }

    /// Whether the service is open at this local time.
    pub(crate) fn is_open_at(&self, now: LocalTime) -> bool {
        times::is_open_at(&self.times, now)
    }

    /// The next local time at which the service is open, which may be `now`. None if it never will be.
    pub(crate) fn next_opening(&self, now: LocalTime) -> Option<LocalTime> {
        times::next_opening(&self.times, now)
    }
}

/// A network of IPv4-mapped addresses (RFC 4291 §2.5.5.2) is one of IPv4.
pub(crate) fn unmap_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests;
