//! `sources [--top N] [SERVICE]`: who has the most handlers.

use clap::Args;

use super::connection::{Daemon, read};
use super::output::Output;
use super::{Failure, Request};
use crate::api;
use crate::ctl::render::table;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Sources {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: u32,
    /// Of this service alone
    service: Option<String>,
}

impl Sources {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let result = daemon.ask(&Request::Sources { top: Some(self.top), service: self.service })?;
        output.show(result, |result| Ok(table::sources(&read::<api::Sources>(result)?.sources)))
    }
}
