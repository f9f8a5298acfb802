//! Answers of the daemon as tables for people and as metrics. The daemon has no part in them.

pub mod grid;
pub mod metrics;
pub mod table;
