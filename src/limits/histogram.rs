//! Durations counted in fixed ranges, with their sum.
//!
//! The code that measures something owns its histogram. A histogram allocates nothing and cannot fail.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Upper ends of the ranges for the lifetime of a handler: most last for a moment, a session for hours.
pub(crate) const LIVES: [Duration; 8] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
];

/// Upper ends of the ranges for a turn of the daemon's loop, which begins new turns before it is slow.
pub(crate) const TURNS: [Duration; 5] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// Durations in `N` ranges, and one for what is longer.
#[derive(Clone, Debug)]
pub struct Histogram<const N: usize> {
    ends: &'static [Duration; N],
    counts: [u64; N],
    count: u64,
    sum: Duration,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram. `ends` are the upper ends of the ranges, inclusive, in rising order.
    pub fn new(ends: &'static [Duration; N]) -> Self {
        Self { ends, counts: [0; N], count: 0, sum: Duration::ZERO }
    }

    /// Counts one duration.
    pub fn add(&mut self, time: Duration) {
        let range = self.ends.partition_point(|end| *end < time);
        if let Some(count) = self.counts.get_mut(range) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn sum(&self) -> Duration {
        self.sum
    }

    /// For each range its upper end, and the number of durations up to it: cumulative, as Prometheus wants them.
    pub fn up_to(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut all = 0;
        self.ends.iter().zip(self.counts).map(move |(&end, count)| {
            all += count;
            (end, all)
        })
    }
}

/// The ranges themselves are not saved: they belong to the program.
impl<const N: usize> Serialize for Histogram<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.counts[..], self.count, self.sum).serialize(serializer)
    }
}

macro_rules! readable {
    ($($ends:ident),*) => {$(
        impl<'de> Deserialize<'de> for Histogram<{ $ends.len() }> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (counts, count, sum) = <(Vec<u64>, u64, Duration)>::deserialize(deserializer)?;
                let wrong = |counts: Vec<u64>| serde::de::Error::invalid_length(counts.len(), &"as many ranges as there are");
                Ok(Self { ends: &$ends, counts: counts.try_into().map_err(wrong)?, count, sum })
            }
        }
    )*};
}

readable!(LIVES, TURNS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_belongs_to_its_range_and_ranges_add_up() {
        let mut histogram = Histogram::new(&TURNS);
        for micros in [0, 100, 101, 1_000, 5_000, 2_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        let counts: Vec<u64> = histogram.up_to().map(|(_, count)| count).collect();
        assert_eq!((counts, histogram.count()), (vec![2, 4, 5, 5, 5], 6));
        assert_eq!(histogram.sum(), Duration::from_micros(2_006_201));
    }

    #[test]
    fn ranges_are_in_rising_order() {
        assert!(LIVES.is_sorted() && TURNS.is_sorted());
    }
}
