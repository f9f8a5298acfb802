//! Turns of several servers in rounds, each in every round, in turn from either end, so that what the machine does
//! meanwhile strikes all alike. Ratios are taken within a round.

use std::io::Result;

use super::figures::Spread;

/// What was seen of each server, by its name, in each round.
pub(crate) struct Turns<T> {
    rounds: usize,
    seen: Vec<(usize, &'static str, T)>,
}

impl<T> Turns<T> {
    pub(crate) fn new() -> Self {
        Self { rounds: 0, seen: Vec::new() }
    }

    /// So many rounds, as [`Turns::round`]; who waits at a terminal sees how far they are.
    pub(crate) fn rounds<S>(
        what: &str,
        rounds: usize,
        all: &[S],
        name: impl Fn(&S) -> &'static str,
        mut turn: impl FnMut(&S) -> Result<T>,
    ) -> Self {
        let mut turns = Self::new();
        for round in 1..=rounds {
            eprint!("\r{what}: round {round} of {rounds}    ");
            turns.round(all, &name, &mut turn);
        }
        eprint!("\r{:40}\r", "");
        turns
    }

    /// A turn for each of `all`. One that fails is said; it has no figures here, and takes none from the others.
    pub(crate) fn round<S>(
        &mut self,
        all: &[S],
        name: impl Fn(&S) -> &'static str,
        mut turn: impl FnMut(&S) -> Result<T>,
    ) {
        let mut order: Vec<&S> = all.iter().collect();
        if self.rounds % 2 == 1 {
            order.reverse();
        }
        for one in order {
            match turn(one) {
                Ok(seen) => self.seen.push((self.rounds, name(one), seen)),
                Err(error) => eprintln!("\r{}: {error}{:30}", name(one), ""),
            }
        }
        self.rounds += 1;
    }

    /// What was seen of `name`, a round each.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a T> {
        self.seen.iter().filter(move |(_, other, _)| *other == name).map(|(_, _, seen)| seen)
    }

    /// One value of each round of `name`.
    pub(crate) fn spread(&self, name: &str, value: impl Fn(&T) -> f64) -> Spread {
        Spread::of(self.of(name).map(value))
    }

    /// One value of each round of `name`, as a ratio to what `base` found in the same round.
    pub(crate) fn ratio(&self, name: &str, (others, base): (&Self, &str), value: impl Fn(&T) -> f64) -> Spread {
        let base_of = |round| others.seen.iter().find(|(other, name, _)| (*other, *name) == (round, base));
        let mine = self.seen.iter().filter(|(_, other, _)| *other == name);
        Spread::of(mine.filter_map(|(round, _, seen)| base_of(*round).map(|(_, _, base)| value(seen) / value(base))))
    }
}
