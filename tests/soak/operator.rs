//! The operator: reloads, upgrades, bans, drains, and questions without end.

use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::clients::Dice;
use super::support::wait_for;
use super::{World, one_more, table, wait_until};

impl World {
    /// Asks by the control socket, and gets an answer.
    pub(super) fn ask(&self, arguments: &[&str]) -> Value {
        self.try_ask(arguments).unwrap_or_else(|said| panic!("{arguments:?}: {said}"))
    }

    fn try_ask(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oxinetctl"));
        command.arg("--socket").arg(self.daemon.path("control.sock")).args(["--format", "json"]).args(arguments);
        let output = command.output().unwrap();
        // The status says also whether a client would be let in.
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).map_err(|_| said())
    }
}

/// One thing after another, until the round is over; at the end everything is as at the beginning.
pub(super) fn work(world: &World, seed: u64, upgrades: bool) {
    let mut dice = Dice::new(seed);
    while !world.is_over() {
        match dice.below(if upgrades { 12 } else { 10 }) {
            0..=1 => reload(world, 20 + dice.below(40) as u32, dice.below(2) == 0),
            2 => reload_in_vain(world),
            3 => drain(world),
            4 => ban(world),
            5..=9 => look(world, &mut dice),
            _ => upgrade(world),
        }
        thread::sleep(Duration::from_millis(dice.below(200)));
    }
    reload(world, 40, true);
}

fn reload(world: &World, limit: u32, visitor: bool) {
    world.daemon.change(&table(&world.ports, limit, visitor));
    one_more(&world.deeds.reloads);
}

fn reload_in_vain(world: &World) {
    world.daemon.write("services: { cat: { listen: nowhere } }");
    assert!(world.daemon.reload().is_err());
    world.daemon.write(&table(&world.ports, 40, true));
    one_more(&world.deeds.failed_reloads);
}

fn drain(world: &World) {
    world.ask(&["drain", "narrow"]);
    world.ask(&["resume", "narrow"]);
    one_more(&world.deeds.questions);
}

fn ban(world: &World) {
    world.ask(&["ban", "127.2.0.128/25", "1s"]);
    world.ask(&["bans"]);
    one_more(&world.deeds.questions);
}

/// In the middle of it all the books are in order.
fn look(world: &World, dice: &mut Dice) {
    let audit = world.ask(&["audit"]);
    assert_eq!(audit["drifts"], json!([]));
    let question: &[&str] = match dice.below(4) {
        0 => &["status"],
        1 => &["services"],
        2 => &["sources", "--top", "20"],
        _ => &["explain", "cat", "127.2.0.7"],
    };
    world.ask(question);
    one_more(&world.deeds.questions);
}

fn upgrade(world: &World) {
    // A connection of the operator's tool ends with the program that has accepted it.
    let done = || world.try_ask(&["status"]).ok()?["upgrades"]["done"].as_u64();
    let before = wait_for("the count of upgrades", done);
    world.daemon.signal(Signal::SIGUSR2);
    wait_until("the upgrade", || {
        assert!(!world.daemon.log().contains("upgrade_failed"), "{}", world.daemon.log());
        done() > Some(before)
    });
    one_more(&world.deeds.upgrades);
}
