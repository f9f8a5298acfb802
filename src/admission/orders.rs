//! The orders of the administrator, and the list of blocked networks.
//!
//! The control socket's requests come here, and the packet filter asks for the networks that it may drop. Only one
//! ban too many fails.

use std::cmp::Reverse;
use std::time::Duration;

use ipnet::IpNet;

use super::rules::Rules;
use super::state::Admission;
use crate::limits::bans::TooManyBans;
use crate::limits::penalty::Penalised;
use crate::limits::rate::PerFamily;
use crate::types::{Now, ServiceId};

/// A network that is refused because of a ban or a penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub network: IpNet,
    /// The end on the monotonic clock; none if it is blocked until further notice.
    pub until: Option<Duration>,
    /// The administrator has banned it. Otherwise it has a penalty, from which a service may exempt clients.
    pub banned: bool,
}

impl Admission {
    /// Refuses all clients of a service from now on; its handlers live on. Holds over reloads, for as long as the
    /// service is served. `false` if it was drained already.
    pub(crate) fn drain(&mut self, id: ServiceId) -> bool {
        self.drained.insert(id)
    }

    /// Ends what [`drain`](Self::drain) began. `false` if the service was not drained.
    pub(crate) fn resume(&mut self, id: ServiceId) -> bool {
        self.drained.remove(&id)
    }

    /// Refuses a network in every service, until a time on the monotonic clock or until it is
    /// [taken back](Self::unban); replaces an earlier ban of the same network.
    ///
    /// # Errors
    /// There are too many already.
    pub(crate) fn ban(&mut self, network: IpNet, until: Option<Duration>, now: Now) -> Result<(), TooManyBans> {
        self.bans.add_ban(network, until, now.monotonic)
    }

    /// Takes back the ban of exactly this network, and the penalties of all sources in it. `false` without any.
    pub(crate) fn unban(&mut self, network: IpNet, now: Now) -> bool {
        let banned = self.bans.remove_ban(network, now.monotonic);
        let forgiven = self.penalties.forgive_sources(|source| source.overlaps(network), now.nanos());
        banned || forgiven > 0
    }

    /// The bans in force and when each ends on the monotonic clock, in the order of the networks.
    pub(crate) fn list_bans(&self, now: Now) -> Vec<(IpNet, Option<Duration>)> {
        self.bans.list_bans(now.monotonic)
    }

    /// The sources that are refused for a penalty, in no order. Reads the whole memory of penalties, which takes
    /// about a millisecond.
    pub(crate) fn list_penalised(&self, now: Now) -> impl Iterator<Item = Penalised> {
        self.penalties.list_penalised(now.nanos())
    }

    /// How many penalties were forgotten for lack of room, since the start.
    pub(crate) fn forgotten_debtors(&self) -> PerFamily<u64> {
        self.penalties.forgotten_debtors()
    }

    /// At most `limit` networks that are banned or penalised: bans, then penalties, each with the longest first.
    pub(crate) fn list_blocked(&self, now: Now, limit: usize) -> Vec<Blocked> {
        let longest_first = |until: Option<Duration>| Reverse(until.unwrap_or(Duration::MAX));
        let mut bans = self.list_bans(now);
        bans.sort_by_key(|(_, until)| longest_first(*until));
        let mut penalised: Vec<_> = self.list_penalised(now).collect();
        penalised.sort_unstable_by_key(|one| Reverse(one.left));
        let bans = bans.into_iter().map(|(network, until)| Blocked { network, until, banned: true });
        let penalised = penalised.into_iter().filter_map(|one| {
            Some(Blocked { network: one.source.network()?, until: Some(now.monotonic + one.left), banned: false })
        });
        bans.chain(penalised).take(limit).collect()
    }

    /// Grows with every change of what [`list_blocked`](Self::list_blocked) gives, except for the passing of time.
    pub(crate) fn blocked_changes(&self) -> u64 {
        self.bans.change_count() + self.penalties.change_count()
    }

    /// Whether a service admits some clients that other services refuse for a penalty.
    pub(crate) fn has_exemptions(&self, id: ServiceId) -> bool {
        self.services.get(&id).is_some_and(Rules::has_exemptions)
    }

    /// Whether a service refuses every client of a blocked network.
    pub(crate) fn blocks_network(&self, id: ServiceId, blocked: &Blocked) -> bool {
        blocked.banned || self.services.get(&id).is_some_and(|rules| rules.blocks_network(blocked.network))
    }
}
