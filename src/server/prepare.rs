//! Does everything that a new table needs and that can fail, and then puts the table in force without a failure.
//!
//! The start, a reload and the new program of an upgrade call this. A [`PreparedTable`] that is dropped has changed nothing,
//! so a reload is all or nothing. A [`PrepareError`] says what is wrong with the table or the system.

use std::collections::HashSet;
use std::rc::Rc;

use super::Server;
use super::error::PrepareError;
use crate::config::{DropBanned, Service, Table};
use crate::dispatch::commit::{NewSockets, NewTable};
use crate::system::{HandlerTemplate, ListenerSocket};
use crate::{admission, control, log};

/// A table that is ready to be put in force.
pub(super) struct PreparedTable {
    table: Table,
    services: Vec<(Rc<Service>, HandlerTemplate)>,
    sockets: NewSockets<ListenerSocket>,
    admission: admission::Prepared,
    control: control::PreparedSocket,
    /// The new places of the log; `None` if they are open already.
    log: Option<log::PreparedLog>,
}

/// The occasion on which a table is put in force. The log and the control socket are treated differently on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The log has just been opened.
    Start,
    /// The log is opened anew.
    Reload,
    /// The log has just been opened, and there is no way back: a control socket that can't be opened is only a warning.
    TakeOver,
}

impl Server {
    /// Does everything for a table that can fail.
    pub(super) fn prepare_table(&mut self, table: Table, occasion: Occasion) -> Result<PreparedTable, PrepareError> {
        let enabled = table.services.iter().filter(|service| service.enabled);
        let services: Vec<_> = enabled.cloned().collect();
        let admission = self.dispatcher.admission().prepare(table.daemon.sources, &services);
        let admission = admission.map_err(|error| PrepareError::Memory(format!("daemon.sources: {error}")))?;
        let templates = self.prepare_handlers(&services)?;
        let sockets = self.dispatcher.open_sockets(&services).map_err(PrepareError::Sockets)?;
        let control = self.prepare_control(&table, occasion)?;
        let settings = self.options.log_settings(&table);
        let log = (occasion == Occasion::Reload).then(|| log::Log::prepare(&settings));
        let log = log.transpose().map_err(PrepareError::Log)?;
        let services = services.into_iter().zip(templates).collect();
        Ok(PreparedTable { table, services, sockets, admission, control, log })
    }

    /// What the handlers of each service have in common.
    fn prepare_handlers(&mut self, services: &[Rc<Service>]) -> Result<Vec<HandlerTemplate>, PrepareError> {
        let system = self.dispatcher.kernel_mut();
        system.refresh_state();
        let (mut templates, mut problems) = (Vec::new(), Vec::new());
        for service in services {
            match system.template(service) {
                Ok(template) => templates.push(template),
                Err(error) => {
                    problems.push(format!("services.{}: handlers cannot be started: {error:?}", service.name));
                }
            }
        }
        if problems.is_empty() { Ok(templates) } else { Err(PrepareError::Handlers(problems)) }
    }

    fn prepare_control(&self, table: &Table, occasion: Occasion) -> Result<control::PreparedSocket, PrepareError> {
        match self.control.prepare(&self.options.control_settings(table)) {
            Ok(control) => Ok(control),
            Err((line, _)) if occasion == Occasion::TakeOver => {
                let mut unchanged = self.control.unchanged();
                unchanged.warning = Some(line);
                Ok(unchanged)
            }
            Err((line, errno)) => Err(PrepareError::Control(line, errno)),
        }
    }

    /// Puts a table in force. Cannot fail.
    pub(super) fn commit_table(&mut self, prepared: PreparedTable) {
        let PreparedTable { table, services, sockets, admission, control, log } = prepared;
        if let Some(log) = log {
            self.log.commit(log);
        }
        let warning = control.warning.clone();
        warning.into_iter().chain(self.control.commit(&self.poll, control)).for_each(|warning| self.warn(warning));
        self.instances = self.affordable_instances(&table);
        let instances = self.instances;
        let warnings = self.dispatcher.commit(NewTable { services, sockets, instances, admission });
        warnings.into_iter().for_each(|warning| self.warn(warning));
        self.packet_filter.configure(table.daemon.drop_banned == DropBanned::Kernel, &mut self.dispatcher);
        self.table = table;
    }

    /// `daemon.instances`, or the smaller number that the limit on open files allows: each handler takes a descriptor.
    fn affordable_instances(&self, table: &Table) -> u32 {
        /// The descriptors that are left for the log, the control socket, the daemon itself and new connections.
        const OTHER_DESCRIPTORS: u64 = 64;
        let wanted = table.daemon.instances;
        // A reload opens the logs of services a second time before it closes the old ones.
        let services = self.options.log_settings(table).services;
        let logs = 2 * services.iter().map(|(_, place)| place).collect::<HashSet<_>>().len();
        let listeners: usize = table.services.iter().filter(|one| one.enabled).map(|one| one.listen.len()).sum();
        let free = self.nofile.hard.saturating_sub((listeners + logs) as u64 + OTHER_DESCRIPTORS).max(1);
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
}
