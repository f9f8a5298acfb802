//! What admission remembers, as an upgrade hands it to the next program: used rates, penalties, bans, drained
//! services and peaks.

use std::collections::TryReserveError;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::state::Admission;
use crate::limits::meter::PeakRate;
use crate::limits::penalty::{Penalties, SavedPenalties};
use crate::limits::rate::{Bucket, PerFamily, SavedSources, Sources};
use crate::types::{Now, ServiceId};

/// The state that an upgrade saves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Carried {
    drained: Vec<ServiceId>,
    bans: Vec<(IpNet, Option<Duration>)>,
    rates: SavedSources,
    size: PerFamily<u32>,
    penalties: SavedPenalties,
    debtors: PerFamily<u32>,
    peaks: Vec<(ServiceId, PeakRate)>,
    buckets: Vec<(ServiceId, Bucket)>,
}

impl Admission {
    /// Saves the state for the next program.
    pub(crate) fn carry(&self, now: Now) -> Carried {
        Carried {
            drained: self.drained.iter().copied().collect(),
            bans: self.bans.list_bans(now.monotonic),
            rates: self.rates.save_state(now.nanos()),
            size: self.rated_sources,
            penalties: self.penalties.save_state(now.nanos()),
            debtors: self.penalised_sources,
            peaks: self.meter.all_peaks().collect(),
            buckets: self.services.iter().map(|(&id, rules)| (id, rules.bucket)).collect(),
        }
    }

    /// Restores the state of the program before this one, before a service table is put in force. The rules of that
    /// table then have what services had used of their own rates.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn take_over(&mut self, carried: Carried, now: Now) -> Result<(), TryReserveError> {
        let Carried { drained, bans, rates, size, penalties, debtors, peaks, buckets } = carried;
        (self.rates, self.rated_sources) = (Sources::restore_state(rates)?, size);
        (self.penalties, self.penalised_sources) = (Penalties::restore_state(penalties)?, debtors);
        self.drained.extend(drained);
        for (network, until) in bans {
            // The program before had no more of them than there can be.
            let _ = self.bans.add_ban(network, until, now.monotonic);
        }
        self.meter.restore_peaks(peaks);
        self.buckets = buckets.into_iter().collect();
        Ok(())
    }
}
