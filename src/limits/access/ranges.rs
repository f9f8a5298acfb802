//! Nested networks, flattened into ranges that don't overlap.

use super::Rule;

/// The addresses from `first` to `last`, both included. Two networks never overlap in part: one contains the other,
/// or they share no address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<T> {
    first: T,
    last: T,
    rule: Rule,
}

impl<T> Network<T> {
    pub(super) fn new(first: impl Into<T>, last: impl Into<T>, rule: Rule) -> Self {
        Self { first: first.into(), last: last.into(), rule }
    }
}

/// A whole number that can be an address.
pub(super) trait Address: Copy + Ord + Default {
    /// The address after this one; none after the last.
    fn next_address(self) -> Option<Self>;
}

impl Address for u32 {
    fn next_address(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn next_address(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Which rule decides from which address on. Both lists are equally long; the first range begins at address 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges<T> {
    starts: Vec<T>,
    rules: Vec<Option<Rule>>,
}

impl<T: Address> Ranges<T> {
    /// Walks the networks by their first address. `open` holds those around that address; the innermost decides.
    pub(super) fn new(mut networks: Vec<Network<T>>) -> Self {
        // The outer before the inner; of equals, the one that decides first, so that it is the one which is kept.
        networks.sort_by(|a, b| (a.first, b.last, a.rule).cmp(&(b.first, a.last, b.rule)));
        networks.dedup_by_key(|network| (network.first, network.last));
        let mut ranges = Self { starts: vec![T::default()], rules: vec![None] };
        let mut open: Vec<Network<T>> = Vec::new();
        for network in networks {
            while open.last().is_some_and(|inner| inner.last < network.first) {
                ranges.leave_network(&mut open);
            }
            ranges.begin_range(network.first, Some(network.rule));
            open.push(network);
        }
        while !open.is_empty() {
            ranges.leave_network(&mut open);
        }
        ranges
    }

    /// After the innermost network ends, the one around it decides again.
    fn leave_network(&mut self, open: &mut Vec<Network<T>>) {
        if let Some(after) = open.pop().and_then(|inner| inner.last.next_address()) {
            self.begin_range(after, open.last().map(|outer| outer.rule));
        }
    }

    /// Begins a range, in which this rule decides.
    fn begin_range(&mut self, start: T, rule: Option<Rule>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.rules.pop();
        }
        self.starts.push(start);
        self.rules.push(rule);
    }

    pub(super) fn find_rule(&self, address: T) -> Option<Rule> {
        let after = self.starts.partition_point(|start| *start <= address);
        self.rules.get(after.checked_sub(1)?).copied().flatten()
    }
}
