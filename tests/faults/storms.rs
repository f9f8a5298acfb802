//! The daemon is stopped under load; it is told to reload again and again while its table is being written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::support::{Daemon, Setup, ask, connect_from, echo, hold, wait_until};
use super::{pair, settle};

/// Runs `storm` while clients come to both services, none of which may be lost. Gives how many came.
fn in_traffic(ports: [u16; 2], storm: impl FnOnce()) -> u64 {
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let client = |number: u8| {
            while !over.load(Ordering::Relaxed) {
                let stream =
                    connect_from([127, 0, 7, number], ports[usize::from(number % 2)]).expect("nobody is refused");
                assert_eq!(ask(stream, b"hello").expect("nobody is lost"), b"hello");
                served.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        };
        for number in 1..=6 {
            scope.spawn(move || client(number));
        }
        // Also when the storm fails, the clients go home.
        let storm = std::panic::catch_unwind(std::panic::AssertUnwindSafe(storm));
        over.store(true, Ordering::Relaxed);
        storm.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    served.into_inner()
}

#[test]
fn daemon_is_stopped_and_continued() {
    let (ports, table) = pair("lifetime: 1h");
    let daemon = Daemon::start(&table);
    let mut session = hold(ports[0]);
    let served = in_traffic(ports, || {
        for _ in 0..8 {
            daemon.signal(Signal::SIGSTOP);
            // Meanwhile handlers end and clients queue up.
            thread::sleep(Duration::from_millis(150));
            daemon.signal(Signal::SIGCONT);
            assert_eq!(daemon.status()["audit"], json!([]));
        }
    });
    echo(&mut session, "still here\n");
    drop(session);
    daemon.wait_idle();
    let status = settle(&daemon, &ports);
    let accepted = |name: &str| status["services"][name]["accepted"].as_u64().unwrap();
    // The session, and the two of settling.
    assert_eq!(accepted("one") + accepted("other"), served + 3);
}

#[test]
fn reloads_while_the_table_is_being_written() {
    let (ports, table) = pair("");
    // In braces, so that no beginning of it is a table.
    let services = table.trim_start_matches("services:\n").trim_end().replace('\n', ",\n");
    let table = format!("{{ services: {{\n{services} }} }}\n");
    let setup = Setup::new(&table);
    let path = setup.folder.path().join("table.yaml");
    let daemon = setup.start();
    let mut session = hold(ports[0]);
    let before = daemon.settled_descriptors();
    let served = in_traffic(ports, || {
        let seen = |what: &str| daemon.log().matches(what).count();
        for round in 0..600 {
            if round >= 20 && seen("reload added") > 2 && seen("reload_failed") > 2 {
                break;
            }
            let text = table.replace("program", &format!("instances: {}, program", 20 + round % 10));
            // In place and piece by piece, as an editor may.
            let file = File::options().write(true).open(&path).unwrap();
            for end in text.match_indices(['\n', ',']).map(|(place, _)| place + 1) {
                file.write_all_at(&text.as_bytes()[..end], 0).unwrap();
                file.set_len(end as u64).unwrap();
                daemon.signal(Signal::SIGHUP);
                thread::sleep(Duration::from_millis(2));
            }
        }
    });
    daemon.change(&table);
    assert!(served > 0);
    let reloads = &daemon.status()["reloads"];
    let count = |how: &str| reloads[how].as_u64().unwrap();
    assert!(count("done") > 1 && count("failed") > 1, "both were tried: {reloads}");
    echo(&mut session, "still here\n");
    drop(session);
    wait_until("the descriptors to be those of before", || {
        daemon.status();
        daemon.descriptors() <= before
    });
    settle(&daemon, &ports);
}
