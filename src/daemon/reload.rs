//! Putting a table in force: the first one, and those of a reload, which come into force as a whole or not at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Daemon, Options};
use crate::acceptor::Entry;
use crate::admission::{Now, Prepared as Rates};
use crate::control::{self, protocol::Reloaded};
use crate::listeners::Prepared;
use crate::log::{Event, Level, Settings};
use crate::spawner::HandlerTemplate;
use crate::sys::{clock, memory};
use crate::table::{self, DropBanned, Table, change};

impl Options {
    /// What the table says of the log, unless the command line says otherwise of the daemon's.
    #[must_use]
    pub fn log_settings(&self, table: &Table) -> Settings {
        let mut place = table.daemon.log.place.clone();
        if let Some(target) = &self.log {
            place.to = target.clone();
        }
        let level = if self.verbose { Level::Debug } else { table.daemon.log.level };
        let served = table.services.iter().filter(|service| service.enabled);
        let services = served.map(|service| (service.name.clone(), service.log.own.over(&place))).collect();
        Settings { place, level, services }
    }

    /// What the table says of the control socket, unless the command line says otherwise.
    pub(super) fn control_settings(&self, table: &Table) -> table::Control {
        let mut settings = table.daemon.control.clone();
        if let Some(place) = &self.control {
            settings.place = place.clone();
        }
        settings
    }
}

impl Daemon {
    pub(super) fn prepare_rates(&self, table: &Table) -> Result<Rates, String> {
        let services = table.services.iter().filter(|service| service.enabled);
        let prepared = self.acceptor.admission().prepare(table.daemon.sources, services);
        prepared.map_err(|error| format!("daemon.sources: {error}"))
    }

    /// What the handlers of each enabled service have in common.
    pub(super) fn prepare_handlers(&self, table: &Table) -> Result<Vec<HandlerTemplate>, Vec<String>> {
        let (mut templates, mut problems) = (Vec::new(), Vec::new());
        for service in table.services.iter().filter(|service| service.enabled) {
            match HandlerTemplate::new(service, self.nofile, &self.process) {
                Ok(template) => templates.push(template),
                Err(error) => {
                    problems.push(format!("services.{}: handlers cannot be started: {error:?}", service.name));
                }
            }
        }
        if problems.is_empty() { Ok(templates) } else { Err(problems) }
    }

    /// Puts the table in force whose sockets, rate tables and handlers (`templates`) are prepared. Cannot fail.
    pub(super) fn commit(
        &mut self,
        prepared: Prepared,
        control: control::Prepared,
        rates: Rates,
        templates: Vec<HandlerTemplate>,
        now: Duration,
    ) {
        let warning = control.warning.clone();
        warning.into_iter().chain(self.control.commit(&self.poll, control)).for_each(|warning| self.warn(warning));
        let enabled: Vec<_> = self.table.services.iter().filter(|service| service.enabled).cloned().collect();
        let ids = self.ledger.list(enabled.iter().map(|service| service.name.as_str()));
        let committed = self.listeners.commit(&self.poll, &enabled, &ids, prepared);
        for change in committed.changes {
            let (service, endpoint) = (change.service, change.endpoint);
            self.log.write(match change.how {
                "closed" => Event::Unlisten { service, endpoint },
                how => Event::Listen { service, endpoint, how },
            });
        }
        committed.warnings.into_iter().for_each(|warning| self.warn(warning));
        self.instances = self.affordable();
        let entry = |((service, id), template): ((table::Service, _), _)| {
            let name = Arc::from(service.name.as_str());
            Entry { id, name, service, template }
        };
        let entries = enabled.into_iter().zip(ids).zip(templates).map(entry).collect();
        let now = Now { monotonic: now, wall: clock::wall() };
        self.acceptor.serve(entries, self.instances, rates, now);
        self.sieve.serve(self.table.daemon.drop_banned == DropBanned::Kernel, &mut self.listeners);
    }

    /// `daemon.instances`, or less where the limit on open files allows no more: each handler is one descriptor.
    fn affordable(&mut self) -> u32 {
        /// For the log, the control of the daemon itself and connections under way.
        const OTHERS: u64 = 64;
        let wanted = self.table.daemon.instances;
        // Logs of services are open twice while they are opened again.
        let services = self.options.log_settings(&self.table).services;
        let logs = 2 * services.iter().map(|(_, place)| place).collect::<HashSet<_>>().len();
        let others = (self.listeners.iter().count() + logs) as u64 + OTHERS;
        let free = self.nofile.hard.saturating_sub(others).max(1);
        let affordable = u32::try_from(free).unwrap_or(u32::MAX);
        if affordable < wanted {
            let limit = self.nofile.hard;
            self.warn(format!(
                "daemon.instances: {wanted} handlers need more than the {limit} open files that this process may have; \
                 the limit is {affordable}"
            ));
        }
        wanted.min(affordable)
    }

    /// Reads the table anew: all of it comes into force, or nothing has changed and the log says why.
    pub(super) fn reload(&mut self, now: Duration) -> Result<Reloaded, Vec<String>> {
        let micros = now.as_micros();
        self.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading"));
        let result = self.try_reload(now);
        let state = match &result {
            Ok(_) => {
                self.reloads.0 += 1;
                self.table_since = clock::wall();
                format!("Serving {} services", self.acceptor.entries().count())
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

    fn try_reload(&mut self, now: Duration) -> Result<Reloaded, Vec<String>> {
        fn lines<T: ToString>(problems: Vec<T>) -> Vec<String> {
            problems.iter().map(ToString::to_string).collect()
        }
        let options = table::Options { dialect: self.options.dialect, ..table::Options::default() };
        let loaded = table::load_with(&self.options.files, &options).loaded().map_err(lines)?;
        let rates = self.prepare_rates(&loaded.table).map_err(|line| vec![line])?;
        self.process.refresh();
        let templates = self.prepare_handlers(&loaded.table)?;
        let prepared = self.listeners.prepare(&loaded.table.services).map_err(lines)?;
        let control = self.control.prepare(&self.options.control_settings(&loaded.table));
        let control = control.map_err(|(line, _)| vec![line])?;
        let settings = self.options.log_settings(&loaded.table);
        self.log.configure(&settings).map_err(|error| vec![error.to_string()])?;
        loaded.warnings.iter().for_each(|warning| self.warn(warning.to_string()));
        let plan = change::plan(&self.table, &loaded.table);
        let (added, removed) = (plan.added.len(), plan.removed.len());
        let (altered, kept) = (plan.altered.len(), plan.kept.len());
        self.table = loaded.table;
        self.commit(prepared, control, rates, templates, now);
        self.log.write(Event::Reload { added, removed, altered, kept });
        Ok(Reloaded::from(&plan))
    }
}
