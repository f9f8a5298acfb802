//! What a refusal costs, for each reason, beside a bare loop that accepts and closes; what a flood of those who are
//! banned costs with the kernel's help and without; and how long a good client waits meanwhile.
//!
//! `cargo bench --bench refusal`, as root for the kernel's part. Machines are noisy: each figure is measured beside
//! the one that it is compared with, in rounds, and the median of the ratios is given with the least and the greatest.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
use tempfile::TempDir;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(600);
/// Threads that make the flood, and how many connections each has under way at one time.
const FLOODERS: usize = 4;
const UNDER_WAY: usize = 16;

const BAD: [u8; 4] = [127, 0, 0, 2];
const GOOD: [u8; 4] = [127, 0, 0, 1];

/// Each reason, the keys of a service that refuses for it, and how it is brought about.
const REASONS: [(&str, &str, Before); 13] = [
    ("drained", "program: /bin/cat", Before::Ctl(&["drain", "s"])),
    ("access", "program: /bin/cat, deny: 127.0.0.2", Before::Nothing),
    ("times", "program: /bin/cat, times: [Mon 00:00-00:01]", Before::Nothing),
    ("ban", "program: /bin/cat", Before::Ctl(&["ban", "127.0.0.2"])),
    ("penalty", "program: /bin/true, penalties: { trap: 1h }", Before::Visit),
    ("trap", "penalties: { trap: 1h, exempt: 127.0.0.2 }", Before::Nothing),
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

    /// The bare loop: this program itself.
    fn bare() -> Self {
        let port = free_port();
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["bare", &port.to_string()]);
        Self::start(command, port, tempfile::tempdir().expect("a folder"))
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
                visit(BAD, self.port);
                None
            }
            Before::Hold => from(BAD, self.port),
        }
    }

    /// Processor time of all its threads so far (proc_pid_schedstat(5)).
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).into_iter().flatten().flatten();
        let of_task =
            |path: &Path| fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok();
        Duration::from_nanos(tasks.filter_map(|task| of_task(&task.path())).sum())
    }
}

fn accept_and_close(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(&stream, sockopt::Linger, &linger);
    }
}

fn from(source: [u8; 4], port: u16) -> Option<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    setsockopt(&socket, sockopt::ReuseAddr, &true).ok()?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(source[0], source[1], source[2], source[3], 0)).ok()?;
    connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).ok()?;
    Some(socket.into())
}

/// Comes, and waits until it is let go.
fn visit(source: [u8; 4], port: u16) {
    if let Some(mut stream) = from(source, port) {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// Refusals in a second, and processor time of the server for each in microseconds.
fn flood(server: &Server) -> (f64, f64) {
    let (before, began) = (server.cpu(), Instant::now());
    let refused: u64 = thread::scope(|scope| {
        let flooders = [(); FLOODERS].map(|()| scope.spawn(|| knock_until(server.port, began + ROUND)));
        flooders.into_iter().map(|flooder| flooder.join().expect("a count")).sum()
    });
    let (refused, cpu) = (refused as f64, server.cpu() - before);
    (refused / began.elapsed().as_secs_f64(), cpu.as_secs_f64() * 1e6 / refused)
}

/// Keeps connections of the bad source under way; how many of them were ended.
fn knock_until(port: u16, end: Instant) -> u64 {
    let (mut under_way, mut refused) = (VecDeque::new(), 0);
    while Instant::now() < end {
        under_way.extend(from(BAD, port));
        if under_way.len() >= UNDER_WAY {
            refused +=
                u64::from(under_way.pop_front().is_some_and(|mut oldest| !matches!(oldest.read(&mut [0]), Ok(1..))));
        }
    }
    refused
}

/// The median, the least and the greatest.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

fn reasons() {
    println!("{:18} {:>9}  {:>9}  rate / bare loop        processor / bare loop", "reason", "in a s", "us each");
    for (reason, keys, before) in REASONS {
        let daemon = if reason == "daemon_instances" { "instances: 1" } else { "instances: 100" };
        let (server, bare) = (Server::oxinetd(daemon, keys), Server::bare());
        let held = server.prepare(before);
        let (mut rates, mut costs, mut last) = (Vec::new(), Vec::new(), (0.0, 0.0));
        for _ in 0..ROUNDS {
            let (ours, theirs) = (flood(&server), flood(&bare));
            rates.push(ours.0 / theirs.0);
            costs.push(ours.1 / theirs.1);
            last = ours;
        }
        drop(held);
        println!("{reason:18} {:9.0}  {:9.1}  {:22}  {}", last.0, last.1, spread(rates), spread(costs));
    }
}

/// Begins so many connections without waiting for any, at a pace that a backlog can bear.
fn knock(port: u16, times: usize) {
    for number in 0..times {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let Ok(socket) = socket(AddressFamily::Inet, SockType::Stream, flags, None) else { continue };
        let _ = bind(socket.as_raw_fd(), &SockaddrIn::new(BAD[0], BAD[1], BAD[2], BAD[3], 0));
        let _ = connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port));
        if number % 50 == 49 {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn kernel() {
    const KNOCKS: usize = 10_000;
    let servers = ["daemon", "kernel"].map(|who| Server::oxinetd(&format!("drop_banned: {who}"), "program: /bin/cat"));
    servers.iter().for_each(|server| server.ctl(&["ban", "127.0.0.2"]));
    // The kernel is told within a second.
    thread::sleep(Duration::from_millis(1_500));
    let cost = |server: &Server| {
        let before = server.cpu();
        knock(server.port, KNOCKS);
        thread::sleep(Duration::from_millis(100));
        (server.cpu() - before).as_secs_f64() * 1e6 / KNOCKS as f64
    };
    let rounds = (0..ROUNDS).map(|_| [cost(&servers[0]), cost(&servers[1])]);
    let rounds: Vec<_> = rounds.collect();
    println!("\nprocessor time of the daemon for each of {KNOCKS} connections from a banned source, in us:");
    println!("by the daemon {}", spread(rounds.iter().map(|round| round[0]).collect()));
    println!("by the kernel {}", spread(rounds.iter().map(|round| round[1]).collect()));
    println!("ratio         {}", spread(rounds.iter().map(|round| round[1] / round[0]).collect()));
}

/// The median and the 99th percentile of how long a good client waits for his answer, 20 times a second, in ms.
fn waits(port: u16, times: usize) -> [f64; 2] {
    let mut all: Vec<f64> = (0..times)
        .map(|_| {
            thread::sleep(Duration::from_millis(50));
            let began = Instant::now();
            visit(GOOD, port);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    [all[times / 2], all[times * 99 / 100]]
}

fn good_client() {
    const TIMES: usize = 200;
    let keys = "program: /bin/true, per_source: { instances: 4, rate: 40/s }";
    let penalties = "penalties: { refused: 10m, min: 0s }";
    println!("\na good client beside 64 of one source that come without end, ms: median, 99th percentile");
    for (name, daemon, keys, clients) in [
        ("idle", "drop_banned: daemon", keys.to_owned(), 0),
        ("flood", "drop_banned: daemon", keys.to_owned(), 64),
        ("flood, penalised", "drop_banned: daemon", format!("{keys}, {penalties}"), 64),
        ("flood, by the kernel", "drop_banned: kernel", format!("{keys}, {penalties}"), 64),
        ("idle", "drop_banned: daemon", keys.to_owned(), 0),
    ] {
        let (server, over) = (Server::oxinetd(daemon, &keys), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| keep_knocking(server.port, clients, &over));
            thread::sleep(Duration::from_millis(1_500));
            let [median, worst] = waits(server.port, TIMES);
            over.store(true, Ordering::Relaxed);
            println!("{name:22} {median:6.2} {worst:6.2}");
        });
    }
}

/// Keeps so many connections of the bad source under way.
fn keep_knocking(port: u16, clients: usize, over: &AtomicBool) {
    // SAFETY: no memory is involved. This thread has what the processors have left: a flood comes from elsewhere.
    unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, 19) };
    let mut under_way = VecDeque::new();
    while clients > 0 && !over.load(Ordering::Relaxed) {
        while under_way.len() < clients {
            under_way.extend(one_more(port));
        }
        if let Some(oldest) = under_way.pop_front() {
            wait_for_close(&oldest, over);
        }
    }
}

/// A connection from the bad source, which may be refused before it is known to have been made.
fn one_more(port: u16) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).ok()?;
    let _ = bind(socket.as_raw_fd(), &SockaddrIn::new(BAD[0], BAD[1], BAD[2], BAD[3], 0));
    let _ = connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port));
    Some(socket)
}

/// One that is dropped waits for a while, as it would in any program.
fn wait_for_close(socket: &OwnedFd, over: &AtomicBool) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    for _ in 0..200 {
        let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if over.load(Ordering::Relaxed) || poll(&mut set, PollTimeout::from(20_u8)) != Ok(0) {
            return;
        }
    }
}

fn main() {
    let arguments: Vec<_> = env::args().collect();
    if let [_, bare, port] = &arguments[..] {
        if bare == "bare" {
            return accept_and_close(port.parse().expect("a port"));
        }
    }
    let wanted = |name: &str| {
        arguments.iter().all(|word| word.starts_with('-') || word.contains('/'))
            || arguments.iter().any(|word| word == name)
    };
    if wanted("reasons") {
        reasons();
    }
    if wanted("kernel") {
        kernel();
    }
    if wanted("client") {
        good_client();
    }
}
