//! The rates of many sources in memory of fixed size.
//!
//! Two tables, so that a flood over IPv6 forgets nothing about IPv4. Each is set-associative: SipHash with a random key
//! (std's) gives a source one set in the left half and one in the right, of eight slots each, and its slot is in either.
//! A newcomer goes where more slots are idle, on a tie to the left, which spreads sources so evenly that sets which are
//! meant to be six eighths full hold all of as many sources as the table has entries, but for one in two million (Vöcking,
//! "How asymmetry helps load balancing", 2003; with a single set it would be one in twenty). Eight slots of 24 bytes
//! for six entries are 32 bytes an entry.
//!
//! When all sixteen are in debt, the one with the least goes, and is counted. A newcomer always gets a slot: otherwise
//! whoever fills a table with debtors would switch the limit off for everybody else.
//!
//! Nothing is allocated after the start, and all of it is written then: a machine that hasn't the memory says so before
//! the first client, not in the middle of a flood.

use std::cmp::Ordering;
use std::collections::{BTreeMap, TryReserveError};
use std::hash::{BuildHasher, RandomState};

use crate::rate::{Moment, Rate, RetryAfter};
use crate::source::Source;

const WAYS: usize = 8;
/// How many entries a set is there for; the difference to [`WAYS`] is the room for chance.
const ENTRIES_PER_SET: usize = 6;
const _: () = assert!(size_of::<Set>() <= ENTRIES_PER_SET * 32);

/// One for IPv4 (Unix users and the unknown peer among them), one for IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// IPv4 and what isn't IP.
    pub ipv4: T,
    /// IPv6.
    pub ipv6: T,
}

/// What a reload does to one limit.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The rate until now.
    pub old: Rate,
    /// The rate from now on, or none: what was owed is forgotten and the limit's number is free.
    pub new: Option<Rate>,
}

/// The rates of sources under any number of limits.
///
/// A limit is a number that the caller gives: the `per_source` and the `per_network` of each service have one each, and
/// one number has one [`Rate`] until [`adjust`](Self::adjust) changes it.
#[derive(Debug)]
pub struct Sources {
    v4: Table,
    v6: Table,
    key: RandomState,
}

impl Sources {
    /// Room for so many sources with debt: 32 bytes each, in steps of six, at least twelve.
    ///
    /// # Errors
    /// There is no room for so many.
    pub fn new(entries: PerFamily<u32>) -> Result<Self, TryReserveError> {
        Ok(Self { v4: Table::new(entries.ipv4)?, v6: Table::new(entries.ipv6)?, key: RandomState::new() })
    }

    /// May `source` come at `now`, as far as this limit goes? Changes nothing.
    ///
    /// # Errors
    /// When it may.
    pub fn check(&self, limit: u32, source: Source, rate: &Rate, now: u64) -> Result<(), RetryAfter> {
        let key = self.key(limit, source);
        self.table(source).find(&key).map_or(Ok(()), |slot| rate.check(slot.tat(), now))
    }

    /// `source` has come at `now`. Counts it under this limit, and forgets another if there is no room.
    pub fn commit(&mut self, limit: u32, source: Source, rate: &Rate, now: u64) {
        let key = self.key(limit, source);
        let table = if is_v6(source) { &mut self.v6 } else { &mut self.v4 };
        let slot = table.slot(&key, now);
        let before = if slot.is(&key) { slot.tat() } else { Moment::default() };
        slot.set(&key, rate.after(before, now));
    }

    /// From `now`, the limits in `changes` have other rates; every source keeps the part of its burst that it has used.
    /// One pass over the tables, whatever the number of changes: some milliseconds for a million entries.
    pub fn adjust(&mut self, changes: &BTreeMap<u32, Change>, now: u64) {
        if changes.is_empty() {
            return;
        }
        let slots = self.v4.sets.iter_mut().chain(&mut self.v6.sets).flat_map(|set| &mut set.0);
        for slot in slots.filter(|slot| !slot.is_idle(now)) {
            if let Some(change) = changes.get(&slot.limit) {
                let tat = change.new.map_or(Moment::default(), |new| change.old.carry_over(slot.tat(), now, &new));
                slot.set_tat(tat);
            }
        }
    }

    /// How many sources were forgotten while they still owed something, since the start.
    #[must_use]
    pub fn evicted_with_debt(&self) -> PerFamily<u64> {
        PerFamily { ipv4: self.v4.evicted_with_debt, ipv6: self.v6.evicted_with_debt }
    }

    /// How many sources owe something at `now`. Looks at every slot; for reports.
    #[must_use]
    pub fn indebted(&self, now: u64) -> PerFamily<usize> {
        PerFamily { ipv4: self.v4.indebted(now), ipv6: self.v6.indebted(now) }
    }

    fn table(&self, source: Source) -> &Table {
        if is_v6(source) { &self.v6 } else { &self.v4 }
    }

    fn key(&self, limit: u32, source: Source) -> Key {
        let source = self.bits(source);
        Key { limit, source, hash: self.key.hash_one((limit, source)) }
    }

    /// The source in 64 bits. That loses nothing but from an IPv6 prefix longer than 64, which is hashed: two of them
    /// share a slot once in 2^64 pairs, and nobody who doesn't know the key can bring that about.
    fn bits(&self, source: Source) -> u64 {
        match source {
            Source::V4(address, length) => u64::from(length) << 32 | u64::from(address.to_bits()),
            Source::Uid(uid) => 1 << 48 | u64::from(uid),
            Source::Unknown => 1 << 49,
            Source::V6(address, 0..=64) => (address.to_bits() >> 64) as u64,
            Source::V6(address, _) => self.key.hash_one(address.to_bits()),
        }
    }
}

fn is_v6(source: Source) -> bool {
    matches!(source, Source::V6(..))
}

/// What a slot is found by.
struct Key {
    source: u64,
    limit: u32,
    hash: u64,
}

/// One source under one limit; all zero is idle.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    source: u64,
    limit: u32,
    /// The fraction of the TAT, and in the lowest bit the 65th of its nanoseconds.
    tat_rest: u32,
    /// The lower 64 bits of its nanoseconds.
    tat_ns: u64,
}

impl Slot {
    fn is(&self, key: &Key) -> bool {
        self.source == key.source && self.limit == key.limit
    }

    fn tat(&self) -> Moment {
        let above = u128::from(self.tat_rest & 1) << 64;
        Moment { ns: above | u128::from(self.tat_ns), fraction: self.tat_rest >> 1 }
    }

    fn set_tat(&mut self, tat: Moment) {
        self.tat_ns = tat.ns as u64;
        self.tat_rest = tat.fraction << 1 | (tat.ns >> 64) as u32;
    }

    fn set(&mut self, key: &Key, tat: Moment) {
        (self.source, self.limit) = (key.source, key.limit);
        self.set_tat(tat);
    }

    /// Whoever owes nothing is as good as absent.
    fn is_idle(&self, now: u64) -> bool {
        self.tat() <= Moment::at(now)
    }
}

/// Three cache lines.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Slot; WAYS]);

impl Set {
    fn idle(&self, now: u64) -> usize {
        self.0.iter().filter(|slot| slot.is_idle(now)).count()
    }

    /// The slot with the least debt, and the time until which it has some.
    fn least(&self) -> (Moment, usize) {
        let all = self.0.iter().enumerate().map(|(way, slot)| (slot.tat(), way));
        all.min().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Table {
    sets: Box<[Set]>,
    evicted_with_debt: u64,
}

impl Table {
    fn new(entries: u32) -> Result<Self, TryReserveError> {
        let count = (entries as usize).div_ceil(ENTRIES_PER_SET).max(2);
        let mut sets = Vec::new();
        sets.try_reserve_exact(count)?;
        sets.resize(count, Set::default());
        Ok(Self { sets: sets.into_boxed_slice(), evicted_with_debt: 0 })
    }

    /// The two sets of a key: a half of the hash chooses in each half of the table.
    fn homes(&self, key: &Key) -> [usize; 2] {
        let left = self.sets.len() / 2;
        let choose = |hash: u64, count: usize| ((hash * count as u64) >> 32) as usize;
        [choose(key.hash >> 32, left), left + choose(key.hash & 0xffff_ffff, self.sets.len() - left)]
    }

    fn place(&self, key: &Key) -> Option<(usize, usize)> {
        let in_set = |set: usize| Some((set, self.sets[set].0.iter().position(|slot| slot.is(key))?));
        self.homes(key).into_iter().find_map(in_set)
    }

    fn find(&self, key: &Key) -> Option<&Slot> {
        self.place(key).map(|(set, way)| &self.sets[set].0[way])
    }

    /// The slot of this key, or another's that it may have.
    fn slot(&mut self, key: &Key, now: u64) -> &mut Slot {
        let (set, way) = self.place(key).unwrap_or_else(|| self.make_room(key, now));
        &mut self.sets[set].0[way]
    }

    /// The least debtor in the emptier of the two sets; in full ones, of both.
    fn make_room(&mut self, key: &Key, now: u64) -> (usize, usize) {
        let [left, right] = self.homes(key);
        let least = |set: usize| self.sets[set].least();
        let (in_left, in_right) = (self.sets[left].idle(now), self.sets[right].idle(now));
        let set = match in_left.cmp(&in_right) {
            Ordering::Less => right,
            Ordering::Equal if in_left == 0 && least(right) < least(left) => right,
            _ => left,
        };
        self.evicted_with_debt += u64::from(in_left == 0 && in_right == 0);
        (set, self.sets[set].least().1)
    }

    fn indebted(&self, now: u64) -> usize {
        self.sets.iter().map(|set| WAYS - set.idle(now)).sum()
    }
}

#[cfg(test)]
mod tests;
