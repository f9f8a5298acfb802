//! The main job: a connection becomes a program, and its end is counted.

use crate::support::{Daemon, ask_text, free_port};

#[test]
fn connection_becomes_a_program_and_its_exit_is_counted() {
    let port = free_port();
    let daemon = Daemon::start(&format!("services: {{ cat: {{ listen: {port}, program: /bin/cat }} }}"));
    assert_eq!(ask_text(port, "hello\n"), "hello\n");
    daemon.wait_idle();
    let status = daemon.status();
    assert_eq!(status["services"]["cat"]["accepted"], 1);
    assert_eq!(status["services"]["cat"]["exits"]["success"], 1);
    assert_eq!(status["audit"], serde_json::json!([]));
}
