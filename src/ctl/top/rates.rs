//! Rates per second, computed from two snapshots. Only [`super`] uses it; it cannot fail.

use std::collections::BTreeMap;

use crate::api::{ServiceStatus, Snapshot};

/// Events per second, of the daemon and of each service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SecondRates {
    pub accepted: f64,
    pub refused: f64,
    pub ended: f64,
    pub turns: f64,
    pub services: BTreeMap<String, ServiceRates>,
    /// Refusals of all services, by reason.
    pub reasons: BTreeMap<String, f64>,
}

/// Events per second of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ServiceRates {
    pub accepted: f64,
    pub refused: f64,
}

impl SecondRates {
    /// The rates between `before` and `now`; all zero if the two are of different daemons, or of the same moment.
    pub(super) fn between(before: &Snapshot, now: &Snapshot) -> Self {
        let seconds = now.uptime_seconds - before.uptime_seconds;
        if before.pid != now.pid || seconds <= 0.0 {
            return Self::default();
        }
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let mut rates = Self { turns: rate(before.turns.count, now.turns.count), ..Self::default() };
        for (name, service) in &now.services {
            // A new service is absent from `before`: all its counts are new.
            let of = |count: &dyn Fn(&ServiceStatus) -> u64| {
                rate(before.services.get(name).map_or(0, count), count(service))
            };
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
