//! Renders the daemon's answers, as tables for people and as metrics for programs.
//!
//! Only oxinetctl uses it. It computes texts from values, opens nothing, and cannot fail.

pub(super) mod grid;
pub(super) mod metrics;
pub(super) mod table;
