//! `status`: a summary of the daemon's state.

use super::connection::{DaemonClient, parse_result};
use super::failure::Failure;
use super::output::Output;
use crate::api::Request;
use crate::ctl::render::table;

pub(super) fn show_status(daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    let result = daemon.request(&Request::Status {})?;
    output.print_result(&result, |output| output.print_grid(&table::status_grid(&parse_result(&result)?)))
}
