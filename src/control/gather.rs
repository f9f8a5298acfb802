//! Makes a [`Snapshot`] of all counts, and the answers that list parts of it.
//!
//! The server alone calls this, between two turns, so that all numbers are of one moment. It changes nothing and
//! cannot fail.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ipnet::IpNet;

use crate::admission::Admission;
use crate::api::{
    AtMost, Ban, CountDrift, Durations, Exits, Forgotten, ListenerState, ListenerStatus, NetworkCount, PenalisedSource,
    PenaltyStatus, RateTable, RateTables, Reloads, ServiceStatus, Snapshot, SourceCount, SourcePeak, Upgrades,
};
use crate::dispatch::listeners::{self, State};
use crate::dispatch::service::Served;
use crate::limits::histogram::{Histogram, TURNS};
use crate::limits::ledger::{Ledger, Tally};
use crate::net::Source;
use crate::system::System;
use crate::types::Now;
use crate::types::{Reason, ServiceId};

/// The most sources and networks in a list, unless a request asks for more; those with the most handlers are
/// listed.
pub(crate) const SOURCES_MAX: usize = 100;

/// The part of the status that the dispatcher does not know.
#[derive(Clone, Debug)]
pub(crate) struct ServerFacts<'a> {
    /// The current time on the wall clock, since 1970.
    pub time: Duration,
    /// The time since the daemon became ready.
    pub uptime: Duration,
    /// `daemon.instances`, as far as the limit on open files allows.
    pub instances: u32,
    /// The durations of the turns, without their waits.
    pub turns: &'a Histogram<{ TURNS.len() }>,
    /// The longest turn so far, without its wait.
    pub longest_turn: Duration,
    /// The numbers of reloads that succeeded and that failed.
    pub reloads: (u64, u64),
    /// The results of upgrades.
    pub upgrades: Upgrades,
    /// When the current table came into force, on the wall clock.
    pub table_since: Duration,
    /// Log lines that were lost.
    pub dropped: u64,
}

/// The dispatcher under the real kernel, which holds the counts.
type SystemDispatcher = crate::dispatch::Dispatcher<System>;

/// The whole status.
#[must_use]
pub(crate) fn take_snapshot(facts: &ServerFacts<'_>, dispatcher: &SystemDispatcher, now: Duration) -> Snapshot {
    let ledger = dispatcher.ledger();
    Snapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        time_seconds: facts.time.as_secs_f64(),
        uptime_seconds: facts.uptime.as_secs_f64(),
        turns: durations_of(facts.turns),
        longest_turn_seconds: facts.longest_turn.as_secs_f64(),
        reloads: Reloads { done: facts.reloads.0, failed: facts.reloads.1 },
        upgrades: facts.upgrades.clone(),
        table_since_seconds: facts.table_since.as_secs_f64(),
        log_lines_dropped: facts.dropped,
        handlers: ledger.total(),
        starting: u32::try_from(dispatcher.starting()).unwrap_or(u32::MAX),
        instances: facts.instances,
        peak: ledger.peak(),
        services: list_services(dispatcher),
        sources: list_sources(dispatcher, None, SOURCES_MAX),
        networks: list_networks(dispatcher),
        rates: rate_tables(dispatcher.admission(), now),
        bans: list_bans(dispatcher.admission(), now),
        penalties: penalty_status(dispatcher.admission(), now),
        audit: audit_counts(dispatcher),
    }
}

fn list_services(dispatcher: &SystemDispatcher) -> BTreeMap<String, ServiceStatus> {
    let mut open: HashMap<ServiceId, Vec<&listeners::Listener<System>>> = HashMap::new();
    dispatcher.listeners().iter().for_each(|(_, listener)| open.entry(listener.service).or_default().push(listener));
    let entries = services_by_id(dispatcher);
    let report = |(id, tally): (ServiceId, &Tally)| {
        let own = open.remove(&id).unwrap_or_default();
        let drained = dispatcher.admission().is_drained(id);
        let peak_rate = peak_rate_of(dispatcher.admission(), id);
        (
            tally.name.to_string(),
            ServiceStatus { drained, peak_rate, ..service_status(tally, entries.get(&id).copied(), own) },
        )
    };
    dispatcher.ledger().tallies().map(report).collect()
}

fn services_by_id(dispatcher: &SystemDispatcher) -> HashMap<ServiceId, &Served<System>> {
    dispatcher.services().map(|served| (served.id, served)).collect()
}

fn service_status(
    tally: &Tally,
    served: Option<&Served<System>>,
    mut listeners: Vec<&listeners::Listener<System>>,
) -> ServiceStatus {
    let by_reason = |counts: &BTreeMap<Reason, u64>| -> BTreeMap<String, u64> {
        counts.iter().map(|(reason, &count)| (reason.word().to_owned(), count)).collect()
    };
    listeners.sort_by(|one, two| one.endpoint.cmp(&two.endpoint));
    ServiceStatus {
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
        durations: durations_of(&tally.lives),
        listeners: listeners.into_iter().map(listener_status).collect(),
        tcpmux: served.iter().flat_map(|served| &served.config.tcpmux).map(ToString::to_string).collect(),
    }
}

fn durations_of<const N: usize>(histogram: &Histogram<N>) -> Durations {
    let at_most = |(end, count): (Duration, u64)| AtMost { seconds: end.as_secs_f64(), count };
    Durations {
        count: histogram.count(),
        sum_seconds: histogram.sum().as_secs_f64(),
        at_most: histogram.up_to().map(at_most).collect(),
    }
}

fn listener_status(listener: &listeners::Listener<System>) -> ListenerStatus {
    let (state, reason) = match listener.state() {
        State::Listening => (ListenerState::Listening, None),
        State::Paused(reason) => (ListenerState::Paused, Some(reason.word().to_owned())),
        State::Lent(_) => (ListenerState::Lent, None),
    };
    ListenerStatus { endpoint: listener.endpoint.to_string(), state, reason }
}

/// The sources with the most handlers, of one service or of all.
#[must_use]
pub(crate) fn list_sources(dispatcher: &SystemDispatcher, service: Option<ServiceId>, most: usize) -> Vec<SourceCount> {
    let entries = services_by_id(dispatcher);
    let counts = dispatcher.ledger().sources().filter(|(id, ..)| service.is_none_or(|only| *id == only));
    let busiest = select_busiest(counts, most).into_iter();
    let report = |(id, source, handlers): (ServiceId, Source, u32)| SourceCount {
        service: service_name(dispatcher.ledger(), id),
        source: source.to_string(),
        handlers,
        instances: entries.get(&id).and_then(|entry| entry.config.per_source.instances),
    };
    busiest.map(report).collect()
}

fn list_networks(dispatcher: &SystemDispatcher) -> Vec<NetworkCount> {
    let entries = services_by_id(dispatcher);
    let limit = |id| entries.get(&id).and_then(|entry| entry.config.per_network.as_ref()?.instances);
    let report = |(id, network, handlers): (ServiceId, Source, u32)| NetworkCount {
        service: service_name(dispatcher.ledger(), id),
        network: network.to_string(),
        handlers,
        instances: limit(id),
    };
    select_busiest(dispatcher.ledger().networks(), SOURCES_MAX).into_iter().map(report).collect()
}

fn service_name(ledger: &Ledger, id: ServiceId) -> String {
    ledger.tally(id).map(|tally| tally.name.to_string()).unwrap_or_default()
}

type Count = (ServiceId, Source, u32);

/// The `most` keys with the most handlers, in descending order.
fn select_busiest(counts: impl Iterator<Item = Count>, most: usize) -> Vec<Count> {
    let order = |&(id, source, handlers): &Count| (Reverse(handlers), id, source);
    let mut counts: Vec<_> = counts.collect();
    if counts.len() > most {
        // Only the listed ones need an order.
        counts.select_nth_unstable_by_key(most, order);
        counts.truncate(most);
    }
    counts.sort_unstable_by_key(order);
    counts
}

/// How full the tables of rates are. `lost_in_debt` counts sources whose entry was evicted too early, so that they
/// could connect sooner than the rate allows.
fn rate_tables(admission: &Admission, now: Duration) -> RateTables {
    let (rates, entries) = admission.rate_table();
    let indebted = rates.count_indebted(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    let lost = rates.evicted_with_debt();
    let table = |entries: u32, in_debt: usize, lost_in_debt| RateTable {
        entries: entries.into(),
        in_debt: in_debt as u64,
        lost_in_debt,
    };
    RateTables {
        ipv4: table(entries.ipv4, indebted.ipv4, lost.ipv4),
        ipv6: table(entries.ipv6, indebted.ipv6, lost.ipv6),
    }
}

fn peak_rate_of(admission: &Admission, id: ServiceId) -> Option<SourcePeak> {
    let peak = admission.peak_rate(id)?;
    Some(SourcePeak { source: peak.source.to_string(), connections_per_minute: peak.connections })
}

/// The bans in force.
#[must_use]
pub(crate) fn list_bans(admission: &Admission, now: Duration) -> Vec<Ban> {
    let left = |until: Option<Duration>| until.map(|until| until.saturating_sub(now).as_secs_f64());
    let ban = |(network, until): (IpNet, _)| Ban { network: network.to_string(), left_seconds: left(until) };
    admission.list_bans(Now { monotonic: now, wall: Duration::ZERO }).into_iter().map(ban).collect()
}

/// The number of penalised sources, and those with the longest remaining penalties.
#[must_use]
pub(crate) fn penalty_status(admission: &Admission, now: Duration) -> PenaltyStatus {
    let mut all: Vec<_> = admission.list_penalised(Now { monotonic: now, wall: Duration::ZERO }).collect();
    all.sort_by(|one, two| two.left.cmp(&one.left).then(one.source.cmp(&two.source)));
    let (penalised, forgotten) = (all.len() as u64, admission.forgotten_debtors());
    let longest = all.into_iter().take(SOURCES_MAX).map(|one| PenalisedSource {
        source: one.source.to_string(),
        left_seconds: one.left.as_secs_f64(),
        times: one.times,
    });
    let longest = longest.collect();
    PenaltyStatus { penalised, longest, forgotten: Forgotten { ipv4: forgotten.ipv4, ipv6: forgotten.ipv6 } }
}

/// Every count that disagrees with the tickets, and the number of tickets if it disagrees with the handlers'
/// records.
#[must_use]
pub(crate) fn audit_counts(dispatcher: &SystemDispatcher) -> Vec<CountDrift> {
    let drift = |drift: crate::limits::ledger::Drift| CountDrift {
        what: drift.what,
        expected: drift.expected,
        found: drift.found,
    };
    let mut drifts: Vec<_> = dispatcher.ledger().audit().into_iter().map(drift).collect();
    let (expected, found) = (dispatcher.handlers().count() as u64, u64::from(dispatcher.ledger().total()));
    if expected != found {
        drifts.push(CountDrift { what: "handlers".to_owned(), expected, found });
    }
    drifts
}
