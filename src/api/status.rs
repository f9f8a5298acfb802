//! The status: one snapshot of all counts.
//!
//! The daemon takes a [`Snapshot`] between two turns, so that all its numbers are of the same moment. It writes the
//! snapshot as JSON to the control socket, or to the log on SIGUSR1. oxinetctl reads that JSON, and makes tables
//! and metrics of it.
//!
//! The types are published: `oxinetctl schema --protocol` is made from them, and their comments are its
//! descriptions. Keys are only added, never changed or removed, and the schema keeps its shorter names of types.
//! Times are in seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The status of the daemon and of its services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Snapshot {
    /// The version of the running daemon.
    pub version: String,
    /// The process id of the daemon.
    pub pid: u32,
    /// The time of this snapshot, in seconds since 1970-01-01 00:00 UTC.
    pub time_seconds: f64,
    /// Seconds since the daemon became ready.
    pub uptime_seconds: f64,
    /// The durations of the turns of its loop, without their waits.
    pub turns: Durations,
    /// The longest turn, in seconds.
    pub longest_turn_seconds: f64,
    /// The results of reloads.
    pub reloads: Reloads,
    /// The results of upgrades.
    pub upgrades: Upgrades,
    /// When the current table came into force, in seconds since 1970-01-01 00:00 UTC.
    pub table_since_seconds: f64,
    /// The number of log lines that were lost.
    pub log_lines_dropped: u64,
    /// The number of live handlers of all services.
    pub handlers: u32,
    /// How many of these handlers are still being started.
    pub starting: u32,
    /// The limit on live handlers of all services.
    pub instances: u32,
    /// The largest number of live handlers so far.
    pub peak: u32,
    /// The services by name.
    pub services: BTreeMap<String, ServiceStatus>,
    /// The sources with the most live handlers, in descending order.
    pub sources: Vec<SourceCount>,
    /// The networks with the most live handlers, in services with `per_network`.
    pub networks: Vec<NetworkCount>,
    /// How full the tables for rates are.
    pub rates: RateTables,
    /// The networks that are banned.
    pub bans: Vec<Ban>,
    /// The sources that are refused because of their penalties.
    pub penalties: PenaltyStatus,
    /// The counts that disagree with the live handlers; if there is any, that is a bug.
    pub audit: Vec<CountDrift>,
}

/// A banned network, which is refused in every service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ban {
    /// The network, such as `203.0.113.0/24`.
    pub network: String,
    /// The remaining seconds; null if the ban has no end.
    pub left_seconds: Option<f64>,
}

/// The sources that are refused because of their penalties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Penalties")]
pub(crate) struct PenaltyStatus {
    /// The number of penalised sources.
    pub penalised: u64,
    /// The sources with the longest remaining penalties.
    pub longest: Vec<PenalisedSource>,
    /// How many sources lost their penalty early because the table was full.
    pub forgotten: Forgotten,
}

/// A source that is refused because of its penalties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Penalised")]
pub(crate) struct PenalisedSource {
    /// The address, prefix or user under which clients are counted.
    pub source: String,
    /// The remaining seconds of the refusal.
    pub left_seconds: f64,
    /// How many times the source has been penalised, including this time.
    pub times: u32,
}

/// The numbers of penalties that were forgotten early, by address family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Forgotten {
    /// Of IPv4 sources and local users.
    pub ipv4: u64,
    /// Of IPv6 sources.
    pub ipv6: u64,
}

/// A histogram of durations, with cumulative counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Durations {
    /// The number of all durations.
    pub count: u64,
    /// The sum of all durations, in seconds.
    pub sum_seconds: f64,
    /// For each bound, the number of durations up to it.
    pub at_most: Vec<AtMost>,
}

/// The number of durations up to one bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AtMost {
    /// The bound in seconds.
    pub seconds: f64,
    /// How many durations were at most that long.
    pub count: u64,
}

/// The results of upgrades since the first start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Upgrades {
    /// How many times a new program has taken over.
    pub done: u64,
    /// How many times the program on disk could not take over.
    pub failed: u64,
    /// Whether an upgrade has begun, and its result is not known yet.
    pub under_way: bool,
    /// Why the last upgrade failed; null if it did not.
    pub problem: Option<String>,
}

/// The results of reloads since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Reloads {
    /// How many reloads put a new table in force.
    pub done: u64,
    /// How many reloads failed, so that the old table stayed in force.
    pub failed: u64,
}

/// The status of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Service")]
pub(crate) struct ServiceStatus {
    /// Whether it is in the table and enabled. If not, it is shown until its last handler ends.
    pub listed: bool,
    /// Whether the administrator has drained it.
    pub drained: bool,
    /// The number of its live handlers.
    pub handlers: u32,
    /// The limit on its live handlers; null if unlimited, or if the service is not listed.
    pub instances: Option<u32>,
    /// The largest number of its live handlers so far.
    pub peak: u32,
    /// The busiest minute of the busiest source; null before the first connection.
    pub peak_rate: Option<SourcePeak>,
    /// The number of handlers that were started.
    pub accepted: u64,
    /// The numbers of clients that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// The numbers of clients that were accepted only because of `dry_run`, by the reason to refuse them.
    pub would_refuse: BTreeMap<String, u64>,
    /// The numbers of handlers that could not be started, by the step that failed.
    pub spawn_failures: BTreeMap<String, u64>,
    /// How its handlers have ended.
    pub exits: Exits,
    /// The lifetimes of the handlers that have ended.
    pub durations: Durations,
    /// The listening sockets of the service.
    pub listeners: Vec<ListenerStatus>,
    /// The names under which `tcpmux` offers the service, in the grammar of `listen`.
    pub tcpmux: Vec<String>,
}

/// The numbers of handlers that have ended, by the way they ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Exits {
    /// Handlers that exited with status 0.
    pub success: u64,
    /// Handlers that exited with another status.
    pub failure: u64,
    /// Handlers that a signal ended.
    pub signal: u64,
}

/// A listening socket of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Listener")]
pub(crate) struct ListenerStatus {
    /// Where it listens, in the grammar of `listen`.
    pub endpoint: String,
    /// Whether it takes connections.
    pub state: ListenerState,
    /// The reason why it is paused; null in other states.
    pub reason: Option<String>,
}

/// Whether a listening socket takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListenerState {
    /// The daemon accepts its connections.
    Listening,
    /// The daemon does not accept for now; clients wait in the queue of the socket.
    Paused,
    /// A `wait` handler has the socket.
    Lent,
}

impl ListenerState {
    /// The word in JSON, tables and metrics.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Paused => "paused",
            Self::Lent => "lent",
        }
    }
}

/// The handlers of one source in one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SourceCount {
    /// The name of the service.
    pub service: String,
    /// The address, prefix or user under which clients are counted.
    pub source: String,
    /// The number of its live handlers.
    pub handlers: u32,
    /// The limit on its live handlers; null if unlimited.
    pub instances: Option<u32>,
}

/// The handlers of one network in one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NetworkCount {
    /// The name of the service.
    pub service: String,
    /// The prefix of the network.
    pub network: String,
    /// The number of its live handlers.
    pub handlers: u32,
    /// The limit on its live handlers; null if unlimited.
    pub instances: Option<u32>,
}

/// The tables for rates, by address family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Rates")]
pub(crate) struct RateTables {
    /// The table for IPv4 sources and local users.
    pub ipv4: RateTable,
    /// The table for IPv6 sources.
    pub ipv6: RateTable,
}

/// How full a table for rates is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RateTable {
    /// The number of sources for which the table has room.
    pub entries: u64,
    /// The number of sources whose recent connections still count against their rate.
    pub in_debt: u64,
    /// How many sources were evicted too early, so that they could connect sooner than their rate allows.
    pub lost_in_debt: u64,
}

/// The most connections of one source in one minute, including refused ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PeakRate")]
pub(crate) struct SourcePeak {
    /// The source with the most connections.
    pub source: String,
    /// The number of its connections in that minute.
    pub connections_per_minute: u32,
}

/// A count that disagrees with the live handlers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Drift")]
pub(crate) struct CountDrift {
    /// What is counted, for example the handlers of a service.
    pub what: String,
    /// The correct count, computed from the live handlers.
    pub expected: u64,
    /// The count that the daemon maintains.
    pub found: u64,
}
