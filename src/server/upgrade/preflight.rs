//! The preflight of an upgrade: the new program reads a copy of the state, and says whether it can take over.
//!
//! Both sides are here. The running daemon starts the new program as a child and checks its answer; [`preflight`] is what
//! that child does. Neither changes anything in the daemon, nor waits for the other. An [`UpgradeError`] says why the new
//! program cannot take over.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::Duration;

use super::error::UpgradeError;
use super::program::{PREFLIGHT_VALUE, current_environment};
use super::state::{RestoredState, STATE_FORM, read_state};
use crate::exit;
use crate::log::Log;
use crate::server::Server;
use crate::server::error::StartError;
use crate::sys::clock;
use crate::sys::pidfd;
use crate::sys::spawn::{ChildStep, ExecPlan, SpawnSlot, StderrTo, Strings};
use crate::system::Preview;
use crate::types::Ending;

/// The longest time that a preflight may take.
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest part of a wrong answer that is reported, in bytes.
const ANSWER_LEN_MAX: usize = 1000;

/// The answer of a program that can take over.
fn ready_marker() -> String {
    format!("oxinetd: state of form {STATE_FORM} understood\n")
}

/// A preflight that has not ended yet.
#[derive(Debug)]
pub(in crate::server) struct Preflight {
    slot: SpawnSlot,
    process: OwnedFd,
    state: File,
    /// The length of the state. The new program writes its answer behind it.
    length: u64,
    /// When to end the new program.
    deadline: Duration,
    timed_out: bool,
}

impl Server {
    /// Starts the new program with a copy of the state.
    pub(super) fn start_preflight(&self) -> io::Result<Preflight> {
        let state = self.write_state()?;
        let length = state.metadata()?.len();
        // The new program writes its output, on whichever descriptor, behind the state.
        let wishes = vec![
            ChildStep::SetStderr(StderrTo::Connection),
            ChildStep::SetUmask(0o077),
            ChildStep::ChangeDirectory(CString::from(c"/")),
        ];
        let path = CString::new(self.program.path().as_os_str().as_bytes())?;
        let argv = Strings::from_list(self.program.command_line(PREFLIGHT_VALUE).iter().map(AsRef::as_ref));
        let plan = ExecPlan::compile(wishes, self.dispatcher.kernel().state(), path, argv);
        let plan = plan.map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut slot = SpawnSlot::new()?;
        let environment =
            |bytes: &mut Vec<u8>| current_environment().iter().for_each(|one| bytes.extend(one.as_bytes_with_nul()));
        let child = slot.spawn(&Rc::new(plan), state.try_clone()?.into(), environment);
        let process = child.map_err(|(failure, _)| io::Error::from_raw_os_error(failure.errno))?.pidfd;
        let deadline = clock::monotonic() + PREFLIGHT_TIMEOUT;
        Ok(Preflight { slot, process, state, length, deadline, timed_out: false })
    }
}

impl Preflight {
    /// The pidfd of the new program, readable when it has ended.
    pub(super) fn process(&self) -> &OwnedFd {
        &self.process
    }

    /// Can the new program take over? `None` while it has not ended.
    pub(super) fn verdict(&mut self, now: Duration) -> Option<Result<(), UpgradeError>> {
        let ending = match pidfd::try_reap(&self.process) {
            Ok(Some(ended)) => Some(ended.ending),
            Ok(None) => {
                if now >= self.deadline {
                    self.kill_program(now);
                }
                return None;
            }
            // As process 1 we may have reaped it as an orphan: then its answer alone counts.
            Err(_) => None,
        };
        if let Some((_, Some(failure))) = self.slot.finish() {
            return Some(Err(UpgradeError::Spawn(failure)));
        }
        Some(self.check_answer(ending))
    }

    fn check_answer(&self, ending: Option<Ending>) -> Result<(), UpgradeError> {
        let answer = self.read_answer();
        match ending {
            Some(Ending::Exited(0)) | None if answer == ready_marker() => Ok(()),
            Some(Ending::Signaled(_)) if self.timed_out => Err(UpgradeError::NoAnswer(PREFLIGHT_TIMEOUT)),
            Some(Ending::Signaled(signal)) => Err(UpgradeError::Signaled(signal)),
            Some(Ending::Exited(status)) => Err(UpgradeError::Exited(status, answer.trim_end().to_owned())),
            None => Err(UpgradeError::Unknown),
        }
    }

    fn read_answer(&self) -> String {
        let mut bytes = [0; ANSWER_LEN_MAX];
        let read = self.state.read_at(&mut bytes, self.length).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    fn kill_program(&mut self, now: Duration) {
        pidfd::kill_process(&self.process);
        (self.timed_out, self.deadline) = (true, now + PREFLIGHT_TIMEOUT);
    }

    /// The latest time of the next [`Preflight::verdict`].
    pub(in crate::server) fn deadline(&self) -> Duration {
        self.deadline
    }
}

/// In the new program: reads the state on descriptor 0 as if to take over, and returns the answer to print.
///
/// # Errors
/// This program cannot take over.
pub fn preflight() -> Result<String, StartError> {
    check_state().map_err(|error| StartError { lines: error.lines(), status: exit::CONFIG })?;
    Ok(ready_marker())
}

fn check_state() -> Result<(), UpgradeError> {
    let state = File::open("/dev/stdin").map_err(|error| UpgradeError::State(error.to_string()))?;
    let restored: RestoredState<Preview> = read_state(&state)?;
    let loaded = restored.load_table()?;
    // The log is the only thing that the new program opens itself and needs.
    Log::start(&restored.options.log_settings(&loaded.table)).map_err(UpgradeError::Log)?;
    Ok(())
}
