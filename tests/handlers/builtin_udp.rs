//! The services without a program over UDP: which clients get an answer, how much, and which get none.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::support::{Daemon, connect, free_port, has_ipv6, is_root, skip, wait_until};
use nix::sys::socket::{setsockopt, sockopt};

/// A service on all addresses, with more keys.
fn start(builtin: &str, keys: &str) -> (Daemon, u16) {
    let port = free_port();
    let table = format!("services:\n  it: {{ listen: udp/{port}, builtin: {builtin}{keys} }}\n");
    (Daemon::start(&table), port)
}

/// A client that hears only the service that it has asked.
fn client(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(from).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    let mut bytes = vec![0; 70_000];
    let size = socket.recv(&mut bytes).unwrap();
    bytes.truncate(size);
    bytes
}

/// Is there no answer to this? Known by asking in an unsuspicious way afterwards: datagrams are read in the order in
/// which they came.
fn silent(quiet: &UdpSocket, question: &[u8], port: u16) {
    quiet.send(question).unwrap();
    let plain = client("127.0.0.1:0", (Ipv4Addr::LOCALHOST, port).into());
    assert!(!ask(&plain, b"and you?").is_empty());
    quiet.set_nonblocking(true).unwrap();
    let mut bytes = [0; 100];
    assert!(quiet.recv(&mut bytes).is_err(), "{:?} got an answer", quiet.local_addr());
}

#[test]
fn echo_answers_over_ipv4_and_ipv6() {
    let (daemon, port) = start("echo", "");
    let mut clients = vec![client("127.0.0.1:0", (Ipv4Addr::LOCALHOST, port).into())];
    // The answer comes from where the question went.
    clients.push(client("127.0.0.1:0", ([127, 5, 6, 7], port).into()));
    if has_ipv6() {
        clients.push(client("[::1]:0", ("::1".parse::<std::net::IpAddr>().unwrap(), port).into()));
    }
    for client in &clients {
        for question in [&b"hello"[..], b"", &[b'x'; 60_000]] {
            assert_eq!(ask(client, question), question, "{:?}", client.local_addr());
        }
    }
    // A handler for each socket, and no more.
    assert_eq!(daemon.count("it"), if has_ipv6() { 2 } else { 1 });
}

#[test]
fn daytime_time_chargen_and_discard_over_udp() {
    let (ports, names) = ([(); 4].map(|()| free_port()), ["discard", "daytime", "time", "chargen"]);
    let lines = names.iter().zip(ports);
    let lines = lines.map(|(name, port)| format!("  {name}: {{ listen: udp4/{port}, builtin: {name} }}\n"));
    let daemon = Daemon::start(&("services:\n".to_owned() + &lines.collect::<String>()));
    let [discard, daytime, time, chargen] = ports.map(|port| client("127.0.0.1:0", (Ipv4Addr::LOCALHOST, port).into()));
    let day = String::from_utf8(ask(&daytime, b"")).unwrap();
    assert!(day.len() == 26 && day.ends_with("\r\n"), "{day:?}");
    let seconds = u32::from_be_bytes(ask(&time, b"").try_into().unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now - (u64::from(seconds) - 2_208_988_800) < 60, "{seconds} at {now}");
    for size in [0, 1, 72, 512, 513, 60_000] {
        let answer = ask(&chargen, &vec![b'x'; size]);
        assert_eq!(answer.len(), size.min(512));
        assert!(answer.iter().all(|byte| (b' '..=b'~').contains(byte) || b"\r\n".contains(byte)));
    }
    discard.send(b"anything").unwrap();
    daemon.wait_log(&["accept service=discard"]);
    discard.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(discard.recv(&mut [0; 10]).is_err());
}

#[test]
fn idle_handler_ends_and_another_starts_for_the_next_request() {
    let (daemon, port) = start("echo", ", idle_timeout: 100ms");
    let client = client("127.0.0.1:0", (Ipv4Addr::LOCALHOST, port).into());
    for round in 1..=3 {
        assert_eq!(ask(&client, b"hello"), b"hello");
        daemon.wait_idle();
        assert_eq!(daemon.status()["services"]["it"]["exits"]["success"], round);
    }
    assert!(!daemon.log().contains("backoff"), "{}", daemon.log());
}

#[test]
fn ports_below_1024_get_no_answer() {
    if !is_root() {
        return skip("ports below 1024 are for root");
    }
    let (daemon, port) = start("echo", "");
    let low = (900..1024).find_map(|port| UdpSocket::bind(("127.0.0.9", port)).ok()).unwrap();
    low.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    silent(&low, b"loop", port);
    let said = format!("oxinetd builtin echo: no answer to {}: ports below 1024", low.local_addr().unwrap());
    wait_until("a line about it", || daemon.stderr().contains(&said));
    // One line for each handler, however much is sent.
    low.set_nonblocking(false).unwrap();
    for _ in 0..100 {
        low.send(b"loop").unwrap();
    }
    silent(&low, b"loop", port);
    assert_eq!(daemon.stderr().matches("no answer").count(), 1, "{}", daemon.stderr());
}

#[test]
fn ports_of_the_same_table_get_no_answer() {
    let (echo, other, stream) = (free_port(), free_port(), free_port());
    let daemon = Daemon::start(&format!(
        "services:
  echo: {{ listen: udp/127.0.0.1:{echo}, builtin: echo }}
  other: {{ listen: udp/127.0.0.1:{other}, builtin: chargen }}
  stream: {{ listen: {stream}, builtin: echo }}
  off: {{ listen: udp/127.0.0.1:4, builtin: echo, enabled: false }}
"
    ));
    for port in [echo, other] {
        let twin = client(&format!("127.0.0.2:{port}"), (Ipv4Addr::LOCALHOST, echo).into());
        silent(&twin, b"loop", echo);
    }
    // A port that is not one for datagrams belongs to no service.
    let plain = client(&format!("127.0.0.2:{stream}"), (Ipv4Addr::LOCALHOST, echo).into());
    assert_eq!(ask(&plain, b"hello"), b"hello");
    drop(connect(stream));
    daemon.wait_log(&["accept service=stream"]);
}

#[test]
fn broadcast_request_gets_no_answer() {
    let (daemon, port) = start("echo", "");
    let crowd = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&crowd, sockopt::Broadcast, &true).unwrap();
    // Not connected: the answer, if there were one, would come from another address.
    let quiet = crowd.try_clone().unwrap();
    let plain = client("127.0.0.1:0", (Ipv4Addr::LOCALHOST, port).into());
    // The first one has come before there was a handler, the second is received by it.
    for _ in 0..2 {
        crowd.send_to(b"everybody", (Ipv4Addr::new(127, 255, 255, 255), port)).unwrap();
        assert_eq!(ask(&plain, b"and you?"), b"and you?");
    }
    wait_until("a line about it", || daemon.stderr().contains("it has sent to many at once"));
    quiet.set_nonblocking(true).unwrap();
    assert!(quiet.recv(&mut [0; 100]).is_err());
}

#[test]
fn denied_source_gets_no_answer_while_others_are_served() {
    let (daemon, port) = start("echo", ", allow: [127.0.0.0/8, '::1'], deny: 127.0.0.66");
    let [first, second, third] =
        ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.1:0"].map(|from| client(from, (Ipv4Addr::LOCALHOST, port).into()));
    assert_eq!(ask(&first, b"one"), b"one");
    assert_eq!(ask(&third, b"two"), b"two");
    assert_eq!(daemon.status()["services"]["it"]["accepted"], 1);
    let denied = client("127.0.0.66:0", (Ipv4Addr::LOCALHOST, port).into());
    silent(&denied, b"let me in", port);
    daemon.wait_log(&["refuse service=it source=127.0.0.66", "reason=access"]);
    // Every other client has a handler of its own, one after the other, and nothing is lost.
    for round in 0..20 {
        for client in [&first, &second] {
            let word = format!("round {round}");
            assert_eq!(ask(client, word.as_bytes()), word.as_bytes());
        }
    }
    assert!(!daemon.log().contains("backoff"), "{}", daemon.log());
    assert_eq!(daemon.status()["audit"], serde_json::json!([]));
}
