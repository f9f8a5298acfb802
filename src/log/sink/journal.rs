//! The systemd journal by its native protocol: a datagram of `KEY=value` lines (systemd.io, "Native Journal
//! Protocol").

use std::path::Path;

use super::datagram::{Datagrams, MESSAGE_LEN_MAX};
use crate::log::event::Event;

/// Room for all fields except the message, in bytes: the longest is the service's name, with at most 64.
const FIELDS_LEN_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Journal {
    datagrams: Datagrams,
    message: String,
}

impl Journal {
    /// A sink for the journal at `path`, which need not be there yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { datagrams: Datagrams::to(path), message: String::new() }
    }

    /// `line` is the event as one line, so no value here holds a line end, which the protocol would have to frame.
    pub(super) fn put(&mut self, event: &Event, line: &str) {
        self.message.clear();
        let level = (event.level() as u8).to_string();
        let mut put = |key: &str, value: &str| {
            for part in [key, "=", value, "\n"] {
                self.message.push_str(part);
            }
        };
        put("MESSAGE", cut_message(line));
        put("PRIORITY", &level);
        put("SYSLOG_IDENTIFIER", "oxinetd");
        put("OXINETD_EVENT", event.verb());
        // The table has checked that names of services hold no control characters.
        event.service().into_iter().for_each(|service| put("OXINETD_SERVICE", service));
        if let Some(peer) = event.peer() {
            put("REMOTE_ADDR", &peer.to_string());
        }
        self.datagrams.send(self.message.as_bytes());
    }

    pub(super) fn take_lost(&mut self) -> u64 {
        self.datagrams.take_lost()
    }
}

/// The part of a line that fits beside the other fields. If the datagram were cut, the message would lack its line
/// end, and the journal would drop it.
fn cut_message(line: &str) -> &str {
    let mut end = line.len().min(MESSAGE_LEN_MAX - FIELDS_LEN_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_long_message_is_cut_but_has_all_its_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::new(&path);
        let event = Event::Warning { message: String::new() };
        // Three bytes each, so that the limit falls into a character.
        journal.put(&event, &"\u{20ac}".repeat(MESSAGE_LEN_MAX));
        assert_eq!(journal.take_lost(), 0);
        let mut bytes = vec![0; 2 * MESSAGE_LEN_MAX];
        let size = daemon.recv(&mut bytes).unwrap();
        let message = std::str::from_utf8(&bytes[..size]).unwrap();
        let (first, rest) = message.split_once('\n').unwrap();
        assert!(first.starts_with("MESSAGE=\u{20ac}") && first.ends_with('\u{20ac}'));
        assert_eq!(rest, "PRIORITY=4\nSYSLOG_IDENTIFIER=oxinetd\nOXINETD_EVENT=warning\n");
    }
}
