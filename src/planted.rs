//! Known bugs, planted on purpose, so that the tests prove that they would notice each of them. More of them are
//! patches, in `tests/model/bugs/`, which `tests/planted_bugs.rs` plants in a copy of the program.
//!
//! The first seven are bugs that some super-server really had; the others are what could go wrong with this one. A
//! place in the program asks [`planted`] whether it shall have its bug; outside of the unit tests the answer is a
//! constant `false`, and the question is not compiled in.

/// A bug of the family: a maintained count beside the real set of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "asked for everywhere, planted in tests only"))]
pub(crate) enum Bug {
    /// The exit queue carries process ids, which name a ticket only when it is drained.
    PidOnTheQueue,
    /// The drain empties the queue after somebody has put more on it.
    QueueClearedLate,
    /// A reload starts the counts anew (xinetd).
    CountsResetByReload,
    /// A handler that could not be started keeps its place.
    FailedSpawnKeepsPlace,
    /// A handler that ends before it has been recorded is forgotten (Horust).
    EndsBeforeRecorded,
    /// A reload numbers the services anew, so that tickets speak of others.
    ServicesRenumbered,
    /// One exit is taken for each wake-up, though wake-ups coalesce.
    OneExitPerWakeUp,
    /// The end of a child that failed to become a handler is taken for a handler's.
    UnbornCollected,
    /// A child that failed to become a handler makes no room for who waits.
    StillbornMakesNoRoom,
    /// A network's count does not go down.
    NetworkKeepsPlace,
    /// An upgrade carries the places of the services in the table only.
    UnlistedPlacesNotCarried,
    /// The program that takes over gives tickets that the one before has given.
    TicketsBeginAnew,
    /// What was being started during an upgrade is waited for in vain.
    UnbornForEver,
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
        pub(crate) const ALL: [Self; 13] = [
            Self::PidOnTheQueue,
            Self::QueueClearedLate,
            Self::CountsResetByReload,
            Self::FailedSpawnKeepsPlace,
            Self::EndsBeforeRecorded,
            Self::ServicesRenumbered,
            Self::OneExitPerWakeUp,
            Self::UnbornCollected,
            Self::StillbornMakesNoRoom,
            Self::NetworkKeepsPlace,
            Self::UnlistedPlacesNotCarried,
            Self::TicketsBeginAnew,
            Self::UnbornForEver,
        ];
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
