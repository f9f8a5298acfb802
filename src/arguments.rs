//! The command line of the daemon, as clap reads it.
//!
//! The program itself reads its arguments by it, and [`crate::ctl`] makes completion scripts of it. It decides nothing.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser};

use crate::config::{DIALECTS, Dialect};

/// An internet super-server: accepts connections and starts a program for each.
#[derive(Debug, Parser)]
#[command(name = "oxinetd", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// Service table; may be repeated
    #[arg(short, long, value_name = "FILE", default_value = "/etc/oxinetd/oxinetd.yaml")]
    pub config: Vec<PathBuf>,
    /// Whose inetd.conf it is
    #[arg(long, value_name = "DIALECT", default_value_t, value_parser = dialect())]
    pub dialect: Dialect,
    /// Read and check everything, open nothing; every error on standard error
    #[arg(long)]
    pub check: bool,
    /// Print the table as understood, as YAML that reads back to itself
    #[arg(long)]
    pub dump: bool,
    /// Leave the terminal; return when the daemon is ready
    #[arg(long)]
    pub daemonize: bool,
    /// Write the process id to FILE
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Where to log: stderr, syslog, journal or the path of a file; overrides the table
    #[arg(long, value_name = "WHERE")]
    pub log: Option<PathBuf>,
    /// Where the control socket is: default, none or a path; overrides the table
    #[arg(long, value_name = "WHERE")]
    pub control: Option<PathBuf>,
    /// Given by the program before this one in an upgrade
    #[arg(long, hide = true, value_name = "STATE")]
    pub take_over: Option<String>,
    /// Log everything
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Reads the name of a dialect; help and completions list them.
pub fn dialect() -> impl TypedValueParser<Value = Dialect> {
    PossibleValuesParser::new(DIALECTS.map(|(name, _)| name)).try_map(|name| name.parse::<Dialect>())
}
