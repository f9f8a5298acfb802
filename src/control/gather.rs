//! From the counts to a [`Snapshot`]. The server alone calls this, between two turns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ipnet::IpNet;

use crate::admission::Admission;
use crate::api::{
    AtMost, Ban, Drift, Durations, Exits, Forgotten, Listener, ListenerState, NetworkCount, PeakRate, Penalised,
    Penalties, RateTable, Rates, Reloads, Service, Snapshot, SourceCount, Upgrades,
};
use crate::dispatch::listeners::{self, State};
use crate::dispatch::service::Served;
use crate::limits::histogram::{Histogram, TURNS};
use crate::limits::ledger::{Ledger, Tally};
use crate::net::Source;
use crate::system::System;
use crate::types::Now;
use crate::types::{Reason, ServiceId};

/// At most so many sources, and networks, are listed unless more are asked for: those with the most handlers.
pub const SOURCES: usize = 100;

/// What the dispatcher does not know.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Now, on the wall clock.
    pub time: Duration,
    /// How long the daemon has been ready.
    pub uptime: Duration,
    /// `daemon.instances`, as far as the limit on open files allows.
    pub instances: u32,
    /// How long the turns took, without the waits.
    pub turns: &'a Histogram<{ TURNS.len() }>,
    /// The longest turn so far, without the wait.
    pub longest_turn: Duration,
    /// Tables that came into force after the first one, and tables that were refused.
    pub reloads: (u64, u64),
    /// How upgrades have gone.
    pub upgrades: Upgrades,
    /// When the table in force came into force, on the wall clock.
    pub table_since: Duration,
    /// Log lines that were lost.
    pub dropped: u64,
}

/// What holds the counts.
type Dispatcher = crate::dispatch::Dispatcher<System>;

/// The whole of it.
#[must_use]
pub fn snapshot(facts: &Facts<'_>, dispatcher: &Dispatcher, now: Duration) -> Snapshot {
    let ledger = dispatcher.ledger();
    Snapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        time_seconds: facts.time.as_secs_f64(),
        uptime_seconds: facts.uptime.as_secs_f64(),
        turns: durations(facts.turns),
        longest_turn_seconds: facts.longest_turn.as_secs_f64(),
        reloads: Reloads { done: facts.reloads.0, failed: facts.reloads.1 },
        upgrades: facts.upgrades.clone(),
        table_since_seconds: facts.table_since.as_secs_f64(),
        log_lines_dropped: facts.dropped,
        handlers: ledger.total(),
        starting: u32::try_from(dispatcher.starting()).unwrap_or(u32::MAX),
        instances: facts.instances,
        peak: ledger.peak(),
        services: services(dispatcher),
        sources: sources(dispatcher, None, SOURCES),
        networks: networks(dispatcher),
        rates: rates(dispatcher.admission(), now),
        bans: bans(dispatcher.admission(), now),
        penalties: penalties(dispatcher.admission(), now),
        audit: audit(dispatcher),
    }
}

fn services(dispatcher: &Dispatcher) -> BTreeMap<String, Service> {
    let mut open: HashMap<ServiceId, Vec<&listeners::Listener<System>>> = HashMap::new();
    dispatcher.listeners().iter().for_each(|(_, listener)| open.entry(listener.service).or_default().push(listener));
    let entries = services_by_id(dispatcher);
    let report = |(id, tally): (ServiceId, &Tally)| {
        let own = open.remove(&id).unwrap_or_default();
        let drained = dispatcher.admission().is_drained(id);
        let peak_rate = peak_rate(dispatcher.admission(), id);
        (tally.name.to_string(), Service { drained, peak_rate, ..service(tally, entries.get(&id).copied(), own) })
    };
    dispatcher.ledger().tallies().map(report).collect()
}

fn services_by_id(dispatcher: &Dispatcher) -> HashMap<ServiceId, &Served<System>> {
    dispatcher.services().map(|served| (served.id, served)).collect()
}

fn service(
    tally: &Tally,
    served: Option<&Served<System>>,
    mut listeners: Vec<&listeners::Listener<System>>,
) -> Service {
    let by_reason = |counts: &BTreeMap<Reason, u64>| -> BTreeMap<String, u64> {
        counts.iter().map(|(reason, &count)| (reason.word().to_owned(), count)).collect()
    };
    listeners.sort_by(|one, two| one.endpoint.cmp(&two.endpoint));
    Service {
        listed: tally.listed,
        drained: false,
        handlers: tally.live,
        instances: served.and_then(|served| served.config.instances),
        peak: tally.peak(),
        peak_rate: None,
        accepted: tally.accepted,
        refused: by_reason(&tally.refused),
        would_refuse: by_reason(&tally.would_refuse),
        spawn_failures: tally.failed.iter().map(|(step, &count)| (step.word().to_owned(), count)).collect(),
        exits: Exits { success: tally.ended.well, failure: tally.ended.badly, signal: tally.ended.by_signal },
        durations: durations(&tally.lives),
        listeners: listeners.into_iter().map(listener).collect(),
        tcpmux: served.iter().flat_map(|served| &served.config.tcpmux).map(ToString::to_string).collect(),
    }
}

fn durations<const N: usize>(histogram: &Histogram<N>) -> Durations {
    let at_most = |(end, count): (Duration, u64)| AtMost { seconds: end.as_secs_f64(), count };
    Durations {
        count: histogram.count(),
        sum_seconds: histogram.sum().as_secs_f64(),
        at_most: histogram.up_to().map(at_most).collect(),
    }
}

fn listener(listener: &listeners::Listener<System>) -> Listener {
    let (state, reason) = match listener.state() {
        State::Listening => (ListenerState::Listening, None),
        State::Paused(reason) => (ListenerState::Paused, Some(reason.word().to_owned())),
        State::Lent(_) => (ListenerState::Lent, None),
    };
    Listener { endpoint: listener.endpoint.to_string(), state, reason }
}

/// The sources with the most handlers, of one service or of all.
#[must_use]
pub fn sources(dispatcher: &Dispatcher, service: Option<ServiceId>, most: usize) -> Vec<SourceCount> {
    let entries = services_by_id(dispatcher);
    let counts = dispatcher.ledger().sources().filter(|(id, ..)| service.is_none_or(|only| *id == only));
    let busiest = busiest(counts, most).into_iter();
    let report = |(id, source, handlers): (ServiceId, Source, u32)| SourceCount {
        service: name(dispatcher.ledger(), id),
        source: source.to_string(),
        handlers,
        instances: entries.get(&id).and_then(|entry| entry.config.per_source.instances),
    };
    busiest.map(report).collect()
}

fn networks(dispatcher: &Dispatcher) -> Vec<NetworkCount> {
    let entries = services_by_id(dispatcher);
    let limit = |id| entries.get(&id).and_then(|entry| entry.config.per_network.as_ref()?.instances);
    let report = |(id, network, handlers): (ServiceId, Source, u32)| NetworkCount {
        service: name(dispatcher.ledger(), id),
        network: network.to_string(),
        handlers,
        instances: limit(id),
    };
    busiest(dispatcher.ledger().networks(), SOURCES).into_iter().map(report).collect()
}

fn name(ledger: &Ledger, id: ServiceId) -> String {
    ledger.tally(id).map(|tally| tally.name.to_string()).unwrap_or_default()
}

type Count = (ServiceId, Source, u32);

/// The keys with the most handlers, most first.
fn busiest(counts: impl Iterator<Item = Count>, most: usize) -> Vec<Count> {
    let order = |&(id, source, handlers): &Count| (Reverse(handlers), id, source);
    let mut counts: Vec<_> = counts.collect();
    if counts.len() > most {
        // Only those that are shown need an order.
        counts.select_nth_unstable_by_key(most, order);
        counts.truncate(most);
    }
    counts.sort_unstable_by_key(order);
    counts
}

/// How full the tables of rates are. An entry that was lost in debt is a source that could come sooner than allowed.
fn rates(admission: &Admission, now: Duration) -> Rates {
    let (rates, entries) = admission.rates();
    let indebted = rates.indebted(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    let lost = rates.evicted_with_debt();
    let table = |entries: u32, in_debt: usize, lost_in_debt| RateTable {
        entries: entries.into(),
        in_debt: in_debt as u64,
        lost_in_debt,
    };
    Rates { ipv4: table(entries.ipv4, indebted.ipv4, lost.ipv4), ipv6: table(entries.ipv6, indebted.ipv6, lost.ipv6) }
}

fn peak_rate(admission: &Admission, id: ServiceId) -> Option<PeakRate> {
    let peak = admission.peak_rate(id)?;
    Some(PeakRate { source: peak.source.to_string(), connections_per_minute: peak.connections })
}

/// The bans in force.
#[must_use]
pub fn bans(admission: &Admission, now: Duration) -> Vec<Ban> {
    let left = |until: Option<Duration>| until.map(|until| until.saturating_sub(now).as_secs_f64());
    let ban = |(network, until): (IpNet, _)| Ban { network: network.to_string(), left_seconds: left(until) };
    admission.bans(Now { monotonic: now, wall: Duration::ZERO }).into_iter().map(ban).collect()
}

/// How many sources are refused for what they owe, and those for whom it takes longest.
#[must_use]
pub fn penalties(admission: &Admission, now: Duration) -> Penalties {
    let mut all: Vec<_> = admission.penalised(Now { monotonic: now, wall: Duration::ZERO }).collect();
    all.sort_by(|one, two| two.left.cmp(&one.left).then(one.source.cmp(&two.source)));
    let (penalised, forgotten) = (all.len() as u64, admission.forgotten_debtors());
    let longest = all.into_iter().take(SOURCES).map(|one| Penalised {
        source: one.source.to_string(),
        left_seconds: one.left.as_secs_f64(),
        times: one.times,
    });
    let longest = longest.collect();
    Penalties { penalised, longest, forgotten: Forgotten { ipv4: forgotten.ipv4, ipv6: forgotten.ipv6 } }
}

/// Every count that disagrees with the tickets, and the tickets with the records of handlers.
#[must_use]
pub fn audit(dispatcher: &Dispatcher) -> Vec<Drift> {
    let drift =
        |drift: crate::limits::ledger::Drift| Drift { what: drift.what, expected: drift.expected, found: drift.found };
    let mut drifts: Vec<_> = dispatcher.ledger().audit().into_iter().map(drift).collect();
    let (expected, found) = (dispatcher.handlers().count() as u64, u64::from(dispatcher.ledger().total()));
    if expected != found {
        drifts.push(Drift { what: "handlers".to_owned(), expected, found });
    }
    drifts
}
