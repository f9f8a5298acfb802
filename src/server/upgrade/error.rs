//! Why an upgrade has failed: the text of an `upgrade_failed` line, or of what the new program writes to standard error.
//!
//! Only the files of this folder make one. DIAGNOSTICS of oxinetd(8) has every text.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use nix::errno::Errno;

use crate::config::Problem;
use crate::log;
use crate::types::SpawnFailure;

/// Why an upgrade has failed.
#[derive(Debug)]
pub(in crate::server) enum UpgradeError {
    /// The state could not be written or restored.
    State(String),
    /// The file of the state has no state in it, or could not be read.
    UnreadableState(String),
    /// The state has another form than the one that this program knows.
    StateForm { found: u32, known: u32 },
    /// The table in the state has problems.
    Table(Vec<Problem>),
    /// The table in the state could not be read.
    TableFile(io::Error),
    /// The log could not be opened.
    Log(log::LogOpenError),
    /// The preflight could not begin.
    Preflight(io::Error),
    /// The new program could not be started.
    Spawn(SpawnFailure),
    /// The new program has not answered in this time.
    NoAnswer(Duration),
    /// A signal has ended the new program.
    Signaled(i32),
    /// The new program has ended with this status and this message.
    Exited(i32, String),
    /// The new program has ended, and how it ended is unknown.
    Unknown,
    /// The path of the new program cannot be passed to execve(2).
    NulInPath(PathBuf),
    /// execve(2) has failed.
    Exec(PathBuf, Errno),
}

impl UpgradeError {
    /// One line for each problem.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Table(problems) => problems.iter().map(ToString::to_string).collect(),
            other => vec![other.to_string()],
        }
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => write!(f, "the state: {error}"),
            Self::UnreadableState(error) => write!(f, "the state cannot be read: {error}"),
            Self::StateForm { found, known } => {
                write!(f, "the state has form {found}, and this program knows only form {known}")
            }
            Self::Table(problems) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::TableFile(error) => write!(f, "the table: {error}"),
            Self::Log(error) => error.fmt(f),
            Self::Preflight(error) => write!(f, "the preflight: {error}"),
            Self::Spawn(SpawnFailure { step, errno }) => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "the new program cannot be started: {}: {error}", step.word())
            }
            Self::NoAnswer(timeout) => {
                write!(f, "the new program has not said in {} s that it can take over", timeout.as_secs())
            }
            Self::Signaled(signal) => write!(f, "the new program cannot take over: signal {signal}"),
            Self::Exited(status, message) => {
                write!(f, "the new program cannot take over: status {status}: {message}")
            }
            Self::Unknown => f.write_str("the new program cannot take over"),
            Self::NulInPath(path) => write!(f, "{}: a NUL in the path", path.display()),
            Self::Exec(path, errno) => write!(f, "{}: {}", path.display(), errno.desc()),
        }
    }
}

impl Error for UpgradeError {}
