//! Two oracles: what must be true after every step, and what must be true in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{Fate, PIDS, Process, State};
use super::table::{DATAGRAMS, NAMES, endpoint};
use super::truth::{Tally, Verdict};
use super::world::World;
use crate::dispatch::listeners::{Listener, State as ListenerState};
use crate::limits::ledger;
use crate::net::Source;
use crate::types::{ListenerId, Reason, ServiceId};

/// How many handlers the keys of services have.
type Keys = BTreeMap<(String, Source), u32>;

/// What the listeners did before a turn.
pub(super) type Before = BTreeMap<ListenerId, ListenerState>;

fn same<T: PartialEq + std::fmt::Debug>(what: impl std::fmt::Display, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and it should be {expected:?}")) }
}

/// The books of a service, as the truth has them.
fn tally_of(tally: &ledger::Tally) -> Tally {
    Tally {
        accepted: tally.accepted,
        refused: tally.refused.clone(),
        would_refuse: tally.would_refuse.clone(),
        failed: tally.failed.clone(),
        ended: tally.ended,
        lived: tally.lives.sum(),
        peak: tally.peak(),
    }
}

impl World {
    /// The first oracle: every count is what the kernel's own list says, every descriptor has an owner, and every socket is
    /// polled that is to be.
    pub(super) fn check(&self) -> Result<(), String> {
        let state = self.state();
        if let Some(fault) = state.faults.first() {
            return Err(fault.clone());
        }
        self.check_tallies(&state)?;
        self.check_keys(&state)?;
        self.check_handlers(&state)?;
        self.check_clients(&state)?;
        same("descriptors", state.descriptors.list(), state.expected_descriptors())?;
        self.check_listeners(&state)?;
        self.check_deadline(&state)?;
        same("drifts", self.dispatcher.ledger().audit(), Vec::new())
    }

    fn check_tallies(&self, state: &State) -> Result<(), String> {
        let ledger = self.dispatcher.ledger();
        let (mut found, mut lives) = (BTreeMap::new(), BTreeMap::new());
        for (_, tally) in ledger.tallies() {
            found.insert(tally.name.to_string(), tally_of(tally));
            lives.insert(tally.name.to_string(), tally.live);
            same(&tally.name, tally.lives.count(), tally.ended.well + tally.ended.badly + tally.ended.by_signal)?;
        }
        let expected = state.truth.tallies.iter().map(|(&service, tally)| {
            let peak = tally.peak.max(state.live(service));
            (NAMES[service].to_owned(), Tally { peak, ..tally.clone() })
        });
        same("books", found, expected.collect())?;
        let services = state.truth.tallies.keys();
        same("handlers", lives, services.map(|&one| (NAMES[one].to_owned(), state.live(one))).collect())?;
        let all = state.count(|_| true);
        same("all handlers", ledger.total(), all)?;
        same("the most handlers", ledger.peak(), state.truth.peak.max(all))
    }

    fn check_keys(&self, state: &State) -> Result<(), String> {
        let (mut sources, mut networks) = (Keys::new(), Keys::new());
        for Process { owner, .. } in state.all() {
            *sources.entry((NAMES[owner.service].to_owned(), owner.source)).or_default() += 1;
            if let Some(network) = owner.network {
                *networks.entry((NAMES[owner.service].to_owned(), network)).or_default() += 1;
            }
        }
        let ledger = self.dispatcher.ledger();
        same("sources", self.by_name(ledger.sources()), sources)?;
        same("networks", self.by_name(ledger.networks()), networks)
    }

    fn by_name(&self, counts: impl Iterator<Item = (ServiceId, Source, u32)>) -> Keys {
        let name = |id| self.dispatcher.ledger().tally(id).map_or_else(String::new, |tally| tally.name.to_string());
        counts.map(|(id, key, count)| ((name(id), key), count)).collect()
    }

    /// There is a record for each process, and no other.
    fn check_handlers(&self, state: &State) -> Result<(), String> {
        let mut found: Vec<_> = self
            .dispatcher
            .handlers()
            .map(|(ticket, handler)| (Some(ticket), handler.pid, handler.service.to_string(), handler.lent))
            .collect();
        let of = |process: &Process| {
            (process.ticket, process.pid, NAMES[process.owner.service].to_owned(), process.lent.is_some())
        };
        let mut expected: Vec<_> = state.processes.values().map(of).collect();
        found.sort_unstable();
        expected.sort_unstable();
        same("records", found, expected)?;
        same("starts", self.dispatcher.starting(), state.starting().count())?;
        same("exits on the queue", state.collected.len(), 0)?;
        if state.processes.len() > state.pids.max(PIDS) as usize {
            Err("too many processes".to_owned())
        } else {
            Ok(())
        }
    }

    /// Each client waits, or is with a process, or was refused.
    fn check_clients(&self, state: &State) -> Result<(), String> {
        let lost = |fate| match fate {
            Fate::Judged { verdict: Verdict::Start | Verdict::Refuse(_), .. } => true,
            Fate::ToBeTurnedAway | Fate::NotStarted => true,
            Fate::Waits | Fate::Served(_) | Fate::Refused | Fate::Gone => false,
        };
        if let Some(client) = state.clients.iter().find(|client| lost(client.fate)) {
            return Err(format!("nothing has become of {client:?}"));
        }
        same("back-offs by the log", state.back_offs.1, state.back_offs.0)?;
        same("warnings", state.stolen.1, state.stolen.0)?;
        same("socket with a client to be reset", state.to_be_reset, None)?;
        same("socket to be lent", state.to_be_lent, None)?;
        same("socket with a datagram to be discarded", state.to_be_discarded, None)
    }

    fn check_listeners(&self, state: &State) -> Result<(), String> {
        let listeners = self.dispatcher.listeners();
        same("listeners", listeners.count(), state.sockets.len())?;
        for (id, listener) in listeners.iter() {
            check_listener(state, id, listener).map_err(|error| format!("{}: {error}", listener.endpoint))?;
        }
        Ok(())
    }

    /// The loop wakes up in time.
    fn check_deadline(&self, state: &State) -> Result<(), String> {
        let now = state.truth.barred.now;
        let second = now + Duration::from_secs(1);
        let signals = state.processes.values().filter_map(|process| process.deadline).map(|(when, _)| when);
        let rests = state.sockets.values().filter_map(|socket| socket.rest).map(|(_, until)| until);
        let rests = rests.filter(|until| *until > now);
        let late = state.starting().map(|_| second);
        let unwatched = state.processes.values().filter(|process| process.watched.is_none()).map(|_| second);
        let Some(due) = signals.chain(rests).chain(late).chain(unwatched).min() else { return Ok(()) };
        match self.dispatcher.deadline(now) {
            Some(deadline) if deadline <= due => Ok(()),
            other => Err(format!("there is something to do at {due:?}, and the time-out is {other:?}")),
        }
    }

    pub(super) fn before(&self) -> Before {
        self.dispatcher.listeners().iter().map(|(id, listener)| (id, listener.state())).collect()
    }

    /// What must be so when a turn has begun: whoever has ended has been collected, and whose time is over has been told.
    pub(super) fn check_turn(&self, heard: bool) -> Result<(), String> {
        let state = self.state();
        let now = state.truth.barred.now;
        for process in state.processes.values() {
            // Whoever is killed in this turn is found in the next.
            let killed = state.signals.iter().any(|(pid, _)| *pid == process.pid);
            if !killed && process.start.is_some_and(|start| start.looked_at && start.over_at <= now) {
                return Err(format!("nobody has looked at the end of a start: {process:?}"));
            }
            if process.deadline.is_some_and(|(when, _)| when <= now) {
                return Err(format!("the time of a handler is over: {process:?}"));
            }
            let known = heard || process.watched.is_none();
            if known && !killed && process.is_handler() && state.is_zombie(process) {
                return Err(format!("nobody has collected {process:?}"));
            }
        }
        let signals: Vec<_> = state.signals.iter().map(|&(pid, signal)| (pid, signal.word())).collect();
        same("signals by the log", &state.told, &signals)?;
        drop(state);
        self.state_mut().signals.clear();
        self.state_mut().told.clear();
        self.check_time_out(now)
    }

    /// The loop does not wake up for nothing: all that is due has been done.
    fn check_time_out(&self, now: Duration) -> Result<(), String> {
        let blocked = !self.state().orphans.is_empty() || self.state().child_news;
        match self.dispatcher.deadline(now) {
            Some(deadline) if deadline <= now && !blocked && self.state().starting().next().is_none() => {
                Err(format!("the time-out ends at {deadline:?}, and it is {now:?}"))
            }
            _ => Ok(()),
        }
    }

    /// After a turn with time left nobody waits at a socket that is polled, unless there was no room for a while: the next
    /// wait of the loop finds those.
    pub(super) fn check_nobody_waits(&self, ready: &[ListenerId]) -> Result<(), String> {
        let state = self.state();
        let polled = state.sockets.values().filter(|socket| socket.polled.is_some_and(|id| ready.contains(&id)));
        let resumed = |number: usize| state.resumed.contains(&endpoint(number).to_string());
        let in_vain = polled.filter(|socket| !socket.waiting.is_empty());
        let forgotten = in_vain.filter(|socket| !resumed(socket.endpoint));
        match forgotten.into_iter().next() {
            Some(socket) => Err(format!("somebody waits: {socket:?}")),
            None => Ok(()),
        }
    }

    /// The log says of those that were paused and are polled again that they are.
    pub(super) fn check_resumed(&self, before: &Before) -> Result<(), String> {
        let state = self.state();
        for (id, listener) in self.dispatcher.listeners().iter() {
            let endpoint = listener.endpoint.to_string();
            let was_paused = matches!(before.get(&id), Some(ListenerState::Paused(_)));
            if was_paused && listener.is_polled() && !state.resumed.contains(&endpoint) {
                return Err(format!("{endpoint} is polled again, and the log does not say so"));
            }
        }
        Ok(())
    }

    /// A socket that comes back from a handler has not been paused, unless it was before.
    pub(super) fn check_returned(&self, before: &Before) -> Result<(), String> {
        let state = self.state();
        for (id, listener) in self.dispatcher.listeners().iter().filter(|(_, listener)| listener.is_polled()) {
            let endpoint = listener.endpoint.to_string();
            let was_lent = matches!(before.get(&id), Some(ListenerState::Lent(_)));
            let rest = state.sockets.get(&listener.socket.number()).and_then(|socket| socket.rest);
            if was_lent && rest.is_none() && state.resumed.contains(&endpoint) {
                return Err(format!("{endpoint} has come back, and the log says that it was paused"));
            }
        }
        Ok(())
    }

    /// Before an upgrade no start is under way that is over by `soon`.
    pub(super) fn check_settled(&self, soon: Duration) -> Result<(), String> {
        let state = self.state();
        let over = |process: &&Process| process.start.is_some_and(|start| start.over_at <= soon);
        match state.starting().find(over) {
            Some(process) => Err(format!("an upgrade during {process:?}")),
            None => Ok(()),
        }
    }

    /// The second oracle: when all processes have ended and time has passed, one turn later nothing is left.
    pub(super) fn all_gone(&mut self) -> Result<(), String> {
        self.end_all()?;
        let (state, ledger) = (self.state(), self.dispatcher.ledger());
        let live: Vec<_> = ledger.tallies().filter(|(_, tally)| tally.live > 0 || !tally.listed).collect();
        if !live.is_empty() || ledger.total() > 0 {
            return Err(format!("left over: {live:?}"));
        }
        same("keys left over", ledger.sources().count() + ledger.networks().count(), 0)?;
        same("zombies left over", state.processes.len() + state.orphans.len(), 0)?;
        same("records left over", self.dispatcher.handlers().count() + self.dispatcher.starting(), 0)?;
        let sockets = state.sockets.keys().filter(|number| state.descriptors.is_open(**number)).count();
        same("descriptors but for sockets", state.descriptors.list().len(), sockets)?;
        drop(state);
        self.wait_for_listeners()?;
        let may_rest = |listener: &Listener<_>| match listener.state() {
            ListenerState::Paused(Reason::Drained) => true,
            state => state == ListenerState::Listening && listener.is_polled(),
        };
        match self.dispatcher.listeners().iter().find(|(_, listener)| !may_rest(listener)) {
            Some((_, listener)) => Err(format!("{} is {:?}", listener.endpoint, listener.state())),
            None => Ok(()),
        }
    }
}

/// A socket is polled, or there is a reason that holds.
fn check_listener(state: &State, id: ListenerId, listener: &Listener<super::kernel::FakeKernel>) -> Result<(), String> {
    let number = listener.socket.number();
    let Some(socket) = state.sockets.get(&number) else { return Err("a socket that is closed".to_owned()) };
    let Some(line) = state.truth.line_at(socket.endpoint) else { return Err("it is in no service".to_owned()) };
    same("endpoint", &*listener.endpoint, &endpoint(socket.endpoint))?;
    same("service", &*listener.name, NAMES[line.name])?;
    same("wait", listener.wait, line.lends())?;
    same("datagrams", listener.endpoint.is_datagram(), socket.endpoint >= DATAGRAMS)?;
    same("polled as", listener.is_polled().then_some(id), socket.polled)?;
    let borrower = state.borrower(number);
    let now = state.truth.barred.now;
    let rest = socket.rest.filter(|(_, until)| *until > now).map(|(reason, _)| reason);
    match (listener.state(), borrower) {
        (ListenerState::Lent(ticket), Some(process)) if process.ticket == Some(ticket) => {
            same("polled while lent", socket.polled, None)
        }
        (ListenerState::Lent(_), _) | (_, Some(_)) => {
            Err(format!("it is {:?}, and the process with it is {borrower:?}", listener.state()))
        }
        (ListenerState::Listening, None) if socket.polled.is_none() => Err("nobody polls it".to_owned()),
        (ListenerState::Listening, None) => same("to be left alone", None, rest),
        (ListenerState::Paused(reason), None) => {
            // Where clients are not to wait for room, they are refused.
            let may_wait = line.queue || line.lends();
            let holds = match reason {
                Reason::ServiceInstances | Reason::DaemonInstances if !may_wait => false,
                Reason::ServiceInstances => line.instances.is_some_and(|limit| state.live(line.name) >= limit),
                Reason::DaemonInstances => state.room_in_daemon().is_err(),
                Reason::Drained => state.truth.barred.is_drained(line.name),
                Reason::ServiceRate => state.truth.in_pace(&line, super::paces::Of::Service, reason).is_err(),
                _ => rest == Some(reason),
            };
            same("polled while paused", socket.polled, None)?;
            if holds { Ok(()) } else { Err(format!("it waits for {reason:?}, which is over")) }
        }
    }
}
