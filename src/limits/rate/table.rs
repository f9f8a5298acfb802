//! The rates of many sources in memory of fixed size: 32 bytes a source (eight slots of 24 bytes for six entries).
//!
//! When both sets of a new source are full of debtors, the one with the least debt is forgotten, and counted.

use std::collections::{BTreeMap, TryReserveError};

use serde::{Deserialize, Serialize};

use super::slots::{ENTRIES_PER_SET, Key, PerFamily, SavedSlots, Set, Slot, Slots};
use crate::limits::rate::{Moment, Rate, RetryAfter};
use crate::net::Source;

const _: () = assert!(size_of::<Set<Debt>>() <= ENTRIES_PER_SET * 32);

/// How a reload changes one limit.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The old rate.
    pub old: Rate,
    /// The new rate. None removes the limit: its debts are forgotten and its number is free.
    pub new: Option<Rate>,
}

/// The rates of sources under any number of limits.
///
/// A limit is a number that the caller gives: the `per_source` and the `per_network` of each service have one each,
/// and one number has one [`Rate`] until [`change_rates`](Self::change_rates) changes it.
#[derive(Debug)]
pub struct Sources(Slots<Debt>);

/// All debts, as an upgrade hands them to the next program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedSources(SavedSlots<Debt>);

impl Sources {
    /// Memory for this many sources with debt: 32 bytes each, in steps of six, at least twelve.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub fn new(entries: PerFamily<u32>) -> Result<Self, TryReserveError> {
        Slots::new(entries).map(Self)
    }

    /// Whether this limit admits `source` at `now`. Changes nothing.
    ///
    /// # Errors
    /// When it does.
    pub fn check(&self, limit: u32, source: Source, rate: &Rate, now: u64) -> Result<(), RetryAfter> {
        self.0.find_slot(limit, source).map_or(Ok(()), |debt| rate.check_tat(debt.tat(), now))
    }

    /// Counts an admission of `source` at `now` under this limit, and forgets another source if there is no room.
    pub fn commit(&mut self, limit: u32, source: Source, rate: &Rate, now: u64) {
        let debt = self.0.claim_slot(limit, source, now);
        debt.set_tat(rate.tat_after(debt.tat(), now));
    }

    /// Changes the rates of limits at `now`; every source keeps the part of its burst that it has used. One pass
    /// over the tables, whatever the number of changes: some milliseconds for a million entries.
    pub fn change_rates(&mut self, changes: &BTreeMap<u32, Change>, now: u64) {
        if changes.is_empty() {
            return;
        }
        for debt in self.0.busy_mut(now) {
            if let Some(change) = changes.get(&debt.limit) {
                let tat = change.new.map_or(Moment::default(), |new| change.old.carry_over(debt.tat(), now, &new));
                debt.set_tat(tat);
            }
        }
    }

    /// The state for the next program.
    pub(crate) fn save_state(&self, now: u64) -> SavedSources {
        SavedSources(self.0.save_state(now))
    }

    /// The state of the program before this one, in memory of the same size.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub(crate) fn restore_state(SavedSources(saved): SavedSources) -> Result<Self, TryReserveError> {
        Slots::restore_state(saved).map(Self)
    }

    /// How many sources were forgotten while they had a debt, since the start.
    pub(crate) fn evicted_with_debt(&self) -> PerFamily<u64> {
        self.0.eviction_count()
    }

    /// How many sources have a debt at `now`. Reads every slot; for reports.
    pub(crate) fn count_indebted(&self, now: u64) -> PerFamily<usize> {
        self.0.count_busy(now)
    }
}

/// One source under one limit; all zero is idle.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Debt {
    source: u64,
    limit: u32,
    /// The fraction of the TAT, and in the lowest bit the 65th of its nanoseconds.
    tat_rest: u32,
    /// The lower 64 bits of its nanoseconds.
    tat_ns: u64,
}

impl Debt {
    fn tat(&self) -> Moment {
        let above = u128::from(self.tat_rest & 1) << 64;
        Moment { ns: above | u128::from(self.tat_ns), fraction: self.tat_rest >> 1 }
    }

    fn set_tat(&mut self, tat: Moment) {
        self.tat_ns = tat.ns as u64;
        self.tat_rest = tat.fraction << 1 | (tat.ns >> 64) as u32;
    }
}

impl Slot for Debt {
    type Weight = Moment;

    fn for_key(key: &Key) -> Self {
        Self { source: key.source, limit: key.number, ..Self::default() }
    }

    fn matches_key(&self, key: &Key) -> bool {
        self.source == key.source && self.limit == key.number
    }

    /// A source without debt equals an absent one.
    fn is_idle(&self, now: u64) -> bool {
        self.tat() <= Moment::at(now)
    }

    fn weight(&self) -> Moment {
        self.tat()
    }
}

#[cfg(test)]
mod tests;
