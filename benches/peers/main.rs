//! oxinetd beside other super-servers: xinetd, openbsd-inetd, inetutils-inetd, busybox inetd, tcpserver and tcpsvd, with
//! the same handler, each in turn, round after round.
//!
//! ```sh
//! benches/peers/install             # Debian: fetches the others into target/peers; installs and starts nothing
//! cargo bench --bench peers         # all of it, in less than nine minutes; as root, as super-servers are run
//! cargo bench --bench peers -- --quick        # less than a minute; the figures mean little
//! cargo bench --bench peers -- --part flood   # one part: served, refused, flood or standing
//! ```
//!
//! Servers are looked for in target/peers (or `$OXINETD_PEERS`), in PATH and in /usr/sbin; those that are absent are
//! said and left out. Nothing is asserted: the figures that matter are the ratios, because they alone mean something on
//! another machine, and what became of the good client. Nothing is told to log but oxinetd, which logs every connection.

mod flooded;
mod refused;
mod served;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use support::kind::Kind;
use support::{Place, possible, serve_or, standing};

/// Measures oxinetd and other super-servers side by side, and prints tables of ratios.
#[derive(Parser)]
struct Options {
    /// A smoke run of less than a minute, whose figures mean little
    #[arg(long)]
    quick: bool,
    /// Measure these only
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    part: Vec<Part>,
    /// Rounds of each part; every server has its turn in each
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Connections per second and what each costs, alone and beside 10,000 handlers
    Served,
    /// Refusals per second and what each costs
    Refused,
    /// A good client beside a flood
    Flood,
    /// Memory, start and reload
    Standing,
}

fn main() -> ExitCode {
    serve_or(|| measure(&Options::parse()))
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let place = Place::new()?;
    let (here, absent): (Vec<Kind>, Vec<Kind>) = Kind::PEERS.iter().partition(|kind| kind.is_here());
    for kind in &absent {
        println!("LEFT OUT: {} is not on this machine; benches/peers/install fetches it", kind.name());
    }
    let kinds: Vec<Kind> = [Kind::Oxinetd].into_iter().chain(here).collect();
    let wanted = |part| options.part.is_empty() || options.part.contains(&part);
    let rounds = |usual: usize| options.rounds.unwrap_or(if options.quick { 1 } else { usual });
    let seconds = |usual: f64| Duration::from_secs_f64(if options.quick { 0.3 } else { usual });
    if wanted(Part::Served) {
        let with_loop: Vec<Kind> = kinds.iter().copied().chain([Kind::Minimal]).collect();
        let held = if options.quick { 200 } else { 10_000 };
        let levels: Vec<(usize, usize)> = possible(&[0, held])?.into_iter().zip([rounds(6), rounds(3)]).collect();
        served::run(&with_loop, &place, &levels, seconds(1.5));
    }
    if wanted(Part::Refused) {
        refused::run(&place, rounds(5), seconds(0.8));
    }
    if wanted(Part::Flood) {
        flooded::run(&place, rounds(3), if options.quick { 20 } else { 100 });
    }
    if wanted(Part::Standing) {
        standing::run(&kinds, &place, rounds(5))?;
    }
    Ok(())
}
