//! oxinetd, an internet super-server: a table maps ports to programs, and a handler process serves each connection.
//!
//! The rooms below stand in the order of what they need: each may use only those above it, but [`server`], which ties them
//! together. The way of a connection:
//!
//! ```text
//!  service table ──► listeners ──► acceptor ──► admission ──► spawner ──► handler process
//!   (config,            ▲             │            │  ▲           │             │
//!    compat)            │             │     refusal│  │ticket     │pidfd        │ends
//!                       │             ▼            ▼  │           ▼             ▼
//!                    resume ◄──── server ◄──── ledger ◄── exit queue ◄──────  reaper
//! ```
//!
//! Listeners, acceptor, spawner and reaper are parts of [`dispatch`]. Counts have one owner, the [`limits::ledger`]; they go
//! up when a place is taken before a handler is started, and down when the exit queue is drained between two waits, and
//! nowhere else. All of it is one thread; the [`log`] is written by another. `unsafe` lives in [`sys`] alone.

#![deny(unsafe_code)]
#![warn(clippy::unwrap_used)]

pub mod types;
pub mod exit;
pub mod sys;
pub mod net;
pub mod log;
pub(crate) mod api;
pub mod limits;
pub mod builtin;
pub mod config;
pub mod compat;
pub mod admission;
pub(crate) mod dispatch;
pub(crate) mod system;
pub(crate) mod control;
pub mod server;
pub mod arguments;
pub mod ctl;

#[cfg(test)]
#[path = "../tests/model/mod.rs"]
mod model;

#[cfg(any(test, fuzzing))]
extern crate self as oxinetd;
#[cfg(any(test, fuzzing))]
#[allow(dead_code, missing_docs, reason = "for tests and fuzzing alone, each of which uses a part")]
#[path = "../tests/support/fake_machine.rs"]
pub mod fake_machine;

#[cfg(any(test, fuzzing))]
#[allow(missing_docs, reason = "for tests and fuzzing alone")]
pub mod fuzzed;
