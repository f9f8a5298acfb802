//! The operator's tool, oxinetctl: arguments → one subcommand → exit status.
//!
//! Each subcommand is a file of this folder: a clap `Args` and a `run`, which writes data to standard output and gives
//! the first error. [`main`] alone prints errors, on standard error, and turns them into the exit status. Nothing here
//! is part of the daemon.

mod completions;
mod output;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::daemon::status;
use output::Output;

/// The name under which the tool is installed.
const NAME: &str = "oxinetctl";

/// Looks after a running oxinetd, and helps to write its table.
#[derive(Debug, Parser)]
#[command(name = NAME, version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Write a completion script for a shell
    Completions(completions::Completions),
}

/// Why a subcommand did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is wrong, a line each; none if all has been said.
    lines: Vec<String>,
    /// One of [`status`].
    status: u8,
}

impl Failure {
    /// One line, and the exit status.
    fn new(status: u8, line: impl Display) -> Self {
        Self { lines: vec![line.to_string()], status }
    }
}

/// Standard output can't be written. Who has read enough of it and gone is none of our business.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { lines: Vec::new(), status: status::FAILURE },
            _ => Self::new(status::FAILURE, format!("standard output: {error}")),
        }
    }
}

/// Runs the subcommand that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { status::USAGE } else { 0 });
        }
    };
    let mut output = Output::standard();
    let result = match arguments.command {
        Command::Completions(command) => command.run(&mut output, &mut Arguments::command()),
    };
    match result.and_then(|()| Ok(output.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { lines, status }) => complain(&lines, status),
    }
}

/// One line for each problem, on standard error; nothing is lost if nobody reads them.
fn complain(lines: &[String], status: u8) -> ExitCode {
    let mut stderr = io::stderr().lock();
    for line in lines {
        let _ = writeln!(stderr, "{NAME}: {line}");
    }
    ExitCode::from(status)
}
