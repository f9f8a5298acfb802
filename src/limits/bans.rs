//! The networks that the administrator has banned, each for a time or until further notice.
//!
//! Admission alone uses this; time is an argument. A look-up costs as many steps as there are different prefix
//! lengths, whatever the number of networks. Expired bans are removed when another is added or taken back. Only one
//! ban too many fails.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::limits::access::unmap_network;

const MAX_BANS: usize = 65_536;

/// There is no room for another ban: those in force take as much memory as the daemon is willing to spend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyBans;

impl fmt::Display for TooManyBans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAX_BANS} networks are banned, and that is the most there can be")
    }
}

impl std::error::Error for TooManyBans {}

#[derive(Debug, Default)]
pub(crate) struct Bans {
    /// The end of each ban on the monotonic clock; none if it holds until further notice.
    networks: HashMap<IpNet, Option<Duration>>,
    /// How many networks there are of each prefix length, IPv4 and IPv6 apart.
    lengths: BTreeMap<(bool, u8), usize>,
    changes: u64,
}

fn is_in_force(until: Option<Duration>, now: Duration) -> bool {
    until.is_none_or(|until| until > now)
}

fn family_and_length(network: &IpNet) -> (bool, u8) {
    (matches!(network, IpNet::V6(_)), network.prefix_len())
}

impl Bans {
    pub(crate) fn add_ban(
        &mut self,
        network: IpNet,
        until: Option<Duration>,
        now: Duration,
    ) -> Result<(), TooManyBans> {
        let network = unmap_network(network).trunc();
        self.remove_expired(now);
        if self.networks.len() >= MAX_BANS && !self.networks.contains_key(&network) {
            return Err(TooManyBans);
        }
        self.changes += 1;
        if self.networks.insert(network, until).is_none() {
            *self.lengths.entry(family_and_length(&network)).or_default() += 1;
        }
        Ok(())
    }

    /// Takes back the ban of exactly this network. `false` if there was none in force.
    pub(crate) fn remove_ban(&mut self, network: IpNet, now: Duration) -> bool {
        self.remove_expired(now);
        let network = unmap_network(network).trunc();
        let found = self.networks.remove(&network).is_some();
        if found {
            self.changes += 1;
            self.decrement_length(&network);
        }
        found
    }

    fn decrement_length(&mut self, network: &IpNet) {
        if let Some(count) = self.lengths.get_mut(&family_and_length(network)) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&family_and_length(network));
            }
        }
    }

    fn remove_expired(&mut self, now: Duration) {
        let expired = self.networks.iter().filter(|(_, until)| !is_in_force(**until, now));
        let expired: Vec<_> = expired.map(|(network, _)| *network).collect();
        for network in expired {
            self.networks.remove(&network);
            self.decrement_length(&network);
        }
    }

    /// The ban in force that contains an address; of several, the one that ends last.
    pub(crate) fn find_ban(&self, address: IpAddr, now: Duration) -> Option<(IpNet, Option<Duration>)> {
        let address = address.to_canonical();
        let lengths = self.lengths.keys().filter(|(v6, _)| *v6 == address.is_ipv6());
        let networks = lengths.filter_map(|&(_, length)| IpNet::new(address, length).ok().map(|net| net.trunc()));
        let found = networks.filter_map(|network| Some((network, *self.networks.get(&network)?)));
        found.filter(|(_, until)| is_in_force(*until, now)).max_by_key(|(_, until)| until.unwrap_or(Duration::MAX))
    }

    /// All bans in force, in the order of the networks.
    pub(crate) fn list_bans(&self, now: Duration) -> Vec<(IpNet, Option<Duration>)> {
        let mut all: Vec<_> = self.networks.iter().map(|(network, until)| (*network, *until)).collect();
        all.retain(|(_, until)| is_in_force(*until, now));
        all.sort();
        all
    }

    /// Grows with every change except the passing of time.
    pub(crate) fn change_count(&self) -> u64 {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn network(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn is_banned(bans: &Bans, address: &str) -> bool {
        bans.find_ban(address.parse().unwrap(), NOW).is_some()
    }

    #[test]
    fn a_ban_that_goes_leaves_others_of_its_length() {
        let mut bans = Bans::default();
        for text in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"] {
            bans.add_ban(network(text), None, NOW).unwrap();
        }
        assert!(bans.remove_ban(network("192.0.2.0/24"), NOW));
        assert!(!bans.remove_ban(network("192.0.2.0/24"), NOW), "it is not in force");
        assert!(!is_banned(&bans, "192.0.2.1") && is_banned(&bans, "198.51.100.1") && is_banned(&bans, "2001:db8::1"));
        assert_eq!(bans.lengths, BTreeMap::from([((false, 24), 1), ((true, 32), 1)]));
        assert!(bans.remove_ban(network("198.51.100.0/24"), NOW));
        assert_eq!(bans.lengths, BTreeMap::from([((true, 32), 1)]), "none is looked for that there is not");
    }

    #[test]
    fn every_change_is_counted_but_the_passing_of_time() {
        let mut bans = Bans::default();
        let mut last = bans.change_count();
        let mut grown = |bans: &Bans| std::mem::replace(&mut last, bans.change_count()) < bans.change_count();
        let (one, other) = (network("192.0.2.0/24"), network("198.51.100.0/24"));
        bans.add_ban(one, Some(NOW + Duration::from_secs(1)), NOW).unwrap();
        assert!(grown(&bans));
        bans.add_ban(one, Some(NOW + Duration::from_secs(9)), NOW).unwrap();
        assert!(grown(&bans), "another end");
        bans.add_ban(other, None, NOW).unwrap();
        assert!(grown(&bans));
        bans.remove_ban(other, NOW);
        assert!(grown(&bans));
        bans.remove_ban(other, NOW);
        assert!(!grown(&bans));
        bans.remove_ban(one, NOW + Duration::from_secs(10));
        assert!(!grown(&bans), "it was over");
        assert!(bans.networks.is_empty() && bans.lengths.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_and_always_for_another_end() {
        let mut bans = Bans::default();
        let nth = |number: usize| IpNet::from(IpAddr::from((number as u32).to_be_bytes()));
        bans.networks = (0..MAX_BANS).map(|number| (nth(number), None)).collect();
        let refused = bans.add_ban(nth(MAX_BANS), None, NOW).unwrap_err();
        assert!(refused.to_string().contains(&MAX_BANS.to_string()), "{refused}");
        bans.add_ban(nth(0), Some(NOW), NOW).unwrap();
        bans.add_ban(nth(MAX_BANS), None, NOW).expect("one is over");
    }
}
