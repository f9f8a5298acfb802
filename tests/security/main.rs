//! Holes that other super-servers had, and what users of this machine may try. SECURITY.md names these tests.

#[path = "../support/mod.rs"]
mod support;

mod cve_regressions;
mod local_users;
