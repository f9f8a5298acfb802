//! The services that need no program: what clients get from them, over TCP, UDP and Unix sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{
    Daemon, OXINETD, Setup, ask, ask_text, ask_unix, connect, connect_to, field, has_ipv6, hold, is_root, nobody,
    put_program, services, skip, wait_until,
};

/// The seconds of `time` (RFC 868) as those since 1970.
fn unix_time(answer: &[u8]) -> u64 {
    let seconds = u32::from_be_bytes(answer.try_into().unwrap());
    u64::from(seconds) - 2_208_988_800
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Reads a clock between two looks at our own.
fn check_time(ask: impl FnOnce() -> Vec<u8>) {
    let before = now();
    let answer = unix_time(&ask());
    assert!((before..=now()).contains(&answer), "{answer} is not between {before} and now");
}

/// The time of day in UTC, as date(1) has it in the form of ctime(3).
fn date() -> String {
    let mut command = Command::new("date");
    command.env("LC_ALL", "C").args(["-u", "+%a %b %e %H:%M:%S %Y"]);
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim_end().to_owned() + "\r\n"
}

/// Is what is said the time of day? Asked again if the clock has moved on in between.
fn check_daytime(mut ask: impl FnMut() -> String) {
    wait_until("the same time of day twice", || {
        let (before, answer, after) = (date(), ask(), date());
        assert_eq!((answer.len(), &answer[..11], &answer[19..]), (26, &before[..11], &before[19..]), "{answer:?}");
        answer == before || answer == after
    });
}

#[test]
fn echo_discard_daytime_and_time_over_tcp() {
    let ([echo, discard, daytime, time], table) = services([
        ("echo", "builtin: echo"),
        ("discard", "builtin: discard"),
        ("daytime", "builtin: daytime, env: { TZ: UTC }"),
        ("time", "builtin: time"),
    ]);
    let daemon = Daemon::start(&table);
    let addresses: &[IpAddr] = &[[127, 0, 0, 1].into(), "::1".parse().unwrap()];
    for &address in &addresses[..if has_ipv6() { 2 } else { 1 }] {
        let ask = |port, request: &[u8]| ask(connect_to((address, port).into()), request).unwrap();
        assert_eq!(ask(echo, b"hello\r\n"), b"hello\r\n");
        assert_eq!(ask(discard, b"hello\r\n"), b"");
        check_daytime(|| String::from_utf8(ask(daytime, b"")).unwrap());
        check_time(|| ask(time, b""));
        // What is sent besides must not cost the answer.
        check_time(|| ask(time, &[b'x'; 10_000]));
    }
    daemon.wait_idle();
    for line in daemon.log().lines().filter(|line| line.contains("exit service=")) {
        assert!(line.contains("status=0"), "{line}");
    }
}

#[test]
fn echo_answers_while_the_client_still_sends() {
    let (ports, table) = services([("echo", "builtin: echo")]);
    let daemon = Daemon::start(&table);
    let data: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut client = connect(ports[0]);
    let mut writer = client.try_clone().unwrap();
    let sent = data.clone();
    let thread = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    thread.join().unwrap();
    assert!(answer == data, "{} of {} bytes came back, or others", answer.len(), data.len());
    daemon.wait_idle();
}

#[test]
fn chargen_sends_lines_until_the_client_leaves() {
    let (ports, table) = services([("chargen", "builtin: chargen")]);
    let daemon = Daemon::start(&table);
    let mut client = connect(ports[0]);
    // A client that has sent everything may go on reading.
    client.write_all(&[b'x'; 100_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut bytes = vec![0; 74 * 1000];
    client.read_exact(&mut bytes).unwrap();
    let lines: Vec<&[u8]> = bytes.chunks(74).collect();
    for (number, line) in lines.iter().enumerate() {
        let first = b' ' + u8::try_from(number % 95).unwrap();
        assert_eq!((line[0], &line[72..]), (first, &b"\r\n"[..]), "line {number}");
        let follows = |pair: &[u8]| pair[1] == if pair[0] == b'~' { b' ' } else { pair[0] + 1 };
        assert!(line[..72].windows(2).all(follows), "line {number}");
    }
    drop(client);
    daemon.wait_idle();
    daemon.wait_log(&["exit service=chargen", "status=0"]);
}

#[test]
fn builtin_on_a_unix_socket() {
    let daemon = Daemon::start("services:\n  echo: { listen: 'unix:FOLDER/echo', builtin: echo }\n");
    assert_eq!(ask_unix(&daemon.path("echo"), "hello"), "hello");
    daemon.wait_idle();
}

#[test]
fn idle_client_is_disconnected() {
    let (ports, table) = services([
        ("echo", "builtin: echo, idle_timeout: 100ms"),
        ("discard", "builtin: discard, idle_timeout: 100ms"),
        ("chargen", "builtin: chargen, idle_timeout: 100ms"),
    ]);
    let daemon = Daemon::start(&table);
    let clients = ports.map(connect);
    for name in ["echo", "discard", "chargen"] {
        daemon.wait_log(&[&format!("exit service={name}"), "status=75"]);
    }
    drop(clients);
    daemon.wait_idle();
}

#[test]
fn builtins_of_root_run_as_nobody_without_privileges() {
    if !is_root() {
        return skip("this is about a daemon of root");
    }
    let (ports, table) = services([("plain", "builtin: echo"), ("own", "builtin: echo, user: root")]);
    let daemon = Daemon::start(&table);
    let clients = ports.map(hold);
    let status = |service: &str| {
        let line = daemon.wait_log(&[&format!("accept service={service}")]);
        let pid = line.split("pid=").nth(1).unwrap().split(' ').next().unwrap();
        fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
    };
    let (uid, gid) = nobody();
    let plain = status("plain");
    assert_eq!(field(&plain, "Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    assert_eq!(field(&plain, "Gid"), format!("{gid}\t{gid}\t{gid}\t{gid}"));
    assert_eq!(field(&plain, "NoNewPrivs"), "1");
    assert_eq!(field(&plain, "Name"), "oxinetd");
    assert_eq!(field(&status("own"), "Uid"), "0\t0\t0\t0");
    drop(clients);
}

#[test]
fn dump_of_builtins_reads_back_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let dump = |name: &str| {
        let output = Command::new(OXINETD).arg("--dump").arg("-c").arg(folder.path().join(name)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = "services:
  echo: { listen: [7, tcpmux/Echo, tcpmux/+fast], builtin: echo }
  udp: { listen: [udp/7, udp/10007], builtin: echo, idle_timeout: 1500ms }
  web: { listen: 80, builtin: redirect, to: '[::1]:8080', connect_timeout: 3s }
  mux: { listen: 1, builtin: tcpmux }
";
    fs::write(folder.path().join("table"), table).unwrap();
    let first = dump("table");
    for part in ["builtin: echo", "- tcpmux/echo", "- tcpmux/+fast", "to: '[::1]:8080'", "connect_timeout: 3s"] {
        assert!(first.contains(part), "no {part} in {first}");
    }
    for part in ["idle_timeout: 1s500ms", "idle_timeout: 2h4m", "builtin: tcpmux"] {
        assert!(first.contains(part), "no {part} in {first}");
    }
    assert!(!first.contains("program"), "{first}");
    fs::write(folder.path().join("again"), &first).unwrap();
    assert_eq!(dump("again"), first);
}

#[test]
fn builtin_run_by_hand_says_what_is_wrong() {
    let run = |arguments: &[&str]| {
        let output = Command::new(OXINETD).arg("builtin").args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, part) in [
        (&["echo"][..], "oxinetd builtin echo: descriptor 0 is no socket"),
        (&["ecko"], "ecko is no builtin"),
        (&[], "which builtin?"),
        (&["redirect", "nowhere"], "expected HOST:PORT"),
    ] {
        let (status, stderr) = run(arguments);
        assert!(status == Some(64) && stderr.contains(part) && stderr.lines().count() == 1, "{status:?} {stderr}");
    }
}

#[test]
fn builtins_start_after_their_file_was_replaced() {
    let ([echo], table) = services([("echo", "builtin: echo")]);
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("oxinetd");
    put_program(&copy, fs::read(OXINETD).unwrap());
    let daemon = Setup::run_by(&[copy.to_str().unwrap()], &table).start();
    assert_eq!(ask_text(echo, "before"), "before");
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, "#!/bin/false\n").unwrap();
    assert_eq!(ask_text(echo, "after"), "after");
    daemon.wait_idle();
}
