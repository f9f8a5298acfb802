//! An upgrade keeps everything: the program on disk takes over with sockets, handlers, counts and limits, and a program
//! that can't leaves the old one running.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    self, Daemon, OXINETD, Setup, ask, ask_text, connect, connect_from, echo, free_port, hold, listeners, put_program,
    services, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

/// A daemon whose program is a copy, which can be replaced.
struct World {
    daemon: Daemon,
    place: TempDir,
}

impl World {
    fn start(table: &str) -> Self {
        let place = tempfile::Builder::new().prefix("oxinetd-test-").tempdir().unwrap();
        let program = place.path().join("oxinetd");
        put_program(&program, fs::read(OXINETD).unwrap());
        let daemon = Setup::run_by(&[program.to_str().unwrap()], table).start();
        Self { daemon, place }
    }

    /// Puts another program where the daemon's own was, as a package manager does: a new file under the old name.
    fn replace(&self, content: &[u8]) {
        let new = self.place.path().join("new");
        put_program(&new, content);
        fs::rename(&new, self.place.path().join("oxinetd")).unwrap();
    }

    fn upgrades(&self) -> u64 {
        self.daemon.status()["upgrades"]["done"].as_u64().unwrap()
    }

    /// Asks for an upgrade, and waits until the new program serves.
    fn upgrade(&self) {
        let before = self.upgrades();
        self.daemon.signal(Signal::SIGUSR2);
        wait_until("the upgrade", || {
            assert!(!self.daemon.log().contains("upgrade_failed"), "{}", self.daemon.log());
            self.upgrades() > before
        });
    }

    /// Asks for an upgrade to `content`, which must fail with these words, and change nothing.
    fn upgrade_fails(&self, content: &[u8], words: &str) {
        let (before, descriptors) = (self.upgrades(), self.daemon.descriptors());
        self.replace(content);
        self.daemon.signal(Signal::SIGUSR2);
        self.daemon.wait_log(&["upgrade_failed", words]);
        let status = self.daemon.status();
        assert_eq!((&status["upgrades"]["done"], &status["audit"]), (&json!(before), &json!([])));
        wait_until("what the attempt has opened to be closed", || self.daemon.descriptors() == descriptors);
        assert_eq!(self.daemon.zombies(), 0);
    }
}

#[test]
fn logs_of_services_are_reopened() {
    let ([port], table) = services([("cat", "program: /bin/cat, log: { to: FOLDER/cat.log }")]);
    let world = World::start(&table);
    let log = || std::fs::read_to_string(world.daemon.path("cat.log")).unwrap_or_default();
    let mut session = hold(port);
    wait_until("a beginning", || log().contains(" accept service=cat "));
    fs::rename(world.daemon.path("cat.log"), world.daemon.path("old.log")).unwrap();
    world.upgrade();
    echo(&mut session, "still here\n");
    drop(session);
    wait_until("an end in the new file", || log().contains(" exit service=cat "));
    assert!(!world.daemon.log().contains(" exit service=cat "));
    // What can't be opened stops an upgrade before it begins.
    fs::remove_file(world.daemon.path("cat.log")).unwrap();
    fs::create_dir(world.daemon.path("cat.log")).unwrap();
    world.upgrade_fails(&fs::read(OXINETD).unwrap(), "services.cat.log.to");
    assert_eq!(ask_text(port, "served"), "served");
}

/// Tells the clients to stop, also when the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file that a process executes.
fn executes(pid: i32, program: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == program)
}

#[test]
fn ten_upgrades_under_load_lose_no_client() {
    const SOURCES: u8 = 20;
    let (ports, table) = services([("cat", "program: /bin/cat, per_source: { instances: 3 }")]);
    let world = World::start(&table);
    let port = ports[0];
    let mut session = hold(port);
    let mut full: Vec<_> = (0..3).map(|_| connect_from([127, 9, 9, 9], port).unwrap()).collect();
    full.iter_mut().for_each(|stream| echo(stream, "mine\n"));
    let pid = world.daemon.pid;
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for source in 1..=SOURCES {
            let (done, served) = (&done, &served);
            // Each of them ten times a second.
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let stream = connect_from([127, 0, 2, source], port).expect("nobody is refused");
                    assert_eq!(ask(stream, b"hello").expect("nobody is lost"), b"hello");
                    served.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(100).saturating_sub(begin.elapsed()));
                }
            });
        }
        let _done = Done(&done);
        for number in 1..=10 {
            world.replace(&fs::read(OXINETD).unwrap());
            world.upgrade();
            let status = world.daemon.status();
            assert_eq!((&status["upgrades"]["done"], &status["audit"]), (&json!(number), &json!([])));
            assert!(executes(pid, &world.place.path().join("oxinetd")), "it is the file that is there now");
            echo(&mut session, "still here\n");
            full.iter_mut().for_each(|stream| echo(stream, "mine too\n"));
            let refused = connect_from([127, 9, 9, 9], port).map_or(Ok(Vec::new()), |stream| ask(stream, b"x"));
            assert_eq!(refused.unwrap_or_default(), b"", "a source that was at the limit is at the limit");
        }
    });
    drop((session, full));
    world.daemon.wait_idle();
    let status = world.daemon.status();
    let cat = &status["services"]["cat"];
    let accepted = served.load(Ordering::Relaxed) + 4;
    assert_eq!((&cat["accepted"], &cat["exits"]["success"]), (&json!(accepted), &json!(accepted)));
    assert_eq!(cat["refused"], json!({ "source_instances": 10 }));
    assert_eq!(world.daemon.zombies(), 0);
}

#[test]
fn program_that_cannot_take_over_changes_nothing() {
    let (ports, table) = services([("cat", "program: /bin/cat")]);
    let world = World::start(&table);
    let mut session = hold(ports[0]);
    let whole = fs::read(OXINETD).unwrap();
    let script = |text: &str| format!("#!/bin/sh\n{text}\n").into_bytes();
    world.upgrade_fails(&fs::read("/bin/false").unwrap(), "status 1");
    world.upgrade_fails(&fs::read("/bin/true").unwrap(), "status 0");
    // Less than the kernel maps: what comes last in the file may be there for debuggers alone.
    world.upgrade_fails(&whole[..100_000], "cannot");
    world.upgrade_fails(b"", "cannot be started");
    world.upgrade_fails(&script("echo some words; exit 3"), "some words");
    world.upgrade_fails(&script("kill -SEGV $$"), "signal 11");
    world.upgrade_fails(&script("echo 'oxinetd: state of form 0 understood'"), "form 0");
    world.upgrade_fails(&script("exec /bin/sleep 100"), "has not said in 10 s");
    fs::remove_file(world.place.path().join("oxinetd")).unwrap();
    world.daemon.signal(Signal::SIGUSR2);
    world.daemon.wait_log(&["upgrade_failed", "cannot be started", "No such file"]);
    echo(&mut session, "still here\n");
    assert_eq!(ask_text(ports[0], "served"), "served");
    world.replace(&whole);
    let failed = world.daemon.log().matches("upgrade_failed").count();
    world.daemon.signal(Signal::SIGUSR2);
    wait_until("an upgrade that works", || world.upgrades() == 1);
    assert_eq!(world.daemon.log().matches("upgrade_failed").count(), failed);
    echo(&mut session, "and still\n");
}

#[test]
fn table_in_force_is_kept_although_the_files_have_changed() {
    let (ports, table) = services([("cat", "program: /bin/cat, instances: 7")]);
    let world = World::start(&table);
    world.daemon.write("services: { cat: { listen: nowhere } }");
    world.upgrade();
    assert_eq!(ask_text(ports[0], "served"), "served");
    assert_eq!(world.daemon.status()["services"]["cat"]["instances"], 7);
    assert!(world.daemon.reload().is_err(), "the files are those of before");
    world.daemon.change(&table.replace("instances: 7", "instances: 8"));
    assert_eq!(world.daemon.status()["services"]["cat"]["instances"], 8);
}

#[test]
fn lent_socket_comes_back_after_an_upgrade() {
    let port = free_port();
    // Serves one datagram, then ends.
    let script = "import socket; s = socket.socket(fileno=0); d, a = s.recvfrom(99); s.sendto(d.upper(), a)";
    // Takes its client, so that the socket is not lent again at once.
    let slow = "import socket, time; time.sleep(1); socket.socket(fileno=0).accept()";
    let table = format!(
        "services: {{ upper: {{ listen: udp4/127.0.0.1:{port}, wait: true, program: [/usr/bin/python3, -c, '{script}'] }},
        slow: {{ listen: 'unix:FOLDER/slow', wait: true, program: [/usr/bin/python3, -c, '{slow}'] }} }}"
    );
    let Some(_) = support::installed("python3") else { return support::skip("no python3") };
    let world = World::start(&table);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut bytes = [0; 9];
    for _ in 0..3 {
        client.send_to(b"word", ("127.0.0.1", port)).unwrap();
        assert_eq!(client.recv(&mut bytes).unwrap(), 4);
        assert_eq!(&bytes[..4], b"WORD");
        wait_until("the handler to end", || listeners(&world.daemon.status(), "upper") == ["listening"]);
        world.upgrade();
    }
    let path = world.daemon.path("slow");
    let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    wait_until("it to be lent", || listeners(&world.daemon.status(), "slow") == ["lent"]);
    world.upgrade();
    assert!(path.exists(), "the socket's file stays");
    wait_until("it to come back", || listeners(&world.daemon.status(), "slow") != ["lent"]);
    world.daemon.signal(Signal::SIGTERM);
    wait_until("its file to go with the daemon", || !path.exists());
}

/// Asks the daemon by its control socket; exit status and both outputs.
fn ctl(daemon: &Daemon, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oxinetctl"));
    let output = command.arg("--socket").arg(daemon.path("control.sock")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// Is a client of this source admitted?
fn is_admitted(source: [u8; 4], port: u16) -> bool {
    connect_from(source, port).is_ok_and(|stream| ask(stream, b"x").is_ok_and(|answer| answer == b"x"))
}

#[test]
fn rates_and_penalties_of_sources_are_kept() {
    let ([slow, service, traps], table) = services([
        ("slow", "program: /bin/cat, per_source: { rate: 1/h, burst: 3 }, per_network: { rate: 1/h, burst: 8 }"),
        ("service", "program: /bin/cat, rate: 1/h, burst: 2"),
        ("traps", "program: /bin/false, penalties: { exit: 1h, min: 0s, max: 2h }"),
    ]);
    let world = World::start(&table);
    let daemon = &world.daemon;
    for _ in 0..3 {
        assert!(is_admitted([127, 0, 3, 1], slow));
    }
    assert!(is_admitted([127, 0, 3, 2], slow));
    assert!(is_admitted([127, 0, 0, 1], service));
    assert!(!is_admitted([127, 0, 4, 1], traps));
    wait_until("the penalty", || !is_admitted([127, 0, 4, 1], slow));
    assert_eq!(ctl(daemon, &["ban", "127.0.5.0/24"]).0, 0);
    assert_eq!(ctl(daemon, &["ban", "127.0.6.1", "1h"]).0, 0);
    let bans = ctl(daemon, &["--format", "json", "bans"]).1;
    world.upgrade();
    world.upgrade();
    assert!(!is_admitted([127, 0, 3, 1], slow), "it has used up its burst");
    assert!(is_admitted([127, 0, 3, 2], slow) && is_admitted([127, 0, 3, 2], slow), "and this one two thirds less");
    assert!(!is_admitted([127, 0, 3, 2], slow));
    assert!(is_admitted([127, 0, 3, 3], slow) && is_admitted([127, 0, 3, 4], slow));
    assert!(!is_admitted([127, 0, 3, 5], slow), "their network has used up its eight");
    assert!(!is_admitted([127, 0, 4, 1], slow), "it still has a penalty");
    assert!(!is_admitted([127, 0, 5, 77], slow) && !is_admitted([127, 0, 6, 1], slow), "and they are banned");
    let names = |bans: &str| {
        let bans: serde_json::Value = serde_json::from_str(bans).unwrap();
        let all = bans["bans"].as_array().unwrap().iter().map(|ban| ban["network"].clone());
        all.collect::<Vec<_>>()
    };
    assert_eq!(names(&ctl(daemon, &["--format", "json", "bans"]).1), names(&bans));
    assert!(is_admitted([127, 0, 0, 1], service), "the second of two");
    let _waiting = connect_from([127, 0, 0, 1], service).unwrap();
    wait_until("the service to pause", || listeners(&daemon.status(), "service") == ["paused service_rate"]);
}

#[test]
fn oxinetctl_upgrade_waits_for_the_outcome() {
    let (ports, table) = services([("cat", "program: /bin/cat"), ("idle", "program: /bin/cat")]);
    let world = World::start(&table);
    assert_eq!(ctl(&world.daemon, &["drain", "idle"]).0, 0);
    let (status, said) = ctl(&world.daemon, &["upgrade"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains(&format!("version {} has taken over", env!("CARGO_PKG_VERSION"))), "{said}");
    assert_eq!(ask_text(ports[0], "served"), "served");
    assert!(!is_admitted([127, 0, 0, 1], ports[1]), "what is drained stays drained");
    world.replace(&fs::read("/bin/false").unwrap());
    let (status, said) = ctl(&world.daemon, &["upgrade"]);
    assert_eq!(status, 1);
    assert!(said.contains("the running program continues: the new program cannot take over: status 1"), "{said}");
    let status = world.daemon.status();
    assert_eq!((&status["upgrades"]["done"], &status["upgrades"]["failed"]), (&json!(1), &json!(1)));
    assert_eq!(ask_text(ports[0], "served"), "served");
}

#[test]
fn lifetime_of_a_handler_is_kept() {
    let (ports, table) = services([("cat", "program: /bin/cat, lifetime: 3s")]);
    let world = World::start(&table);
    let mut session = hold(ports[0]);
    world.upgrade();
    let mut rest = Vec::new();
    session.read_to_end(&mut rest).unwrap();
    world.daemon.wait_log(&["kill", "service=cat", "signal=SIGTERM"]);
    world.daemon.wait_log(&["exit", "service=cat", "signal=SIGTERM"]);
    world.daemon.wait_idle();
}

#[test]
fn signals_and_pid_file_work_after_an_upgrade() {
    let (ports, table) = services([("cat", "program: /bin/cat")]);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("pid");
    let mut setup = Setup::new(&table);
    setup.command.arg("--pid-file").arg(&file);
    let mut daemon = setup.start();
    for number in 1..=3 {
        daemon.signal(Signal::SIGUSR2);
        wait_until("the upgrade", || daemon.status()["upgrades"]["done"] == number);
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", daemon.pid));
    }
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", daemon.pid)).unwrap();
    assert_eq!(arguments.matches("--take-over").count(), 1, "{arguments:?}");
    let mut stream: TcpStream = connect(ports[0]);
    stream.write_all(b"x").unwrap();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_end().success());
    assert!(!file.exists());
}

#[test]
fn optional_parts_that_fail_do_not_stop_the_new_program() {
    let (ports, table) = services([("cat", "program: /bin/cat")]);
    let place = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&table);
    setup.command.arg("--pid-file").arg(place.path().join("pid"));
    let daemon = setup.start();
    drop(place);
    // No socket, and so in the way of one.
    fs::remove_file(daemon.path("control.sock")).unwrap();
    fs::write(daemon.path("control.sock"), "").unwrap();
    daemon.signal(Signal::SIGUSR2);
    wait_until("the upgrade", || daemon.status()["upgrades"]["done"] == 1);
    daemon.wait_log(&["warning", "--pid-file", "No such file"]);
    daemon.wait_log(&["warning", "control.sock", "it is no socket"]);
    assert_eq!(ask_text(ports[0], "served"), "served");
}

#[test]
fn log_that_cannot_be_reopened_stops_the_upgrade_and_not_the_daemon() {
    let (ports, table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    fs::remove_file(daemon.path("log")).unwrap();
    fs::create_dir(daemon.path("log")).unwrap();
    let (status, said) = ctl(&daemon, &["upgrade"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("the new program cannot take over") && said.contains("Is a directory"), "{said}");
    assert_eq!(ask_text(ports[0], "served"), "served");
}
