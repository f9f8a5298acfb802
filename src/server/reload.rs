//! A reload: reads the table again, and puts all of it in force or changes nothing.
//!
//! SIGHUP and `oxinetctl reload` ask for it. It closes no listener that the new table keeps and ends no handler. If it fails,
//! the log has a line for each problem, and the old table stays in force.

use std::time::Duration;

use super::Server;
use super::error::PrepareError;
use super::prepare::Occasion;
use crate::api::Reloaded;
use crate::compat;
use crate::config::change;
use crate::log::Event;
use crate::sys::{clock, memory};

impl Server {
    /// Reads the table again and puts it in force. If that fails, nothing has changed and the log says why.
    pub(super) fn reload(&mut self, now: Duration) -> Result<Reloaded, PrepareError> {
        let micros = now.as_micros();
        self.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading"));
        let result = self.try_reload();
        let state = match &result {
            Ok(_) => {
                self.reloads.0 += 1;
                self.table_since = clock::wall();
                format!("Serving {} services", self.dispatcher.services().count())
            }
            Err(error) => {
                self.reloads.1 += 1;
                let problems = error.lines();
                let first = problems.first().cloned().unwrap_or_default();
                for problem in problems {
                    self.log.write(Event::ReloadFailed { problem });
                }
                format!("The last reload failed, the old table stays in force: {first}")
            }
        };
        self.notify.send(&format!("READY=1\nSTATUS={state}"));
        memory::release_unused();
        result
    }

    fn try_reload(&mut self) -> Result<Reloaded, PrepareError> {
        let options = compat::Options { dialect: self.options.dialect, ..compat::Options::default() };
        let loaded = compat::load_with(&self.options.files, &options).loaded().map_err(PrepareError::Table)?;
        let plan = change::compare_tables(&self.table, &loaded.table);
        let prepared = self.prepare_table(loaded.table, Occasion::Reload)?;
        // From here on nothing fails.
        self.commit_table(prepared);
        loaded.warnings.iter().for_each(|warning| self.warn(warning.to_string()));
        let (added, removed) = (plan.added.len(), plan.removed.len());
        let (altered, kept) = (plan.altered.len(), plan.kept.len());
        self.log.write(Event::Reload { added, removed, altered, kept });
        Ok(Reloaded::from(&plan))
    }
}
