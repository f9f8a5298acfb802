//! What can happen, and random histories of it.

use proptest::prelude::*;

use super::table::{ADDRESSES, DATAGRAMS, ENDPOINTS, Kind, Limits, Line, NAMES, PACES, Pace};

/// How a start goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    #[default]
    Lives,
    /// It has ended before the dispatcher hears of it.
    DiesAtOnce,
    /// exec fails: there is a process, until the dispatcher hears of it.
    CannotExec,
    /// clone fails.
    NoProcess,
}

/// A start, and what is peculiar to the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Birth {
    pub outcome: Outcome,
    /// How long the start takes, in milliseconds.
    pub takes: u64,
    /// There is no memory to watch it.
    pub unwatchable: bool,
    /// Somebody else collects it.
    pub stolen: bool,
    /// It ignores SIGTERM.
    pub stubborn: bool,
    /// Its process id is that of an orphan as soon as it has been collected, and that one has ended, too.
    pub reused: bool,
    /// There is no descriptor for a copy of its connection, or of the socket that it is to be lent.
    pub no_copy: bool,
}

/// What accept(2) says when it is this client's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AtAccept {
    #[default]
    Fine,
    Broken,
    /// No descriptors, once; with the one that is kept for it the client can be reset or not.
    Shortage {
        reset: bool,
    },
}

/// A client that connects, or a datagram that comes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    pub endpoint: usize,
    pub address: usize,
    pub at_accept: AtAccept,
    /// To accept it takes as many milliseconds.
    pub takes: u64,
    pub birth: Birth,
    /// The service that it asks `tcpmux` for, and how its handler starts.
    pub asks_for: Option<usize>,
    pub second: Birth,
}

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Well,
    Badly,
    Crash,
    /// With the status by which `tcpmux` hands its connection back.
    HandBack,
}

/// What the administrator orders.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Bans an address or its network, for a time or until further notice.
    Ban {
        address: usize,
        wide: bool,
        seconds: Option<u64>,
    },
    Unban {
        address: usize,
        wide: bool,
    },
    /// Drains a service, or resumes it.
    Drain {
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
    /// No socket is open any more, and all handlers are to end.
    Quit,
}

/// Another program takes over, after the clients of the turn or before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    Before,
    After,
}

/// A turn of the server.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// The kernel has told that handlers have ended, if some have.
    pub heard: bool,
    /// The endpoints of which the kernel tells in this turn that somebody waits, a bit for each.
    pub reported: u8,
    pub order: Option<Order>,
    pub upgrade: Option<Upgrade>,
}

/// A step of a history.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Arrive(Arrival),
    /// A running handler ends.
    End {
        which: usize,
        how: End,
        /// If it has been lent a socket, it has taken what waited there.
        takes: bool,
    },
    /// A handler that has been lent a socket takes what waits there, and lives on.
    Take {
        which: usize,
    },
    /// A handler leaves a child behind, which has ended.
    Orphan,
    /// So many milliseconds.
    Pass(u64),
    /// The next sockets can't be polled, for lack of memory.
    NoMemoryToPoll(u32),
    /// There is memory for so many starts at a time.
    Slots(usize),
    /// An option of an open socket can't be changed any more.
    Inflexible(usize),
    Turn(Turn),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        16 => Just(Outcome::Lives),
        3 => Just(Outcome::DiesAtOnce),
        3 => Just(Outcome::CannotExec),
        1 => Just(Outcome::NoProcess),
    ]
}

fn birth() -> impl Strategy<Value = Birth> {
    let takes = prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(3), 2 => 5..80_u64, 1 => 80..2_500_u64];
    let rare = || prop::bool::weighted(0.1);
    (outcome(), takes, rare(), rare(), prop::bool::weighted(0.4), rare(), rare()).prop_map(
        |(outcome, takes, unwatchable, stolen, stubborn, reused, no_copy)| Birth {
            outcome,
            takes,
            unwatchable,
            stolen,
            stubborn,
            reused,
            no_copy,
        },
    )
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let at_accept = prop_oneof![
        16 => Just(AtAccept::Fine),
        1 => Just(AtAccept::Broken),
        1 => any::<bool>().prop_map(|reset| AtAccept::Shortage { reset }),
    ];
    let takes = prop_oneof![12 => Just(0), 2 => Just(1), 1 => Just(5)];
    let asks_for = prop::option::weighted(0.9, 0..NAMES.len());
    (0..ENDPOINTS, 0..ADDRESSES.len(), at_accept, takes, birth(), asks_for, birth()).prop_map(
        |(endpoint, address, at_accept, takes, birth, asks_for, second)| Arrival {
            endpoint,
            address,
            at_accept,
            takes,
            birth,
            asks_for,
            second,
        },
    )
}

fn limit() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![2 => Just(None), 3 => (1..4_u32).prop_map(Some)]
}

fn pace() -> impl Strategy<Value = Option<Pace>> {
    prop_oneof![3 => Just(None), 1 => (0..PACES.len()).prop_map(|number| Some(PACES[number]))]
}

fn limits() -> impl Strategy<Value = Limits> {
    (limit(), pace()).prop_map(|(instances, pace)| Limits { instances, pace })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![2 => Just(Kind::Stream), 3 => Just(Kind::Named), 2 => Just(Kind::Mux), 4 => Just(Kind::Wait)]
}

fn line() -> impl Strategy<Value = Line> {
    let network = prop::option::weighted(0.3, limits());
    let lifetime = prop_oneof![2 => Just(None), 1 => (1..30_u64).prop_map(Some)];
    let rare = || prop::bool::weighted(0.15);
    let denied = prop::option::weighted(0.1, 0..ADDRESSES.len());
    let trap = prop::bool::weighted(0.3);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), trap, rare(), denied);
    (0..NAMES.len(), kind(), any::<u8>(), limit(), pace(), limits(), network, lifetime, flags).prop_map(
        |(name, kind, endpoints, instances, pace, source, network, lifetime, flags)| {
            let (wide, queue, penalties, trap, dry_run, denied) = flags;
            let (penalties, trap) = (penalties && kind != Kind::Wait, trap && kind != Kind::Wait);
            let line = Line { name, kind, endpoints, instances, pace, source, wide, ..Line::default() };
            Line { network, queue, dry_run, denied, penalties, trap, lifetime, ..line }
        },
    )
}

/// Each name and each endpoint is of one service; datagrams are for those that are lent a socket.
fn tidy(mut table: Vec<Line>) -> Vec<Line> {
    let mut seen = [false; NAMES.len()];
    table.retain(|line| !std::mem::replace(&mut seen[line.name], true));
    let mut free = (1 << ENDPOINTS) - 1;
    for line in &mut table {
        line.endpoints &= if line.lends() { free } else { free & ((1 << DATAGRAMS) - 1) };
        free &= !line.endpoints;
    }
    table
}

fn order() -> impl Strategy<Value = Order> {
    let table = prop::collection::vec(line(), 0..8).prop_map(tidy);
    prop_oneof![
        30 => (table, any::<bool>(), 2..6_u32)
            .prop_map(|(table, large, instances)| Order::Reload { table, large, instances }),
        10 => (0..ADDRESSES.len(), any::<bool>(), prop::option::weighted(0.9, 1..10_u64))
            .prop_map(|(address, wide, seconds)| Order::Ban { address, wide, seconds }),
        15 => (0..ADDRESSES.len(), any::<bool>()).prop_map(|(address, wide)| Order::Unban { address, wide }),
        30 => (0..NAMES.len(), prop::bool::weighted(0.35)).prop_map(|(service, on)| Order::Drain { service, on }),
        1 => Just(Order::Quit),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let reported = prop_oneof![3 => Just(u8::MAX), 1 => any::<u8>()];
    let upgrade = prop_oneof![30 => Just(None), 2 => Just(Some(Upgrade::After)), 1 => Just(Some(Upgrade::Before))];
    (prop::bool::weighted(0.8), reported, prop::option::weighted(0.14, order()), upgrade)
        .prop_map(|(heard, reported, order, upgrade)| Turn { heard, reported, order, upgrade })
}

fn act() -> impl Strategy<Value = Act> {
    let how = prop_oneof![
        3 => Just(End::Well),
        1 => Just(End::Badly),
        1 => Just(End::Crash),
        4 => Just(End::HandBack),
    ];
    let time = prop_oneof![2 => 1..200_u64, 1 => 200..1_000_u64, 1 => (1..20_u64).prop_map(|seconds| seconds * 1_000)];
    prop_oneof![
        18 => arrival().prop_map(Act::Arrive),
        8 => (0..4_usize, how, any::<bool>()).prop_map(|(which, how, takes)| Act::End { which, how, takes }),
        1 => (0..4_usize).prop_map(|which| Act::Take { which }),
        1 => Just(Act::Orphan),
        5 => time.prop_map(Act::Pass),
        1 => (1..3_u32).prop_map(Act::NoMemoryToPoll),
        1 => prop_oneof![2 => 1..4_usize, 1 => Just(20_usize)].prop_map(Act::Slots),
        1 => (0..ENDPOINTS).prop_map(Act::Inflexible),
        16 => turn().prop_map(Act::Turn),
    ]
}

/// The table with which every history begins.
pub(super) fn first_table() -> Vec<Line> {
    let line = |name, endpoints| Line { name, endpoints, ..Line::default() };
    vec![
        Line {
            network: Some(Limits { instances: Some(1), pace: Some(PACES[0]) }),
            penalties: true,
            lifetime: Some(5),
            ..line(0, 0b1)
        },
        Line {
            kind: Kind::Named,
            instances: Some(2),
            pace: Some(PACES[1]),
            queue: true,
            lifetime: Some(20),
            ..line(1, 0b10)
        },
        Line { kind: Kind::Mux, source: Limits { instances: Some(2), pace: Some(PACES[2]) }, ..line(2, 0b1_0100) },
        Line { kind: Kind::Wait, pace: Some(PACES[2]), queue: true, ..line(3, 0b110_1000) },
    ]
}

/// Is the daemon process 1? And what happens.
pub(super) fn history() -> impl Strategy<Value = (bool, Vec<Act>)> {
    (any::<bool>(), prop::collection::vec(act(), 0..100))
}
