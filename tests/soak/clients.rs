//! The clients: some come and go, some stay, and some attack.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{ask, connect_from};
use super::{World, one_more};

/// Numbers that look random, the same in every run (Marsaglia, "Xorshift RNGs", 2003).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.below(2);
        dice
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// An address of 127.`net`.0.0/24.
    fn source(&mut self, net: u8) -> [u8; 4] {
        [127, net, 0, 1 + self.below(200) as u8]
    }
}

/// A client of no patience would be no use; one that waits for ever neither.
const PATIENCE: Duration = Duration::from_secs(10);

fn connect(source: [u8; 4], port: u16) -> Option<TcpStream> {
    let stream = connect_from(source, port).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// Says a word to a `cat`. Was it said back?
fn converse(source: [u8; 4], port: u16) -> bool {
    connect(source, port).and_then(|stream| ask(stream, b"hello").ok()).is_some_and(|answer| answer == b"hello")
}

/// An obedient handler that waits for its word, and its process id. It can't end, and its id can't become another's,
/// before it gets its word or its connection ends.
fn obedient(world: &World, source: [u8; 4]) -> Option<(TcpStream, Pid)> {
    let mut stream = connect(source, world.port("OBEDIENT"))?;
    let (mut line, mut byte) = (String::new(), [0]);
    while stream.read(&mut byte).ok()? == 1 && byte[0] != b'\n' {
        line.push(byte[0].into());
    }
    Some((stream, Pid::from_raw(line.parse().ok()?)))
}

/// One short connection after another, of all kinds.
pub(super) fn come_and_go(world: &World, seed: u64) {
    let mut dice = Dice::new(seed);
    while !world.is_over() {
        let source = dice.source(1);
        let served = match dice.below(10) {
            0..=3 => converse(source, world.port("CAT")),
            4 => converse(source, world.port("RATED")),
            5 => converse(source, world.port("VISITOR")),
            6 => converse(source, world.port("BROKEN")),
            7 => ask_datagrams(world),
            8 => kill_one(world, source, &mut dice),
            _ => command_one(world, source, &mut dice),
        };
        one_more(if served { &world.deeds.served } else { &world.deeds.refused });
        thread::sleep(Duration::from_millis(dice.below(10)));
    }
}

fn ask_datagrams(world: &World) -> bool {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return false };
    let _ = socket.set_read_timeout(Some(Duration::from_secs(2)));
    let mut bytes = [0; 9];
    let answered = socket.send_to(b"word", ("127.0.0.1", world.port("DATAGRAMS"))).is_ok()
        && socket.recv(&mut bytes).is_ok_and(|size| &bytes[..size] == b"word");
    world.deeds.datagrams.fetch_add(answered.into(), Ordering::Relaxed);
    answered
}

/// Kills a handler in the middle of its conversation; some are stopped first.
fn kill_one(world: &World, source: [u8; 4], dice: &mut Dice) -> bool {
    let Some((stream, pid)) = obedient(world, source) else { return false };
    let signal = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV][dice.below(3) as usize];
    if dice.below(4) == 0 {
        let _ = kill(pid, Signal::SIGSTOP);
    }
    let done = kill(pid, signal).is_ok() && kill(pid, Signal::SIGCONT).is_ok();
    world.deeds.killed.fetch_add(done.into(), Ordering::Relaxed);
    drop(stream);
    true
}

fn command_one(world: &World, source: [u8; 4], dice: &mut Dice) -> bool {
    let Some((mut stream, _)) = obedient(world, source) else { return false };
    let word = ["quit\n", "nap\n", "fail\n", "crash\n", "deaf\n", "hold\n"][dice.below(6) as usize];
    stream.write_all(word.as_bytes()).is_ok()
}

/// Up to twenty connections that stay for a while.
pub(super) fn stay(world: &World, seed: u64) {
    let (mut dice, mut held) = (Dice::new(seed), Vec::new());
    while !world.is_over() {
        if held.len() >= 20 || (!held.is_empty() && dice.below(3) == 0) {
            held.swap_remove(dice.below(held.len() as u64) as usize);
        }
        let port = world.port(if dice.below(4) == 0 { "NARROW" } else { "CAT" });
        held.extend(connect(dice.source(1), port).map(|mut stream| {
            let _ = stream.write_all(b"here");
            stream
        }));
        thread::sleep(Duration::from_millis(dice.below(40)));
    }
}

/// One source, or one network, that comes as often as it can for a moment; and one that tries what is a trap, and pays for
/// what its handlers do.
pub(super) fn flood(world: &World, seed: u64) {
    let mut dice = Dice::new(seed);
    while !world.is_over() {
        let ports = [world.port("RATED"), world.port("CAT"), world.port("NARROW"), world.port("TRAP")];
        let (port, same) = (ports[dice.below(4) as usize], dice.source(2));
        let one_source = dice.below(2) == 0;
        let waiting: Vec<_> =
            (0..150).filter_map(|_| connect_from(if one_source { same } else { dice.source(2) }, port).ok()).collect();
        drop(waiting);
        let _ = command_one(world, dice.source(2), &mut dice);
        one_more(&world.deeds.floods);
        thread::sleep(Duration::from_millis(200 + dice.below(300)));
    }
}
