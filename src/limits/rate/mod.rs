//! How often clients may connect: the generic cell rate algorithm (ITU-T I.371, annex A) without rounding.
//!
//! A [`Rate`] is a rule. What it needs to remember is one time, the *theoretical arrival time* (TAT): in a
//! [`Bucket`] for a service as a whole, in a table of fixed size ([`Sources`]) for its sources. The table of
//! services makes the rules; only admission uses them: it evaluates every limit with `check`, and when all admit
//! the client it calls `commit` for each, so that a client refused by a later check has used up nothing. Nothing
//! here reads a clock, logs or fails: time is an argument, nanoseconds of the monotonic clock, and any value from 0
//! to `u64::MAX` is right, also twice the same.
//!
//! **Exactness.** A seventh of a second is no whole number of nanoseconds, and rounding it would one day admit one
//! too many or one too few. But every TAT is a whole number of nanoseconds plus a whole number of `1/events` ns,
//! because it starts at a clock reading and moves on by steps of `period/events`. So a `Moment` keeps both parts as
//! integers, and there is nothing to round. The fraction takes 31 bits and the nanoseconds 65 (a TAT may lie beyond
//! the last reading of the clock): 96 bits packed.
//!
//! A source whose TAT has passed is like one never seen; that is what lets a table forget it without loss.

mod slots;
mod table;

pub use slots::PerFamily;
pub(crate) use slots::{Key, SavedSlots, Slot, Slots, source_of};
pub(crate) use table::SavedSources;
pub use table::{Change, Sources};

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of events in a period, and how many of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events, reduced against the period; below 2^31. Fractions of a nanosecond are counted in `1/events`.
    events: u32,
    /// T: from one event to the next at the steady rate.
    step: Moment,
    /// tau: how far the TAT may be ahead, `(burst - 1) * T`.
    tolerance: Moment,
    /// The debt of a source that has used up its burst, `burst * T`. Below 2^64 ns.
    capacity: Moment,
}

/// The error in the terms of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRate {
    /// No events, no time or no burst.
    Zero,
    /// 2^31 events or more, in lowest terms.
    TooMany,
    /// To earn the whole burst takes 2^64 ns (584 years) or more.
    TooSlow,
}

impl fmt::Display for InvalidRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "events, time and burst must be at least 1",
            Self::TooMany => "too many events",
            Self::TooSlow => "the burst takes longer than 584 years to earn",
        })
    }
}

impl std::error::Error for InvalidRate {}

/// The time after which the event is allowed, if no other comes before. Exact: a nanosecond less is too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl Rate {
    /// `events` in each `period`, and `burst` at once.
    ///
    /// # Errors
    /// Says what is out of range.
    pub fn new(events: u32, period: Duration, burst: u32) -> Result<Self, InvalidRate> {
        let period = period.as_nanos();
        if events == 0 || period == 0 || burst == 0 {
            return Err(InvalidRate::Zero);
        }
        let common = gcd(events.into(), period);
        let (ticks, reduced) = (period / common, u128::from(events) / common);
        let events = u32::try_from(reduced).ok().filter(|e| *e < 1 << 31).ok_or(InvalidRate::TooMany)?;
        let steps = |n: u32| Moment::from_ticks(ticks * u128::from(n), events);
        let rate = Self { events, step: steps(1), tolerance: steps(burst - 1), capacity: steps(burst) };
        if rate.capacity.ns > u128::from(u64::MAX) { Err(InvalidRate::TooSlow) } else { Ok(rate) }
    }

    /// Whether an event is allowed at `now`, when the next is expected at `tat`.
    fn check_tat(&self, tat: Moment, now: u64) -> Result<(), RetryAfter> {
        let latest = self.add_moments(Moment::at(now), self.tolerance);
        if tat <= latest {
            return Ok(());
        }
        let wait = tat.ns_since(latest);
        Err(RetryAfter(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    /// The TAT after an event at `now`. An event that was not allowed leaves the burst used up and no more, so that
    /// it costs nothing later.
    fn tat_after(&self, tat: Moment, now: u64) -> Moment {
        let now = Moment::at(now);
        self.add_moments(tat.max(now), self.step).min(self.add_moments(now, self.capacity))
    }

    /// The TAT when this rate becomes `new` at `now`: the same part of the burst is used. Rounded down by less than
    /// two nanoseconds of the old rate, in the source's favour.
    fn carry_over(&self, tat: Moment, now: u64, new: &Self) -> Moment {
        let (now, whole) = (u128::from(now), self.capacity.ns_up());
        let debt = tat.ns.saturating_sub(now).min(whole);
        Moment { ns: now + debt * new.capacity.ns / whole, fraction: 0 }
    }

    fn add_moments(&self, a: Moment, b: Moment) -> Moment {
        let (ns, fraction) = (a.ns + b.ns, a.fraction + b.fraction);
        match fraction.checked_sub(self.events) {
            Some(fraction) => Moment { ns: ns + 1, fraction },
            None => Moment { ns, fraction },
        }
    }
}

/// A time, or a length of time, without rounding. The order of the fields makes the derived order that of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Moment {
    /// Whole nanoseconds, below 2^65.
    ns: u128,
    /// The rest, in `1/events` of a nanosecond, less than `events` of the rate that it belongs to.
    fraction: u32,
}

impl Moment {
    fn at(now: u64) -> Self {
        Self { ns: now.into(), fraction: 0 }
    }

    /// `ticks` times `1/events` ns; `events` is below 2^31, so the remainder fits.
    fn from_ticks(ticks: u128, events: u32) -> Self {
        let events = u128::from(events);
        Self { ns: ticks / events, fraction: (ticks % events) as u32 }
    }

    fn ns_up(self) -> u128 {
        self.ns + u128::from(self.fraction > 0)
    }

    /// The time since `earlier`, a moment of the same rate that is not later, rounded up.
    fn ns_since(self, earlier: Self) -> u128 {
        self.ns - earlier.ns + u128::from(self.fraction > earlier.fraction)
    }
}

/// The memory of one rate: a service's own. A new one has used up nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    tat: Moment,
}

impl Bucket {
    /// Whether an event is allowed at `now`. Changes nothing.
    ///
    /// # Errors
    /// When it is.
    pub fn check(&self, rate: &Rate, now: u64) -> Result<(), RetryAfter> {
        rate.check_tat(self.tat, now)
    }

    /// Counts an event at `now`.
    pub fn commit(&mut self, rate: &Rate, now: u64) {
        self.tat = rate.tat_after(self.tat, now);
    }

    /// Changes the rate from `old` to `new` at `now`; the same part of the burst stays used.
    pub fn change_rate(&mut self, old: &Rate, new: &Rate, now: u64) {
        self.tat = old.carry_over(self.tat, now, new);
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn per_second(events: u32, burst: u32) -> Rate {
        Rate::new(events, Duration::from_secs(1), burst).unwrap()
    }

    /// How many come in at `now` before one is refused, and its retry time.
    fn drain(bucket: &mut Bucket, rate: &Rate, now: u64) -> (u32, u64) {
        for admitted in 0.. {
            match bucket.check(rate, now) {
                Ok(()) => bucket.commit(rate, now),
                Err(RetryAfter(wait)) => return (admitted, wait.as_nanos() as u64),
            }
        }
        unreachable!()
    }

    #[test]
    fn thirty_a_minute_with_burst_ten() {
        let rate = Rate::new(30, Duration::from_secs(60), 10).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(drain(&mut bucket, &rate, 0), (10, 2 * SECOND));
        let admitted: u32 = (1..=60).map(|s| drain(&mut bucket, &rate, s * SECOND).0).sum();
        assert_eq!(admitted, 30, "one every two seconds after the burst");
    }

    #[test]
    fn a_seventh_of_a_second_does_not_drift() {
        let (rate, mut bucket) = (per_second(7, 2), Bucket::default());
        assert_eq!(drain(&mut bucket, &rate, 0).0, 2);
        for event in 1..=7_000_u64 {
            let due = (event * SECOND).div_ceil(7);
            assert_eq!(bucket.check(&rate, due - 1), Err(RetryAfter(Duration::from_nanos(1))), "event {event}");
            assert_eq!(drain(&mut bucket, &rate, due).0, 1, "event {event}");
        }
    }

    #[test]
    fn checking_uses_up_nothing() {
        let (rate, mut bucket) = (per_second(1, 1), Bucket::default());
        for _ in 0..100 {
            assert_eq!(bucket.check(&rate, 5), Ok(()));
        }
        assert_eq!(bucket, Bucket::default());
        bucket.commit(&rate, 5);
        assert_eq!(bucket.check(&rate, 5), Err(RetryAfter(Duration::from_secs(1))));
    }

    #[test]
    fn the_clock_at_zero_standing_still_and_at_its_end() {
        for now in [0, 1, u64::MAX - 1, u64::MAX] {
            let (rate, mut bucket) = (per_second(3, 5), Bucket::default());
            assert_eq!(drain(&mut bucket, &rate, now), (5, 333_333_334));
            assert_eq!(drain(&mut bucket, &rate, now), (0, 333_333_334));
        }
        let (rate, mut bucket) = (per_second(1, 5), Bucket::default());
        drain(&mut bucket, &rate, u64::MAX - 3 * SECOND);
        assert_eq!(drain(&mut bucket, &rate, u64::MAX).0, 3);
    }

    #[test]
    fn faster_than_the_clock_ticks() {
        let (rate, mut bucket) = (per_second(2_000_000_000, 4), Bucket::default());
        assert_eq!(drain(&mut bucket, &rate, 0), (4, 1));
        assert_eq!(drain(&mut bucket, &rate, 1), (2, 1));
    }

    #[test]
    fn events_beyond_the_burst_add_no_debt() {
        let (rate, mut bucket) = (per_second(1, 3), Bucket::default());
        for _ in 0..1000 {
            bucket.commit(&rate, 0);
        }
        assert_eq!(drain(&mut bucket, &rate, 0), (0, SECOND));
    }

    #[test]
    fn rates_that_cannot_be() {
        let minute = Duration::from_secs(60);
        assert_eq!(Rate::new(0, minute, 1), Err(InvalidRate::Zero));
        assert_eq!(Rate::new(1, Duration::ZERO, 1), Err(InvalidRate::Zero));
        assert_eq!(Rate::new(1, minute, 0), Err(InvalidRate::Zero));
        assert_eq!(Rate::new(u32::MAX, Duration::from_nanos(1 << 31), 1), Err(InvalidRate::TooMany));
        assert_eq!(Rate::new(1, Duration::from_secs(86_400), u32::MAX), Err(InvalidRate::TooSlow));
        assert!(Rate::new(1, Duration::from_nanos(u64::MAX), 1).is_ok());
        assert_eq!(Rate::new(1, Duration::from_nanos(u64::MAX), 2), Err(InvalidRate::TooSlow));
        let words = [InvalidRate::Zero, InvalidRate::TooMany, InvalidRate::TooSlow].map(|rate| rate.to_string());
        assert!(words[0].contains("at least 1") && words[1].contains("many") && words[2].contains("584 years"));
        assert_eq!(Rate::new(60, minute, 5), Rate::new(1, Duration::from_secs(1), 5));
    }

    #[test]
    fn a_new_rate_keeps_the_part_of_the_burst_that_is_used() {
        let now = 1_000 * SECOND;
        for (old, new, left) in [
            (per_second(7, 10), per_second(7, 20), 10),
            (per_second(7, 10), per_second(7, 10), 5),
            (per_second(7, 10), per_second(1, 4), 2),
            (per_second(1, 10), Rate::new(11, Duration::from_secs(3_600), 6).unwrap(), 3),
            (Rate::new(1, Duration::from_secs(86_400), 10).unwrap(), per_second(1_000, 1_000), 500),
        ] {
            let mut bucket = Bucket::default();
            (0..5).for_each(|_| bucket.commit(&old, now));
            bucket.change_rate(&old, &new, now);
            assert_eq!(drain(&mut bucket, &new, now).0, left, "{old:?} to {new:?}");
            let mut empty = Bucket::default();
            drain(&mut empty, &old, now);
            empty.change_rate(&old, &new, now);
            assert_eq!(drain(&mut empty, &new, now).0, 0, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn a_source_without_debt_has_none_under_a_new_rate() {
        let (old, new) = (per_second(1, 2), per_second(1, 8));
        let mut bucket = Bucket::default();
        drain(&mut bucket, &old, 0);
        bucket.change_rate(&old, &new, 2 * SECOND);
        assert_eq!(drain(&mut bucket, &new, 2 * SECOND).0, 8);
    }

    #[test]
    fn a_new_rate_rounds_slightly_in_the_favour_of_the_source() {
        for (old_events, old_burst, new_events, new_burst) in
            [(7, 10, 7, 20), (3, 7, 11, 5), (999, 3, 1, 100), (7, 10, 1, 1_000)]
        {
            let (old, new) = (per_second(old_events, old_burst), per_second(new_events, new_burst));
            let mut bucket = Bucket::default();
            for used in 1..=old_burst {
                bucket.commit(&old, 5);
                let debt = old.carry_over(bucket.tat, 5, &new).ns - 5;
                // used / old_burst of the time that new_burst events take, in 1/share ns.
                let exact = u128::from(used * new_burst) * u128::from(SECOND);
                let share = u128::from(old_burst * new_events);
                assert!(debt * share <= exact, "{used} of {old:?}");
                let slack = 2 + 2 * new.capacity.ns / old.capacity.ns;
                assert!((debt + slack) * share >= exact, "{used} of {old:?}");
            }
        }
    }
}
