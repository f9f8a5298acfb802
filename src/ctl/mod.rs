//! The operator's tool, oxinetctl: arguments → one subcommand → exit status.
//!
//! Each subcommand is a file of this folder: a clap `Args` and a `run`, which writes data to standard output and gives
//! the first error. [`main`] alone prints errors, on standard error, and turns them into the exit status. Nothing here
//! is part of the daemon.

mod audit;
mod bans;
mod completions;
mod connection;
mod drain;
mod explain;
mod import;
mod metrics;
mod output;
mod reload;
pub mod render;
mod schema;
mod services;
mod sources;
mod status;
mod top;
mod upgrade;

#[cfg(any(test, fuzzing))]
pub use metrics::any_head;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::api::Request;
use crate::exit;
use connection::Daemon;
use output::{Format, Output};

/// The name under which the tool is installed.
const NAME: &str = "oxinetctl";

/// Looks after a running oxinetd, and helps to write its table.
#[derive(Debug, Parser)]
#[command(name = NAME, version, disable_help_subcommand = true)]
struct Arguments {
    /// The control socket of the daemon
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to write the answer
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show how the daemon is
    Status(status::Status),
    /// Show what each service is doing
    Services(services::Services),
    /// Show the sources with the most handlers
    Sources(sources::Sources),
    /// Watch services, sources and refusals live
    Top(top::Top),
    /// Say whether a client would be let in, and why; fail if not
    Explain(explain::Explain),
    /// Work out every count anew, and fail if one is wrong
    Audit(audit::Audit),
    /// Write metrics for Prometheus and the like
    Metrics(metrics::Metrics),
    /// Take a changed table into use, and wait for the outcome
    Reload(reload::Reload),
    /// Have the program on disk take over, and wait for the outcome
    Upgrade(upgrade::Upgrade),
    /// Turn the clients of a service away from now on
    Drain(drain::Service),
    /// Let the clients of a drained service in again
    Resume(drain::Service),
    /// Turn a network away in every service
    Ban(bans::Ban),
    /// Take a ban back, and forgive penalties
    Unban(bans::Unban),
    /// Show who is banned or penalised
    Bans(bans::Bans),
    /// Write a JSON Schema of the service table, for editors
    Schema(schema::Schema),
    /// Translate an inetd.conf or xinetd.conf into YAML
    Import(import::Import),
    /// Write a completion script for a shell
    Completions(completions::Completions),
}

/// Why a subcommand did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is wrong, a line each; none if all has been said.
    lines: Vec<String>,
    /// One of [`exit`].
    status: u8,
}

impl Failure {
    /// Nothing is wrong, but the answer is no, and has been given.
    fn quiet() -> Self {
        Self { lines: Vec::new(), status: exit::FAILURE }
    }

    /// One line, and the exit status.
    fn new(status: u8, line: impl Display) -> Self {
        Self { lines: vec![line.to_string()], status }
    }
}

/// Standard output can't be written. Who has read enough of it and gone is none of our business.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::quiet(),
            _ => Self::new(exit::FAILURE, format!("standard output: {error}")),
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
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let mut output = Output::standard(arguments.format);
    let daemon = Daemon::at(arguments.socket);
    let result = match arguments.command {
        Command::Status(command) => command.run(&daemon, &mut output),
        Command::Services(command) => command.run(&daemon, &mut output),
        Command::Sources(command) => command.run(&daemon, &mut output),
        Command::Audit(command) => command.run(&daemon, &mut output),
        Command::Metrics(command) => command.run(&daemon, &mut output),
        Command::Reload(command) => command.run(&daemon, &mut output),
        Command::Upgrade(command) => command.run(&daemon, &mut output),
        Command::Top(command) => command.run(&daemon, &output),
        Command::Explain(command) => command.run(&daemon, &mut output),
        Command::Drain(service) => service.drain(&daemon, &mut output),
        Command::Resume(service) => service.resume(&daemon, &mut output),
        Command::Ban(command) => command.run(&daemon, &mut output),
        Command::Unban(command) => command.run(&daemon, &mut output),
        Command::Bans(command) => command.run(&daemon, &mut output),
        Command::Schema(command) => command.run(&mut output),
        Command::Import(command) => command.run(&mut output),
        Command::Completions(command) => command.run(&mut output),
    };
    // What there is to see is seen even if it is a failure.
    let written = output.flush().map_err(Failure::from);
    match result.and(written) {
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
