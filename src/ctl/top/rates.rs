//! What has happened between two snapshots, by the second.

use std::collections::BTreeMap;

use crate::api::{Service, Snapshot};

/// Of the daemon and of each service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub accepted: f64,
    pub refused: f64,
    pub ended: f64,
    pub turns: f64,
    pub services: BTreeMap<String, ServiceRates>,
    /// By reason, of all services.
    pub reasons: BTreeMap<String, f64>,
}

/// Of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ServiceRates {
    pub accepted: f64,
    pub refused: f64,
}

impl Rates {
    /// Between `before` and `now`; none if they are of different daemons, or of the same moment.
    pub(super) fn between(before: &Snapshot, now: &Snapshot) -> Self {
        let seconds = now.uptime_seconds - before.uptime_seconds;
        if before.pid != now.pid || seconds <= 0.0 {
            return Self::default();
        }
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let mut rates = Self { turns: rate(before.turns.count, now.turns.count), ..Self::default() };
        for (name, service) in &now.services {
            // One that is new has done all that it has done since.
            let of = |count: &dyn Fn(&Service) -> u64| rate(before.services.get(name).map_or(0, count), count(service));
            let own = ServiceRates {
                accepted: of(&|service| service.accepted),
                refused: of(&|service| service.refused.values().sum()),
            };
            rates.accepted += own.accepted;
            rates.refused += own.refused;
            rates.ended += of(&|service| service.durations.count);
            for reason in service.refused.keys() {
                let refused = of(&|service| service.refused.get(reason).copied().unwrap_or(0));
                *rates.reasons.entry(reason.clone()).or_default() += refused;
            }
            rates.services.insert(name.clone(), own);
        }
        rates
    }
}
