//! What can happen, and random histories of it.

use proptest::prelude::*;

use super::table::{ADDRESSES, Limits, Line, NAMES, PACES, Pace};

/// How a start goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    Lives,
    /// It has ended before the daemon hears of it.
    DiesAtOnce,
    /// exec fails: there is a process, until the daemon hears of it.
    CannotExec,
}

/// A client, and what becomes of his handler's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub service: usize,
    pub address: usize,
    pub birth: Birth,
}

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Well,
    Badly,
    Crash,
}

/// A step of a history.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Arrive(Arrival),
    End {
        which: usize,
        how: End,
    },
    /// Look how the starts went.
    Follow,
    Reap,
    /// Between two exits somebody comes who is admitted at once.
    Drain {
        between: Vec<Arrival>,
    },
    /// Time passes, in seconds, and those whose time is over are ended.
    Pass(u64),
    /// The administrator bans an address or its network, for a time or until further notice.
    Ban {
        address: usize,
        wide: bool,
        seconds: Option<u64>,
    },
    Unban {
        address: usize,
        wide: bool,
    },
    /// The administrator drains a service, or resumes it.
    Shut {
        service: usize,
        on: bool,
    },
    /// The services of the new table, in their order, whether the memory of sources has another size, and the most
    /// handlers in all: fewer or more than there are process ids.
    Reload {
        table: Vec<Line>,
        large: bool,
        instances: u32,
    },
    /// Another program takes over, with news of the starts or without.
    Upgrade {
        heard: bool,
    },
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let birth = prop_oneof![6 => Just(Birth::Lives), 2 => Just(Birth::DiesAtOnce), 2 => Just(Birth::CannotExec)];
    (0..NAMES.len(), 0..ADDRESSES.len(), birth).prop_map(|(service, address, birth)| Arrival {
        service,
        address,
        birth,
    })
}

fn limit() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), (1..5_u32).prop_map(Some)]
}

fn pace() -> impl Strategy<Value = Option<Pace>> {
    prop_oneof![1 => Just(None), 1 => (0..PACES.len()).prop_map(|number| Some(PACES[number]))]
}

fn limits() -> impl Strategy<Value = Limits> {
    (limit(), pace()).prop_map(|(instances, pace)| Limits { instances, pace })
}

fn line() -> impl Strategy<Value = Line> {
    let network = prop_oneof![Just(None), limits().prop_map(Some)];
    let lifetime = prop_oneof![3 => Just(None), 1 => (1..30_u64).prop_map(Some)];
    let kind = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.5));
    (0..NAMES.len(), limit(), pace(), limits(), network, lifetime, kind).prop_map(
        |(name, instances, pace, source, network, lifetime, (wide, queue, penalties))| Line {
            name,
            instances,
            pace,
            source,
            wide,
            network,
            queue,
            penalties,
            lifetime,
        },
    )
}

fn table() -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec(line(), 0..8).prop_map(|mut table| {
        let mut seen = [false; NAMES.len()];
        table.retain(|line| !std::mem::replace(&mut seen[line.name], true));
        table
    })
}

fn act() -> impl Strategy<Value = Act> {
    let how = prop_oneof![3 => Just(End::Well), 1 => Just(End::Badly), 1 => Just(End::Crash)];
    prop_oneof![
        15 => arrival().prop_map(Act::Arrive),
        7 => (0..4_usize, how).prop_map(|(which, how)| Act::End { which, how }),
        6 => Just(Act::Follow),
        6 => Just(Act::Reap),
        6 => prop::collection::vec(arrival(), 0..2).prop_map(|between| Act::Drain { between }),
        2 => (1..25_u64).prop_map(Act::Pass),
        1 => (table(), any::<bool>(), 2..6_u32)
            .prop_map(|(table, large, instances)| Act::Reload { table, large, instances }),
        1 => (0..ADDRESSES.len(), any::<bool>(), prop::option::weighted(0.9, 1..10_u64))
            .prop_map(|(address, wide, seconds)| Act::Ban { address, wide, seconds }),
        2 => (0..ADDRESSES.len(), any::<bool>()).prop_map(|(address, wide)| Act::Unban { address, wide }),
        1 => (0..NAMES.len(), prop::bool::weighted(0.3)).prop_map(|(service, on)| Act::Shut { service, on }),
        1 => any::<bool>().prop_map(|heard| Act::Upgrade { heard }),
    ]
}

/// The table with which every history begins.
pub(super) fn first_table() -> Vec<Line> {
    let line = |name| Line { name, ..Line::default() };
    vec![
        Line { network: Some(Limits { instances: Some(2), pace: None }), penalties: true, ..line(0) },
        Line { instances: Some(2), queue: true, ..line(1) },
        Line { source: Limits { instances: Some(1), pace: Some(PACES[0]) }, pace: Some(PACES[2]), ..line(2) },
    ]
}

pub(super) fn history() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 0..80)
}
