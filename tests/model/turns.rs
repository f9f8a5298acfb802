//! How a turn shares its time.

use super::histories::Arrival;
use super::table::{Kind, Line};
use super::world::World;

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
