//! The start: makes a server from a table, and runs its turns until a signal stops it.
//!
//! `main` calls [`run`] once. Everything that can fail is done before the first turn, and a [`StartError`] says what has
//! failed; then no client has been served.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::error::{PrepareError, StartError};
use super::options::{Inherited, ServerOptions};
use super::pid_file::PidFile;
use super::prepare::Occasion;
use super::upgrade::program::RunningProgram;
use super::{FLUSH_TIMEOUT, POLL_PROCESSES, POLL_SIGNALS, READY_MAX, Server, TurnOutcome};
use crate::api::Upgrades;
use crate::config::{self, Table};
use crate::control::ControlServer;
use crate::dispatch::Dispatcher;
use crate::limits::histogram::{Histogram, TURNS};
use crate::log::{Event, Log};
use crate::sys::descriptor;
use crate::sys::poll::{Poll, ReadyList};
use crate::sys::signals::{self, Signals};
use crate::sys::spawn::{self, ProcessState};
use crate::sys::{clock, memory};
use crate::system::System;
use crate::system::packet_filter::PacketFilter;
use crate::types::Now;

/// Serves a table until a signal stops the daemon. Calls `when_ready` once every socket is open.
///
/// # Errors
/// The daemon could not start; then it has served no client.
pub fn run(
    options: ServerOptions,
    loaded: config::Loaded,
    inherited: Inherited,
    when_ready: impl FnOnce(),
) -> Result<(), StartError> {
    let mut server = Server::new(options, &loaded.table, inherited)?;
    loaded.warnings.iter().for_each(|warning| server.warn(warning.to_string()));
    server.open_first_table(loaded.table, Occasion::Start)?;
    let pid_file = server.write_pid_file()?;
    server.run_turns(pid_file, when_ready)
}

impl Server {
    /// Serves the table in force until a signal stops the daemon.
    pub(super) fn run_turns(mut self, pid_file: Option<PidFile>, when_ready: impl FnOnce()) -> Result<(), StartError> {
        self.report_ready();
        when_ready();
        memory::release_unused();
        while self.run_turn() == TurnOutcome::Continue {}
        drop(pid_file);
        let _ = self.log.flush(FLUSH_TIMEOUT);
        Ok(())
    }

    /// Writes the file of `--pid-file`, if there is one.
    pub(super) fn write_pid_file(&self) -> Result<Option<PidFile>, StartError> {
        let Some(path) = self.options.pid_file.as_deref() else { return Ok(None) };
        let written = PidFile::write(path);
        written.map(Some).map_err(|error| StartError::from_io(&path.display().to_string(), &error))
    }

    /// A server that serves nothing yet. `table` says where the log is and how many descriptors the server will need.
    pub(super) fn new(options: ServerOptions, table: &Table, inherited: Inherited) -> Result<Self, StartError> {
        let Inherited { sockets, notify, nofile } = inherited;
        let failed = |what: &'static str| move |error: io::Error| StartError::from_io(what, &error);
        spawn::check_kernel().map_err(failed("this kernel is too old, Linux 5.9 or newer is needed"))?;
        descriptor::null_stdin().map_err(failed("/dev/null"))?;
        signals::forget_inherited();
        signals::block_all();
        let handlers = u64::from(table.daemon.instances).min(nofile.hard / 2);
        descriptor::grow_table(handlers + table.services.len() as u64 + 1024);
        let signals = Signals::install(std::process::id() == 1).map_err(failed("signals"))?;
        // While there is one thread: the log has its own.
        let process = ProcessState::read_own();
        let settings = options.log_settings(table);
        let log = Log::start(&settings).map_err(|error| StartError::from_io(&error.key, &error.error))?;
        let poll = Rc::new(Poll::new().map_err(failed("epoll"))?);
        let system = System::new(log.clone(), Rc::clone(&poll), nofile, process, sockets);
        let system = system.map_err(failed("epoll"))?;
        poll.add(&signals, POLL_SIGNALS).and_then(|()| poll.add(&system, POLL_PROCESSES)).map_err(failed("epoll"))?;
        let no_memory = |_| failed("memory")(io::ErrorKind::OutOfMemory.into());
        let dispatcher = Dispatcher::new(system).map_err(no_memory)?;
        let now = clock::monotonic();
        Ok(Self {
            options,
            table: table.clone(),
            log,
            poll,
            ready: ReadyList::new(READY_MAX),
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
            program: RunningProgram::of_this_process().map_err(failed("/proc/self/exe"))?,
            next_ping: now,
            quitting: None,
        })
    }

    /// Opens the sockets of the first table and puts it in force.
    pub(super) fn open_first_table(&mut self, table: Table, occasion: Occasion) -> Result<(), PrepareError> {
        self.dispatcher.set_time(Now { monotonic: clock::monotonic(), wall: clock::wall() });
        let prepared = self.prepare_table(table, occasion)?;
        self.commit_table(prepared);
        let unclaimed = self.dispatcher.kernel_mut().close_unclaimed();
        if unclaimed > 0 {
            self.warn(format!("closed {unclaimed} sockets from the service manager that no service uses"));
        }
        Ok(())
    }

    fn report_ready(&mut self) {
        let services = self.dispatcher.services().count();
        let (version, pid, listeners) = (env!("CARGO_PKG_VERSION"), process_id(), self.dispatcher.listeners().count());
        self.log.write(Event::Start { version, pid, services, listeners });
        self.notify.send(&format!("READY=1\nSTATUS=Serving {services} services"));
    }
}

fn process_id() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
