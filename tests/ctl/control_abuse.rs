//! The control socket against clients that mean it badly, or nothing at all: they hold neither the loop nor memory, they
//! keep no other client out, and service goes on.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Daemon, OXINETD, Setup, ask_text, children_of, field, services, skip, wait_for, wait_until};

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

/// How many turns there have been, and the longest of them.
fn turns(daemon: &Daemon) -> String {
    let status = ask(daemon, r#"{"command":"status"}"#)["result"].clone();
    let longest = status["longest_turn_seconds"].as_f64().unwrap() * 1e3;
    format!("{} of {longest:.2} ms at most", status["turns"]["count"])
}

/// Writes until no more is taken; a gigabyte at most.
fn flood(mut stream: UnixStream) -> usize {
    let bytes = vec![b'x'; 64 * 1024];
    (0..16_384).take_while(|_| stream.write_all(&bytes).is_ok()).count() * bytes.len()
}

#[test]
fn hundred_bad_clients_use_no_memory_and_keep_no_client_out() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    assert_eq!(ask(&daemon, r#"{"command":"audit"}"#)["result"]["handlers"], 0);
    for _ in 0..10 {
        assert_eq!(ask_text(port, "still here\n"), "still here\n");
    }
    let (before, descriptors) = (resident(&daemon), daemon.descriptors());
    let quiet = turns(&daemon);
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
    // How long a turn takes is up to the machine as well, so it is told and not judged; what is done in one, see below.
    let _ = writeln!(io::stderr(), "turns before: {quiet}; with a hundred bad clients: {}", turns(&daemon));
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} kB more than before");
    assert!(daemon.descriptors() <= descriptors + 33, "{} descriptors", daemon.descriptors());
    assert_eq!(ask(&daemon, r#"{"command":"audit"}"#)["result"]["drifts"].as_array().map(Vec::len), Some(0));
    drop(open);
    wait_until("the clients to be forgotten", || daemon.descriptors() <= descriptors);
}

/// What the daemon has done for control clients between two waits.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    accepts: usize,
    reads: usize,
    longest_read: usize,
    writes: usize,
    longest_write: usize,
}

/// The turns in a trace of the daemon's own thread, strace(1)'s: a call on each line. By their flags, reads and writes are
/// told from others than of control clients.
fn turns_of(trace: &str) -> Vec<Turn> {
    let mut turns = vec![Turn::default()];
    for line in trace.lines() {
        let (call, result) = (line.split('(').next().unwrap(), line.rsplit(" = ").next().unwrap_or_default());
        let bytes: usize = result.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let turn = turns.last_mut().unwrap();
        match call {
            "epoll_pwait" => turns.push(Turn::default()),
            "accept4" => turn.accepts += 1,
            "recvfrom" if line.contains("MSG_DONTWAIT") => {
                (turn.reads, turn.longest_read) = (turn.reads + 1, turn.longest_read.max(bytes));
            }
            "sendto" if line.contains("MSG_NOSIGNAL") => {
                (turn.writes, turn.longest_write) = (turn.writes + 1, turn.longest_write.max(bytes));
            }
            _ => {}
        }
    }
    turns
}

/// A table with so many services that a status is large.
fn with_many_services() -> ([u16; 1], String) {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let entry = |number| {
        format!(
            "  service-{number}: {{ listen: 'unix:FOLDER/{number}', program: /bin/cat, per_source: {{ instances: 9 }} }}\n"
        )
    };
    ([port], format!("{table}{}", (0..400).map(entry).collect::<String>()))
}

#[test]
fn hundred_bad_clients_add_bounded_work_to_a_turn() {
    const CALLS: &str = "trace=epoll_pwait,accept4,recvfrom,sendto";
    let traces = tempfile::tempdir().unwrap();
    let file = traces.path().join("trace");
    let strace = ["strace", "-qq", "-s", "8", "-e", CALLS, "-o", file.to_str().unwrap()];
    let works = Command::new(strace[0]).args(&strace[1..]).arg("/bin/true").status();
    if !works.is_ok_and(|status| status.success()) {
        return skip("no strace, or it may not trace here");
    }
    let mut daemon = Setup::run_by(&[&strace[..], &[OXINETD]].concat(), &with_many_services().1).start();
    daemon.pid = wait_for("the daemon itself", || children_of(daemon.pid).first().copied());
    // All of them have come, and said what they have to say, when it goes on.
    daemon.stand_still();
    let clients: Vec<_> = (0..100).map(|_| client(&daemon)).collect();
    let mut threads = Vec::new();
    for (number, mut stream) in clients.into_iter().enumerate() {
        threads.push(thread::spawn(move || match number % 4 {
            0 => drop(stream.write_all("]]]\n".repeat(3_000).as_bytes())),
            1 => drop(stream.write_all(br#"{"command":"aud"#)),
            2 => drop(flood(stream)),
            _ => {
                let _ = stream.write_all("{\"command\":\"status\"}\n".repeat(5).as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
                let _ = io::copy(&mut stream, &mut io::sink());
            }
        }));
    }
    daemon.signal(Signal::SIGCONT);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(ask(&daemon, r#"{"command":"audit"}"#)["result"]["drifts"], json!([]));
    let turns = turns_of(&fs::read_to_string(&file).unwrap());
    let most = |what: fn(&Turn) -> usize| turns.iter().map(what).max().unwrap();
    // Each of 32 clients may send a request's 4096 bytes or take 64 KiB, and one that has asked begins to take its answer.
    let told =
        format!("{} turns, the busiest {:?}", turns.len(), turns.iter().max_by_key(|turn| turn.reads + turn.writes));
    assert!(most(|turn| turn.accepts) <= 16, "{told}");
    assert!(most(|turn| turn.reads) <= 32 && most(|turn| turn.writes) <= 33, "{told}");
    assert_eq!((most(|turn| turn.longest_read), most(|turn| turn.longest_write)), (4096, 65_536), "{told}");
    // It was a crowd, and the trace has it.
    assert!(most(|turn| turn.accepts) > 1 && most(|turn| turn.reads) > 1, "{told}");
    let _ = writeln!(io::stderr(), "{told}");
}

#[test]
fn client_silent_for_ten_seconds_is_disconnected() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let (mut silent, mut slow) = (client(&daemon), client(&daemon));
    slow.write_all(b"{").unwrap();
    let mut bytes = [0; 16];
    assert_eq!(silent.read(&mut bytes).unwrap(), 0);
    assert_eq!(slow.read(&mut bytes).unwrap(), 0);
}

#[test]
fn large_answer_is_sent_in_pieces_and_a_client_that_does_not_read_delays_no_other() {
    let ([port], table) = with_many_services();
    let daemon = Daemon::start(&table);
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
    // A client that comes back in time still gets all of its answer.
    let mut line = String::new();
    BufReader::new(&lazy[0]).read_line(&mut line).unwrap();
    let late: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(late["result"]["services"].as_object().unwrap().len(), 401);
}

#[test]
fn request_has_at_most_4096_bytes() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let padded = |bytes: usize| format!("{}{}", " ".repeat(bytes - 19), r#"{"command":"audit"}"#);
    assert_eq!(ask(&daemon, &padded(4096))["command"], "audit");
    assert_eq!(ask(&daemon, &padded(4097))["error"]["code"], "too_long");
}

#[test]
fn several_requests_may_follow_each_other_and_the_last_needs_no_newline() {
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
