//! Typed events become lines in syslog, the journal, a file or on standard error, on a thread of their own.
//!
//! Anyone may write an [`Event`] by a [`Log`] handle. Writing never waits: the event goes on a bounded queue, and is
//! dropped and counted when that is full. Only the log's thread formats lines and touches sinks, so a log that nobody
//! reads stops nothing but itself. Opening a file can fail, and that is told; a syslog or a journal that is not there
//! is tried again later. A service may have a place of its own; the thread finds it by the service's name.

mod burst;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod queue;
mod render;
mod sink;
mod sinks;
#[cfg(test)]
mod tests;

pub use burst::Burst;
pub use event::{Event, Level, Of};

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::{clock, signals};
use crate::types::Reason;
use queue::{Item, Queue};
use sinks::Sinks;

/// Where and how to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where lines go.
    pub place: Place,
    /// The least important level that is still written, wherever.
    pub level: Level,
    /// The services whose lines go elsewhere, by name.
    pub services: Vec<(String, Place)>,
}

/// A place for lines, and what they look like there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Where lines go.
    pub to: Target,
    /// The syslog facility, by its number in RFC 5424 §6.2.1 (`daemon` is 3).
    pub facility: u8,
    /// The shape of a line.
    pub format: Format,
}

/// What a service says of the place of its lines; in what it leaves open it follows the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Where lines go.
    pub to: Option<Target>,
    /// The syslog facility.
    pub facility: Option<u8>,
    /// The shape of a line.
    pub format: Option<Format>,
}

impl Own {
    /// The place, where the daemon's is `common`. A facility that means nothing there makes no place of its own.
    #[must_use]
    pub fn over(&self, common: &Place) -> Place {
        let to = self.to.as_ref().unwrap_or(&common.to);
        let facility = self.facility.filter(|_| *to == Target::Syslog).unwrap_or(common.facility);
        Place { to: to.clone(), facility, format: self.format.unwrap_or(common.format) }
    }
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `verb key=value …`
    Text,
    /// One JSON object.
    Json,
}

/// A place that could not be opened, and the key of the table that names it.
#[derive(Debug)]
pub struct OpenError {
    /// As `daemon.log.to` or `services.NAME.log.to`.
    pub key: String,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.error)
    }
}

impl OpenError {
    fn new(key: impl Into<String>, error: io::Error) -> Self {
        Self { key: key.into(), error }
    }
}

/// The key of the daemon's own place.
const KEY: &str = "daemon.log.to";

/// How long the thread lets events gather after it has written some. At thousands of connections a second this makes
/// one write(2) of hundreds of lines, and spares the daemon's loop a wake-up for each.
const LINGER: Duration = Duration::from_millis(5);

/// Places that are open but not in use yet.
#[derive(Debug)]
pub struct Prepared {
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
    pub fn start(settings: &Settings) -> Result<Self, OpenError> {
        Self::start_with(Sinks::open(settings)?, settings.level)
    }

    fn start_with(sinks: Sinks, level: Level) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::new(level));
        let theirs = Arc::clone(&queue);
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&theirs, sinks));
        thread.map_err(|error| OpenError::new(KEY, error))?;
        Ok(Self { queue })
    }

    /// Writes an event, if it is important enough. Never waits.
    pub fn write(&self, event: Event) {
        if event.level() <= self.queue.level() || matches!(event, Event::Status { .. }) {
            self.queue.push(clock::wall(), event);
        }
    }

    /// Opens the places of other settings, also files of the same name again. Nothing has changed yet.
    ///
    /// # Errors
    /// A file can't be opened.
    pub fn prepare(settings: &Settings) -> Result<Prepared, OpenError> {
        Ok(Prepared { level: settings.level, sinks: Sinks::open(settings)? })
    }

    /// Logs there from now on. What was written before goes to the old places.
    pub fn commit(&self, prepared: Prepared) {
        self.queue.switch(prepared.level, prepared.sinks);
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
fn write_all(queue: &Queue, mut sinks: Sinks) {
    signals::block_all();
    let mut batch = Default::default();
    let mut reported = 0;
    loop {
        queue.take(&mut batch);
        for item in batch.drain(..) {
            match item {
                Item::Event(time, event) => sinks.put(time, &event),
                Item::Switch(new) => {
                    queue.lost(sinks.finish());
                    sinks = *new;
                }
            }
        }
        queue.lost(sinks.finish());
        let dropped = queue.dropped();
        if dropped > reported {
            sinks.put(clock::wall(), &Event::Dropped { lines: dropped - reported });
            // This line is none of those that it counts; if it is lost itself, the next batch tries again.
            if sinks.finish() == 0 {
                reported = dropped;
            }
        }
        queue.taken_is_written();
        thread::sleep(LINGER);
    }
}
