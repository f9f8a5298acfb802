//! `lifetime`: a handler that has had its time is ended, with everything that it has started.

use serde_json::json;

use crate::support::{Daemon, connect, read_all, services};

#[test]
fn a_lifetime_ends_a_handler_and_those_it_has_started() {
    let ([port], table) = services([("slow", "lifetime: 200ms, program: [/bin/sh, -c, 'sleep 1000; echo late']")]);
    let daemon = Daemon::start(&table);
    assert_eq!(read_all(connect(port)), b"");
    daemon.wait_idle();
    assert_eq!(daemon.status()["services"]["slow"]["exits"], json!({ "success": 0, "failure": 0, "signal": 1 }));
}

#[test]
fn a_handler_that_ignores_sigterm_is_killed() {
    // Ignored signals stay ignored in the programs that a shell starts.
    let shell = "trap \"\" TERM; echo ready; while :; do sleep 1000; done";
    let ([port], table) = services([("deaf", &format!("lifetime: 100ms, program: [/bin/sh, -c, '{shell}']"))]);
    let daemon = Daemon::start(&table);
    assert_eq!(read_all(connect(port)), b"ready\n");
    daemon.wait_idle();
    assert_eq!(daemon.status()["services"]["deaf"]["exits"], json!({ "success": 0, "failure": 0, "signal": 1 }));
}
