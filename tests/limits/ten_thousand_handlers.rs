//! Many handlers that live side by side and end at once.

use std::net::TcpStream;

use crate::support::{Daemon, connect_from, free_port, skip, wait_until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde_json::json;

/// Handlers that are of no use but to be there: they read until there is no more.
const TABLE: &str = "daemon: { instances: 20000 }
defaults: { instances: unlimited, log: { accept: false, exit: false } }
services: { many: { listen: PORT, program: /bin/cat, socket: { backlog: 4096 } } }";

/// Clients of 250 sources in turn.
fn hold(port: u16, number: usize) -> Vec<TcpStream> {
    let source = |index: usize| [127, 0, 1, u8::try_from(1 + index % 250).unwrap()];
    (0..number).map(|index| connect_from(source(index), port).unwrap()).collect()
}

/// Holds `number` handlers, and ends all of them while the daemon stands still.
fn end_at_once(number: usize) {
    let port = free_port();
    let daemon = Daemon::start(&TABLE.replace("PORT", &port.to_string()));
    let clients = hold(port, number);
    wait_until("all handlers", || daemon.children().len() == number);
    let status = daemon.status();
    assert_eq!(status["audit"], json!([]));
    assert_eq!(status["handlers"], number);
    assert_eq!(status["services"]["many"]["handlers"], number);
    assert_eq!(status["services"]["many"]["peak"], number);

    daemon.signal(Signal::SIGSTOP);
    drop(clients);
    wait_until("all handlers to have ended", || daemon.zombies() == number);
    daemon.signal(Signal::SIGCONT);
    daemon.wait_idle();

    let status = daemon.status();
    assert_eq!(status["audit"], json!([]));
    assert_eq!(status["sources"], json!([]));
    assert_eq!(status["services"]["many"]["handlers"], 0);
    assert_eq!(status["services"]["many"]["exits"], json!({ "success": number, "failure": 0, "signal": 0 }));
    assert!(status["longest_turn_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(daemon.zombies(), 0);
    println!("{number} handlers: longest turn {} s", status["longest_turn_seconds"]);
}

/// May this process and its children have so many descriptors?
fn descriptors(number: u64) -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    hard >= number && setrlimit(Resource::RLIMIT_NOFILE, number, hard).is_ok()
}

#[test]
fn five_hundred_handlers_end_at_once() {
    end_at_once(500);
}

#[test]
#[ignore = "needs 10,000 processes, and a minute"]
fn ten_thousand_handlers_end_at_once() {
    if descriptors(10_200) {
        end_at_once(10_000);
    } else {
        skip("ten thousand handlers need 10,200 open files; see ulimit -n");
    }
}
