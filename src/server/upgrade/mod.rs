//! An upgrade: the program on disk takes the place of this one, in the same process, and goes on with its sockets,
//! handlers and books.
//!
//! execve(2) can't be taken back, so a preflight comes first ([`preflight`]): the new program is started as a child with a
//! copy of the state; it reads all of it, says so and ends, while this one serves on. Only then does this program write its
//! state once more and exec the new one. A program that is not oxinetd, that can't be started or that does not understand the
//! state changes nothing.

mod preflight;
pub(super) mod state;

pub use preflight::preflight;
pub(super) use preflight::{Preflight, Program};

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::execve;

use super::prepare::Occasion;
use super::start::{FLUSH, Inherited, StartError};
use super::{Daemon, UPGRADE};
use crate::exit;
use crate::log::Event;
use crate::sys::clock;
use crate::sys::descriptor;
use crate::sys::notify::Notify;
use crate::system::{System, descriptors_of};
use crate::types::Now;
use state::Restored;

/// The option of the new program that says where its state is.
pub const TAKE_OVER: &str = "take-over";

/// Its value in a preflight.
pub const PREFLIGHT: &str = "rehearse";

impl Daemon {
    /// Begins an upgrade, unless there is one under way. How it ends is told by the log, and if it ends well by the new
    /// program.
    pub(super) fn begin_upgrade(&mut self) {
        if self.preflight.is_some() {
            return;
        }
        let begun = self.start_preflight().and_then(|new| self.poll.add(new.process(), UPGRADE).map(|()| new));
        match begun {
            Ok(preflight) => self.preflight = Some(preflight),
            Err(error) => self.note_failed_upgrade(format!("the rehearsal: {error}")),
        }
    }

    fn note_failed_upgrade(&mut self, problem: String) {
        self.upgrades.failed += 1;
        self.upgrades.problem = Some(problem.clone());
        self.log.write(Event::UpgradeFailed { problem });
    }

    /// Looks how the preflight goes, and once it has gone well becomes the new program.
    pub(super) fn continue_upgrade(&mut self, now: Now) {
        // A signal that has come and has not been handled yet would be forgotten. No other can come before execve(2).
        let Some(preflight) = self.preflight.as_mut().filter(|_| !self.signals.have_come()) else { return };
        let Some(verdict) = preflight.verdict(now.monotonic) else { return };
        self.preflight = None;
        let problem = match verdict {
            Ok(()) => self.exec_new_program(now),
            Err(problem) => problem,
        };
        self.note_failed_upgrade(problem);
    }

    /// Becomes the new program. Comes back only if that failed, with the reason; then everything is as it was.
    fn exec_new_program(&mut self, now: Now) -> String {
        self.dispatcher.settle_for_upgrade();
        let state = match self.write_state() {
            Ok(state) => state,
            Err(error) => return format!("the state: {error}"),
        };
        self.log.write(Event::Upgrade { program: self.program.path().display().to_string() });
        let micros = now.monotonic.as_micros();
        self.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Upgrading"));
        let _ = self.log.flush(FLUSH);
        self.keep_over_exec(&state, true);
        let error = exec(self.program.path(), &self.program.command_line(&state.as_raw_fd().to_string()));
        self.keep_over_exec(&state, false);
        self.notify.send("READY=1\nSTATUS=The upgrade failed, the program before it serves on");
        error
    }

    fn keep_over_exec(&self, state: &File, keep: bool) {
        let listeners = self.dispatcher.listeners().iter().map(|(_, listener)| listener.socket.as_fd());
        let handlers = self.dispatcher.handlers().flat_map(|(_, handler)| descriptors_of(handler));
        for one in listeners.chain(handlers).chain(self.control.descriptor()).chain([state.as_fd()]) {
            // An open descriptor takes this flag.
            let _ = descriptor::keep_over_exec(one, keep);
        }
    }

    /// Goes on where the program before this one has stopped.
    fn restore(&mut self, restored: Restored<System>) -> Result<(), String> {
        (self.since, self.reloads, self.upgrades) = (restored.since, restored.reloads, restored.upgrades);
        (self.turns, self.longest_turn) = (restored.turns, restored.longest_turn);
        self.table_since = restored.table_since;
        if let Some(control) = restored.control {
            self.control.restore(&self.poll, control).map_err(|error| error.to_string())?;
        }
        let now = Now { monotonic: clock::monotonic(), wall: clock::wall() };
        self.dispatcher.restore(restored.dispatcher, now).map_err(|error| error.to_string())
    }
}

fn environment() -> Vec<CString> {
    let pair =
        |(name, value): (OsString, OsString)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok();
    std::env::vars_os().filter_map(pair).collect()
}

fn exec(path: &Path, argv: &[CString]) -> String {
    let name = path.display();
    match CString::new(path.as_os_str().as_bytes()) {
        Err(_) => format!("{name}: a NUL in the path"),
        Ok(path) => match execve(&path, argv, &environment()) {
            Ok(never) => match never {},
            Err(errno) => format!("{name}: {}", errno.desc()),
        },
    }
}

/// In the new program: takes over from the program before it, and serves until a signal says stop. `number` is the
/// descriptor of the state.
///
/// # Errors
/// The state is not what the preflight has seen, or the system lacks something.
pub fn take_over(number: RawFd, notify: Notify) -> Result<(), StartError> {
    let broken = |lines| StartError { lines, status: exit::SYSTEM };
    let state = descriptor::inherit(number).map_err(|error| broken(vec![format!("--{TAKE_OVER}: {error}")]))?;
    let mut restored: Restored<System> = state::read(&File::from(state)).map_err(|line| broken(vec![line]))?;
    let loaded = restored.load_table().map_err(broken)?;
    let (options, nofile) = (std::mem::take(&mut restored.options), restored.nofile);
    let mut daemon = Daemon::new(options, &loaded.table, Inherited { sockets: Vec::new(), notify, nofile })?;
    daemon.restore(restored).map_err(|error| broken(vec![format!("the state: {error}")]))?;
    loaded.warnings.iter().for_each(|warning| daemon.warn(warning.to_string()));
    daemon.open(loaded.table, Occasion::TakeOver)?;
    let pid_file = daemon.write_pid_file().unwrap_or_else(|error| {
        error.lines.into_iter().for_each(|line| daemon.warn(format!("--pid-file: {line}")));
        None
    });
    daemon.serve(pid_file, || ())
}
