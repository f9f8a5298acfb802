//! What the kernel refuses, one connection pays for: it is refused and reported, and everything else goes on.
//!
//! strace(1) makes system calls fail on demand; descriptors, process ids, memory, a disk and a pipe really run out; the
//! clock is set; a handler is stopped before it is one, and the daemon itself under load. Afterwards the books are as if
//! nothing had happened, and nothing has been leaked.

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod injected;
mod limits;
mod logs;
mod pids;
mod processes;
mod storms;

use std::process::Command;

use serde_json::{Value, json};
use support::{Daemon, OXINETD, Setup, ask, ask_text, children_of, connect, services, wait_for};

/// A daemon that is the child of another program.
fn start_below(prefix: &[&str], table: &str) -> Daemon {
    below(Setup::run_by(&[prefix, &[OXINETD]].concat(), table).start())
}

fn below(mut daemon: Daemon) -> Daemon {
    daemon.pid = wait_for("the daemon itself", || children_of(daemon.pid).first().copied());
    daemon
}

/// Two services that repeat what they hear; `keys` are more keys of the first.
fn pair(keys: &str) -> ([u16; 2], String) {
    services([("one", &format!("program: /bin/cat, {keys}")), ("other", "program: /bin/cat")])
}

/// What a client is sent; nothing if it is refused.
fn try_ask(port: u16) -> Vec<u8> {
    ask(connect(port), b"x").unwrap_or_default()
}

/// Both services work (again), and the books agree with the kernel's: no handler is left.
fn settle(daemon: &Daemon, ports: &[u16]) -> Value {
    for &port in ports {
        assert_eq!(ask_text(port, "after"), "after");
    }
    daemon.wait_idle();
    let status = daemon.status();
    assert_eq!((&status["audit"], &status["sources"]), (&json!([]), &json!([])));
    assert_eq!(
        (&status["services"]["one"]["handlers"], &status["services"]["other"]["handlers"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(daemon.zombies(), 0);
    status
}

/// What the operator's tool says, as JSON; for daemons whose log says nothing.
fn ctl(daemon: &Daemon, question: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oxinetctl"));
    command.arg("--socket").arg(daemon.path("control.sock")).args(["--format", "json", question]);
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}
