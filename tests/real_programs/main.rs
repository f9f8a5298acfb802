//! Real programs as handlers, each driven by its own client, and every byte compared.
//!
//! What is not installed is skipped with a word on standard error; so is what needs root when the tests are not run as
//! root. Every test has a daemon of its own, and its files in that daemon's folder. When the clients have left,
//! nothing may be left of the handlers: no process, no zombie, no count.

#[path = "../support/mod.rs"]
mod support;

mod distcc;
mod ftp;
mod git;
mod rsync;
mod small;
mod ssh;
mod talk;
mod tcp_wait;
mod tftp;

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv6Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, installed, is_root, skip, wait_until};

/// Are these installed? Says what is not.
fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| installed(program).is_none()).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {missing:?}"));
    }
    missing.is_empty()
}

/// The same for programs whose handlers must be started by root.
fn have_as_root(programs: &[&str]) -> bool {
    if !is_root() {
        skip(&format!("only root can run {programs:?}"));
    }
    is_root() && have(programs)
}

/// Is there an IPv6 loopback?
fn have_ipv6() -> bool {
    let have = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !have {
        skip("no IPv6 here");
    }
    have
}

/// Where an installed program is.
fn path_of(program: &str) -> String {
    installed(program).unwrap().to_str().unwrap().to_owned()
}

/// The variable by which the handlers of a test, and what they leave behind, are known.
const MARK: &str = "HANDLER_OF";

/// Starts a daemon with these services, in block style.
fn serve(services: &str) -> Daemon {
    Daemon::start(&format!("defaults: {{ env: {{ {MARK}: FOLDER }} }}\nservices:\n{services}"))
}

/// A client that has a minute or two, a clean environment and the daemon's folder to work in.
fn client(daemon: &Daemon, program: &str) -> Command {
    let home = daemon.path("home");
    fs::create_dir_all(&home).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", program]).current_dir(daemon.folder.path());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home).env("LC_ALL", "C");
    command
}

/// Runs a command that must succeed: what it has written to standard output.
fn succeed(command: &mut Command) -> Vec<u8> {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

fn random(size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open("/dev/urandom").unwrap().take(size).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A new file with random bytes in the daemon's folder, readable for all: the bytes.
fn random_file(daemon: &Daemon, name: &str, size: u64) -> Vec<u8> {
    let bytes = random(size);
    let path = daemon.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &bytes).unwrap();
    bytes
}

/// Does the file hold these bytes? Not `assert_eq`, which would print them.
fn assert_file(path: &Path, bytes: &[u8]) {
    let found = fs::read(path).unwrap();
    assert!(found == bytes, "{} of {} bytes is not what was sent: {} bytes", path.display(), found.len(), bytes.len());
}

/// Gives a file or folder to the user of the handlers.
fn give_to(user: &str, path: &Path) {
    if is_root() {
        succeed(Command::new("chown").args(["-R", user]).arg(path));
    }
}

/// What the daemon knows of a service.
fn books(daemon: &Daemon, service: &str) -> Value {
    daemon.status()["services"][service].clone()
}

/// The state of a service's only listener.
fn listener(daemon: &Daemon, service: &str) -> Value {
    books(daemon, service)["listeners"][0]["state"].clone()
}

/// The only live handler.
fn only_handler(daemon: &Daemon) -> i32 {
    let children = daemon.children();
    assert_eq!(children.len(), 1);
    children[0]
}

/// Ends a handler that would stay for minutes, and waits until the daemon has its socket back.
fn end_handler(daemon: &Daemon, pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_until("the handler's end", || !daemon.children().contains(&pid) && daemon.zombies() == 0);
}

/// Every client has left: so must every handler, and whatever it has started.
fn all_gone(daemon: &Daemon) {
    daemon.wait_idle();
    wait_until("the handlers' own children to be gone", || left_over(daemon).is_empty());
    let status = daemon.status();
    assert_eq!(status["audit"], json!([]));
    assert_eq!(status["sources"], json!([]));
    assert_eq!(daemon.zombies(), 0);
    assert_eq!(daemon.children(), Vec::<i32>::new());
}

/// Processes that have inherited the mark of this daemon's handlers.
fn left_over(daemon: &Daemon) -> Vec<String> {
    let mark = format!("{MARK}={}\0", daemon.folder.path().display());
    let marked = |environment: &[u8]| environment.windows(mark.len()).any(|window| window == mark.as_bytes());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let marked = processes.filter(|process| fs::read(process.path().join("environ")).is_ok_and(|all| marked(&all)));
    marked.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}
