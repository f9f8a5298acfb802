//! Keeps a flood of refusals from becoming a flood of log lines: the first line of a burst is written, and ten
//! seconds later the number of the others.
//!
//! The dispatcher calls this before it logs a refusal. It writes nothing itself, knows no clock, and cannot fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::types::Reason;

/// After a line was written, further lines with the same key are held back for this long.
const BURST_INTERVAL: Duration = Duration::from_secs(10);

/// Lines with the same service and reason belong to one burst. The number of keys does not grow with the sources.
pub(crate) type BurstKey = (Arc<str>, Reason);

#[derive(Debug)]
struct ActiveBurst {
    since: Duration,
    suppressed: u64,
}

/// The bursts that have not ended. Time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    held: HashMap<BurstKey, ActiveBurst>,
    /// No burst ends before this time.
    next: Option<Duration>,
}

impl Burst {
    /// Whether a line with this key may be written now. If not, it is counted.
    pub(crate) fn should_write(&mut self, key: BurstKey, now: Duration) -> bool {
        let Some(held) = self.held.get_mut(&key) else {
            self.held.insert(key, ActiveBurst { since: now, suppressed: 0 });
            self.next.get_or_insert(now + BURST_INTERVAL);
            return true;
        };
        held.suppressed += 1;
        false
    }

    /// Forgets the bursts that have ended. Returns those with lines held back, and how many.
    pub(crate) fn take_ended(&mut self, now: Duration) -> Vec<(BurstKey, u64)> {
        let mut ended = Vec::new();
        if self.next.is_none_or(|next| now < next) {
            return ended;
        }
        self.held.retain(|key, held| {
            let over = now >= held.since + BURST_INTERVAL;
            if over && held.suppressed > 0 {
                ended.push((key.clone(), held.suppressed));
            }
            !over
        });
        self.next = self.held.values().map(|held| held.since + BURST_INTERVAL).min();
        ended
    }

    /// The earliest time at which a burst ends.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn kind(service: &str) -> BurstKey {
        (service.into(), Reason::SourceInstances)
    }

    #[test]
    fn the_first_passes_and_the_others_are_counted_until_ten_seconds_are_over() {
        let mut burst = Burst::default();
        assert!(burst.should_write(kind("a"), s(100)));
        assert!(!burst.should_write(kind("a"), s(101)) && !burst.should_write(kind("a"), s(109)));
        assert_eq!(burst.take_ended(s(110)), [(kind("a"), 2)]);
        assert!(burst.should_write(kind("a"), s(110)) && !burst.should_write(kind("a"), s(111)));
    }

    #[test]
    fn kinds_do_not_hold_each_other_back() {
        let mut burst = Burst::default();
        assert!(burst.should_write(kind("a"), s(1)));
        assert!(burst.should_write(kind("b"), s(1)));
        assert!(burst.should_write(("a".into(), Reason::SpawnFailed), s(1)));
    }

    #[test]
    fn a_burst_that_ends_tells_what_it_held_back_once() {
        let mut burst = Burst::default();
        burst.should_write(kind("a"), s(1));
        burst.should_write(kind("a"), s(2));
        burst.should_write(kind("b"), s(1));
        assert_eq!(burst.deadline(), Some(s(11)));
        assert_eq!(burst.take_ended(s(10)), []);
        assert_eq!(burst.take_ended(s(11)), [(kind("a"), 1)]);
        assert_eq!((burst.take_ended(s(12)), burst.deadline()), (vec![], None));
    }
}
