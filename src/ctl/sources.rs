//! `sources [--top N] [SERVICE]`: the sources with the most live handlers.

use clap::Args;

use super::connection::{DaemonClient, parse_result};
use super::failure::Failure;
use super::output::Output;
use crate::api::{Request, SourceList};
use crate::ctl::render::table;

#[derive(Debug, Args)]
pub(super) struct SourcesArgs {
    /// The number of sources to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: u32,
    /// Show the sources of this service only
    service: Option<String>,
}

impl SourcesArgs {
    pub(super) fn run(self, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
        let result = daemon.request(&Request::Sources { top: Some(self.top), service: self.service })?;
        output.print_result(&result, |output| {
            let list: SourceList = parse_result(&result)?;
            output.print_grid(&table::sources_grid(&list.sources))
        })
    }
}
