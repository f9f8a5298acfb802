//! Where lines end up. Only the log's thread calls this, and it may wait here for a moment; the daemon does not notice.

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
use super::render::Stamp;
use super::{Format, Place, Target};
use crate::sys::descriptor;
use journal::Journal;
use stream::Stream;
use syslog::Syslog;

/// An open place for lines, and the shape that they get.
#[derive(Debug)]
pub(super) struct Sink {
    format: Format,
    outlet: Outlet,
    /// The line under way; kept so that it is allocated once.
    line: String,
    stamp: Stamp,
}

#[derive(Debug)]
enum Outlet {
    /// A file or standard error, with what stands before each line.
    Stream(Stream, Prefix),
    Syslog(Syslog),
    Journal(Journal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    /// The local time.
    Time,
    /// `<N>`, the level as the journal takes it from standard error (sd-daemon(3)).
    Level,
}

impl Sink {
    /// Opens a place.
    ///
    /// # Errors
    /// A file can't be opened.
    pub(super) fn open(place: &Place) -> io::Result<Self> {
        let outlet = match &place.to {
            Target::Syslog => Outlet::Syslog(Syslog::new(place.facility, Path::new("/dev/log"))),
            Target::Journal => Outlet::Journal(Journal::new(Path::new("/run/systemd/journal/socket"))),
            Target::Stderr => Outlet::Stream(Stream::stderr()?, stderr_prefix()),
            Target::File(path) => {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                Outlet::Stream(Stream::new(open_file(path).map_err(named)?), Prefix::Time)
            }
        };
        Ok(Self::new(place.format, outlet))
    }

    fn new(format: Format, outlet: Outlet) -> Self {
        Self { format, outlet, line: String::new(), stamp: Stamp::default() }
    }

    #[cfg(test)]
    pub(super) fn syslog_at(path: &Path, facility: u8) -> Self {
        Self::new(Format::Text, Outlet::Syslog(Syslog::new(facility, path)))
    }

    #[cfg(test)]
    pub(super) fn journal_at(path: &Path) -> Self {
        Self::new(Format::Text, Outlet::Journal(Journal::new(path)))
    }

    /// Formats an event, and writes it now or with the next [`Sink::finish`].
    pub(super) fn put(&mut self, time: Duration, event: &Event) {
        self.line.clear();
        if let (Format::Text, Outlet::Stream(_, prefix)) = (self.format, &self.outlet) {
            match prefix {
                Prefix::Time => {
                    self.stamp.put(&mut self.line, time, "");
                    self.line.push(' ');
                }
                Prefix::Level => self.line.push_str(&format!("<{}>", event.level() as u8)),
            }
        }
        match self.format {
            Format::Text => event.text(&mut self.line),
            Format::Json => event.json(&mut self.line, &mut self.stamp, time),
        }
        match &mut self.outlet {
            Outlet::Stream(stream, _) => stream.put(&self.line),
            Outlet::Syslog(syslog) => syslog.put(time, event.level(), &self.line),
            Outlet::Journal(journal) => journal.put(event, &self.line),
        }
    }

    /// Writes what is left of a batch. Gives the number of lines that were lost since the last call.
    pub(super) fn finish(&mut self) -> u64 {
        match &mut self.outlet {
            Outlet::Stream(stream, _) => stream.finish(),
            Outlet::Syslog(syslog) => syslog.lost(),
            Outlet::Journal(journal) => journal.lost(),
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
