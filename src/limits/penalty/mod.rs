//! Penalties of sources for what their clients did: time for which they are refused.
//!
//! A handler that crashes or fails, a refusal or a visit to a trap adds a time that the service sets to the debt of
//! the client's source. A source whose debt exceeds `min` is refused; no debt grows beyond `max`; a debt shrinks by
//! one second each second. Each time that a source becomes refused again, every event costs it twice as much as
//! before, until it has had no debt for as long as `max`. A debt holds in the whole daemon, under the address or
//! the /64 ([`Prefixes::SOURCE`]), whatever the prefixes of a service.
//!
//! Admission alone uses this. The memory is of fixed size; when it is full of debtors, the debt that ends first is
//! forgotten, and counted. Nothing here reads a clock, logs or fails: time is an argument, nanoseconds of the
//! monotonic clock.

use std::collections::TryReserveError;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::rate::{Key, PerFamily, SavedSlots, Slot, Slots, source_of};
use crate::net::{Peer, Prefixes, Source};
use crate::types::Ending;

/// An event that a source is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A signal of [`FAULTS`] ended a handler.
    Crash,
    /// A handler exited with a status other than 0.
    Exit,
    /// The client was refused by `allow` and `deny` or by a limit of its source.
    Refused,
    /// The client came to a trap.
    Trap,
}

/// The signals that end a process for a fault of its own: those that leave a core dump (signal(7)), except for
/// SIGQUIT, which is sent on purpose. SIGPIPE is no fault: it ends a handler whose client has gone.
const FAULTS: [i32; 8] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

impl Cause {
    /// The cause to charge the client of a handler for, by how the handler ended.
    pub(crate) fn of_ending(ending: Ending) -> Option<Self> {
        match ending {
            Ending::Exited(0) => None,
            Ending::Exited(_) => Some(Self::Exit),
            Ending::Signaled(signal) => FAULTS.contains(&signal).then_some(Self::Crash),
        }
    }

    /// The key in the service table, and the word in logs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Exit => "exit",
            Self::Refused => "refused",
            Self::Trap => "trap",
        }
    }
}

/// The cost of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The time that is added to the debt, for a source that has not been refused before.
    pub cost: Duration,
    /// A source is refused while its debt is greater than this.
    pub min: Duration,
    /// No debt grows beyond this.
    pub max: Duration,
}

/// A source that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Penalised {
    pub source: Source,
    /// The time from now for which it is refused.
    pub left: Duration,
    /// How often it has become refused, this time included.
    pub times: u32,
}

/// The debts of all sources.
#[derive(Debug)]
pub(crate) struct Penalties {
    slots: Slots<Debt>,
    changes: u64,
}

/// The debts that an upgrade hands to the next program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedPenalties {
    slots: SavedSlots<Debt>,
    changes: u64,
}

impl Penalties {
    /// The most debtors of a family that are remembered, whatever the size of the tables of rates (as sshd(8)).
    pub(crate) const MAX_DEBTORS: u32 = 65_536;

    /// Memory for this many debtors, up to [`MAX_DEBTORS`](Self::MAX_DEBTORS): 43 bytes each.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub(crate) fn new(entries: PerFamily<u32>) -> Result<Self, TryReserveError> {
        let capped = |count: u32| count.min(Self::MAX_DEBTORS);
        let slots = Slots::new(PerFamily { ipv4: capped(entries.ipv4), ipv6: capped(entries.ipv6) })?;
        Ok(Self { slots, changes: 0 })
    }

    /// Adds to the debt of `source` at `now`. If this is what makes it refused, gives the time for which it is.
    pub(crate) fn charge_source(&mut self, source: Source, charge: &Charge, now: u64) -> Option<Duration> {
        let debt = self.slots.claim_slot(0, source, now);
        if debt.is_idle(now) {
            *debt = Debt { source: debt.source, v6: debt.v6, ..Debt::default() };
        }
        let refused = debt.refused_until > now;
        debt.add_charge(charge, if refused { debt.times.saturating_sub(1) } else { debt.times }.into(), now);
        self.changes += 1;
        if refused || debt.refused_until <= now {
            return None;
        }
        debt.times = debt.times.saturating_add(1);
        Some(Duration::from_nanos(debt.refused_until - now))
    }

    /// The penalty of `source`, if it is refused.
    pub(crate) fn find_penalty(&self, source: Source, now: u64) -> Option<Penalised> {
        // Most service tables have no penalties.
        (self.changes > 0).then(|| self.slots.find_slot(0, source))??.penalty_at(now)
    }

    /// All sources that are refused, in no order. Reads every slot: about a millisecond for all that there can be.
    pub(crate) fn list_penalised(&self, now: u64) -> impl Iterator<Item = Penalised> {
        self.slots.busy_slots(now).filter_map(move |debt| debt.penalty_at(now))
    }

    /// Forgets the debts of all sources that `whose` selects, and gives their number.
    pub(crate) fn forgive_sources(&mut self, whose: impl Fn(Source) -> bool, now: u64) -> usize {
        let debtors = self.slots.busy_mut(now).filter(|debt| whose(debt.source()));
        let forgiven = debtors.map(|debt| *debt = Debt::default()).count();
        self.changes += forgiven as u64;
        forgiven
    }

    /// Takes over the debts of another memory.
    pub(crate) fn copy_from(&mut self, other: &Self, now: u64) {
        for debt in other.slots.busy_slots(now) {
            *self.slots.claim_slot(0, debt.source(), now) = *debt;
        }
        self.changes = self.changes.max(other.changes) + 1;
    }

    /// The state for the next program.
    pub(crate) fn save_state(&self, now: u64) -> SavedPenalties {
        SavedPenalties { slots: self.slots.save_state(now), changes: self.changes }
    }

    /// The state of the program before this one, in memory of the same size.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub(crate) fn restore_state(saved: SavedPenalties) -> Result<Self, TryReserveError> {
        Ok(Self { slots: Slots::restore_state(saved.slots)?, changes: saved.changes })
    }

    /// Grows with every change except the passing of time.
    pub(crate) fn change_count(&self) -> u64 {
        self.changes
    }

    /// How many debtors were forgotten to make room for others, since the start.
    pub(crate) fn forgotten_debtors(&self) -> PerFamily<u64> {
        self.slots.eviction_count()
    }
}

/// The source that a peer's penalties are counted under.
pub(crate) fn debtor_of(peer: &Peer) -> Source {
    peer.source(Prefixes::SOURCE)
}

/// The debt of one source.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Debt {
    source: u64,
    /// The end of the debt.
    until: u64,
    /// When the debt falls to `min`.
    refused_until: u64,
    /// When the doubling is forgotten, in seconds, rounded up.
    forget: u32,
    /// How often the source has become refused.
    times: u16,
    v6: bool,
}

const SECOND_NS: u64 = 1_000_000_000;

fn saturating_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Debt {
    fn add_charge(&mut self, charge: &Charge, doublings: u32, now: u64) {
        let Charge { cost, min, max } = charge;
        let cost = saturating_nanos(*cost).saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
        let before = self.until.saturating_sub(now);
        // A debt to a service with a greater `max` is not forgiven by one with a smaller.
        let owed = before.saturating_add(cost).min(saturating_nanos(*max)).max(before);
        self.until = now.saturating_add(owed);
        self.refused_until = self.refused_until.max(self.until.saturating_sub(saturating_nanos(*min)));
        let forget = self.until.saturating_add(saturating_nanos(*max)).div_ceil(SECOND_NS);
        self.forget = self.forget.max(u32::try_from(forget).unwrap_or(u32::MAX));
    }

    fn penalty_at(&self, now: u64) -> Option<Penalised> {
        let left = self.refused_until.checked_sub(now).filter(|left| *left > 0)?;
        Some(Penalised { source: self.source(), left: Duration::from_nanos(left), times: self.times.into() })
    }

    fn source(&self) -> Source {
        source_of(self.source, self.v6)
    }
}

impl Slot for Debt {
    /// The debt that ends first is forgotten first.
    type Weight = (u64, u32);

    fn for_key(key: &Key) -> Self {
        Self { source: key.source, v6: key.v6, ..Self::default() }
    }

    fn matches_key(&self, key: &Key) -> bool {
        self.source == key.source && self.v6 == key.v6
    }

    fn is_idle(&self, now: u64) -> bool {
        u64::from(self.forget).saturating_mul(SECOND_NS) <= now
    }

    fn weight(&self) -> Self::Weight {
        (self.until, self.forget)
    }
}

#[cfg(test)]
mod tests;
