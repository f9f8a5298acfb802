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
pub(super) struct Barred {
    /// When the turn began.
    pub now: Duration,
    drained: [bool; NAMES.len()],
    /// When each ban of an address, or of its network, ends.
    bans: BTreeMap<Source, Option<Duration>>,
    /// When each address was charged, and how many seconds that costs who has not been refused before.
    charges: BTreeMap<Ipv4Addr, Vec<(Duration, u64)>>,
}

/// The key of an address or of its network.
pub(super) fn banned(address: Ipv4Addr, wide: bool) -> Source {
    if wide { network_of(address) } else { Source::V4(address, 32) }
}

impl Barred {
    pub(super) fn drain(&mut self, service: usize, on: bool) {
        self.drained[service] = on;
    }

    pub(super) fn ban(&mut self, network: Source, seconds: Option<u64>) {
        self.bans.insert(network, seconds.map(|seconds| self.now + Duration::from_secs(seconds)));
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

    pub(super) fn is_banned(&self, address: Ipv4Addr) -> bool {
        let in_force =
            |network| self.bans.get(&network).is_some_and(|until| until.is_none_or(|until| until > self.now));
        in_force(banned(address, false)) || in_force(banned(address, true))
    }

    pub(super) fn may_come(&self, service: usize, address: Ipv4Addr) -> Result<(), Reason> {
        if self.drained[service] {
            Err(Reason::Drained)
        } else if self.is_banned(address) {
            Err(Reason::Ban)
        } else if self.paid_at(address) > self.now {
            Err(Reason::Penalty)
        } else {
            Ok(())
        }
    }

    /// When an address owes nothing any more: a charge while it owes is of the same time, one after that costs twice
    /// as much as the time before, unless as long as the most has passed, up to the next whole second.
    fn paid_at(&self, address: Ipv4Addr) -> Duration {
        let (most, mut paid, mut factor) = (Duration::from_secs(MOST_OWED), Duration::ZERO, 1);
        for (number, &(when, cost)) in self.charges.get(&address).into_iter().flatten().enumerate() {
            if number > 0 && when >= paid {
                let forgotten = Duration::from_secs((paid + most).as_millis().div_ceil(1000) as u64);
                factor = if when >= forgotten { 1 } else { factor * 2 };
            }
            paid = (paid.max(when) + Duration::from_secs(cost * factor)).min(when + most);
        }
        paid
    }
}
