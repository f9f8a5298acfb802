//! Reload is all or nothing: a broken table changes nothing, and what is the same in the new table goes on as if nothing
//! had happened: sessions, sockets with the clients that wait in them, counts.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{
    self, Daemon, ask, ask_text, connect, connect_from, echo, free_port, has_ipv6, hold, installed, listeners,
    listening, services, skip, stop_listening, wait_for, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// A table with one service `cat`.
fn cat(port: u16, more: &str) -> String {
    format!("services:\n  cat: {{ listen: {port}, program: /bin/cat{more} }}\n")
}

#[test]
fn broken_table_changes_nothing_and_is_reported_with_its_place() {
    let port = free_port();
    let daemon = Daemon::start(&cat(port, ""));
    let mut session = hold(port);
    let before = (listening(port), daemon.settled_descriptors());
    let broken = [
        ("services:\n  cat: {\n", ":3:1: "),
        (&cat(port, ", instnces: 3")[..], ":2:44: services.cat.instnces: "),
        (&cat(port, ", user: no-such-user"), ":2:50: services.cat.user: "),
        ("services:\n  cat:\n    listen: 1\n    program: /no/such/program\n", ":4:14: services.cat.program: "),
        ("include: [absent.yaml]\n", ":1:11: "),
    ];
    for (number, (table, place)) in broken.into_iter().enumerate() {
        // The place of a value after `  cat: { listen: PORT, program: /bin/cat, KEY: ` depends on the port's digits.
        assert_eq!(port.to_string().len(), 5);
        daemon.write(table);
        let error = daemon.reload().expect_err(table);
        assert!(error.contains(&format!("table.yaml{place}")), "{error}");
        daemon.wait_log(&[&format!("table.yaml{place}")]);
        let reloads = &daemon.status()["reloads"];
        assert_eq!(*reloads, json!({ "done": 0, "failed": number + 1 }));
        echo(&mut session, "still\n");
        assert_eq!(ask_text(port, "new\n"), "new\n");
    }
    wait_until("the new handlers' end", || daemon.count("cat") == 1);
    assert_eq!((listening(port), daemon.descriptors()), before);
    daemon.change(&cat(port, ", instances: 3"));
}

#[test]
fn half_written_table_ends_no_service() {
    let (ports, table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    fs::write(daemon.path("table.yaml"), "").unwrap();
    assert!(daemon.reload().unwrap_err().contains("the file is empty"));
    assert_eq!(ask_text(ports[0], "still"), "still");
    // A table that is meant to be empty can say so.
    daemon.change("services: {}");
    assert_eq!(daemon.status()["services"], json!({}));
}

#[test]
fn session_survives_ten_reloads() {
    let (port, other) = (free_port(), free_port());
    let daemon = Daemon::start(&cat(port, ""));
    let mut session = hold(port);
    for round in 0..10 {
        // Each changes the service itself, and something beside it.
        let more = format!("  other{round}: {{ listen: {other}, program: /bin/cat }}\n");
        daemon.change(&format!("{}{more}", cat(port, &format!(", instances: {}", round + 2))));
        echo(&mut session, &format!("round {round}\n"));
        assert_eq!(daemon.count("cat"), 1);
    }
    assert_eq!(daemon.status()["reloads"], json!({ "done": 10, "failed": 0 }));
    drop(session);
    daemon.wait_idle();
}

#[test]
fn client_in_the_backlog_is_served_after_a_reload() {
    let port = free_port();
    let daemon = Daemon::start(&cat(port, ", instances: 1, when_full: queue"));
    let session = hold(port);
    let mut waiting = connect(port);
    wait_until("the service to be full", || listeners(&daemon.status(), "cat") == ["paused service_instances"]);
    daemon.change(&cat(port, ", instances: 1, when_full: queue, nice: 1"));
    wait_until("the service to be full again", || listeners(&daemon.status(), "cat") == ["paused service_instances"]);
    assert_eq!(daemon.count("cat"), 1);
    drop(session);
    echo(&mut waiting, "at last\n");
}

#[test]
fn limits_take_effect_on_the_next_connection() {
    let port = free_port();
    let daemon = Daemon::start(&cat(port, ", instances: 4, when_full: refuse, refuse: close"));
    let mut held = vec![hold(port), hold(port), hold(port)];
    daemon.change(&cat(port, ", instances: 2, when_full: refuse, refuse: close"));
    assert_eq!(read_all(connect(port)), b"", "lowered below what lives: no new client");
    assert_eq!(daemon.count("cat"), 3, "and no handler is ended");
    held.iter_mut().for_each(|stream| echo(stream, "x"));
    held.truncate(1);
    wait_until("two ends", || daemon.count("cat") == 1);
    held.push(hold(port));
    assert_eq!(read_all(connect(port)), b"");
    daemon.change(&cat(port, ", instances: 3, when_full: refuse, refuse: close"));
    held.push(hold(port));
    assert_eq!(read_all(connect(port)), b"");
    daemon.change(&cat(port, ", instances: unlimited, per_source: { instances: 4 }, refuse: close"));
    held.push(hold(port));
    assert_eq!(read_all(connect(port)), b"");
    echo(&mut connect_from([127, 0, 0, 2], port).unwrap(), "another source\n");
}

fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn raised_limit_serves_waiting_clients() {
    let port = free_port();
    let daemon = Daemon::start(&cat(port, ", instances: 1"));
    let _session = hold(port);
    let (mut second, mut third) = (connect(port), connect(port));
    wait_until("the service to be full", || listeners(&daemon.status(), "cat") == ["paused service_instances"]);
    daemon.change(&cat(port, ", instances: 3"));
    echo(&mut second, "in\n");
    echo(&mut third, "in\n");
    assert_eq!(daemon.count("cat"), 3);
}

#[test]
fn removed_service_stops_listening_and_its_handlers_stay_counted() {
    let ([port, other], table) = services([("cat", "program: /bin/cat"), ("other", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let (mut one, mut two) = (hold(port), hold(port));
    daemon.change(&format!("services: {{ other: {{ listen: {other}, program: /bin/cat }} }}"));
    assert_eq!(listening(port), []);
    assert_eq!(TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for stream in [&mut one, &mut two] {
        echo(stream, "alive\n");
    }
    let status = daemon.status();
    assert_eq!((&status["services"]["cat"]["listed"], daemon.count("cat")), (&json!(false), 2));
    drop(one);
    wait_until("the first end", || daemon.count("cat") == 1);
    drop(two);
    wait_until("the service to be forgotten", || daemon.status()["services"].get("cat").is_none());
    daemon.wait_idle();
    assert_eq!(daemon.status()["audit"], json!([]));
}

#[test]
fn service_that_comes_back_still_counts_its_handlers() {
    let (port, other) = (free_port(), free_port());
    let daemon = Daemon::start(&cat(port, ""));
    let session = hold(port);
    daemon.change(&format!("services: {{ other: {{ listen: {other}, program: /bin/cat }} }}"));
    assert_eq!(daemon.count("cat"), 1);
    daemon.change(&cat(port, ", instances: 2, when_full: refuse, refuse: close"));
    assert_eq!(daemon.count("cat"), 1);
    let _second = hold(port);
    assert_eq!(read_all(connect(port)), b"", "the old handler has one of the two places");
    drop(session);
    wait_until("the old handler's end", || daemon.count("cat") == 1);
    let _third = hold(port);
    assert_eq!(daemon.status()["audit"], json!([]));
}

#[test]
fn disabled_service_is_treated_as_removed() {
    let port = free_port();
    let daemon = Daemon::start(&cat(port, ""));
    let mut session = hold(port);
    daemon.change(&cat(port, ", enabled: false"));
    assert_eq!(listening(port), []);
    echo(&mut session, "alive\n");
    daemon.change(&cat(port, ""));
    assert_eq!(ask_text(port, "back\n"), "back\n");
    assert_eq!(daemon.status()["services"]["cat"]["listed"], true);
}

/// A service that takes one datagram, writes it to a file, and lives until FOLDER/go is there.
fn taker(port: u16, more: &str) -> String {
    let shell = "dd bs=512 count=1 >> FOLDER/taken; while [ ! -e FOLDER/go ]; do sleep 0.01; done";
    format!("services: {{ taker: {{ listen: udp4/127.0.0.1:{port}, program: [/bin/sh, -c, '{shell}']{more} }} }}")
}

#[test]
fn lent_socket_comes_back_after_a_reload() {
    let port = free_port();
    let daemon = Daemon::start(&taker(port, ""));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = || fs::read_to_string(daemon.path("taken")).unwrap_or_default();
    client.send_to(b"one ", ("127.0.0.1", port)).unwrap();
    wait_until("the first", || taken() == "one ");
    assert_eq!(listeners(&daemon.status(), "taker"), ["lent"]);
    daemon.change(&taker(port, ", nice: 1"));
    assert_eq!((listeners(&daemon.status(), "taker"), daemon.count("taker")), (vec!["lent".to_owned()], 1));
    // It arrives while the socket is lent, and is the next handler's.
    client.send_to(b"two ", ("127.0.0.1", port)).unwrap();
    fs::write(daemon.path("go"), "").unwrap();
    wait_until("the second", || taken() == "one two ");
    client.send_to(b"three", ("127.0.0.1", port)).unwrap();
    wait_until("the third", || taken() == "one two three");
    wait_until("idle", || listeners(&daemon.status(), "taker") == ["listening"] && daemon.count("taker") == 0);
}

#[test]
fn lent_socket_of_a_service_without_wait_accepts_when_it_is_back() {
    let port = free_port();
    let shell = "while [ ! -e FOLDER/go ]; do sleep 0.01; done";
    let waiting = format!("services: {{ one: {{ listen: {port}, wait: true, program: [/bin/sh, -c, '{shell}'] }} }}");
    let accepting = format!("services: {{ one: {{ listen: {port}, program: /bin/cat }} }}");
    let daemon = Daemon::start(&waiting);
    let mut client = connect(port);
    wait_until("the loan", || listeners(&daemon.status(), "one") == ["lent"]);
    let socket = listening(port);
    daemon.change(&accepting);
    assert_eq!(listeners(&daemon.status(), "one"), ["lent"]);
    fs::write(daemon.path("go"), "").unwrap();
    // The handler has accepted no client, so this one still waits, and is served by the new program.
    echo(&mut client, "by cat\n");
    assert_eq!(ask_text(port, "and so on\n"), "and so on\n");
    assert_eq!(listening(port), socket);

    fs::remove_file(daemon.path("go")).unwrap();
    daemon.change(&waiting);
    let _next = connect(port);
    wait_until("the next loan", || listeners(&daemon.status(), "one") == ["lent"]);
    fs::write(daemon.path("go"), "").unwrap();
}

#[test]
fn renamed_service_keeps_its_socket() {
    let port = free_port();
    let daemon = Daemon::start(&cat(port, ", instances: 1"));
    let (mut session, socket) = (hold(port), listening(port));
    let mut waiting = connect(port);
    daemon.change(&cat(port, "").replace("cat:", "renamed:"));
    assert_eq!(listening(port), socket);
    echo(&mut waiting, "by the new name\n");
    echo(&mut session, "by the old name\n");
    assert_eq!((daemon.count("cat"), daemon.count("renamed")), (1, 1));
}

#[test]
fn endpoint_changes_without_refusing_a_client() {
    if !has_ipv6() {
        return skip("no IPv6 here, so no dual-stack sockets");
    }
    let port = free_port();
    let with =
        |listen: &str| format!("services: {{ cat: {{ listen: {listen}, program: /bin/cat, instances: unlimited }} }}");
    let (all, v4) = (with(&format!("'{port}'")), with(&format!("tcp4/{port}")));
    let (host, hosts) = (with(&format!("127.0.0.1:{port}")), with(&format!("[127.0.0.1:{port}, 127.0.0.2:{port}]")));
    let daemon = Daemon::start(&all);
    let (mut session, stop) = (hold(port), AtomicBool::new(false));
    thread::scope(|scope| {
        // A client that was in the old socket's backlog is reset with it; but no client may find the port closed.
        let client = || {
            while !stop.load(Ordering::Relaxed) {
                let stream = TcpStream::connect(("127.0.0.1", port));
                assert_ne!(stream.as_ref().err().map(std::io::Error::kind), Some(ErrorKind::ConnectionRefused));
                let _ = stream.and_then(|stream| ask(stream, b"x"));
            }
        };
        let client = scope.spawn(client);
        // Also when an assertion fails.
        let end = Raise(&stop);
        for table in [&v4, &all, &host, &v4, &host, &hosts, &all, &hosts, &v4, &all] {
            daemon.change(table);
            assert_eq!(listening(port).len(), if table == &hosts { 2 } else { 1 }, "{table}");
            assert_eq!(ask_text(port, "new\n"), "new\n", "{table}");
        }
        drop(end);
        client.join().unwrap();
    });
    echo(&mut session, "old\n");
}

/// Raises a flag when it is dropped.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn taken_port_fails_the_whole_reload() {
    let (port, other, free) = (free_port(), free_port(), free_port());
    let daemon = Daemon::start(&cat(port, ""));
    let mut session = hold(port);
    let before = daemon.settled_descriptors();
    let foreign = TcpListener::bind(("127.0.0.1", other)).unwrap();
    let table = format!(
        "services: {{ a: {{ listen: {free}, program: /bin/cat }}, b: {{ listen: {other}, program: /bin/cat }} }}"
    );
    daemon.write(&table);
    let error = daemon.reload().unwrap_err();
    assert!(error.contains("services.b.listen: ") && error.contains("in use"), "{error}");
    assert_eq!(listening(free), [], "half of the new table is open");
    assert_eq!((listening(port).len(), daemon.descriptors()), (1, before));
    echo(&mut session, "old\n");
    assert_eq!(ask_text(port, "new\n"), "new\n");
    stop_listening(foreign);
    daemon.change(&table);
    assert_eq!((ask_text(free, "a"), ask_text(other, "b")), ("a".to_owned(), "b".to_owned()));
}

#[test]
fn storm_of_reloads_ends_with_the_last_table_in_force() {
    let ports: [u16; 3] = std::array::from_fn(|_| free_port());
    let table = |number: usize| {
        let own = format!("  own{number}: {{ listen: {}, program: /bin/cat }}\n", ports[1 + number % 2]);
        format!("{}{own}", cat(ports[0], &format!(", instances: {}", 5 + number)))
    };
    let daemon = Daemon::start(&table(0));
    let mut session = hold(ports[0]);
    thread::scope(|scope| {
        // Not by rename: now and then the daemon finds an empty file, or half of one, or one with an error.
        let path = daemon.path("table.yaml");
        let writer = scope.spawn(move || {
            for number in 0..300 {
                let text = if number % 5 == 4 { "services: { cat: { listen: x } }".to_owned() } else { table(number) };
                fs::write(&path, text).unwrap();
            }
        });
        for _ in 0..100 {
            kill(Pid::from_raw(daemon.pid), Signal::SIGHUP).unwrap();
            daemon.notified();
            thread::yield_now();
        }
        writer.join().unwrap();
    });
    daemon.write(&table(1000));
    // Answers to earlier signals may still be on their way.
    wait_for("the last table", || {
        let _ = daemon.reload();
        let status = daemon.status();
        (status["services"]["cat"]["instances"] == 1005).then_some(())
    });
    echo(&mut session, "through the storm\n");
    assert_eq!((listening(ports[1]).len(), listening(ports[2]).len()), (1, 0));
    assert_eq!(ask_text(ports[1], "own\n"), "own\n");
    drop(session);
    daemon.wait_idle();
    let status = daemon.status();
    let names: Vec<_> = status["services"].as_object().unwrap().keys().cloned().collect();
    assert_eq!((names, &status["audit"]), (vec!["cat".to_owned(), "own1000".to_owned()], &json!([])));
    let fresh = Daemon::start(
        &table(1000)
            .replace(&ports[0].to_string(), &free_port().to_string())
            .replace(&ports[1].to_string(), &free_port().to_string()),
    );
    assert_eq!(daemon.descriptors(), fresh.descriptors(), "descriptors have been leaked");
}

#[test]
fn log_file_is_reopened() {
    let port = free_port();
    let daemon = Daemon::start(&cat(port, ""));
    assert_eq!(ask_text(port, "x"), "x");
    daemon.wait_log(&["accept"]);
    fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
    daemon.change(&cat(port, ""));
    daemon.wait_idle();
    let old = fs::read_to_string(daemon.path("log.1")).unwrap();
    assert_eq!(ask_text(port, "y"), "y");
    daemon.wait_log(&["accept"]);
    assert_eq!(fs::read_to_string(daemon.path("log.1")).unwrap(), old);
}

#[test]
fn options_of_a_kept_socket_change_with_the_table() {
    let daemon = Daemon::start("services: { cat: { listen: 'unix:FOLDER/socket', program: /bin/cat } }");
    let mode = || std::os::unix::fs::PermissionsExt::mode(&fs::metadata(daemon.path("socket")).unwrap().permissions());
    assert_eq!(mode() & 0o777, 0o666);
    daemon.change("services: { cat: { listen: 'unix:FOLDER/socket', socket: { mode: '0600' }, program: /bin/cat } }");
    assert_eq!(mode() & 0o777, 0o600);
}

#[test]
fn wait_handler_that_accepts_survives_a_reload() {
    let Some(python) = installed("python3") else {
        return skip("no python3, which accepts for us");
    };
    let port = free_port();
    let code = "import socket\nl = socket.socket(fileno=0)\nfor _ in range(2):\n  c, _ = l.accept()\n  \
                c.sendall(c.recv(99))\n  c.close()\n";
    let table = |more: &str| {
        let program = serde_json::to_string(&[python.to_str().unwrap(), "-c", code]).unwrap();
        format!("services: {{ two: {{ listen: {port}, wait: true, program: {program}{more} }} }}")
    };
    let daemon = Daemon::start(&table(""));
    assert_eq!(ask(connect(port), b"one").unwrap(), b"one");
    let first = wait_for("the handler", || daemon.children().first().copied());
    daemon.change(&table(", umask: '077'"));
    assert_eq!(daemon.children(), [first]);
    assert_eq!(ask(connect(port), b"two").unwrap(), b"two");
    wait_until("its end", || daemon.count("two") == 0);
    // The next one is another process, by the new table.
    assert_eq!(ask(connect(port), b"three").unwrap(), b"three");
    let second = wait_for("the next handler", || daemon.children().first().copied());
    assert_ne!(first, second);
    let status = fs::read_to_string(format!("/proc/{second}/status")).unwrap();
    assert_eq!(support::field(&status, "Umask"), "0077");
}
