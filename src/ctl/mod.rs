//! The operator's tool, oxinetctl: arguments → one subcommand → exit status.
//!
//! Each subcommand is a file of this folder. It writes data to standard output and returns the first error.
//! [`main`] alone writes errors to standard error, and turns them into the exit status. No part of the daemon is
//! used here.

mod audit;
mod bans;
mod completions;
mod connection;
mod drain;
mod explain;
mod failure;
mod import;
mod metrics;
mod output;
mod reload;
mod render;
mod schema;
mod services;
mod sources;
mod status;
mod top;
mod upgrade;

#[cfg(any(test, fuzzing))]
pub(crate) use metrics::check_head;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit;
use connection::DaemonClient;
use failure::{Failure, PROGRAM_NAME, report_errors};
use output::{Output, OutputFormat};

/// Shows the state of a running oxinetd, sends commands to it, and helps to write its table.
#[derive(Debug, Parser)]
#[command(name = PROGRAM_NAME, version, disable_help_subcommand = true)]
struct CtlArguments {
    /// The control socket of the daemon
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The format of the answer
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    format: OutputFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a summary of the daemon's state
    Status,
    /// Show the state of each service
    Services,
    /// Show the sources with the most live handlers
    Sources(sources::SourcesArgs),
    /// Watch services, sources and refusals live
    Top(top::TopArgs),
    /// Tell whether a client would be accepted, and why; fail if it would be refused
    Explain(explain::ExplainArgs),
    /// Recount everything from the live handlers and compare; fail if a count is wrong
    Audit,
    /// Write metrics for Prometheus and compatible programs
    Metrics(metrics::MetricsArgs),
    /// Make the daemon read its table again, and wait for the result
    Reload,
    /// Replace the running program with the one on disk, and wait for the result
    Upgrade,
    /// Refuse new clients of a service; live handlers continue
    Drain(drain::DrainArgs),
    /// Accept clients of a drained service again
    Resume(drain::DrainArgs),
    /// Refuse all clients of a network, in every service
    Ban(bans::BanArgs),
    /// Remove the ban of a network, and the penalties of its sources
    Unban(bans::UnbanArgs),
    /// Show banned networks and penalised sources
    Bans,
    /// Write a JSON Schema of the service table, for editors
    Schema(schema::SchemaArgs),
    /// Translate an inetd.conf or xinetd.conf into YAML
    Import(import::ImportArgs),
    /// Write a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the subcommand that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match CtlArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let mut output = Output::to_stdout(arguments.format);
    let daemon = DaemonClient::new(arguments.socket);
    let result = run_command(arguments.command, &daemon, &mut output);
    // The output so far is written even after a failure.
    let written = output.flush().map_err(Failure::from);
    match result.and(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { lines, status }) => report_errors(&lines, status),
    }
}

fn run_command(command: Command, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Status => status::show_status(daemon, output),
        Command::Services => services::show_services(daemon, output),
        Command::Sources(command) => command.run(daemon, output),
        Command::Audit => audit::audit_counts(daemon, output),
        Command::Metrics(command) => command.run(daemon, output),
        Command::Reload => reload::reload_table(daemon, output),
        Command::Upgrade => upgrade::upgrade_daemon(daemon, output),
        Command::Top(command) => command.run(daemon, output),
        Command::Explain(command) => command.run(daemon, output),
        Command::Drain(command) => command.drain(daemon, output),
        Command::Resume(command) => command.resume(daemon, output),
        Command::Ban(command) => command.run(daemon, output),
        Command::Unban(command) => command.run(daemon, output),
        Command::Bans => bans::show_bans(daemon, output),
        Command::Schema(command) => command.run(output),
        Command::Import(command) => command.run(output),
        Command::Completions(command) => command.run(CtlArguments::command(), output),
    }
}
