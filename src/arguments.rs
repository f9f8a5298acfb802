//! The command line of the daemon, as clap reads it.
//!
//! The daemon reads its arguments with it, and [`crate::ctl`] makes completion scripts from it. It only declares
//! options; clap reports errors.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser};

use crate::config::{DIALECTS, Dialect};

/// An internet super-server: accepts connections and starts a program for each.
#[derive(Debug, Parser)]
#[command(name = "oxinetd", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// The service table; may be repeated
    #[arg(short, long, value_name = "FILE", default_value = "/etc/oxinetd/oxinetd.yaml")]
    pub config: Vec<PathBuf>,
    /// The inetd whose inetd.conf format to read
    #[arg(long, value_name = "DIALECT", default_value_t, value_parser = dialect_parser())]
    pub dialect: Dialect,
    /// Check the service table and exit; errors and warnings go to standard error
    #[arg(long)]
    pub check: bool,
    /// Print the table as YAML, with includes read and defaults filled in, and exit
    #[arg(long)]
    pub dump: bool,
    /// Run in the background; return when the daemon is ready
    #[arg(long)]
    pub daemonize: bool,
    /// Write the process id to FILE
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The log: stderr, syslog, journal or the path of a file; overrides the table
    #[arg(long, value_name = "WHERE")]
    pub log: Option<PathBuf>,
    /// The control socket: default, none or a path; overrides the table
    #[arg(long, value_name = "WHERE")]
    pub control: Option<PathBuf>,
    /// In an upgrade, the old program gives the saved state with this option
    #[arg(long, hide = true, value_name = "STATE")]
    pub take_over: Option<String>,
    /// Log lines of every level
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// A parser for the name of a dialect; help and completions list the names.
pub(crate) fn dialect_parser() -> impl TypedValueParser<Value = Dialect> {
    PossibleValuesParser::new(DIALECTS.map(|(name, _)| name)).try_map(|name| name.parse::<Dialect>())
}
