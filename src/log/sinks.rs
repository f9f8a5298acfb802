//! All sinks of the log, and which of them an event goes to: that of its service, if it has one, or else the daemon's.
//!
//! Only the log's thread puts events here. Places that are the same are one sink, so that lines stay in their order.

use std::collections::HashMap;
use std::time::Duration;

use super::event::Event;
use super::sink::Sink;
use super::{KEY, OpenError, Place, Settings};

#[derive(Debug)]
pub(super) struct Sinks {
    daemon: Sink,
    own: Vec<Sink>,
    /// The place in `own`, by the name of the service.
    of: HashMap<String, usize>,
}

impl Sinks {
    /// Opens all places that `settings` names.
    ///
    /// # Errors
    /// A file can't be opened.
    pub(super) fn open(settings: &Settings) -> Result<Self, OpenError> {
        let mut sinks = Self::new(Sink::open(&settings.place).map_err(|error| OpenError::new(KEY, error))?);
        let mut open: HashMap<&Place, usize> = HashMap::new();
        for (service, place) in settings.services.iter().filter(|(_, place)| *place != settings.place) {
            let index = match open.get(place) {
                Some(index) => *index,
                None => {
                    let failed = |error| OpenError::new(format!("services.{service}.log.to"), error);
                    sinks.own.push(Sink::open(place).map_err(failed)?);
                    sinks.own.len() - 1
                }
            };
            open.insert(place, index);
            sinks.of.insert(service.clone(), index);
        }
        Ok(sinks)
    }

    /// All lines go to one sink.
    pub(super) fn new(daemon: Sink) -> Self {
        Self { daemon, own: Vec::new(), of: HashMap::new() }
    }

    /// Formats an event, and writes it now or with the next [`Sinks::finish`].
    pub(super) fn put(&mut self, time: Duration, event: &Event) {
        let own = event.traffic_of().and_then(|service| self.of.get(service));
        own.and_then(|index| self.own.get_mut(*index)).unwrap_or(&mut self.daemon).put(time, event);
    }

    /// Writes what is left of a batch. Gives the number of lines that were lost since the last call.
    pub(super) fn finish(&mut self) -> u64 {
        self.daemon.finish() + self.own.iter_mut().map(Sink::finish).sum::<u64>()
    }
}
