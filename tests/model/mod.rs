//! The shipped dispatcher under a fake kernel that has four process ids: whatever the order of clients, deaths, failed
//! starts, lent sockets, reloads and upgrades, counts are exact, sockets are polled that are to be, and nothing is lost.
//!
//! All that is called is [`Dispatcher`](crate::dispatch::Dispatcher), as the server calls it; its order of calls is what
//! is proved, and there is no copy of it here. The fake kernel ([`kernel`], [`state`]) notes each call that must not be,
//! and works out what must become of a client at the moment of accept(2), when nothing else can come between. Random
//! histories ([`histories`]) are judged by two oracles ([`oracles`]): after every step the counts equal the kernel's own list
//! of processes, and when all processes have ended, one turn later all counts are zero. Both are needed: each finds bugs that
//! the other misses. Ids are few, because bugs of reused ids hide when there are many.
//!
//! That the oracles see at all is shown by planting known bugs: those of `bugs/` are patches against `src/`, which
//! `tests/planted_bugs.rs` plants in a copy of the program, and each must be found.

mod barred;
mod descriptors;
mod histories;
mod kernel;
mod oracles;
mod paces;
mod reaper;
mod rules;
mod state;
mod table;
mod truth;
mod turns;
mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use histories::{Act, history};
use state::KernelFault;
use world::World;

type History = (bool, Vec<Act>);

/// Which of the two oracles are asked.
#[derive(Clone, Copy)]
struct Oracles {
    step: bool,
    end: bool,
}

const BOTH: Oracles = Oracles { step: true, end: true };

fn live_through(history: &History, oracles: Oracles) -> Result<(), String> {
    live_through_with(history, oracles, None)
}

/// The same, where something may be wrong with the kernel.
fn live_through_with((process_1, acts): &History, oracles: Oracles, fault: Option<KernelFault>) -> Result<(), String> {
    let mut world = World::new(*process_1);
    world.state_mut().kernel_fault = fault;
    for act in acts {
        let outcome = world.apply(act);
        // Between two turns nobody calls the dispatcher.
        if oracles.step && matches!(act, Act::Turn(_)) {
            outcome.and_then(|()| world.check()).map_err(|error| format!("after {act:?}: {error}"))?;
        }
    }
    if oracles.end { world.all_gone() } else { Ok(()) }
}

fn histories(cases: u32) -> (TestRunner, impl Strategy<Value = History>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same histories in every run: a suite that fails only now and then proves nothing.
    let runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    (runner, history())
}

fn judge(cases: u32) -> Result<(), String> {
    let (mut runner, strategy) = histories(cases);
    let result = runner.run(&strategy, |history| live_through(&history, BOTH).map_err(TestCaseError::fail));
    result.map_err(|error| match error {
        TestError::Fail(reason, (process_1, acts)) => {
            let acts: Vec<_> = acts.iter().map(|act| format!("{act:?}")).collect();
            format!("{reason}\nprocess 1: {process_1}\n{}", acts.join("\n"))
        }
        TestError::Abort(reason) => reason.to_string(),
    })
}

#[test]
fn counts_are_exact_in_every_history() {
    judge(3_072).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn neither_oracle_is_enough() {
    let found = |fault, oracles| {
        let (mut runner, strategy) = histories(1);
        let mut next = || strategy.new_tree(&mut runner).unwrap().current();
        (0..256).any(|_| live_through_with(&next(), oracles, Some(fault)).is_err())
    };
    let (step, end) = (Oracles { step: true, end: false }, Oracles { step: false, end: true });
    // A count that is wrong for a while only, and one that is wrong at the end only.
    assert!(found(KernelFault::TellsTooEarly, step) && !found(KernelFault::TellsTooEarly, end));
    assert!(!found(KernelFault::NeverTells, step) && found(KernelFault::NeverTells, end));
}

/// What must happen often in a thousand histories: else the tests above would prove little.
const WORTH: [(&str, u32); 42] = [
    ("connection", 5_000),
    ("datagram", 1_000),
    ("Lives", 2_000),
    ("DiesAtOnce", 500),
    ("CannotExec", 500),
    ("a child that failed", 500),
    ("no process", 200),
    ("no copy of a socket", 50),
    ("an id that was another's", 1_000),
    ("orphan", 100),
    ("shortage", 100),
    ("a turn without time for all", 100),
    ("no memory to poll", 100),
    ("admitted by dry_run alone", 20),
    ("refused: Access", 20),
    ("refused: Penalty", 40),
    ("refused: Ban", 40),
    ("refused: Drained", 40),
    ("refused: SourceInstances", 40),
    ("refused: SourceRate", 20),
    ("refused: NetworkInstances", 20),
    ("refused: NetworkRate", 5),
    ("refused: ServiceInstances", 20),
    ("refused: DaemonInstances", 100),
    ("paused: ServiceInstances", 50),
    ("paused: DaemonInstances", 100),
    ("paused: ServiceRate", 50),
    ("paused: Drained", 20),
    ("paused: Resources", 100),
    ("paused: Backoff", 50),
    ("polled again", 500),
    ("left waiting at a socket that is lent", 100),
    ("taken by a handler", 100),
    ("back-off", 200),
    ("handed back", 100),
    ("SIGTERM", 20),
    ("SIGKILL", 5),
    ("a limit below what lives", 10),
    ("brought back with handlers", 20),
    ("reload while a socket is lent", 100),
    ("upgrade with starts under way", 50),
    ("quit", 10),
];

#[test]
fn histories_are_worth_something() {
    let (mut runner, strategy) = histories(1);
    let mut seen = BTreeMap::new();
    for _ in 0..1_000 {
        let (process_1, acts) = strategy.new_tree(&mut runner).unwrap().current();
        let mut world = World::new(process_1);
        acts.iter().for_each(|act| world.apply(act).unwrap());
        world.state().seen.iter().for_each(|(what, count)| *seen.entry(what.clone()).or_insert(0) += count);
    }
    println!("{seen:#?}");
    for (what, least) in WORTH {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(count >= least, "{what}: {count} times");
    }
}
