//! From a table to a daemon that serves it: everything that can fail, before the first turn.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::upgrade::Program;
use super::{Daemon, READY, REAPER, SIGNALS, Then};
use crate::acceptor::Acceptor;
use crate::control::{self, Control};
use crate::histogram::{Histogram, TURNS};
use crate::ledger::Ledger;
use crate::listeners::{Listeners, OpenError};
use crate::log::{Event, Log};
use crate::pid_file::PidFile;
use crate::reaper::{Pidfds, Reaper};
use crate::report::Upgrades;
use crate::sieve::Sieve;
use crate::sys::descriptor::{self, Nofile};
use crate::sys::notify::Notify;
use crate::sys::poll::{Poll, Ready};
use crate::sys::signals::{self, Signals};
use crate::sys::spawn::{self, ProcessState};
use crate::sys::{clock, memory};
use crate::table::{self, ControlPlace, Dialect, Table};

/// Exit statuses of sysexits(3), as oxinetd(8) explains them.
pub mod status {
    /// A failure at run time.
    pub const FAILURE: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// A socket can't be opened.
    pub const UNAVAILABLE: u8 = 69;
    /// The system lacks something: memory, descriptors, a new enough kernel.
    pub const SYSTEM: u8 = 71;
    /// Not permitted.
    pub const PERMISSION: u8 = 77;
    /// The service table is wrong.
    pub const CONFIG: u8 = 78;
}

/// What the command line says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// The files of the service table, absolute.
    pub files: Vec<PathBuf>,
    /// Whose inetd.conf it is, where the table does not say.
    pub dialect: Dialect,
    /// Overrides the table.
    pub log: Option<crate::log::Target>,
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
    /// One of [`status`].
    pub status: u8,
}

impl StartError {
    fn system(what: &str, error: &io::Error) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let status = if denied { status::PERMISSION } else { status::SYSTEM };
        Self { lines: vec![format!("{what}: {error}")], status }
    }

    fn open(errors: &[OpenError]) -> Self {
        Self::unavailable(errors.iter().map(ToString::to_string).collect(), errors.iter().map(|error| error.errno))
    }

    fn unavailable(lines: Vec<String>, errors: impl IntoIterator<Item = Errno>) -> Self {
        let denied = errors.into_iter().all(|errno| matches!(errno, Errno::EACCES | Errno::EPERM));
        Self { lines, status: if denied { status::PERMISSION } else { status::UNAVAILABLE } }
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
    loaded: table::Loaded,
    inherited: Inherited,
    when_ready: impl FnOnce(),
) -> Result<(), StartError> {
    let mut daemon = Daemon::new(options, loaded.table, inherited)?;
    loaded.warnings.iter().for_each(|warning| daemon.warn(warning.to_string()));
    daemon.open(None)?;
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

    pub(super) fn new(options: Options, table: Table, inherited: Inherited) -> Result<Self, StartError> {
        let Inherited { sockets, notify, nofile } = inherited;
        let failed = |what: &'static str| move |error: io::Error| StartError::system(what, &error);
        spawn::supported().map_err(failed("this kernel is too old, Linux 5.9 or newer is needed"))?;
        descriptor::standard().map_err(failed("/dev/null"))?;
        signals::forget_inherited();
        signals::block();
        let handlers = u64::from(table.daemon.instances).min(nofile.hard / 2);
        descriptor::make_room(handlers + table.services.len() as u64 + 1024);
        let signals = Signals::install(std::process::id() == 1).map_err(failed("signals"))?;
        // While there is one thread: the log has its own.
        let process = ProcessState::read();
        let settings = options.log_settings(&table);
        let log = Log::start(&settings).map_err(|error| StartError::system(&error.key, &error.error))?;
        let poll = Poll::new().map_err(failed("epoll"))?;
        let reaper = Reaper::new(Pidfds::new().map_err(failed("epoll"))?);
        poll.add(&signals, SIGNALS).and_then(|()| poll.add(&reaper, REAPER)).map_err(failed("epoll"))?;
        let acceptor = Acceptor::new().map_err(failed("memory"))?;
        let now = clock::monotonic();
        Ok(Self {
            options,
            table,
            log,
            poll,
            ready: Ready::new(READY),
            signals,
            notify,
            nofile,
            process,
            ledger: Ledger::default(),
            listeners: Listeners::new(sockets),
            reaper,
            acceptor,
            sieve: Sieve::default(),
            control: Control::default(),
            instances: 0,
            since: now,
            turns: Histogram::new(&TURNS),
            longest_turn: Duration::ZERO,
            reloads: (0, 0),
            table_since: clock::wall(),
            upgrades: Upgrades::default(),
            rehearsal: None,
            program: Program::of_this_process().map_err(failed("/proc/self/exe"))?,
            next_ping: now,
            strangers: false,
            quitting: None,
        })
    }

    /// Opens the sockets of the first table. `without_control` takes the place of a control socket that can't be opened,
    /// if that is to be no reason to end.
    pub(super) fn open(&mut self, without_control: Option<control::Prepared>) -> Result<(), StartError> {
        let rates =
            self.prepare_rates(&self.table).map_err(|line| StartError { lines: vec![line], status: status::SYSTEM })?;
        let templates = self.prepare_handlers(&self.table);
        let templates = templates.map_err(|lines| StartError { lines, status: status::SYSTEM })?;
        let prepared = self.listeners.prepare(&self.table.services).map_err(|errors| StartError::open(&errors))?;
        let control = self.control.prepare(&self.options.control_settings(&self.table));
        let control = match (control, without_control) {
            (Ok(control), _) => control,
            (Err((line, _)), Some(mut without)) => {
                without.warning = Some(line);
                without
            }
            (Err((line, errno)), None) => return Err(StartError::unavailable(vec![line], [errno])),
        };
        self.commit(prepared, control, rates, templates, clock::monotonic());
        let unclaimed = self.listeners.unclaimed();
        if unclaimed > 0 {
            self.warn(format!("{unclaimed} sockets from the service manager are in no service; closed"));
        }
        Ok(())
    }

    fn ready(&mut self) {
        let services = self.acceptor.entries().count();
        let (version, pid, listeners) = (env!("CARGO_PKG_VERSION"), process_id(), self.listeners.iter().count());
        self.log.write(Event::Start { version, pid, services, listeners });
        self.notify.send(&format!("READY=1\nSTATUS=Serving {services} services"));
    }
}

fn process_id() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
