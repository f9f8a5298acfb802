//! `audit`: compares every count with the live handlers. Fails if one is wrong.

use super::connection::{DaemonClient, parse_result};
use super::failure::Failure;
use super::output::Output;
use crate::api::{Audit, Request};
use crate::ctl::render::grid::{Grid, Side, Tone};
use crate::exit;

pub(super) fn audit_counts(daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    let result = daemon.request(&Request::Audit {})?;
    let audit: Audit = parse_result(&result)?;
    output.print_result(&result, |output| print_audit(output, &audit))?;
    match audit.drifts.len() {
        0 => Ok(()),
        count => Err(Failure::new(exit::FAILURE, format!("{count} counts are wrong; please report this bug"))),
    }
}

fn print_audit(output: &mut Output, audit: &Audit) -> Result<(), Failure> {
    if audit.drifts.is_empty() {
        let text = format!("clean: every count agrees with the {} live handlers", audit.handlers);
        return output.print_line(&text, Tone::Plain);
    }
    let mut grid = Grid::new(&[("COUNT OF", Side::Left), ("EXPECTED", Side::Right), ("FOUND", Side::Right)]);
    for drift in &audit.drifts {
        grid.row([(&drift.what).into(), drift.expected.into(), drift.found.into()]);
    }
    output.print_grid(&grid)
}
