//! SIGTERM, SIGINT, SIGQUIT and SIGUSR1. SIGHUP is a reload.

use std::io::Read;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Daemon, connect, echo, hold, listening, services, state_of, wait_until};

#[test]
fn sigterm_and_sigint_stop_listening_and_leave_handlers_running() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let ([port], table) = services([("cat", "program: /bin/cat")]);
        let mut daemon = Daemon::start(&table);
        let mut session = hold(port);
        let handler = daemon.children()[0];
        daemon.notified();
        daemon.signal(signal);
        assert_eq!(daemon.wait_end().code(), Some(0));
        assert!(daemon.notified().iter().any(|message| message.starts_with("STOPPING=1")));
        assert_eq!(listening(port), []);
        assert!(state_of(handler).is_some());
        echo(&mut session, "on its own\n");
        drop(session);
        wait_until("the handler's end", || state_of(handler).is_none_or(|state| state == 'Z'));
    }
}

#[test]
fn sigquit_ends_the_handlers_too() {
    let deaf = "program: [/bin/sh, -c, 'trap \"\" TERM; echo ready; while :; do sleep 1000; done']";
    let ([cat, deaf], table) = services([("cat", "program: /bin/cat"), ("deaf", deaf)]);
    let mut daemon = Daemon::start(&table);
    let (mut session, mut other) = (hold(cat), connect(deaf));
    other.read_exact(&mut [0; 6]).unwrap();
    let handlers = daemon.children();
    assert_eq!(handlers.len(), 2);
    daemon.signal(Signal::SIGQUIT);
    assert_eq!(session.read(&mut [0]).unwrap(), 0, "cat ends by SIGTERM");
    assert_eq!(listening(cat), []);
    // The other one ignores SIGTERM, also in the sleep that it has started.
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    assert_eq!(daemon.wait_end().code(), Some(0));
    assert!(handlers.into_iter().all(|pid| state_of(pid).is_none()));
}

#[test]
fn sigterm_is_obeyed_during_a_flood_of_clients() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let ([port], table) = services([("cat", "program: /bin/cat, instances: 1, when_full: refuse, refuse: close")]);
    let mut daemon = Daemon::start(&table);
    let _session = hold(port);
    let (stop, clients) = (AtomicBool::new(false), AtomicU32::new(0));
    let flood = || {
        while !stop.load(Ordering::Relaxed) {
            match std::net::TcpStream::connect(("127.0.0.1", port)) {
                Ok(_) => {
                    clients.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => std::thread::yield_now(),
            }
        }
    };
    let ended = std::thread::scope(|scope| {
        scope.spawn(flood);
        scope.spawn(flood);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while clients.load(Ordering::Relaxed) < 1000 && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        daemon.signal(Signal::SIGTERM);
        let ended = loop {
            let status = daemon.process.try_wait().unwrap();
            if status.is_some() || std::time::Instant::now() > end {
                break status;
            }
            std::thread::yield_now();
        };
        stop.store(true, Ordering::Relaxed);
        ended
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

#[test]
fn sigusr1_writes_the_status_to_the_log() {
    let ([port], table) = services([("cat", "program: /bin/cat, instances: 7")]);
    let daemon = Daemon::start(&table);
    let _session = hold(port);
    let status = daemon.status();
    assert_eq!((&status["pid"], &status["handlers"]), (&json!(daemon.pid), &json!(1)));
    let service = &status["services"]["cat"];
    let expected = json!({ "listed": true, "handlers": 1, "instances": 7, "peak": 1, "accepted": 1 });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&service[key], value, "{key}");
    }
    assert_eq!(
        service["listeners"],
        json!([{ "endpoint": format!("tcp/{port}"), "state": "listening", "reason": null }])
    );
    assert_eq!(
        status["sources"],
        json!([{ "service": "cat", "source": "127.0.0.1", "handlers": 1, "instances": null }])
    );
    assert_eq!(status["audit"], json!([]));
}
