//! The bounded queue between the daemon and the log's thread.
//!
//! Only [`super::Log`] and its thread use it. The lock is held for a push or for the swap of the whole queue, never
//! while a line is formatted or written. An event that does not fit is dropped and counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::event::{Event, Level};
use super::sinks::Sinks;

/// At most this many events wait to be written.
pub(super) const EVENTS_MAX: usize = 4096;

/// This many of these places are reserved for warnings and worse, so that a flood of daily business cannot displace
/// them.
pub(super) const EVENTS_RESERVED: usize = 256;

/// An entry of the queue.
#[derive(Debug)]
pub(super) enum QueueItem {
    /// An event to write, and its time since 1970.
    Event(Duration, Event),
    /// From here on, write to these sinks.
    Switch(Box<Sinks>),
}

#[derive(Debug)]
struct QueueState {
    items: VecDeque<QueueItem>,
    /// The thread sleeps until it is woken.
    sleeping: bool,
    /// The thread has taken entries that are not written yet.
    writing: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    level: AtomicU8,
    dropped: AtomicU64,
    state: Mutex<QueueState>,
    pushed: Condvar,
    written: Condvar,
}

impl Queue {
    pub(super) fn new(level: Level) -> Self {
        let state = QueueState { items: VecDeque::with_capacity(EVENTS_MAX), sleeping: false, writing: false };
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
    pub(super) fn count_lost(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn push_event(&self, time: Duration, event: Event) {
        let room = if event.level() <= Level::Warning { EVENTS_MAX } else { EVENTS_MAX - EVENTS_RESERVED };
        let mut state = self.lock();
        if state.items.len() >= room {
            drop(state);
            self.count_lost(1);
            return;
        }
        state.items.push_back(QueueItem::Event(time, event));
        self.wake_writer(state);
    }

    /// Changes level and sinks, in order with the events. The queue has room for one switch even when it is full,
    /// but not for more: reloads must not pile up open files while the log is stuck.
    pub(super) fn switch_sinks(&self, level: Level, sinks: Sinks) {
        self.level.store(level as u8, Ordering::Relaxed);
        let mut state = self.lock();
        state.items.retain(|item| !matches!(item, QueueItem::Switch(_)));
        state.items.push_back(QueueItem::Switch(Box::new(sinks)));
        self.wake_writer(state);
    }

    fn wake_writer(&self, mut state: MutexGuard<'_, QueueState>) {
        let asleep = std::mem::take(&mut state.sleeping);
        drop(state);
        if asleep {
            self.pushed.notify_one();
        }
    }

    /// Waits until the queue is not empty, and swaps its content for the empty `batch`.
    pub(super) fn take_all(&self, batch: &mut VecDeque<QueueItem>) {
        let mut state = self.lock();
        while state.items.is_empty() {
            state.sleeping = true;
            state = self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeping = false;
        state.writing = true;
        std::mem::swap(&mut state.items, batch);
    }

    pub(super) fn mark_written(&self) {
        self.lock().writing = false;
        self.written.notify_all();
    }

    pub(super) fn wait_until_empty(&self, limit: Duration) -> bool {
        let busy = |state: &mut QueueState| state.writing || !state.items.is_empty();
        let waited = self.written.wait_timeout_while(self.lock(), limit, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// A poisoned lock is as good as any: no code path leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
