//! `services`: what each service is doing.

use clap::Args;
use serde_json::Value;

use super::connection::{Daemon, read};
use super::output::{Format, Output};
use super::{Failure, Request};
use crate::ctl::render::table;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Services {}

impl Services {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let mut snapshot = daemon.ask(&Request::Status {})?;
        if output.format == Format::Json {
            snapshot = snapshot.get_mut("services").map(Value::take).unwrap_or_default();
        }
        output.show(snapshot, |result| Ok(table::services(&read(result)?)))
    }
}
