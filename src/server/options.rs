//! What a server starts with: the options of the command line, and what the process has inherited.
//!
//! `main` makes both. The options go into the state of an upgrade, so the next program has the same. They decide where the
//! log and the control socket are if the table and the command line differ. Nothing here fails.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{self, ControlPlace, Dialect, Table};
use crate::log::{Level, LogConfig, LogTarget};
use crate::sys::descriptor::Nofile;
use crate::sys::notify::Notify;

/// The options of the command line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServerOptions {
    /// The files of the service table, as absolute paths.
    pub files: Vec<PathBuf>,
    /// The inetd whose inetd.conf is read, unless the table names another.
    pub dialect: Dialect,
    /// The place of the log, which overrides the table's.
    pub log: Option<LogTarget>,
    /// The place of the control socket, which overrides the table's.
    pub control: Option<ControlPlace>,
    /// Log events of every level.
    pub verbose: bool,
    /// The file for the process id.
    pub pid_file: Option<PathBuf>,
}

/// What the process was started with.
#[derive(Debug)]
pub struct Inherited {
    /// Sockets from the service manager.
    pub sockets: Vec<OwnedFd>,
    /// The connection to the service manager.
    pub notify: Notify,
    /// The limit on open files, from before it was raised.
    pub nofile: Nofile,
}

impl ServerOptions {
    /// The table's settings of the log. Those of the daemon's own log are overridden by the command line.
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

    /// The table's settings of the control socket, overridden by the command line.
    pub(super) fn control_settings(&self, table: &Table) -> config::Control {
        let mut settings = table.daemon.control.clone();
        if let Some(place) = &self.control {
            settings.place = place.clone();
        }
        settings
    }
}
