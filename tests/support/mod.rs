//! What the end-to-end tests share: a daemon of their own on free ports, and waiting for conditions.
//!
//! Each test starts the real binary with a table of its own and drives it from 127.0.0.0/8 or ::1. Nothing here sleeps
//! for a fixed time: [`wait_for`] polls, with a generous limit. A dropped [`Daemon`] is killed, with its handlers.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a module of every test program, none of which uses all of it"
)]

mod daemon;
pub mod fake_machine;
mod processes;
mod sockets;
pub mod validator;

pub use daemon::*;
pub use processes::*;
pub use sockets::*;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take before a test fails; far more than any needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
pub const OXINETD: &str = env!("CARGO_BIN_EXE_oxinetd");

/// Polls until `condition` gives a value.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Polls until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Says on standard error that a test could not do its work here, and why.
pub fn skip(why: &str) {
    // Not by eprintln!, which the test runner keeps back while a test passes.
    let _ = writeln!(io::stderr(), "skipped: {}: {why}", thread::current().name().unwrap_or_default());
}

/// Is the test run as root?
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The name of the user that runs the tests, or the number where there is no name: as whom every daemon can run handlers.
pub fn own_user() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).unwrap().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The path of a program, if it is installed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}
