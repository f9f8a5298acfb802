//! From a table to a daemon that serves it: everything that can fail, before the first turn.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pid_file::PidFile;
use super::prepare::{Occasion, PrepareError};
use super::upgrade::Program;
use super::{Daemon, PROCESSES, READY_MAX, SIGNALS, Then};
use crate::api::Upgrades;
use crate::config::{self, ControlPlace, Dialect, Table};
use crate::control::ControlServer;
use crate::dispatch::Dispatcher;
use crate::exit;
use crate::limits::histogram::{Histogram, TURNS};
use crate::log::{Event, Log};
use crate::sys::descriptor::{self, Nofile};
use crate::sys::notify::Notify;
use crate::sys::poll::{Poll, Ready};
use crate::sys::signals::{self, Signals};
use crate::sys::{clock, exec, memory};
use crate::system::System;
use crate::system::packet_filter::PacketFilter;
use crate::types::Now;

/// What the command line says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// The files of the service table, absolute.
    pub files: Vec<PathBuf>,
    /// Whose inetd.conf it is, where the table does not say.
    pub dialect: Dialect,
    /// Overrides the table.
    pub log: Option<crate::log::LogTarget>,
    /// Overrides the table: the place of the control socket.
    pub control: Option<ControlPlace>,
    /// Log everything.
    pub verbose: bool,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
}

/// What the process was started with.
#[derive(Debug)]
pub struct Inherited {
    /// Sockets from the service manager.
    pub sockets: Vec<OwnedFd>,
    /// The way back to it.
    pub notify: Notify,
    /// Its limit on open files, from before it was raised.
    pub nofile: Nofile,
}

/// Why the daemon could not start: the lines for the administrator, and the exit status.
#[derive(Debug)]
pub struct StartError {
    /// What is wrong, a line each.
    pub lines: Vec<String>,
    /// One of [`crate::exit`].
    pub status: u8,
}

impl StartError {
    fn system(what: &str, error: &io::Error) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let status = if denied { exit::PERMISSION } else { exit::SYSTEM };
        Self { lines: vec![format!("{what}: {error}")], status }
    }
}

impl From<PrepareError> for StartError {
    fn from(error: PrepareError) -> Self {
        Self { lines: error.lines(), status: error.status() }
    }
}

/// How long the end of the daemon may wait for the log.
pub(super) const FLUSH: Duration = Duration::from_secs(1);

/// Serves a table until a signal says stop. Calls `when_ready` once every socket is open.
///
/// # Errors
/// The daemon could not start; then it has served nobody.
pub fn run(
    options: Options,
    loaded: config::Loaded,
    inherited: Inherited,
    when_ready: impl FnOnce(),
) -> Result<(), StartError> {
    let mut daemon = Daemon::new(options, &loaded.table, inherited)?;
    loaded.warnings.iter().for_each(|warning| daemon.warn(warning.to_string()));
    daemon.open(loaded.table, Occasion::Start)?;
    let pid_file = daemon.write_pid_file()?;
    daemon.serve(pid_file, when_ready)
}

impl Daemon {
    /// Serves the table in force until a signal says stop.
    pub(super) fn serve(mut self, pid_file: Option<PidFile>, when_ready: impl FnOnce()) -> Result<(), StartError> {
        self.ready();
        when_ready();
        memory::give_back();
        while self.turn() == Then::Continue {}
        drop(pid_file);
        let _ = self.log.flush(FLUSH);
        Ok(())
    }

    /// Writes the process id where the command line says.
    pub(super) fn write_pid_file(&self) -> Result<Option<PidFile>, StartError> {
        let Some(path) = self.options.pid_file.as_deref() else { return Ok(None) };
        let written = PidFile::write(path);
        written.map(Some).map_err(|error| StartError::system(&path.display().to_string(), &error))
    }

    /// Serves nothing yet; `table` says where the log is and how many descriptors there will be.
    pub(super) fn new(options: Options, table: &Table, inherited: Inherited) -> Result<Self, StartError> {
        let Inherited { sockets, notify, nofile } = inherited;
        let failed = |what: &'static str| move |error: io::Error| StartError::system(what, &error);
        exec::supported().map_err(failed("this kernel is too old, Linux 5.9 or newer is needed"))?;
        descriptor::standard().map_err(failed("/dev/null"))?;
        signals::forget_inherited();
        signals::block();
        let handlers = u64::from(table.daemon.instances).min(nofile.hard / 2);
        descriptor::make_room(handlers + table.services.len() as u64 + 1024);
        let settings = options.log_settings(table);
        let log = Log::start(&settings).map_err(|error| StartError::system(&error.key, &error.error))?;
        let signals = Signals::install(std::process::id() == 1).map_err(failed("signals"))?;
        let poll = Rc::new(Poll::new().map_err(failed("epoll"))?);
        let system = System::new(log.clone(), Rc::clone(&poll), nofile, signals.not_default(), sockets);
        let system = system.map_err(failed("epoll"))?;
        poll.add(&signals, SIGNALS).and_then(|()| poll.add(&system, PROCESSES)).map_err(failed("epoll"))?;
        let no_memory = |_| failed("memory")(io::ErrorKind::OutOfMemory.into());
        let dispatcher = Dispatcher::new(system).map_err(no_memory)?;
        let now = clock::monotonic();
        Ok(Self {
            options,
            table: table.clone(),
            log,
            poll,
            ready: Ready::new(READY_MAX),
            signals,
            notify,
            nofile,
            dispatcher,
            packet_filter: PacketFilter::default(),
            control: ControlServer::default(),
            instances: 0,
            since: now,
            turns: Histogram::new(&TURNS),
            longest_turn: Duration::ZERO,
            reloads: (0, 0),
            table_since: clock::wall(),
            upgrades: Upgrades::default(),
            preflight: None,
            program: Program::of_this_process().map_err(failed("/proc/self/exe"))?,
            next_ping: now,
            quitting: None,
        })
    }

    /// Opens the sockets of the first table and puts it in force.
    pub(super) fn open(&mut self, table: Table, occasion: Occasion) -> Result<(), PrepareError> {
        self.dispatcher.set_time(Now { monotonic: clock::monotonic(), wall: clock::wall() });
        let prepared = self.prepare(table, occasion)?;
        self.commit(prepared);
        let unclaimed = self.dispatcher.kernel_mut().close_unclaimed();
        if unclaimed > 0 {
            self.warn(format!("{unclaimed} sockets from the service manager are in no service; closed"));
        }
        Ok(())
    }

    fn ready(&mut self) {
        let services = self.dispatcher.services().count();
        let (version, pid, listeners) = (env!("CARGO_PKG_VERSION"), process_id(), self.dispatcher.listeners().count());
        self.log.write(Event::Start { version, pid, services, listeners });
        self.notify.send(&format!("READY=1\nSTATUS=Serving {services} services"));
    }
}

fn process_id() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
