//! oxinetd, an internet super-server: a table maps ports to programs, and a handler process serves each connection.
//!
//! The modules, in the order of the way that a connection takes; each may use only those above it, but [`daemon`],
//! which ties them together:
//!
//! ```text
//!  service table ──► listeners ──► acceptor ──► admission ──► spawner ──► handler process
//!                       ▲             │            │  ▲           │             │
//!                       │             │     refusal│  │ticket     │pidfd        │ends
//!                       │             ▼            ▼  │           ▼             ▼
//!                    resume ◄──── daemon ◄──── ledger ◄── exit queue ◄──────  reaper
//! ```
//!
//! Counts have one owner, the [`ledger`]; they go up when a place is taken before a handler is started, and down when
//! the [`daemon`] drains the exit queue between two waits, and nowhere else. All of it is one thread; the [`log`] is
//! written by another. `unsafe` lives in [`sys`] alone.

#![deny(unsafe_code)]
#![warn(clippy::unwrap_used)]

mod planted;
pub mod sys;
pub mod source;
pub mod log;
pub mod access;
pub mod rate;
pub mod penalty;
pub mod builtin;
pub mod table;
pub mod histogram;
pub mod ledger;
pub mod admission;
pub mod socket_file;
pub mod listeners;
pub mod sieve;
pub mod spawner;
pub mod reaper;
pub mod acceptor;
pub mod report;
pub mod control;
pub mod pid_file;
pub mod arguments;
pub mod daemon;
pub mod ctl;

#[cfg(any(test, fuzzing))]
extern crate self as oxinetd;
#[cfg(any(test, fuzzing))]
#[allow(dead_code, missing_docs, reason = "for tests and fuzzing alone, each of which uses a part")]
#[path = "../tests/support/fake_machine.rs"]
pub mod fake_machine;

#[cfg(any(test, fuzzing))]
#[allow(missing_docs, reason = "for tests and fuzzing alone")]
pub mod fuzzed;

#[cfg(test)]
#[path = "../tests/model/mod.rs"]
mod model;
