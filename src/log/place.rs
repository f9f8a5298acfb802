//! Where log lines go and in which format: as the table says for the daemon and for each service.
//!
//! The configuration fills these types in, and the sinks open the places. Nothing is opened here.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::event::Level;

/// The key of the table that names the daemon's place.
pub(super) const DAEMON_LOG_KEY: &str = "daemon.log.to";

/// Where, what and how to log, for the daemon and all services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The place of the daemon's lines, and of services without their own place.
    pub place: LogPlace,
    /// The least important level that is written, in every place.
    pub level: Level,
    /// The services with their own places, by name.
    pub services: Vec<(String, LogPlace)>,
}

/// A place for log lines, and their format there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogPlace {
    /// The file or the service that receives the lines.
    pub to: LogTarget,
    /// The syslog facility, by its number in RFC 5424 §6.2.1 (`daemon` is 3).
    pub facility: u8,
    /// Whether lines are text or JSON.
    pub format: LogFormat,
}

/// The log keys that a service sets. For a key that is not set, the daemon's value applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOverrides {
    /// `log.to` of the service, if set.
    pub to: Option<LogTarget>,
    /// `log.facility` of the service, if set: a number of RFC 5424 §6.2.1.
    pub facility: Option<u8>,
    /// `log.format` of the service, if set.
    pub format: Option<LogFormat>,
}

impl LogOverrides {
    /// The place of the service's lines, where `common` is the daemon's. The facility counts for syslog alone:
    /// elsewhere it does not make a separate place.
    #[must_use]
    pub fn resolve(&self, common: &LogPlace) -> LogPlace {
        let to = self.to.as_ref().unwrap_or(&common.to);
        let facility = self.facility.filter(|_| *to == LogTarget::Syslog).unwrap_or(common.facility);
        LogPlace { to: to.clone(), facility, format: self.format.unwrap_or(common.format) }
    }
}

/// The file or the service that receives log lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogTarget {
    /// The local syslog daemon, through /dev/log.
    Syslog,
    /// The systemd journal, in its native protocol.
    Journal,
    /// The standard error of the daemon.
    Stderr,
    /// A file; the daemon appends to it, and opens it again on SIGHUP.
    File(PathBuf),
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// For people: `verb key=value …`
    Text,
    /// For programs: one JSON object in a line.
    Json,
}

/// A place that could not be opened.
#[derive(Debug)]
pub(crate) struct LogOpenError {
    /// The key of the table that names the place: `daemon.log.to` or `services.NAME.log.to`.
    pub key: String,
    /// The error from opening it.
    pub error: io::Error,
}

impl fmt::Display for LogOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.error)
    }
}

impl LogOpenError {
    pub(super) fn new(key: impl Into<String>, error: io::Error) -> Self {
        Self { key: key.into(), error }
    }
}
