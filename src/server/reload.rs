//! A reload: the table is read anew, and comes into force as a whole or not at all.

use std::time::Duration;

use super::prepare::{Occasion, PrepareError};
use super::{Daemon, Options};
use crate::api::Reloaded;
use crate::compat;
use crate::config::{self, Table, change};
use crate::log::{Event, Level, LogConfig};
use crate::sys::{clock, memory};

impl Options {
    /// What the table says of the log, unless the command line says otherwise of the daemon's.
    #[must_use]
    pub fn log_settings(&self, table: &Table) -> LogConfig {
        let mut place = table.daemon.log.place.clone();
        if let Some(target) = &self.log {
            place.to = target.clone();
        }
        let level = if self.verbose { Level::Debug } else { table.daemon.log.level };
        let served = table.services.iter().filter(|service| service.enabled);
        let services = served.map(|service| (service.name.clone(), service.log.own.resolve(&place))).collect();
        LogConfig { place, level, services }
    }

    /// What the table says of the control socket, unless the command line says otherwise.
    pub(super) fn control_settings(&self, table: &Table) -> config::Control {
        let mut settings = table.daemon.control.clone();
        if let Some(place) = &self.control {
            settings.place = place.clone();
        }
        settings
    }
}

impl Daemon {
    /// Reads the table anew: all of it comes into force, or nothing has changed and the log says why.
    pub(super) fn reload(&mut self, now: Duration) -> Result<Reloaded, Vec<String>> {
        let micros = now.as_micros();
        self.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading"));
        let result = self.try_reload().map_err(|error| error.lines());
        let state = match &result {
            Ok(_) => {
                self.reloads.0 += 1;
                self.table_since = clock::wall();
                format!("Serving {} services", self.dispatcher.services().count())
            }
            Err(problems) => {
                self.reloads.1 += 1;
                let first = problems.first().cloned().unwrap_or_default();
                for problem in problems {
                    self.log.write(Event::ReloadFailed { problem: problem.clone() });
                }
                format!("The last reload failed, the table before it is in force: {first}")
            }
        };
        self.notify.send(&format!("READY=1\nSTATUS={state}"));
        memory::give_back();
        result
    }

    fn try_reload(&mut self) -> Result<Reloaded, PrepareError> {
        let options = compat::Options { dialect: self.options.dialect, ..compat::Options::default() };
        let loaded = compat::load_with(&self.options.files, &options).loaded().map_err(PrepareError::Table)?;
        let plan = change::plan(&self.table, &loaded.table);
        let prepared = self.prepare(loaded.table, Occasion::Reload)?;
        // From here on nothing fails.
        self.commit(prepared);
        loaded.warnings.iter().for_each(|warning| self.warn(warning.to_string()));
        let (added, removed) = (plan.added.len(), plan.removed.len());
        let (altered, kept) = (plan.altered.len(), plan.kept.len());
        self.log.write(Event::Reload { added, removed, altered, kept });
        Ok(Reloaded::from(&plan))
    }
}
