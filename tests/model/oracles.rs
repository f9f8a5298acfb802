//! Two oracles: what must be true after every step, and what must be true in the end.

use std::collections::BTreeMap;

use super::kernel::PIDS;
use super::table::NAMES;
use super::world::World;
use crate::net::Source;
use crate::types::{Reason, ServiceId};

/// How many handlers the keys of services have.
type Keys = BTreeMap<(String, Source), u32>;

impl World {
    /// The first oracle: every count is what the kernel's own list says.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_services()?;
        self.check_keys()?;
        self.check_totals()?;
        self.check_waiting()?;
        match self.ledger.audit() {
            drifts if drifts.is_empty() => Ok(()),
            drifts => Err(format!("{drifts:?}")),
        }
    }

    fn check_services(&self) -> Result<(), String> {
        let processes = self.kernel.0.borrow();
        for (_, tally) in self.ledger.tallies() {
            let name = &*tally.name;
            let expected = processes.count(|process| process.owner.0 == name);
            if tally.live != expected {
                return Err(format!("{name} has {expected} handlers and counts {}", tally.live));
            }
            // A process that is being started has its place, and is no handler yet; it may never be one.
            let born = processes.count(|process| process.owner.0 == name && process.born);
            let ended = tally.ended.well + tally.ended.badly + tally.ended.by_signal;
            if tally.accepted != ended + u64::from(born) {
                return Err(format!("{name}: {} accepted, {ended} ended, {born} handlers", tally.accepted));
            }
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<(), String> {
        let (mut sources, mut networks) = (Keys::new(), Keys::new());
        for process in self.kernel.0.borrow().all() {
            let (service, source, network) = process.owner;
            *sources.entry((service.to_owned(), source)).or_default() += 1;
            if let Some(network) = network {
                *networks.entry((service.to_owned(), network)).or_default() += 1;
            }
        }
        let (by_source, by_network) = (self.by_name(self.ledger.sources()), self.by_name(self.ledger.networks()));
        if (&by_source, &by_network) == (&sources, &networks) {
            return Ok(());
        }
        Err(format!("{sources:?} and {networks:?} count as {by_source:?} and {by_network:?}"))
    }

    fn by_name(&self, counts: impl Iterator<Item = (ServiceId, Source, u32)>) -> Keys {
        let name = |id| self.ledger.tally(id).map_or_else(String::new, |tally| tally.name.to_string());
        counts.map(|(id, key, count)| ((name(id), key), count)).collect()
    }

    fn check_totals(&self) -> Result<(), String> {
        let processes = self.kernel.0.borrow();
        let all = processes.all().count();
        if self.ledger.total() as usize != all || self.reaper.handlers() + self.reaper.waiting() != all {
            return Err(format!("{all} handlers, the ledger counts {}", self.ledger.total()));
        }
        if !processes.strays.is_empty() {
            return Err(format!("{:?} got a signal and were nobody's", processes.strays));
        }
        if processes.by_pid.len() > PIDS as usize { Err("too many processes".to_owned()) } else { Ok(()) }
    }

    /// Nobody waits for room that there is.
    fn check_waiting(&self) -> Result<(), String> {
        for (&name, &reason) in &self.paused {
            let line = self.entries.iter().map(|(_, line)| line).find(|line| line.name == name);
            let live = self.kernel.0.borrow().count(|process| process.owner.0 == NAMES[name]);
            let full = line.and_then(|line| line.instances).is_some_and(|limit| live >= limit);
            let crowded = self.kernel.0.borrow().all().count() >= self.instances as usize;
            if !(if reason == Reason::ServiceInstances { full } else { crowded }) {
                return Err(format!("{} waits for room, and there is: {reason:?}", NAMES[name]));
            }
        }
        Ok(())
    }

    /// The second oracle: when all processes have ended, one turn later nothing is left.
    pub(super) fn all_gone(&mut self) -> Result<(), String> {
        self.end_all()?;
        let live: Vec<_> = self.ledger.tallies().filter(|(_, tally)| tally.live > 0).collect();
        let zombies = self.kernel.0.borrow().by_pid.len();
        let unlisted = self.ledger.tallies().filter(|(_, tally)| !tally.listed).count();
        let keys = self.ledger.sources().count() + self.ledger.networks().count();
        if live.is_empty() && keys + zombies + unlisted + self.paused.len() == 0 && self.reaper.handlers() == 0 {
            return Ok(());
        }
        let sources: Vec<_> = self.ledger.sources().collect();
        let paused = &self.paused;
        Err(format!("left over: {live:?} {sources:?}, {zombies} zombies, {unlisted} services of the past, {paused:?}"))
    }
}
