//! `services`: the state of each service.

use serde_json::Value;

use super::connection::{DaemonClient, parse_result};
use super::failure::Failure;
use super::output::{Output, OutputFormat};
use crate::api::Request;
use crate::ctl::render::table;

pub(super) fn show_services(daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    let mut result = daemon.request(&Request::Status {})?;
    if output.format == OutputFormat::Json {
        result = result.get_mut("services").map(Value::take).unwrap_or_default();
    }
    output.print_result(&result, |output| output.print_grid(&table::services_grid(&parse_result(&result)?)))
}
