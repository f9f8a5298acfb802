//! What sources owe for what they did: time, in which they are refused.
//!
//! A handler that crashes or fails, a refusal, a visit to a trap cost the source of the client a time that the service
//! sets. While a source owes more than `min`, it is refused, and not longer than `max`; what it owes goes by as time
//! does. Each time that a source comes to be refused anew, everything costs it twice as much as the time before, until
//! it has owed nothing for as long as `max`. A debt holds in the whole daemon, under the address or the /64 that a
//! source is everywhere ([`Prefixes::SOURCE`]), whatever the prefixes of a service.
//!
//! Admission alone uses this. The memory is of fixed size; when it is full of debtors, the debt that ends first is
//! forgotten, and counted. Nothing here reads a clock, logs or fails: time is an argument, nanoseconds of the monotonic
//! clock.

use std::collections::TryReserveError;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::rate::{Key, PerFamily, SavedSlots, Slot, Slots, source_of};
use crate::net::{Peer, Prefixes, Source};
use crate::types::Ending;

/// What a source is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A handler was ended by a signal that speaks of a fault in it (signal(7), those that dump core by themselves).
    Crash,
    /// A handler exited with a status other than 0.
    Exit,
    /// The client was turned away by `allow` and `deny` or by a limit of the source's own.
    Refused,
    /// The client came to a trap.
    Trap,
}

/// The signals that end a process for a fault of its own (signal(7), those that leave a core dump, but for SIGQUIT,
/// which somebody has sent). A handler that writes to a client who has gone ends by SIGPIPE, and that is no fault.
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
    /// What the client of a handler that ended so may be charged for.
    #[must_use]
    pub fn of_ending(ending: Ending) -> Option<Self> {
        match ending {
            Ending::Exited(0) => None,
            Ending::Exited(_) => Some(Self::Exit),
            Ending::Signaled(signal) => FAULTS.contains(&signal).then_some(Self::Crash),
        }
    }

    /// The key in the table, and the word in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Exit => "exit",
            Self::Refused => "refused",
            Self::Trap => "trap",
        }
    }
}

/// What something costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The time that is added to the debt, for a source that has not been refused before.
    pub cost: Duration,
    /// A debt up to this has no effect.
    pub min: Duration,
    /// No debt grows beyond this.
    pub max: Duration,
}

/// A source that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalised {
    /// Who.
    pub source: Source,
    /// For how long, from now.
    pub left: Duration,
    /// The how many-th time it is.
    pub times: u32,
}

/// What all of them owe.
#[derive(Debug)]
pub struct Penalties {
    slots: Slots<Debt>,
    changes: u64,
}

/// The same, as an upgrade hands it to the next program.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedPenalties {
    slots: SavedSlots<Debt>,
    changes: u64,
}

impl Penalties {
    /// The most debtors of a family that are remembered, whatever the size of the tables of rates: as many as sshd(8)
    /// has by default.
    pub const MAX_DEBTORS: u32 = 65_536;

    /// Room for so many debtors, up to [`MOST`](Self::MAX_DEBTORS): 43 bytes each.
    ///
    /// # Errors
    /// There is no room for so many.
    pub fn new(entries: PerFamily<u32>) -> Result<Self, TryReserveError> {
        let most = |count: u32| count.min(Self::MAX_DEBTORS);
        let slots = Slots::new(PerFamily { ipv4: most(entries.ipv4), ipv6: most(entries.ipv6) })?;
        Ok(Self { slots, changes: 0 })
    }

    /// Adds to what `source` owes at `now`. If this is what brings it to be refused, gives the time for which it is.
    pub fn charge(&mut self, source: Source, charge: &Charge, now: u64) -> Option<Duration> {
        let debt = self.slots.claim(0, source, now);
        if debt.is_idle(now) {
            *debt = Debt { source: debt.source, v6: debt.v6, ..Debt::default() };
        }
        let refused = debt.refused_until > now;
        debt.add(charge, if refused { debt.times.saturating_sub(1) } else { debt.times }.into(), now);
        self.changes += 1;
        if refused || debt.refused_until <= now {
            return None;
        }
        debt.times = debt.times.saturating_add(1);
        Some(Duration::from_nanos(debt.refused_until - now))
    }

    /// For how long `source` is refused, if it is, and the how many-th time that is.
    #[must_use]
    pub fn find(&self, source: Source, now: u64) -> Option<Penalised> {
        // Most daemons charge nobody.
        (self.changes > 0).then(|| self.slots.get(0, source))??.penalised(now)
    }

    /// All that are refused, in no order. Looks at every slot: about a millisecond for all that there can be.
    pub fn iter(&self, now: u64) -> impl Iterator<Item = Penalised> {
        self.slots.busy(now).filter_map(move |debt| debt.penalised(now))
    }

    /// Forgives those of whom `whom` says so, and gives their number.
    pub fn forgive(&mut self, whom: impl Fn(Source) -> bool, now: u64) -> usize {
        let debtors = self.slots.busy_mut(now).filter(|debt| whom(debt.source()));
        let forgiven = debtors.map(|debt| *debt = Debt::default()).count();
        self.changes += forgiven as u64;
        forgiven
    }

    /// Takes over what is owed in another memory.
    pub fn copy_from(&mut self, other: &Self, now: u64) {
        for debt in other.slots.busy(now) {
            *self.slots.claim(0, debt.source(), now) = *debt;
        }
        self.changes = self.changes.max(other.changes) + 1;
    }

    /// For the next program.
    #[must_use]
    pub fn save(&self, now: u64) -> SavedPenalties {
        SavedPenalties { slots: self.slots.save(now), changes: self.changes }
    }

    /// What the program before this one knew, in memory of the same size.
    ///
    /// # Errors
    /// There is no room for so many.
    pub fn restore(saved: SavedPenalties) -> Result<Self, TryReserveError> {
        Ok(Self { slots: Slots::restore(saved.slots)?, changes: saved.changes })
    }

    /// Grows with every change but the passing of time.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many debtors were forgotten to make room for others, since the start.
    #[must_use]
    pub fn forgotten(&self) -> PerFamily<u64> {
        self.slots.evicted()
    }
}

/// The key of a source that is penalised.
#[must_use]
pub fn debtor(peer: &Peer) -> Source {
    peer.source(Prefixes::SOURCE)
}

/// What one source owes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Debt {
    source: u64,
    /// When nothing is owed any more.
    until: u64,
    /// When no more than `min` is.
    refused_until: u64,
    /// When it is forgotten that there was a debt, in seconds, rounded up.
    forget: u32,
    /// How often the source has come to be refused.
    times: u16,
    v6: bool,
}

const SECOND: u64 = 1_000_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Debt {
    fn add(&mut self, charge: &Charge, doublings: u32, now: u64) {
        let Charge { cost, min, max } = charge;
        let cost = nanos(*cost).saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
        let before = self.until.saturating_sub(now);
        // A debt to a service with a greater `max` is not forgiven by one with a smaller.
        let owed = before.saturating_add(cost).min(nanos(*max)).max(before);
        self.until = now.saturating_add(owed);
        self.refused_until = self.refused_until.max(self.until.saturating_sub(nanos(*min)));
        let forget = self.until.saturating_add(nanos(*max)).div_ceil(SECOND);
        self.forget = self.forget.max(u32::try_from(forget).unwrap_or(u32::MAX));
    }

    fn penalised(&self, now: u64) -> Option<Penalised> {
        let left = self.refused_until.checked_sub(now).filter(|left| *left > 0)?;
        Some(Penalised { source: self.source(), left: Duration::from_nanos(left), times: self.times.into() })
    }

    fn source(&self) -> Source {
        source_of(self.source, self.v6)
    }
}

impl Slot for Debt {
    /// Whose debt ends first, goes first.
    type Weight = (u64, u32);

    fn of(key: &Key) -> Self {
        Self { source: key.source, v6: key.v6, ..Self::default() }
    }

    fn is(&self, key: &Key) -> bool {
        self.source == key.source && self.v6 == key.v6
    }

    fn is_idle(&self, now: u64) -> bool {
        u64::from(self.forget).saturating_mul(SECOND) <= now
    }

    fn weight(&self) -> Self::Weight {
        (self.until, self.forget)
    }
}

#[cfg(test)]
mod tests;
