//! An upgrade: the program on disk takes the place of this one, in the same process, and goes on with its sockets,
//! handlers and books.
//!
//! execve(2) can't be taken back, so it is rehearsed first. The new program is started as a child with a copy of the
//! state; it reads all of it, says so and ends, while this one serves on. Only then does this program write its state
//! once more and give way. A program that is not oxinetd, that can't be started or that does not understand the state
//! changes nothing.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::unistd::execve;

use super::carried::{Carried, FORM};
use super::start::{FLUSH, Inherited, StartError, status};
use super::{Daemon, UPGRADE};
use crate::acceptor;
use crate::admission::{Buckets, Now};
use crate::log::{Event, Log};
use crate::sys::clock;
use crate::sys::descriptor;
use crate::sys::notify::Notify;
use crate::sys::pidfd::{self, Ending};
use crate::sys::spawn::{ChildStep, ExecPlan, SpawnSlot, Strings};

/// The option of the new program that says where its state is.
pub const TAKE_OVER: &str = "take-over";

/// Its value in a rehearsal.
pub const REHEARSE: &str = "rehearse";

/// How long a rehearsal may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of what a program says instead of the right answer is told.
const LONGEST_ANSWER: usize = 1000;

/// What a program says that has understood the state.
fn understood() -> String {
    format!("oxinetd: state of form {FORM} understood\n")
}

/// This program and how it was started, for the one that will follow it.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be asked before the file can have been replaced.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let ours = |argument: &OsString| argument.as_bytes().starts_with(format!("--{TAKE_OVER}").as_bytes());
        let arguments = std::env::args_os().filter(|argument| !ours(argument)).collect();
        Ok(Self { path: std::env::current_exe()?, arguments })
    }

    /// The command line with the place of the state in it.
    fn command_line(&self, state: &str) -> Vec<CString> {
        let own = OsString::from(format!("--{TAKE_OVER}={state}"));
        let (first, rest) = self.arguments.split_at(self.arguments.len().min(1));
        first.iter().chain([&own]).chain(rest).filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
    }
}

/// A rehearsal under way.
#[derive(Debug)]
pub(super) struct Rehearsal {
    slot: SpawnSlot,
    process: OwnedFd,
    state: File,
    /// How long the state is; what the new program says comes behind it.
    length: u64,
    until: Duration,
    given_up: bool,
}

impl Daemon {
    /// Begins an upgrade, unless there is one under way. How it ends is told by the log, and if it ends well by the new
    /// program.
    pub(super) fn begin_upgrade(&mut self, now: Duration) {
        if self.rehearsal.is_some() {
            return;
        }
        let begun = self.rehearse(now).and_then(|new| self.poll.add(&new.process, UPGRADE).map(|()| new));
        match begun {
            Ok(rehearsal) => self.rehearsal = Some(rehearsal),
            Err(error) => self.upgrade_failed(format!("the rehearsal: {error}")),
        }
    }

    fn upgrade_failed(&mut self, problem: String) {
        self.upgrades.failed += 1;
        self.upgrades.problem = Some(problem.clone());
        self.log.write(Event::UpgradeFailed { problem });
    }

    fn rehearse(&self, now: Duration) -> io::Result<Rehearsal> {
        let state = Carried::of(self, now).write()?;
        let length = state.metadata()?.len();
        // What it says, to whichever descriptor, comes behind the state.
        let wishes = vec![
            ChildStep::ConnectionToStderr,
            ChildStep::SetUmask(0o077),
            ChildStep::ChangeDirectory(CString::from(c"/")),
        ];
        let path = CString::new(self.program.path.as_os_str().as_bytes())?;
        let argv = Strings::of(self.program.command_line(REHEARSE).iter().map(AsRef::as_ref));
        let plan = ExecPlan::compile(wishes, &self.process, path, argv);
        let plan = plan.map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut slot = SpawnSlot::new()?;
        let environment =
            |bytes: &mut Vec<u8>| environment().iter().for_each(|one| bytes.extend(one.as_bytes_with_nul()));
        let child = slot.spawn(&Rc::new(plan), state.try_clone()?.into(), environment);
        let process = child.map_err(|(failure, _)| io::Error::from_raw_os_error(failure.errno))?.pidfd;
        Ok(Rehearsal { slot, process, state, length, until: now + PATIENCE, given_up: false })
    }

    /// Looks how the rehearsal goes, and once it has gone well gives way to the new program.
    pub(super) fn go_on_with_upgrade(&mut self, now: Duration) {
        // A signal that has come and has not been obeyed yet would be forgotten. No other can come before execve(2).
        let Some(rehearsal) = self.rehearsal.as_mut().filter(|_| !self.signals.have_come()) else { return };
        let Some(verdict) = rehearsal.verdict(now) else { return };
        self.rehearsal = None;
        let problem = match verdict {
            Ok(()) => self.give_way(now),
            Err(problem) => problem,
        };
        self.upgrade_failed(problem);
    }

    /// Becomes the new program. Comes back only if that failed, with the reason; then everything is as it was.
    fn give_way(&mut self, now: Duration) -> String {
        self.with_desk(now, |acceptor, desk| acceptor.follow_to_the_end(desk));
        // What is on the exit queue is not carried, nor is a start that follows from it.
        self.settle(now);
        self.with_desk(now, |acceptor, desk| acceptor.follow_to_the_end(desk));
        let state = match Carried::of(self, now).write() {
            Ok(state) => state,
            Err(error) => return format!("the state: {error}"),
        };
        self.log.write(Event::Upgrade { program: self.program.path.display().to_string() });
        self.notify.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=Upgrading", now.as_micros()));
        let _ = self.log.flush(FLUSH);
        self.keep_over_exec(&state, true);
        let error = exec(&self.program.path, &self.program.command_line(&state.as_raw_fd().to_string()));
        self.keep_over_exec(&state, false);
        self.notify.send("READY=1\nSTATUS=The upgrade failed, the program before it serves on");
        error
    }

    fn keep_over_exec(&self, state: &File, keep: bool) {
        let all = self.listeners.descriptors().chain(self.reaper.descriptors()).chain(self.control.descriptor());
        let all = all.chain(self.acceptor.descriptors()).chain([state.as_fd()]);
        for one in all {
            // An open descriptor takes this flag.
            let _ = descriptor::keep_over_exec(one, keep);
        }
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

impl Rehearsal {
    /// Does the new program understand the state? Nothing while it has not ended.
    fn verdict(&mut self, now: Duration) -> Option<Result<(), String>> {
        let ended = match pidfd::collect(&self.process) {
            Ok(Some(ended)) => Some(ended.ending),
            Ok(None) => {
                if now >= self.until {
                    self.give_up(now);
                }
                return None;
            }
            // As process 1 we may have collected it as a stranger: then what it has said must do.
            Err(_) => None,
        };
        if let Some((_, Some(failure))) = self.slot.finish() {
            let error = io::Error::from_raw_os_error(failure.errno);
            return Some(Err(format!("the new program cannot be started: {}: {error}", failure.step.word())));
        }
        let answer = self.answer();
        Some(match ended {
            Some(Ending::Exited(0)) | None if answer == understood() => Ok(()),
            Some(Ending::Signaled(_)) if self.given_up => {
                Err(format!("the new program has not said in {} s that it can take over", PATIENCE.as_secs()))
            }
            Some(Ending::Signaled(signal)) => Err(format!("the new program cannot take over: signal {signal}")),
            Some(Ending::Exited(status)) => {
                Err(format!("the new program cannot take over: status {status}: {}", answer.trim_end()))
            }
            None => Err("the new program cannot take over".to_owned()),
        })
    }

    fn answer(&self) -> String {
        let mut bytes = [0; LONGEST_ANSWER];
        let read = self.state.read_at(&mut bytes, self.length).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Its time is over.
    fn give_up(&mut self, now: Duration) {
        pidfd::kill(&self.process);
        (self.given_up, self.until) = (true, now + PATIENCE);
    }

    /// When it is looked at again at the latest.
    pub(super) fn deadline(&self) -> Duration {
        self.until
    }
}

/// In the new program: reads the state on descriptor 0 as if to take over, and says whether that would do.
///
/// # Errors
/// A line for each problem.
pub fn rehearse() -> Result<String, Vec<String>> {
    let state = File::open("/dev/stdin").map_err(|error| vec![format!("the state: {error}")])?;
    let carried = Carried::read(&state).map_err(|line| vec![line])?;
    let loaded = carried.load_table()?;
    // The only thing that is opened anew and can't be done without.
    Log::start(&carried.options.log_settings(&loaded.table)).map_err(|error| vec![error.to_string()])?;
    Ok(understood())
}

/// Reads a state as the next program does.
#[cfg(any(test, fuzzing))]
pub fn understands(state: &File) -> bool {
    Carried::read(state).is_ok()
}

/// In the new program: takes over from the program before it, and serves until a signal says stop. `number` is the
/// descriptor of the state.
///
/// # Errors
/// The state is not what the rehearsal has seen, or the system lacks something.
pub fn take_over(number: RawFd, notify: Notify) -> Result<(), StartError> {
    let broken = |lines| StartError { lines, status: status::SYSTEM };
    let state = descriptor::inherit(number).map_err(|error| broken(vec![format!("--{TAKE_OVER}: {error}")]))?;
    let carried = Carried::read(&File::from(state)).map_err(|line| broken(vec![line]))?;
    let loaded = carried.load_table().map_err(broken)?;
    let (options, nofile) = (carried.options.clone(), carried.nofile);
    let mut daemon = Daemon::new(options, loaded.table, Inherited { sockets: Vec::new(), notify, nofile })?;
    let buckets = daemon.continue_from(carried).map_err(|error| broken(vec![format!("the state: {error}")]))?;
    loaded.warnings.iter().for_each(|warning| daemon.warn(warning.to_string()));
    // There is no way back any more: whatever can be done without is no reason to end.
    daemon.open(Some(daemon.control.as_it_is()))?;
    daemon.acceptor.admission_mut().refill(buckets);
    let pid_file = daemon.write_pid_file().unwrap_or_else(|error| {
        error.lines.into_iter().for_each(|line| daemon.warn(format!("--pid-file: {line}")));
        None
    });
    daemon.serve(pid_file, || ())
}

impl Daemon {
    /// Goes on where the program before this one has stopped.
    fn continue_from(&mut self, carried: Carried) -> io::Result<Buckets> {
        self.ledger = crate::ledger::Ledger::from_carried(carried.ledger);
        (self.since, self.reloads, self.upgrades) = (carried.since, carried.reloads, carried.upgrades);
        (self.turns, self.longest_turn) = (carried.turns, carried.longest_turn);
        self.table_since = carried.table_since;
        carried.control.map_or(Ok(()), |control| self.control.take_over(&self.poll, control))?;
        for handler in carried.handlers {
            acceptor::take_over(&mut self.ledger, &mut self.reaper, handler)?;
        }
        carried.listeners.into_iter().try_for_each(|listener| self.listeners.take_over(listener))?;
        carried.kept.into_iter().try_for_each(|connection| self.acceptor.take_over(connection))?;
        let now = Now { monotonic: clock::monotonic(), wall: clock::wall() };
        let buckets = self.acceptor.admission_mut().take_over(carried.admission, now);
        buckets.map_err(|_| io::ErrorKind::OutOfMemory.into())
    }
}
