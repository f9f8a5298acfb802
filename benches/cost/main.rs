//! What a connection costs: oxinetd against the cheapest loops there can be, in the same run.
//!
//! `cargo bench --bench cost` takes about seven minutes, `cargo bench --bench cost -- --quick` a quarter of one. Nothing is
//! asserted: the figures that matter are the ratios, because they alone mean something on another machine.

mod figures;
mod load;
mod minimal;
mod process;
mod rounds;
mod server;
mod standing;

use std::error::Error;
use std::ffi::CString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use server::{Kind, Place, Server, free_ports};

/// First argument of this program when it is to be one of the servers: `serve KIND PORT HANDLER`.
const SERVE: &str = "serve";

/// Descriptors that this program and a server need beside those of held connections.
const SPARE: usize = 500;

/// Measures what a connection costs with oxinetd and with minimal loops, and prints tables of ratios.
#[derive(Parser)]
struct Options {
    /// A smoke run of some twenty seconds, whose figures mean little
    #[arg(long)]
    quick: bool,
    /// Measure tcpsvd and openbsd-inetd too, where they are installed (about twice the time)
    #[arg(long)]
    peers: bool,
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
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [SERVE, kind, port, handler] => serve(kind, port, handler),
        _ => measure(&Options::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(kind: &str, port: &str, handler: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    let handler = CString::new(handler)?;
    let serve = match kind {
        kind if kind == Kind::Minimal.name() => minimal::plain,
        kind if kind == Kind::Session.name() => minimal::session,
        _ => minimal::design,
    };
    Ok(serve(listener, &handler)?)
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let place = Place { handler: build_handler(directory.path())?, directory: directory.path().to_owned() };
    let (rounds, seconds, levels) =
        if options.quick { (2, 0.4, &[0, 1000][..]) } else { (6, 2.0, &[0, 1000, 10_000][..]) };
    let levels = possible(if options.held.is_empty() { levels } else { &options.held })?;
    let plan = rounds::Plan {
        rounds: options.rounds.unwrap_or(rounds),
        length: Duration::from_secs_f64(options.seconds.unwrap_or(seconds)),
        levels,
    };
    let mut kinds = vec![Kind::Oxinetd, Kind::Minimal, Kind::Session, Kind::Design];
    if options.peers {
        kinds.extend([Kind::Tcpsvd, Kind::Inetd].into_iter().filter(|kind| kind.is_here()));
    }
    let servers: Vec<Server> = kinds.iter().filter_map(|&kind| start(kind, &place)).collect();
    rounds::run(&servers, &plan)?;
    let running: Vec<Kind> = servers.iter().map(|server| server.kind).collect();
    drop(servers);
    standing::run(&running, &place, plan.rounds)?;
    match running.contains(&Kind::Oxinetd) {
        true => Ok(()),
        false => Err("oxinetd itself was not measured".into()),
    }
}

/// A server that doesn't start is said and left out; the others still have their figures.
fn start(kind: Kind, place: &Place) -> Option<Server> {
    Server::start(kind, place, free_ports(if kind.serves_many() { 2 } else { 1 }))
        .inspect_err(|error| eprintln!("cost: {} is left out: {error}", kind.name()))
        .ok()
}

/// Compiles the handler, which must cost next to nothing: a few pages, no libc.
fn build_handler(directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let source = directory.join("handler.rs");
    let handler = directory.join("handler");
    std::fs::write(&source, include_str!("handler.rs"))?;
    let options = ["opt-level=s", "panic=abort", "relocation-model=static", "strip=symbols"];
    let linker = ["-nostartfiles", "-nostdlib", "-static", "-Wl,-z,noseparate-code,--build-id=none"];
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024"])
        .args(options.iter().flat_map(|option| ["-C".to_owned(), (*option).to_owned()]))
        .args(linker.iter().flat_map(|argument| ["-C".to_owned(), format!("link-arg={argument}")]))
        .arg("-o")
        .args([&handler, &source])
        .status()?;
    if status.success() { Ok(handler) } else { Err("the handler can't be compiled".into()) }
}

/// Those numbers of held handlers for which this machine has descriptors and processes; raises the limit for the first.
fn possible(levels: &[usize]) -> Result<Vec<usize>, Box<dyn Error>> {
    let wanted = (levels.iter().max().unwrap_or(&0) + SPARE) as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let files = getrlimit(Resource::RLIMIT_NOFILE)?.0 as usize;
    let processes = getrlimit(Resource::RLIMIT_NPROC)?.0 as usize;
    let pids: usize = std::fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse()?;
    let most = files.min(processes).min(pids).saturating_sub(SPARE);
    let (possible, not): (Vec<usize>, Vec<usize>) = levels.iter().partition(|&&level| level <= most);
    if !not.is_empty() {
        eprintln!("cost: {not:?} handlers are left out: the limits of this machine allow {most}");
    }
    Ok(possible)
}
