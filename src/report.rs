//! One snapshot of the books, as JSON: what SIGUSR1 writes.
//!
//! The daemon calls this between two turns, so every number is of the same moment. It reads, and cannot fail.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::acceptor::Acceptor;
use crate::admission::Admission;
use crate::ledger::{Ledger, ServiceId, Tally};
use crate::listeners::{Listener, Listeners, State};
use crate::log::Reason;
use crate::source::Source;

/// At most so many sources, and networks, are listed, those with the most handlers.
const SOURCES: usize = 100;

/// What the books do not hold.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How long the daemon has been ready.
    pub uptime: Duration,
    /// `daemon.instances`, as far as the limit on open files allows.
    pub instances: u32,
    /// The longest turn so far, without the wait.
    pub longest_turn: Duration,
    /// Tables that came into force after the first one, and tables that were refused.
    pub reloads: (u64, u64),
    /// Log lines that were lost.
    pub dropped: u64,
    /// Handlers that the reaper knows of, and exits that have not been settled.
    pub handlers: (usize, usize),
}

/// The status as one JSON object. Times are in seconds.
pub fn status(facts: &Facts, ledger: &Ledger, listeners: &Listeners, acceptor: &Acceptor, now: Duration) -> Value {
    let entries = acceptor.entries();
    let limits: HashMap<ServiceId, Option<u32>> = entries.map(|entry| (entry.id, entry.service.instances)).collect();
    let mut open: HashMap<ServiceId, Vec<&Listener>> = HashMap::new();
    listeners.iter().for_each(|(_, listener)| open.entry(listener.service).or_default().push(listener));
    let mut services: Vec<_> = ledger.tallies().collect();
    services.sort_by(|(_, one), (_, two)| one.name.cmp(&two.name));
    let services: Map<String, Value> = services
        .into_iter()
        .map(|(id, tally)| {
            let own = open.remove(&id).unwrap_or_default();
            (tally.name.to_string(), service(tally, limits.get(&id).copied().flatten(), own))
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": facts.uptime.as_secs_f64(),
        "longest_turn_seconds": facts.longest_turn.as_secs_f64(),
        "reloads": { "done": facts.reloads.0, "failed": facts.reloads.1 },
        "log_lines_dropped": facts.dropped,
        "handlers": ledger.total(),
        "starting": acceptor.starting(),
        "instances": facts.instances,
        "services": services,
        "sources": most(ledger, ledger.sources(), "source"),
        "networks": most(ledger, ledger.networks(), "network"),
        "rates": rates(acceptor.admission(), now),
        "audit": audit(facts, ledger),
    })
}

fn service(tally: &Tally, limit: Option<u32>, mut listeners: Vec<&Listener>) -> Value {
    let by_reason = |counts: &BTreeMap<Reason, u64>| -> Map<String, Value> {
        counts.iter().map(|(reason, &count)| (reason.word().to_owned(), count.into())).collect()
    };
    let failed: Map<String, Value> =
        tally.failed.iter().map(|(step, &count)| (step.word().to_owned(), count.into())).collect();
    listeners.sort_by(|one, two| one.endpoint.cmp(&two.endpoint));
    json!({
        "listed": tally.listed,
        "handlers": tally.live,
        "instances": limit,
        "peak": tally.peak(),
        "accepted": tally.accepted,
        "refused": by_reason(&tally.refused),
        "would_refuse": by_reason(&tally.would_refuse),
        "spawn_failures": failed,
        "exits": {
            "success": tally.ended.well,
            "failure": tally.ended.badly,
            "signal": tally.ended.by_signal,
        },
        "listeners": listeners.into_iter().map(listener).collect::<Vec<_>>(),
    })
}

fn listener(listener: &Listener) -> Value {
    let (state, reason) = match listener.state {
        State::Listening => ("listening", None),
        State::Paused(reason, _) => ("paused", Some(reason.word())),
        State::Lent(_) => ("lent", None),
    };
    json!({ "endpoint": listener.endpoint.to_string(), "state": state, "reason": reason })
}

/// The keys with the most handlers.
fn most(ledger: &Ledger, counts: impl Iterator<Item = (ServiceId, Source, u32)>, what: &str) -> Vec<Value> {
    let mut sources: Vec<_> = counts.collect();
    sources.sort_by(|one, two| two.2.cmp(&one.2).then(one.cmp(two)));
    sources
        .into_iter()
        .take(SOURCES)
        .map(|(service, source, count)| {
            let name = ledger.tally(service).map(|tally| tally.name.to_string());
            json!({ "service": name, what: source.to_string(), "handlers": count })
        })
        .collect()
}

/// How full the tables of rates are. An entry that was lost in debt is a source that could come sooner than allowed.
fn rates(admission: &Admission, now: Duration) -> Value {
    let (rates, entries) = admission.rates();
    let indebted = rates.indebted(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    let lost = rates.evicted_with_debt();
    json!({
        "ipv4": { "entries": entries.ipv4, "in_debt": indebted.ipv4, "lost_in_debt": lost.ipv4 },
        "ipv6": { "entries": entries.ipv6, "in_debt": indebted.ipv6, "lost_in_debt": lost.ipv6 },
    })
}

/// Every count that disagrees with the tickets, and the tickets with the handlers that the reaper knows.
fn audit(facts: &Facts, ledger: &Ledger) -> Vec<Value> {
    let mut drifts: Vec<_> = ledger
        .audit()
        .into_iter()
        .map(|drift| json!({ "what": drift.what, "expected": drift.expected, "found": drift.found }))
        .collect();
    let (living, waiting) = facts.handlers;
    if living + waiting != ledger.total() as usize {
        drifts.push(json!({ "what": "handlers", "expected": living + waiting, "found": ledger.total() }));
    }
    drifts
}
