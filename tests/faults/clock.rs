//! The clock on the wall is set, back and forth: rates, penalties and lifetimes don't notice, `times` follow it.
//!
//! A time namespace has offsets for the clocks that count from the boot only (time_namespaces(7)), and none for this one;
//! so a library that the daemon is made to load (ld.so(8), `LD_PRELOAD`) answers in the place of clock_gettime(3).

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::support::{Daemon, Setup, ask, connect_from, echo, hold, installed, services, skip, wait_until};

/// Adds the number of seconds in the file `OFFSET` to the time on the wall.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    char text[32] = "0";
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) {
        int file = open(getenv("OFFSET"), O_RDONLY | O_CLOEXEC);
        if (file >= 0) { if (read(file, text, sizeof text - 1) < 0) text[0] = '0'; close(file); }
        now->tv_sec += atol(text);
    }
    return result;
}
"#;

/// A daemon whose clock on the wall is what the test says.
struct World(Daemon);

impl World {
    fn start(table: &str) -> Option<Self> {
        let mut setup = Setup::new(table);
        let (source, library) = (setup.folder.path().join("shim.c"), setup.folder.path().join("shim.so"));
        fs::write(&source, SHIM).unwrap();
        let compiled = installed("cc").is_some_and(|cc| {
            let arguments = ["-shared", "-fPIC", "-o"];
            Command::new(cc).args(arguments).args([&library, &source]).status().is_ok_and(|status| status.success())
        });
        if !compiled {
            skip("no C compiler");
            return None;
        }
        let offset = setup.folder.path().join("offset");
        fs::write(&offset, "0").unwrap();
        setup.command.env("LD_PRELOAD", library).env("OFFSET", offset).env("TZ", "UTC0");
        Some(Self(setup.start()))
    }

    /// Sets the clock to a time of day, so many days from now.
    fn set(&self, days: i64, hour: i64, minute: i64) {
        const DAY: i64 = 86_400;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let wanted = now / DAY * DAY + days * DAY + hour * 3600 + minute * 60;
        let new = self.0.path("offset.new");
        fs::write(&new, (wanted - now).to_string()).unwrap();
        fs::rename(new, self.0.path("offset")).unwrap();
    }
}

fn is_served(source: [u8; 4], port: u16) -> bool {
    connect_from(source, port).and_then(|stream| ask(stream, b"x")).is_ok_and(|answer| answer == b"x")
}

const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];

#[test]
fn clock_is_set_back_and_forth() {
    let ([timed, rated, trap, cat], table) = services([
        ("timed", "program: /bin/cat, times: 'Mon-Sun 10:00-11:00'"),
        ("rated", "program: /bin/cat, per_source: { rate: 1/h, burst: 1 }"),
        ("trap", "penalties: { trap: 1h, min: 0s, max: 2h }"),
        ("cat", "program: /bin/cat, lifetime: 3s"),
    ]);
    let Some(world) = World::start(&table) else { return };
    let daemon = &world.0;
    world.set(0, 10, 30);
    assert!(is_served(A, timed) && is_served(A, rated) && !is_served(A, rated));
    assert!(!is_served(B, trap) && !is_served(B, cat));
    for (days, hour, open) in [(1, 10, true), (1, 12, false), (-400, 10, true), (-400, 9, false), (3_650, 10, true)] {
        let mut session = hold(cat);
        world.set(days, hour, 30);
        assert_eq!(is_served(A, timed), open, "{days} days, {hour}:30");
        assert!(!is_served(A, rated), "an hour has not passed");
        assert!(!is_served(B, cat), "nor has it for a source that has one");
        echo(&mut session, "still here\n");
    }
    daemon.wait_log(&["refuse", "service=timed", "reason=times"]);
    // Whatever the wall says, three seconds are over soon.
    let session = hold(cat);
    world.set(-3_650, 0, 0);
    session.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    daemon.wait_log(&["kill", "service=cat", "signal=SIGTERM"]);
    drop(session);
    wait_until("all to be gone", || daemon.status()["handlers"] == 0);
    daemon.wait_idle();
}
