//! Why a subcommand failed: the error messages and the exit status.
//!
//! Subcommands return a [`Failure`]; [`super::main`] reports it and ends the program.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::exit;

/// The name under which the tool is installed.
pub(super) const PROGRAM_NAME: &str = "oxinetctl";

/// Why a subcommand failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error messages; none if the output has told everything.
    pub lines: Vec<String>,
    /// The exit status, a constant of [`exit`].
    pub status: u8,
}

impl Failure {
    /// No error, but the answer is no, and the output has told so.
    pub(super) fn quiet() -> Self {
        Self { lines: Vec::new(), status: exit::FAILURE }
    }

    /// A failure with one error message.
    pub(super) fn new(status: u8, line: impl Display) -> Self {
        Self { lines: vec![line.to_string()], status }
    }
}

/// Standard output cannot be written. A reader that has closed the pipe is no error to report.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::quiet(),
            _ => Self::new(exit::FAILURE, format!("standard output: {error}")),
        }
    }
}

/// Writes each line to standard error. An error of writing there is ignored. Returns the exit status.
pub(super) fn report_errors(lines: &[String], status: u8) -> ExitCode {
    let mut stderr = io::stderr().lock();
    for line in lines {
        let _ = writeln!(stderr, "{PROGRAM_NAME}: {line}");
    }
    ExitCode::from(status)
}
