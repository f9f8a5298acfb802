//! The bounded queue between whoever logs and the log's thread.
//!
//! The lock is held for a push or for the swap of the whole queue, never while anything is formatted or written.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::event::{Event, Level};
use super::sinks::Sinks;

/// How many events may wait to be written.
pub(super) const CAPACITY: usize = 4096;

/// How many of these places are kept for warnings and worse, which a flood of daily business must not push out.
pub(super) const RESERVED: usize = 256;

/// What the log's thread finds on the queue.
#[derive(Debug)]
pub(super) enum Item {
    /// Something to be written, and when it happened, since 1970.
    Event(Duration, Event),
    /// From now on write here.
    Switch(Box<Sinks>),
}

#[derive(Debug)]
struct State {
    items: VecDeque<Item>,
    /// The thread waits to be woken.
    sleeping: bool,
    /// The thread has taken something that is not written yet.
    writing: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    level: AtomicU8,
    dropped: AtomicU64,
    state: Mutex<State>,
    pushed: Condvar,
    written: Condvar,
}

impl Queue {
    pub(super) fn new(level: Level) -> Self {
        let state = State { items: VecDeque::with_capacity(CAPACITY), sleeping: false, writing: false };
        Self {
            level: AtomicU8::new(level as u8),
            dropped: AtomicU64::new(0),
            state: Mutex::new(state),
            pushed: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// The least important level that is written.
    pub(super) fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Relaxed))
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts lines that a sink did not take.
    pub(super) fn lost(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn push(&self, time: Duration, event: Event) {
        let room = if event.level() <= Level::Warning { CAPACITY } else { CAPACITY - RESERVED };
        let mut state = self.lock();
        if state.items.len() >= room {
            drop(state);
            self.lost(1);
            return;
        }
        state.items.push_back(Item::Event(time, event));
        self.wake(state);
    }

    /// Changes level and sinks, in order with the events. This has a place even on a full queue, but only one: while a
    /// log is stuck, reloads must not pile up open files.
    pub(super) fn switch(&self, level: Level, sinks: Sinks) {
        self.level.store(level as u8, Ordering::Relaxed);
        let mut state = self.lock();
        state.items.retain(|item| !matches!(item, Item::Switch(_)));
        state.items.push_back(Item::Switch(Box::new(sinks)));
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.sleeping);
        drop(state);
        if asleep {
            self.pushed.notify_one();
        }
    }

    /// Waits until there is something, and swaps all of it for the empty `batch`.
    pub(super) fn take(&self, batch: &mut VecDeque<Item>) {
        let mut state = self.lock();
        while state.items.is_empty() {
            state.sleeping = true;
            state = self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeping = false;
        state.writing = true;
        std::mem::swap(&mut state.items, batch);
    }

    pub(super) fn taken_is_written(&self) {
        self.lock().writing = false;
        self.written.notify_all();
    }

    pub(super) fn wait_empty(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| state.writing || !state.items.is_empty();
        let waited = self.written.wait_timeout_while(self.lock(), limit, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Nobody can leave the state half changed: a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
