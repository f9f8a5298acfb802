//! Load at several numbers of held handlers, round after round, every server in each.

use std::io::{Error, Result};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::figures::{Spread, micros, millis};
use crate::support::kind::Kind;
use crate::support::load;
use crate::support::process::until_children;
use crate::support::served::{Served, hold};
use crate::support::server::Server;
use crate::support::turns::Turns;

/// What one round saw of one server at one number of held handlers.
struct Sample {
    served: Served,
    /// From connect to the byte with no other connection under way, in µs.
    latency: f64,
    /// The longest that a client waited for its byte while all held handlers ended, in ms.
    ending: Option<Ending>,
}

enum Ending {
    /// They ended by themselves, and shared the processors with the server.
    Live(f64),
    /// The server was stopped until all had ended, so it found all of them in one turn.
    Stopped(f64),
}

/// How much to measure.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
    pub(crate) levels: Vec<usize>,
}

/// Measures and prints.
pub(crate) fn run(servers: &[Server], plan: &Plan) {
    let mut levels: Vec<(usize, Turns<Sample>)> = plan.levels.iter().map(|&held| (held, Turns::new())).collect();
    for round in 0..plan.rounds {
        for (held, turns) in &mut levels {
            eprint!("\rround {} of {}, {held} held    ", round + 1, plan.rounds);
            turns.round(servers, |server| server.kind.name(), |server| sample(server, *held, round, plan.length));
        }
    }
    eprint!("\r{:40}\r", "");
    let names: Vec<&str> = servers.iter().map(|server| server.kind.name()).collect();
    print_load(&names, plan, &levels);
    print_latency(&names, &levels);
}

fn sample(server: &Server, held: usize, round: usize, length: Duration) -> Result<Sample> {
    let holding = hold(server, held)?;
    let latency = Spread::of((0..200).map(|_| load::probe(server.passing()).map(micros)).collect::<Result<Vec<_>>>()?);
    let served = Served::measure(server, length)?;
    let ending = match (held, round % 2) {
        (0, _) => None,
        (_, 0) => Some(Ending::Live(end_live(server, holding)?)),
        _ => Some(Ending::Stopped(end_stopped(server, holding)?)),
    };
    Ok(Sample { served, latency: latency.median, ending })
}

/// Lets all held handlers end while one client after another asks for a byte; the longest wait.
fn end_live(server: &Server, holding: Vec<TcpStream>) -> Result<f64> {
    let pid = server.pid();
    let closer = thread::spawn(move || {
        drop(holding);
        until_children(pid, 15)
    });
    let mut longest = Duration::ZERO;
    while !closer.is_finished() {
        longest = longest.max(load::probe(server.passing())?);
    }
    closer.join().map_err(|_| Error::other("the closing thread panicked"))??;
    Ok(millis(longest))
}

/// Lets all held handlers end while the server is stopped; the longest wait of a client who is there when it goes on, and of those who come then.
fn end_stopped(server: &Server, holding: Vec<TcpStream>) -> Result<f64> {
    server.signal(Signal::SIGSTOP)?;
    drop(holding);
    until_children(server.pid(), 0)?;
    let mut longest = load::probe_after(server.passing(), || server.signal(Signal::SIGCONT))?;
    for _ in 0..500 {
        longest = longest.max(load::probe(server.passing())?);
    }
    Ok(millis(longest))
}

fn print_load(names: &[&str], plan: &Plan, levels: &[(usize, Turns<Sample>)]) {
    println!(
        "Load: medians of {} rounds of {:?}; ratios within a round: median (least–most)",
        plan.rounds, plan.length
    );
    println!(
        "{:>6} {:8} {:>8} {:>11} {:>13} {:>11} {:>18} {:>18} {:>18} {:>18}",
        "held",
        "server",
        "conn/s",
        "server µs",
        "handlers µs",
        "client µs",
        "rate/minimal",
        "CPU/minimal",
        "rate/own at 0",
        "CPU/own at 0"
    );
    let alone = levels.iter().find(|(held, _)| *held == 0).map(|(_, turns)| turns);
    for (held, turns) in levels {
        for &name in names {
            let median = |value: fn(&Served) -> f64| turns.spread(name, |sample| value(&sample.served)).median;
            let to = |base: Option<(&Turns<Sample>, &str)>, value: fn(&Served) -> f64| {
                base.map_or(Spread::of([]), |base| turns.ratio(name, base, |sample| value(&sample.served)))
            };
            let (minimal, own) = (Some((turns, Kind::Minimal.name())), alone.map(|alone| (alone, name)));
            println!(
                "{held:>6} {name:8} {:>8.0} {:>11.1} {:>13.1} {:>11.1} {:>18.3} {:>18.3} {:>18.3} {:>18.3}",
                median(|served| served.rate),
                median(|served| served.server),
                median(|served| served.handlers),
                median(|served| served.client),
                to(minimal, |served| served.rate),
                to(minimal, Served::cpu),
                to(own, |served| served.rate),
                to(own, Served::cpu),
            );
        }
    }
}

fn print_latency(names: &[&str], levels: &[(usize, Turns<Sample>)]) {
    println!(
        "\nWaiting for the byte: alone, µs; the longest while all held handlers end, and when they ended at once, ms"
    );
    println!("{:>6} {:8} {:>24} {:>24} {:>24}", "held", "server", "alone µs", "while they end ms", "ended at once ms");
    for (held, turns) in levels {
        for &name in names {
            let ending = |pick: fn(&Ending) -> Option<f64>| {
                Spread::of(turns.of(name).filter_map(|sample| sample.ending.as_ref().and_then(pick)))
            };
            println!(
                "{held:>6} {name:8} {:>24.0} {:>24.1} {:>24.1}",
                turns.spread(name, |sample| sample.latency),
                ending(|ending| if let Ending::Live(ms) = ending { Some(*ms) } else { None }),
                ending(|ending| if let Ending::Stopped(ms) = ending { Some(*ms) } else { None }),
            );
        }
    }
}
