//! Every command of oxinetctl while the daemon is hard at work: as a table and as JSON, which is what the published schema
//! says it is; and at no moment is a count wrong.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::validator::{must_be_valid, strict_protocol};
use crate::support::{Daemon, ask, connect_from, own_user, services, wait_until};

const OXINETCTL: &str = env!("CARGO_BIN_EXE_oxinetctl");

/// The load ends by itself after this time, whatever becomes of the test.
const LONGEST: Duration = Duration::from_secs(150);

/// What `--format json` writes.
#[derive(Clone, Copy)]
enum Form {
    /// The result of the answer to the request of this name.
    Result,
    /// What the status has at these keys: alone, or all of them in one object.
    Key(&'static str),
    Keys([&'static str; 2]),
    /// The same as without: no answer of the daemon, or none that is shown as a table.
    Same,
}

/// How each command is called here, and what it writes as JSON. A command that stands here without being one, or the
/// other way round, fails.
fn calls() -> Vec<(&'static [&'static str], Form)> {
    vec![
        (&["status"], Form::Result),
        (&["services"], Form::Key("services")),
        (&["sources", "--top", "5", "cat"], Form::Result),
        (&["explain", "quiet", "127.0.0.1"], Form::Result),
        (&["audit"], Form::Result),
        (&["metrics"], Form::Same),
        (&["reload"], Form::Result),
        (&["drain", "quiet"], Form::Result),
        (&["resume", "quiet"], Form::Result),
        (&["ban", "127.0.66.0/24", "1h"], Form::Result),
        (&["bans"], Form::Result),
        (&["unban", "127.0.66.0/24"], Form::Result),
        (&["upgrade"], Form::Keys(["version", "pid"])),
        (&["schema"], Form::Same),
        (&["import", "FOLDER/inetd.conf"], Form::Same),
        (&["completions", "bash"], Form::Same),
        // It shows itself on a terminal alone, see `watch`.
        (&["top"], Form::Same),
    ]
}

/// The names of the commands, from the definition of the command line by way of its help.
fn commands() -> Vec<String> {
    let output = Command::new(OXINETCTL).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_command_is_called() {
    let called: Vec<_> = calls().iter().map(|(words, _)| words[0]).collect();
    let known = commands();
    assert!(known.len() > 10, "this test no longer understands the help: {known:?}");
    assert!(known.iter().all(|command| called.contains(&command.as_str())), "{known:?} are not all of {called:?}");
    assert_eq!(called.len(), known.len());
}

/// What the load is to bring about: refusals of a service, by reason.
const KINDS: [(&str, &str); 7] = [
    ("cat", "source_instances"),
    ("narrow", "service_instances"),
    ("rated", "source_rate"),
    ("closed", "access"),
    ("trap", "trap"),
    ("trap", "penalty"),
    ("crash", "penalty"),
];

// --- the load -------------------------------------------------------------------------------------------------------

/// Clients in the background, until this is dropped.
struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(ports: [u16; 6]) -> Self {
        let [cat, narrow, rated, closed, trap, crash] = ports;
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = vec![stay(&over, [cat, narrow])];
        threads.push(repeat(&over, move |round| come_and_go(source(1, round), cat)));
        // Each of these is refused, for a reason of its own: by rate, by access, and for what it owes.
        threads.push(repeat(&over, move |round| {
            for (network, port) in [(2, rated), (4, closed), (5, trap), (6, crash)] {
                come_and_go(source(network, round / 8), port);
            }
        }));
        Self { over, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// One of a hundred sources of a network.
fn source(network: u8, number: u64) -> [u8; 4] {
    [127, 0, network, 1 + (number % 100) as u8]
}

fn repeat(over: &Arc<AtomicBool>, mut work: impl FnMut(u64) + Send + 'static) -> JoinHandle<()> {
    let (over, end) = (Arc::clone(over), Instant::now() + LONGEST);
    thread::spawn(move || {
        let rounds = (0..).take_while(|_| !over.load(Ordering::Relaxed) && Instant::now() < end);
        rounds.for_each(|round| {
            work(round);
            thread::sleep(Duration::from_millis(2 + round % 8));
        });
    })
}

/// A short connection. What becomes of it is no matter.
fn come_and_go(source: [u8; 4], port: u16) {
    let _ = connect_from(source, port).and_then(|stream| ask(stream, b"x"));
}

/// Connections that live long and longer, of three sources: more at one time than a source and the narrow service may have.
fn stay(over: &Arc<AtomicBool>, ports: [u16; 2]) -> JoinHandle<()> {
    let mut held: Vec<Option<TcpStream>> = (0..40).map(|_| None).collect();
    repeat(over, move |round| {
        // Any number, the same in every run; a source and a service keep each place for a while.
        let place = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 40;
        held[place as usize] = connect_from(source(3, place % 3), ports[(place % 2) as usize]).ok();
    })
}

// --- the commands ---------------------------------------------------------------------------------------------------

struct World {
    daemon: Daemon,
    _load: Load,
}

impl World {
    fn start() -> Self {
        let ([cat, narrow, rated, closed, crash, trap, _], table) = services([
            ("cat", "program: /bin/cat, instances: 100, per_source: { instances: 4 }, refuse: close"),
            ("narrow", "program: /bin/cat, instances: 3, when_full: refuse, per_source: { instances: 2 }"),
            ("rated", "program: /bin/cat, per_source: { rate: 1/h, burst: 3 }"),
            ("closed", "program: /bin/cat, deny: 127.0.0.0/8"),
            ("crash", "program: [/bin/sh, -c, 'kill -SEGV $$'], penalties: { crash: 1s, min: 0s, max: 1s }"),
            ("trap", "penalties: { trap: 1s, min: 0s, max: 1s }"),
            ("quiet", "program: /bin/cat"),
        ]);
        let daemon = Daemon::start(&table);
        let old = format!("2007 stream tcp nowait {} /bin/cat cat\n", own_user());
        fs::write(daemon.path("inetd.conf"), old).unwrap();
        let world = Self { daemon, _load: Load::start([cat, narrow, rated, closed, trap, crash]) };
        for (service, reason) in KINDS {
            let refused = || world.status()["services"][service]["refused"][reason].as_u64();
            wait_until(&format!("{service} to refuse for {reason}"), || refused() > Some(0));
        }
        world
    }

    /// How many have been served so far.
    fn served(&self) -> Option<u64> {
        self.status()["services"]["cat"]["accepted"].as_u64()
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["--format", "json", "status"]).stdout).unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        let folder = self.daemon.folder.path().to_str().unwrap();
        let words = words.iter().map(|word| word.replace("FOLDER", folder));
        let mut command = Command::new(OXINETCTL);
        command.arg("--socket").arg(self.daemon.path("control.sock")).args(words).output().unwrap()
    }

    /// What is written to standard output, and nothing to standard error.
    fn said(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{words:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command both ways. Gives its JSON, as it stands in an answer, and the schema for it.
    fn call(&self, words: &[&str], form: Form) -> Option<(Value, Value)> {
        let table = self.said(words);
        let other = self.said(&[&["--format", "json"], words].concat());
        let part = |key: &str| json!({ "$ref": format!("#/definitions/Snapshot/properties/{key}") });
        let schema = match form {
            Form::Same => {
                // Metrics are numbers of another moment; their names are the same.
                let names = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
                assert_eq!(names(&table), names(&other), "{words:?}");
                return None;
            }
            Form::Result => json!({ "$ref": "#/definitions/Answer" }),
            Form::Key(key) => part(key),
            Form::Keys([one, two]) => json!({
                "properties": { one: part(one), two: part(two) },
                "required": [one, two],
                "additionalProperties": false,
            }),
        };
        let value: Value = serde_json::from_str(&other).unwrap_or_else(|error| panic!("{words:?}: {error}: {other}"));
        assert_ne!(table, other, "{words:?} has a table of its own");
        let whole = json!({ "version": 1, "command": words[0], "result": value });
        Some((schema, if matches!(form, Form::Result) { whole } else { value }))
    }

    /// `top` on a terminal, until q.
    fn watch(&self) {
        let pty = nix::pty::openpty(None, None).unwrap();
        let terminal = || File::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new(OXINETCTL);
        command.arg("--socket").arg(self.daemon.path("control.sock")).args(["top", "--interval", "0.2"]);
        command.env("TERM", "xterm").stdin(terminal()).stdout(terminal());
        let mut top = command.spawn().unwrap();
        drop(command);
        drop(pty.slave);
        let mut master = File::from(pty.master);
        let (mut screen, mut bytes) = (Vec::new(), [0; 4096]);
        // Three frames; the names of the services are in each.
        while String::from_utf8_lossy(&screen).matches("narrow").count() < 3 {
            let size = master.read(&mut bytes).expect("it is still there");
            screen.extend_from_slice(&bytes[..size]);
        }
        master.write_all(b"q").unwrap();
        // Read on, or it may not be able to write its last words.
        while master.read(&mut bytes).is_ok_and(|size| size > 0) {}
        assert!(top.wait().unwrap().success());
    }
}

#[test]
fn every_command_answers_by_the_schema_while_the_daemon_is_busy() {
    let world = World::start();
    let mut answers = Vec::new();
    for (words, form) in calls() {
        let before = world.served();
        if words == ["top"] {
            world.watch();
        } else if let Some((schema, answer)) = world.call(words, form) {
            answers.push((schema, vec![(words.join(" "), answer)]));
        }
        // The load goes on, and no count is wrong.
        wait_until("more to be served", || world.served() > before);
        assert!(world.said(&["audit"]).starts_with("clean"), "after {words:?}");
    }
    let status = world.status();
    assert!(status["handlers"].as_u64() > Some(0) && status["audit"] == json!([]), "{status}");
    let definitions = strict_protocol()["definitions"].clone();
    for (mut schema, answer) in answers {
        schema["definitions"] = definitions.clone();
        must_be_valid(&schema, &answer);
    }
}
