//! `ban NETWORK [DURATION]`, `unban NETWORK` and `bans`: who is turned away in every service.

use std::time::Duration;

use clap::Args;

use super::connection::{Daemon, read};
use super::output::Output;
use super::{Failure, Request};
use crate::api;
use crate::config::duration;
use crate::ctl::render::grid::{Grid, Side};
use crate::ctl::render::table::age;

/// The arguments of `ban`.
#[derive(Debug, Args)]
pub(super) struct Ban {
    /// A network or an address, such as 203.0.113.0/24
    network: String,
    /// For how long, such as 90s or 1h30m; without it until unban
    #[arg(value_parser = whole_seconds)]
    duration: Option<Duration>,
}

/// The arguments of `unban`.
#[derive(Debug, Args)]
pub(super) struct Unban {
    /// A network or an address that is banned
    network: String,
}

/// The arguments of `bans`.
#[derive(Debug, Args)]
pub(super) struct Bans {}

impl Ban {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let (done, already) = (format!("{} is banned", self.network), format!("{} was banned before", self.network));
        let seconds = self.duration.map(|duration| duration.as_secs());
        output.changed(daemon.ask(&Request::Ban { network: self.network, seconds })?, &done, &already)
    }
}

impl Unban {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let (done, already) = (format!("{} is let in again", self.network), format!("{} was not banned", self.network));
        output.changed(daemon.ask(&Request::Unban { network: self.network })?, &done, &already)
    }
}

impl Bans {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        output.show(daemon.ask(&Request::Bans {})?, |result| Ok(table(&read(result)?)))
    }
}

fn table(found: &api::Bans) -> Grid {
    let mut grid = Grid::new(&[("WHO", Side::Left), ("LEFT", Side::Right), ("WHY", Side::Left)]);
    for ban in &found.bans {
        grid.row([(&ban.network).into(), ban.left_seconds.map_or_else(|| "-".to_owned(), age).into(), "ban".into()]);
    }
    for one in &found.penalties.longest {
        grid.row([(&one.source).into(), age(one.left_seconds).into(), format!("penalty, time {}", one.times).into()]);
    }
    grid
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let whole = duration(text).filter(|duration| duration.as_secs() > 0 && duration.subsec_nanos() == 0);
    whole.ok_or_else(|| "expected a duration in whole seconds, such as 90s or 1h30m".to_owned())
}
