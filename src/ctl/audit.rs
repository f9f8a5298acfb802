//! `audit`: does every count agree with the live handlers? Fails if one does not.

use clap::Args;

use super::connection::{Daemon, read};
use super::output::Output;
use super::{Failure, Request};
use crate::api;
use crate::ctl::render::grid::{Grid, Side};
use crate::exit;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Audit {}

impl Audit {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let result = daemon.ask(&Request::Audit {})?;
        let audit: api::Audit = read(result.clone())?;
        output.show(result, |_| Ok(table(&audit)))?;
        match audit.drifts.len() {
            0 => Ok(()),
            count => Err(Failure::new(exit::FAILURE, format!("{count} counts are wrong; please report this bug"))),
        }
    }
}

fn table(audit: &api::Audit) -> Grid {
    if audit.drifts.is_empty() {
        let mut grid = Grid::new(&[("", Side::Left)]);
        grid.row([format!("clean: every count agrees with the {} live handlers", audit.handlers).into()]);
        return grid;
    }
    let mut grid = Grid::new(&[("COUNT OF", Side::Left), ("EXPECTED", Side::Right), ("FOUND", Side::Right)]);
    for drift in &audit.drifts {
        grid.row([(&drift.what).into(), drift.expected.into(), drift.found.into()]);
    }
    grid
}
