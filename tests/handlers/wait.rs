//! Services with `wait: true`, which lend their socket to a handler: datagrams, TCP and Unix sockets, and handlers that
//! take nothing from it.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use serde_json::json;

use crate::support::{Daemon, ask_text, connect, echo, free_port, has_ipv6, installed, listeners, skip, wait_until};

/// Takes one datagram and writes it to a file.
const TAKER: &str = "program: [/bin/sh, -c, 'dd bs=512 count=1 >> FOLDER/taken']";

fn taken(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.path("taken")).unwrap_or_default()
}

#[test]
fn udp_wait_service_is_served_again_after_each_handler() {
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
fn datagrams_that_come_at_once_have_a_handler_each() {
    let port = free_port();
    let daemon = Daemon::start(&format!("services: {{ taker: {{ listen: udp4/{port}, {TAKER} }} }}"));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    // All the same, as from a client that is not answered soon enough.
    for _ in 0..20 {
        client.send_to(b"x", ("127.0.0.1", port)).unwrap();
    }
    wait_until("all", || taken(&daemon).len() == 20);
    daemon.wait_idle();
    assert_eq!(daemon.status()["services"]["taker"]["accepted"], 20);
}

#[test]
fn tcp_wait_handler_accepts_on_a_blocking_listener() {
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
fn udp_handler_that_takes_nothing_backs_off() {
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
fn tcp_handler_that_takes_nothing_backs_off() {
    let port = free_port();
    let table = |keys: &str| format!("services: {{ one: {{ listen: {port}, {keys} }} }}");
    let daemon = Daemon::start(&table("wait: true, program: /bin/false"));
    let mut client = connect(port);
    wait_until("a pause", || listeners(&daemon.status(), "one") == ["paused backoff"]);
    daemon.change(&table("program: /bin/cat"));
    echo(&mut client, "served in the end\n");
}

#[test]
fn unix_datagram_service_is_served_again_after_each_handler() {
    let daemon = Daemon::start(&format!("services: {{ taker: {{ listen: 'unix-dgram:FOLDER/socket', {TAKER} }} }}"));
    let client = UnixDatagram::unbound().unwrap();
    for expected in ["x", "xx", "xxx"] {
        client.send_to(b"x", daemon.path("socket")).unwrap();
        wait_until("the datagram", || taken(&daemon) == expected);
    }
    wait_until("listening", || listeners(&daemon.status(), "taker") == ["listening"]);
}
