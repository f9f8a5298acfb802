//! Everything that a table needs and that can fail, done before the table is put in force: for the start, for a reload and
//! for the program that an upgrade starts.
//!
//! A [`Prepared`] that is dropped has changed nothing, which makes a reload all or nothing.

use std::collections::HashSet;
use std::io;
use std::rc::Rc;

use nix::errno::Errno;

use super::Daemon;
use crate::config::{DropBanned, Problem, Service, Table};
use crate::dispatch::commit::{NewSockets, NewTable};
use crate::system::{OpenError, Socket};
use crate::{admission, control, exit, log};

/// A table that is ready to be put in force.
pub(super) struct Prepared {
    table: Table,
    services: Vec<Rc<Service>>,
    sockets: NewSockets<Socket>,
    admission: admission::Prepared,
    control: control::PreparedSocket,
    /// Places of the log to change to; `None` where they are open already.
    log: Option<log::PreparedLog>,
}

/// Why a table can't be put in force.
#[derive(Debug)]
pub(super) enum PrepareError {
    /// The table itself is wrong.
    Table(Vec<Problem>),
    /// There is no memory for the rates and penalties of so many sources.
    Memory(String),
    /// Sockets can't be opened.
    Sockets(Vec<OpenError>),
    /// The control socket can't be opened: what is wrong, and the reason.
    Control(String, Errno),
    /// The log can't be opened.
    Log(log::LogOpenError),
}

impl PrepareError {
    /// What is wrong, a line for each problem.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Table(problems) => problems.iter().map(ToString::to_string).collect(),
            Self::Sockets(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Memory(line) | Self::Control(line, _) => vec![line.clone()],
            Self::Log(error) => vec![error.to_string()],
        }
    }

    /// The exit status, where it ends the daemon: one of [`exit`].
    pub(super) fn status(&self) -> u8 {
        let unless_denied = |denied: bool, status| if denied { exit::PERMISSION } else { status };
        let is_denied = |errno: &Errno| matches!(errno, Errno::EACCES | Errno::EPERM);
        match self {
            Self::Table(_) => exit::CONFIG,
            Self::Memory(_) => exit::SYSTEM,
            Self::Sockets(errors) => {
                unless_denied(errors.iter().all(|error| is_denied(&error.errno)), exit::UNAVAILABLE)
            }
            Self::Control(_, errno) => unless_denied(is_denied(errno), exit::UNAVAILABLE),
            Self::Log(error) => unless_denied(error.error.kind() == io::ErrorKind::PermissionDenied, exit::SYSTEM),
        }
    }
}

/// What is done with the log and the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The log has just been opened.
    Start,
    /// The log is opened anew.
    Reload,
    /// The log has just been opened, and there is no way back: a control socket that can't be opened is no reason to end.
    TakeOver,
}

impl Daemon {
    /// Does everything for a table that can fail.
    pub(super) fn prepare(&mut self, table: Table, occasion: Occasion) -> Result<Prepared, PrepareError> {
        let enabled = table.services.iter().filter(|service| service.enabled);
        let services: Vec<_> = enabled.cloned().map(Rc::new).collect();
        let admission = self.dispatcher.admission().prepare(table.daemon.sources, services.iter().map(AsRef::as_ref));
        let admission = admission.map_err(|error| PrepareError::Memory(format!("daemon.sources: {error}")))?;
        let sockets = self.dispatcher.open_sockets(&services).map_err(PrepareError::Sockets)?;
        let control = self.prepare_control(&table, occasion)?;
        let settings = self.options.log_settings(&table);
        let log = (occasion == Occasion::Reload).then(|| log::Log::prepare(&settings));
        let log = log.transpose().map_err(PrepareError::Log)?;
        Ok(Prepared { table, services, sockets, admission, control, log })
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
    pub(super) fn commit(&mut self, prepared: Prepared) {
        let Prepared { table, services, sockets, admission, control, log } = prepared;
        if let Some(log) = log {
            self.log.commit(log);
        }
        let warning = control.warning.clone();
        warning.into_iter().chain(self.control.commit(&self.poll, control)).for_each(|warning| self.warn(warning));
        self.instances = self.affordable_instances(&table);
        let instances = self.instances;
        let warnings = self.dispatcher.commit(NewTable { services, sockets, instances, admission });
        warnings.into_iter().for_each(|warning| self.warn(warning));
        self.packet_filter.serve(table.daemon.drop_banned == DropBanned::Kernel, &mut self.dispatcher);
        self.table = table;
    }

    /// `daemon.instances`, or less where the limit on open files allows no more: each handler is one descriptor.
    fn affordable_instances(&self, table: &Table) -> u32 {
        /// For the log, the control of the daemon itself and connections under way.
        const OTHERS: u64 = 64;
        let wanted = table.daemon.instances;
        // Logs of services are open twice while they are opened again.
        let services = self.options.log_settings(table).services;
        let logs = 2 * services.iter().map(|(_, place)| place).collect::<HashSet<_>>().len();
        let listeners: usize = table.services.iter().filter(|one| one.enabled).map(|one| one.listen.len()).sum();
        let free = self.nofile.hard.saturating_sub((listeners + logs) as u64 + OTHERS).max(1);
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
