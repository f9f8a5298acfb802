//! Known bugs of admission and penalties, planted on purpose, so that the tests prove that they would notice each of them.
//! All others are patches, in `tests/model/bugs/`.
//!
//! A place in the program asks [`planted`] whether it shall have its bug; outside of the unit tests the answer is a constant
//! `false`, and the question is not compiled in.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "asked for everywhere, planted in tests only"))]
pub(crate) enum Bug {
    /// Who is refused by a later question has used up an earlier budget.
    CommittedTooEarly,
    /// A reload forgets what services have used up of their own rates.
    RateLostByReload,
    /// A reload that changes the size of the memory forgets what sources owe.
    PenaltiesLostByReload,
    /// Who is refused for what he owes owes more for that.
    ChargedForOwing,
}

#[cfg(not(test))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use planting::{plant, planted};

#[cfg(test)]
mod planting {
    use super::Bug;
    use std::cell::Cell;

    impl Bug {
        pub(crate) const ALL: [Self; 4] =
            [Self::CommittedTooEarly, Self::RateLostByReload, Self::PenaltiesLostByReload, Self::ChargedForOwing];
    }

    thread_local!(static BUG: Cell<Option<Bug>> = const { Cell::new(None) });

    /// Plants `bug`, or none, in this thread.
    pub(crate) fn plant(bug: Option<Bug>) {
        BUG.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }
}
