//! The status: one snapshot of all counts.
//!
//! The daemon takes a [`Snapshot`] between two turns, so every number in it is of the same moment, and writes it as JSON: to
//! the control socket, or for SIGUSR1 to the log. oxinetctl reads that JSON, and makes tables and metrics of it.
//!
//! The types are the published form: `oxinetctl schema --protocol` is made from them. Keys are only ever added. Times
//! are in seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When this was, in seconds since 1970-01-01 00:00 UTC.
    pub time_seconds: f64,
    /// How long the daemon has been ready.
    pub uptime_seconds: f64,
    /// How long the turns of its loop took, the waits not counted.
    pub turns: Durations,
    /// The longest of them.
    pub longest_turn_seconds: f64,
    /// Reloads.
    pub reloads: Reloads,
    /// Upgrades: programs that have taken over from the one before them.
    pub upgrades: Upgrades,
    /// When the table in force came into force, in seconds since 1970-01-01 00:00 UTC.
    pub table_since_seconds: f64,
    /// Log lines that were lost.
    pub log_lines_dropped: u64,
    /// Live handlers of all services.
    pub handlers: u32,
    /// How many of them are still being started.
    pub starting: u32,
    /// The most live handlers that there may be.
    pub instances: u32,
    /// The most live handlers that there have been.
    pub peak: u32,
    /// Each service by its name.
    pub services: BTreeMap<String, Service>,
    /// The sources with the most handlers.
    pub sources: Vec<SourceCount>,
    /// The networks with the most handlers, of services that have `per_network`.
    pub networks: Vec<NetworkCount>,
    /// How full the tables of rates are.
    pub rates: Rates,
    /// Networks that are refused in every service.
    pub bans: Vec<Ban>,
    /// Sources that are refused for what they owe.
    pub penalties: Penalties,
    /// Counts that disagree with the live handlers; empty, or there is a bug.
    pub audit: Vec<Drift>,
}

/// A network that is refused in every service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ban {
    /// The network.
    pub network: String,
    /// For how long from now; null without an end.
    pub left_seconds: Option<f64>,
}

/// Sources that are refused for what they owe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Penalties {
    /// How many.
    pub penalised: u64,
    /// Those for whom it takes longest.
    pub longest: Vec<Penalised>,
    /// How many debtors were forgotten for lack of room.
    pub forgotten: Forgotten,
}

/// A source that is refused for what it owes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Penalised {
    /// Who.
    pub source: String,
    /// For how long from now.
    pub left_seconds: f64,
    /// The how many-th time it is.
    pub times: u32,
}

/// How many were forgotten, by family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// IPv4 and local users.
    pub ipv4: u64,
    /// IPv6.
    pub ipv6: u64,
}

/// Durations in ranges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Durations {
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
    /// How many were at most so long, for each range.
    pub at_most: Vec<AtMost>,
}

/// How many were at most so long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AtMost {
    /// So long.
    pub seconds: f64,
    /// How many.
    pub count: u64,
}

/// How upgrades have gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upgrades {
    /// The new program has taken over.
    pub done: u64,
    /// The program on disk could not take over.
    pub failed: u64,
    /// One has been asked for, and it is not known yet whether the program on disk can take over.
    pub under_way: bool,
    /// Why the last one failed, if it did.
    pub problem: Option<String>,
}

/// Reloads since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reloads {
    /// Tables that came into force.
    pub done: u64,
    /// Tables that were refused.
    pub failed: u64,
}

/// How one service is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Is it in the table and enabled? If not, it goes with its last handler.
    pub listed: bool,
    /// Has the administrator drained it?
    pub drained: bool,
    /// Live handlers.
    pub handlers: u32,
    /// The most live handlers that there may be; null if unlimited or not listed.
    pub instances: Option<u32>,
    /// The most live handlers that there have been.
    pub peak: u32,
    /// The busiest minute of the busiest source; null before the first connection.
    pub peak_rate: Option<PeakRate>,
    /// Handlers that were started.
    pub accepted: u64,
    /// Clients that were turned away, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Clients that were let in because of `dry_run` alone, by the reason to turn them away.
    pub would_refuse: BTreeMap<String, u64>,
    /// Starts that failed, by step.
    pub spawn_failures: BTreeMap<String, u64>,
    /// Handlers that have ended.
    pub exits: Exits,
    /// How long those handlers had lived.
    pub durations: Durations,
    /// Its sockets.
    pub listeners: Vec<Listener>,
    /// The names by which clients of `tcpmux` can ask for it, in the grammar of `listen`.
    pub tcpmux: Vec<String>,
}

/// How handlers have ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exits {
    /// With status 0.
    pub success: u64,
    /// With another status.
    pub failure: u64,
    /// By a signal.
    pub signal: u64,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Where it listens, in the grammar of `listen`.
    pub endpoint: String,
    /// What it is doing.
    pub state: ListenerState,
    /// Why it is paused.
    pub reason: Option<String>,
}

/// What a listening socket is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListenerState {
    /// It is looked after.
    Listening,
    /// It is left alone for now; clients wait in its queue.
    Paused,
    /// It is in the hands of a `wait` handler.
    Lent,
}

impl ListenerState {
    /// The word in JSON, tables and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Paused => "paused",
            Self::Lent => "lent",
        }
    }
}

/// The handlers of one source in one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceCount {
    /// The service.
    pub service: String,
    /// The address, prefix or user that connections are counted under.
    pub source: String,
    /// Its live handlers.
    pub handlers: u32,
    /// The most that there may be; null if unlimited.
    pub instances: Option<u32>,
}

/// The handlers of one network in one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkCount {
    /// The service.
    pub service: String,
    /// The prefix.
    pub network: String,
    /// Its live handlers.
    pub handlers: u32,
    /// The most that there may be; null if unlimited.
    pub instances: Option<u32>,
}

/// The tables of rates, by family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// IPv4 and local users.
    pub ipv4: RateTable,
    /// IPv6.
    pub ipv6: RateTable,
}

/// One table of rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateTable {
    /// For how many sources there is room.
    pub entries: u64,
    /// How many sources have come lately.
    pub in_debt: u64,
    /// How many had to be forgotten before their time, and could come sooner than allowed.
    pub lost_in_debt: u64,
}

/// The most connections of one source in one minute, those that were turned away included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeakRate {
    /// The source.
    pub source: String,
    /// So many.
    pub connections_per_minute: u32,
}

/// A count that disagrees with the live handlers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// Whose count.
    pub what: String,
    /// By the live handlers.
    pub expected: u64,
    /// By the books.
    pub found: u64,
}
