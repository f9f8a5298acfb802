//! Hours of mixed traffic: connections of every kind, floods, kills, penalties, reloads that remove services and bring
//! them back, upgrades and the operator's questions, all at once. Every few seconds all clients leave, and then nothing
//! may be left of them: no process, no zombie, no count, no descriptor, no memory.
//!
//! How long is said by `OXINETD_SOAK` (`90s`, `30m`, `8h`); without it, a few seconds. In the first half nothing is
//! upgraded: a new program begins with new memory, which would hide what the old one has leaked.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod operator;

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Daemon, Setup, field, free_port, is_root, own_user, put_program, wait_for, wait_until};

/// Without `OXINETD_SOAK`.
const SHORT: Duration = Duration::from_secs(12);

/// How long clients come before all of them leave for a look; a quarter of the whole at most.
const ROUND: Duration = Duration::from_secs(30);

/// What a daemon at rest may have more than before, in KiB: the allocator's fragments, tables that have grown once.
const SLACK: u64 = 1024;

/// Says who it is, then does what the client says.
const OBEDIENT: &str = "#!/bin/sh
echo $$
read -r word
case \"$word\" in
    nap) sleep 0.05 ;;
    fail) exit 3 ;;
    crash) kill -SEGV $$ ;;
    deaf) trap '' TERM; read -r word ;;
    hold) read -r word ;;
esac
exit 0
";

/// `NAME` is for a port, `LIMIT` for a number that reloads change.
const TABLE: &str = "
daemon: { instances: 200, sources: { ipv4: 600, ipv6: 60 } }
defaults: { log: { accept: false, exit: false, refuse: false }, penalties: { exempt: [127.1.0.0/16] } }
services:
  cat: { listen: CAT, program: /bin/cat, instances: LIMIT, per_source: { instances: 6 } }
  obedient: { listen: OBEDIENT, program: FOLDER/obedient, lifetime: 20s, penalties: { exit: 1s, crash: 2s, min: 1s, max: 4s } }
  narrow: { listen: NARROW, program: /bin/cat, instances: 2 }
  rated: { listen: RATED, program: /bin/cat, per_source: { rate: 20/s, burst: 10 }, per_network: { rate: LIMIT/s, burst: 40 } }
  broken: { listen: BROKEN, program: FOLDER/broken }
  trap: { listen: TRAP, penalties: { trap: 1s, min: 0s, max: 2s } }
  datagrams: { listen: udp4/127.0.0.1:DATAGRAMS, builtin: echo, lifetime: 1s }
";

/// Comes and goes with reloads, and runs as another user where that is possible.
const VISITOR: &str = "  visitor: { listen: VISITOR, program: /bin/cat, user: USER }\n";

const NAMES: [&str; 8] = ["CAT", "OBEDIENT", "NARROW", "RATED", "BROKEN", "TRAP", "DATAGRAMS", "VISITOR"];

/// What has happened, by the clients' and the operator's own account.
#[derive(Debug, Default)]
struct Deeds {
    served: AtomicU64,
    refused: AtomicU64,
    floods: AtomicU64,
    killed: AtomicU64,
    datagrams: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    upgrades: AtomicU64,
    questions: AtomicU64,
}

impl Deeds {
    fn all(&self) -> [(&'static str, u64); 9] {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("served", now(&self.served)),
            ("refused", now(&self.refused)),
            ("floods", now(&self.floods)),
            ("handlers killed", now(&self.killed)),
            ("datagrams answered", now(&self.datagrams)),
            ("reloads", now(&self.reloads)),
            ("reloads that failed", now(&self.failed_reloads)),
            ("upgrades", now(&self.upgrades)),
            ("questions of the operator", now(&self.questions)),
        ]
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The daemon, its ports in the order of [`NAMES`], and what has been done to it.
struct World {
    daemon: Daemon,
    ports: [u16; NAMES.len()],
    deeds: Deeds,
    over: AtomicBool,
}

impl World {
    fn start() -> Self {
        let ports = NAMES.map(|_| free_port());
        let setup = Setup::new(&table(&ports, 40, true));
        for (name, text) in [("obedient", OBEDIENT), ("broken", "#!/nonexistent\n")] {
            put_program(&setup.folder.path().join(name), text);
        }
        Self { daemon: setup.start(), ports, deeds: Deeds::default(), over: AtomicBool::new(false) }
    }

    fn port(&self, name: &str) -> u16 {
        self.ports[NAMES.iter().position(|one| *one == name).unwrap()]
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Clients and operator do what they do, until `time` is over.
    fn round(&self, number: u64, time: Duration, upgrades: bool) {
        self.over.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            for client in 0..4 {
                scope.spawn(move || clients::come_and_go(self, number * 16 + client));
            }
            scope.spawn(move || clients::stay(self, number * 16 + 4));
            scope.spawn(move || clients::flood(self, number * 16 + 5));
            let operator = scope.spawn(move || operator::work(self, number * 16 + 6, upgrades));
            let end = Instant::now() + time;
            // A client that fails ends the round.
            while Instant::now() < end && !operator.is_finished() {
                thread::sleep(Duration::from_millis(20));
            }
            self.over.store(true, Ordering::Relaxed);
        });
    }

    /// All clients have left: nothing may be left of them. Gives what the daemon has then.
    fn rest(&self) -> Rest {
        wait_until("the last handlers to be gone", || {
            support::children_of(self.daemon.pid).is_empty() && self.ask(&["status"])["handlers"] == 0
        });
        let status = self.ask(&["status"]);
        assert_eq!(self.ask(&["audit"])["drifts"], json!([]));
        assert_eq!((&status["sources"], &status["starting"]), (&json!([]), &json!(0)), "{status}");
        self.compare_counts(&status);
        self.read_log();
        let memory = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid)).unwrap();
        let memory = field(&memory, "VmRSS").trim_end_matches(" kB").parse().unwrap();
        // The operator's tool has left; its connection goes with the turn after that.
        let descriptors = wait_for("the control connection to go", || {
            let first = self.daemon.descriptors();
            thread::sleep(Duration::from_millis(50));
            (first == self.daemon.descriptors()).then_some(first)
        });
        Rest { memory, descriptors }
    }

    /// Nothing that must never be there is there. It is read in pieces: hours of it would fill a disk.
    fn read_log(&self) {
        let log = self.daemon.log();
        let found = log.lines().find(|line| ["inconsistency", "upgrade_failed"].iter().any(|word| line.contains(word)));
        assert_eq!(found, None);
        File::options().write(true).truncate(true).open(self.daemon.path("log")).unwrap();
    }

    /// Every handler that was started has ended.
    fn compare_counts(&self, status: &Value) {
        for (name, service) in status["services"].as_object().unwrap() {
            let exits = ["success", "failure", "signal"].map(|how| service["exits"][how].as_u64().unwrap());
            assert_eq!(service["accepted"].as_u64().unwrap(), exits.iter().sum::<u64>(), "{name}: {service}");
            assert_eq!(service["handlers"], 0, "{name}");
        }
    }
}

/// What a daemon has when it serves no client.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Resident memory in KiB.
    memory: u64,
    descriptors: usize,
}

fn table(ports: &[u16; NAMES.len()], limit: u32, visitor: bool) -> String {
    let mut table = TABLE.to_owned() + if visitor { VISITOR } else { "" };
    for (name, port) in NAMES.into_iter().zip(ports) {
        table = table
            .replace(&format!(": {name},"), &format!(": {port},"))
            .replace(&format!(":{name},"), &format!(":{port},"));
    }
    let user = if is_root() { "nobody".to_owned() } else { own_user() };
    table.replace("LIMIT", &limit.to_string()).replace("USER", &user)
}

/// `90s`, `30m`, `8h`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()? * seconds))
}

#[test]
fn nothing_is_left_after_mixed_traffic() {
    let wanted = std::env::var("OXINETD_SOAK").ok();
    let time = wanted.map_or(SHORT, |text| duration(&text).expect("OXINETD_SOAK is a number with s, m or h"));
    let round = ROUND.min(time / 4);
    let rounds = u64::try_from(time.as_nanos() / round.as_nanos()).unwrap();
    let world = World::start();
    let mut rests: Vec<Rest> = Vec::new();
    for number in 0..rounds {
        let upgrades = number >= rounds / 2;
        world.round(number, round, upgrades);
        let rest = world.rest();

        println!("round {} of {rounds}: {} KiB, {} descriptors", number + 1, rest.memory, rest.descriptors);
        let first = *rests.first().unwrap_or(&rest);
        assert_eq!(rest.descriptors, first.descriptors, "descriptors have been leaked");
        // The first round fills what is of fixed size.
        let bound = first.memory + first.memory / 4 + SLACK;
        assert!(rest.memory <= bound, "{} KiB at rest, {} at the beginning", rest.memory, first.memory);
        rests.push(rest);
    }
    for (what, count) in world.deeds.all() {
        println!("{what}: {count}");
        assert!(count > 0, "{what}: it has not been tried");
    }
    let status = world.ask(&["status"]);
    println!("longest turn: {} s, peak: {} handlers", status["longest_turn_seconds"], status["peak"]);
    assert_eq!(status["upgrades"]["failed"], 0, "{status}");
    assert_eq!(world.daemon.zombies(), 0);
}
