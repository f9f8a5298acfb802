//! A good client beside a flood from one source: 64 connections at a time, which go when they have been answered, or
//! stay as long as they are let. Each server has the limits that it has against this.

use std::io::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::Place;
use crate::support::figures::{Spread, percentile};
use crate::support::kind::Kind;
use crate::support::options::Limits;
use crate::support::server::Server;
use crate::support::turns::Turns;
use crate::support::visits::{flood, good_client};

const CLIENTS: usize = 64;

/// How long one of the flood stays.
const STAY: Duration = Duration::from_millis(300);

/// How long the flood has before the good client comes: by then every limit has been reached.
const LEAD: Duration = Duration::from_millis(1500);

/// Between two requests of the good client.
const PAUSE: Duration = Duration::from_millis(10);

/// A server with limits.
struct Defence {
    name: &'static str,
    kind: Kind,
    limits: Limits,
}

const DEFENCES: [Defence; 8] = [
    Defence {
        name: "oxinetd, 4 and 100/s a source",
        kind: Kind::Oxinetd,
        limits: Limits { per_source: Some(4), per_minute: Some(6000), ..Limits::NONE },
    },
    Defence { name: "xinetd, 4 a source", kind: Kind::Xinetd, limits: Limits { per_source: Some(4), ..Limits::NONE } },
    Defence {
        name: "xinetd, cps 50 10 (its default)",
        kind: Kind::Xinetd,
        limits: Limits { per_minute: Some(50 * 60), ..Limits::NONE },
    },
    Defence { name: "openbsd-inetd, 256/min", kind: Kind::OpenbsdInetd, limits: A_MINUTE },
    Defence { name: "inetutils, 256/min", kind: Kind::InetutilsInetd, limits: A_MINUTE },
    Defence { name: "busybox, 256/min", kind: Kind::BusyboxInetd, limits: A_MINUTE },
    Defence { name: "tcpserver, 40 in all", kind: Kind::Tcpserver, limits: Limits { total: Some(40), ..Limits::NONE } },
    Defence {
        name: "tcpsvd, 4 a source, 30 in all",
        kind: Kind::Tcpsvd,
        limits: Limits { per_source: Some(4), total: Some(30), ..Limits::NONE },
    },
];

/// The default of openbsd-inetd.
const A_MINUTE: Limits = Limits { per_minute: Some(256), ..Limits::NONE };

/// Measures and prints.
pub(crate) fn run(place: &Place, rounds: usize, requests: usize) {
    let here: Vec<&Defence> = DEFENCES.iter().filter(|defence| defence.kind.is_here()).collect();
    println!("\nFlood: a good client beside {CLIENTS} connections at a time of one source; of all rounds together");
    println!(
        "{:12} {:32} {:>9} {:>10} {:>10} {:>18}",
        "flood", "server", "answered", "median ms", "p99 ms", "median/ox"
    );
    for (flood, stay) in [("that goes", Duration::ZERO), ("that stays", STAY)] {
        let what = format!("flood {flood}");
        let turn = |defence: &&Defence| sample(defence, place, stay, requests);
        let turns = Turns::rounds(&what, rounds, &here, |defence| defence.name, turn);
        here.iter().for_each(|defence| print(flood, defence.name, &turns));
    }
}

/// How long each request of the good client took, in ms, if it was answered.
type Waits = Vec<Option<f64>>;

fn sample(defence: &Defence, place: &Place, stay: Duration, requests: usize) -> Result<Waits> {
    let server = Server::start(defence.kind, defence.limits, place)?;
    let to = if stay.is_zero() { server.passing() } else { server.holding() };
    let over = AtomicBool::new(false);
    Ok(thread::scope(|scope| {
        scope.spawn(|| flood(to, CLIENTS, stay, &over));
        thread::sleep(LEAD);
        let waits = good_client(to, requests, PAUSE);
        over.store(true, Ordering::Relaxed);
        waits
    }))
}

fn print(flood: &str, name: &str, turns: &Turns<Waits>) {
    let answered: Vec<f64> = turns.of(name).flatten().copied().flatten().collect();
    let asked = turns.of(name).map(Vec::len).sum::<usize>();
    println!(
        "{flood:12} {name:32} {:>8.1}% {:>10.2} {:>10.2} {:>18.2}",
        answered.len() as f64 * 100.0 / asked as f64,
        percentile(answered.clone(), 0.5),
        percentile(answered, 0.99),
        turns.ratio(name, (turns, DEFENCES[0].name), median),
    );
}

fn median(waits: &Waits) -> f64 {
    Spread::of(waits.iter().copied().flatten()).median
}
