//! The story that this program comes from: two handlers of one source end in quick succession, and the service dies of
//! its own books. Here they end in the same turn, in every mixture with connections that come in meanwhile.
//!
//! The daemon is stopped (SIGSTOP) while handlers are killed and clients connect, so that all of it is found in one turn.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use crate::support::{Daemon, children_of, connect_from, free_port, state_of, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];

/// A handler that says its process id and then repeats every line.
const TABLE: &str =
    "services: { echo: { listen: PORT, program: [/bin/sh, -c, 'echo $$; exec cat'], per_source: { instances: 20 } } }";

/// One client with its handler.
struct Session {
    source: [u8; 4],
    stream: BufReader<TcpStream>,
    pid: i32,
}

/// A daemon and what should be true of it.
struct Story {
    daemon: Daemon,
    port: u16,
    sessions: Vec<Session>,
}

impl Story {
    fn start() -> Self {
        let port = free_port();
        let daemon = Daemon::start(&TABLE.replace("PORT", &port.to_string()));
        Self { daemon, port, sessions: Vec::new() }
    }

    /// A client whose connection may still wait in the backlog.
    fn dial(&self, source: [u8; 4]) -> Session {
        Session { source, stream: BufReader::new(connect_from(source, self.port).unwrap()), pid: 0 }
    }

    /// A client that is being served.
    fn open(&mut self, source: [u8; 4]) {
        let session = self.dial(source);
        self.greet(session);
    }

    fn greet(&mut self, mut session: Session) {
        session.pid = session.line().parse().unwrap();
        self.sessions.push(session);
    }

    /// Stops the daemon, ends the handlers of the sessions at `places`, each by its own means, lets clients connect, and
    /// lets the daemon go on. The kernel's books are then as they should be; ours are for [`Story::check`].
    fn in_one_turn(&mut self, mut places: Vec<usize>, signals: &[Option<Signal>], newcomers: &[[u8; 4]]) {
        self.daemon.stand_still();
        places.sort_unstable();
        let ending: Vec<_> = places.iter().rev().map(|&place| self.sessions.remove(place)).collect();
        let mut dialled: Vec<_> = newcomers.iter().map(|&source| self.dial(source)).collect();
        for (session, signal) in ending.iter().zip(signals.iter().cycle()) {
            match signal {
                Some(signal) => kill(Pid::from_raw(session.pid), *signal).unwrap(),
                None => session.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap(),
            }
        }
        wait_until("zombies", || ending.iter().all(|session| state_of(session.pid) == Some('Z')));
        self.daemon.signal(Signal::SIGCONT);
        dialled.drain(..).for_each(|session| self.greet(session));
        let live: BTreeSet<_> = self.sessions.iter().map(|session| session.pid).collect();
        wait_until("the dead to be collected", || BTreeSet::from_iter(children_of(self.daemon.pid)) == live);
    }

    /// The first answer must be right: whatever the kernel has told the daemon is in its books.
    fn check(&mut self) {
        let mut counts = BTreeMap::new();
        for session in &mut self.sessions {
            let [a, b, c, d] = session.source;
            *counts.entry(format!("{a}.{b}.{c}.{d}")).or_insert(0_u64) += 1;
            session.stream.get_ref().write_all(b"still here\n").unwrap();
            assert_eq!(session.line(), "still here");
        }
        let status = self.daemon.status();
        assert_eq!(status["audit"], json!([]));
        assert_eq!(status["handlers"], self.sessions.len());
        assert_eq!(status["services"]["echo"]["handlers"], self.sessions.len());
        let sources = status["sources"].as_array().unwrap().iter();
        let found = sources.map(|one| (one["source"].as_str().unwrap().to_owned(), one["handlers"].as_u64().unwrap()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), counts);
    }

    fn end(mut self) {
        self.sessions.clear();
        self.daemon.wait_idle();
        self.check();
        assert_eq!(self.daemon.zombies(), 0);
    }
}

impl Session {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

#[test]
fn two_handlers_of_one_source_end_in_the_same_turn() {
    let mut story = Story::start();
    [A, B, A].into_iter().for_each(|source| story.open(source));
    story.check();
    story.in_one_turn(vec![0, 2], &[Some(Signal::SIGKILL)], &[]);
    // The entry of A is gone, B is counted as before, and A may come again.
    story.check();
    story.open(A);
    story.check();
    story.end();
}

#[test]
fn two_of_three_handlers_end_while_a_client_is_accepted() {
    let mut story = Story::start();
    [A, A, B, A].into_iter().for_each(|source| story.open(source));
    story.in_one_turn(vec![0, 3], &[Some(Signal::SIGKILL), Some(Signal::SIGTERM)], &[A]);
    story.check();
    story.end();
}

#[test]
fn all_handlers_of_a_source_end_while_it_connects_again() {
    let mut story = Story::start();
    [A, A, B].into_iter().for_each(|source| story.open(source));
    story.in_one_turn(vec![0, 1], &[None], &[A, A]);
    story.check();
    story.end();
}

#[test]
fn fifty_mixtures_of_exits_and_connections() {
    const WAYS: [Option<Signal>; 3] = [None, Some(Signal::SIGKILL), Some(Signal::SIGTERM)];
    let mut story = Story::start();
    let mut dice = Dice(0x9e37_79b9);
    for _ in 0..50 {
        while story.sessions.len() < 3 + dice.below(4) {
            let source = if dice.below(3) == 0 { B } else { A };
            story.open(source);
        }
        // At least two end, most of them of one source.
        let mut places: Vec<_> = (0..story.sessions.len()).collect();
        while places.len() > 2 && dice.below(2) == 0 {
            places.swap_remove(dice.below(places.len()));
        }
        let ways: Vec<_> = places.iter().map(|_| WAYS[dice.below(3)]).collect();
        let newcomers: Vec<_> = (0..dice.below(4)).map(|_| if dice.below(3) == 0 { B } else { A }).collect();
        story.in_one_turn(places, &ways, &newcomers);
        story.check();
    }
    story.end();
}

/// Numbers that look random and are the same in every run (xorshift, Marsaglia 2003).
struct Dice(u32);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % limit
    }
}
