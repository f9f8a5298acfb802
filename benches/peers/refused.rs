//! Clients that are refused, by whatever each server has against one client.

use std::io::{Error, Read, Result};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Place;
use crate::support::figures::micros;
use crate::support::kind::Kind;
use crate::support::options::Limits;
use crate::support::process::cpu;
use crate::support::server::Server;
use crate::support::turns::Turns;
use crate::support::visits::{Visits, from_bad};

const DENY: Limits = Limits { deny: true, ..Limits::NONE };
const ONE: Limits = Limits { per_source: Some(1), ..Limits::NONE };
const FEW_A_MINUTE: Limits = Limits { per_minute: Some(3), ..Limits::NONE };

/// The limit by which a server refuses.
struct Way {
    name: &'static str,
    kind: Kind,
    limits: Limits,
}

/// inetutils-inetd and busybox have a rate of a service alone; when it is reached they close the port, so it is the
/// kernel that refuses, whoever comes. openbsd-inetd does so below port 1024 only. tcpserver has no limit of a source but
/// its rules, and when it has as many handlers as it may, all wait.
const WAYS: [Way; 10] = [
    Way { name: "closing loop", kind: Kind::Closing, limits: Limits::NONE },
    Way { name: "oxinetd deny", kind: Kind::Oxinetd, limits: DENY },
    Way { name: "oxinetd per_source.instances", kind: Kind::Oxinetd, limits: ONE },
    Way { name: "oxinetd per_source.rate", kind: Kind::Oxinetd, limits: FEW_A_MINUTE },
    Way { name: "xinetd no_access", kind: Kind::Xinetd, limits: DENY },
    Way { name: "xinetd per_source", kind: Kind::Xinetd, limits: ONE },
    Way { name: "openbsd-inetd rate (all clients)", kind: Kind::OpenbsdInetd, limits: FEW_A_MINUTE },
    Way { name: "tcpserver -x rules", kind: Kind::Tcpserver, limits: DENY },
    Way { name: "tcpsvd -i instructions", kind: Kind::Tcpsvd, limits: DENY },
    Way { name: "tcpsvd -C", kind: Kind::Tcpsvd, limits: ONE },
];

/// What one turn saw.
struct Refusals {
    /// In a second.
    rate: f64,
    /// CPU time of the server and its children for each, in µs.
    cpu: f64,
}

/// A server in the state in which it refuses.
struct Refuser {
    name: &'static str,
    server: Server,
    _held: Option<TcpStream>,
}

/// Measures and prints.
pub(crate) fn run(place: &Place, rounds: usize, length: Duration) {
    let start = |way: &Way| match Refuser::start(way, place) {
        Err(error) => {
            eprintln!("{} is left out: {error}", way.name);
            None
        }
        Ok(refuser) => Some(refuser),
    };
    let refusers: Vec<Refuser> = WAYS.iter().filter(|way| way.kind.is_here()).filter_map(start).collect();
    let turns = Turns::rounds("refused", rounds, &refusers, |refuser| refuser.name, |refuser| refuser.sample(length));
    println!(
        "\nRefused: refusals per second and CPU time of the server for each; /loop: as a ratio to a bare loop of accept"
    );
    println!("and close in the same round; /ox: to oxinetd with `deny`");
    println!(
        "{:32} {:>9} {:>8} {:>18} {:>20} {:>18} {:>20}",
        "way", "refused/s", "CPU µs", "rate/loop", "CPU/loop", "rate/ox", "CPU/ox"
    );
    refusers.iter().for_each(|refuser| print(refuser.name, &turns));
}

fn print(name: &str, turns: &Turns<Refusals>) {
    let [to_loop, to_oxinetd] = [WAYS[0].name, WAYS[1].name].map(|base| (turns, base));
    println!(
        "{name:32} {:>9.0} {:>8.1} {:>18.2} {:>20.2} {:>18.2} {:>20.2}",
        turns.spread(name, |refusals| refusals.rate).median,
        turns.spread(name, |refusals| refusals.cpu).median,
        turns.ratio(name, to_loop, |refusals| refusals.rate),
        turns.ratio(name, to_loop, |refusals| refusals.cpu),
        turns.ratio(name, to_oxinetd, |refusals| refusals.rate),
        turns.ratio(name, to_oxinetd, |refusals| refusals.cpu),
    );
}

impl Refuser {
    /// Starts it, holds one handler if that is what it takes, and comes until nobody is let in.
    fn start(way: &Way, place: &Place) -> Result<Self> {
        let server = Server::start(way.kind, way.limits, place)?;
        let held = match way.limits.per_source {
            Some(_) => Some(hold_one(&server)?),
            None => None,
        };
        let mut visits = Visits::default();
        for _ in 0..10 {
            visits.one(server.holding());
        }
        match visits {
            Visits { refused: 1.., served: 0..=3, unreachable: 0 } => Ok(Self { name: way.name, server, _held: held }),
            _ => Err(Error::other(format!("it does not refuse: {visits:?}"))),
        }
    }

    fn sample(&self, length: Duration) -> Result<Refusals> {
        let before = cpu(self.server.pid())?.all();
        let (visits, elapsed) = Visits::many(self.server.holding(), length);
        let cpu = cpu(self.server.pid())?.all() - before;
        self.server.empty_log()?;
        // Those of openbsd-inetd and oxinetd that may be served come again each minute.
        if visits.served > 3 || visits.unreachable > 0 {
            return Err(Error::other(format!("it did not refuse all: {visits:?}")));
        }
        let refused = f64::from(visits.refused);
        Ok(Refusals { rate: refused / elapsed.as_secs_f64(), cpu: micros(cpu) / refused })
    }
}

fn hold_one(server: &Server) -> Result<TcpStream> {
    let mut stream = from_bad(server.holding())?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}
