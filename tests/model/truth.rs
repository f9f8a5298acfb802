//! What admission and the ledger must say, worked out from the processes that there are and from what has happened.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::barred::Barred;
use super::paces::{Of, Rates};
use super::state::{Process, State};
use super::table::{ADDRESSES, COST_OF_CRASH, COST_OF_EXIT, COST_OF_REFUSAL, COST_OF_TRAP, Kind, Line, NAMES};
use crate::limits::ledger::Endings;
use crate::net::Source;
use crate::types::{Ending, Reason, Step};

/// Whose a process is: its service, its source and its network, as the table had them when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub service: usize,
    pub source: Source,
    pub network: Option<Source>,
}

/// What has happened to a service since it has been in the table or has had handlers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub accepted: u64,
    pub refused: BTreeMap<Reason, u64>,
    pub would_refuse: BTreeMap<Reason, u64>,
    pub failed: BTreeMap<Step, u64>,
    pub ended: Endings,
    pub lived: Duration,
    /// The most handlers when one of them ended.
    pub peak: u32,
}

/// What a client has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Start,
    Refuse(Reason),
}

/// Everything that is not seen from processes and sockets.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub barred: Barred,
    rates: Rates,
    pub table: Vec<Line>,
    pub large: bool,
    pub instances: u32,
    pub tallies: BTreeMap<usize, Tally>,
    /// The most handlers when one of them ended.
    pub peak: u32,
}

/// Which reasons are about a client alone.
fn is_personal(reason: Reason) -> bool {
    let of_key = matches!(reason, Reason::SourceInstances | Reason::SourceRate);
    let of_network = matches!(reason, Reason::NetworkInstances | Reason::NetworkRate);
    of_key || of_network || matches!(reason, Reason::Access | Reason::Ban | Reason::Penalty)
}

fn below(limit: Option<u32>, live: u32, reason: Reason) -> Result<(), Reason> {
    if limit.is_some_and(|limit| live >= limit) { Err(reason) } else { Ok(()) }
}

impl Truth {
    pub(super) fn line(&self, service: usize) -> Option<Line> {
        self.table.iter().find(|line| line.name == service).copied()
    }

    pub(super) fn line_at(&self, endpoint: usize) -> Option<Line> {
        self.table.iter().find(|line| line.has(endpoint)).copied()
    }

    pub(super) fn tally(&mut self, service: usize) -> &mut Tally {
        self.tallies.entry(service).or_default()
    }

    pub(super) fn now(&self) -> u64 {
        self.barred.now.as_nanos() as u64
    }

    /// A new table is in force.
    pub(super) fn reload(&mut self, table: &[Line], large: bool, instances: u32) {
        let old = std::mem::replace(&mut self.table, table.to_vec());
        self.barred.keep(|service| table.iter().any(|line| line.name == service));
        self.rates.reload(&old, table, self.now());
        let size = |table: &[Line], large| table.iter().any(Line::is_paced).then_some(large);
        if size(&old, self.large) != size(table, large) {
            self.rates.forget_sources();
        }
        (self.large, self.instances) = (large, instances);
        table.iter().for_each(|line| _ = self.tally(line.name));
    }

    pub(super) fn in_pace(&self, line: &Line, of: Of, reason: Reason) -> Result<(), Reason> {
        if self.rates.may_come(line, of, self.now()) { Ok(()) } else { Err(reason) }
    }

    /// A client, or the first who waits for a handler with the socket, has used up its share of the rates.
    fn has_come(&mut self, line: &Line, address: Option<Ipv4Addr>) {
        let now = self.now();
        if let Some((source, network)) = address.map(|address| line.keys(address)) {
            self.rates.has_come(line, Of::Source(source), now);
            network.into_iter().for_each(|network| self.rates.has_come(line, Of::Network(network), now));
        }
        self.rates.has_come(line, Of::Service, now);
    }

    pub(super) fn refuse(&mut self, service: usize, reason: Reason) {
        *self.tally(service).refused.entry(reason).or_default() += 1;
    }

    pub(super) fn fail(&mut self, service: usize, step: Step) {
        // A service that is gone with its last handler has no books any more.
        *self.tally(service).failed.entry(step).or_default() += 1;
        self.refuse(service, Reason::SpawnFailed);
    }

    fn charge(&mut self, line: &Line, address: Option<Ipv4Addr>, cost: u64) {
        if let Some(address) = address.filter(|_| !line.dry_run) {
            self.barred.charge(address, cost);
        }
    }

    fn charge_for_exit(&mut self, process: &Process, ending: Ending) {
        let cost = match ending {
            Ending::Exited(status) if status != 0 => COST_OF_EXIT,
            Ending::Signaled(libc::SIGSEGV) => COST_OF_CRASH,
            _ => return,
        };
        let line = self.line(process.owner.service).filter(|line| line.penalties);
        if let Some(line) = line.filter(|_| process.lent.is_none()) {
            self.charge(&line, process.address, cost);
        }
    }

    /// The exit of a process is settled: `live` and `all` were the counts before.
    pub(super) fn note_exit(&mut self, process: &Process, (live, all): (u32, u32)) {
        self.peak = self.peak.max(all);
        let lived = self.barred.now.saturating_sub(process.since);
        let tally = self.tally(process.owner.service);
        tally.peak = tally.peak.max(live);
        let Some(ending) = process.exit() else { return };
        tally.lived += lived;
        match ending {
            Ending::Exited(0) => tally.ended.well += 1,
            Ending::Exited(_) => tally.ended.badly += 1,
            Ending::Signaled(_) => tally.ended.by_signal += 1,
        }
        self.charge_for_exit(process, ending);
    }
}

impl State {
    /// Is there room for one more, whoever it is?
    pub(super) fn room(&self, line: &Line) -> Result<(), Reason> {
        self.truth.in_pace(line, Of::Service, Reason::ServiceRate)?;
        below(line.instances, self.live(line.name), Reason::ServiceInstances)?;
        self.room_in_daemon()
    }

    pub(super) fn room_in_daemon(&self) -> Result<(), Reason> {
        below(Some(self.truth.instances), self.count(|_| true), Reason::DaemonInstances)
    }

    /// Is a client of this service to be accepted at all? Otherwise it is left waiting.
    pub(super) fn is_to_be_accepted(&self, line: &Line) -> Result<(), Reason> {
        if self.truth.barred.is_drained(line.name) {
            return Ok(());
        }
        let room = if line.dry_run { self.room_in_daemon() } else { self.room(line) };
        room.or_else(|reason| if line.queue || reason == Reason::ServiceRate { Err(reason) } else { Ok(()) })
    }

    /// What is said of a client, who may be nobody in particular.
    fn may_come(&self, line: &Line, address: Option<Ipv4Addr>) -> Result<(), Reason> {
        let Some(address) = address else {
            return if self.truth.barred.is_drained(line.name) { Err(Reason::Drained) } else { self.room(line) };
        };
        let (source, network) = line.keys(address);
        let limits = line.network.unwrap_or_default();
        if self.truth.barred.is_drained(line.name) {
            return Err(Reason::Drained);
        }
        if line.denied.is_some_and(|denied| ADDRESSES[denied] == address) {
            return Err(Reason::Access);
        }
        self.truth.barred.may_come(line.name, address)?;
        let of_service = |process: &&Process| process.owner.service == line.name;
        let mine = self.all().filter(of_service).filter(|process| process.owner.source == source).count();
        below(line.source.instances, mine as u32, Reason::SourceInstances)?;
        self.truth.in_pace(line, Of::Source(source), Reason::SourceRate)?;
        if let Some(network) = network {
            let ours = self.all().filter(of_service).filter(|process| process.owner.network == Some(network)).count();
            below(limits.instances, ours as u32, Reason::NetworkInstances)?;
            self.truth.in_pace(line, Of::Network(network), Reason::NetworkRate)?;
        }
        self.room(line)
    }

    /// What becomes of a client, with what follows from it for rates, counts and penalties. `None`: it is left waiting.
    pub(super) fn judge(&mut self, line: &Line, address: Option<Ipv4Addr>) -> Option<Verdict> {
        let Err(reason) = self.may_come(line, address) else {
            self.truth.has_come(line, address);
            if line.trap {
                self.truth.charge(line, address, COST_OF_TRAP);
            }
            return Some(Verdict::Start);
        };
        let hard = [
            (self.truth.barred.is_drained(line.name), Reason::Drained),
            (address.is_some_and(|address| self.truth.barred.is_banned(address)), Reason::Ban),
            (self.room_in_daemon().is_err(), Reason::DaemonInstances),
        ];
        let reason = match hard.into_iter().find(|(holds, _)| *holds) {
            None if line.dry_run => {
                *self.truth.tally(line.name).would_refuse.entry(reason).or_default() += 1;
                self.saw("admitted by dry_run alone");
                return Some(Verdict::Start);
            }
            Some((_, hard)) if line.dry_run => hard,
            _ => reason,
        };
        // Who is lent a socket is nobody in particular, and nobody but the sender of a datagram is refused.
        if line.lends() && (address.is_none() || !is_personal(reason)) {
            return None;
        }
        self.saw(&format!("refused: {reason:?}"));
        self.truth.refuse(line.name, reason);
        let charged = matches!(reason, Reason::Access | Reason::SourceInstances | Reason::SourceRate);
        if line.penalties && charged {
            self.truth.charge(line, address, COST_OF_REFUSAL);
        }
        Some(Verdict::Refuse(reason))
    }

    /// The service that a client of `tcpmux` reaches under a name.
    pub(super) fn asked_for(&self, service: Option<usize>) -> Option<Line> {
        self.truth.line(service?).filter(|line| line.kind == Kind::Named)
    }

    /// Services that are in no table go with their last handler.
    pub(super) fn forget_unlisted(&mut self) {
        let kept = |service: usize| self.truth.line(service).is_some() || self.live(service) > 0;
        let gone: Vec<_> = (0..NAMES.len()).filter(|&service| !kept(service)).collect();
        gone.iter().for_each(|service| _ = self.truth.tallies.remove(service));
    }
}
