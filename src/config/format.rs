//! What the reader of another format gives, and how the table's reader asks for it.
//!
//! A reader of an old format turns the bytes of a file into an [`OldTable`]: services as [`ServiceSpec`], every value with its
//! place, and what is to be said about them. It never stops at a problem, and never panics, whatever the bytes are.

use std::path::Path;
use std::rc::Rc;

use super::dialect::Dialect;
use super::files::Files;
use super::keys::{DaemonSpec, ServiceSpec};
use super::location::{Location, Spanned};
use super::machine::Machine;
use super::problem::Problem;

/// The readers of formats other than YAML. Whoever loads a table brings them along.
pub(crate) trait OldFormats {
    /// Reads a file, and what it includes, if its format is not YAML. Where a dialect is given it is an inetd.conf, whatever
    /// it looks like.
    fn read_old(
        &self,
        bytes: &[u8],
        name: &Rc<Path>,
        dialect: Option<Dialect>,
        depth: usize,
        files: &mut Files,
        machine: &dyn Machine,
    ) -> Option<OldTable>;
}

/// A service as written.
pub(crate) struct Entry {
    /// Unique in the table.
    pub name: String,
    pub spec: ServiceSpec,
    /// Where it begins.
    pub at: Location,
    /// Read from an old format. There, what is off need not be right: it is left out with a warning.
    pub old: bool,
}

/// What a reader of an old format makes of a file, with the files that it includes.
#[derive(Default)]
pub(crate) struct OldTable {
    /// The services, whether on or off. What the old daemon would not have started for a mistake is not among them,
    /// but among the warnings.
    pub services: Vec<Entry>,
    /// What the old daemon does where its file says nothing. It lies under everything, also under the `defaults` of a
    /// YAML file that includes this one.
    pub base: ServiceSpec,
    /// What concerns the daemon itself.
    pub daemon: Option<Spanned<DaemonSpec>>,
    /// What can't be done as written: the table is not used.
    pub problems: Vec<Problem>,
    /// What the old daemon would have complained about or done otherwise than it looks, and what is done otherwise here.
    pub warnings: Vec<Problem>,
}
