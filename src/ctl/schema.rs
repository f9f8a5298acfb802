//! `schema [--protocol]`: the JSON Schema of the service table, or of the control socket's protocol.

use std::io::Write;

use clap::Args;

use super::failure::Failure;
use super::output::Output;
use crate::api::protocol_schema;
use crate::config::json_schema;

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Write the schema of the control socket's protocol instead of the service table's
    #[arg(long)]
    protocol: bool,
}

impl SchemaArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let schema = if self.protocol { protocol_schema() } else { json_schema::table_schema() };
        Ok(writeln!(output, "{schema:#}")?)
    }
}
