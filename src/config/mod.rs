//! The service table: what the administrator wrote, understood and checked.
//!
//! `load::load_table` reads files and gives a [`Table`] or every [`Problem`] at once. What is in a `Table` needs no
//! further look-up: users, groups and ports are numbers, paths and arguments are C strings. Nothing here opens a
//! socket, starts a process or keeps state; a table is a value, compared by [`change`] when it is reloaded.
//!
//! serde_yaml reads the values of a file; where they stand is looked up only when it is asked for ([`Location`]).
//! The keys are declared in `keys`, once each.

pub(crate) mod accounts;
pub mod change;
pub(crate) mod check;
pub(crate) mod clash;
pub mod dump;
pub mod dialect;
pub(crate) mod endpoint;
pub(crate) mod file;
pub(crate) mod files;
pub(crate) mod format;
pub(crate) mod index;
pub mod json_schema;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod location;
pub mod machine;
pub(crate) mod problem;
pub(crate) mod program;
mod reader;
pub(crate) mod section;
mod source;
mod types;
pub(crate) mod units;
pub(crate) mod values;
pub(crate) mod yaml;

pub use dialect::{DIALECTS, Dialect};
pub use load::{Loaded, Reading};
pub use location::Location;
pub use problem::{Origin, Problem};
pub use types::*;
pub use units::{duration_text, parse_duration, parse_network, times_text};

#[cfg(test)]
mod tests;
