//! The books under a fake kernel that has four process ids: whatever the order of arrivals, deaths, failed starts,
//! reloads and upgrades, counts are exact, and so is what admission says of rates and penalties.
//!
//! The ledger, the reaper, admission with rates and penalties, the birth of a handler, who waits for room, and what
//! an upgrade carries are the real ones; only the kernel is not. Random histories are judged by two oracles: after
//! every step the counts equal the kernel's own list of processes, and when all processes have ended, one turn later
//! all counts are zero. Both are needed: each finds bugs that the other misses. Ids are few, because bugs of reused
//! ids hide when there are many. That the oracles see at all is shown by planting known bugs: each must be found.
//! Those of `planted.rs` are planted here; those of `bugs/` are patches, which `tests/planted_bugs.rs` plants in a
//! copy of the program.

mod barred;
mod histories;
mod kernel;
mod oracles;
mod paces;
mod table;
mod world;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::planted::{Bug, plant};
use histories::{Act, history};
use world::World;

/// Which of the two oracles are asked.
#[derive(Clone, Copy)]
struct Oracles {
    step: bool,
    end: bool,
}

const BOTH: Oracles = Oracles { step: true, end: true };

fn live_through(history: &[Act], oracles: Oracles) -> Result<(), String> {
    let mut world = World::new();
    for act in history {
        let outcome = world.apply(act);
        if oracles.step {
            outcome.and_then(|()| world.check()).map_err(|error| format!("after {act:?}: {error}"))?;
        }
    }
    if oracles.end { world.all_gone() } else { Ok(()) }
}

fn histories(cases: u32) -> (TestRunner, impl Strategy<Value = Vec<Act>>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same histories in every run: a suite that fails only now and then proves nothing.
    let runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    (runner, history())
}

/// Lives through so many histories; the first that is wrong is cut down to what matters in it.
fn judge(cases: u32) -> Result<(), String> {
    let (mut runner, strategy) = histories(cases);
    let result = runner.run(&strategy, |history| live_through(&history, BOTH).map_err(TestCaseError::fail));
    result.map_err(|error| match error {
        TestError::Fail(reason, history) => format!("{reason}\n{history:#?}"),
        TestError::Abort(reason) => reason.to_string(),
    })
}

/// The number of the first history in which a bug is found.
fn found(bug: Bug, cases: u32, oracles: Oracles) -> Option<u32> {
    let (mut runner, strategy) = histories(cases);
    plant(Some(bug));
    let is_wrong = |_: &u32| live_through(&strategy.new_tree(&mut runner).unwrap().current(), oracles).is_err();
    let first = (0..cases).find(is_wrong);
    plant(None);
    first
}

#[test]
fn counts_are_exact_in_every_history() {
    judge(4_096).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let first = found(bug, 2_048, BOTH);
        println!("{bug:?}: history {first:?}");
        assert!(first.is_some(), "{bug:?} was not noticed");
    }
}

#[test]
fn neither_oracle_is_enough() {
    // A count that is wrong for a while only, and one that is wrong at the end only.
    let missed = |oracles| Bug::ALL.into_iter().filter(move |&bug| found(bug, 512, oracles).is_none()).count();
    let by_step = missed(Oracles { step: true, end: false });
    let by_end = missed(Oracles { step: false, end: true });
    assert!(by_step > 0 && by_end > 0, "step alone misses {by_step}, end alone misses {by_end}");
}

/// What must happen often in a thousand histories: else the tests above would prove little.
const WORTH: [(&str, u32); 23] = [
    ("Lives", 1_000),
    ("DiesAtOnce", 300),
    ("CannotExec", 300),
    ("stillborn", 200),
    ("no process", 10),
    ("an id that was another's", 300),
    ("refused: Penalty", 40),
    ("refused: Ban", 40),
    ("refused: Drained", 20),
    ("refused: SourceInstances", 100),
    ("refused: SourceRate", 20),
    ("refused: NetworkInstances", 50),
    ("refused: NetworkRate", 10),
    ("refused: ServiceInstances", 20),
    ("refused: DaemonInstances", 100),
    ("left in the queue", 100),
    ("listened again", 50),
    ("somebody came between two exits", 50),
    ("charged for an end", 40),
    ("end of a lifetime", 50),
    ("a limit below what lives", 10),
    ("brought back with handlers", 20),
    ("upgrade with starts under way", 50),
];

#[test]
fn histories_are_worth_something() {
    let (mut runner, strategy) = histories(1);
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..1_000 {
        let mut world = World::new();
        for act in strategy.new_tree(&mut runner).unwrap().current() {
            world.apply(&act).unwrap();
        }
        world.seen.into_iter().for_each(|(what, count)| *seen.entry(what).or_insert(0) += count);
    }
    println!("{seen:#?}");
    for (what, least) in WORTH {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(count >= least, "{what}: {count} times");
    }
}
