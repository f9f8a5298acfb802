//! `redirect`: everything goes both ways, and each end sees how the other ends.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{
    Daemon, ask, ask_text, ask_unix, connect, echo, field, free_port, has_ipv6, installed, skip, sockets_at, wait_until,
};
use nix::sys::socket::{Backlog, setsockopt, sockopt};

/// A daemon that leads to `to`, with more keys.
fn start(to: impl std::fmt::Display, keys: &str) -> (Daemon, u16) {
    let port = free_port();
    let table = format!("services:\n  way: {{ listen: {port}, builtin: redirect, to: '{to}'{keys} }}\n");
    (Daemon::start(&table), port)
}

/// A server of our own, and what it does with each client.
fn serve(address: &str, each: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let own = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            each(client.unwrap());
        }
    });
    own
}

/// Ends a connection by a reset.
fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(stream);
}

const SIZE: usize = 100 << 20;

/// A long text: these bytes over and over, a prime number of them, so that no buffer hides a piece that is lost, doubled
/// or out of place.
fn text(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..1_048_573).map(|_| next()).collect()
}

/// Writes the text in pieces of all sizes.
fn write_text(seed: u64, mut to: TcpStream) -> JoinHandle<()> {
    thread::spawn(move || {
        let text = text(seed);
        let mut position = 0;
        while position < SIZE {
            let start = position % text.len();
            let size = (1 + position % 200_003).min(SIZE - position).min(text.len() - start);
            to.write_all(&text[start..start + size]).unwrap();
            position += size;
        }
    })
}

/// Reads the text, and not a byte more.
fn check_text(seed: u64, from: &mut TcpStream) {
    let text = text(seed);
    let (mut bytes, mut position) = (vec![0; 100_000], 0);
    while position < SIZE {
        let start = position % text.len();
        let most = bytes.len().min(SIZE - position).min(text.len() - start);
        let size = from.read(&mut bytes[..most]).unwrap();
        assert!(size > 0, "the end after {position} bytes");
        assert!(bytes[..size] == text[start..start + size], "other bytes behind {position}");
        position += size;
    }
}

fn end_of(from: &mut TcpStream) {
    assert_eq!(from.read(&mut [0]).unwrap(), 0, "something behind the end");
}

#[test]
fn hundred_megabytes_go_both_ways_at_once() {
    let (done, server_done) = mpsc::channel();
    let target = serve("127.0.0.1:0", move |mut client| {
        let writer = write_text(1, client.try_clone().unwrap());
        check_text(2, &mut client);
        writer.join().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        end_of(&mut client);
        done.send(()).unwrap();
    });
    let (daemon, port) = start(target, "");
    let mut client = connect(port);
    let writer = write_text(2, client.try_clone().unwrap());
    check_text(1, &mut client);
    end_of(&mut client);
    writer.join().unwrap();
    assert!(server_done.try_recv().is_err(), "the server saw the end before it was there");
    // Nothing was copied: the handler has read and written nothing but what it was started with (proc_pid_io(5)).
    let io = fs::read_to_string(format!("/proc/{}/io", pid_of(&daemon))).unwrap();
    for name in ["rchar", "wchar"] {
        assert!(field(&io, name).parse::<u64>().unwrap() < 1 << 20, "{io}");
    }
    client.shutdown(Shutdown::Write).unwrap();
    server_done.recv_timeout(Duration::from_secs(60)).unwrap();
    daemon.wait_idle();
    daemon.wait_log(&["exit service=way", "status=0"]);
}

/// The process id of the first handler.
fn pid_of(daemon: &Daemon) -> i32 {
    let line = daemon.wait_log(&["accept service=way"]);
    line.split("pid=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn half_closed_connection_still_receives() {
    // The client first.
    let target = serve("127.0.0.1:0", |mut client| {
        let mut question = String::new();
        client.read_to_string(&mut question).unwrap();
        client.write_all(format!("you said {question}").as_bytes()).unwrap();
    });
    let (daemon, port) = start(target, "");
    assert_eq!(ask_text(port, "hello"), "you said hello");
    daemon.wait_idle();
    drop(daemon);
    // The server first.
    let (said, heard) = mpsc::channel();
    let target = serve("127.0.0.1:0", move |mut client| {
        client.write_all(b"speak").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        said.send(answer).unwrap();
    });
    let (daemon, port) = start(target, "");
    let mut client = connect(port);
    let mut word = String::new();
    client.read_to_string(&mut word).unwrap();
    assert_eq!(word, "speak");
    client.write_all(b"after the end").unwrap();
    drop(client);
    assert_eq!(heard.recv_timeout(Duration::from_secs(60)).unwrap(), "after the end");
    daemon.wait_idle();
}

#[test]
fn reset_on_one_side_is_a_reset_on_the_other() {
    let target = serve("127.0.0.1:0", |mut client| {
        client.write_all(b"half of it").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        reset(client);
    });
    let (daemon, port) = start(target, "");
    let mut client = connect(port);
    let mut half = [0; 10];
    client.read_exact(&mut half).unwrap();
    assert_eq!(&half, b"half of it");
    client.write_all(b"!").unwrap();
    let mut rest = Vec::new();
    assert_eq!(client.read_to_end(&mut rest).unwrap_err().kind(), ErrorKind::ConnectionReset);
    daemon.wait_idle();
    drop(daemon);
    // And the other way round.
    let (said, heard) = mpsc::channel();
    let target = serve("127.0.0.1:0", move |mut client| {
        let mut all = Vec::new();
        let end = client.read_to_end(&mut all);
        said.send((all, end.map_err(|error| error.kind()).map(|_| ()))).unwrap();
    });
    let (daemon, port) = start(target, "");
    let mut client = connect(port);
    client.write_all(b"half of it").unwrap();
    // Until the relay has it, or the reset would overtake it on the way there.
    wait_until("the bytes to be on their way", || queued(port) == 0);
    reset(client);
    let (all, end) = heard.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((all.as_slice(), end), (&b"half of it"[..], Err(ErrorKind::ConnectionReset)));
    daemon.wait_idle();
}

/// Bytes that wait in connections to a port of ours.
fn queued(port: u16) -> u64 {
    let sockets = ["tcp", "tcp6"].into_iter().flat_map(|list| sockets_at(list, port));
    let ours = sockets.filter(|fields| fields[3] != "0A");
    ours.map(|fields| u64::from_str_radix(fields[4].split(':').nth(1).unwrap(), 16).unwrap()).sum()
}

#[test]
fn refused_target_resets_the_client_and_is_logged() {
    let nobody = free_port();
    let (daemon, port) = start(format!("127.0.0.1:{nobody}"), "");
    let mut client = connect(port);
    let mut rest = Vec::new();
    assert_eq!(client.read_to_end(&mut rest).unwrap_err().kind(), ErrorKind::ConnectionReset);
    daemon.wait_log(&["exit service=way", "status=69"]);
    let said = format!("oxinetd builtin redirect: 127.0.0.1:{nobody}: 127.0.0.1:{nobody}: Connection refused");
    wait_until("the reason on standard error", || daemon.stderr().contains(&said));
    daemon.wait_idle();
}

#[test]
fn client_is_not_sent_the_error_message() {
    let nobody = free_port();
    let (daemon, port) = start(format!("127.0.0.1:{nobody}"), ", stderr: connection");
    let mut rest = Vec::new();
    assert!(connect(port).read_to_end(&mut rest).is_err());
    assert_eq!(rest, b"");
    daemon.wait_idle();
}

#[test]
fn host_name_that_cannot_be_found_resets_with_status_68() {
    // No server of names is asked for what can't be a name (RFC 1035 §2.3.4).
    let (daemon, port) = start(format!("{}.invalid:80", "x".repeat(70)), "");
    let mut rest = Vec::new();
    assert_eq!(connect(port).read_to_end(&mut rest).unwrap_err().kind(), ErrorKind::ConnectionReset);
    daemon.wait_log(&["exit service=way", "status=68"]);
    daemon.wait_idle();
}

#[test]
fn addresses_of_a_name_are_tried_in_turn() {
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let named = |address: &str| {
        hosts.lines().any(|line| line.starts_with(address) && line.split_whitespace().any(|word| word == "localhost"))
    };
    if !named("::1") || !named("127.0.0.1") || !has_ipv6() {
        return skip("localhost has not both addresses here");
    }
    for address in ["127.0.0.1", "[::1]"] {
        let target = serve(&format!("{address}:0"), |mut client| {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            client.write_all(&all).unwrap();
        });
        let (daemon, port) = start(format!("localhost:{}", target.port()), "");
        assert_eq!(ask_text(port, address), address);
        daemon.wait_idle();
    }
}

#[test]
fn target_that_does_not_answer_is_given_up_after_connect_timeout() {
    // A listener whose queue is full answers nobody.
    let listener = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let any = nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 0);
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &any).unwrap();
    nix::sys::socket::listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let listener = TcpListener::from(listener);
    let target = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(client) = TcpStream::connect_timeout(&target, Duration::from_millis(200)) {
        waiting.push(client);
        assert!(waiting.len() < 100, "this queue is never full");
    }
    let (daemon, port) = start(target, ", connect_timeout: 100ms");
    let mut rest = Vec::new();
    assert_eq!(connect(port).read_to_end(&mut rest).unwrap_err().kind(), ErrorKind::ConnectionReset);
    daemon.wait_log(&["exit service=way", "status=69"]);
    wait_until("the reason", || daemon.stderr().contains("timed out"));
    daemon.wait_idle();
}

#[test]
fn idle_timeout_closes_an_idle_connection() {
    let (gone, server_saw) = mpsc::channel();
    let target = serve("127.0.0.1:0", move |mut client| {
        let mut all = Vec::new();
        gone.send(client.read_to_end(&mut all).is_ok()).unwrap();
    });
    let (daemon, port) = start(target, ", idle_timeout: 200ms");
    let mut client = connect(port);
    // A client that does something is not idle.
    for _ in 0..10 {
        client.write_all(b"x").unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
    server_saw.recv_timeout(Duration::from_secs(60)).unwrap();
    daemon.wait_log(&["exit service=way", "status=75"]);
    daemon.wait_idle();
}

#[test]
fn client_or_target_that_leaves_midway_leaves_no_handler() {
    let target = serve("127.0.0.1:0", |mut client| {
        let mut bytes = [0; 16];
        match client.read(&mut bytes) {
            Ok(1..) if bytes[0] == b'r' => reset(client),
            Ok(1..) if bytes[0] == b'f' => {
                // More than anybody takes.
                let _ = client.write_all(&vec![b'x'; 4 << 20]);
            }
            _ => {}
        }
    });
    let (daemon, port) = start(target, "");
    for round in 0..30 {
        let mut clients = Vec::new();
        for request in [&b""[..], b"r", b"f", b"f", b"x"] {
            let mut client = connect(port);
            client.write_all(request).unwrap();
            clients.push(client);
        }
        for client in clients {
            if round % 2 == 0 { reset(client) } else { drop(client) }
        }
    }
    daemon.wait_idle();
    assert_eq!(daemon.status()["audit"], serde_json::json!([]));
}

/// A stalled receiver must cost no processor time, however the packets lie in the pipe, and neither must one that has gone.
#[test]
fn waiting_uses_no_processor_time() {
    let (stop, stopped) = mpsc::channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    let target = serve("127.0.0.1:0", move |client| {
        let _ = stopped.lock().unwrap().recv();
        drop(client);
    });
    let (daemon, port) = start(target, "");
    let client = connect(port);
    client.set_nodelay(true).unwrap();
    client.set_nonblocking(true).unwrap();
    let pid = pid_of(&daemon);
    // Small packets fill the pipe by their number long before they fill it by their size.
    let mut refused = 0;
    while refused < 50 {
        let taken = (&client).write(&[b't'; 100]).unwrap_or(0);
        refused = if taken > 0 { 0 } else { refused + 1 };
        if taken == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    let before = cpu_ticks(pid);
    thread::sleep(Duration::from_millis(500));
    let used = cpu_ticks(pid) - before;
    // A handler that spins would use all 50 of them, as far as it is let.
    assert!(used < 10, "{used} ticks of processor time in half a second of waiting");
    stop.send(()).unwrap();
    drop(client);
    daemon.wait_idle();
}

/// User and system time of a process, in clock ticks (proc_pid_stat(5)).
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn unix_socket_is_redirected() {
    let target = serve("127.0.0.1:0", |mut client| {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        client.write_all(&all).unwrap();
    });
    let table = format!("services:\n  way: {{ listen: 'unix:FOLDER/way', builtin: redirect, to: '{target}' }}\n");
    let daemon = Daemon::start(&table);
    assert_eq!(ask_unix(&daemon.path("way"), "hello"), "hello");
    daemon.wait_idle();
}

#[test]
fn conversation_and_curl_through_a_redirect() {
    let target = serve("127.0.0.1:0", |mut client| {
        let mut bytes = [0; 4096];
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let size = client.read(&mut bytes).unwrap();
            request.extend_from_slice(&bytes[..size]);
        }
        let body = vec![b'b'; 1 << 20];
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(head.as_bytes()).unwrap();
        client.write_all(&body).unwrap();
    });
    let (daemon, port) = start(target, "");
    let answer = ask(connect(port), b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n") && answer.len() > 1 << 20);
    let Some(curl) = installed("curl") else { return skip("there is no curl") };
    let output =
        Command::new(curl).args(["-s", "--noproxy", "*", &format!("http://127.0.0.1:{port}/")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.len() == 1 << 20 && output.stdout.iter().all(|byte| *byte == b'b'));
    daemon.wait_idle();
    drop(daemon);
    // Word by word, both ways.
    let target = serve("127.0.0.1:0", |mut client| {
        let mut bytes = [0; 64];
        while let Ok(size @ 1..) = client.read(&mut bytes) {
            client.write_all(&bytes[..size]).unwrap();
        }
    });
    let (daemon, port) = start(target, "");
    let mut client = connect(port);
    for number in 0..200 {
        echo(&mut client, &format!("word {number}\n"));
    }
    drop(client);
    daemon.wait_idle();
}
