//! `ban NETWORK [DURATION]`, `unban NETWORK` and `bans`: networks and sources that are refused in every service.

use std::time::Duration;

use clap::Args;

use super::connection::{DaemonClient, parse_result};
use super::failure::Failure;
use super::output::Output;
use crate::api::{BanList, Request};
use crate::config::parse_duration;
use crate::ctl::render::grid::{Grid, Side};
use crate::ctl::render::table::format_age;

#[derive(Debug, Args)]
pub(super) struct BanArgs {
    /// A network or an address, such as 203.0.113.0/24
    network: String,
    /// The duration of the ban, such as 90s or 1h30m; without it the ban lasts until unban
    #[arg(value_parser = whole_seconds)]
    duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct UnbanArgs {
    /// A network or an address that is banned
    network: String,
}

impl BanArgs {
    pub(super) fn run(self, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
        let (done, already) = (format!("{} is banned", self.network), format!("{} was banned before", self.network));
        let seconds = self.duration.map(|duration| duration.as_secs());
        output.print_change(&daemon.request(&Request::Ban { network: self.network, seconds })?, &done, &already)
    }
}

impl UnbanArgs {
    pub(super) fn run(self, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
        let done = format!("{} is no longer banned", self.network);
        let already = format!("{} was not banned", self.network);
        output.print_change(&daemon.request(&Request::Unban { network: self.network })?, &done, &already)
    }
}

pub(super) fn show_bans(daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    let result = daemon.request(&Request::Bans {})?;
    output.print_result(&result, |output| output.print_grid(&bans_grid(&parse_result(&result)?)))
}

fn bans_grid(list: &BanList) -> Grid {
    let mut grid = Grid::new(&[("WHO", Side::Left), ("LEFT", Side::Right), ("WHY", Side::Left)]);
    for ban in &list.bans {
        let left = ban.left_seconds.map_or_else(|| "-".to_owned(), format_age);
        grid.row([(&ban.network).into(), left.into(), "ban".into()]);
    }
    for penalised in &list.penalties.longest {
        let left = format_age(penalised.left_seconds);
        grid.row([(&penalised.source).into(), left.into(), format!("penalty, time {}", penalised.times).into()]);
    }
    grid
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let whole = parse_duration(text).filter(|duration| duration.as_secs() > 0 && duration.subsec_nanos() == 0);
    whole.ok_or_else(|| "expected a duration in whole seconds, such as 90s or 1h30m".to_owned())
}
