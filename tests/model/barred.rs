//! Who is to be refused without a look at any count: worked out anew for each question from what has happened, bans and
//! failures alike, where the real thing keeps sums.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::table::{MOST_OWED, NAMES, network_of};
use crate::net::Source;
use crate::types::Reason;

/// What has happened. Any debt counts.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Seconds since the beginning.
    pub now: u64,
    drained: [bool; NAMES.len()],
    /// When each ban of an address, or of its network, ends.
    bans: BTreeMap<Source, Option<u64>>,
    /// When each address was charged, and how much that costs who has not been refused before.
    charges: BTreeMap<Ipv4Addr, Vec<(u64, u64)>>,
}

/// The key of an address or of its network.
pub(super) fn banned(address: Ipv4Addr, wide: bool) -> Source {
    if wide { network_of(address) } else { Source::V4(address, 32) }
}

impl Truth {
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.now)
    }

    pub(super) fn drain(&mut self, service: usize, on: bool) {
        self.drained[service] = on;
    }

    pub(super) fn ban(&mut self, network: Source, seconds: Option<u64>) {
        self.bans.insert(network, seconds.map(|seconds| self.now + seconds));
    }

    /// Forgives the addresses of a network too.
    pub(super) fn unban(&mut self, network: Source) {
        self.bans.remove(&network);
        self.charges.retain(|address, _| banned(*address, false) != network && banned(*address, true) != network);
    }

    pub(super) fn charge(&mut self, address: Ipv4Addr, cost: u64) {
        self.charges.entry(address).or_default().push((self.now, cost));
    }

    /// A service that is not served any more is not drained when it comes back.
    pub(super) fn keep(&mut self, served: impl Fn(usize) -> bool) {
        (0..NAMES.len()).filter(|service| !served(*service)).for_each(|service| self.drained[service] = false);
    }

    pub(super) fn is_drained(&self, service: usize) -> bool {
        self.drained[service]
    }

    pub(super) fn may_come(&self, service: usize, address: Ipv4Addr) -> Result<(), Reason> {
        let in_force =
            |network| self.bans.get(&network).is_some_and(|until| until.is_none_or(|until| until > self.now));
        if self.drained[service] {
            Err(Reason::Drained)
        } else if in_force(banned(address, false)) || in_force(banned(address, true)) {
            Err(Reason::Ban)
        } else if self.paid_at(address) > self.now {
            Err(Reason::Penalty)
        } else {
            Ok(())
        }
    }

    /// When an address owes nothing any more: a charge while it owes is of the same time, one after that costs twice
    /// as much as the time before, unless as long as the most has passed.
    fn paid_at(&self, address: Ipv4Addr) -> u64 {
        let (mut paid, mut factor) = (0, 1);
        for (number, &(when, cost)) in self.charges.get(&address).into_iter().flatten().enumerate() {
            if number > 0 && when >= paid {
                factor = if when - paid >= MOST_OWED { 1 } else { factor * 2 };
            }
            paid = (paid.max(when) + cost * factor).min(when + MOST_OWED);
        }
        paid
    }
}
