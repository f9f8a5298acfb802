//! The main job in one test: run it first, and when it fails nothing else has to be read.

#[path = "../support/mod.rs"]
mod support;

mod connection;
