//! A daemon from its start to its stop: start, signals, service managers, reload, upgrade.

#[path = "../support/mod.rs"]
mod support;

mod reload;
mod start;
mod upgrade;
