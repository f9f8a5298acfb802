//! All sinks of the log. An event goes to the sink of its service, or to the daemon's if the service has none.
//!
//! Only the log's thread puts events here. Equal places share one sink, so that their lines stay in order.

use std::collections::HashMap;
use std::time::Duration;

use super::event::Event;
use super::place::{DAEMON_LOG_KEY, LogConfig, LogOpenError, LogPlace};
use super::sink::Sink;

#[derive(Debug)]
pub(super) struct Sinks {
    daemon: Sink,
    own: Vec<Sink>,
    /// The index in `own`, by the name of the service.
    of: HashMap<String, usize>,
}

impl Sinks {
    /// Opens all places that `settings` names.
    ///
    /// # Errors
    /// A file can't be opened.
    pub(super) fn open(settings: &LogConfig) -> Result<Self, LogOpenError> {
        let mut sinks =
            Self::new(Sink::open(&settings.place).map_err(|error| LogOpenError::new(DAEMON_LOG_KEY, error))?);
        let mut open: HashMap<&LogPlace, usize> = HashMap::new();
        for (service, place) in settings.services.iter().filter(|(_, place)| *place != settings.place) {
            let index = match open.get(place) {
                Some(index) => *index,
                None => {
                    let failed = |error| LogOpenError::new(format!("services.{service}.log.to"), error);
                    sinks.own.push(Sink::open(place).map_err(failed)?);
                    sinks.own.len() - 1
                }
            };
            open.insert(place, index);
            sinks.of.insert(service.clone(), index);
        }
        Ok(sinks)
    }

    /// A set with one sink for all lines.
    pub(super) fn new(daemon: Sink) -> Self {
        Self { daemon, own: Vec::new(), of: HashMap::new() }
    }

    /// Formats an event, and writes it now or with the next [`Sinks::flush_batch`].
    pub(super) fn put_event(&mut self, time: Duration, event: &Event) {
        let own = event.traffic_of().and_then(|service| self.of.get(service));
        own.and_then(|index| self.own.get_mut(*index)).unwrap_or(&mut self.daemon).put_event(time, event);
    }

    /// Writes the rest of a batch. Returns the number of lines lost since the last call.
    pub(super) fn flush_batch(&mut self) -> u64 {
        self.daemon.flush_batch() + self.own.iter_mut().map(Sink::flush_batch).sum::<u64>()
    }
}
