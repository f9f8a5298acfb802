//! Typed events become lines in syslog, the journal, a file or on standard error, on a separate thread.
//!
//! Any part of the daemon may write an [`Event`] through a [`Log`] handle. Writing never waits: the event goes to a
//! bounded queue, and is dropped and counted if the queue is full. Only the log's thread formats lines and uses
//! sinks, so a log that nobody reads blocks no other part. If a file cannot be opened, the caller gets an error; a
//! syslog daemon or a journal that is missing is tried again later. A service may have its own place; the thread
//! finds it by the name of the service.

mod burst;
mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod place;
mod queue;
mod render;
mod sink;
mod sinks;
#[cfg(test)]
mod tests;

pub(crate) use burst::Burst;
pub use event::{CountOf, Event, Level};
pub(crate) use place::LogOpenError;
pub use place::{LogConfig, LogFormat, LogOverrides, LogPlace, LogTarget};

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::sys::{clock, signals};
use place::DAEMON_LOG_KEY;
use queue::{Queue, QueueItem};
use sinks::Sinks;

/// After each batch the thread waits for this long, so that events gather. At thousands of connections a second it
/// then writes hundreds of lines with one write(2), and the daemon's loop need not wake it for each.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// Places that are open, but not in use yet.
#[derive(Debug)]
pub(crate) struct PreparedLog {
    level: Level,
    sinks: Sinks,
}

/// A handle on the log.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<Queue>,
}

impl Log {
    /// Opens the sinks and starts the thread.
    ///
    /// # Errors
    /// A file can't be opened, or no thread can be started.
    pub(crate) fn start(settings: &LogConfig) -> Result<Self, LogOpenError> {
        Self::start_with(Sinks::open(settings)?, settings.level)
    }

    fn start_with(sinks: Sinks, level: Level) -> Result<Self, LogOpenError> {
        let queue = Arc::new(Queue::new(level));
        let for_writer = Arc::clone(&queue);
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || run_writer(&for_writer, sinks));
        thread.map_err(|error| LogOpenError::new(DAEMON_LOG_KEY, error))?;
        Ok(Self { queue })
    }

    /// Puts an event on the queue if its level is to be written. Never waits.
    pub(crate) fn write(&self, event: Event) {
        if event.level() <= self.queue.level() || matches!(event, Event::Status { .. }) {
            self.queue.push_event(clock::wall(), event);
        }
    }

    /// Opens the places of new settings; files that are open already are opened again. Logging does not change
    /// until [`Self::commit`].
    ///
    /// # Errors
    /// A file can't be opened.
    pub(crate) fn prepare(settings: &LogConfig) -> Result<PreparedLog, LogOpenError> {
        Ok(PreparedLog { level: settings.level, sinks: Sinks::open(settings)? })
    }

    /// Switches to the prepared places. Events that were written before go to the old places.
    pub(crate) fn commit(&self, prepared: PreparedLog) {
        self.queue.switch_sinks(prepared.level, prepared.sinks);
    }

    /// Waits until all events so far are written, at most for `limit`. Whether they were.
    #[must_use]
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        self.queue.wait_until_empty(limit)
    }

    /// How many lines were lost, because the queue was full or a sink did not take them.
    #[must_use]
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

/// The main function of the log's thread.
fn run_writer(queue: &Queue, mut sinks: Sinks) {
    signals::block_all();
    let mut batch = Default::default();
    let mut reported = 0;
    loop {
        queue.take_all(&mut batch);
        for item in batch.drain(..) {
            match item {
                QueueItem::Event(time, event) => sinks.put_event(time, &event),
                QueueItem::Switch(new) => {
                    queue.count_lost(sinks.flush_batch());
                    sinks = *new;
                }
            }
        }
        queue.count_lost(sinks.flush_batch());
        let dropped = queue.dropped();
        if dropped > reported {
            sinks.put_event(clock::wall(), &Event::Dropped { lines: dropped - reported });
            // This line does not count itself. If it is lost, the next batch tries again.
            if sinks.flush_batch() == 0 {
                reported = dropped;
            }
        }
        queue.mark_written();
        thread::sleep(GATHER_TIME);
    }
}
