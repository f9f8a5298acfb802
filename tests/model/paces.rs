//! What sources and services have used up of their rates, worked out as simply as can be: in whole nanoseconds, in maps that grow.

use std::collections::BTreeMap;

use super::table::{Line, Pace};
use crate::net::Source;

const SECOND: u64 = 1_000_000_000;

/// Whose a rate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Source(Source),
    Network(Source),
    Service,
}

/// When everything that was used up will have been earned again.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<(usize, Of), u64>);

impl Pace {
    fn step(self) -> u64 {
        self.step * SECOND
    }

    fn whole(self) -> u64 {
        self.step() * u64::from(self.burst)
    }
}

fn pace_of(line: &Line, of: Of) -> Option<Pace> {
    match of {
        Of::Source(_) => line.source.pace,
        Of::Network(_) => line.network?.pace,
        Of::Service => line.pace,
    }
}

impl Rates {
    /// Does what is left of the burst do for one more?
    pub(super) fn may_come(&self, line: &Line, of: Of, now: u64) -> bool {
        let Some(pace) = pace_of(line, of) else { return true };
        let owed = self.0.get(&(line.name, of)).map_or(0, |until| until.saturating_sub(now));
        owed + pace.step() <= pace.whole()
    }

    pub(super) fn has_come(&mut self, line: &Line, of: Of, now: u64) {
        let Some(pace) = pace_of(line, of) else { return };
        let until = self.0.entry((line.name, of)).or_insert(0);
        *until = (*until).max(now) + pace.step();
    }

    /// The same part of a burst stays used; what has no rate any more is forgotten.
    pub(super) fn reload(&mut self, old: &[Line], new: &[Line], now: u64) {
        let find =
            |table: &[Line], name, of| table.iter().find(|line| line.name == name).and_then(|line| pace_of(line, of));
        self.0.retain(|&(name, of), until| {
            let Some((old, new)) = find(old, name, of).zip(find(new, name, of)) else { return false };
            let owed = u128::from(until.saturating_sub(now)) * u128::from(new.whole()) / u128::from(old.whole());
            *until = now + owed as u64;
            true
        });
    }

    /// The memory of sources and networks is another one.
    pub(super) fn forget_sources(&mut self) {
        self.0.retain(|&(_, of), _| of == Of::Service);
    }
}
