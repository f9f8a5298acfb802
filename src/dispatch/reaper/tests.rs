use super::*;
use crate::limits::ledger::{Ledger, Place};
use crate::net::Source;
use crate::sys::pidfd::Ended as End;
use crate::types::Ending;

/// All of its processes have ended but those that are said to live, and it tells of a batch of them at a time, as epoll
/// does.
#[derive(Default)]
struct AllEnded {
    watched: Vec<Ticket>,
    living: Vec<Ticket>,
    /// It watches nobody any more.
    full: bool,
    /// The process groups and their signals.
    signals: Vec<(i32, i32)>,
}

impl Kernel for AllEnded {
    type Handle = Ticket;

    fn watch(&mut self, _: &Ticket, ticket: Ticket) -> io::Result<()> {
        if self.full {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.watched.push(ticket);
        Ok(())
    }

    fn ended(&mut self, found: &mut Vec<Ticket>) {
        found.extend(self.watched.iter().take(BATCH));
    }

    fn collect(&mut self, handle: &Ticket) -> io::Result<Option<End>> {
        if self.living.contains(handle) {
            return Ok(None);
        }
        self.watched.retain(|ticket| ticket != handle);
        Ok(Some(End { ending: Ending::Exited(0), cpu: Duration::ZERO, rss: 0 }))
    }

    fn number(handle: &Ticket) -> std::os::fd::RawFd {
        i32::try_from(handle.number()).unwrap()
    }

    fn inherit(number: std::os::fd::RawFd) -> io::Result<Ticket> {
        Ok(Ticket::from_number(u64::try_from(number).unwrap()))
    }

    fn bury(&mut self, _: &Ticket) {}

    fn signal(&mut self, pid: i32, signal: i32) {
        self.signals.push((pid, signal));
    }
}

/// A ledger and a reaper with nothing in them.
struct World {
    ledger: Ledger,
    service: crate::types::ServiceId,
    reaper: Reaper<AllEnded>,
}

impl World {
    fn new() -> Self {
        let mut ledger = Ledger::default();
        let service = ledger.list(["s"])[0];
        Self { ledger, service, reaper: Reaper::new(AllEnded::default()) }
    }

    fn start(&mut self, handlers: usize) {
        for _ in 0..handlers {
            self.start_one(1, None);
        }
    }

    /// One that begins at 0.
    fn start_one(&mut self, pid: i32, lifetime: Option<Duration>) {
        let about =
            About { service: Arc::from("s"), peer: Peer::Unknown, lent: None, since: Duration::ZERO, log: false };
        let ticket = self.ledger.take(Place { service: self.service, source: Source::Unknown, network: None });
        self.reaper.record(ticket, pid, ticket, about, lifetime);
        self.reaper.born(ticket);
    }

    /// Who is sent what when it is that late.
    fn overdue(&mut self, seconds: u64) -> Vec<(i32, i32)> {
        let killed = self.reaper.end_overdue(at(seconds));
        let signals = std::mem::take(&mut self.reaper.kernel.signals);
        let told: Vec<_> = killed.iter().map(|killed| (killed.pid, killed.signal)).collect();
        let name = |signal| if signal == libc::SIGTERM { "SIGTERM" } else { "SIGKILL" };
        assert_eq!(told, signals.iter().map(|&(pid, signal)| (pid, name(signal))).collect::<Vec<_>>());
        signals
    }

    fn deadline(&self, now: u64) -> Option<u64> {
        self.reaper.deadline(at(now)).map(|when| when.as_secs())
    }

    /// How many are settled in one turn.
    fn turn(&mut self, ended: bool) -> usize {
        self.reaper.reap(ended, Duration::ZERO);
        let exits = self.reaper.drain();
        exits.into_iter().filter(|exit| self.ledger.settle(exit.ticket).is_some()).count()
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
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

#[test]
fn who_lives_too_long_is_asked_to_end_and_then_made_to() {
    let mut world = World::new();
    world.start_one(8, Some(at(20)));
    world.start_one(7, Some(at(10)));
    world.start_one(9, None);
    assert_eq!((world.deadline(0), world.overdue(9)), (Some(10), vec![]));
    assert_eq!((world.overdue(10), world.deadline(10)), (vec![(7, libc::SIGTERM)], Some(15)));
    assert_eq!(world.overdue(14), []);
    assert_eq!((world.overdue(15), world.deadline(15)), (vec![(7, libc::SIGKILL)], Some(20)));
    assert_eq!(world.overdue(26), [(8, libc::SIGTERM)], "late, and five seconds from then");
    assert_eq!((world.overdue(30), world.overdue(31)), (vec![], vec![(8, libc::SIGKILL)]));
    assert_eq!((world.deadline(31), world.overdue(1_000)), (None, vec![]));
}

#[test]
fn who_has_been_collected_is_sent_nothing() {
    let mut world = World::new();
    world.start_one(7, Some(at(10)));
    assert_eq!(world.turn(true), 1);
    assert_eq!((world.deadline(0), world.overdue(100)), (None, vec![]));
}

#[test]
fn at_the_end_everybodys_time_is_over() {
    let mut world = World::new();
    world.start_one(7, Some(at(10)));
    world.start_one(8, None);
    world.reaper.end_all(at(3));
    assert_eq!(world.deadline(3), Some(3));
    let mut asked = world.overdue(3);
    asked.sort_unstable();
    assert_eq!(asked, [(7, libc::SIGTERM), (8, libc::SIGTERM)]);
    let mut made = world.overdue(8);
    made.sort_unstable();
    assert_eq!(made, [(7, libc::SIGKILL), (8, libc::SIGKILL)]);
    assert_eq!((world.deadline(10), world.overdue(10)), (None, vec![]));
}

#[test]
fn who_could_not_be_watched_is_looked_at_each_second() {
    let mut world = World::new();
    world.reaper.kernel.full = true;
    world.start_one(7, None);
    world.start_one(8, None);
    world.reaper.kernel.living.extend(world.reaper.unwatched.last());
    assert_eq!(world.deadline(5), Some(6));
    assert_eq!((world.turn(false), world.reaper.handlers()), (1, 1), "without being told");
    assert_eq!(world.deadline(6), Some(7), "the other still is");
    world.reaper.kernel.living.clear();
    assert_eq!((world.turn(false), world.deadline(7)), (1, None));
    assert_eq!(world.ledger.total(), 0);
}
