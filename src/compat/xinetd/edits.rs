//! A list that is set, added to and taken from, line by line, beginning with that of the defaults.
//!
//! The edits are kept and made at the end, so that it does not matter where in the file the defaults stand.

use super::lines::Op;
use crate::config::location::Spanned;

#[derive(Clone, Debug)]
pub(super) struct Edits<T> {
    lines: Vec<(Op, Vec<Spanned<T>>)>,
}

impl<T> Default for Edits<T> {
    fn default() -> Self {
        Self { lines: Vec::new() }
    }
}

impl<T: Clone + PartialEq> Edits<T> {
    pub(super) fn add_line(&mut self, op: Op, values: Vec<Spanned<T>>) {
        self.lines.push((op, values));
    }

    /// The list, `None` where no line speaks of it, here or in the defaults. In defaults `=` adds.
    pub(super) fn apply_to(&self, defaults: &Self) -> Option<Vec<Spanned<T>>> {
        if self.lines.is_empty() && defaults.lines.is_empty() {
            return None;
        }
        let mut list = Vec::new();
        for (op, values) in &defaults.lines {
            apply_edit(&mut list, if *op == Op::Set { Op::Add } else { *op }, values);
        }
        for (op, values) in &self.lines {
            apply_edit(&mut list, *op, values);
        }
        Some(list)
    }
}

fn apply_edit<T: Clone + PartialEq>(list: &mut Vec<Spanned<T>>, op: Op, values: &[Spanned<T>]) {
    match op {
        Op::Remove => list.retain(|old| values.iter().all(|value| value.value != old.value)),
        Op::Set => *list = values.to_vec(),
        Op::Add => {
            for value in values {
                if list.iter().all(|old| old.value != value.value) {
                    list.push(value.clone());
                }
            }
        }
    }
}
