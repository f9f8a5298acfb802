//! What a refusal costs, for each reason, beside a bare loop that accepts and closes; what a flood of those who are
//! banned costs with the kernel's help and without; and how long a good client waits meanwhile.
//!
//! `cargo bench --bench refusal`, as root for the kernel's part. Machines are noisy: each figure is measured beside
//! the one that it is compared with, in rounds, and the median of the ratios is given with the least and the greatest.

mod support;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use tempfile::TempDir;

use support::figures::{Spread, micros, percentile};
use support::kind::Kind;
use support::options::Limits;
use support::process::cpu;
use support::server::Server as Bare;
use support::visits::{Visits, begin, flood, from_bad, good_client};
use support::{Place, serve_or};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(600);

/// Each reason, the keys of a service that refuses for it, and how it is brought about.
const REASONS: [(&str, &str, Before); 13] = [
    ("drained", "program: /bin/cat", Before::Ctl(&["drain", "s"])),
    ("access", "program: /bin/cat, deny: 127.2.0.2", Before::Nothing),
    ("times", "program: /bin/cat, times: [Mon 00:00-00:01]", Before::Nothing),
    ("ban", "program: /bin/cat", Before::Ctl(&["ban", "127.2.0.2"])),
    ("penalty", "program: /bin/true, penalties: { trap: 1h }", Before::Visit),
    ("trap", "penalties: { trap: 1h, exempt: 127.2.0.2 }", Before::Nothing),
    ("source_instances", "program: /bin/cat, per_source: { instances: 1 }", Before::Hold),
    ("source_rate", "program: /bin/true, per_source: { rate: 1/day, burst: 1 }", Before::Visit),
    ("network_instances", "program: /bin/cat, per_network: { instances: 1 }", Before::Hold),
    ("network_rate", "program: /bin/true, per_network: { rate: 1/day, burst: 1 }", Before::Visit),
    ("service_instances", "program: /bin/cat, instances: 1, when_full: refuse", Before::Hold),
    ("daemon_instances", "program: /bin/cat, when_full: refuse", Before::Hold),
    ("load", "program: /bin/cat, max_load: 0.001, when_full: refuse", Before::Nothing),
];

#[derive(Clone, Copy)]
enum Before {
    Nothing,
    Ctl(&'static [&'static str]),
    /// Come once.
    Visit,
    /// Come and stay.
    Hold,
}

/// A server under test, ended with this.
struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

impl Server {
    fn start(mut command: Command, port: u16, folder: TempDir) -> Self {
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server");
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the server does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        Self { process, port, folder }
    }

    fn oxinetd(daemon: &str, keys: &str) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
        let (table, control) = (folder.path().join("table.yaml"), folder.path().join("control"));
        let text = format!(
            "daemon: {{ control: {}, {daemon} }}\nservices: {{ s: {{ listen: 127.0.0.1:{port}, {keys} }} }}\n",
            control.display()
        );
        fs::write(&table, text).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_oxinetd"));
        command.arg("-c").arg(&table).arg("--log").arg(folder.path().join("log"));
        Self::start(command, port, folder)
    }

    fn ctl(&self, arguments: &[&str]) {
        let control = self.folder.path().join("control");
        let mut command = Command::new(env!("CARGO_BIN_EXE_oxinetctl"));
        let status = command.arg("--socket").arg(control).args(arguments).stdout(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "oxinetctl {arguments:?}");
    }

    /// Brings the state about in which clients are refused; what must be held while it lasts.
    fn prepare(&self, before: Before) -> Option<TcpStream> {
        match before {
            Before::Nothing => None,
            Before::Ctl(arguments) => {
                self.ctl(arguments);
                None
            }
            Before::Visit => {
                // Whether the first look of `start` was from another address does not matter: the limit is this one's.
                Visits::default().one(self.address());
                None
            }
            Before::Hold => from_bad(self.address()).ok(),
        }
    }

    fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port)
    }
}

/// Refusals in a second, and processor time of the server for each in microseconds.
fn refusals(pid: u32, to: SocketAddrV4) -> (f64, f64) {
    let used = || cpu(pid).expect("a live server").own;
    let before = used();
    let (visits, elapsed) = Visits::many(to, ROUND);
    let count = f64::from(visits.all());
    (count / elapsed.as_secs_f64(), micros(used() - before) / count)
}

/// The loop that accepts and closes: this program itself.
fn bare(place: &Place) -> Bare {
    Bare::start(Kind::Closing, Limits::NONE, place).expect("a server")
}

fn reasons(place: &Place) {
    println!("{:18} {:>9}  {:>9}  rate / bare loop        processor / bare loop", "reason", "in a s", "us each");
    for (reason, keys, before) in REASONS {
        let daemon = if reason == "daemon_instances" { "instances: 1" } else { "instances: 100" };
        let (server, bare) = (Server::oxinetd(daemon, keys), bare(place));
        let held = server.prepare(before);
        let (mut rates, mut costs, mut last) = (Vec::new(), Vec::new(), (0.0, 0.0));
        for _ in 0..ROUNDS {
            let (ours, theirs) =
                (refusals(server.process.id(), server.address()), refusals(bare.pid(), bare.passing()));
            rates.push(ours.0 / theirs.0);
            costs.push(ours.1 / theirs.1);
            last = ours;
        }
        drop(held);
        println!("{reason:18} {:9.0}  {:9.1}  {:22.2}  {:.2}", last.0, last.1, Spread::of(rates), Spread::of(costs));
    }
}

/// Begins so many connections without waiting for any, at a pace that a backlog can bear.
fn knock(to: SocketAddrV4, times: usize) {
    for number in 0..times {
        let _ = begin(to);
        if number % 50 == 49 {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn kernel() {
    const KNOCKS: usize = 10_000;
    let servers = ["daemon", "kernel"].map(|who| Server::oxinetd(&format!("drop_banned: {who}"), "program: /bin/cat"));
    servers.iter().for_each(|server| server.ctl(&["ban", "127.2.0.2"]));
    // The kernel is told within a second.
    thread::sleep(Duration::from_millis(1_500));
    let cost = |server: &Server| {
        let used = || cpu(server.process.id()).expect("a live server").own;
        let before = used();
        knock(server.address(), KNOCKS);
        thread::sleep(Duration::from_millis(100));
        micros(used() - before) / KNOCKS as f64
    };
    let rounds = (0..ROUNDS).map(|_| [cost(&servers[0]), cost(&servers[1])]);
    let rounds: Vec<_> = rounds.collect();
    println!("\nprocessor time of the daemon for each of {KNOCKS} connections from a banned source, in us:");
    println!("by the daemon {:.2}", Spread::of(rounds.iter().map(|round| round[0])));
    println!("by the kernel {:.2}", Spread::of(rounds.iter().map(|round| round[1])));
    println!("ratio         {:.2}", Spread::of(rounds.iter().map(|round| round[1] / round[0])));
}

/// Where a flood goes.
#[derive(Clone, Copy, PartialEq)]
enum Flood {
    None,
    /// To a bare loop that accepts and closes: what the good client then waits longer is the machine's doing.
    Elsewhere,
    Here,
}

fn beside_a_flood(place: &Place) {
    const TIMES: usize = 300;
    let elsewhere = bare(place);
    let keys = format!("program: {}, per_source: {{ instances: 4, rate: 40/s }}", place.handler.display());
    let penalties = "penalties: { refused: 10m, min: 0s }";
    println!("\na good client beside 64 of one source that come without end, ms: median, 99th percentile");
    for (name, daemon, keys, flooded) in [
        ("idle", "drop_banned: daemon", keys.clone(), Flood::None),
        ("flood of a bare loop", "drop_banned: daemon", keys.clone(), Flood::Elsewhere),
        ("flood", "drop_banned: daemon", keys.clone(), Flood::Here),
        ("flood, penalised", "drop_banned: daemon", format!("{keys}, {penalties}"), Flood::Here),
        ("flood, by the kernel", "drop_banned: kernel", format!("{keys}, {penalties}"), Flood::Here),
        ("idle", "drop_banned: daemon", keys.clone(), Flood::None),
    ] {
        let (server, over) = (Server::oxinetd(daemon, &keys), AtomicBool::new(false));
        let (target, clients) = match flooded {
            Flood::None => (server.address(), 0),
            Flood::Elsewhere => (elsewhere.passing(), 64),
            Flood::Here => (server.address(), 64),
        };
        thread::scope(|scope| {
            scope.spawn(|| flood(target, clients, Duration::ZERO, &over));
            thread::sleep(Duration::from_millis(1_500));
            let waits: Vec<f64> =
                good_client(server.address(), TIMES, Duration::from_millis(50)).into_iter().flatten().collect();
            over.store(true, Ordering::Relaxed);
            println!("{name:22} {:6.2} {:6.2}", percentile(waits.clone(), 0.5), percentile(waits, 0.99));
        });
    }
}

fn main() -> ExitCode {
    serve_or(measure)
}

fn measure() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    let wanted = |name: &str| {
        arguments.iter().all(|word| word.starts_with('-') || word.contains('/'))
            || arguments.iter().any(|word| word == name)
    };
    let place = Place::new()?;
    if wanted("reasons") {
        reasons(&place);
    }
    if wanted("kernel") {
        kernel();
    }
    if wanted("client") {
        beside_a_flood(&place);
    }
    Ok(())
}
