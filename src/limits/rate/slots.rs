//! Memory of fixed size for something about each of many sources: a rate, a penalty, a number of connections.
//!
//! Two tables, so that a flood over IPv6 forgets nothing about IPv4. Each is set-associative: SipHash with a random
//! key (std's) gives a source one set in the left half and one in the right, of eight slots each, and its slot is
//! in either. A new source goes where more slots are idle, on a tie to the left, which spreads sources so evenly
//! that sets which are meant to be six eighths full hold all of as many sources as the table has entries, but for
//! one in two million (Vöcking, "How asymmetry helps load balancing", 2003; with one set, one in twenty).
//!
//! When all sixteen are in use, the slot of the least weight is taken. A new source always gets a slot: otherwise a
//! flood that fills a table would switch a limit off for all other sources.
//!
//! Nothing is allocated after the start, and all of it is written then: a machine that hasn't the memory says so
//! before the first client, not in the middle of a flood.

use std::cmp::Ordering;
use std::collections::TryReserveError;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::net::Source;

const WAYS: usize = 8;
/// The entries that a set is meant for; the difference to [`WAYS`] is the room for chance.
pub(super) const ENTRIES_PER_SET: usize = 6;

/// One value for IPv4 (with Unix users and the unknown peer), one for IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerFamily<T> {
    /// IPv4 and what isn't IP.
    pub ipv4: T,
    /// IPv6.
    pub ipv6: T,
}

/// The record of one source under one number. The default is idle and belongs to no source.
pub(crate) trait Slot: Copy + Default {
    /// How much would be lost with the slot; the slot of the least weight is taken first.
    type Weight: Ord + Default;

    /// An idle slot of a source and number.
    fn for_key(key: &Key) -> Self;

    /// Whether the slot belongs to a source and number.
    fn matches_key(&self, key: &Key) -> bool;

    /// Whether the slot equals an absent one.
    fn is_idle(&self, now: u64) -> bool;

    fn weight(&self) -> Self::Weight;
}

/// The key of a slot: a source and a number.
pub(crate) struct Key {
    /// The source in 64 bits, of its family.
    pub source: u64,
    pub v6: bool,
    /// The number of a limit or a service.
    pub number: u32,
    hash: u64,
}

/// The slots of both address families.
#[derive(Debug)]
pub(crate) struct Slots<S> {
    pub(super) v4: Table<S>,
    pub(super) v6: Table<S>,
    secret: Secret,
}

/// The key of the hash. std's hasher hides its key, and an upgrade has to save it: the next program goes on with
/// the same slots, and must find them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Secret(u64, u64);

impl Secret {
    fn new_random() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(0), random.hash_one(1))
    }

    fn hash_source(self, kind: u8, length: u8, address: u128, number: u32) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write(&[kind, length]);
        hasher.write(&address.to_ne_bytes());
        hasher.write(&number.to_ne_bytes());
        hasher.finish()
    }
}

/// A number that no limit has.
const NO_NUMBER: u32 = u32::MAX;

impl<S: Slot> Slots<S> {
    /// Memory for this many entries of each family, in steps of six, at least twelve.
    pub(crate) fn new(entries: PerFamily<u32>) -> Result<Self, TryReserveError> {
        Ok(Self { v4: Table::new(entries.ipv4)?, v6: Table::new(entries.ipv6)?, secret: Secret::new_random() })
    }

    /// The slot of `source` under a number, if it has one; it may be idle.
    pub(crate) fn find_slot(&self, number: u32, source: Source) -> Option<&S> {
        let table = if is_v6(source) { &self.v6 } else { &self.v4 };
        table.find_slot(&self.key_of(number, source))
    }

    /// The slot of `source` under a number: its own, or a new one in place of the slot of the least weight.
    pub(crate) fn claim_slot(&mut self, number: u32, source: Source, now: u64) -> &mut S {
        let key = self.key_of(number, source);
        let table = if is_v6(source) { &mut self.v6 } else { &mut self.v4 };
        table.claim_slot(&key, now)
    }

    /// All slots that are not idle, in no order. Reads every slot.
    pub(crate) fn busy_slots(&self, now: u64) -> impl Iterator<Item = &S> {
        let slots = self.v4.sets.iter().chain(&self.v6.sets).flat_map(|set| &set.0);
        slots.filter(move |slot| !slot.is_idle(now))
    }

    /// All busy slots, for changes. A slot must keep its source and number.
    pub(crate) fn busy_mut(&mut self, now: u64) -> impl Iterator<Item = &mut S> {
        let slots = self.v4.sets.iter_mut().chain(&mut self.v6.sets).flat_map(|set| &mut set.0);
        slots.filter(move |slot| !slot.is_idle(now))
    }

    /// The number of slots that are not idle.
    pub(crate) fn count_busy(&self, now: u64) -> PerFamily<usize> {
        PerFamily { ipv4: self.v4.count_busy(now), ipv6: self.v6.count_busy(now) }
    }

    /// The number of slots that were taken although they were not idle.
    pub(crate) fn eviction_count(&self) -> PerFamily<u64> {
        PerFamily { ipv4: self.v4.evicted, ipv6: self.v6.evicted }
    }

    fn key_of(&self, number: u32, source: Source) -> Key {
        let (kind, length, address) = source_parts(source);
        let hash = self.secret.hash_source(kind, length, address, number);
        Key { source: self.source_bits(source), v6: is_v6(source), number, hash }
    }

    /// The source in 64 bits. That loses nothing but from an IPv6 prefix longer than 64, which is hashed: two of
    /// them share a slot once in 2^64 pairs, and a client that doesn't know the key can't bring that about.
    fn source_bits(&self, source: Source) -> u64 {
        match source {
            Source::V4(address, length) => u64::from(length) << 32 | u64::from(address.to_bits()),
            Source::Uid(uid) => UID | u64::from(uid),
            Source::Unknown => UNKNOWN,
            Source::V6(address, 0..=64) => (address.to_bits() >> 64) as u64,
            Source::V6(address, length) => self.secret.hash_source(6, length, address.to_bits(), NO_NUMBER),
        }
    }
}

const UID: u64 = 1 << 48;
const UNKNOWN: u64 = 1 << 49;

/// The source that these bits stand for; of IPv6, with a prefix of 64.
pub(crate) fn source_of(bits: u64, v6: bool) -> Source {
    match bits {
        _ if v6 => Source::V6(Ipv6Addr::from_bits(u128::from(bits) << 64), 64),
        UNKNOWN => Source::Unknown,
        _ if bits & UID != 0 => Source::Uid(bits as u32),
        _ => Source::V4(Ipv4Addr::from_bits(bits as u32), (bits >> 32) as u8),
    }
}

/// The parts of a source: its kind, the length of its prefix, and its bits.
fn source_parts(source: Source) -> (u8, u8, u128) {
    match source {
        Source::V4(address, length) => (4, length, address.to_bits().into()),
        Source::V6(address, length) => (6, length, address.to_bits()),
        Source::Uid(uid) => (1, 0, uid.into()),
        Source::Unknown => (0, 0, 0),
    }
}

fn is_v6(source: Source) -> bool {
    matches!(source, Source::V6(..))
}

/// All slots that are not idle, as an upgrade hands them to the next program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedSlots<S> {
    secret: Secret,
    v4: SavedTable<S>,
    v6: SavedTable<S>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedTable<S> {
    sets: usize,
    evicted: u64,
    /// Slots that are not idle, by their set and their place in it.
    busy: Vec<(usize, usize, S)>,
}

impl<S: Slot> Slots<S> {
    /// The state for the next program.
    pub(crate) fn save_state(&self, now: u64) -> SavedSlots<S> {
        SavedSlots { secret: self.secret, v4: self.v4.save_state(now), v6: self.v6.save_state(now) }
    }

    /// The state of the program before this one, in memory of the same size.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub(crate) fn restore_state(saved: SavedSlots<S>) -> Result<Self, TryReserveError> {
        let SavedSlots { secret, v4, v6 } = saved;
        Ok(Self { v4: Table::restore_state(v4)?, v6: Table::restore_state(v6)?, secret })
    }
}

/// Three cache lines where slots have 24 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Set<S>([S; WAYS]);

impl<S: Slot> Set<S> {
    fn count_idle(&self, now: u64) -> usize {
        self.0.iter().filter(|slot| slot.is_idle(now)).count()
    }

    /// The slot of the least weight, and that weight.
    fn least_slot(&self) -> (S::Weight, usize) {
        let all = self.0.iter().enumerate().map(|(way, slot)| (slot.weight(), way));
        all.min().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Table<S> {
    pub(super) sets: Box<[Set<S>]>,
    evicted: u64,
}

impl<S: Slot> Table<S> {
    fn new(entries: u32) -> Result<Self, TryReserveError> {
        Self::of_sets((entries as usize).div_ceil(ENTRIES_PER_SET).max(2))
    }

    fn of_sets(count: usize) -> Result<Self, TryReserveError> {
        let mut sets = Vec::new();
        sets.try_reserve_exact(count)?;
        sets.resize(count, Set::default());
        Ok(Self { sets: sets.into_boxed_slice(), evicted: 0 })
    }

    fn save_state(&self, now: u64) -> SavedTable<S> {
        let all = self.sets.iter().enumerate();
        let all = all.flat_map(|(set, slots)| slots.0.iter().enumerate().map(move |(way, slot)| (set, way, *slot)));
        let busy = all.filter(|(_, _, slot)| !slot.is_idle(now)).collect();
        SavedTable { sets: self.sets.len(), evicted: self.evicted, busy }
    }

    fn restore_state(saved: SavedTable<S>) -> Result<Self, TryReserveError> {
        let mut table = Self::of_sets(saved.sets.max(2))?;
        table.evicted = saved.evicted;
        for (set, way, slot) in saved.busy {
            if let Some(place) = table.sets.get_mut(set).and_then(|set| set.0.get_mut(way)) {
                *place = slot;
            }
        }
        Ok(table)
    }

    /// The two sets of a key: a half of the hash chooses in each half of the table.
    fn home_sets(&self, key: &Key) -> [usize; 2] {
        let left = self.sets.len() / 2;
        let choose = |hash: u64, count: usize| ((hash * count as u64) >> 32) as usize;
        [choose(key.hash >> 32, left), left + choose(key.hash & 0xffff_ffff, self.sets.len() - left)]
    }

    fn find_place(&self, key: &Key) -> Option<(usize, usize)> {
        let in_set = |set: usize| Some((set, self.sets[set].0.iter().position(|slot| slot.matches_key(key))?));
        self.home_sets(key).into_iter().find_map(in_set)
    }

    fn find_slot(&self, key: &Key) -> Option<&S> {
        self.find_place(key).map(|(set, way)| &self.sets[set].0[way])
    }

    fn claim_slot(&mut self, key: &Key, now: u64) -> &mut S {
        let place = self.find_place(key);
        let (set, way) = place.unwrap_or_else(|| self.make_room(key, now));
        let slot = &mut self.sets[set].0[way];
        if place.is_none() {
            *slot = S::for_key(key);
        }
        slot
    }

    /// The slot of the least weight in the emptier of the two sets; of full ones, in both.
    fn make_room(&mut self, key: &Key, now: u64) -> (usize, usize) {
        let [left, right] = self.home_sets(key);
        let least = |set: usize| self.sets[set].least_slot();
        let (in_left, in_right) = (self.sets[left].count_idle(now), self.sets[right].count_idle(now));
        let set = match in_left.cmp(&in_right) {
            Ordering::Less => right,
            Ordering::Equal if in_left == 0 && least(right) < least(left) => right,
            _ => left,
        };
        self.evicted += u64::from(in_left == 0 && in_right == 0);
        (set, self.sets[set].least_slot().1)
    }

    fn count_busy(&self, now: u64) -> usize {
        self.sets.iter().map(|set| WAYS - set.count_idle(now)).sum()
    }
}

#[cfg(test)]
mod tests;
