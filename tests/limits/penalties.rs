//! What clients do costs their source time, end to end: crashes, failures, refusals and traps. Sources are addresses of
//! 127.0.0.0/8.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use crate::support::{self, Daemon, ask, connect_from, free_port, services, wait_until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockopt, socket, sockopt};
use serde_json::{Value, json};

const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];
const C: [u8; 4] = [127, 0, 0, 3];

const ECHO: &str = "program: /bin/echo hello";

/// Does what the client asks for: to fail, to crash, to be ended by a signal that is no fault, or to end well.
const OBEDIENT: &str = "program: [/bin/sh, -c, 'read what; case $what in fail) exit 3 ;; crash) kill -SEGV $$ ;; \
                        hangup) kill -HUP $$ ;; pipe) kill -PIPE $$ ;; esac']";

fn is_served(source: [u8; 4], port: u16) -> bool {
    connect_from(source, port).and_then(|stream| ask(stream, b"")).is_ok_and(|answer| answer == b"hello\n")
}

/// Comes and goes, whatever happens.
fn visit(source: [u8; 4], port: u16, word: &str) {
    let _ = connect_from(source, port).and_then(|stream| ask(stream, word.as_bytes()));
}

fn penalised(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status();
    assert_eq!(status["audit"], json!([]));
    let longest = status["penalties"]["longest"].as_array().unwrap().clone();
    assert_eq!(status["penalties"]["penalised"], longest.len());
    let mut sources: Vec<_> = longest.iter().map(|one| one["source"].as_str().unwrap().to_owned()).collect();
    sources.sort();
    sources
}

fn refused(daemon: &Daemon, service: &str) -> Value {
    daemon.status()["services"][service]["refused"].clone()
}

#[test]
fn client_of_a_trap_is_refused_by_every_service() {
    let ([trap, echo, other], table) = services([
        ("trap", "refuse: { text: nobody }, penalties: { trap: 1h }"),
        ("echo", ECHO),
        ("other", "program: /bin/echo hello, refuse: close, deny: 127.0.0.3"),
    ]);
    let daemon = Daemon::start(&table);
    assert!(is_served(A, echo) && is_served(B, echo));
    let mut text = String::new();
    connect_from(B, trap).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "nobody");
    wait_until("the penalty", || penalised(&daemon) == ["127.0.0.2"]);
    assert!(!is_served(B, echo) && !is_served(B, other) && is_served(A, echo) && is_served(A, other));
    visit(B, trap, "");
    assert_eq!(refused(&daemon, "trap"), json!({ "penalty": 1, "trap": 1 }));
    daemon.wait_log(&["penalty service=trap source=127.0.0.2 cause=trap retry=35"]);
    daemon.wait_log(&["refuse service=trap source=127.0.0.2 reason=trap"]);
    daemon.wait_log(&["refuse service=echo source=127.0.0.2 reason=penalty retry=35"]);
    // Even when there is no trap any more, and no other penalty.
    daemon.change(&format!("services: {{ echo: {{ listen: {echo}, {ECHO} }} }}"));
    assert!(!is_served(B, echo) && is_served(A, echo));
}

#[test]
fn trap_with_a_program_serves_once_and_charges() {
    let ([trap, echo], table) =
        services([("trap", "program: /bin/echo hello, penalties: { trap: 1h }"), ("echo", ECHO)]);
    let daemon = Daemon::start(&table);
    assert!(is_served(B, trap) && !is_served(B, trap) && !is_served(B, echo));
    assert_eq!(daemon.status()["services"]["trap"]["accepted"], 1);
}

#[test]
fn crash_and_failure_are_charged_and_hang_up_is_not() {
    let keys = format!("{OBEDIENT}, penalties: {{ crash: 90s, exit: 10s, exempt: 127.0.0.3 }}");
    let ([work, echo], table) = services([("work", &keys), ("echo", ECHO)]);
    let daemon = Daemon::start(&table);
    for word in ["well\n", "hangup\n", "pipe\n", "fail\n"] {
        visit(A, work, word);
    }
    (0..3).for_each(|_| visit(C, work, "crash\n"));
    daemon.wait_idle();
    assert_eq!(penalised(&daemon), [""; 0], "one failure is below min, and the exempt are not charged");
    assert!(is_served(A, echo));
    visit(A, work, "fail\n");
    visit(B, work, "crash\n");
    daemon.wait_log(&["penalty service=work source=127.0.0.1 cause=exit retry="]);
    daemon.wait_log(&["penalty service=work source=127.0.0.2 cause=crash retry=7"]);
    assert!(!is_served(B, echo) && is_served(C, echo));
    let exits = &daemon.status()["services"]["work"]["exits"];
    assert_eq!(exits, &json!({ "success": 1, "failure": 2, "signal": 6 }));
}

#[test]
fn refusal_is_charged_to_its_source_and_not_to_neighbours() {
    let keys = format!("{ECHO}, deny: 127.0.0.2, rate: 1000/s, penalties: {{ refused: 10m, min: 1m }}");
    let network = format!("{ECHO}, per_network: {{ rate: 1/h, prefix: {{ ipv4: 8 }} }}, penalties: {{ refused: 10m }}");
    let ([echo, crowd, other], table) = services([("echo", &keys), ("crowd", &network), ("other", ECHO)]);
    let daemon = Daemon::start(&table);
    assert!(is_served(A, crowd) && !is_served(A, crowd) && !is_served(C, crowd));
    assert_eq!(penalised(&daemon), [""; 0], "the network was full, and that is no fault of theirs");
    assert!(!is_served(B, echo));
    wait_until("the penalty", || penalised(&daemon) == ["127.0.0.2"]);
    assert!(!is_served(B, other) && is_served(A, other) && is_served(C, other));
    // A refusal for a penalty adds nothing to it: it ends some day, however often the client tries.
    (0..20).for_each(|_| visit(B, other, ""));
    assert_eq!(daemon.status()["penalties"]["longest"][0]["times"], 1);
    assert!(daemon.status()["penalties"]["longest"][0]["left_seconds"].as_f64().unwrap() <= 540.0);
}

#[test]
fn penalty_ends_and_the_next_is_twice_as_long() {
    let keys = format!("{OBEDIENT}, penalties: {{ exit: 400ms, min: 0s, max: 1h }}");
    let ([work, echo], table) = services([("work", &keys), ("echo", ECHO)]);
    let daemon = Daemon::start(&table);
    for expected in ["retry=0.4", "retry=0.8", "retry=1.6"] {
        wait_until("the penalty to be over", || is_served(A, echo));
        visit(A, work, "fail\n");
        daemon.wait_log(&["penalty service=work source=127.0.0.1 cause=exit", expected]);
    }
}

#[test]
fn dry_run_charges_no_source() {
    let keys = "program: /bin/echo hello, dry_run: true, penalties: { trap: 1h }";
    let ([trap, echo], table) = services([("trap", keys), ("echo", ECHO)]);
    let daemon = Daemon::start(&table);
    assert!(is_served(A, trap) && is_served(A, trap) && is_served(A, echo));
    assert_eq!(penalised(&daemon), [""; 0]);
}

/// Takes one datagram and sends it back.
const TAKER: &str = "program: [/usr/bin/python3, -c, 'import socket; s = socket.socket(fileno=0); d, a = \
                     s.recvfrom(512); s.sendto(d, a)']";

/// Sends a word from an address and waits for it to come back.
fn answered(source: &str, port: u16) -> bool {
    let client = UdpSocket::bind((source, 0)).unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    client.send_to(b"word", ("127.0.0.1", port)).unwrap();
    let mut bytes = [0; 16];
    match client.recv(&mut bytes) {
        Ok(size) => bytes[..size] == *b"word",
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

#[test]
fn datagrams_of_refused_sources_are_discarded_without_a_handler() {
    if support::installed("python3").is_none() {
        return support::skip("no python3, which answers datagrams");
    }
    let (port, trap) = (free_port(), free_port());
    let limits = "deny: 127.0.0.2, per_source: { rate: 2/h }, penalties: { exempt: 127.0.0.9 }";
    let daemon = Daemon::start(&format!(
        "services:\n  taker: {{ listen: udp4/{port}, {TAKER}, {limits} }}\n  trap: {{ listen: {trap}, penalties: {{ trap: 1h }} }}\n"
    ));
    for source in [B, C, [127, 0, 0, 9]] {
        visit(if source == B { A } else { source }, trap, "");
    }
    wait_until("the penalties", || penalised(&daemon) == ["127.0.0.1", "127.0.0.3", "127.0.0.9"]);
    // A burst of a client that is denied and one of a client that is penalised, no more than the socket holds; neither holds up the
    // third.
    for source in ["127.0.0.2", "127.0.0.3"] {
        let client = UdpSocket::bind((source, 0)).unwrap();
        (0..100).for_each(|_| assert!(client.send_to(b"flood", ("127.0.0.1", port)).is_ok()));
    }
    assert!(answered("127.0.0.4", port));
    assert!(answered("127.0.0.9", port), "a penalty from which this service exempts it");
    assert!(answered("127.0.0.4", port), "the second of two in an hour");
    let client = UdpSocket::bind("127.0.0.4:0").unwrap();
    client.send_to(b"third", ("127.0.0.1", port)).unwrap();
    wait_until("all to be judged", || {
        refused(&daemon, "taker") == json!({ "access": 100, "penalty": 100, "source_rate": 1 })
    });
    daemon.wait_idle();
    let status = daemon.status();
    assert_eq!(status["services"]["taker"]["accepted"], 3, "{status}");
    assert_eq!(
        status["services"]["taker"]["peak_rate"]["connections_per_minute"].as_u64().map(|n| n >= 50),
        Some(true)
    );
    daemon.wait_log(&["accept service=taker source=127.0.0.4 port="]);
    daemon.wait_log(&["refuse service=taker source=127.0.0.2 reason=access"]);
}

/// What becomes of a connection: made, refused, or neither for a while.
fn attempt(source: [u8; 4], port: u16) -> Option<io::Result<TcpStream>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(source[0], source[1], source[2], source[3], 0)).unwrap();
    let _ = connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port));
    let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut set, PollTimeout::from(500_u16)).unwrap() == 0 {
        return None;
    }
    let error = getsockopt(&socket, sockopt::SocketError).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    Some(if error == 0 { Ok(stream) } else { Err(io::Error::from_raw_os_error(error)) })
}

/// Tells how many instructions of a packet filter its own socket has (SO_GET_FILTER is 26).
const INSPECTOR: &str = "program: [/usr/bin/python3, -c, 'import socket; s = socket.socket(fileno=0); \
                         s.sendall(str(len(s.getsockopt(1, 26, 1024))).encode())']";

fn with_kernel(trap: u16, others: &str) -> String {
    format!(
        "daemon: {{ drop_banned: kernel }}\nservices:\n  trap: {{ listen: {trap}, penalties: {{ trap: 1h }} }}\n{others}"
    )
}

#[test]
fn drop_banned_kernel_drops_penalised_sources_only() {
    if !support::is_root() || support::installed("python3").is_none() {
        return support::skip("needs root, and python3 to look at a socket");
    }
    let [trap, echo, look, kind] = [free_port(), free_port(), free_port(), free_port()];
    let pardon = "penalties: { exempt: 127.0.0.2 }";
    let others = format!(
        "  echo: {{ listen: {echo}, {ECHO} }}\n  look: {{ listen: {look}, {INSPECTOR} }}\n  kind: {{ listen: {kind}, {ECHO}, {pardon} }}\n"
    );
    let daemon = Daemon::start(&with_kernel(trap, &others));
    let inspect = || ask(connect_from(A, look).unwrap(), b"").unwrap();
    assert!(is_served(B, echo) && is_served(B, kind));
    assert_eq!(inspect(), b"0");
    visit(B, trap, "");
    wait_until("the kernel to drop", || attempt(B, echo).is_none());
    let before = refused(&daemon, "echo");
    assert!(attempt(B, trap).is_none() && attempt(B, look).is_none() && attempt(B, echo).is_none());
    assert_eq!(refused(&daemon, "echo"), before, "what the kernel drops is not seen here");
    assert!(is_served(A, echo) && is_served(C, echo) && is_served(B, kind), "nobody else is dropped");
    assert_eq!(inspect(), b"0", "handlers do not inherit the filter");
    // A reload keeps it, on new sockets too; and one that takes the key out takes the filter off.
    let new = free_port();
    daemon.change(&with_kernel(trap, &format!("{others}  new: {{ listen: {new}, {ECHO} }}\n")));
    wait_until("the kernel to drop on a new socket", || attempt(B, new).is_none());
    assert!(attempt(B, echo).is_none() && is_served(A, new));
    daemon.change(&with_kernel(trap, &others).replace("drop_banned: kernel", "drop_banned: daemon"));
    assert!(attempt(B, echo).is_some(), "the connection is made now, and then refused");
    assert!(!is_served(B, echo) && is_served(A, echo));
    assert_eq!(inspect(), b"0");
    daemon.wait_log(&["refuse service=echo source=127.0.0.2 reason=penalty"]);
    assert!(!daemon.log().contains("warning"), "{}", daemon.log());
}

#[test]
fn drop_banned_kernel_lifts_a_penalty_that_has_ended() {
    if !support::is_root() {
        return support::skip("needs root");
    }
    let [trap, echo] = [free_port(), free_port()];
    let table = with_kernel(trap, &format!("  echo: {{ listen: {echo}, {ECHO} }}\n"));
    let daemon = Daemon::start(&table.replace("trap: 1h", "trap: 5s, min: 0s"));
    visit(B, trap, "");
    wait_until("the kernel to drop", || attempt(B, echo).is_none());
    wait_until("the penalty to end", || attempt(B, echo).is_some_and(|made| made.is_ok()) && is_served(B, echo));
    drop(daemon);
}

#[test]
fn drop_banned_kernel_without_permission_warns_once() {
    let Some(setpriv) = support::installed("setpriv").filter(|_| support::is_root()) else {
        return support::skip("needs root and setpriv, to take CAP_NET_ADMIN away");
    };
    let [trap, echo] = [free_port(), free_port()];
    let table = with_kernel(trap, &format!("  echo: {{ listen: {echo}, {ECHO} }}\n"));
    let without = ["--bounding-set=-net_admin", "--inh-caps=-net_admin", support::OXINETD];
    let run_by: Vec<_> = [setpriv.to_str().unwrap()].into_iter().chain(without).collect();
    let daemon = support::Setup::run_by(&run_by, &table).start();
    visit(B, trap, "");
    daemon.wait_log(&["penalty service=trap source=127.0.0.2"]);
    let told = || daemon.log().lines().filter(|line| line.contains("drop_banned")).count();
    let mut dropped = false;
    wait_until("the kernel to say no, or to help all the same", || {
        dropped = attempt(B, echo).is_none();
        dropped || told() == 1
    });
    if dropped {
        return support::skip("this kernel lets everybody attach filters");
    }
    assert!(!is_served(B, echo) && is_served(A, echo));
    visit(C, trap, "");
    daemon.change(&table);
    assert!(!is_served(C, echo) && !is_served(B, echo) && is_served(A, echo));
    assert_eq!(told(), 1, "{}", daemon.log());
    daemon.wait_log(&["warning", "daemon.drop_banned", "CAP_NET_ADMIN"]);
}
