//! The names of the dialects of inetd.conf, which `include` and `--dialect` take. What differs between them is for
//! the reader of that format.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The inetd that a file is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// Debian's openbsd-inetd.
    #[default]
    Debian,
    /// OpenBSD's own.
    Openbsd,
    /// GNU inetutils, as Debian ships it.
    Gnu,
    /// FreeBSD's.
    Freebsd,
    /// NetBSD's, with both of its notations.
    Netbsd,
    /// BusyBox's.
    Busybox,
}

/// Every dialect and its name.
pub const DIALECTS: [(&str, Dialect); 6] = [
    ("debian", Dialect::Debian),
    ("openbsd", Dialect::Openbsd),
    ("gnu", Dialect::Gnu),
    ("freebsd", Dialect::Freebsd),
    ("netbsd", Dialect::Netbsd),
    ("busybox", Dialect::Busybox),
];

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = DIALECTS.iter().find(|(_, dialect)| dialect == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = DIALECTS.iter().find(|(name, _)| *name == text).map(|(_, dialect)| *dialect);
        let names = || DIALECTS.map(|(name, _)| name);
        found.ok_or_else(|| format!("expected one of {}, not {text:?}", names().join(", ")))
    }
}
