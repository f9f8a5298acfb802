//! Why a table cannot be put in force, and why the daemon cannot start: the lines for the administrator and the exit status.
//!
//! The files of this room and `main` use these. Nothing here writes a line or ends the process.

use std::error::Error;
use std::{fmt, io};

use nix::errno::Errno;

use crate::config::Problem;
use crate::system::OpenSocketError;
use crate::{exit, log};

/// Why a table cannot be put in force.
#[derive(Debug)]
pub(super) enum PrepareError {
    /// The table itself is wrong.
    Table(Vec<Problem>),
    /// There is no memory for the rates and penalties of so many sources.
    Memory(String),
    /// The settings of services make no plan for their handlers: one line for each service.
    Handlers(Vec<String>),
    /// Sockets cannot be opened.
    Sockets(Vec<OpenSocketError>),
    /// The control socket cannot be opened: the line for the administrator and the error number.
    Control(String, Errno),
    /// The log cannot be opened.
    Log(log::LogOpenError),
}

impl PrepareError {
    /// One line for each problem.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Table(problems) => problems.iter().map(ToString::to_string).collect(),
            Self::Sockets(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Handlers(lines) => lines.clone(),
            Self::Memory(line) | Self::Control(line, _) => vec![line.clone()],
            Self::Log(error) => vec![error.to_string()],
        }
    }

    /// The exit status if the error ends the daemon: one of [`exit`].
    pub(super) fn exit_status(&self) -> u8 {
        let unless_denied = |denied: bool, status| if denied { exit::PERMISSION } else { status };
        let is_denied = |errno: &Errno| matches!(errno, Errno::EACCES | Errno::EPERM);
        match self {
            Self::Table(_) => exit::CONFIG,
            Self::Memory(_) | Self::Handlers(_) => exit::SYSTEM,
            Self::Sockets(errors) => {
                unless_denied(errors.iter().all(|error| is_denied(&error.errno)), exit::UNAVAILABLE)
            }
            Self::Control(_, errno) => unless_denied(is_denied(errno), exit::UNAVAILABLE),
            Self::Log(error) => unless_denied(error.error.kind() == io::ErrorKind::PermissionDenied, exit::SYSTEM),
        }
    }
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl Error for PrepareError {}

/// Why the daemon cannot start.
#[derive(Debug)]
pub struct StartError {
    /// One line for each problem.
    pub lines: Vec<String>,
    /// The exit status, one of [`crate::exit`].
    pub status: u8,
}

impl StartError {
    /// A system call failed; `what` is what it was for.
    pub(super) fn from_io(what: &str, error: &io::Error) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let status = if denied { exit::PERMISSION } else { exit::SYSTEM };
        Self { lines: vec![format!("{what}: {error}")], status }
    }
}

impl From<PrepareError> for StartError {
    fn from(error: PrepareError) -> Self {
        Self { lines: error.lines(), status: error.exit_status() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl Error for StartError {}
