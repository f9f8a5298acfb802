//! What the table says of one service, as admission needs it, with the memory of the service's own rate.

use std::time::Duration;

use ipnet::IpNet;

use super::{Client, Now, Refusal};
use crate::config::{Penalties, PerSource, Service};
use crate::limits::access::{Access, LocalTime, Rule, Verdict, canonical};
use crate::limits::penalty::{Cause, Charge};
use crate::limits::rate::{Bucket, Change, Rate};
use crate::net::{Peer, Prefixes};
use crate::sys::clock;
use crate::types::{Reason, ServiceId};

/// An address with all its bits.
const HOST: Prefixes = Prefixes { ipv4: 32, ipv6: 128 };

const MINUTE: u64 = 60;
const MINUTES_PER_WEEK: u64 = 7 * 24 * 60;

#[derive(Debug)]
pub(super) struct Rules {
    access: Access,
    timed: bool,
    pub source: Limit,
    pub network: Option<Limit>,
    rate: Option<Rate>,
    bucket: Bucket,
    pub instances: Option<u32>,
    pub max_load: Option<f64>,
    penalties: Penalties,
    unpenalised: Access,
    /// Is it a trap without a program?
    pub catches_only: bool,
    pub dry_run: bool,
}

/// `per_source` or `per_network`.
#[derive(Debug)]
pub(super) struct Limit {
    /// Its number among the rates of sources.
    pub number: u32,
    prefix: Prefixes,
    pub instances: Option<u32>,
    pub rate: Option<Rate>,
    exempt: Access,
}

impl Limit {
    fn new(number: u32, limits: &PerSource) -> Self {
        Self {
            number,
            prefix: limits.prefix,
            instances: limits.instances,
            rate: limits.rate.map(|limit| limit.rate),
            exempt: Access::new(&limits.exempt, &[], &[]),
        }
    }

    pub(super) fn is_exempt(&self, peer: &Peer) -> bool {
        self.exemption(peer).is_some()
    }

    /// The entry of `exempt` that a client is in.
    pub(super) fn exemption(&self, peer: &Peer) -> Option<Rule> {
        self.exempt.verdict(peer).rule
    }
}

impl Rules {
    pub(super) fn new(id: ServiceId, service: &Service) -> Self {
        // Two numbers for each service, that no other has.
        let number = id.number().wrapping_mul(2);
        Self {
            access: Access::new(&service.allow, &service.deny, &service.times),
            timed: !service.times.is_empty(),
            source: Limit::new(number, &service.per_source),
            network: service.per_network.as_ref().map(|limits| Limit::new(number.wrapping_add(1), limits)),
            rate: service.rate.map(|limit| limit.rate),
            bucket: Bucket::default(),
            instances: service.instances,
            max_load: service.max_load,
            penalties: service.penalties.clone(),
            unpenalised: Access::new(&service.penalties.exempt, &[], &[]),
            catches_only: service.program.is_none(),
            dry_run: service.dry_run,
        }
    }

    /// What becomes of the rates of sources when `new` takes the place of these rules.
    pub(super) fn changes(&self, new: Option<&Self>) -> impl Iterator<Item = (u32, Change)> {
        let source = (Some(&self.source), new.map(|new| &new.source));
        let network = (self.network.as_ref(), new.and_then(|new| new.network.as_ref()));
        [source, network].into_iter().filter_map(|(old, new)| {
            let (old, new) = (old?, new.and_then(|new| new.rate));
            let change = Change { old: old.rate?, new };
            (new != Some(change.old)).then_some((old.number, change))
        })
    }

    /// Takes over the memory of the rules that were in force until now.
    pub(super) fn inherit(&mut self, old: &Self, now: u64) {
        if let Some((old_rate, new_rate)) = old.rate.zip(self.rate) {
            self.bucket = old.bucket;
            if old_rate != new_rate {
                self.bucket.adjust(&old_rate, &new_rate, now);
            }
        }
    }

    pub(super) fn client(&self, peer: Peer) -> Client {
        let exempt = self.source.is_exempt(&peer);
        let source = peer.source(if exempt { HOST } else { self.source.prefix });
        let limit = self.network.as_ref().filter(|limit| !limit.is_exempt(&peer));
        Client { peer, source, network: limit.map(|limit| peer.source(limit.prefix)), exempt }
    }

    pub(super) fn access(&self, peer: &Peer) -> Verdict {
        self.access.verdict(peer)
    }

    /// Is this client exempt from penalties?
    pub(super) fn pardons(&self, peer: &Peer) -> bool {
        self.unpenalised.verdict(peer).rule.is_some()
    }

    /// Does the service let some in who are penalised elsewhere?
    pub(super) fn makes_exceptions(&self) -> bool {
        self.dry_run || !self.penalties.exempt.is_empty()
    }

    /// Is everybody in a network refused who is penalised?
    pub(super) fn enforces(&self, network: IpNet) -> bool {
        let meets = |exempt: &IpNet| {
            let exempt = canonical(*exempt);
            exempt.contains(&network) || network.contains(&exempt)
        };
        !self.dry_run && !self.penalties.exempt.iter().any(meets)
    }

    /// What this client is charged for `cause`.
    pub(super) fn charge(&self, cause: Cause, peer: &Peer) -> Option<Charge> {
        self.penalties.charge(cause).filter(|_| !self.pardons(peer))
    }

    /// Is it one of the times at which the service is open?
    pub(super) fn times(&self, now: Now) -> Result<(), Refusal> {
        if !self.timed {
            return Ok(());
        }
        let local = clock::local_time(i64::try_from(now.wall.as_secs()).unwrap_or(0));
        let minute = u16::from(local.hour) * 60 + u16::from(local.minute);
        let time = LocalTime { weekday: local.weekday, minute };
        if self.access.open_at(time) {
            return Ok(());
        }
        let retry = self.access.next_opening(time).map(|next| until(time, next, local.second.min(59)));
        Err(Refusal { reason: Reason::Times, retry })
    }

    /// May one more come, as far as the rate of the service goes?
    pub(super) fn service_rate(&self, now: Now) -> Result<(), Refusal> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let answer = self.bucket.check(rate, now.nanos());
        answer.map_err(|retry| Refusal { reason: Reason::ServiceRate, retry: Some(retry.0) })
    }

    pub(super) fn bucket(&self) -> Bucket {
        self.bucket
    }

    pub(super) fn set_bucket(&mut self, bucket: Bucket) {
        self.bucket = bucket;
    }

    /// One has come.
    pub(super) fn commit(&mut self, now: u64) {
        if let Some(rate) = &self.rate {
            self.bucket.commit(rate, now);
        }
    }
}

/// How long it is on the wall from some seconds into one minute to the next beginning of another.
fn until(now: LocalTime, next: LocalTime, seconds: u8) -> Duration {
    let of_week = |time: LocalTime| u64::from(time.weekday) * 24 * 60 + u64::from(time.minute);
    let minutes = match (of_week(next) + MINUTES_PER_WEEK - of_week(now)) % MINUTES_PER_WEEK {
        0 => MINUTES_PER_WEEK,
        minutes => minutes,
    };
    Duration::from_secs(minutes * MINUTE - u64::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_until_a_service_opens() {
        let at = |weekday, hour: u16, minute| LocalTime { weekday, minute: hour * 60 + minute };
        let seconds = |now, next, second| until(now, next, second).as_secs();
        assert_eq!(seconds(at(1, 7, 59), at(1, 8, 0), 59), 1);
        assert_eq!(seconds(at(1, 7, 59), at(1, 8, 0), 0), 60);
        assert_eq!(seconds(at(6, 23, 0), at(0, 1, 0), 0), 7_200, "over the end of the week");
        assert_eq!(seconds(at(5, 9, 0), at(5, 8, 0), 0), (7 * 24 - 1) * 3_600);
        assert_eq!(seconds(at(5, 9, 0), at(5, 9, 0), 0), 7 * 24 * 3_600);
    }
}
