//! A daemon from its start to its stop: start, signals, service managers, reload, upgrade.

#[path = "../support/mod.rs"]
mod support;

mod daemonize;
mod reload;
mod service_manager;
mod signals;
mod start;
mod start_errors;
mod upgrade;

use std::process::{Command, Output, Stdio};

use support::OXINETD;

/// Runs the binary to its end.
fn run(arguments: &[&str]) -> Output {
    Command::new(OXINETD).args(arguments).stdin(Stdio::null()).output().unwrap()
}
