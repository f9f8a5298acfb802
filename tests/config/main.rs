//! The table in YAML: what is said of a wrong one, and the schemas.

#[path = "../support/mod.rs"]
mod support;

mod golden;
mod schema;
