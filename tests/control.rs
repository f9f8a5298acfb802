//! The control socket against clients that mean it badly, or nothing at all: they hold neither the loop nor memory, they
//! keep nobody out, and service goes on.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use support::{Daemon, ask_text, field, services, wait_until};

fn client(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.path("control.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Asks on a connection of its own.
fn ask(daemon: &Daemon, line: &str) -> Value {
    let mut stream = client(daemon);
    stream.write_all(line.as_bytes()).unwrap();
    stream.write_all(b"\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// Resident memory in kilobytes.
fn resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid)).unwrap();
    field(&status, "VmRSS").split(' ').next().unwrap().parse().unwrap()
}

/// Writes until nobody takes any more; a gigabyte at most.
fn flood(mut stream: UnixStream) -> usize {
    let bytes = vec![b'x'; 64 * 1024];
    (0..16_384).take_while(|_| stream.write_all(&bytes).is_ok()).count() * bytes.len()
}

#[test]
fn a_hundred_bad_clients_cost_nothing_and_keep_nobody_out() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    assert_eq!(ask(&daemon, r#"{"command":"audit"}"#)["result"]["handlers"], 0);
    let (before, descriptors) = (resident(&daemon), daemon.descriptors());
    let mut open = Vec::new();
    let mut floods = Vec::new();
    for number in 0..100 {
        let mut stream = client(&daemon);
        match number % 4 {
            0 => drop(stream.write_all(b"\x00\xff{\"garbage\"\n\n\n]]]\n")),
            1 => {}
            2 => drop(stream.write_all(br#"{"command":"aud"#)),
            _ => {
                let flooder = stream.try_clone().unwrap();
                floods.push(thread::spawn(move || flood(flooder)));
            }
        }
        open.push(stream);
        // Service goes on, and so do the requests of others.
        if number % 10 == 0 {
            assert_eq!(ask_text(port, "still here\n"), "still here\n");
            assert_eq!(ask(&daemon, r#"{"command":"audit"}"#)["command"], "audit");
        }
    }
    for flood in floods {
        let taken = flood.join().unwrap();
        assert!(taken < 4 << 20, "the daemon has read {taken} bytes of one line");
    }
    assert_eq!(ask_text(port, "still here\n"), "still here\n");
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} kB more than before");
    assert!(daemon.descriptors() <= descriptors + 33, "{} descriptors", daemon.descriptors());
    assert_eq!(ask(&daemon, r#"{"command":"audit"}"#)["result"]["drifts"].as_array().map(Vec::len), Some(0));
    drop(open);
    wait_until("the clients to be forgotten", || daemon.descriptors() <= descriptors);
}

#[test]
fn who_says_nothing_for_ten_seconds_is_let_go() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let (mut silent, mut slow) = (client(&daemon), client(&daemon));
    slow.write_all(b"{").unwrap();
    let mut bytes = [0; 16];
    assert_eq!(silent.read(&mut bytes).unwrap(), 0);
    assert_eq!(slow.read(&mut bytes).unwrap(), 0);
}

#[test]
fn a_large_answer_is_sent_piece_by_piece_and_who_does_not_take_it_holds_nobody_up() {
    let names: Vec<String> = (0..400).map(|number| format!("service-{number}")).collect();
    let lines = names.iter().map(|name| {
        format!("  {name}: {{ listen: 'unix:FOLDER/{name}', program: /bin/cat, per_source: {{ instances: 9 }} }}\n")
    });
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&format!("{table}{}", lines.collect::<String>()));
    let request = b"{\"command\":\"status\"}\n";
    let lazy: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut stream = client(&daemon);
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    assert_eq!(ask_text(port, "still here\n"), "still here\n");
    let status = ask(&daemon, r#"{"command":"status"}"#);
    assert!(status.to_string().len() > 200_000, "{} bytes are no large answer", status.to_string().len());
    assert_eq!(status["result"]["services"].as_object().unwrap().len(), 401);
    // Who comes back in time still has all of his.
    let mut line = String::new();
    BufReader::new(&lazy[0]).read_line(&mut line).unwrap();
    let late: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(late["result"]["services"].as_object().unwrap().len(), 401);
}

#[test]
fn a_request_has_at_most_4096_bytes() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let padded = |bytes: usize| format!("{}{}", " ".repeat(bytes - 19), r#"{"command":"audit"}"#);
    assert_eq!(ask(&daemon, &padded(4096))["command"], "audit");
    assert_eq!(ask(&daemon, &padded(4097))["error"]["code"], "too_long");
}

#[test]
fn several_requests_may_follow_each_other_and_the_last_needs_no_line_end() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let mut stream = client(&daemon);
    let requests = "{\"command\":\"audit\"}\n".repeat(5) + "{\"command\":\"bans\"}";
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let lines: Vec<Value> =
        BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let commands: Vec<_> = lines.iter().map(|line| line["command"].as_str().unwrap()).collect();
    assert_eq!(commands, ["audit", "audit", "audit", "audit", "audit", "bans"]);
}
