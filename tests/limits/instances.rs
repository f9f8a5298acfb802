//! `instances` of a service, of a source and of the daemon: what a refused client sees, which clients wait, and
//! which of them gets the place that becomes free.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use serde_json::json;

use crate::support::{
    Daemon, Setup, ask, ask_text, connect, connect_from, echo, free_port, hold, listeners, put_program, read_all,
    services, wait_for, wait_until,
};

#[test]
fn refused_client_sees_reset_close_or_text() {
    let keys = |refuse: &str| format!("program: /bin/cat, instances: 1, when_full: refuse, banner: b, {refuse}");
    let ([reset, close, text], table) = services([
        ("reset", &keys("enabled: true")),
        ("close", &keys("refuse: close")),
        ("text", &keys("refuse: { text: \"come back later\\n\" }")),
    ]);
    let daemon = Daemon::start(&table);
    let session = |port| {
        let mut stream = connect(port);
        stream.read_exact(&mut [0]).unwrap();
        stream
    };
    let mut held = [session(reset), session(close), session(text)];
    assert_eq!(connect(reset).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(read_all(connect(close)), b"");
    assert_eq!(read_all(connect(text)), b"come back later\n");
    // The text arrives although the client has sent something that was not read.
    assert_eq!(ask(connect(text), b"").unwrap(), b"come back later\n");
    held.iter_mut().for_each(|stream| echo(stream, "alive\n"));
    let status = daemon.status();
    for (service, count) in [("reset", 1), ("close", 1), ("text", 2)] {
        assert_eq!(status["services"][service]["refused"], json!({ "service_instances": count }));
    }
}

#[test]
fn full_service_queues_clients_until_a_handler_ends() {
    let ([port, other], table) = services([("cat", "program: /bin/cat, instances: 2"), ("other", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let (one, two) = (hold(port), hold(port));
    let (mut three, mut four) = (connect(port), connect(port));
    wait_until("the service to be full", || listeners(&daemon.status(), "cat") == ["paused service_instances"]);
    assert_eq!(ask_text(other, "others go on\n"), "others go on\n");
    assert_eq!(daemon.count("cat"), 2);
    drop(one);
    echo(&mut three, "third\n");
    assert_eq!(daemon.count("cat"), 2);
    drop(two);
    echo(&mut four, "fourth\n");
    assert_eq!((daemon.count("cat"), &daemon.status()["services"]["cat"]["peak"]), (2, &json!(2)));
}

#[test]
fn source_limit_leaves_other_sources_served() {
    let ([port], table) = services([("cat", "program: /bin/cat, per_source: { instances: 2 }, refuse: close")]);
    let daemon = Daemon::start(&table);
    let from = |source: u8| connect_from([127, 0, 0, source], port).unwrap();
    let hold = |source: u8| {
        let mut stream = from(source);
        echo(&mut stream, "x");
        stream
    };
    let mut held: Vec<_> = (1..=5).flat_map(|source| [hold(source), hold(source)]).collect();
    for source in 1..=5 {
        assert_eq!(read_all(from(source)), b"");
    }
    assert_eq!(daemon.count("cat"), 10);
    drop(held.swap_remove(0));
    wait_until("one end", || daemon.count("cat") == 9);
    held.push(hold(1));
    assert_eq!(read_all(from(1)), b"");
    assert_eq!(daemon.status()["services"]["cat"]["refused"], json!({ "source_instances": 6 }));
    held.clear();
    daemon.wait_idle();
    assert_eq!(daemon.status()["sources"], json!([]));
}

#[test]
fn prefix_makes_many_addresses_one_source() {
    let keys = "program: /bin/cat, refuse: close, per_source: { instances: 1, prefix: { ipv4: 24 } }";
    let ([port], table) = services([("cat", keys)]);
    let _daemon = Daemon::start(&table);
    let mut first = connect_from([127, 0, 0, 1], port).unwrap();
    echo(&mut first, "x");
    assert_eq!(read_all(connect_from([127, 0, 0, 200], port).unwrap()), b"");
    echo(&mut connect_from([127, 0, 1, 1], port).unwrap(), "x");
}

#[test]
fn daemon_limit_is_over_all_services() {
    let ([queue, refuse], table) =
        services([("queue", "program: /bin/cat"), ("refuse", "program: /bin/cat, when_full: refuse, refuse: close")]);
    let daemon = Daemon::start(&format!("daemon: {{ instances: 2 }}\n{table}"));
    let (one, _two) = (hold(queue), hold(refuse));
    assert_eq!(read_all(connect(refuse)), b"");
    let mut waiting = connect(queue);
    wait_until("the daemon to be full", || listeners(&daemon.status(), "queue") == ["paused daemon_instances"]);
    let status = daemon.status();
    assert_eq!((&status["handlers"], &status["instances"]), (&json!(2), &json!(2)));
    assert_eq!(status["services"]["refuse"]["refused"], json!({ "daemon_instances": 1 }));
    drop(one);
    echo(&mut waiting, "in\n");
}

#[test]
fn client_queued_by_the_daemon_limit_is_served_when_a_handler_of_another_service_ends() {
    let ([queue, other], table) = services([("queue", "program: /bin/cat"), ("other", "program: /bin/cat")]);
    let daemon = Daemon::start(&format!("daemon: {{ instances: 1 }}\n{table}"));
    let session = hold(other);
    let mut waiting = connect(queue);
    wait_until("the daemon to be full", || listeners(&daemon.status(), "queue") == ["paused daemon_instances"]);
    drop(session);
    echo(&mut waiting, "in\n");
}

#[test]
fn program_that_cannot_be_started_refuses_and_leaves_no_count() {
    let daemon_folder = Setup::new("services: {}");
    let program = daemon_folder.folder.path().join("gone");
    put_program(&program, fs::read("/bin/cat").unwrap());
    let port = free_port();
    daemon_folder
        .write(&format!("services: {{ gone: {{ listen: {port}, refuse: close, program: {} }} }}", program.display()));
    let daemon = daemon_folder.start();
    fs::remove_file(&program).unwrap();
    assert_eq!(read_all(connect(port)), b"");
    let service = daemon.status()["services"]["gone"].clone();
    assert_eq!(service["spawn_failures"], json!({ "exec": 1 }));
    assert_eq!((&service["handlers"], &service["accepted"]), (&json!(0), &json!(0)));
    assert_eq!((daemon.zombies(), daemon.status()["audit"].clone()), (0, json!([])));
    put_program(&program, fs::read("/bin/cat").unwrap());
    let answer = wait_for("the program", || ask(connect(port), b"there again").ok());
    assert_eq!(answer, b"there again");
}

#[test]
fn endpoints_of_a_service_share_one_count() {
    let (one, two) = (free_port(), free_port());
    let table = format!("services: {{ cat: {{ listen: [{one}, 127.0.0.1:{two}], program: /bin/cat, instances: 2 }} }}");
    let daemon = Daemon::start(&table);
    let (_first, second) = (hold(one), hold(two));
    let (mut third, mut fourth): (TcpStream, TcpStream) = (connect(one), connect(two));
    let full = ["paused service_instances", "paused service_instances"];
    wait_until("the service to be full", || listeners(&daemon.status(), "cat") == full);
    drop(second);
    // One of the two gets the place.
    wait_until("one of the two", || daemon.status()["services"]["cat"]["accepted"] == 3);
    // On a busy machine the other one may not have been looked at since, where no client waits.
    let again = |status: &serde_json::Value| listeners(status, "cat").contains(&full[0].to_owned());
    wait_until("the service to be full again", || again(&daemon.status()));
    assert_eq!(daemon.count("cat"), 2);
    daemon.change(&table.replace("instances: 2", "instances: 3"));
    echo(&mut third, "in\n");
    echo(&mut fourth, "in\n");
}
