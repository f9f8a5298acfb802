//! Reads xinetd.conf(5) into the schema of the table.
//!
//! Only [`super::load()`] calls [`read`].

use std::path::Path;
use std::rc::Rc;

use super::files::Files;
use super::format::Old;
use super::machine::Machine;
use super::problem::{At, Mark};

/// Reads a file and those that it includes.
pub(super) fn read(_bytes: &[u8], name: &Rc<Path>, _depth: usize, _files: &mut Files, _machine: &dyn Machine) -> Old {
    let problem = At::file(name, Mark::default()).problem("this is a file of xinetd, which is not supported yet");
    Old { problems: vec![problem], ..Old::default() }
}
