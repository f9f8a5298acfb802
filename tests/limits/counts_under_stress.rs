//! Counts are exact: 5,000 short connections of 50 sources, with every kind of end, failing programs and reloads in
//! between, and at every look the daemon's books agree with the kernel's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::{Daemon, Setup, connect_from, free_port, put_program, wait_until};
use serde_json::{Value, json};

const BATCHES: usize = 10;
const BATCH: usize = 500;
const CLIENTS: usize = 8;

/// Does what the client says.
const HANDLER: &str = r#"#!/bin/sh
echo ready
read -r word
case "$word" in
    nap) sleep 0.05 ;;
    fail) exit 3 ;;
    kill) kill -KILL $$ ;;
    hold) read -r word ;;
esac
exit 0
"#;

/// `LIMIT` is for the number of handlers.
const TABLE: &str = "
defaults: { log: { accept: false, exit: false, refuse: false } }
services:
  short: { listen: SHORT, program: FOLDER/handler, instances: LIMIT }
  broken: { listen: BROKEN, program: FOLDER/broken }
";

/// What clients ask for, and how such a handler ends.
#[derive(Clone, Copy)]
enum Kind {
    /// Any word but those that the handler knows.
    Quit,
    Nap,
    Fail,
    Kill,
    /// A client that is gone before it has said a word.
    Vanish,
    /// The service whose program cannot be run.
    Broken,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Quit, Self::Nap, Self::Fail, Self::Kill, Self::Vanish, Self::Broken];

    /// Connection `number` is of this kind. 6 and 50 have a common divisor: the second term lets every source try all.
    fn of(number: usize) -> Self {
        Self::ALL[(number + number / SOURCES) % Self::ALL.len()]
    }
}

const SOURCES: usize = 50;

fn source_of(number: usize) -> [u8; 4] {
    [127, 0, 0, u8::try_from(1 + number % SOURCES).unwrap()]
}

/// A daemon, its ports, and the clients that are held open all the time.
struct World {
    daemon: Daemon,
    short: u16,
    broken: u16,
    held: Vec<TcpStream>,
}

impl World {
    fn table(&self, limit: usize) -> String {
        table(self.short, self.broken, limit)
    }

    /// One short connection, from beginning to end. What the client sees is not looked at but for the greeting.
    fn serve(&self, number: usize) {
        let kind = Kind::of(number);
        let word = match kind {
            Kind::Quit => "quit\n",
            Kind::Nap => "nap\n",
            Kind::Fail => "fail\n",
            Kind::Kill => "kill\n",
            Kind::Vanish => return drop(connect_from(source_of(number), self.short).unwrap()),
            Kind::Broken => return self.serve_broken(number),
        };
        let mut stream = connect_from(source_of(number), self.short).unwrap();
        stream.write_all(word.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ready\n");
    }

    /// There is no answer: the connection is reset, and may be so before it is known to have been made.
    fn serve_broken(&self, number: usize) {
        let Ok(mut stream) = connect_from(source_of(number), self.broken) else { return };
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }

    /// One more client that stays, of a source that has short ones too.
    fn hold(&mut self) {
        let mut stream = connect_from(source_of(self.held.len() * 3), self.short).unwrap();
        let mut ready = [0; 6];
        stream.read_exact(&mut ready).unwrap();
        stream.write_all(b"hold\n").unwrap();
        self.held.push(stream);
    }

    /// What is true at any moment.
    fn look(&self, limit: usize) -> Value {
        let before = self.daemon.children();
        let status = self.daemon.status();
        let after = self.daemon.children();
        assert_eq!(status["audit"], json!([]));
        let short = &status["services"]["short"];
        let handlers = number(&short["handlers"]);
        // A handler that lived before and after the look lived in between.
        let lived = before.iter().filter(|pid| after.contains(pid)).count();
        assert!(lived <= number(&status["handlers"]), "{lived} lived: {status}");
        assert!(handlers <= limit, "the limit is {limit}: {status}");
        let exits = &short["exits"];
        let ended = number(&exits["success"]) + number(&exits["failure"]) + number(&exits["signal"]);
        // A process that is being started has its place, and is no handler yet; it may never be one.
        let running = number(&short["accepted"]) - ended;
        assert_eq!(running + number(&status["starting"]), number(&status["handlers"]), "{status}");
        let broken = number(&status["services"]["broken"]["handlers"]);
        assert_eq!(handlers + broken, number(&status["handlers"]), "{status}");
        assert_eq!(status["services"]["broken"]["accepted"], 0);
        let of_sources: usize = status["sources"].as_array().unwrap().iter().map(|one| number(&one["handlers"])).sum();
        assert_eq!(of_sources, handlers + broken, "{status}");
        status
    }

    /// What is true when only the held ones are left: every count is known.
    fn look_at_rest(&self, limit: usize) {
        wait_until("the short ones to end", || {
            self.daemon.children().len() == self.held.len() && self.daemon.zombies() == 0
        });
        wait_until("the last to be accepted", || number(&self.daemon.status()["handlers"]) == self.held.len());
        let status = self.look(limit);
        let mut sources = BTreeMap::new();
        for stream in &self.held {
            *sources.entry(stream.local_addr().unwrap().ip().to_string()).or_insert(0) += 1;
        }
        let found = status["sources"].as_array().unwrap().iter();
        let found = found.map(|one| (one["source"].as_str().unwrap().to_owned(), number(&one["handlers"])));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), sources);
    }

    /// Runs a batch of short connections on several threads; `meanwhile` is called until all have been served.
    fn batch(&self, batch: usize, mut meanwhile: impl FnMut()) {
        let (next, done) = (AtomicUsize::new(batch * BATCH), AtomicBool::new(false));
        thread::scope(|scope| {
            let client = || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= (batch + 1) * BATCH {
                        return;
                    }
                    self.serve(number);
                }
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            let failed = scope.spawn(|| {
                let failed = clients.into_iter().filter_map(|client| client.join().err()).count();
                done.store(true, Ordering::Relaxed);
                failed
            });
            while !done.load(Ordering::Relaxed) {
                meanwhile();
            }
            assert_eq!(failed.join().unwrap(), 0, "clients have seen what they should not");
        });
    }
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn table(short: u16, broken: u16, limit: usize) -> String {
    let table = TABLE.replace("SHORT", &short.to_string()).replace("BROKEN", &broken.to_string());
    table.replace("LIMIT", &limit.to_string())
}

fn start() -> World {
    let (short, broken) = (free_port(), free_port());
    let setup = Setup::new(&table(short, broken, 40));
    for (name, text) in [("handler", HANDLER), ("broken", "#!/nonexistent\n")] {
        put_program(&setup.folder.path().join(name), text);
    }
    World { daemon: setup.start(), short, broken, held: Vec::new() }
}

/// How many of all connections are of the kinds that end like this.
fn expected(kinds: fn(Kind) -> bool) -> usize {
    (0..BATCHES * BATCH).filter(|&number| kinds(Kind::of(number))).count()
}

#[test]
fn counts_agree_with_the_kernel_under_5000_connections() {
    let mut world = start();
    world.daemon.change(&world.table(40));
    world.look_at_rest(40);
    let descriptors = world.daemon.descriptors();
    let mut limit = 40;
    for batch in 0..BATCHES {
        let before = limit;
        let mut reload = match batch {
            2 => Some(12),
            7 => Some(30),
            _ => None,
        };
        let mut broken = batch == 5;
        world.batch(batch, || {
            if let Some(new) = reload.take() {
                world.daemon.change(&world.table(new));
                limit = new;
            }
            if std::mem::take(&mut broken) {
                world.daemon.write("services: { short: { listen: nowhere } }");
                assert!(world.daemon.reload().is_err());
                world.daemon.write(&world.table(limit));
            }
            // A limit that was lowered ends no handler.
            world.look(before.max(limit));
        });
        world.look_at_rest(limit);
        world.hold();
        world.look_at_rest(limit);
    }
    let held = world.held.len();
    world.held.clear();
    world.daemon.wait_idle();
    world.look_at_rest(limit);

    let status = world.daemon.status();
    let exits = json!({
        "success": held + expected(|kind| matches!(kind, Kind::Quit | Kind::Nap | Kind::Vanish)),
        "failure": expected(|kind| matches!(kind, Kind::Fail)),
        "signal": expected(|kind| matches!(kind, Kind::Kill)),
    });
    assert_eq!(status["services"]["short"]["exits"], exits);
    let failed = expected(|kind| matches!(kind, Kind::Broken));
    assert_eq!(status["services"]["broken"]["spawn_failures"], json!({ "exec": failed }));
    assert_eq!(status["reloads"], json!({ "done": 3, "failed": 1 }));
    assert_eq!(world.daemon.zombies(), 0);
    assert_eq!(world.daemon.descriptors(), descriptors);
}
