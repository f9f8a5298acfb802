//! The books under a fake kernel that has four process ids: whatever the order of arrivals, deaths, failed starts and
//! reloads, counts are exact.
//!
//! The ledger, the reaper, admission and the birth of a handler are the real ones; only the kernel is not. Random
//! histories are judged by two oracles: after every step the counts equal the kernel's own list of processes, and when
//! all processes have ended, one turn later all counts are zero. Both are needed: each finds bugs that the other
//! misses. Ids are few, because bugs of reused ids hide when there are many. That the oracles see at all is shown by
//! planting the known bugs of this family (`planted.rs`): each must be found.

mod barred;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::acceptor::{Entry, born, start_handler, stillborn};
use crate::admission::{Admission, Decision, Now};
use crate::ledger::{Ledger, ServiceId, Ticket};
use crate::log::Reason;
use crate::penalty::Cause;
use crate::planted::{Bug, plant};
use crate::rate::PerFamily;
use crate::reaper::{Exit, Kernel, Reaper};
use crate::source::{Peer, Prefixes, Source};
use crate::spawner::Recipe;
use crate::sys::descriptor::Nofile;
use crate::sys::pidfd::{Ended, Ending};
use crate::table::{
    LogChoice, Origin, Origins, Penalties, PerSource, Program, Refuse, Service, SocketOptions, Stderr, WhenFull,
};

use barred::{Truth, banned};

const PIDS: i32 = 4;
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
const DAEMON_INSTANCES: u32 = 3;

/// Whose a process is, by the kernel's own list: its service, its source and its network, as the table had them when it
/// was started.
type Owner = (&'static str, Source, Option<Source>);

/// How many handlers the keys of services have.
type Keys = BTreeMap<(String, Source), u32>;

/// The addresses that clients have; the first two are of one network.
const ADDRESSES: [Ipv4Addr; 3] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 1, 1)];

/// The network of length 24 of an address.
fn network_of(address: Ipv4Addr) -> Source {
    let [a, b, c, _] = address.octets();
    Source::V4(Ipv4Addr::new(a, b, c, 0), 24)
}

/// What a table says of one service: its name, and its limits.
#[derive(Clone, Copy, Debug)]
struct Line {
    name: usize,
    instances: Option<u32>,
    per_source: Option<u32>,
    /// Whole networks are sources.
    wide: bool,
    per_network: Option<u32>,
    /// A handler's failure costs its source time.
    charges: bool,
}

impl Line {
    fn keys(&self, address: Ipv4Addr) -> (Source, Option<Source>) {
        let source = if self.wide { network_of(address) } else { Source::V4(address, 32) };
        (source, self.per_network.map(|_| network_of(address)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Process {
    handle: u64,
    owner: Owner,
    ended: bool,
    /// With another status than 0.
    badly: bool,
}

/// Processes by id; an id is free again as soon as its process has been collected.
#[derive(Debug, Default)]
struct Processes {
    by_pid: BTreeMap<i32, Process>,
    watched: HashMap<u64, Ticket>,
    last_handle: u64,
    /// Collected, but the daemon has not drained the exit queue since.
    on_the_way: Vec<Owner>,
}

impl Processes {
    fn fork(&mut self, owner: Owner) -> Option<(i32, u64)> {
        let pid = (1..=PIDS).find(|pid| !self.by_pid.contains_key(pid))?;
        self.last_handle += 1;
        self.by_pid.insert(pid, Process { handle: self.last_handle, owner, ended: false, badly: false });
        Some((pid, self.last_handle))
    }

    fn end(&mut self, handle: u64, badly: bool) {
        let its = self.by_pid.values_mut().filter(|process| process.handle == handle);
        its.for_each(|process| (process.ended, process.badly) = (true, badly));
    }

    /// How many handlers there must be: those that run, those that nobody has collected, those on the exit queue.
    fn owners(&self) -> impl Iterator<Item = Owner> + '_ {
        self.by_pid.values().map(|process| process.owner).chain(self.on_the_way.iter().copied())
    }

    fn count(&self, mine: impl Fn(&Owner) -> bool) -> u32 {
        u32::try_from(self.owners().filter(mine).count()).unwrap()
    }
}

#[derive(Clone, Debug, Default)]
struct FakeKernel(Rc<RefCell<Processes>>);

impl Kernel for FakeKernel {
    type Handle = u64;

    fn watch(&mut self, handle: &u64, ticket: Ticket) -> io::Result<()> {
        self.0.borrow_mut().watched.insert(*handle, ticket);
        Ok(())
    }

    fn ended(&mut self, found: &mut Vec<Ticket>) {
        let processes = self.0.borrow();
        let ended = processes.by_pid.values().filter(|process| process.ended);
        found.extend(ended.filter_map(|process| processes.watched.get(&process.handle)));
    }

    fn collect(&mut self, handle: &u64) -> io::Result<Option<Ended>> {
        let mut processes = self.0.borrow_mut();
        let found = processes.by_pid.iter().find(|(_, process)| process.handle == *handle);
        let (pid, process) = found.map(|(pid, process)| (*pid, *process)).ok_or(io::ErrorKind::NotFound)?;
        if !process.ended {
            return Ok(None);
        }
        processes.by_pid.remove(&pid);
        processes.watched.remove(handle);
        processes.on_the_way.push(process.owner);
        Ok(Some(Ended { ending: Ending::Exited(process.badly.into()), cpu: Duration::ZERO, rss: 0 }))
    }

    fn bury(&mut self, handle: &u64) {
        let mut processes = self.0.borrow_mut();
        processes.by_pid.retain(|_, process| process.handle != *handle);
        processes.watched.remove(handle);
    }

    fn signal(&mut self, _pid: i32, _signal: i32) {}
}

/// All four process ids are taken.
struct NoProcess;

/// How a start goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Birth {
    Lives,
    /// It has ended before the daemon hears of it.
    DiesAtOnce,
    /// exec fails: there is a process, until the daemon hears of it.
    CannotExec,
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Act {
    Arrive {
        service: usize,
        source: usize,
        birth: Birth,
    },
    End {
        which: usize,
        badly: bool,
    },
    Pass {
        seconds: u64,
    },
    /// The administrator bans an address or its network, for a time or until further notice.
    Ban {
        source: usize,
        wide: bool,
        seconds: Option<u64>,
    },
    Unban {
        source: usize,
        wide: bool,
    },
    /// The administrator drains a service, or resumes it.
    Shut {
        service: usize,
        on: bool,
    },
    /// Look how the starts went.
    Follow,
    Reap,
    Drain,
    /// The services of the new table, in their order.
    Reload {
        table: Vec<Line>,
    },
}

fn step() -> impl Strategy<Value = Act> {
    let birth = prop_oneof![6 => Just(Birth::Lives), 2 => Just(Birth::DiesAtOnce), 2 => Just(Birth::CannotExec)];
    let limit = || prop_oneof![Just(None), (1..4_u32).prop_map(Some)];
    let line = (0..NAMES.len(), limit(), limit(), any::<bool>(), limit(), any::<bool>()).prop_map(
        |(name, instances, per_source, wide, per_network, charges)| Line {
            name,
            instances,
            per_source,
            wide,
            per_network,
            charges,
        },
    );
    let entries = prop::collection::vec(line, 0..4).prop_map(|mut entries| {
        let mut seen = [false; NAMES.len()];
        entries.retain(|line| !std::mem::replace(&mut seen[line.name], true));
        entries
    });
    prop_oneof![
        8 => (0..NAMES.len(), 0..ADDRESSES.len(), birth).prop_map(|(service, source, birth)| Act::Arrive { service, source, birth }),
        5 => (0..4_usize, prop::bool::weighted(0.6)).prop_map(|(which, badly)| Act::End { which, badly }),
        2 => (1..20_u64).prop_map(|seconds| Act::Pass { seconds }),
        1 => (0..ADDRESSES.len(), any::<bool>(), prop::option::weighted(0.9, 1..10_u64))
            .prop_map(|(source, wide, seconds)| Act::Ban { source, wide, seconds }),
        2 => (0..ADDRESSES.len(), any::<bool>()).prop_map(|(source, wide)| Act::Unban { source, wide }),
        1 => (0..NAMES.len(), prop::bool::weighted(0.3)).prop_map(|(service, on)| Act::Shut { service, on }),
        4 => Just(Act::Follow),
        4 => Just(Act::Reap),
        4 => Just(Act::Drain),
        1 => entries.prop_map(|table| Act::Reload { table }),
    ]
}

/// The daemon's books, and the truth.
struct World {
    kernel: FakeKernel,
    ledger: Ledger,
    reaper: Reaper<FakeKernel>,
    admission: Admission,
    entries: Vec<(Entry, Line)>,
    /// Starts that are under way, by whether they will turn out to have failed.
    starting: Vec<(Ticket, bool)>,
    truth: Truth,
}

impl World {
    fn new() -> Self {
        let kernel = FakeKernel::default();
        let reaper = Reaper::new(kernel.clone());
        let admission = Admission::new().unwrap();
        let (ledger, entries, starting, truth) = (Ledger::default(), Vec::new(), Vec::new(), Truth::default());
        let mut world = Self { kernel, ledger, reaper, admission, entries, starting, truth };
        let line =
            |name| Line { name, instances: None, per_source: None, wide: false, per_network: None, charges: true };
        let alpha = Line { per_network: Some(2), ..line(0) };
        world.reload(&[alpha, Line { instances: Some(2), ..line(1) }, Line { per_source: Some(1), ..line(2) }]);
        world
    }

    fn apply(&mut self, step: &Act) -> Result<(), String> {
        match step {
            Act::Arrive { service, source, birth } => self.arrive(NAMES[*service], ADDRESSES[*source], *birth),
            Act::End { which, badly } => {
                let mut processes = self.kernel.0.borrow_mut();
                let handle = processes.by_pid.values().filter(|process| !process.ended).nth(*which);
                if let Some(handle) = handle.map(|process| process.handle) {
                    processes.end(handle, *badly);
                }
                Ok(())
            }
            Act::Pass { seconds } => {
                self.truth.now += seconds;
                Ok(())
            }
            Act::Ban { .. } | Act::Unban { .. } | Act::Shut { .. } => {
                self.order(step);
                Ok(())
            }
            Act::Follow => {
                self.follow();
                Ok(())
            }
            Act::Reap => {
                self.reaper.reap(Duration::ZERO);
                Ok(())
            }
            Act::Drain => self.drain(),
            Act::Reload { table } => {
                self.reload(table);
                Ok(())
            }
        }
    }

    fn moment(&self) -> Now {
        Now { monotonic: self.truth.time(), wall: Duration::ZERO }
    }

    /// What the administrator orders.
    fn order(&mut self, step: &Act) {
        let now = self.moment();
        match *step {
            Act::Ban { source, wide, seconds } => {
                let until = seconds.map(|seconds| now.monotonic + Duration::from_secs(seconds));
                let network = banned(ADDRESSES[source], wide);
                self.admission.ban(network.network().unwrap(), until, now).unwrap();
                self.truth.ban(network, seconds);
            }
            Act::Unban { source, wide } => {
                let network = banned(ADDRESSES[source], wide);
                self.admission.unban(network.network().unwrap(), now);
                self.truth.unban(network);
            }
            Act::Shut { service, on } => {
                let Some((entry, _)) = self.entries.iter().find(|(_, line)| line.name == service) else { return };
                if on {
                    self.admission.drain(entry.id)
                } else {
                    self.admission.resume(entry.id)
                };
                self.truth.drain(service, on);
            }
            _ => {}
        }
    }

    fn arrive(&mut self, service: &'static str, address: Ipv4Addr, birth: Birth) -> Result<(), String> {
        let Some((entry, line)) = self.entries.iter().find(|(entry, _)| &*entry.name == service) else { return Ok(()) };
        let client = self.admission.client(entry.id, Peer::Inet(address.into(), 1));
        let decision = self.admission.decide(&self.ledger, entry.id, &client, self.moment());
        let expected = self.may_come(line, address);
        match (decision, expected) {
            (Decision::Admit, Ok(())) => {}
            (Decision::Refuse(refusal), Err(reason)) if refusal.reason == reason => return Ok(()),
            _ => return Err(format!("{service}, {address}: admission says {decision:?}, the truth {expected:?}")),
        }
        let (source, network) = line.keys(address);
        let processes = Rc::clone(&self.kernel.0);
        let started = start_handler(&mut self.ledger, &mut self.reaper, entry, Duration::ZERO, client, None, |_| {
            let mut processes = processes.borrow_mut();
            let (pid, handle) = processes.fork((service, source, network)).ok_or(NoProcess)?;
            if birth == Birth::DiesAtOnce {
                processes.end(handle, false);
            }
            Ok::<_, NoProcess>((pid, handle, ()))
        });
        if let Ok((ticket, ..)) = started {
            self.starting.push((ticket, birth == Birth::CannotExec));
        }
        Ok(())
    }

    /// Hears how the starts went.
    fn follow(&mut self) {
        for (ticket, failed) in self.starting.drain(..) {
            if failed {
                stillborn(&mut self.ledger, &mut self.reaper, ticket);
            } else {
                born(&mut self.ledger, &mut self.reaper, ticket);
            }
        }
    }

    /// What admission must say, worked out from the processes that there are.
    fn may_come(&self, line: &Line, address: Ipv4Addr) -> Result<(), Reason> {
        self.truth.may_come(line.name, address)?;
        let (service, (source, network)) = (NAMES[line.name], line.keys(address));
        let processes = self.kernel.0.borrow();
        let reached = |limit: Option<u32>, count: u32| limit.is_some_and(|limit| count >= limit);
        if reached(line.per_source, processes.count(|owner| owner.0 == service && owner.1 == source)) {
            return Err(Reason::SourceInstances);
        }
        if reached(line.per_network, processes.count(|owner| owner.0 == service && owner.2 == network)) {
            return Err(Reason::NetworkInstances);
        }
        if reached(line.instances, processes.count(|owner| owner.0 == service)) {
            return Err(Reason::ServiceInstances);
        }
        if reached(Some(DAEMON_INSTANCES), u32::try_from(processes.owners().count()).unwrap()) {
            return Err(Reason::DaemonInstances);
        }
        Ok(())
    }

    /// What the daemon does with the exit queue.
    fn drain(&mut self) -> Result<(), String> {
        let exits = self.reaper.drain();
        self.kernel.0.borrow_mut().on_the_way.clear();
        for exit in exits {
            let place = self.ledger.settle(exit.ticket).ok_or_else(|| format!("{exit:?} has no place"))?;
            if let Some(ended) = exit.ended {
                self.ledger.note_ending(place.service, ended.ending, Duration::ZERO);
                self.charge(place.service, &exit, ended.ending);
            }
        }
        Ok(())
    }

    fn charge(&mut self, service: ServiceId, exit: &Exit, ending: Ending) {
        let Some(cause) = Cause::of_ending(ending) else { return };
        self.admission.charge(service, &exit.about.peer, cause, self.moment());
        let charges = self.entries.iter().any(|(entry, line)| entry.id == service && line.charges);
        if let Peer::Inet(IpAddr::V4(address), _) = exit.about.peer {
            if charges {
                self.truth.fail(address);
            }
        }
    }

    fn reload(&mut self, table: &[Line]) {
        self.truth.keep(|service| table.iter().any(|line| line.name == service));
        let ids = self.ledger.list(table.iter().map(|line| NAMES[line.name]));
        self.entries = table.iter().zip(ids).map(|(line, id)| (entry(id, line), *line)).collect();
        let services = || self.entries.iter().map(|(entry, _)| (entry.id, &entry.service));
        let few = PerFamily { ipv4: 12, ipv6: 12 };
        let prepared = self.admission.prepare(few, services().map(|(_, service)| service)).unwrap();
        self.admission.serve(
            services(),
            DAEMON_INSTANCES,
            prepared,
            Now { monotonic: self.truth.time(), wall: Duration::ZERO },
        );
    }

    fn by_name(&self, counts: impl Iterator<Item = (ServiceId, Source, u32)>) -> Keys {
        let name = |id| self.ledger.tally(id).map_or_else(String::new, |tally| tally.name.to_string());
        counts.map(|(id, key, count)| ((name(id), key), count)).collect()
    }

    /// The first oracle: every count is what the kernel's own list says.
    fn check(&self) -> Result<(), String> {
        let processes = self.kernel.0.borrow();
        for (_, tally) in self.ledger.tallies() {
            let expected = processes.count(|owner| owner.0 == &*tally.name);
            if tally.live != expected {
                return Err(format!("{} has {} handlers and counts {}", tally.name, expected, tally.live));
            }
            let ended = tally.ended.well + tally.ended.badly + tally.ended.by_signal;
            if tally.accepted < ended || tally.accepted - ended > u64::from(tally.live) {
                return Err(format!("{}: {} accepted, {ended} ended, {} live", tally.name, tally.accepted, tally.live));
            }
        }
        let by_source = self.by_name(self.ledger.sources());
        let by_network = self.by_name(self.ledger.networks());
        let (mut sources, mut networks) = (Keys::new(), Keys::new());
        for (service, source, network) in processes.owners() {
            *sources.entry((service.to_owned(), source)).or_default() += 1;
            if let Some(network) = network {
                *networks.entry((service.to_owned(), network)).or_default() += 1;
            }
        }
        if (&by_source, &by_network) != (&sources, &networks) {
            return Err(format!("{sources:?} and {networks:?} count as {by_source:?} and {by_network:?}"));
        }
        let all = processes.owners().count();
        if self.ledger.total() as usize != all || self.reaper.handlers() + self.reaper.waiting() != all {
            return Err(format!("{all} handlers, the ledger counts {}", self.ledger.total()));
        }
        match self.ledger.audit() {
            drifts if drifts.is_empty() => Ok(()),
            drifts => Err(format!("{drifts:?}")),
        }
    }

    /// The second oracle: when all processes have ended, one turn later nothing is left.
    fn all_gone(&mut self) -> Result<(), String> {
        self.kernel.0.borrow_mut().by_pid.values_mut().for_each(|process| process.ended = true);
        self.follow();
        self.reaper.reap(Duration::ZERO);
        self.drain()?;
        let live: Vec<_> = self.ledger.tallies().filter(|(_, tally)| tally.live > 0).collect();
        let zombies = self.kernel.0.borrow().by_pid.len();
        let unlisted = self.ledger.tallies().filter(|(_, tally)| !tally.listed).count();
        let keys = self.ledger.sources().count() + self.ledger.networks().count();
        if live.is_empty() && keys + zombies + unlisted == 0 && self.reaper.handlers() == 0 {
            return Ok(());
        }
        let sources: Vec<_> = self.ledger.sources().collect();
        Err(format!("left over: {live:?} {sources:?}, {zombies} zombies, {unlisted} services of the past"))
    }
}

fn entry(id: ServiceId, line: &Line) -> Entry {
    let name = NAMES[line.name];
    let of_key = |instances, length| {
        let prefix = Prefixes { ipv4: length, ipv6: 64 };
        PerSource { prefix, instances, rate: None, exempt: Vec::new() }
    };
    let penalties = Penalties {
        exit: line.charges.then_some(Duration::from_secs(barred::COST)),
        max: Duration::from_secs(barred::MOST),
        ..Penalties::default()
    };
    let path = CString::from(c"/bin/true");
    let service = Service {
        name: name.to_owned(),
        origin: Origin::default(),
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
        when_full: WhenFull::Refuse,
        rate: None,
        per_source: of_key(line.per_source, if line.wide { 24 } else { 32 }),
        per_network: line.per_network.map(|instances| of_key(Some(instances), 24)),
        max_load: None,
        penalties,
        allow: Vec::new(),
        deny: Vec::new(),
        times: Vec::new(),
        dry_run: false,
        refuse: Refuse::Reset,
        banner: Vec::new(),
        lifetime: None,
        socket: SocketOptions::default(),
        log: LogChoice { accept: false, exit: false, refuse: false },
    };
    let recipe = Recipe::new(&service, Nofile { soft: 1024, hard: 1024 }, &[]);
    Entry { id, name: Arc::from(name), service, recipe }
}

/// Which of the two oracles are asked.
#[derive(Clone, Copy)]
struct Oracles {
    step: bool,
    end: bool,
}

const BOTH: Oracles = Oracles { step: true, end: true };

fn live_through(history: &[Act], oracles: Oracles) -> Result<(), String> {
    let mut world = World::new();
    for step in history {
        let outcome = world.apply(step);
        if oracles.step {
            outcome.and_then(|()| world.check()).map_err(|error| format!("after {step:?}: {error}"))?;
        }
    }
    if oracles.end { world.all_gone() } else { Ok(()) }
}

fn histories(cases: u32) -> (TestRunner, impl Strategy<Value = Vec<Act>>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same histories in every run: a suite that fails only now and then proves nothing.
    let runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    (runner, prop::collection::vec(step(), 0..60))
}

fn judge(cases: u32, oracles: Oracles) -> Result<(), String> {
    let (mut runner, strategy) = histories(cases);
    let result = runner.run(&strategy, |history| live_through(&history, oracles).map_err(TestCaseError::fail));
    result.map_err(|error| match error {
        TestError::Fail(reason, history) => format!("{reason}\n{history:#?}"),
        TestError::Abort(reason) => reason.to_string(),
    })
}

#[test]
fn counts_are_exact_in_every_history() {
    judge(16_384, BOTH).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn histories_are_worth_something() {
    // Enough of them have full services, dying handlers and reused ids: else the test above would prove little.
    let (mut runner, strategy) = histories(1);
    let (mut reused, mut refused, mut crowded, mut early) = (0, 0, 0, 0);
    let mut barred = BTreeMap::new();
    for _ in 0..512 {
        let history = strategy.new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        for step in &history {
            if let Act::Arrive { service, source, birth } = step {
                let line = world.entries.iter().map(|(_, line)| line).find(|line| line.name == *service);
                let answer = line.map_or(Ok(()), |line| world.may_come(line, ADDRESSES[*source]));
                refused += u32::from(answer.is_err());
                answer.err().into_iter().for_each(|reason| *barred.entry(reason).or_insert(0) += 1);
                crowded += u32::from(answer == Err(Reason::NetworkInstances));
                early += u32::from(*birth == Birth::DiesAtOnce);
            }
            world.apply(step).unwrap();
        }
        reused += u32::from(world.kernel.0.borrow().last_handle > PIDS as u64);
    }
    for (reason, at_least) in [(Reason::Drained, 30), (Reason::Ban, 100), (Reason::Penalty, 10)] {
        assert!(barred.get(&reason).is_some_and(|count| *count > at_least), "{barred:?}");
    }
    assert!(reused > 50 && refused > 200 && crowded > 20 && early > 200, "{reused} {refused} {crowded} {early}");
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        plant(Some(bug));
        let found = judge(4_096, BOTH);
        plant(None);
        assert!(found.is_err(), "{bug:?} was not noticed");
    }
}

#[test]
fn neither_oracle_is_enough() {
    // A count that is wrong for a while only, and one that is wrong at the end only.
    let missed = |oracles| {
        Bug::ALL.into_iter().filter(move |&bug| {
            plant(Some(bug));
            let found = judge(1_024, oracles);
            plant(None);
            found.is_ok()
        })
    };
    let by_step = missed(Oracles { step: true, end: false }).count();
    let by_end = missed(Oracles { step: false, end: true }).count();
    assert!(by_step > 0 && by_end > 0, "step alone misses {by_step}, end alone misses {by_end}");
}
