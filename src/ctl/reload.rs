//! `reload`: has the daemon read its table anew, and waits for the outcome. Fails if that failed, with its errors.

use clap::Args;

use super::connection::{Daemon, read};
use super::output::Output;
use super::{Failure, Request};
use crate::api::Reloaded;
use crate::ctl::render::grid::{Grid, Side};

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Reload {}

impl Reload {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        output.show(daemon.ask(&Request::Reload {})?, |result| {
            let Reloaded { added, removed, altered, kept } = read(result)?;
            let mut grid = Grid::new(&[("", Side::Left)]);
            grid.row([format!("added {added}, removed {removed}, altered {altered}, kept {kept}").into()]);
            Ok(grid)
        })
    }
}
