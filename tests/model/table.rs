//! The tables of the histories: what they may say of a service, and the real service that says it.

use std::ffi::CString;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    Location, LogChoice, Origins, OwnLog, Penalties, PerSource, Program, RateLimit, Refuse, Service, SocketOptions,
    Stderr, WhenFull,
};
use crate::dispatch::acceptor::Entry;
use crate::dispatch::spawner::Recipe;
use crate::limits::rate::Rate;
use crate::net::{Prefixes, Source};
use crate::sys::descriptor::Nofile;
use crate::types::ServiceId;

pub(super) const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

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

/// What a table says of one service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub name: usize,
    pub instances: Option<u32>,
    pub pace: Option<Pace>,
    pub source: Limits,
    /// Whole networks are sources.
    pub wide: bool,
    pub network: Option<Limits>,
    /// Clients wait while it is full.
    pub queue: bool,
    pub penalties: bool,
    /// In seconds.
    pub lifetime: Option<u64>,
}

/// What things cost in a service with penalties, and the most that a source can owe, in seconds.
pub(super) const COST_OF_EXIT: u64 = 10;
pub(super) const COST_OF_CRASH: u64 = 15;
pub(super) const COST_OF_REFUSAL: u64 = 2;
pub(super) const MOST_OWED: u64 = 40;

impl Line {
    pub(super) fn keys(&self, address: Ipv4Addr) -> (Source, Option<Source>) {
        let source = if self.wide { network_of(address) } else { Source::V4(address, 32) };
        (source, self.network.map(|_| network_of(address)))
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

fn penalties() -> Penalties {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    Penalties {
        crash: seconds(COST_OF_CRASH),
        exit: seconds(COST_OF_EXIT),
        refused: seconds(COST_OF_REFUSAL),
        max: Duration::from_secs(MOST_OWED),
        ..Penalties::default()
    }
}

pub(super) fn entry(id: ServiceId, line: &Line) -> Entry {
    let name = NAMES[line.name];
    let path = CString::from(c"/bin/true");
    let service = Service {
        name: name.to_owned(),
        origin: Location::default(),
        origins: Origins::default(),
        enabled: true,
        listen: Vec::new(),
        tcpmux: Vec::new(),
        program: Program { argv: vec![path.clone()], path, builtin: None },
        wait: false,
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
        penalties: if line.penalties { penalties() } else { Penalties::default() },
        allow: Vec::new(),
        deny: Vec::new(),
        times: Vec::new(),
        dry_run: false,
        refuse: Refuse::Reset,
        banner: Vec::new(),
        lifetime: line.lifetime.map(Duration::from_secs),
        socket: SocketOptions::default(),
        log: LogChoice { accept: false, exit: false, refuse: false, own: OwnLog::default() },
    };
    let nofile = Nofile { soft: 1024, hard: 1024 };
    let template = HandlerTemplate::new(&service, nofile, &ProcessState::unknown()).expect("a plan");
    Entry { id, name: Arc::from(name), service, template }
}
