//! The preflight of an upgrade: the new program reads a copy of the state, and says whether it could take over.
//!
//! Both sides are here: the running daemon starts the new program as a child and judges its answer; [`preflight`] is what
//! that child does. Nothing of the daemon changes.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::super::Daemon;
use super::state::{self, FORM, Restored};
use super::{PREFLIGHT, TAKE_OVER, environment};
use crate::log::Log;
use crate::sys::clock;
use crate::sys::exec::{Recipe, Start, Stderr, Strings};
use crate::sys::pidfd;
use crate::system::Preview;
use crate::types::Ending;

/// How long a preflight may take.
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of what a program says instead of the right answer is told, in bytes.
const ANSWER_MAX: usize = 1000;

/// What a program says that has understood the state.
fn ready_marker() -> String {
    format!("oxinetd: state of form {FORM} understood\n")
}

/// This program and how it was started, for the one that will follow it.
#[derive(Debug)]
pub(in crate::server) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be asked before the file can have been replaced.
    pub(in crate::server) fn of_this_process() -> io::Result<Self> {
        let ours = |argument: &OsString| argument.as_bytes().starts_with(format!("--{TAKE_OVER}").as_bytes());
        let arguments = std::env::args_os().filter(|argument| !ours(argument)).collect();
        Ok(Self { path: std::env::current_exe()?, arguments })
    }

    /// The program's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The command line with the place of the state in it.
    pub(super) fn command_line(&self, state: &str) -> Vec<CString> {
        let own = OsString::from(format!("--{TAKE_OVER}={state}"));
        let (first, rest) = self.arguments.split_at(self.arguments.len().min(1));
        first.iter().chain([&own]).chain(rest).filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
    }
}

/// A preflight under way.
#[derive(Debug)]
pub(in crate::server) struct Preflight {
    start: Start,
    process: OwnedFd,
    state: File,
    /// How long the state is; what the new program says comes behind it.
    length: u64,
    until: Duration,
    given_up: bool,
}

impl Daemon {
    /// Starts the new program with a copy of the state.
    pub(super) fn start_preflight(&self) -> io::Result<Preflight> {
        let state = self.write_state()?;
        let length = state.metadata()?.len();
        let environment =
            |bytes: &mut Vec<u8>| environment().iter().for_each(|one| bytes.extend(one.as_bytes_with_nul()));
        let recipe = Recipe {
            // What it says, to whichever descriptor, comes behind the state.
            stderr: Stderr::Connection,
            rlimits: Vec::new(),
            nice: None,
            umask: 0o077,
            chroot: None,
            directory: CString::from(c"/"),
            credentials: None,
            path: CString::new(self.program.path.as_os_str().as_bytes())?,
            argv: Strings::of(self.program.command_line(PREFLIGHT).iter().map(AsRef::as_ref)),
            signals: self.signals.not_default(),
        };
        let mut start = Start::new()?;
        let child = start.go(&Rc::new(recipe), state.try_clone()?.into(), environment);
        let process = child.map_err(|(failure, _)| io::Error::from_raw_os_error(failure.errno))?.pidfd;
        Ok(Preflight { start, process, state, length, until: clock::monotonic() + PREFLIGHT_TIMEOUT, given_up: false })
    }
}

impl Preflight {
    /// Readable when it has ended.
    pub(super) fn process(&self) -> &OwnedFd {
        &self.process
    }

    /// Does the new program understand the state? Nothing while it has not ended.
    pub(super) fn verdict(&mut self, now: Duration) -> Option<Result<(), String>> {
        let ended = match pidfd::try_reap(&self.process) {
            Ok(Some(ended)) => Some(ended.ending),
            Ok(None) => {
                if now >= self.until {
                    self.give_up(now);
                }
                return None;
            }
            // As process 1 we may have collected it as an orphan: then its answer alone counts.
            Err(_) => None,
        };
        if let Some((_, Some(failure))) = self.start.finish() {
            let error = io::Error::from_raw_os_error(failure.errno);
            return Some(Err(format!("the new program cannot be started: {}: {error}", failure.step.word())));
        }
        let answer = self.answer();
        Some(match ended {
            Some(Ending::Exited(0)) | None if answer == ready_marker() => Ok(()),
            Some(Ending::Signaled(_)) if self.given_up => {
                Err(format!("the new program has not said in {} s that it can take over", PREFLIGHT_TIMEOUT.as_secs()))
            }
            Some(Ending::Signaled(signal)) => Err(format!("the new program cannot take over: signal {signal}")),
            Some(Ending::Exited(status)) => {
                Err(format!("the new program cannot take over: status {status}: {}", answer.trim_end()))
            }
            None => Err("the new program cannot take over".to_owned()),
        })
    }

    fn answer(&self) -> String {
        let mut bytes = [0; ANSWER_MAX];
        let read = self.state.read_at(&mut bytes, self.length).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Its time is over.
    fn give_up(&mut self, now: Duration) {
        pidfd::kill_process(&self.process);
        (self.given_up, self.until) = (true, now + PREFLIGHT_TIMEOUT);
    }

    /// When it is looked at again at the latest.
    pub(in crate::server) fn deadline(&self) -> Duration {
        self.until
    }
}

/// In the new program: reads the state on descriptor 0 as if to take over, and says whether that would do.
///
/// # Errors
/// A line for each problem.
pub fn preflight() -> Result<String, Vec<String>> {
    let state = File::open("/dev/stdin").map_err(|error| vec![format!("the state: {error}")])?;
    let restored: Restored<Preview> = state::read(&state).map_err(|line| vec![line])?;
    let loaded = restored.load_table()?;
    // The only thing that is opened anew and can't be done without.
    Log::start(&restored.options.log_settings(&loaded.table)).map_err(|error| vec![error.to_string()])?;
    Ok(ready_marker())
}
