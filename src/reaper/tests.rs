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

#[test]
fn as_many_are_collected_as_are_started() {
    let mut ledger = Ledger::default();
    let service = ledger.list(["s"])[0];
    let mut reaper = Reaper::new(AllEnded::default());
    let about = About { service: Arc::from("s"), peer: Peer::Unknown, lent: None, since: Duration::ZERO, log: false };
    // Turn after turn, far more than a batch.
    for turn in 0..50 {
        for _ in 0..4 * BATCH {
            let ticket = ledger.take(Place { service, source: Source::Unknown, network: None });
            reaper.record(ticket, 1, ticket, about.clone(), None);
            reaper.born(ticket);
        }
        reaper.reap(Duration::ZERO);
        assert_eq!(reaper.handlers(), 0, "turn {turn}: some that have ended are left");
        assert!(reaper.drain().into_iter().all(|exit| ledger.settle(exit.ticket).is_some()));
    }
    assert_eq!(ledger.total(), 0);
}
