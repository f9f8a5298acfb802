//! The tables of the histories: what they may say of a service, and the real service that says it.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::builtin::{Builtin, BuiltinKind};
use crate::config::{
    Location, LogChoice, MuxName, Origins, OwnLog, Penalties, PerSource, Program, RateLimit, Refuse, Service,
    SocketOptions, Stderr, WhenFull,
};
use crate::limits::rate::Rate;
use crate::net::{Endpoint, Prefixes, Source, Transport};

pub(super) const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// So many endpoints there are; those from [`DATAGRAMS`] on carry datagrams.
pub(super) const ENDPOINTS: usize = 7;
pub(super) const DATAGRAMS: usize = 5;

/// The addresses that clients have; the first two are of one network.
pub(super) const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 1, 1)];

/// The network of length 24 of an address.
pub(super) fn network_of(address: Ipv4Addr) -> Source {
    let [a, b, c, _] = address.octets();
    Source::V4(Ipv4Addr::new(a, b, c, 0), 24)
}

/// One in `step` seconds, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub step: u64,
    pub burst: u32,
}

/// The bursts of these take 10, 20 or 40 seconds to earn, so that the part that a reload keeps is exact.
pub(super) const PACES: [Pace; 4] =
    [Pace { step: 10, burst: 2 }, Pace { step: 5, burst: 2 }, Pace { step: 10, burst: 4 }, Pace { step: 10, burst: 1 }];

/// `per_source` or `per_network`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub instances: Option<u32>,
    pub pace: Option<Pace>,
}

/// BuiltinKind the handlers of a service are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each serves one connection.
    #[default]
    Stream,
    /// The same, and clients of `tcpmux` can ask for it.
    Named,
    /// `tcpmux`.
    Mux,
    /// One is lent the socket.
    Wait,
}

/// BuiltinKind a table says of one service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub name: usize,
    pub kind: Kind,
    /// Its endpoints, a bit for each. No two services of a table have the same.
    pub endpoints: u8,
    pub instances: Option<u32>,
    pub pace: Option<Pace>,
    pub source: Limits,
    /// Whole networks are sources.
    pub wide: bool,
    pub network: Option<Limits>,
    /// Clients wait while it is full.
    pub queue: bool,
    pub dry_run: bool,
    /// The address that may not come.
    pub denied: Option<usize>,
    /// It charges for what its clients do.
    pub penalties: bool,
    /// It charges each client.
    pub trap: bool,
    /// In seconds.
    pub lifetime: Option<u64>,
}

/// BuiltinKind things cost in a service with penalties, and the most that a source can owe, in seconds.
pub(super) const COST_OF_EXIT: u64 = 10;
pub(super) const COST_OF_CRASH: u64 = 15;
pub(super) const COST_OF_REFUSAL: u64 = 2;
pub(super) const COST_OF_TRAP: u64 = 1;
pub(super) const MOST_OWED: u64 = 40;

/// BuiltinKind clients of services with a queue are sent first.
pub(super) const BANNER: &[u8] = b"hello";
/// BuiltinKind those are sent that `tcpmux` tells to go on.
pub(super) const GO: &[u8] = b"+Go\r\n";

impl Line {
    pub(super) fn keys(&self, address: Ipv4Addr) -> (Source, Option<Source>) {
        let source = if self.wide { network_of(address) } else { Source::V4(address, 32) };
        (source, self.network.map(|_| network_of(address)))
    }

    pub(super) fn has(&self, endpoint: usize) -> bool {
        self.endpoints & 1 << endpoint != 0
    }

    /// Does `tcpmux` tell its clients to go on?
    pub(super) fn plus(&self) -> bool {
        self.name % 2 == 0
    }

    /// Does a handler accept or read for itself?
    pub(super) fn lends(&self) -> bool {
        self.kind == Kind::Wait
    }

    /// Do sources or networks have rates here?
    pub(super) fn is_paced(&self) -> bool {
        self.source.pace.or(self.network.and_then(|network| network.pace)).is_some()
    }
}

fn rate(pace: Pace) -> RateLimit {
    let rate = Rate::new(1, Duration::from_secs(pace.step), pace.burst).unwrap();
    RateLimit { events: 1, per: Duration::from_secs(pace.step), burst: pace.burst, rate }
}

fn of_key(limits: Limits, length: u8) -> PerSource {
    let prefix = Prefixes { ipv4: length, ipv6: 64 };
    PerSource { prefix, instances: limits.instances, rate: limits.pace.map(rate), exempt: Vec::new() }
}

fn penalties(line: &Line) -> Penalties {
    let seconds = |on: bool, seconds| on.then(|| Duration::from_secs(seconds));
    Penalties {
        crash: seconds(line.penalties, COST_OF_CRASH),
        exit: seconds(line.penalties, COST_OF_EXIT),
        refused: seconds(line.penalties, COST_OF_REFUSAL),
        trap: seconds(line.trap, COST_OF_TRAP),
        max: Duration::from_secs(MOST_OWED),
        ..Penalties::default()
    }
}

/// Where an endpoint is.
pub(super) fn address(number: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1000 + number as u16)
}

pub(super) fn endpoint(number: usize) -> Endpoint {
    let transport = if number < DATAGRAMS { Transport::Tcp } else { Transport::Udp };
    Endpoint::Inet { transport, address: address(number), dual: false }
}

/// The name by which clients of `tcpmux` ask for a service, if they can.
fn mux_names(line: &Line) -> Vec<MuxName> {
    let name = || MuxName { name: NAMES[line.name].to_owned(), plus: line.plus() };
    (line.kind == Kind::Named).then(name).into_iter().collect()
}

fn program(kind: Kind) -> Program {
    let path = CString::from(c"/bin/true");
    let tcpmux = || Builtin { kind: BuiltinKind::Tcpmux, idle_timeout: Duration::from_secs(1) };
    Program { argv: vec![path.clone()], path, builtin: (kind == Kind::Mux).then(tcpmux) }
}

pub(super) fn service(line: &Line) -> Service {
    Service {
        name: NAMES[line.name].to_owned(),
        origin: Location::default(),
        origins: Origins::default(),
        enabled: true,
        listen: (0..ENDPOINTS).filter(|&number| line.has(number)).map(endpoint).collect(),
        tcpmux: mux_names(line),
        program: program(line.kind),
        wait: line.lends(),
        credentials: None,
        directory: CString::from(c"/"),
        chroot: None,
        umask: 0o022,
        nice: None,
        rlimits: Vec::new(),
        env: Vec::new(),
        pass_env: Vec::new(),
        stderr: Stderr::Daemon,
        instances: line.instances,
        when_full: if line.queue { WhenFull::Queue } else { WhenFull::Refuse },
        rate: line.pace.map(rate),
        per_source: of_key(line.source, if line.wide { 24 } else { 32 }),
        per_network: line.network.map(|limits| of_key(limits, 24)),
        max_load: None,
        penalties: penalties(line),
        allow: Vec::new(),
        deny: line.denied.map(|number| IpAddr::from(ADDRESSES[number]).into()).into_iter().collect(),
        times: Vec::new(),
        dry_run: line.dry_run,
        refuse: Refuse::Reset,
        banner: if line.queue { BANNER.to_vec() } else { Vec::new() },
        lifetime: line.lifetime.map(Duration::from_secs),
        socket: SocketOptions::default(),
        log: LogChoice { accept: true, exit: true, refuse: true, own: OwnLog::default() },
    }
}
