//! The descriptors that the dispatcher holds: each is listed while it is open, so that none can be lost unseen.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a descriptor refers to, by the kernel's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A listening socket of an endpoint.
    Socket(usize),
    /// The connection of a client.
    Connection(usize),
    /// A copy of the listening socket with this descriptor, for the handler that it is lent to.
    Loan(u64),
    /// A process.
    Process(u64),
}

/// The open ones by their numbers, of which none is used twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Descriptors {
    open: Rc<RefCell<BTreeMap<u64, What>>>,
    last: Rc<Cell<u64>>,
}

thread_local! {
    /// In execve(2): those of the program before, and those of them that the next one has found in its state.
    static INHERITANCE: RefCell<Option<(Descriptors, BTreeSet<u64>)>> = const { RefCell::new(None) };
}

/// An open descriptor; it is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Descriptor {
    number: u64,
    all: Descriptors,
}

impl Descriptors {
    pub(super) fn open(&self, what: What) -> Descriptor {
        self.last.set(self.last.get() + 1);
        self.open.borrow_mut().insert(self.last.get(), what);
        Descriptor { number: self.last.get(), all: self.clone() }
    }

    pub(super) fn is_open(&self, number: u64) -> bool {
        self.open.borrow().contains_key(&number)
    }

    /// The last that refers to something.
    pub(super) fn find(&self, what: What) -> Option<u64> {
        self.open.borrow().iter().rev().find(|(_, other)| **other == what).map(|(number, _)| *number)
    }

    /// What the open ones refer to, sorted.
    pub(super) fn list(&self) -> Vec<What> {
        let mut list: Vec<_> = self.open.borrow().values().copied().collect();
        list.sort_unstable();
        list
    }

    /// execve(2): `read` makes the new program's state, and what is not found in it is closed.
    pub(super) fn exec<T>(&self, read: impl FnOnce() -> T) -> T {
        let (open, last) = (self.open.borrow().clone(), self.last.get());
        let before = Self { open: Rc::new(RefCell::new(open)), last: Rc::new(Cell::new(last)) };
        INHERITANCE.set(Some((self.clone(), BTreeSet::new())));
        let state = read();
        let (_, found) = INHERITANCE.take().unwrap_or_default();
        // Whatever the old program's memory does when it goes, its descriptors are as they were.
        let kept = before.open.take().into_iter().filter(|(number, _)| found.contains(number)).collect();
        self.open.replace(kept);
        state
    }
}

impl Descriptor {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn what(&self) -> Option<What> {
        self.all.open.borrow().get(&self.number).copied()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.all.open.borrow_mut().remove(&self.number);
    }
}

impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        INHERITANCE.with_borrow_mut(|inheritance| {
            let (all, found) = inheritance.as_mut().ok_or_else(|| serde::de::Error::custom("no execve"))?;
            found.insert(number);
            Ok(Self { number, all: all.clone() })
        })
    }
}
