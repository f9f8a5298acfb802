//! The old formats: inetd.conf in six dialects and xinetd.conf, read into the same table, and translated into YAML.
//!
//! [`load`] is the door for every table, whatever its format; the YAML itself is [`crate::config`]'s. Nothing here
//! keeps state, and any bytes will do.

mod format;
pub mod import;
mod inetd;
mod suspicious;
mod xinetd;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::files::Files;
use crate::config::format::{OldFormats, OldTable};
use crate::config::machine::{Local, Machine};
use crate::config::{self, Dialect, Loaded, Problem, Reading};
use format::{Format, recognise_format};

/// Options for reading a table.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The machine that the table is for.
    pub machine: &'a dyn Machine,
    /// The dialect of each inetd.conf for which `include` gives none.
    pub dialect: Dialect,
}

/// For the machine that this runs on.
impl Default for Options<'_> {
    fn default() -> Self {
        Self { machine: &Local, dialect: Dialect::default() }
    }
}

/// Loads a table from files, for the machine that this runs on.
///
/// # Errors
///
/// Every problem of every file, in the order in which files were read, then by line and column.
pub fn load(files: &[PathBuf]) -> Result<Loaded, Vec<Problem>> {
    load_with(files, &Options::default()).loaded()
}

/// Loads a table from files, and gives the warnings even if the table can't be used.
#[must_use]
pub fn load_with(files: &[PathBuf], options: &Options<'_>) -> Reading {
    let formats = Readers { dialect: options.dialect };
    config::load::load_table(files, &config::load::Options { machine: options.machine, formats: &formats })
}

/// The readers of both old formats.
struct Readers {
    /// The dialect where nothing else gives one.
    dialect: Dialect,
}

impl OldFormats for Readers {
    fn read_old(
        &self,
        bytes: &[u8],
        name: &Rc<Path>,
        dialect: Option<Dialect>,
        depth: usize,
        files: &mut Files,
        machine: &dyn Machine,
    ) -> Option<OldTable> {
        let format = if dialect.is_some() { Format::Inetd } else { recognise_format(bytes) };
        match format {
            Format::Yaml => None,
            Format::Xinetd => Some(xinetd::read_table(bytes, name, depth, files, machine)),
            Format::Inetd => {
                Some(inetd::read_table(bytes, name, dialect.unwrap_or(self.dialect), depth, files, machine))
            }
        }
    }
}
