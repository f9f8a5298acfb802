//! The connections per minute of the busiest source of each service, so that administrators who choose a limit know
//! what there has been.
//!
//! Admission tells it of each connection, refused ones too. The memory is small and of fixed size, and is taken at
//! the start: when it is full, it forgets the source with the fewest connections in this minute.

use std::collections::{HashMap, TryReserveError};

use serde::{Deserialize, Serialize};

use crate::limits::rate::{Key, PerFamily, Slot, Slots};
use crate::net::Source;
use crate::types::{Now, ServiceId};

/// The most pairs of service and source that are counted at one time: 43 KiB for each family.
const MAX_SOURCES: u32 = 1024;

const MINUTE_NS: u64 = 60_000_000_000;

/// The most connections of one source in one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeakRate {
    pub source: Source,
    pub connections: u32,
}

#[derive(Debug)]
pub(crate) struct Meter {
    slots: Slots<Arrivals>,
    peaks: HashMap<ServiceId, PeakRate>,
}

impl Meter {
    pub(crate) fn new() -> Result<Self, TryReserveError> {
        Ok(Self { slots: Slots::new(PerFamily { ipv4: MAX_SOURCES, ipv6: MAX_SOURCES })?, peaks: HashMap::new() })
    }

    /// Counts a connection of a source to a service.
    pub(crate) fn note_arrival(&mut self, service: ServiceId, source: Source, now: Now) {
        let connections = self.slots.claim_slot(service.number(), source, now.nanos()).count_arrival(now.nanos());
        let peak = self.peaks.entry(service).or_insert(PeakRate { source, connections });
        if connections > peak.connections {
            *peak = PeakRate { source, connections };
        }
    }

    pub(crate) fn peak_of(&self, service: ServiceId) -> Option<PeakRate> {
        self.peaks.get(&service).copied()
    }

    /// All peaks, for an upgrade. The counts of the current minute are not saved.
    pub(crate) fn all_peaks(&self) -> impl Iterator<Item = (ServiceId, PeakRate)> {
        self.peaks.iter().map(|(&id, &peak)| (id, peak))
    }

    pub(crate) fn restore_peaks(&mut self, peaks: Vec<(ServiceId, PeakRate)>) {
        self.peaks.extend(peaks);
    }

    /// Forgets the peaks of services that are not served any more.
    pub(crate) fn retain_services(&mut self, served: impl Fn(ServiceId) -> bool) {
        self.peaks.retain(|id, _| served(*id));
    }
}

/// The connections of one source to one service in its latest minute.
#[derive(Clone, Copy, Debug, Default)]
struct Arrivals {
    source: u64,
    service: u32,
    v6: bool,
    /// The minute of the monotonic clock, from 1; 0 in an unused slot.
    minute: u64,
    connections: u32,
}

fn minute_of(now: u64) -> u64 {
    now / MINUTE_NS + 1
}

impl Arrivals {
    fn count_arrival(&mut self, now: u64) -> u32 {
        if self.is_idle(now) {
            (self.minute, self.connections) = (minute_of(now), 0);
        }
        self.connections = self.connections.saturating_add(1);
        self.connections
    }
}

impl Slot for Arrivals {
    type Weight = (u64, u32);

    fn for_key(key: &Key) -> Self {
        Self { source: key.source, service: key.number, v6: key.v6, ..Self::default() }
    }

    fn matches_key(&self, key: &Key) -> bool {
        self.source == key.source && self.service == key.number && self.v6 == key.v6
    }

    fn is_idle(&self, now: u64) -> bool {
        self.minute != minute_of(now)
    }

    fn weight(&self) -> Self::Weight {
        (self.minute, self.connections)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;
    use crate::limits::ledger::Ledger;

    fn v4(number: u32) -> Source {
        Source::V4(Ipv4Addr::from_bits(number), 32)
    }

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), wall: Duration::ZERO }
    }

    #[test]
    fn the_peak_is_that_of_one_source_in_one_minute_and_service() {
        let (mut meter, ids) = (Meter::new().unwrap(), Ledger::default().list(["one", "two"]));
        assert_eq!(meter.peak_of(ids[0]), None);
        (0..3).for_each(|_| meter.note_arrival(ids[0], v4(1), at(59)));
        (0..3).for_each(|_| meter.note_arrival(ids[0], v4(1), at(60)));
        (0..4).for_each(|_| meter.note_arrival(ids[1], v4(1), at(60)));
        meter.note_arrival(ids[0], v4(2), at(60));
        assert_eq!(meter.peak_of(ids[0]), Some(PeakRate { source: v4(1), connections: 3 }));
        assert_eq!(meter.peak_of(ids[1]), Some(PeakRate { source: v4(1), connections: 4 }));
        (0..5).for_each(|_| meter.note_arrival(ids[0], v4(2), at(600)));
        assert_eq!(meter.peak_of(ids[0]), Some(PeakRate { source: v4(2), connections: 5 }));
        (0..5).for_each(|_| meter.note_arrival(ids[0], v4(3), at(600)));
        assert_eq!(meter.peak_of(ids[0]).unwrap().source, v4(2), "a source that came as often later is not named");
        meter.retain_services(|id| id == ids[1]);
        assert_eq!((meter.peak_of(ids[0]), meter.peak_of(ids[1]).is_some()), (None, true));
    }

    #[test]
    fn the_first_minute_of_the_clock_is_one_too_and_each_family_has_its_own_sources() {
        let (mut meter, id) = (Meter::new().unwrap(), Ledger::default().list(["one"])[0]);
        let v6 = |number| Source::V6(Ipv6Addr::from_bits(u128::from(number) << 64), 64);
        for seconds in [0, 59] {
            meter.note_arrival(id, v4(1), at(seconds));
            meter.note_arrival(id, v6(1_u64), at(seconds));
        }
        assert_eq!(meter.peak_of(id), Some(PeakRate { source: v4(1), connections: 2 }));
        meter.note_arrival(id, v6(1), at(59));
        assert_eq!(meter.peak_of(id), Some(PeakRate { source: v6(1), connections: 3 }));
    }

    #[test]
    fn a_crowd_that_comes_once_does_not_hide_a_frequent_source() {
        let (mut meter, id) = (Meter::new().unwrap(), Ledger::default().list(["one"])[0]);
        for crowd in 0..100_000 {
            meter.note_arrival(id, v4(1_000 + crowd), at(1));
            if crowd % 100 == 0 {
                meter.note_arrival(id, v4(7), at(1));
            }
        }
        let peak = meter.peak_of(id).unwrap();
        assert_eq!(peak.source, v4(7));
        assert!(peak.connections > 900, "{peak:?}");
    }
}
