//! `rate` against another formulation of the same algorithm, in exact arithmetic: the continuous-state leaky bucket of
//! ITU-T I.371, annex A, which remembers how full it is instead of when the next event is due.

use std::net::Ipv4Addr;
use std::time::Duration;

use oxinetd::limits::rate::{Bucket, PerFamily, Rate, RetryAfter, Sources};
use oxinetd::net::Source;
use proptest::prelude::*;

/// Drains `events` units a nanosecond; an event pours in `period` units; so no division is needed.
struct LeakyBucket {
    events: u128,
    period: u128,
    burst: u128,
    level: u128,
    last: u64,
}

impl LeakyBucket {
    fn new((events, period, burst): Terms) -> Self {
        Self { events: events.into(), period: period.as_nanos(), burst: burst.into(), level: 0, last: 0 }
    }

    /// Admits the event, or says how many nanoseconds early it is.
    fn event(&mut self, now: u64) -> Result<(), u128> {
        self.level = self.level.saturating_sub(u128::from(now - self.last) * self.events);
        self.last = now;
        let limit = (self.burst - 1) * self.period;
        if self.level > limit {
            return Err((self.level - limit).div_ceil(self.events));
        }
        self.level += self.period;
        Ok(())
    }
}

type Terms = (u32, Duration, u32);

/// A bucket and a table under the same events as the model.
struct Both {
    rate: Rate,
    model: LeakyBucket,
    bucket: Bucket,
    table: Sources,
}

impl Both {
    fn new(terms: Terms) -> Self {
        Self {
            rate: Rate::new(terms.0, terms.1, terms.2).expect("a rate in range"),
            model: LeakyBucket::new(terms),
            bucket: Bucket::default(),
            table: Sources::new(PerFamily { ipv4: 1, ipv6: 1 }).expect("memory"),
        }
    }

    /// An event at `now`: all three say the same. How long to wait, if it was refused.
    fn event(&mut self, now: u64) -> Option<u64> {
        let source = Source::V4(Ipv4Addr::LOCALHOST, 32);
        let expected = self.model.event(now).map_err(|ns| RetryAfter(Duration::from_nanos(ns as u64)));
        assert_eq!(self.bucket.check(&self.rate, now), expected, "at {now}");
        assert_eq!(self.table.check(1, source, &self.rate, now), expected, "at {now}");
        if expected.is_ok() {
            self.bucket.commit(&self.rate, now);
            self.table.commit(1, source, &self.rate, now);
        }
        expected.err().map(|retry| retry.0.as_nanos() as u64)
    }
}

/// What the next arrival has to do with the last answer.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// So many thousandths of the steady interval later.
    After(u64),
    /// At the very nanosecond at which it may, or so far from it.
    Due(i64),
}

fn play(terms: Terms, start: u64, arrivals: impl Iterator<Item = Next>) {
    let (mut both, mut now, mut retry) = (Both::new(terms), start, 0);
    let interval = terms.1.as_nanos() / u128::from(terms.0);
    for next in arrivals {
        let gap = match next {
            Next::After(thousandths) => (interval * u128::from(thousandths) / 1_000) as u64,
            Next::Due(offset) => u64::saturating_add_signed(retry, offset),
        };
        now = now.saturating_add(gap);
        retry = both.event(now).unwrap_or(0);
    }
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![Just(Next::After(0)), (0..3_000_u64).prop_map(Next::After), (-2..=2_i64).prop_map(Next::Due)]
}

proptest! {
    #[test]
    fn any_rate_decides_as_the_model(
        events in prop_oneof![1..=100_u32, 1..=2_000_000_000_u32],
        period in prop_oneof![Just(1), Just(60), Just(3_600), Just(86_400)],
        burst in prop_oneof![1..=5_u32, 1..=1_000_u32],
        start in prop_oneof![Just(0), any::<u64>(), (0..1_u64 << 40).prop_map(|back| u64::MAX - back)],
        arrivals in prop::collection::vec(next(), 1..300),
    ) {
        play((events, Duration::from_secs(period), burst), start, arrivals.into_iter());
    }
}

/// A generator of numbers (Steele and others, "Fast splittable pseudorandom number generators", 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn million_random_arrivals_decide_as_the_model() {
    let rates = [(7, 1, 1), (7, 1, 10), (30, 60, 10), (999, 1, 3), (1_000, 3_600, 50), (11, 86_400, 2), (50, 1, 1_000)];
    for (seed, (events, seconds, burst)) in rates.into_iter().enumerate() {
        let mut random = SplitMix(seed as u64);
        let arrivals = std::iter::repeat_with(|| match random.next() % 8 {
            0 => Next::Due(-1),
            1 | 2 => Next::Due(0),
            3 => Next::After(random.next() % 10_000),
            _ => Next::After(random.next() % 1_500),
        });
        play((events, Duration::from_secs(seconds), burst), 0, arrivals.take(1_000_000));
    }
}

#[test]
fn last_nanoseconds_of_the_clock_decide_as_the_model() {
    for burst in [1, 2, 100] {
        let start = u64::MAX - 5_000_000_000;
        let arrivals = (0..10_000).map(|n| if n % 3 == 0 { Next::After(2) } else { Next::Due(n % 2 - 1) });
        play((700, Duration::from_secs(1), burst), start, arrivals);
    }
}
