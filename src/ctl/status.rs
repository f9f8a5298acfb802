//! `status`: how the daemon is.

use clap::Args;

use super::connection::{Daemon, read};
use super::output::Output;
use super::{Failure, Request};
use crate::ctl::render::table;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        output.show(daemon.ask(&Request::Status {})?, |result| Ok(table::status(&read(result)?)))
    }
}
