//! Admission, end to end: no client takes a service from another, a refusal uses up nothing, and no limit closes a
//! socket. Sources are addresses of 127.0.0.0/8; IPv6 networks are had in a network namespace, as root.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{
    Daemon, OXINETD, Setup, ask, connect_from, free_port, installed, is_root, put_program, services, skip, wait_until,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, connect, setsockopt, socket, sockopt};
use serde_json::{Value, json};

const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];
const C: [u8; 4] = [127, 0, 0, 3];

const ECHO: &str = "program: /bin/echo hello";

/// Does a client get what it came for?
fn is_served(source: [u8; 4], port: u16) -> bool {
    connect_from(source, port).and_then(|stream| ask(stream, b"")).is_ok_and(|answer| answer == b"hello\n")
}

/// How many of so many clients, one after the other, are served.
fn served(source: [u8; 4], port: u16, clients: usize) -> usize {
    (0..clients).filter(|_| is_served(source, port)).count()
}

/// Is there a /bin/cat at the other end?
fn is_alive(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 2];
    stream.write_all(b"x\n").and_then(|()| stream.read_exact(&mut answer)).is_ok()
}

/// The books of one service.
fn books(daemon: &Daemon, service: &str) -> Value {
    let status = daemon.status();
    assert_eq!(status["audit"], json!([]));
    status["services"][service].clone()
}

#[test]
fn flood_of_one_source_leaves_others_served() {
    let limits = "instances: 8, when_full: refuse, per_source: { instances: 4, rate: 40/s }";
    let ([port], table) = services([("echo", &format!("{ECHO}, {limits}"))]);
    let daemon = Daemon::start(&table);
    let (over, flood) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    is_served(B, port);
                    flood.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_until("the flood to run", || flood.load(Ordering::Relaxed) > 200);
        let answered = (0..60).filter(|_| {
            thread::sleep(Duration::from_millis(50));
            is_served(A, port)
        });
        let answered = answered.count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(answered, 60, "of 60, beside {} of the flood", flood.load(Ordering::Relaxed));
    });
    daemon.wait_idle();
    let books = books(&daemon, "echo");
    assert!(books["refused"]["source_rate"].as_u64().unwrap() > 0, "{books}");
    assert!(books["accepted"].as_u64().unwrap() > 60, "the flood has its share: {books}");
}

#[test]
fn denied_client_uses_up_no_rate() {
    let keys =
        format!("{ECHO}, deny: 127.0.0.2, rate: 3/h, burst: 3, per_network: {{ rate: 3/h, prefix: {{ ipv4: 8 }} }}");
    let ([port], table) = services([("echo", &keys)]);
    let daemon = Daemon::start(&table);
    assert_eq!(served(B, port, 20), 0);
    assert_eq!(served(A, port, 3), 3);
    daemon.wait_idle();
    let books = books(&daemon, "echo");
    assert_eq!((&books["refused"], &books["accepted"]), (&json!({ "access": 20 }), &json!(3)));
    daemon.wait_log(&["refuse service=echo source=127.0.0.2 reason=access"]);
}

#[test]
fn count_is_right_after_a_limit_trips_and_clears() {
    let keys = "program: /bin/cat, per_source: { instances: 2 }, per_network: { instances: 3 }";
    let ([port], table) = services([("cat", keys)]);
    let daemon = Daemon::start(&table);
    for _ in 0..3 {
        let mut living: Vec<_> = [A, A, B].map(|source| connect_from(source, port).unwrap()).into();
        assert!(living.iter_mut().all(is_alive));
        for source in [A, B, C] {
            assert!(!connect_from(source, port).is_ok_and(|mut stream| is_alive(&mut stream)), "{source:?}");
        }
        assert_eq!(books(&daemon, "cat")["handlers"], 3);
        let networks = &daemon.status()["networks"];
        assert_eq!(networks, &json!([{ "service": "cat", "network": "127.0.0.0/24", "handlers": 3, "instances": 3 }]));
        drop(living);
        daemon.wait_idle();
        assert_eq!(books(&daemon, "cat")["handlers"], 0);
        assert_eq!(daemon.status()["networks"], json!([]));
    }
    assert_eq!(books(&daemon, "cat")["refused"], json!({ "source_instances": 3, "network_instances": 6 }));
}

#[test]
fn service_over_its_rate_serves_every_client_in_the_end() {
    let ([port], table) = services([("echo", &format!("{ECHO}, rate: 20/s, burst: 2, when_full: refuse"))]);
    let daemon = Daemon::start(&table);
    let clients: Vec<_> = (1..=30).map(|n| thread::spawn(move || is_served([127, 0, 1, n], port))).collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap()));
    daemon.wait_idle();
    let books = books(&daemon, "echo");
    assert_eq!((&books["refused"], &books["accepted"]), (&json!({}), &json!(30)));
    daemon.wait_log(&["pause service=echo", "reason=service_rate", "retry="]);
    assert_eq!(daemon.status()["audit"], json!([]));
}

#[test]
fn failed_start_uses_up_rate() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    put_program(&program, fs::read("/bin/echo").unwrap());
    let keys = format!("program: {} hello, per_source: {{ rate: 3/h }}", program.display());
    let ([port], table) = services([("echo", &keys)]);
    let daemon = Daemon::start(&table);
    fs::remove_file(&program).unwrap();
    assert_eq!(served(A, port, 5), 0);
    let books = books(&daemon, "echo");
    assert_eq!(books["refused"], json!({ "spawn_failed": 3, "source_rate": 2 }));
    assert_eq!((&books["handlers"], &books["accepted"]), (&json!(0), &json!(0)));
}

#[test]
fn access_is_by_the_most_specific_network() {
    let keys = format!("{ECHO}, allow: [127.0.0.0/29, 127.1.0.0/16], deny: [127.0.0.2, 127.1.2.0/24]");
    let ([port], table) = services([("echo", &keys)]);
    let daemon = Daemon::start(&table);
    let come = [A, B, [127, 0, 0, 8], [127, 1, 1, 1], [127, 1, 2, 1]].map(|source| is_served(source, port));
    assert_eq!(come, [true, false, false, true, false]);
    assert_eq!(books(&daemon, "echo")["refused"], json!({ "access": 3 }));
}

#[test]
fn exempt_sources_have_no_rate() {
    let ([port], table) = services([("echo", &format!("{ECHO}, per_source: {{ rate: 2/h, exempt: [127.0.0.3] }}"))]);
    let daemon = Daemon::start(&table);
    assert_eq!((served(A, port, 5), served(C, port, 5)), (2, 5));
    let line = daemon.wait_log(&["refuse service=echo source=127.0.0.1 reason=source_rate retry="]);
    // The third comes moments after the second: two an hour are one in 1800 seconds.
    assert!(line.contains("retry=17") || line.contains("retry=1800"), "{line}");
}

/// A span of an hour that is not now, and one that is, by UTC.
fn closed_and_open() -> (String, String) {
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let hour = (seconds / 3_600) % 24;
    (format!("'{:02}:00-{:02}:00'", (hour + 3) % 24, (hour + 4) % 24), "'00:00-24:00'".to_owned())
}

#[test]
fn times_close_a_service_for_new_clients() {
    let (closed, open) = closed_and_open();
    let port = free_port();
    let table = |times: &str| format!("services: {{ cat: {{ listen: {port}, program: /bin/cat, times: [{times}] }} }}");
    let mut setup = Setup::new(&table(&open));
    setup.command.env("TZ", "UTC");
    let daemon = setup.start();
    let mut early = connect_from(A, port).unwrap();
    assert!(is_alive(&mut early));
    daemon.change(&table(&closed));
    assert!(!connect_from(A, port).is_ok_and(|mut stream| is_alive(&mut stream)));
    daemon.wait_log(&["refuse service=cat source=127.0.0.1 reason=times retry="]);
    assert!(is_alive(&mut early), "a client that is there stays");
    daemon.change(&table(&open));
    assert!(is_alive(&mut connect_from(A, port).unwrap()));
}

#[test]
fn wait_socket_is_lent_within_its_times_and_rate_only() {
    let (closed, open) = closed_and_open();
    let port = free_port();
    // Reads one datagram and ends.
    let keys = format!("listen: udp4/127.0.0.1:{port}, program: /bin/dd bs=512 count=1 of=/dev/null, stderr: null");
    let table = |more: &str| format!("services: {{ dd: {{ {keys}, {more} }} }}");
    let mut setup = Setup::new(&table(&format!("times: [{closed}]")));
    setup.command.env("TZ", "UTC");
    let daemon = setup.start();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"one", ("127.0.0.1", port)).unwrap();
    daemon.wait_log(&["pause service=dd", "reason=times"]);
    assert_eq!(books(&daemon, "dd")["accepted"], 0);
    daemon.change(&table(&format!("times: [{open}], rate: 1/h")));
    wait_until("the datagram to be read", || books(&daemon, "dd")["accepted"] == 1);
    client.send_to(b"two", ("127.0.0.1", port)).unwrap();
    daemon.wait_log(&["pause service=dd", "reason=service_rate"]);
    assert_eq!(books(&daemon, "dd")["accepted"], 1);
}

#[test]
fn dry_run_logs_and_counts_a_refusal_and_serves_the_client() {
    let keys = format!("{ECHO}, dry_run: true, deny: 127.0.0.2, rate: 4/h, per_source: {{ rate: 2/h }}");
    let ([port], table) = services([("echo", &keys)]);
    let daemon = Daemon::start(&table);
    assert_eq!([A, B, C].map(|source| served(source, port, 3)), [3, 3, 3]);
    assert_eq!(served([127, 0, 0, 4], port, 1), 1);
    daemon.wait_idle();
    let books = books(&daemon, "echo");
    assert_eq!(books["would_refuse"], json!({ "access": 3, "source_rate": 2, "service_rate": 1 }));
    assert_eq!((&books["refused"], &books["accepted"]), (&json!({}), &json!(10)));
    daemon.wait_log(&["refuse service=echo source=127.0.0.2 reason=access dry_run=true"]);
}

#[test]
fn reload_changes_limits_at_once() {
    let port = free_port();
    let table = |keys: &str| format!("services: {{ echo: {{ listen: {port}, {ECHO}, {keys} }} }}");
    let daemon = Daemon::start(&table("per_source: { rate: 4/h }"));
    assert_eq!(served(A, port, 2), 2);
    daemon.change(&table("per_source: { rate: 8/h }"));
    assert_eq!(served(A, port, 10), 4, "half of the burst was left");
    daemon.change(&table("per_source: { rate: 8/h }, instances: 5"));
    assert_eq!((served(A, port, 3), served(B, port, 9)), (0, 8), "another key forgets nothing");
    daemon.change(&table("per_source: { rate: 100/s }"));
    wait_until("a rate that lets one come soon", || is_served(A, port));
    daemon.change(&table("instances: 64"));
    assert_eq!(served(A, port, 20), 20);
    daemon.change(&format!("daemon: {{ sources: {{ ipv4: 12 }} }}\n{}", table("per_source: { rate: 1/h }")));
    assert_eq!(served(A, port, 3), 1);
    assert_eq!(daemon.status()["rates"]["ipv4"], json!({ "entries": 12, "in_debt": 1, "lost_in_debt": 0 }));
}

#[test]
fn reload_of_prefixes_keeps_live_handlers_counted() {
    let port = free_port();
    let table = |keys: &str| format!("services: {{ cat: {{ listen: {port}, program: /bin/cat, {keys} }} }}");
    let daemon = Daemon::start(&table("per_source: { instances: 2 }, per_network: { instances: 2 }"));
    let mut early: Vec<_> = [A, A].map(|source| connect_from(source, port).unwrap()).into();
    assert!(early.iter_mut().all(is_alive));
    let wider =
        "per_source: { instances: 1, prefix: { ipv4: 24 } }, per_network: { instances: 5, prefix: { ipv4: 8 } }";
    daemon.change(&table(wider));
    let mut late = connect_from(B, port).unwrap();
    assert!(is_alive(&mut late), "those before it were counted under other keys");
    assert!(!connect_from(C, port).is_ok_and(|mut stream| is_alive(&mut stream)));
    assert_eq!(books(&daemon, "cat")["handlers"], 3);
    drop(early);
    wait_until("the early to be gone", || books(&daemon, "cat")["handlers"] == 1);
    daemon.change(&table(""));
    drop(late);
    daemon.wait_idle();
    let status = daemon.status();
    assert_eq!([&status["sources"], &status["networks"], &status["audit"]], [&json!([]); 3]);
}

#[test]
fn full_table_of_sources_forgets_no_live_handler() {
    let keys = "program: /bin/cat, instances: unlimited, per_source: { instances: 1, rate: 1/h }";
    let ([port], table) = services([("cat", keys)]);
    let daemon = Daemon::start(&format!("daemon: {{ sources: {{ ipv4: 12 }} }}\n{table}"));
    let mut living: Vec<_> = (1..=60).map(|n| connect_from([127, 0, 2, n], port).unwrap()).collect();
    assert!(living.iter_mut().all(is_alive));
    assert!(daemon.status()["rates"]["ipv4"]["lost_in_debt"].as_u64().unwrap() >= 60 - 32);
    for n in 1..=60 {
        assert!(!connect_from([127, 0, 2, n], port).is_ok_and(|mut stream| is_alive(&mut stream)));
    }
    assert_eq!(books(&daemon, "cat")["refused"], json!({ "source_instances": 60 }));
}

#[test]
fn high_load_average_refuses_or_queues() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loadavg");
    let set = |load: &str| fs::write(&file, format!("{load} 0.00 0.00 1/1 1\n")).unwrap();
    set("9.00");
    let mount = format!("mount --bind {} /proc/loadavg", file.display());
    let can = is_root() && Command::new("unshare").args(["-m", "sh", "-c", &mount]).status().is_ok_and(|s| s.success());
    if !can {
        return skip("a load average of our own takes root and a mount namespace");
    }
    let ([refuse, queue], table) = services([
        ("refuse", &format!("{ECHO}, max_load: 8, when_full: refuse")),
        ("queue", &format!("{ECHO}, max_load: 8")),
    ]);
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    let daemon = Setup::run_by(&["unshare", "-m", "sh", "-c", &script, OXINETD], &table).start();
    assert!(!is_served(A, refuse));
    daemon.wait_log(&["refuse service=refuse", "reason=load"]);
    let waiting = thread::spawn(move || is_served(A, queue));
    daemon.wait_log(&["pause service=queue", "reason=load"]);
    set("7.99");
    assert!(waiting.join().unwrap());
    wait_until("the load to be seen", || is_served(A, refuse));
    fs::write(&file, "nonsense").unwrap();
    wait_until("the complaint", || {
        assert!(is_served(A, refuse));
        daemon.log().contains("/proc/loadavg: ")
    });
}

/// Connects from an IPv6 address of a network that is ours as a whole.
fn connect_from_v6(source: &str, port: u16) -> io::Result<TcpStream> {
    let address = |text: &str, port| {
        SockaddrIn6::from(std::net::SocketAddrV6::new(text.parse::<Ipv6Addr>().unwrap(), port, 0, 0))
    };
    let socket = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &address(source, 0))?;
    connect(socket.as_raw_fd(), &address("::1", port))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Puts this thread, and the processes that it starts, into a network of its own, in which `networks` are all ours.
fn in_a_network_of_our_own(networks: &[&str]) -> Result<(), String> {
    if !is_root() || installed("ip").is_none() {
        return Err("a network namespace takes root and ip(8)".to_owned());
    }
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("no network namespace: {errno}"))?;
    let ip = |arguments: &str| {
        let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    };
    ip("link set lo up")?;
    networks.iter().try_for_each(|network| ip(&format!("-6 route add local {network} dev lo")))
}

#[test]
fn ipv6_client_that_changes_networks_is_limited() {
    // A thread of its own, since the namespace stays with it.
    let walk = thread::spawn(|| {
        if let Err(why) = in_a_network_of_our_own(&["fd00:1::/48", "fd00:1:1::/48"]) {
            return skip(&why);
        }
        let keys = "program: /bin/cat, per_source: { instances: 2 }, per_network: { instances: 5 }";
        let rates = format!("{ECHO}, per_source: {{ rate: 3/h }}, per_network: {{ rate: 8/h }}");
        let ([cat, echo], table) = services([("cat", keys), ("echo", &rates)]);
        let daemon = Daemon::start(&table);
        let mut living = Vec::new();
        let mut walk = |address: String| {
            let stream = connect_from_v6(&address, cat).ok();
            living.extend(stream.and_then(|mut stream| is_alive(&mut stream).then_some(stream)));
        };
        (1..=20).for_each(|host| walk(format!("fd00:1::{host:x}")));
        assert_eq!(books(&daemon, "cat")["handlers"], 2, "a /64 is one source");
        (1..=20).for_each(|net| walk(format!("fd00:1:0:{net:x}::1")));
        assert_eq!(books(&daemon, "cat")["handlers"], 5, "a /48 is one network");
        walk("fd00:1:1::1".to_owned());
        assert_eq!(books(&daemon, "cat")["handlers"], 6, "and others are not touched");
        assert_eq!(books(&daemon, "cat")["refused"], json!({ "source_instances": 18, "network_instances": 17 }));

        let ask_from =
            |address: String| connect_from_v6(&address, echo).and_then(|s| ask(s, b"")).is_ok_and(|a| !a.is_empty());
        assert_eq!((1..=20).filter(|host| ask_from(format!("fd00:1::{host:x}"))).count(), 3);
        assert_eq!((1..=20).filter(|net| ask_from(format!("fd00:1:0:{net:x}::1"))).count(), 5);
        assert!(ask_from("fd00:1:1::1".to_owned()));
    });
    walk.join().unwrap();
}
