//! Who may come, how many and how often: access, rates, penalties, bans, and the ledger of live handlers.
//!
//! Pure: time is an argument, and nothing here makes a system call, logs or knows a descriptor. Admission asks these
//! modules in order; the dispatcher tells the ledger what it has started and what has ended.

pub mod access;
pub mod bans;
pub mod histogram;
pub mod ledger;
pub mod meter;
pub mod penalty;
pub mod rate;
