//! Who is to be refused without a look at any count: worked out anew for each question from what has happened, bans and
//! failures alike, where the real thing keeps sums.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{NAMES, network_of};
use crate::log::Reason;
use crate::source::Source;

/// What a failure costs in services that charge for it, and the most that can be owed, in seconds. Any debt counts.
pub(super) const COST: u64 = 10;
pub(super) const MOST: u64 = 60;

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Seconds since the beginning.
    pub now: u64,
    drained: [bool; NAMES.len()],
    /// When each ban of an address, or of its network, ends.
    bans: BTreeMap<Source, Option<u64>>,
    /// When the handlers of each address failed that it was charged for.
    failures: BTreeMap<Ipv4Addr, Vec<u64>>,
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
        self.failures.retain(|address, _| banned(*address, false) != network && banned(*address, true) != network);
    }

    pub(super) fn fail(&mut self, address: Ipv4Addr) {
        self.failures.entry(address).or_default().push(self.now);
    }

    /// A service that is not served any more is not drained when it comes back.
    pub(super) fn keep(&mut self, served: impl Fn(usize) -> bool) {
        (0..NAMES.len()).filter(|service| !served(*service)).for_each(|service| self.drained[service] = false);
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

    /// When an address owes nothing any more: a failure while it owes is of the same time, one after that costs twice
    /// as much as the time before, unless as long as the most has passed.
    fn paid_at(&self, address: Ipv4Addr) -> u64 {
        let (mut paid, mut price) = (0, COST);
        for (number, &when) in self.failures.get(&address).into_iter().flatten().enumerate() {
            if number > 0 && when >= paid {
                price = if when - paid >= MOST { COST } else { price * 2 };
            }
            paid = (paid.max(when) + price).min(when + MOST);
        }
        paid
    }
}
