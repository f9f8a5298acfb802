//! What the benchmarks share: servers under test and a handler that costs next to nothing, the load and the floods that
//! they are put under, turns taken in rounds, and figures for people.
//!
//! Nothing is asserted here, and no figure means anything on another machine unless it is a ratio.
#![allow(dead_code, reason = "a module of several programs, none of which uses all of it")]

pub(crate) mod closing;
pub(crate) mod figures;
pub(crate) mod kind;
pub(crate) mod load;
pub(crate) mod minimal;
pub(crate) mod options;
pub(crate) mod process;
pub(crate) mod served;
pub(crate) mod server;
pub(crate) mod standing;
pub(crate) mod turns;
pub(crate) mod visits;

use std::error::Error;
use std::ffi::CString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use kind::Kind;

/// First argument of a benchmark when it is to be one of the servers: `serve KIND PORT HANDLER`.
const SERVE: &str = "serve";

/// Descriptors that a benchmark and a server need beside those of held connections.
const SPARE: usize = 500;

/// Becomes the server that the arguments name, or does `measure`; what a benchmark's `main` returns.
pub(crate) fn serve_or(measure: impl FnOnce() -> Result<(), Box<dyn Error>>) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [SERVE, kind, port, handler] => serve(kind, port, handler),
        _ => measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(kind: &str, port: &str, handler: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    let handler = CString::new(handler)?;
    let serve = match kind {
        kind if kind == Kind::Closing.name() => closing::serve,
        kind if kind == Kind::Minimal.name() => minimal::plain,
        kind if kind == Kind::Session.name() => minimal::session,
        _ => minimal::design,
    };
    Ok(serve(listener, &handler)?)
}

/// A place for the files of one run, and the handler in it.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) handler: PathBuf,
    _temporary: TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let temporary = tempfile::tempdir()?;
        let directory = temporary.path().to_owned();
        Ok(Self { handler: build_handler(&directory)?, directory, _temporary: temporary })
    }
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
pub(crate) fn possible(levels: &[usize]) -> Result<Vec<usize>, Box<dyn Error>> {
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
        eprintln!("{not:?} handlers are left out: the limits of this machine allow {most}");
    }
    Ok(possible)
}
