//! Which clients are admitted, how many and how often: access, rates, penalties, bans, and the ledger of live
//! handlers.
//!
//! Pure: time is an argument, and nothing here makes a system call, logs or knows a descriptor. The checks of
//! admission ask these modules; the dispatcher tells the ledger what it has started and what has ended.

pub mod access;
pub(crate) mod bans;
pub(crate) mod histogram;
pub mod ledger;
pub(crate) mod meter;
pub(crate) mod penalty;
pub mod rate;
