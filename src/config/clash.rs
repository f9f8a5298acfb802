//! Finds endpoints that cannot both be bound: the kernel would refuse the second with "address in use".
//!
//! [`super::load::load_table`] calls [`find_clashes`] once for all services that are on. It is given endpoints in
//! reading order and gives pairs; the time is that of sorting.

use std::net::SocketAddr;
use std::path::Path;

use super::{Endpoint, Transport};

/// An endpoint that a service wants.
#[derive(Clone, Debug)]
pub(crate) struct Claim<'a> {
    pub endpoint: &'a Endpoint,
    /// The interface that it is bound to: equal addresses on two interfaces do not meet.
    pub device: Option<&'a str>,
    /// The claimant's number, in reading order.
    pub number: usize,
}

/// Endpoints can clash only if this is equal.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SharedPlace<'a> {
    Unix(&'a Path),
    Port { datagram: bool, port: u16 },
}

fn shared_place(endpoint: &Endpoint) -> SharedPlace<'_> {
    match endpoint {
        Endpoint::UnixStream(path) | Endpoint::UnixDatagram(path) => SharedPlace::Unix(path),
        Endpoint::Inet { transport, address, .. } => {
            SharedPlace::Port { datagram: *transport == Transport::Udp, port: address.port() }
        }
    }
}

fn specific_address(endpoint: &Endpoint) -> Option<SocketAddr> {
    match endpoint {
        Endpoint::Inet { address, .. } => Some(*address).filter(|address| !address.ip().is_unspecified()),
        _ => None,
    }
}

/// Pairs of claims that clash, as the numbers of the earlier and the later; each claim is the later of one pair at
/// most.
pub(crate) fn find_clashes(claims: &[Claim<'_>]) -> Vec<(usize, usize)> {
    let mut sorted: Vec<&Claim<'_>> = claims.iter().collect();
    // In each place those for all addresses come first, then equal addresses side by side.
    sorted.sort_by_key(|claim| (shared_place(claim.endpoint), specific_address(claim.endpoint), claim.number));
    let mut pairs = Vec::new();
    for group in sorted.chunk_by(|a, b| shared_place(a.endpoint) == shared_place(b.endpoint)) {
        let (wild, single) = group.split_at(group.partition_point(|claim| specific_address(claim.endpoint).is_none()));
        for (index, claim) in wild.iter().enumerate() {
            pairs.extend(first_clash(&wild[..index], claim));
        }
        for equal in single.chunk_by(|a, b| specific_address(a.endpoint) == specific_address(b.endpoint)) {
            for (index, claim) in equal.iter().enumerate() {
                pairs.extend(first_clash(wild, claim).or_else(|| first_clash(&equal[..index], claim)));
            }
        }
    }
    pairs
}

fn first_clash(others: &[&Claim<'_>], claim: &Claim<'_>) -> Option<(usize, usize)> {
    let other = others.iter().find(|other| do_clash(other, claim))?;
    Some((other.number.min(claim.number), other.number.max(claim.number)))
}

/// Do two claims of one place, which are equal or of which one is for all addresses, meet?
fn do_clash(a: &Claim<'_>, b: &Claim<'_>) -> bool {
    let apart = a.device.is_some() && b.device.is_some() && a.device != b.device;
    let families = match (a.endpoint, b.endpoint) {
        (Endpoint::Inet { address: x, dual: dual_x, .. }, Endpoint::Inet { address: y, dual: dual_y, .. }) => {
            *dual_x || *dual_y || x.is_ipv4() == y.is_ipv4()
        }
        _ => true,
    };
    families && !apart
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::Ports;
    use super::super::machine::Local;
    use super::*;

    fn clashes(texts: &[&str]) -> Vec<(usize, usize)> {
        let endpoints: Vec<Endpoint> =
            texts.iter().map(|text| Ports::new(&Local).parse_endpoints(text).unwrap().remove(0)).collect();
        let claim = |(number, endpoint)| Claim { endpoint, device: None, number };
        find_clashes(&endpoints.iter().enumerate().map(claim).collect::<Vec<_>>())
    }

    #[test]
    fn what_the_kernel_refuses_is_found() {
        for pair in [
            ["80", "80"],
            ["80", "tcp4/80"],
            ["80", "tcp6/80"],
            ["80", "127.0.0.1:80"],
            ["80", "[::1]:80"],
            ["80", "mptcp/80"],
            ["tcp4/80", "127.0.0.1:80"],
            ["127.0.0.1:80", "tcp4/80"],
            ["127.0.0.1:80", "127.0.0.1:80"],
            ["udp6/69", "udp/[::1]:69"],
            ["unix:/a", "unix-dgram:/a"],
        ] {
            assert_eq!(clashes(&pair), [(0, 1)], "{pair:?}");
        }
    }

    #[test]
    fn what_can_stand_side_by_side_is_left_alone() {
        let fine = ["80", "81", "udp4/80", "udp6/80", "tcp4/82", "tcp6/82", "127.0.0.1:83", "127.0.0.2:83", "unix:/a"];
        assert_eq!(clashes(&fine), []);
    }

    #[test]
    fn other_interfaces_do_not_meet() {
        let endpoint = Ports::new(&Local).parse_endpoints("80").unwrap().remove(0);
        let claim = |number, device| Claim { endpoint: &endpoint, device, number };
        assert_eq!(find_clashes(&[claim(0, Some("eth0")), claim(1, Some("eth1"))]), []);
        assert_eq!(find_clashes(&[claim(0, Some("eth0")), claim(1, None)]), [(0, 1)]);
    }
}
