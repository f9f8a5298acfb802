//! Services that lend their socket, and what a service does besides starting programs: limits and what those see who
//! meet them, banners, lifetimes, Unix sockets.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use crate::support::{
    Daemon, Setup, ask, ask_text, connect, connect_from, echo, free_port, has_ipv6, hold, installed, is_root,
    listeners, put_program, services, skip, stop_listening, wait_for, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::json;

/// Takes one datagram and writes it to a file.
const TAKER: &str = "program: [/bin/sh, -c, 'dd bs=512 count=1 >> FOLDER/taken']";

fn taken(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.path("taken")).unwrap_or_default()
}

#[test]
fn a_udp_service_is_served_again_and_again() {
    let port = free_port();
    let daemon = Daemon::start(&format!("services: {{ taker: {{ listen: udp/{port}, {TAKER} }} }}"));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (number, expected) in ["0 ", "0 1 ", "0 1 2 "].into_iter().enumerate() {
        client.send_to(format!("{number} ").as_bytes(), ("127.0.0.1", port)).unwrap();
        wait_until("the datagram", || taken(&daemon) == expected);
    }
    if has_ipv6() {
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.send_to(b"and six", ("::1", port)).unwrap();
        wait_until("the datagram", || taken(&daemon) == "0 1 2 and six");
    }
    daemon.wait_idle();
    let service = &daemon.status()["services"]["taker"];
    assert_eq!(service["accepted"], service["exits"]["success"]);
}

#[test]
fn datagrams_that_come_at_once_are_one_handlers_each() {
    let port = free_port();
    let daemon = Daemon::start(&format!("services: {{ taker: {{ listen: udp4/{port}, {TAKER} }} }}"));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    // All the same, as from a client who is not answered soon enough.
    for _ in 0..20 {
        client.send_to(b"x", ("127.0.0.1", port)).unwrap();
    }
    wait_until("all", || taken(&daemon).len() == 20);
    daemon.wait_idle();
    assert_eq!(daemon.status()["services"]["taker"]["accepted"], 20);
}

#[test]
fn a_tcp_wait_service_accepts_for_itself() {
    let Some(python) = installed("python3") else {
        return skip("no python3, which accepts for us");
    };
    let port = free_port();
    // Like in.tftpd it leaves the socket non-blocking, which the next handler must not find.
    let code = "import os, socket\nl = socket.socket(fileno=0)\nprint(os.get_blocking(0), file=open('FOLDER/seen', 'a'))\n\
                c, _ = l.accept()\nc.sendall(c.recv(99))\nos.set_blocking(0, False)\n";
    let program = serde_json::to_string(&[python.to_str().unwrap(), "-c", code]).unwrap();
    let daemon = Daemon::start(&format!("services: {{ one: {{ listen: {port}, wait: true, program: {program} }} }}"));
    for word in ["one", "two", "three"] {
        assert_eq!(ask_text(port, word), word);
    }
    daemon.wait_idle();
    assert_eq!(fs::read_to_string(daemon.path("seen")).unwrap(), "True\nTrue\nTrue\n");
    assert_eq!(daemon.status()["services"]["one"]["exits"], json!({ "success": 3, "failure": 0, "signal": 0 }));
}

#[test]
fn a_handler_that_takes_nothing_is_not_started_in_a_loop() {
    for program in ["/bin/true", "/bin/false"] {
        let port = free_port();
        let daemon = Daemon::start(&format!("services: {{ taker: {{ listen: udp4/{port}, program: {program} }} }}"));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"waiting", ("127.0.0.1", port)).unwrap();
        let ends = || {
            let exits = daemon.status()["services"]["taker"]["exits"].clone();
            exits["success"].as_u64().unwrap() + exits["failure"].as_u64().unwrap()
        };
        // It is tried again, after pauses.
        wait_until("three tries", || ends() >= 3);
        wait_until("a pause", || listeners(&daemon.status(), "taker") == ["paused backoff"]);
        // 100 + 200 + 400 ms have passed at the third; a loop without pauses would have made hundreds of them.
        assert!(ends() < 50, "{program}");
        daemon.change(&format!("services: {{ taker: {{ listen: udp4/{port}, {TAKER} }} }}"));
        wait_until("the datagram", || taken(&daemon) == "waiting");
        wait_until("listening", || listeners(&daemon.status(), "taker") == ["listening"]);
    }
}

#[test]
fn a_tcp_handler_that_takes_nothing_backs_off_too() {
    let port = free_port();
    let table = |keys: &str| format!("services: {{ one: {{ listen: {port}, {keys} }} }}");
    let daemon = Daemon::start(&table("wait: true, program: /bin/false"));
    let mut client = connect(port);
    wait_until("a pause", || listeners(&daemon.status(), "one") == ["paused backoff"]);
    daemon.change(&table("program: /bin/cat"));
    echo(&mut client, "served in the end\n");
}

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

fn read_all(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_banner_comes_before_the_handlers_first_word() {
    let ([port], table) = services([("cat", "banner: \"welcome\\r\\n\", program: /bin/cat")]);
    let _daemon = Daemon::start(&table);
    assert_eq!(ask_text(port, "hello\n"), "welcome\r\nhello\n");
}

#[test]
fn whoever_is_turned_away_sees_what_the_table_says() {
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
    // The text arrives although the client has sent something that nobody has read.
    assert_eq!(ask(connect(text), b"").unwrap(), b"come back later\n");
    held.iter_mut().for_each(|stream| echo(stream, "alive\n"));
    let status = daemon.status();
    for (service, count) in [("reset", 1), ("close", 1), ("text", 2)] {
        assert_eq!(status["services"][service]["refused"], json!({ "service_instances": count }));
    }
}

#[test]
fn a_full_service_keeps_clients_waiting_until_a_handler_ends() {
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
fn a_source_has_its_own_limit_and_takes_nothing_from_others() {
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
fn a_prefix_makes_many_addresses_one_source() {
    let keys = "program: /bin/cat, refuse: close, per_source: { instances: 1, prefix: { ipv4: 24 } }";
    let ([port], table) = services([("cat", keys)]);
    let _daemon = Daemon::start(&table);
    let mut first = connect_from([127, 0, 0, 1], port).unwrap();
    echo(&mut first, "x");
    assert_eq!(read_all(connect_from([127, 0, 0, 200], port).unwrap()), b"");
    echo(&mut connect_from([127, 0, 1, 1], port).unwrap(), "x");
}

#[test]
fn the_daemons_limit_is_over_all_services() {
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
fn the_end_of_another_services_handler_lets_in_who_waits_for_the_daemon() {
    let ([queue, other], table) = services([("queue", "program: /bin/cat"), ("other", "program: /bin/cat")]);
    let daemon = Daemon::start(&format!("daemon: {{ instances: 1 }}\n{table}"));
    let session = hold(other);
    let mut waiting = connect(queue);
    wait_until("the daemon to be full", || listeners(&daemon.status(), "queue") == ["paused daemon_instances"]);
    drop(session);
    echo(&mut waiting, "in\n");
}

#[test]
fn a_unix_socket_has_its_mode_and_owner_and_goes_with_the_daemon() {
    let owner = if is_root() { ", owner: '4711:4712'" } else { "" };
    let socket = format!("socket: {{ mode: '0620'{owner} }}");
    let table = format!("services: {{ cat: {{ listen: 'unix:FOLDER/socket', program: /bin/cat, {socket} }} }}");
    let mut daemon = Daemon::start(&table);
    let path = daemon.path("socket");
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o620);
    if is_root() {
        assert_eq!((file.uid(), file.gid()), (4711, 4712));
    }
    let answer = |word: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        std::io::Write::write_all(&mut stream, word).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        read_all(stream)
    };
    assert_eq!(answer(b"one"), b"one");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_end().success());
    assert!(!path.exists());
}

#[test]
fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
    const TABLE: &str = "services: { cat: { listen: 'unix:FOLDER/socket', program: /bin/cat } }";
    let setup = Setup::new(TABLE);
    stop_listening(UnixListener::bind(setup.folder.path().join("socket")).unwrap());
    let daemon = setup.start();
    drop(UnixStream::connect(daemon.path("socket")).unwrap());

    let setup = Setup::new(TABLE);
    let path = setup.folder.path().join("socket");
    let live = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    // The folder is gone after `fail`.
    let alive = std::thread::spawn(move || live.accept().map(|_| fs::metadata(path).map(|file| file.ino()).ok()));
    let (status, stderr) = setup.fail();
    assert_eq!(status.code(), Some(69), "{stderr}");
    assert!(stderr.contains("services.cat.listen: unix:") && stderr.contains("in use"), "{stderr}");
    assert!(alive.join().unwrap().unwrap().is_none_or(|now| now == inode));

    let setup = Setup::new(TABLE);
    fs::write(setup.folder.path().join("socket"), "precious").unwrap();
    let (status, stderr) = setup.fail();
    assert_eq!(status.code(), Some(69), "{stderr}");
}

#[test]
fn a_unix_datagram_service_is_served_again_and_again() {
    let daemon = Daemon::start(&format!("services: {{ taker: {{ listen: 'unix-dgram:FOLDER/socket', {TAKER} }} }}"));
    let client = UnixDatagram::unbound().unwrap();
    for expected in ["x", "xx", "xxx"] {
        client.send_to(b"x", daemon.path("socket")).unwrap();
        wait_until("the datagram", || taken(&daemon) == expected);
    }
    wait_until("listening", || listeners(&daemon.status(), "taker") == ["listening"]);
}

#[test]
fn a_uid_is_the_source_of_a_unix_socket() {
    let keys = "program: /bin/cat, per_source: { instances: 1 }, refuse: close";
    let daemon = Daemon::start(&format!("services: {{ cat: {{ listen: 'unix:FOLDER/socket', {keys} }} }}"));
    let first = UnixStream::connect(daemon.path("socket")).unwrap();
    wait_until("the handler", || daemon.count("cat") == 1);
    let source = daemon.status()["sources"][0]["source"].clone();
    assert_eq!(source, format!("uid:{}", nix::unistd::geteuid()));
    assert_eq!(read_all(UnixStream::connect(daemon.path("socket")).unwrap()), b"");
    drop(first);
    daemon.wait_idle();
}

#[test]
fn a_program_that_cannot_be_started_costs_a_refusal_and_no_count() {
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
fn several_endpoints_share_one_count() {
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
    // On a busy machine the other one may not have been looked at since, where nobody waits.
    let again = |status: &serde_json::Value| listeners(status, "cat").contains(&full[0].to_owned());
    wait_until("the service to be full again", || again(&daemon.status()));
    assert_eq!(daemon.count("cat"), 2);
    daemon.change(&table.replace("instances: 2", "instances: 3"));
    echo(&mut third, "in\n");
    echo(&mut fourth, "in\n");
}
