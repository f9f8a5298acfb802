use super::*;
use crate::ledger::{Ledger, Place};
use crate::source::Source;
use crate::sys::pidfd::{Ended as End, Ending};

/// All of its processes have ended, and it tells of a batch of them at a time, as epoll does.
#[derive(Default)]
struct AllEnded(Vec<Ticket>);

impl Kernel for AllEnded {
    type Handle = Ticket;

    fn watch(&mut self, _: &Ticket, ticket: Ticket) -> io::Result<()> {
        self.0.push(ticket);
        Ok(())
    }

    fn ended(&mut self, found: &mut Vec<Ticket>) {
        found.extend(self.0.iter().take(BATCH));
    }

    fn collect(&mut self, handle: &Ticket) -> io::Result<Option<End>> {
        self.0.retain(|ticket| ticket != handle);
        Ok(Some(End { ending: Ending::Exited(0), cpu: Duration::ZERO, rss: 0 }))
    }

    fn number(handle: &Ticket) -> std::os::fd::RawFd {
        i32::try_from(handle.number()).unwrap()
    }

    fn inherit(number: std::os::fd::RawFd) -> io::Result<Ticket> {
        Ok(Ticket::from_number(u64::try_from(number).unwrap()))
    }

    fn bury(&mut self, _: &Ticket) {}

    fn signal(&mut self, _: i32, _: i32) {}
}

/// A ledger and a reaper with nothing in them.
struct World {
    ledger: Ledger,
    service: crate::ledger::ServiceId,
    reaper: Reaper<AllEnded>,
}

impl World {
    fn new() -> Self {
        let mut ledger = Ledger::default();
        let service = ledger.list(["s"])[0];
        Self { ledger, service, reaper: Reaper::new(AllEnded::default()) }
    }

    fn start(&mut self, handlers: usize) {
        let about =
            About { service: Arc::from("s"), peer: Peer::Unknown, lent: None, since: Duration::ZERO, log: false };
        for _ in 0..handlers {
            let ticket = self.ledger.take(Place { service: self.service, source: Source::Unknown, network: None });
            self.reaper.record(ticket, 1, ticket, about.clone(), None);
            self.reaper.born(ticket);
        }
    }

    /// How many are settled in one turn.
    fn turn(&mut self, ended: bool) -> usize {
        self.reaper.reap(ended, Duration::ZERO);
        let exits = self.reaper.drain();
        exits.into_iter().filter(|exit| self.ledger.settle(exit.ticket).is_some()).count()
    }
}

#[test]
fn as_many_are_collected_as_are_started() {
    let mut world = World::new();
    // Turn after turn, far more than a batch.
    for turn in 0..50 {
        world.start(4 * BATCH);
        assert_eq!(world.turn(true), 4 * BATCH, "turn {turn}: some that have ended are left");
    }
    assert_eq!(world.ledger.total(), 0);
}

#[test]
fn those_that_ended_at_once_are_collected_in_many_turns() {
    let mut world = World::new();
    // They came one after another, and none of them has ended so far.
    for _ in 0..50 * BATCH {
        world.start(1);
        assert_eq!(world.turn(false), 0);
    }
    for turn in 0..50 {
        assert_eq!(world.turn(true), BATCH, "turn {turn}");
    }
    assert_eq!(world.ledger.total(), 0);
}
