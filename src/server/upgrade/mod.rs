//! An upgrade: the program on disk takes the place of this one, in the same process, and continues with its sockets,
//! handlers and counts.
//!
//! SIGUSR2 and `oxinetctl upgrade` ask for it. execve(2) can't be taken back, so a preflight comes first ([`preflight`]): the
//! new program starts as a child with a copy of the state, reads all of it, says so and ends, while this one keeps serving.
//! Only then does this program write its state again and execute the new one. A new program that is not oxinetd, that can't
//! be started or that can't read the state changes nothing; the log has an `upgrade_failed` line.

mod error;
pub(super) mod preflight;
pub(super) mod program;
pub(super) mod state;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use error::UpgradeError;
use program::TAKE_OVER_OPTION;
use state::{RestoredState, read_state};

use super::error::StartError;
use super::options::Inherited;
use super::prepare::Occasion;
use super::{FLUSH_TIMEOUT, POLL_PREFLIGHT, Server};
use crate::exit;
use crate::log::Event;
use crate::sys::clock;
use crate::sys::descriptor;
use crate::sys::notify::Notify;
use crate::system::{System, descriptors_of};
use crate::types::Now;

impl Server {
    /// Begins an upgrade, unless one is under way. The log has its result; if it succeeds, the new program writes it.
    pub(super) fn begin_upgrade(&mut self) {
        if self.preflight.is_some() {
            return;
        }
        let begun = self.start_preflight().and_then(|new| self.poll.add(new.process(), POLL_PREFLIGHT).map(|()| new));
        match begun {
            Ok(preflight) => self.preflight = Some(preflight),
            Err(error) => self.note_failed_upgrade(&UpgradeError::Preflight(error)),
        }
    }

    fn note_failed_upgrade(&mut self, error: &UpgradeError) {
        let problem = error.to_string();
        self.upgrades.failed += 1;
        self.upgrades.problem = Some(problem.clone());
        self.log.write(Event::UpgradeFailed { problem });
    }

    /// Checks how the preflight goes, and executes the new program once the preflight has succeeded.
    pub(super) fn continue_upgrade(&mut self, now: Now) {
        // execve(2) would lose a signal that has arrived and has not been handled. No other can arrive before it.
        let Some(preflight) = self.preflight.as_mut().filter(|_| !self.signals.any_pending()) else { return };
        let Some(verdict) = preflight.verdict(now.monotonic) else { return };
        self.preflight = None;
        let error = match verdict {
            Ok(()) => self.exec_new_program(now),
            Err(error) => error,
        };
        self.note_failed_upgrade(&error);
    }

    /// Becomes the new program. Returns only if that has failed; then everything is as before.
    fn exec_new_program(&mut self, now: Now) -> UpgradeError {
        self.dispatcher.settle_for_upgrade();
        let state = match self.write_state() {
            Ok(state) => state,
            Err(error) => return UpgradeError::State(error.to_string()),
        };
        self.log.write(Event::Upgrade { program: self.program.path().display().to_string() });
        let micros = now.monotonic.as_micros();
        self.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Upgrading"));
        let _ = self.log.flush(FLUSH_TIMEOUT);
        self.keep_over_exec(&state, true);
        let error = self.program.exec(&state.as_raw_fd().to_string());
        self.keep_over_exec(&state, false);
        self.notify.send("READY=1\nSTATUS=The upgrade failed, the old program continues");
        error
    }

    fn keep_over_exec(&self, state: &File, keep: bool) {
        let listeners = self.dispatcher.listeners().iter().map(|(_, listener)| listener.socket.as_fd());
        let handlers = self.dispatcher.handlers().flat_map(|(_, handler)| descriptors_of(handler));
        for one in listeners.chain(handlers).chain(self.control.descriptor()).chain([state.as_fd()]) {
            // Setting this flag of an open descriptor can't fail.
            let _ = descriptor::keep_over_exec(one, keep);
        }
    }

    /// Continues where the program before this one has stopped.
    fn restore(&mut self, restored: RestoredState<System>) -> Result<(), UpgradeError> {
        (self.since, self.reloads, self.upgrades) = (restored.since, restored.reloads, restored.upgrades);
        (self.turns, self.longest_turn) = (restored.turns, restored.longest_turn);
        self.table_since = restored.table_since;
        if let Some(control) = restored.control {
            let opened = self.control.restore(&self.poll, control);
            opened.map_err(|error| UpgradeError::State(error.to_string()))?;
        }
        let now = Now { monotonic: clock::monotonic(), wall: clock::wall() };
        let result = self.dispatcher.restore(restored.dispatcher, now);
        result.map_err(|error| UpgradeError::State(error.to_string()))
    }
}

/// In the new program: takes over from the program before it, and serves until a signal stops it. `number` is the
/// descriptor of the state.
///
/// # Errors
/// The state is not the one that the preflight has read, or the system lacks something.
pub fn take_over(number: RawFd, notify: Notify) -> Result<(), StartError> {
    let broken = |lines| StartError { lines, status: exit::SYSTEM };
    let failed = |error: UpgradeError| broken(error.lines());
    let state = descriptor::inherit(number).map_err(|error| broken(vec![format!("--{TAKE_OVER_OPTION}: {error}")]))?;
    let mut restored: RestoredState<System> = read_state(&File::from(state)).map_err(failed)?;
    let loaded = restored.load_table().map_err(failed)?;
    let (options, nofile) = (std::mem::take(&mut restored.options), restored.nofile);
    let mut server = Server::new(options, &loaded.table, Inherited { sockets: Vec::new(), notify, nofile })?;
    server.restore(restored).map_err(failed)?;
    loaded.warnings.iter().for_each(|warning| server.warn(warning.to_string()));
    server.open_first_table(loaded.table, Occasion::TakeOver)?;
    let pid_file = server.write_pid_file().unwrap_or_else(|error| {
        error.lines.into_iter().for_each(|line| server.warn(format!("--pid-file: {line}")));
        None
    });
    server.run_turns(pid_file, || ())
}
