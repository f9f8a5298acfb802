//! The interface between the table's reader and the readers of other formats.
//!
//! A reader of an old format turns the bytes of a file into an [`OldTable`]: services as [`ServiceSpec`], every
//! value with its place, and what is to be said about them. It never stops at a problem, and never panics, whatever
//! the bytes are.

use std::path::Path;
use std::rc::Rc;

use super::dialect::Dialect;
use super::files::Files;
use super::keys::{DaemonSpec, ServiceSpec};
use super::location::{Location, Spanned};
use super::machine::Machine;
use super::problem::Problem;

/// The readers of formats other than YAML. The caller that loads a table provides them.
pub(crate) trait OldFormats {
    /// Reads a file, and what it includes, if its format is not YAML. Where a dialect is given it is an inetd.conf,
    /// whatever it looks like.
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

pub(crate) struct ServiceEntry {
    /// Unique in the table.
    pub name: String,
    pub spec: ServiceSpec,
    pub at: Location,
    /// Read from an old format. There, what is off need not be right: it is left out with a warning.
    pub old: bool,
}

/// The result of reading a file of an old format, with the files that it includes.
#[derive(Default)]
pub(crate) struct OldTable {
    /// The services, whether on or off. A service that the old daemon does not start for a mistake is not among
    /// them, but among the warnings.
    pub services: Vec<ServiceEntry>,
    /// The defaults of the old daemon. They lie under everything, also under the `defaults` of a
    /// YAML file that includes this one.
    pub base: ServiceSpec,
    /// Settings of the daemon itself.
    pub daemon: Option<Spanned<DaemonSpec>>,
    /// Problems for which the table is not used.
    pub problems: Vec<Problem>,
    /// Complaints of the old daemon, lines that mean something else than they seem to, and differences of oxinetd.
    pub warnings: Vec<Problem>,
}
