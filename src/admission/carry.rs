//! What admission remembers, as an upgrade hands it to the next program: who has used up which rates, who owes what, the
//! bans, the drained services and the peaks.

use std::collections::TryReserveError;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Admission, Now, PeakRate};
use crate::limits::penalty::{CarriedPenalties, Penalties};
use crate::limits::rate::{Bucket, CarriedSources, PerFamily, Sources};
use crate::types::ServiceId;

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carried {
    drained: Vec<ServiceId>,
    bans: Vec<(IpNet, Option<Duration>)>,
    rates: CarriedSources,
    size: PerFamily<u32>,
    penalties: CarriedPenalties,
    debtors: PerFamily<u32>,
    peaks: Vec<(ServiceId, PeakRate)>,
    buckets: Vec<(ServiceId, Bucket)>,
}

impl Admission {
    /// For the next program.
    #[must_use]
    pub fn carry(&self, now: Now) -> Carried {
        Carried {
            drained: self.drained.iter().copied().collect(),
            bans: self.bans(now),
            rates: self.rates.carry(now.nanos()),
            size: self.size,
            penalties: self.penalties.carry(now.nanos()),
            debtors: self.debtors,
            peaks: self.meter.peaks().collect(),
            buckets: self.services.iter().map(|(&id, rules)| (id, rules.bucket())).collect(),
        }
    }

    /// Takes over from the program before this one, before a table is put in force. The rules of that table then have what
    /// services had used up of their own rates.
    ///
    /// # Errors
    /// No memory.
    pub fn take_over(&mut self, carried: Carried, now: Now) -> Result<(), TryReserveError> {
        let Carried { drained, bans, rates, size, penalties, debtors, peaks, buckets } = carried;
        (self.rates, self.size) = (Sources::from_carried(rates)?, size);
        (self.penalties, self.debtors) = (Penalties::from_carried(penalties)?, debtors);
        self.drained.extend(drained);
        for (network, until) in bans {
            // There were no more of them in the program before.
            let _ = self.ban(network, until, now);
        }
        self.meter.take_over(peaks);
        self.buckets = buckets.into_iter().collect();
        Ok(())
    }
}
