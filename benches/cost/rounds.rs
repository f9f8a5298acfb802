//! Load at several numbers of held handlers, round after round, every server in each, in turn from either end, so that
//! what the machine does meanwhile strikes all alike. Ratios are taken within a round.

use std::io::{Error, ErrorKind, Result};
use std::net::TcpStream;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;

use crate::figures::{Spread, micros, millis};
use crate::load;
use crate::process::{children, cpu};
use crate::server::{Kind, Server};

/// How long held handlers are left alone before anything is measured. The kernel's averages of the load of so many new
/// sessions take some seconds to fade, and make every wake-up dearer until then.
const SETTLE: Duration = Duration::from_secs(4);

/// What one round saw of one server at one number of held handlers.
struct Sample {
    kind: Kind,
    held: usize,
    round: usize,
    /// Connections per second.
    rate: f64,
    /// CPU time per connection in µs: the server itself, its children, and the load generator.
    server: f64,
    handlers: f64,
    client: f64,
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
pub(crate) fn run(servers: &[Server], plan: &Plan) -> Result<()> {
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        for &held in &plan.levels {
            eprint!("\rround {} of {}, {held} held    ", round + 1, plan.rounds);
            let mut order: Vec<&Server> = servers.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for server in order {
                // One that fails has no figures here, and takes none from the others.
                match sample(server, held, round, plan.length) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => eprintln!("\rcost: {} with {held} held: {error}", server.kind.name()),
                }
            }
        }
    }
    eprint!("\r{:40}\r", "");
    print_load(servers, plan, &samples);
    print_latency(servers, plan, &samples);
    Ok(())
}

fn sample(server: &Server, held: usize, round: usize, length: Duration) -> Result<Sample> {
    let holding = load::hold(server.holding(), held)?;
    if held > 0 {
        sleep(SETTLE);
    }
    let latency = Spread::of((0..200).map(|_| load::probe(server.passing()).map(micros)).collect::<Result<Vec<_>>>()?);
    let (before, client) = (cpu(server.pid())?, own_cpu()?);
    let window = load::window(server.passing(), length)?;
    let (after, client) = (cpu(server.pid())?, own_cpu()? - client);
    let each = |time: Duration| micros(time) / f64::from(window.served);
    let ending = match (held, round % 2) {
        (0, _) => None,
        (_, 0) => Some(Ending::Live(end_live(server, holding)?)),
        _ => Some(Ending::Stopped(end_stopped(server, holding)?)),
    };
    server.empty_log()?;
    Ok(Sample {
        kind: server.kind,
        held,
        round,
        rate: f64::from(window.served) / window.elapsed.as_secs_f64(),
        server: each(after.own - before.own),
        handlers: each(after.children - before.children),
        client: each(client),
        latency: latency.median,
        ending,
    })
}

fn own_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().unsigned_abs()))
}

/// Lets all held handlers end while one client after another asks for a byte; the longest wait.
fn end_live(server: &Server, holding: Vec<TcpStream>) -> Result<f64> {
    let pid = server.pid();
    let closer = thread::spawn(move || {
        drop(holding);
        until(|| Ok(children(pid)?.0 < 16))
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
    until(|| Ok(children(server.pid())?.0 == 0))?;
    let mut longest = load::probe_after(server.passing(), || server.signal(Signal::SIGCONT))?;
    for _ in 0..500 {
        longest = longest.max(load::probe(server.passing())?);
    }
    Ok(millis(longest))
}

fn until(mut reached: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !reached()? {
        if begin.elapsed() > Duration::from_secs(30) {
            return Err(Error::new(ErrorKind::TimedOut, "handlers are left after 30 s"));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One value of each round of `kind` at `held`, as a ratio to what `other` finds in the same round.
fn ratio<'a>(
    samples: &'a [Sample],
    (kind, held): (Kind, usize),
    (other, other_held): (Kind, usize),
    value: impl Fn(&Sample) -> f64 + 'a,
) -> Spread {
    let at = |kind: Kind, held: usize, round: usize| {
        samples.iter().find(move |s| (s.kind, s.held, s.round) == (kind, held, round))
    };
    let mine = samples.iter().filter(|s| (s.kind, s.held) == (kind, held));
    Spread::of(mine.filter_map(|s| at(other, other_held, s.round).map(|base| value(s) / value(base))))
}

fn print_load(servers: &[Server], plan: &Plan, samples: &[Sample]) {
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
    for &held in &plan.levels {
        for kind in servers.iter().map(|server| server.kind) {
            let mine = || samples.iter().filter(|s| (s.kind, s.held) == (kind, held));
            println!(
                "{held:>6} {:8} {:>8.0} {:>11.1} {:>13.1} {:>11.1} {:>18.3} {:>18.3} {:>18.3} {:>18.3}",
                kind.name(),
                Spread::of(mine().map(|s| s.rate)).median,
                Spread::of(mine().map(|s| s.server)).median,
                Spread::of(mine().map(|s| s.handlers)).median,
                Spread::of(mine().map(|s| s.client)).median,
                ratio(samples, (kind, held), (Kind::Minimal, held), |s| s.rate),
                ratio(samples, (kind, held), (Kind::Minimal, held), |s| s.server + s.handlers),
                ratio(samples, (kind, held), (kind, 0), |s| s.rate),
                ratio(samples, (kind, held), (kind, 0), |s| s.server + s.handlers),
            );
        }
    }
}

fn print_latency(servers: &[Server], plan: &Plan, samples: &[Sample]) {
    println!(
        "\nWaiting for the byte: alone, µs; the longest while all held handlers end, and when they ended at once, ms"
    );
    println!("{:>6} {:8} {:>24} {:>24} {:>24}", "held", "server", "alone µs", "while they end ms", "ended at once ms");
    for &held in &plan.levels {
        for kind in servers.iter().map(|server| server.kind) {
            let mine = || samples.iter().filter(|s| (s.kind, s.held) == (kind, held));
            let ending =
                |pick: fn(&Ending) -> Option<f64>| Spread::of(mine().filter_map(|s| s.ending.as_ref().and_then(pick)));
            println!(
                "{held:>6} {:8} {:>24.0} {:>24.1} {:>24.1}",
                kind.name(),
                Spread::of(mine().map(|s| s.latency)),
                ending(|ending| if let Ending::Live(ms) = ending { Some(*ms) } else { None }),
                ending(|ending| if let Ending::Stopped(ms) = ending { Some(*ms) } else { None }),
            );
        }
    }
}
