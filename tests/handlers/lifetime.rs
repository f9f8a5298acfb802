//! `lifetime`: a handler that has had its time is ended, with everything that it has started.

use serde_json::json;

use crate::support::{Daemon, connect, read_all, services};

#[test]
fn lifetime_ends_a_handler_and_its_process_group() {
    let ([port], table) = services([("slow", "lifetime: 200ms, program: [/bin/sh, -c, 'sleep 1000; echo late']")]);
    let daemon = Daemon::start(&table);
    assert_eq!(read_all(connect(port)), b"");
    daemon.wait_idle();
    assert_eq!(daemon.status()["services"]["slow"]["exits"], json!({ "success": 0, "failure": 0, "signal": 1 }));
}

#[test]
fn handler_that_ignores_sigterm_is_killed() {
    // On a busy machine the shell may need longer until it ignores the signal.
    assert!(["100ms", "2s", "20s"].into_iter().any(deaf_handler_is_killed), "it was never ready in time");
}

/// False if the handler was ended before it could ignore SIGTERM.
fn deaf_handler_is_killed(lifetime: &str) -> bool {
    // Ignored signals stay ignored in the programs that a shell starts.
    let shell = "trap \"\" TERM; echo ready; while :; do sleep 1000; done";
    let ([port], table) = services([("deaf", &format!("lifetime: {lifetime}, program: [/bin/sh, -c, '{shell}']"))]);
    let daemon = Daemon::start(&table);
    let heard = read_all(connect(port));
    daemon.wait_idle();
    assert_eq!(daemon.status()["services"]["deaf"]["exits"], json!({ "success": 0, "failure": 0, "signal": 1 }));
    if heard.is_empty() {
        return false;
    }
    assert_eq!(heard, b"ready\n");
    daemon.wait_log(&["kill", "service=deaf", "signal=SIGKILL"]);
    true
}
