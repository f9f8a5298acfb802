//! An event as a line: its verb, its level and its fields in one place, from which both text and JSON are made.
//!
//! The sinks call it. One event makes one line, and rendering cannot fail. No text from outside is written raw: as
//! text, a value with a space, a quote, an equals sign or an unprintable character is quoted and escaped; JSON has
//! its own escapes.

use std::fmt::{Display, Write};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::{Map, Value as Json, json};

use super::event::{CountOf, Event, Level};
use crate::net::Peer;
use crate::sys::clock;
use crate::types::Ending;

/// The value of a field, with its type.
enum FieldValue<'a> {
    Text(&'a str),
    /// A value that is known to be printable and without spaces.
    Plain(&'a dyn Display),
    Number(i64),
    True,
    Count(CountOf),
    Time(Duration),
    Bytes(u64),
    /// A JSON document that the daemon has made.
    Document(&'a str),
}

impl Event {
    /// The level at which this kind of event is logged.
    #[must_use]
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::Inconsistency { .. } => Level::Critical,
            Self::SpawnFailed { .. } | Self::ReloadFailed { .. } | Self::UpgradeFailed { .. } => Level::Error,
            Self::Warning { .. } | Self::Dropped { .. } => Level::Warning,
            Self::Accept { .. } | Self::Exit { .. } | Self::Listen { .. } | Self::Unlisten { .. } => Level::Info,
            Self::Resume { .. } => Level::Debug,
            Self::Start { .. }
            | Self::Refuse { .. }
            | Self::Penalty { .. }
            | Self::Suppressed { .. }
            | Self::Pause { .. }
            | Self::Kill { .. }
            | Self::Reload { .. }
            | Self::Control { .. }
            | Self::Upgrade { .. }
            | Self::Stop { .. }
            | Self::Status { .. } => Level::Notice,
        }
    }

    /// The first word of its line.
    #[must_use]
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Listen { .. } => "listen",
            Self::Unlisten { .. } => "unlisten",
            Self::Accept { .. } => "accept",
            Self::Refuse { .. } => "refuse",
            Self::Penalty { .. } => "penalty",
            Self::Suppressed { .. } => "suppressed",
            Self::Exit { .. } => "exit",
            Self::SpawnFailed { .. } => "spawn_failed",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Kill { .. } => "kill",
            Self::Reload { .. } => "reload",
            Self::ReloadFailed { .. } => "reload_failed",
            Self::Control { .. } => "control",
            Self::Upgrade { .. } => "upgrade",
            Self::UpgradeFailed { .. } => "upgrade_failed",
            Self::Stop { .. } => "stop",
            Self::Inconsistency { .. } => "inconsistency",
            Self::Status { .. } => "status",
            Self::Dropped { .. } => "dropped",
            Self::Warning { .. } => "warning",
        }
    }

    /// The service that the event concerns, if any.
    #[must_use]
    pub(crate) fn service(&self) -> Option<&str> {
        match self {
            Self::Listen { service, .. }
            | Self::Unlisten { service, .. }
            | Self::Accept { service, .. }
            | Self::Refuse { service, .. }
            | Self::Penalty { service, .. }
            | Self::Suppressed { service, .. }
            | Self::Exit { service, .. }
            | Self::SpawnFailed { service, .. }
            | Self::Pause { service, .. }
            | Self::Resume { service, .. }
            | Self::Kill { service, .. } => Some(service),
            _ => None,
        }
    }

    /// The service to whose own log the event goes, if it is about traffic. Events about opening and closing
    /// sockets concern the table, and go to the daemon's log.
    #[must_use]
    pub(crate) fn traffic_of(&self) -> Option<&str> {
        match self {
            Self::Listen { .. } | Self::Unlisten { .. } => None,
            _ => self.service(),
        }
    }

    /// The client that the event concerns, if any.
    #[must_use]
    pub(crate) fn peer(&self) -> Option<Peer> {
        match *self {
            Self::Accept { peer, .. }
            | Self::Refuse { peer, .. }
            | Self::Penalty { peer, .. }
            | Self::Exit { peer, .. }
            | Self::SpawnFailed { peer, .. }
            | Self::Kill { peer, .. } => Some(peer),
            _ => None,
        }
    }

    /// The fields of an event about a service.
    fn each_service_field(&self, mut put: impl FnMut(&'static str, FieldValue<'_>)) {
        use FieldValue::{Bytes, Count, Number, Plain, Text, Time};
        match self {
            Self::Listen { endpoint, how, .. } => {
                put("endpoint", Text(endpoint));
                put("how", Text(how));
            }
            Self::Unlisten { endpoint, .. } | Self::Resume { endpoint, .. } => put("endpoint", Text(endpoint)),
            Self::Accept { peer, pid, source_count, service_count, .. } => {
                if let Peer::Inet(_, port) = peer {
                    put("port", Number((*port).into()));
                }
                put("pid", Number((*pid).into()));
                put("source_count", Count(*source_count));
                put("service_count", Count(*service_count));
            }
            Self::Refuse { reason, retry, dry_run, .. } => {
                put("reason", Text(reason.word()));
                if let Some(retry) = retry {
                    put("retry", Time(*retry));
                }
                if *dry_run {
                    put("dry_run", FieldValue::True);
                }
            }
            Self::Penalty { cause, retry, .. } => {
                put("cause", Text(cause));
                put("retry", Time(*retry));
            }
            Self::Suppressed { reason, suppressed, .. } => {
                put("reason", Text(reason.word()));
                put("suppressed", Number(i64::try_from(*suppressed).unwrap_or(i64::MAX)));
            }
            Self::Exit { pid, ending, duration, cpu, rss, .. } => {
                put("pid", Number((*pid).into()));
                match *ending {
                    Ending::Exited(status) => put("status", Number(status.into())),
                    Ending::Signaled(signal) => put("signal", Plain(&signal_name(signal))),
                }
                put("duration", Time(*duration));
                put("cpu", Time(*cpu));
                put("rss", Bytes(*rss));
            }
            Self::SpawnFailed { step, errno, .. } => {
                put("step", Text(step));
                put("errno", Number((*errno).into()));
                put("error", Text(Errno::from_raw(*errno).desc()));
            }
            Self::Pause { endpoint, reason, retry, .. } => {
                put("endpoint", Text(endpoint));
                put("reason", Text(reason.word()));
                if let Some(retry) = retry {
                    put("retry", Time(*retry));
                }
            }
            Self::Kill { pid, signal, .. } => {
                put("pid", Number((*pid).into()));
                put("signal", Text(signal));
            }
            _ => {}
        }
    }

    /// Calls `put` for every field in order, except for the service and the peer.
    fn each_own_field(&self, mut put: impl FnMut(&'static str, FieldValue<'_>)) {
        use FieldValue::{Document, Number, Text};
        let number = |number: usize| Number(i64::try_from(number).unwrap_or(i64::MAX));
        let long = |number: u64| Number(i64::try_from(number).unwrap_or(i64::MAX));
        match self {
            Self::Start { version, pid, services, listeners } => {
                put("version", Text(version));
                put("pid", Number((*pid).into()));
                put("services", number(*services));
                put("listeners", number(*listeners));
            }
            Self::Reload { added, removed, altered, kept } => {
                put("added", number(*added));
                put("removed", number(*removed));
                put("altered", number(*altered));
                put("kept", number(*kept));
            }
            Self::Control { command, uid, pid } => {
                put("command", Text(command));
                put("uid", Number((*uid).into()));
                put("pid", Number((*pid).into()));
            }
            Self::Upgrade { program } => put("program", Text(program)),
            Self::ReloadFailed { problem } | Self::UpgradeFailed { problem } => put("problem", Text(problem)),
            Self::Stop { signal, handlers } => {
                put("signal", Text(signal));
                put("handlers", number(*handlers));
            }
            Self::Inconsistency { what, expected, found } => {
                put("what", Text(what));
                put("expected", Text(expected));
                put("found", Text(found));
            }
            Self::Status { json } => put("json", Document(json)),
            Self::Dropped { lines } => put("lines", long(*lines)),
            Self::Warning { message } => put("message", Text(message)),
            Self::Listen { .. }
            | Self::Unlisten { .. }
            | Self::Accept { .. }
            | Self::Refuse { .. }
            | Self::Penalty { .. }
            | Self::Suppressed { .. }
            | Self::Exit { .. }
            | Self::SpawnFailed { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Kill { .. } => self.each_service_field(put),
        }
    }

    fn each_field(&self, mut put: impl FnMut(&'static str, FieldValue<'_>)) {
        if let Some(service) = self.service() {
            put("service", FieldValue::Text(service));
        }
        if let Some(peer) = self.peer() {
            put("source", FieldValue::Plain(&peer));
        }
        self.each_own_field(put);
    }

    /// Appends the event as text: `verb key=value …`, without a line end.
    pub(super) fn write_text(&self, line: &mut String) {
        line.push_str(self.verb());
        self.each_field(|key, value| {
            let _ = write!(line, " {key}=");
            let _ = match value {
                FieldValue::Text(text) => escape_text(line, text),
                FieldValue::Plain(value) => write!(line, "{value}"),
                FieldValue::Number(number) => write!(line, "{number}"),
                FieldValue::True => write!(line, "true"),
                FieldValue::Count(CountOf { count, limit: Some(limit) }) => write!(line, "{count}/{limit}"),
                FieldValue::Count(CountOf { count, limit: None }) => write!(line, "{count}"),
                FieldValue::Time(time) => write!(line, "{:.2}s", time.as_secs_f64()),
                FieldValue::Bytes(bytes) => write!(line, "{}", format_size(bytes)),
                FieldValue::Document(document) => write!(line, "{document}"),
            };
        });
    }

    /// Appends the event as a JSON object, without a line end. Units are part of the keys.
    pub(super) fn write_json(&self, line: &mut String, stamp: &mut Stamp, time: Duration) {
        let mut object = Map::new();
        let mut text = String::new();
        stamp.put(&mut text, time, ":");
        object.insert("time".to_owned(), text.into());
        object.insert("level".to_owned(), self.level().word().into());
        object.insert("event".to_owned(), self.verb().into());
        self.each_field(|key, value| {
            let (key, value) = match value {
                FieldValue::Text(text) => (key.to_owned(), text.into()),
                FieldValue::Plain(value) => (key.to_owned(), value.to_string().into()),
                FieldValue::Number(number) => (key.to_owned(), number.into()),
                FieldValue::True => (key.to_owned(), true.into()),
                FieldValue::Count(CountOf { count, limit }) => {
                    (key.to_owned(), json!({ "count": count, "limit": limit }))
                }
                FieldValue::Time(time) => (format!("{key}_seconds"), time.as_secs_f64().into()),
                FieldValue::Bytes(bytes) => (format!("{key}_bytes"), bytes.into()),
                FieldValue::Document(document) => {
                    (key.to_owned(), serde_json::from_str(document).unwrap_or(Json::Null))
                }
            };
            object.insert(key, value);
        });
        escape_json(line, &Json::Object(object).to_string());
    }
}

/// Appends JSON, with an escape for each character that JSON allows raw but a terminal or a reader of lines may
/// interpret: the same characters as in [`escape_text`]. They occur only within strings, since the rest of JSON is
/// ASCII.
fn escape_json(line: &mut String, json: &str) {
    for character in json.chars() {
        if is_printable(character) {
            line.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
}

/// Other characters of Unicode include line separators, and marks that reverse the direction of text.
fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~') || character.is_alphanumeric()
}

/// Appends one plain word as it is, and any other `text` in quotes, with an escape for each character that is not
/// printable.
fn escape_text(line: &mut String, text: &str) -> std::fmt::Result {
    let plain = |character: char| character.is_ascii_graphic() && !matches!(character, '"' | '=' | '\\' | '\'');
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(text);
        return Ok(());
    }
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(line, "\\{character}")?,
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            other if is_printable(other) => line.push(other),
            other => write!(line, "\\u{{{:x}}}", u32::from(other))?,
        }
    }
    line.push('"');
    Ok(())
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}

/// A number of bytes for people: `512`, `64k`, `5M`, `2G`, rounded down.
fn format_size(bytes: u64) -> String {
    match bytes {
        0..1024 => bytes.to_string(),
        1024..0x10_0000 => format!("{}k", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{}M", bytes >> 20),
        _ => format!("{}G", bytes >> 30),
    }
}

/// Writes local times. The part that is the same for a whole second is computed once.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    date_and_time: String,
    hours: String,
    minutes: String,
}

impl Stamp {
    /// Appends local time with milliseconds and the offset from UTC: `2026-11-24T09:15:00.123+0100`, or with a
    /// colon in the offset, as in RFC 3339.
    pub(super) fn put(&mut self, line: &mut String, time: Duration, colon: &str) {
        if self.second != Some(time.as_secs()) {
            self.second = Some(time.as_secs());
            self.cache_second(clock::local_time(i64::try_from(time.as_secs()).unwrap_or(0)));
        }
        let _ = write!(line, "{}.{:03}{}{colon}{}", self.date_and_time, time.subsec_millis(), self.hours, self.minutes);
    }

    fn cache_second(&mut self, local: clock::CalendarTime) {
        let (year, month, day) = (local.year, local.month, local.day);
        let (hour, minute, second) = (local.hour, local.minute, local.second);
        self.date_and_time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let sign = if local.utc_offset_seconds < 0 { '-' } else { '+' };
        let offset = local.utc_offset_seconds.unsigned_abs() / 60;
        self.hours = format!("{sign}{:02}", offset / 60);
        self.minutes = format!("{:02}", offset % 60);
    }
}

#[cfg(test)]
mod tests;
