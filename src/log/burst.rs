//! Keeps a flood of refusals from becoming a flood of lines: the first of a burst is written, and ten seconds later the
//! number of the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Reason;

/// How long lines of one kind are held back after one was written.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is alike: the service and the reason. There are few of them, whoever comes from wherever.
pub(crate) type Kind = (Arc<str>, Reason);

#[derive(Debug)]
struct Held {
    since: Duration,
    suppressed: u64,
}

/// The bursts under way. Time is an argument.
#[derive(Debug, Default)]
pub struct Burst {
    held: HashMap<Kind, Held>,
    /// No burst is over before this moment.
    next: Option<Duration>,
}

impl Burst {
    /// May a line of this kind be written now? If not, it is counted.
    pub fn pass(&mut self, kind: Kind, now: Duration) -> bool {
        let Some(held) = self.held.get_mut(&kind) else {
            self.held.insert(kind, Held { since: now, suppressed: 0 });
            self.next.get_or_insert(now + INTERVAL);
            return true;
        };
        held.suppressed += 1;
        false
    }

    /// The bursts that have ended with lines held back, and how many; they are forgotten.
    pub fn ended(&mut self, now: Duration) -> Vec<(Kind, u64)> {
        let mut ended = Vec::new();
        if self.next.is_none_or(|next| now < next) {
            return ended;
        }
        self.held.retain(|kind, held| {
            let over = now >= held.since + INTERVAL;
            if over && held.suppressed > 0 {
                ended.push((kind.clone(), held.suppressed));
            }
            !over
        });
        self.next = self.held.values().map(|held| held.since + INTERVAL).min();
        ended
    }

    /// When [`Burst::ended`] has something to say or to forget.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn kind(service: &str) -> Kind {
        (service.into(), Reason::SourceInstances)
    }

    #[test]
    fn the_first_passes_and_the_others_are_counted_until_ten_seconds_are_over() {
        let mut burst = Burst::default();
        assert!(burst.pass(kind("a"), s(100)));
        assert!(!burst.pass(kind("a"), s(101)) && !burst.pass(kind("a"), s(109)));
        assert_eq!(burst.ended(s(110)), [(kind("a"), 2)]);
        assert!(burst.pass(kind("a"), s(110)) && !burst.pass(kind("a"), s(111)));
    }

    #[test]
    fn kinds_do_not_hold_each_other_back() {
        let mut burst = Burst::default();
        assert!(burst.pass(kind("a"), s(1)));
        assert!(burst.pass(kind("b"), s(1)));
        assert!(burst.pass(("a".into(), Reason::SpawnFailed), s(1)));
    }

    #[test]
    fn a_burst_that_ends_tells_what_it_held_back_once() {
        let mut burst = Burst::default();
        burst.pass(kind("a"), s(1));
        burst.pass(kind("a"), s(2));
        burst.pass(kind("b"), s(1));
        assert_eq!(burst.deadline(), Some(s(11)));
        assert_eq!(burst.ended(s(10)), []);
        assert_eq!(burst.ended(s(11)), [(kind("a"), 1)]);
        assert_eq!((burst.ended(s(12)), burst.deadline()), (vec![], None));
    }
}
