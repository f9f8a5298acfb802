//! Typed events become lines in syslog, the journal, a file or on standard error, on a thread of their own.
//!
//! Anyone may write an [`Event`] by a [`Log`] handle. Writing never waits: the event goes on a bounded queue, and is
//! dropped and counted when that is full. Only the log's thread formats lines and touches sinks, so a log that nobody
//! reads stops nothing but itself. Opening a file can fail, and that is told; a syslog or a journal that is not there
//! is tried again later.

mod burst;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod queue;
mod render;
mod sink;
#[cfg(test)]
mod tests;

pub use burst::Burst;
pub use event::{Ending, Event, Level, Of, Reason};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::{clock, signals};
use queue::{Item, Queue};
use sink::Sink;

/// Where and how to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where lines go.
    pub to: Target,
    /// The syslog facility, by its number in RFC 5424 §6.2.1 (`daemon` is 3).
    pub facility: u8,
    /// The shape of a line.
    pub format: Format,
    /// The least important level that is still written.
    pub level: Level,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The local syslog daemon, by /dev/log.
    Syslog,
    /// The systemd journal, by its native protocol.
    Journal,
    /// Standard error.
    Stderr,
    /// A file, appended to and opened again on SIGHUP.
    File(PathBuf),
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `verb key=value …`
    Text,
    /// One JSON object.
    Json,
}

/// How long the thread lets events gather after it has written some. At thousands of connections a second this makes
/// one write(2) of hundreds of lines, and spares the daemon's loop a wake-up for each.
const LINGER: Duration = Duration::from_millis(5);

/// A handle on the log.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<Queue>,
}

impl Log {
    /// Opens the sink and starts the thread.
    ///
    /// # Errors
    /// The file can't be opened, or no thread can be started.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        Self::start_with(Sink::open(settings)?, settings.level)
    }

    fn start_with(sink: Sink, level: Level) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(level));
        let theirs = Arc::clone(&queue);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&theirs, sink))?;
        Ok(Self { queue })
    }

    /// Writes an event, if it is important enough. Never waits.
    pub fn write(&self, event: Event) {
        if event.level() <= self.queue.level() || matches!(event, Event::Status { .. }) {
            self.queue.push(clock::wall(), event);
        }
    }

    /// Changes where and how to log, also to open a file of the same name again. What was written before goes to the
    /// old place.
    ///
    /// # Errors
    /// The file can't be opened; nothing has changed then.
    pub fn configure(&self, settings: &Settings) -> io::Result<()> {
        let sink = Sink::open(settings)?;
        self.queue.switch(settings.level, sink);
        Ok(())
    }

    /// Waits until everything is written that was written before this call; at most for `limit`. Was it?
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        self.queue.wait_empty(limit)
    }

    /// How many lines have been lost: because the queue was full, or because a sink did not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

/// The life of the log's thread.
fn write_all(queue: &Queue, mut sink: Sink) {
    signals::block();
    let mut batch = Default::default();
    let mut reported = 0;
    loop {
        queue.take(&mut batch);
        for item in batch.drain(..) {
            match item {
                Item::Event(time, event) => sink.put(time, &event),
                Item::Switch(new) => {
                    queue.lost(sink.finish());
                    sink = *new;
                }
            }
        }
        queue.lost(sink.finish());
        let dropped = queue.dropped();
        if dropped > reported {
            sink.put(clock::wall(), &Event::Dropped { lines: dropped - reported });
            // This line is none of those that it counts; if it is lost itself, the next batch tries again.
            if sink.finish() == 0 {
                reported = dropped;
            }
        }
        queue.taken_is_written();
        thread::sleep(LINGER);
    }
}
