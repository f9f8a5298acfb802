//! What the service table says of one service, as admission needs it, with the memory of the service's own rate.
//!
//! Admission makes one for each service when a table comes into force, and reads it for each client. Nothing fails.

use ipnet::IpNet;

use super::types::Client;
use crate::config::{Penalties, PerSource, Service};
use crate::limits::access::{Access, Rule, unmap_network};
use crate::limits::penalty::{Cause, Charge};
use crate::limits::rate::{Bucket, Change, Rate, RetryAfter};
use crate::net::{Peer, Prefixes};
use crate::types::ServiceId;

/// The prefixes of a single address.
const FULL_ADDRESS: Prefixes = Prefixes { ipv4: 32, ipv6: 128 };

#[derive(Debug)]
pub(super) struct Rules {
    /// `allow`, `deny` and `times`.
    pub access: Access,
    pub has_times: bool,
    pub source: Limit,
    pub network: Option<Limit>,
    rate: Option<Rate>,
    pub bucket: Bucket,
    pub instances: Option<u32>,
    pub max_load: Option<f64>,
    penalties: Penalties,
    /// `penalties.exempt`.
    exempt_from_penalties: Access,
    /// The service is a trap without a program.
    pub is_bare_trap: bool,
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

    /// The entry of `exempt` that contains the client.
    pub(super) fn find_exemption(&self, peer: &Peer) -> Option<Rule> {
        self.exempt.judge_peer(peer).rule
    }
}

impl Rules {
    pub(super) fn new(id: ServiceId, service: &Service) -> Self {
        // Two numbers for each service, that no other has.
        let number = id.number().wrapping_mul(2);
        Self {
            access: Access::new(&service.allow, &service.deny, &service.times),
            has_times: !service.times.is_empty(),
            source: Limit::new(number, &service.per_source),
            network: service.per_network.as_ref().map(|limits| Limit::new(number.wrapping_add(1), limits)),
            rate: service.rate.map(|limit| limit.rate),
            bucket: Bucket::default(),
            instances: service.instances,
            max_load: service.max_load,
            penalties: service.penalties.clone(),
            exempt_from_penalties: Access::new(&service.penalties.exempt, &[], &[]),
            is_bare_trap: service.program.is_none(),
            dry_run: service.dry_run,
        }
    }

    /// The changes of the rates of sources when `new` replaces these rules.
    pub(super) fn rate_changes(&self, new: Option<&Self>) -> impl Iterator<Item = (u32, Change)> {
        let source = (Some(&self.source), new.map(|new| &new.source));
        let network = (self.network.as_ref(), new.and_then(|new| new.network.as_ref()));
        [source, network].into_iter().filter_map(|(old, new)| {
            let (old, new) = (old?, new.and_then(|new| new.rate));
            let change = Change { old: old.rate?, new };
            (new != Some(change.old)).then_some((old.number, change))
        })
    }

    /// Takes over the memory of the rules that were in force until now.
    pub(super) fn inherit_rate(&mut self, old: &Self, now: u64) {
        if let Some((old_rate, new_rate)) = old.rate.zip(self.rate) {
            self.bucket = old.bucket;
            if old_rate != new_rate {
                self.bucket.change_rate(&old_rate, &new_rate, now);
            }
        }
    }

    pub(super) fn identify_client(&self, peer: Peer) -> Client {
        let exempt = self.source.find_exemption(&peer).is_some();
        let source = peer.source(if exempt { FULL_ADDRESS } else { self.source.prefix });
        let limit = self.network.as_ref().filter(|limit| limit.find_exemption(&peer).is_none());
        Client { peer, source, network: limit.map(|limit| peer.source(limit.prefix)), exempt }
    }

    pub(super) fn is_exempt_from_penalties(&self, peer: &Peer) -> bool {
        self.exempt_from_penalties.judge_peer(peer).rule.is_some()
    }

    /// Whether the service admits some clients that other services refuse for a penalty.
    pub(super) fn has_exemptions(&self) -> bool {
        self.dry_run || !self.penalties.exempt.is_empty()
    }

    /// Whether the service refuses every client of a network that has a penalty.
    pub(super) fn blocks_network(&self, network: IpNet) -> bool {
        let overlaps = |exempt: &IpNet| {
            let exempt = unmap_network(*exempt);
            exempt.contains(&network) || network.contains(&exempt)
        };
        !self.dry_run && !self.penalties.exempt.iter().any(overlaps)
    }

    /// The charge of this client for an event.
    pub(super) fn charge_for(&self, cause: Cause, peer: &Peer) -> Option<Charge> {
        self.penalties.charge_for(cause).filter(|_| !self.is_exempt_from_penalties(peer))
    }

    /// Evaluates the service's own rate.
    ///
    /// # Errors
    /// When it admits the next client.
    pub(super) fn check_rate(&self, now: u64) -> Result<(), RetryAfter> {
        self.rate.as_ref().map_or(Ok(()), |rate| self.bucket.check(rate, now))
    }

    /// Counts an admission under the service's own rate.
    pub(super) fn commit_rate(&mut self, now: u64) {
        if let Some(rate) = &self.rate {
            self.bucket.commit(rate, now);
        }
    }
}
