//! The control socket and `oxinetctl`: commands, metrics, `top`, and clients that misbehave.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod control_abuse;
mod metrics;
mod top;
mod under_load;
