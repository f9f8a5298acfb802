//! Connections that are served, alone and beside many handlers that stay.

use std::io::Result;
use std::time::Duration;

use crate::support::Place;
use crate::support::kind::Kind;
use crate::support::process::until_children;
use crate::support::served::{Served, hold};
use crate::support::server::Server;
use crate::support::turns::Turns;

/// Measures with so many held handlers for so many rounds, and prints.
pub(crate) fn run(kinds: &[Kind], place: &Place, levels: &[(usize, usize)], length: Duration) {
    let servers: Vec<Server> = kinds.iter().filter_map(|&kind| Server::start_or_say(kind, place)).collect();
    println!(
        "\nServed: connections per second and CPU time of server and handler for each; /ox: as a ratio to oxinetd's"
    );
    println!("in the same round; median (least–most)");
    println!(
        "{:>6} {:13} {:>8} {:>8} {:>18} {:>18} {:>6}",
        "held", "server", "conn/s", "CPU µs", "rate/ox", "CPU/ox", "rounds"
    );
    for &(held, rounds) in levels {
        let what = format!("served beside {held}");
        let turn = |server: &Server| sample(server, held, length);
        let turns = Turns::rounds(&what, rounds, &servers, |server| server.kind.name(), turn);
        servers.iter().for_each(|server| print(held, server.kind.name(), &turns));
    }
}

fn sample(server: &Server, held: usize, length: Duration) -> Result<Served> {
    let holding = hold(server, held)?;
    let served = Served::measure(server, length);
    drop(holding);
    // The next server shall not have these ends beside it.
    until_children(server.pid(), 0)?;
    served
}

fn print(held: usize, name: &str, turns: &Turns<Served>) {
    let base = || (turns, Kind::Oxinetd.name());
    println!(
        "{held:>6} {name:13} {:>8.0} {:>8.1} {:>18.3} {:>18.3} {:>6}",
        turns.spread(name, |served| served.rate).median,
        turns.spread(name, Served::cpu).median,
        turns.ratio(name, base(), |served| served.rate),
        turns.ratio(name, base(), Served::cpu),
        turns.of(name).count(),
    );
}
