//! `schema [--protocol]`: what a table, or what is said over the control socket, may be, as JSON Schema.

use std::io::Write;

use clap::Args;

use super::Failure;
use super::output::Output;
use crate::api;
use crate::config::json_schema;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of the control socket's protocol, in place of the service table
    #[arg(long)]
    protocol: bool,
}

impl Schema {
    pub(super) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let schema = if self.protocol { api::schema() } else { json_schema::schema() };
        Ok(writeln!(output, "{schema:#}")?)
    }
}
