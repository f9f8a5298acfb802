//! The local syslog daemon: the logger and the protocol of the `syslog` crate, with a formatter for local time, and
//! a backend that never blocks and survives a restart of the daemon.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use syslog::{LogFormat, Logger, Severity};

use super::datagram::Datagrams;
use crate::log::event::Level;
use crate::sys::clock;

pub(super) struct Syslog(Logger<Backend, Rfc3164>);

impl std::fmt::Debug for Syslog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Syslog")
    }
}

impl Syslog {
    /// A sink for the daemon at `path`, which need not be there yet.
    pub(super) fn new(facility: u8, path: &Path) -> Self {
        let backend = Backend(Datagrams::to(path));
        Self(Logger::new(backend, Rfc3164 { facility, pid: std::process::id() }))
    }

    pub(super) fn put(&mut self, time: Duration, level: Level, line: &str) {
        let (formatter, backend) = (&self.0.formatter, &mut self.0.backend);
        // The backend counts lost messages itself.
        let _ = formatter.format(backend, severity_of(level), (time, line));
    }

    pub(super) fn take_lost(&mut self) -> u64 {
        self.0.backend.0.take_lost()
    }
}

fn severity_of(level: Level) -> Severity {
    match level {
        Level::Critical => Severity::LOG_CRIT,
        Level::Error => Severity::LOG_ERR,
        Level::Warning => Severity::LOG_WARNING,
        Level::Notice => Severity::LOG_NOTICE,
        Level::Info => Severity::LOG_INFO,
        Level::Debug => Severity::LOG_DEBUG,
    }
}

/// RFC 3164 as local daemons expect it: without a host name, in local time. The crate's own formatter writes UTC,
/// which the daemon would take for local time.
#[derive(Debug)]
struct Rfc3164 {
    facility: u8,
    pid: u32,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl LogFormat<(Duration, &str)> for Rfc3164 {
    fn format<W: Write>(&self, to: &mut W, severity: Severity, message: (Duration, &str)) -> syslog::Result<()> {
        let (time, line) = message;
        let local = clock::local_time(i64::try_from(time.as_secs()).unwrap_or(0));
        let priority = u32::from(self.facility) * 8 + severity as u32;
        let month = MONTHS.get(usize::from(local.month) - 1).unwrap_or(&"Jan");
        let (day, hour, minute, second) = (local.day, local.hour, local.minute, local.second);
        let pid = self.pid;
        write!(to, "<{priority}>{month} {day:2} {hour:02}:{minute:02}:{second:02} oxinetd[{pid}]: {line}")
            .map_err(syslog::Error::Write)
    }
}

/// Sends one datagram for each message, in whatever pieces the formatter writes it.
struct Backend(Datagrams);

impl Write for Backend {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.0.send(message);
        Ok(message.len())
    }

    fn write_fmt(&mut self, message: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(message.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
