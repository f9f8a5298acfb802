//! Every kind of event as oxinetd(8) shows it, in both shapes.

use std::sync::Arc;
use std::time::Duration;

use super::super::event::{CountOf, Event};
use super::Stamp;
use crate::net::Peer;
use crate::types::{Ending, Reason};

fn inet() -> Peer {
    Peer::Inet("203.0.113.9".parse().unwrap(), 51234)
}

fn unix() -> Peer {
    Peer::Unix { uid: 1000, gid: 100 }
}

fn git() -> Arc<str> {
    "git".into()
}

/// The event as text must be `text`, and as JSON must have exactly the members of `json` besides its time.
#[track_caller]
fn check(event: &Event, text: &str, json: &str) {
    let mut line = String::new();
    event.write_text(&mut line);
    assert_eq!(line, text);
    line.clear();
    event.write_json(&mut line, &mut Stamp::default(), Duration::ZERO);
    let mut members: serde_json::Value = serde_json::from_str(&line).unwrap();
    let time = members.as_object_mut().unwrap().remove("time").unwrap();
    assert!(time.as_str().unwrap().contains(".000"), "{time}");
    assert_eq!(members, serde_json::from_str::<serde_json::Value>(json).unwrap());
}

#[test]
fn the_life_of_the_daemon() {
    check(
        &Event::Start { version: "0.1.0", pid: 1, services: 3, listeners: 5 },
        "start version=0.1.0 pid=1 services=3 listeners=5",
        r#"{"level":"notice","event":"start","version":"0.1.0","pid":1,"services":3,"listeners":5}"#,
    );
    check(
        &Event::Reload { added: 1, removed: 2, altered: 3, kept: 4 },
        "reload added=1 removed=2 altered=3 kept=4",
        r#"{"level":"notice","event":"reload","added":1,"removed":2,"altered":3,"kept":4}"#,
    );
    check(
        &Event::ReloadFailed { problem: "a.yaml:3:1: services.git: unknown key".to_owned() },
        "reload_failed problem=\"a.yaml:3:1: services.git: unknown key\"",
        r#"{"level":"error","event":"reload_failed","problem":"a.yaml:3:1: services.git: unknown key"}"#,
    );
    check(
        &Event::Stop { signal: "SIGTERM", handlers: 7 },
        "stop signal=SIGTERM handlers=7",
        r#"{"level":"notice","event":"stop","signal":"SIGTERM","handlers":7}"#,
    );
    check(
        &Event::Inconsistency { what: "git".to_owned(), expected: "2".to_owned(), found: "3".to_owned() },
        "inconsistency what=git expected=2 found=3",
        r#"{"level":"critical","event":"inconsistency","what":"git","expected":"2","found":"3"}"#,
    );
    check(
        &Event::Status { json: r#"{"handlers":2}"#.to_owned() },
        r#"status json={"handlers":2}"#,
        r#"{"level":"notice","event":"status","json":{"handlers":2}}"#,
    );
    check(&Event::Dropped { lines: 12 }, "dropped lines=12", r#"{"level":"warning","event":"dropped","lines":12}"#);
    check(
        &Event::Warning { message: "a=b".to_owned() },
        "warning message=\"a=b\"",
        r#"{"level":"warning","event":"warning","message":"a=b"}"#,
    );
}

#[test]
fn the_life_of_a_listener() {
    let endpoint = || "tcp/9418".to_owned();
    check(
        &Event::Listen { service: git(), endpoint: endpoint(), how: "opened" },
        "listen service=git endpoint=tcp/9418 how=opened",
        r#"{"level":"info","event":"listen","service":"git","endpoint":"tcp/9418","how":"opened"}"#,
    );
    check(
        &Event::Unlisten { service: git(), endpoint: endpoint() },
        "unlisten service=git endpoint=tcp/9418",
        r#"{"level":"info","event":"unlisten","service":"git","endpoint":"tcp/9418"}"#,
    );
    let retry = Some(Duration::from_millis(12_500));
    check(
        &Event::Pause { service: git(), endpoint: endpoint(), reason: Reason::Resources, retry },
        "pause service=git endpoint=tcp/9418 reason=resources retry=12.50s",
        r#"{"level":"notice","event":"pause","service":"git","endpoint":"tcp/9418","reason":"resources",
            "retry_seconds":12.5}"#,
    );
    check(
        &Event::Pause { service: git(), endpoint: endpoint(), reason: Reason::ServiceInstances, retry: None },
        "pause service=git endpoint=tcp/9418 reason=service_instances",
        r#"{"level":"notice","event":"pause","service":"git","endpoint":"tcp/9418","reason":"service_instances"}"#,
    );
    check(
        &Event::Resume { service: git(), endpoint: endpoint() },
        "resume service=git endpoint=tcp/9418",
        r#"{"level":"debug","event":"resume","service":"git","endpoint":"tcp/9418"}"#,
    );
}

#[test]
fn the_life_of_a_handler() {
    let (source_count, service_count) = (CountOf { count: 2, limit: Some(10) }, CountOf { count: 17, limit: None });
    check(
        &Event::Accept { service: git(), peer: inet(), pid: 4711, source_count, service_count },
        "accept service=git source=203.0.113.9 port=51234 pid=4711 source_count=2/10 service_count=17",
        r#"{"level":"info","event":"accept","service":"git","source":"203.0.113.9","port":51234,"pid":4711,
            "source_count":{"count":2,"limit":10},"service_count":{"count":17,"limit":null}}"#,
    );
    let (duration, cpu) = (Duration::from_millis(4_210), Duration::from_millis(30));
    let exit = |peer, ending, rss| Event::Exit { service: git(), peer, pid: 4711, ending, duration, cpu, rss };
    check(
        &exit(unix(), Ending::Signaled(libc::SIGKILL), 5 << 20),
        "exit service=git source=uid:1000 pid=4711 signal=SIGKILL duration=4.21s cpu=0.03s rss=5M",
        r#"{"level":"info","event":"exit","service":"git","source":"uid:1000","pid":4711,"signal":"SIGKILL",
            "duration_seconds":4.21,"cpu_seconds":0.03,"rss_bytes":5242880}"#,
    );
    check(
        &exit(Peer::Unknown, Ending::Exited(1), 640 << 10),
        "exit service=git source=- pid=4711 status=1 duration=4.21s cpu=0.03s rss=640k",
        r#"{"level":"info","event":"exit","service":"git","source":"-","pid":4711,"status":1,
            "duration_seconds":4.21,"cpu_seconds":0.03,"rss_bytes":655360}"#,
    );
    check(
        &Event::Kill { service: git(), peer: inet(), pid: 4711, signal: "SIGTERM" },
        "kill service=git source=203.0.113.9 pid=4711 signal=SIGTERM",
        r#"{"level":"notice","event":"kill","service":"git","source":"203.0.113.9","pid":4711,"signal":"SIGTERM"}"#,
    );
    check(
        &Event::SpawnFailed { service: git(), peer: inet(), step: "exec", errno: libc::EACCES },
        "spawn_failed service=git source=203.0.113.9 step=exec errno=13 error=\"Permission denied\"",
        r#"{"level":"error","event":"spawn_failed","service":"git","source":"203.0.113.9","step":"exec","errno":13,
            "error":"Permission denied"}"#,
    );
}

#[test]
fn refusals() {
    let (reason, retry, dry_run) = (Reason::SourceInstances, None, false);
    check(
        &Event::Refuse { service: git(), peer: unix(), reason, retry, dry_run },
        "refuse service=git source=uid:1000 reason=source_instances",
        r#"{"level":"notice","event":"refuse","service":"git","source":"uid:1000","reason":"source_instances"}"#,
    );
    check(
        &Event::Refuse { service: git(), peer: inet(), reason, retry: Some(Duration::from_millis(1250)), dry_run },
        "refuse service=git source=203.0.113.9 reason=source_instances retry=1.25s",
        r#"{"level":"notice","event":"refuse","service":"git","source":"203.0.113.9","reason":"source_instances",
            "retry_seconds":1.25}"#,
    );
    check(
        &Event::Suppressed { service: git(), reason: Reason::DaemonInstances, suppressed: 9 },
        "suppressed service=git reason=daemon_instances suppressed=9",
        r#"{"level":"notice","event":"suppressed","service":"git","reason":"daemon_instances","suppressed":9}"#,
    );
}

#[test]
fn json_holds_nothing_that_a_terminal_obeys() {
    let message = "\u{1b}[31m \u{7f} \u{9b}31m \u{202e} \u{2028} \u{10fffd} \u{e9}".to_owned();
    let mut line = String::new();
    Event::Warning { message: message.clone() }.write_json(&mut line, &mut Stamp::default(), Duration::ZERO);
    assert!(line.contains(r"\u001b[31m \u007f \u009b31m \u202e \u2028 \udbff\udffd é"), "{line}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["message"], message.as_str());
}
