//! Limits, rates, penalties and access, and the counts behind them.
//!
//! No client takes a service from another, a refusal uses up nothing, and counts are the numbers of live handlers, whatever
//! ends in whatever order.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod counts_under_stress;
mod instances;
mod penalties;
mod rate_model;
mod ten_thousand_handlers;
mod two_exits_in_one_turn;
