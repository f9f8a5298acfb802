//! `reload`: makes the daemon read its table again, and waits for the result. If the reload fails, this command
//! shows the errors and fails too.

use super::connection::{DaemonClient, parse_result};
use super::failure::Failure;
use super::output::Output;
use crate::api::{Reloaded, Request};
use crate::ctl::render::grid::Tone;

pub(super) fn reload_table(daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    let result = daemon.request(&Request::Reload {})?;
    output.print_result(&result, |output| {
        let Reloaded { added, removed, altered, kept } = parse_result(&result)?;
        let text = format!("added {added}, removed {removed}, altered {altered}, kept {kept}");
        output.print_line(&text, Tone::Plain)
    })
}
