//! `upgrade`: has the program on disk take over, and waits for the outcome. Fails if it can't, with the reason.

use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;

use super::connection::Daemon;
use super::output::Output;
use super::{Failure, Request};
use crate::api::{Snapshot, Upgrades};
use crate::ctl::render::grid::{Grid, Side};
use crate::exit;

/// How long to wait for the outcome: the daemon itself gives the new program ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to ask for it.
const PAUSE: Duration = Duration::from_millis(50);

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Upgrade {}

impl Upgrade {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let before = daemon.ask_for::<Snapshot>(&Request::Status {})?.upgrades;
        daemon.ask(&Request::Upgrade {})?;
        let now = wait(daemon, &before)?;
        if now.upgrades.done == before.done {
            let problem = now.upgrades.problem.unwrap_or_default();
            return Err(Failure::new(exit::FAILURE, format!("the daemon goes on as it was: {problem}")));
        }
        let done = serde_json::json!({ "version": now.version, "pid": now.pid });
        output.show(done, |_| {
            let mut grid = Grid::new(&[("", Side::Left)]);
            grid.row([format!("version {} has taken over", now.version).into()]);
            Ok(grid)
        })
    }
}

/// The status when the outcome is known. While one program gives way to the other the daemon may not answer.
fn wait(daemon: &Daemon, before: &Upgrades) -> Result<Snapshot, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = daemon.ask_for::<Snapshot>(&Request::Status {});
        match answer {
            Ok(now) if (now.upgrades.done, now.upgrades.failed) != (before.done, before.failed) => return Ok(now),
            Err(failure) if Instant::now() >= end => return Err(failure),
            Ok(_) if Instant::now() >= end => {
                return Err(Failure::new(exit::FAILURE, "the daemon has not said how the upgrade went"));
            }
            _ => sleep(PAUSE),
        }
    }
}
