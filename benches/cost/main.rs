//! What a connection costs: oxinetd against the cheapest loops there can be, in the same run.
//!
//! `cargo bench --bench cost` takes about seven minutes, `cargo bench --bench cost -- --quick` a quarter of one. Nothing is
//! asserted: the figures that matter are the ratios, because they alone mean something on another machine.

mod rounds;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use support::kind::Kind;
use support::server::Server;
use support::{Place, possible, serve_or, standing};

/// Measures what a connection costs with oxinetd and with minimal loops, and prints tables of ratios.
#[derive(Parser)]
struct Options {
    /// A smoke run of some twenty seconds, whose figures mean little
    #[arg(long)]
    quick: bool,
    /// Rounds; every server has its turn in each
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Length of one server's turn
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Numbers of handlers held open [default: 0,1000,10000; with --quick 0,1000]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    held: Vec<usize>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    serve_or(|| measure(&Options::parse()))
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let place = Place::new()?;
    let (rounds, seconds, levels) =
        if options.quick { (2, 0.4, &[0, 1000][..]) } else { (6, 2.0, &[0, 1000, 10_000][..]) };
    let levels = possible(if options.held.is_empty() { levels } else { &options.held })?;
    let plan = rounds::Plan {
        rounds: options.rounds.unwrap_or(rounds),
        length: Duration::from_secs_f64(options.seconds.unwrap_or(seconds)),
        levels,
    };
    let kinds = [Kind::Oxinetd, Kind::Minimal, Kind::Session, Kind::Design];
    let servers: Vec<Server> = kinds.iter().filter_map(|&kind| Server::start_or_say(kind, &place)).collect();
    rounds::run(&servers, &plan);
    let here = servers.iter().any(|server| server.kind == Kind::Oxinetd);
    drop(servers);
    standing::run(&[Kind::Oxinetd], &place, plan.rounds)?;
    if here { Ok(()) } else { Err("oxinetd itself was not measured".into()) }
}
