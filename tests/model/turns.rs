//! How a turn shares its time.

use std::time::Duration;

use super::histories::{Arrival, Birth};
use super::table::{ADDRESSES, DATAGRAMS, Kind, Line, NAMES};
use super::world::World;
use crate::types::Ending;

/// Three services, to each of which clients come; to accept one takes all the time of a turn.
#[test]
fn each_turn_begins_behind_the_listener_that_was_served_last() {
    let line = |name: usize| Line { name, kind: Kind::Stream, endpoints: 1 << name, ..Line::default() };
    let mut world = World::empty(100, false);
    world.reload(&[line(0), line(1), line(2)], false, 100).unwrap();
    for endpoint in [0, 0, 0, 1, 1, 2, 2, 2] {
        world.state_mut().arrive(Arrival { endpoint, takes: 5, ..Arrival::default() });
    }
    let mut served = Vec::new();
    for _ in 0..8 {
        let ready = world.ready(u8::MAX);
        world.begin_turn(true);
        world.accept(ready).unwrap();
        served.push(world.state().processes.values().max_by_key(|process| process.handle).unwrap().owner.service);
    }
    assert_eq!(served, [0, 1, 2, 0, 1, 2, 0, 2]);
}

#[test]
fn a_few_starts_at_a_time_are_under_way() {
    let mut world = World::empty(100, false);
    world.reload(&[Line { endpoints: 1, ..Line::default() }], false, 100).unwrap();
    for _ in 0..30 {
        let birth = Birth { takes: 1, ..Birth::default() };
        world.state_mut().arrive(Arrival { birth, ..Arrival::default() });
    }
    for _ in 0..30 {
        let ready = world.ready(u8::MAX);
        world.begin_turn(true);
        world.accept(ready).unwrap();
    }
    assert_eq!((world.state().processes.len(), world.dispatcher.starting()), (30, 0));
    assert_eq!(world.state().most_starting, 8);
}

#[test]
fn whoever_comes_is_seen_by_the_meter() {
    let mut world = World::empty(100, false);
    let lent = Line { name: 1, kind: Kind::Wait, endpoints: 1 << DATAGRAMS, denied: Some(0), ..Line::default() };
    world.reload(&[Line { endpoints: 1, denied: Some(0), ..Line::default() }, lent], false, 100).unwrap();
    for endpoint in [0, 0, 0, DATAGRAMS, DATAGRAMS] {
        world.state_mut().arrive(Arrival { endpoint, ..Arrival::default() });
    }
    let ready = world.ready(u8::MAX);
    world.begin_turn(true);
    world.accept(ready).unwrap();
    let peak = |service: usize| {
        let id = world.dispatcher.ledger().find(NAMES[service]).unwrap();
        world.dispatcher.admission().peak_rate(id).map(|peak| (peak.source, peak.connections))
    };
    let source = Line::default().keys(ADDRESSES[0]).0;
    assert_eq!((peak(0), peak(1)), (Some((source, 3)), Some((source, 2))), "refused ones too");
}

#[test]
fn a_handler_that_takes_something_ends_the_growing_of_pauses() {
    let mut world = World::empty(100, false);
    world.reload(&[Line { kind: Kind::Wait, endpoints: 1, ..Line::default() }], false, 100).unwrap();
    let mut pauses = Vec::new();
    for takes in [false, false, false, true, false] {
        world.state_mut().arrive(Arrival::default());
        let ready = world.ready(u8::MAX);
        world.begin_turn(true);
        world.accept(ready).unwrap();
        let pid = *world.state().processes.keys().next().unwrap();
        if takes {
            world.state_mut().take(pid);
        }
        world.state_mut().end(pid, Ending::Exited(0));
        world.begin_turn(true);
        world.check().unwrap();
        let now = world.state().clock;
        let pause = world.dispatcher.deadline(now).map_or(Duration::ZERO, |when| when - now);
        pauses.push(pause.as_millis());
        world.state_mut().clock += pause;
        world.begin_turn(true);
    }
    assert_eq!(pauses, [100, 200, 400, 0, 100]);
}

#[test]
fn a_socket_comes_back_from_the_handler_that_has_it_and_no_other() {
    let mut world = World::empty(100, false);
    let table = [Line { kind: Kind::Wait, endpoints: 1, instances: Some(9), ..Line::default() }];
    // The second time it is another socket of the same endpoint.
    for _ in 0..2 {
        world.reload(&[], false, 100).unwrap();
        world.reload(&table, false, 100).unwrap();
        world.state_mut().arrive(Arrival::default());
        let ready = world.ready(u8::MAX);
        world.begin_turn(true);
        world.accept(ready).unwrap();
        world.check().unwrap();
    }
    for pid in [1, 2] {
        world.state_mut().end(pid, Ending::Exited(0));
        world.begin_turn(true);
        world.check().unwrap();
    }
}
