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
mod state;
mod table;
mod truth;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use histories::{Act, history};
use world::World;

type History = (bool, Vec<Act>);

/// Which of the two oracles are asked.
#[derive(Clone, Copy)]
struct Oracles {
    step: bool,
    end: bool,
}

const BOTH: Oracles = Oracles { step: true, end: true };

fn live_through((process_1, acts): &History, oracles: Oracles) -> Result<(), String> {
    let mut world = World::new(*process_1);
    for act in acts {
        let outcome = world.apply(act);
        if oracles.step {
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
    judge(4_096).unwrap_or_else(|error| panic!("{error}"));
}
