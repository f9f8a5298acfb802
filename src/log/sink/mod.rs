//! One open place for lines: a file, standard error, syslog or the journal.
//!
//! Only the log's thread calls this. It may wait here for a moment, which does not delay the daemon. Opening a file
//! may fail; a line that cannot be written is lost and counted.

mod datagram;
mod journal;
mod stream;
mod syslog;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::event::Event;
use super::place::{LogFormat, LogPlace, LogTarget};
use super::render::Stamp;
use crate::sys::descriptor;
use journal::Journal;
use stream::Stream;
use syslog::Syslog;

/// An open place for lines, and their format.
#[derive(Debug)]
pub(super) struct Sink {
    format: LogFormat,
    outlet: Outlet,
    /// The current line; kept so that it is allocated once.
    line: String,
    stamp: Stamp,
}

#[derive(Debug)]
enum Outlet {
    /// A file or standard error, with the prefix of each line.
    Stream(Stream, Prefix),
    Syslog(Syslog),
    Journal(Journal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    /// The local time with milliseconds.
    Time,
    /// `<N>`, the level in the form that the journal reads from standard error (sd-daemon(3)).
    Level,
}

impl Sink {
    /// Opens a place.
    ///
    /// # Errors
    /// A file can't be opened.
    pub(super) fn open(place: &LogPlace) -> io::Result<Self> {
        let outlet = match &place.to {
            LogTarget::Syslog => Outlet::Syslog(Syslog::new(place.facility, Path::new("/dev/log"))),
            LogTarget::Journal => Outlet::Journal(Journal::new(Path::new("/run/systemd/journal/socket"))),
            LogTarget::Stderr => Outlet::Stream(Stream::stderr()?, stderr_prefix()),
            LogTarget::File(path) => {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                Outlet::Stream(Stream::new(open_file(path).map_err(named)?), Prefix::Time)
            }
        };
        Ok(Self::new(place.format, outlet))
    }

    fn new(format: LogFormat, outlet: Outlet) -> Self {
        Self { format, outlet, line: String::new(), stamp: Stamp::default() }
    }

    #[cfg(test)]
    pub(super) fn syslog_at(path: &Path, facility: u8) -> Self {
        Self::new(LogFormat::Text, Outlet::Syslog(Syslog::new(facility, path)))
    }

    #[cfg(test)]
    pub(super) fn journal_at(path: &Path) -> Self {
        Self::new(LogFormat::Text, Outlet::Journal(Journal::new(path)))
    }

    /// Formats an event, and writes it now or with the next [`Sink::flush_batch`].
    pub(super) fn put_event(&mut self, time: Duration, event: &Event) {
        self.line.clear();
        if let (LogFormat::Text, Outlet::Stream(_, prefix)) = (self.format, &self.outlet) {
            match prefix {
                Prefix::Time => {
                    self.stamp.put(&mut self.line, time, "");
                    self.line.push(' ');
                }
                Prefix::Level => self.line.push_str(&format!("<{}>", event.level() as u8)),
            }
        }
        match self.format {
            LogFormat::Text => event.write_text(&mut self.line),
            LogFormat::Json => event.write_json(&mut self.line, &mut self.stamp, time),
        }
        match &mut self.outlet {
            Outlet::Stream(stream, _) => stream.put_line(&self.line),
            Outlet::Syslog(syslog) => syslog.put(time, event.level(), &self.line),
            Outlet::Journal(journal) => journal.put(event, &self.line),
        }
    }

    /// Writes the rest of a batch. Returns the number of lines lost since the last call.
    pub(super) fn flush_batch(&mut self) -> u64 {
        match &mut self.outlet {
            Outlet::Stream(stream, _) => stream.flush_batch(),
            Outlet::Syslog(syslog) => syslog.take_lost(),
            Outlet::Journal(journal) => journal.take_lost(),
        }
    }
}

/// The journal reads our standard error if JOURNAL_STREAM names its device and inode (systemd.exec(5)).
fn stderr_prefix() -> Prefix {
    let ours = nix::sys::stat::fstat(io::stderr()).map(|file| format!("{}:{}", file.st_dev, file.st_ino));
    match (std::env::var("JOURNAL_STREAM"), ours) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Prefix::Level,
        _ => Prefix::Time,
    }
}

/// Opens a log file to append to. It may be a FIFO or a device, but opening it must not block.
fn open_file(path: &Path) -> io::Result<OwnedFd> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    descriptor::move_high(options.open(path)?.into())
}
