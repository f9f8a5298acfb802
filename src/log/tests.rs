//! Lines as oxinetd(8) promises them, and a log that can't hold anybody up.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{CountOf, Event, Level};
use super::queue::{EVENTS_MAX, EVENTS_RESERVED, Queue, QueueItem};
use super::render::Stamp;
use super::sink::Sink;
use super::sinks::Sinks;
use super::{Log, LogConfig, LogFormat, LogOverrides, LogPlace, LogTarget};
use crate::net::Peer;
use crate::types::{Ending, Reason};

const LONG: Duration = Duration::from_secs(30);

fn peer() -> Peer {
    Peer::Inet("203.0.113.9".parse().unwrap(), 51234)
}

fn warning(message: &str) -> Event {
    Event::Warning { message: message.to_owned() }
}

fn text(event: &Event) -> String {
    let mut line = String::new();
    event.write_text(&mut line);
    line
}

fn json(event: &Event) -> serde_json::Value {
    let mut line = String::new();
    event.write_json(&mut line, &mut Stamp::default(), Duration::from_millis(1_764_000_000_123));
    assert!(!line.contains('\n'));
    serde_json::from_str(&line).unwrap()
}

fn place(to: LogTarget) -> LogPlace {
    LogPlace { to, facility: 3, format: LogFormat::Text }
}

fn settings(to: LogTarget) -> LogConfig {
    LogConfig { place: place(to), level: Level::Info, services: Vec::new() }
}

#[test]
fn lines_are_as_documented() {
    let service = || Arc::<str>::from("git");
    let of = |count, limit| CountOf { count, limit };
    let accept = Event::Accept {
        service: service(),
        peer: peer(),
        pid: 4711,
        source_count: of(2, Some(10)),
        service_count: of(17, None),
    };
    assert_eq!(
        text(&accept),
        "accept service=git source=203.0.113.9 port=51234 pid=4711 source_count=2/10 service_count=17"
    );
    let refuse = |retry: Option<u64>, dry_run| {
        let (reason, retry) = (Reason::SourceInstances, retry.map(Duration::from_millis));
        Event::Refuse { service: service(), peer: peer(), reason, retry, dry_run }
    };
    let line = "refuse service=git source=203.0.113.9 reason=source_instances";
    assert_eq!(text(&refuse(None, false)), line);
    assert_eq!(text(&refuse(Some(12_340), true)), format!("{line} retry=12.34s dry_run=true"));
    let json = json(&refuse(Some(500), true));
    assert_eq!((&json["dry_run"], &json["retry_seconds"]), (&true.into(), &0.5.into()));
    let exit = |ending| Event::Exit {
        service: service(),
        peer: Peer::Unix { uid: 1000, gid: 100 },
        pid: 4711,
        ending,
        duration: Duration::from_millis(4_210),
        cpu: Duration::from_millis(30),
        rss: 5 << 20,
    };
    assert_eq!(
        text(&exit(Ending::Exited(0))),
        "exit service=git source=uid:1000 pid=4711 status=0 duration=4.21s cpu=0.03s rss=5M"
    );
    assert!(text(&exit(Ending::Signaled(9))).contains(" signal=SIGKILL "));
    let pause = Event::Pause {
        service: service(),
        endpoint: "udp4/69".to_owned(),
        reason: Reason::Backoff,
        retry: Some(Duration::from_millis(100)),
    };
    assert_eq!(text(&pause), "pause service=git endpoint=udp4/69 reason=backoff retry=0.10s");
    let failed = Event::SpawnFailed { service: service(), peer: peer(), step: "exec", errno: libc::ENOENT };
    assert_eq!(
        text(&failed),
        "spawn_failed service=git source=203.0.113.9 step=exec errno=2 error=\"No such file or directory\""
    );
}

#[test]
fn json_has_the_same_fields_with_their_types() {
    let exit = Event::Exit {
        service: "git".into(),
        peer: peer(),
        pid: 4711,
        ending: Ending::Exited(3),
        duration: Duration::from_millis(4_250),
        cpu: Duration::ZERO,
        rss: 1024,
    };
    let value = json(&exit);
    assert_eq!((&value["event"], &value["level"]), (&"exit".into(), &"info".into()));
    assert_eq!((&value["service"], &value["source"]), (&"git".into(), &"203.0.113.9".into()));
    assert_eq!((&value["status"], &value["duration_seconds"]), (&3.into(), &4.25.into()));
    assert_eq!((&value["rss_bytes"], &value["pid"]), (&1024.into(), &4711.into()));
    let time = value["time"].as_str().unwrap();
    assert!(time.contains(".123") && time.as_bytes()[time.len() - 3] == b':', "{time}");
}

#[test]
fn nothing_can_make_a_second_line() {
    let evil = "a\nrefuse service=ssh source=192.0.2.1 \x1b[31m\u{2028}\u{202e}\"\\";
    let line = text(&warning(evil));
    assert_eq!(
        line,
        "warning message=\"a\\nrefuse service=ssh source=192.0.2.1 \\u{1b}[31m\\u{2028}\\u{202e}\\\"\\\\\""
    );
    assert_eq!(json(&warning(evil))["message"], evil);
    assert_eq!(text(&warning("")), "warning message=\"\"");
}

#[test]
fn a_full_queue_drops_and_counts_but_keeps_room_for_what_matters() {
    let queue = Queue::new(Level::Info);
    let push = |event| queue.push_event(Duration::ZERO, event);
    let daily = || Event::Unlisten { service: "a".into(), endpoint: "tcp/1".into() };
    (0..EVENTS_MAX).for_each(|_| push(daily()));
    assert_eq!(queue.dropped(), EVENTS_RESERVED as u64);
    (0..EVENTS_RESERVED).for_each(|_| push(warning("w")));
    assert_eq!(queue.dropped(), EVENTS_RESERVED as u64);
    push(warning("one too many"));
    assert_eq!(queue.dropped(), EVENTS_RESERVED as u64 + 1);
    let mut batch = Default::default();
    queue.take_all(&mut batch);
    assert_eq!(batch.len(), EVENTS_MAX);
    assert!(matches!(&batch[0], QueueItem::Event(_, Event::Unlisten { .. })));
    assert!(!queue.wait_until_empty(Duration::from_millis(1)), "what is taken is not written yet");
    queue.mark_written();
    assert!(queue.wait_until_empty(LONG));
}

#[test]
fn a_file_gets_lines_with_a_time_and_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let settings = settings(LogTarget::File(path.clone()));
    let log = Log::start(&settings).unwrap();
    log.write(warning("first"));
    log.write(Event::Resume { service: "quiet".into(), endpoint: "tcp/1".into() });
    assert!(log.flush(LONG));
    fs::rename(&path, folder.path().join("log.1")).unwrap();
    log.write(warning("second"));
    log.commit(Log::prepare(&settings).unwrap());
    log.write(warning("third"));
    assert!(log.flush(LONG));
    let old = fs::read_to_string(folder.path().join("log.1")).unwrap();
    let new = fs::read_to_string(&path).unwrap();
    assert_eq!((old.lines().count(), new.lines().count()), (2, 1), "{old}{new}");
    let (time, rest) = new.split_once(' ').unwrap();
    assert_eq!((time.len(), rest), ("2026-11-24T09:15:00.123+0100".len(), "warning message=third\n"));
    assert!(old.lines().all(|line| line.contains("first") || line.contains("second")));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    assert!(Log::start(&settings(LogTarget::File(folder.path().into()))).is_err());
    let log = Log::start(&settings(LogTarget::File(path.clone()))).unwrap();
    assert!(Log::prepare(&settings(LogTarget::File("/nonexistent/log".into()))).is_err());
    log.write(warning("still here"));
    assert!(log.flush(LONG));
    assert!(fs::read_to_string(path).unwrap().contains("still here"));
}

fn receive(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let size = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..size].to_vec()).unwrap()
}

fn bind(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// Polls until `put` has brought a message.
fn until_heard(socket: &UnixDatagram, mut put: impl FnMut()) -> String {
    socket.set_nonblocking(true).unwrap();
    let end = Instant::now() + LONG;
    let mut bytes = [0; 4096];
    while Instant::now() < end {
        put();
        if let Ok(size) = socket.recv(&mut bytes) {
            return String::from_utf8(bytes[..size].to_vec()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nothing came");
}

#[test]
fn syslog_gets_a_datagram_for_each_line_in_local_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dev-log");
    let daemon = bind(&path);
    let mut sink = Sink::syslog_at(&path, 3);
    let time = Duration::from_secs(1_764_000_000);
    sink.put_event(time, &warning("one"));
    sink.put_event(time, &warning("two words"));
    let local = crate::sys::clock::local_time(1_764_000_000);
    // 24 November 2025, 16:00 UTC; the day may be the 25th far in the east.
    let stamp = format!("Nov {:2} {:02}:{:02}:00", local.day, local.hour, local.minute);
    let pid = std::process::id();
    assert_eq!(receive(&daemon), format!("<28>{stamp} oxinetd[{pid}]: warning message=one"));
    assert_eq!(receive(&daemon), format!("<28>{stamp} oxinetd[{pid}]: warning message=\"two words\""));
    assert_eq!(sink.flush_batch(), 0);
}

#[test]
fn a_syslog_that_nobody_reads_loses_lines_and_is_used_again_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dev-log");
    let daemon = bind(&path);
    let mut sink = Sink::syslog_at(&path, 3);
    // More than any net.unix.max_dgram_qlen and send buffer: this would block for ever.
    let message = "x".repeat(20_000);
    let mut lost = 0;
    for _ in 0..2_000 {
        sink.put_event(Duration::ZERO, &warning(&message));
        lost += sink.flush_batch();
    }
    assert!(lost > 0);
    daemon.set_nonblocking(true).unwrap();
    while daemon.recv(&mut [0; 32_768]).is_ok() {}
    let heard = until_heard(&daemon, || sink.put_event(Duration::ZERO, &warning("back")));
    assert!(heard.ends_with("message=back"), "{heard}");
}

#[test]
fn a_syslog_that_goes_away_and_comes_back_gets_lines_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dev-log");
    let mut sink = Sink::syslog_at(&path, 3);
    sink.put_event(Duration::ZERO, &warning("nobody there"));
    assert_eq!(sink.flush_batch(), 1);
    for round in ["first", "second"] {
        let daemon = bind(&path);
        let heard = until_heard(&daemon, || sink.put_event(Duration::ZERO, &warning(round)));
        assert!(heard.ends_with(round), "{heard}");
        drop(daemon);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn the_journal_gets_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let daemon = bind(&path);
    let mut sink = Sink::journal_at(&path);
    let failed = Event::SpawnFailed { service: "git".into(), peer: peer(), step: "exec", errno: libc::ENOENT };
    sink.put_event(Duration::ZERO, &failed);
    let message = receive(&daemon);
    let fields: Vec<_> = message.lines().collect();
    assert!(fields[0].starts_with("MESSAGE=spawn_failed service=git"));
    let rest = ["PRIORITY=3", "SYSLOG_IDENTIFIER=oxinetd", "OXINETD_EVENT=spawn_failed", "OXINETD_SERVICE=git"];
    assert_eq!(fields[1..5], rest);
    assert_eq!(fields[5..], ["REMOTE_ADDR=203.0.113.9"]);
}

#[test]
fn what_was_lost_while_nobody_listened_is_told_in_full_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dev-log");
    let log = Log::start_with(Sinks::new(Sink::syslog_at(&path, 3)), Level::Info).unwrap();
    for _ in 0..3 {
        log.write(warning("nobody there"));
        assert!(log.flush(LONG));
    }
    assert_eq!(log.dropped(), 3, "only what was written counts");
    let daemon = bind(&path);
    let mut heard = until_heard(&daemon, || log.write(warning("back")));
    while !heard.contains("dropped lines=") {
        heard = until_heard(&daemon, || ());
    }
    let lines: u64 = heard.rsplit('=').next().unwrap().parse().unwrap();
    assert!(log.flush(LONG));
    assert_eq!(lines, log.dropped());
}

fn pause(service: &str) -> Event {
    Event::Pause { service: service.into(), endpoint: "tcp/1".to_owned(), reason: Reason::Load, retry: None }
}

/// The services that the lines of a file speak of, in their order.
fn services_in(path: &Path) -> Vec<String> {
    let lines = fs::read_to_string(path).unwrap_or_default();
    let of = |line: &str| line.split(" service=").nth(1).map_or("-", |rest| rest.split(' ').next().unwrap()).to_owned();
    lines.lines().map(of).collect()
}

#[test]
fn lines_of_a_service_go_to_its_own_place_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let own = |service: &str, name: &str| (service.to_owned(), place(LogTarget::File(path(name))));
    let mut settings = settings(LogTarget::File(path("daemon")));
    settings.services = vec![own("a", "a"), own("b", "shared"), own("c", "shared"), own("d", "daemon")];
    let log = Log::start(&settings).unwrap();
    let listen = Event::Listen { service: "a".into(), endpoint: "tcp/1".to_owned(), how: "opened" };
    for event in [listen, pause("a"), pause("c"), pause("b"), pause("c"), pause("d"), pause("e"), warning("w")] {
        log.write(event);
    }
    assert!(log.flush(LONG));
    assert_eq!(services_in(&path("a")), ["a"]);
    assert_eq!(services_in(&path("shared")), ["c", "b", "c"]);
    assert_eq!(services_in(&path("daemon")), ["a", "d", "e", "-"], "sockets that are opened are the daemon's business");
    settings.services = vec![own("b", "b")];
    log.commit(Log::prepare(&settings).unwrap());
    [pause("a"), pause("b")].into_iter().for_each(|event| log.write(event));
    assert!(log.flush(LONG));
    assert_eq!((services_in(&path("a")).len(), services_in(&path("shared")).len()), (1, 3));
    assert_eq!(services_in(&path("b")), ["b"]);
    assert_eq!(services_in(&path("daemon"))[4..], ["a"]);
}

#[test]
fn what_a_service_leaves_open_is_as_the_daemon_has_it() {
    let common = LogPlace { to: LogTarget::Journal, facility: 3, format: LogFormat::Json };
    assert_eq!(LogOverrides::default().resolve(&common), common);
    let own = LogOverrides { to: Some(LogTarget::Syslog), facility: Some(19), format: Some(LogFormat::Text) };
    assert_eq!(own.resolve(&common), LogPlace { to: LogTarget::Syslog, facility: 19, format: LogFormat::Text });
    let own = LogOverrides { facility: Some(19), ..LogOverrides::default() };
    assert_eq!(own.resolve(&common), common, "the journal knows no facility");
    let common = LogPlace { to: LogTarget::Syslog, ..common };
    assert_eq!(own.resolve(&common), LogPlace { facility: 19, ..common });
}

#[test]
fn what_the_place_of_a_service_loses_is_told_in_the_log_of_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon");
    let mut settings = settings(LogTarget::File(path.clone()));
    settings.services = vec![("full".to_owned(), place(LogTarget::File("/dev/full".into())))];
    let log = Log::start(&settings).unwrap();
    [pause("full"), pause("full"), pause("other")].into_iter().for_each(|event| log.write(event));
    assert!(log.flush(LONG));
    assert_eq!(log.dropped(), 2);
    let lines = fs::read_to_string(&path).unwrap();
    let told: u64 = lines.lines().filter_map(|line| line.split("dropped lines=").nth(1)?.parse::<u64>().ok()).sum();
    assert_eq!(told, 2, "{lines}");
    assert_eq!(services_in(&path).iter().filter(|service| *service == "other").count(), 1);
}

#[test]
fn a_place_of_a_service_that_cannot_be_opened_is_an_error_that_names_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon");
    let mut settings = settings(LogTarget::File(path.clone()));
    let log = Log::start(&settings).unwrap();
    settings.services = vec![("git".to_owned(), place(LogTarget::File("/nonexistent/log".into())))];
    let error = Log::prepare(&settings).unwrap_err().to_string();
    assert!(error.starts_with("services.git.log.to: /nonexistent/log: No such file"), "{error}");
    log.write(pause("git"));
    assert!(log.flush(LONG));
    assert_eq!(services_in(&path), ["git"]);
}
