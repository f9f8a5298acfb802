//! The state while an inetd.conf is read, and the ways in which its steps report a mistake.
//!
//! [`super::read_table`] makes one [`Reading`] for a file and those that it includes; the other files of this
//! folder are its steps. Nothing here fails.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::lines::Word;
use crate::config::dialect::Dialect;
use crate::config::endpoint::Ports;
use crate::config::format::OldTable;
use crate::config::location::Location;
use crate::config::machine::Machine;
use crate::config::problem::{LineCol, Problem};

/// The message for an entry under an IPsec policy.
pub(super) const POLICY: &str = "an IPsec policy cannot be kept, and the service would be open without it; see ip-xfrm(8) for a policy \
                      of the whole machine, and take this line away";

/// The state while a file is read.
pub(super) struct Reading<'a> {
    pub(super) dialect: Dialect,
    pub(super) machine: &'a dyn Machine,
    pub(super) ports: Ports<'a>,
    /// The addresses of /etc/hosts, read when first needed: IPv6 or not, and in numbers.
    pub(super) names: Option<HashMap<String, Vec<(bool, String)>>>,
    pub(super) file: Rc<Path>,
    /// The addresses of entries that name none.
    pub(super) hosts: Vec<String>,
    /// An IPsec policy that holds for what follows.
    pub(super) policy: Option<LineCol>,
    pub(super) old: OldTable,
}

impl Reading<'_> {
    /// The place of an entry, under its service as written.
    pub(super) fn entry_location(&self, service: &Word) -> Location {
        let shown: String = service.text.chars().filter(|c| !c.is_control()).take(64).collect();
        Location::in_file(&self.file, service.mark).under_key(&shown, service.mark)
    }

    /// The name of the dialect's daemon, for messages.
    pub(super) fn daemon_name(&self) -> &'static str {
        match self.dialect {
            Dialect::Debian => "inetd",
            Dialect::Openbsd => "OpenBSD's inetd",
            Dialect::Gnu => "GNU inetd",
            Dialect::Freebsd => "FreeBSD's inetd",
            Dialect::Netbsd => "NetBSD's inetd",
            Dialect::Busybox => "BusyBox inetd",
        }
    }

    pub(super) fn warn(&mut self, at: &Location, message: impl Into<String>) {
        self.old.warnings.push(at.problem(message));
    }

    /// The old daemon does without this entry, and so does oxinetd.
    pub(super) fn skip<T>(&mut self, at: &Location, message: impl Into<String>) -> Option<T> {
        let message = format!("{}; the entry is left out, as inetd leaves it out", message.into());
        self.old.warnings.push(at.problem(message));
        None
    }

    /// The old daemon serves this, and oxinetd can't.
    pub(super) fn refuse<T>(&mut self, at: &Location, message: impl Into<String>) -> Option<T> {
        let problem: Problem = at.problem(message);
        self.old.problems.push(problem);
        None
    }
}
