//! How many handlers are collected in a turn, and who is sent which signal when.

use std::time::Duration;

use super::histories::{Arrival, Birth, Outcome};
use super::table::{Kind, Line};
use super::world::World;
use crate::dispatch::reaper::EXIT_BATCH as BATCH;
use crate::types::{Ending, KillSignal};

const LATE: usize = 0;
const SOON: usize = 1;
const NEVER: usize = 2;

/// Services whose handlers may live for 20 or 10 seconds, or without end; as many process ids as anybody could want.
fn world() -> World {
    let line =
        |name: usize, lifetime| Line { name, kind: Kind::Stream, endpoints: 1 << name, lifetime, ..Line::default() };
    let mut world = World::empty(10_000, false);
    world.reload(&[line(LATE, Some(20)), line(SOON, Some(10)), line(NEVER, None)], false, 100_000).unwrap();
    world
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    fn start(&mut self, handlers: usize, service: usize, birth: Birth) {
        for _ in 0..handlers {
            self.state_mut().arrive(Arrival { endpoint: service, birth, ..Arrival::default() });
        }
        let ready = self.ready(u8::MAX);
        self.accept(ready).unwrap();
    }

    /// One that lives on, whatever it is told. Gives its process id.
    fn start_one(&mut self, service: usize) -> i32 {
        self.start(1, service, Birth { stubborn: true, ..Birth::default() });
        self.state().processes.values().max_by_key(|process| process.handle).unwrap().pid
    }

    /// Who is sent what when it is that late.
    fn overdue(&mut self, seconds: u64) -> Vec<(i32, KillSignal)> {
        self.state_mut().clock = at(seconds);
        self.begin_turn(false);
        let mut state = self.state_mut();
        let (signals, told) = (std::mem::take(&mut state.signals), std::mem::take(&mut state.told));
        assert_eq!(told, signals.iter().map(|&(pid, signal)| (pid, signal.word())).collect::<Vec<_>>());
        signals
    }

    fn deadline(&self, now: u64) -> Option<u64> {
        self.dispatcher.deadline(at(now)).map(|when| when.as_secs())
    }

    fn total(&self) -> u32 {
        self.dispatcher.ledger().total()
    }

    /// How many are settled in one turn.
    fn settled(&mut self, heard: bool) -> usize {
        let before = self.total();
        self.begin_turn(heard);
        (before - self.total()) as usize
    }
}

fn dead() -> Birth {
    Birth { outcome: Outcome::DiesAtOnce, ..Birth::default() }
}

#[test]
fn as_many_are_collected_as_are_started() {
    let mut world = world();
    // Turn after turn, far more than a batch.
    for turn in 0..50 {
        world.start(4 * BATCH, NEVER, dead());
        assert_eq!(world.settled(true), 4 * BATCH, "turn {turn}: some that have ended are left");
    }
    assert_eq!(world.total(), 0);
}

#[test]
fn those_that_ended_at_once_are_collected_in_many_turns() {
    let mut world = world();
    // They came one after another, and nobody has heard that one has ended.
    for _ in 0..50 * BATCH {
        world.start(1, NEVER, dead());
        assert_eq!(world.settled(false), 0);
    }
    for turn in 0..50 {
        assert_eq!(world.settled(true), BATCH, "turn {turn}");
    }
    assert_eq!(world.total(), 0);
}

#[test]
fn who_lives_too_long_is_asked_to_end_and_then_made_to() {
    let mut world = world();
    let (late, soon) = (world.start_one(LATE), world.start_one(SOON));
    world.start_one(NEVER);
    assert_eq!((world.deadline(0), world.overdue(9)), (Some(10), vec![]));
    assert_eq!((world.overdue(10), world.deadline(10)), (vec![(soon, KillSignal::Term)], Some(15)));
    assert_eq!(world.overdue(14), []);
    assert_eq!((world.overdue(15), world.deadline(15)), (vec![(soon, KillSignal::Kill)], Some(20)));
    assert_eq!(world.overdue(26), [(late, KillSignal::Term)], "late, and five seconds from then");
    assert_eq!((world.overdue(30), world.overdue(31)), (vec![], vec![(late, KillSignal::Kill)]));
    assert_eq!((world.deadline(31), world.overdue(1_000)), (None, vec![]));
}

#[test]
fn who_has_been_collected_is_sent_nothing() {
    let mut world = world();
    world.start(1, SOON, dead());
    assert_eq!(world.settled(true), 1);
    assert_eq!((world.deadline(0), world.overdue(100)), (None, vec![]));
}

#[test]
fn at_the_end_everybodys_time_is_over() {
    let mut world = world();
    let (one, other) = (world.start_one(SOON), world.start_one(NEVER));
    assert_eq!(world.overdue(3), []);
    world.quit();
    assert_eq!(world.deadline(3), Some(3));
    let mut asked = world.overdue(3);
    asked.sort_unstable();
    assert_eq!(asked, [(one, KillSignal::Term), (other, KillSignal::Term)]);
    let mut made = world.overdue(8);
    made.sort_unstable();
    assert_eq!(made, [(one, KillSignal::Kill), (other, KillSignal::Kill)]);
    assert_eq!((world.deadline(10), world.overdue(10)), (None, vec![]));
}

#[test]
fn who_could_not_be_watched_is_looked_at_each_second() {
    let mut world = world();
    world.start(1, NEVER, Birth { unwatchable: true, ..dead() });
    world.start(1, NEVER, Birth { unwatchable: true, ..Birth::default() });
    assert_eq!(world.deadline(5), Some(6));
    assert_eq!((world.settled(false), world.dispatcher.handlers().count()), (1, 1), "without being told");
    assert_eq!(world.deadline(6), Some(7), "the other still is");
    let pid = *world.state().processes.keys().next().unwrap();
    world.state_mut().end(pid, Ending::Exited(0));
    assert_eq!((world.settled(false), world.deadline(7)), (1, None));
    assert_eq!(world.total(), 0);
}

#[test]
fn nothing_is_left_to_do_for_a_child_that_failed() {
    let mut world = world();
    let failed = Birth { outcome: Outcome::CannotExec, unwatchable: true, ..Birth::default() };
    world.start(1, LATE, failed);
    // In ten seconds the log tells how many such failures it has left out, if any; in twenty a handler's time would be over.
    world.state_mut().clock = at(1);
    world.begin_turn(false);
    assert_eq!(world.deadline(1), Some(10));
    world.state_mut().clock = at(10);
    world.begin_turn(false);
    assert_eq!(world.deadline(10), None);
}
