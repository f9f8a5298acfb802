//! NetBSD's second notation: `SERVICE on|off KEY = VALUE…, KEY = VALUE…;` over as many lines as one likes.
//!
//! [`super::read_table`] calls [`Reading::read_pair_entry`] where the first two words say that it begins. Comments
//! stand anywhere outside of quotation marks. A mistake that leaves open where the entry ends makes NetBSD's inetd
//! stop reading the file; that is an error here. Any other mistake costs the entry, with a warning, as there.

use super::entry::{Entry, Limits};
use super::fields::{Head, host_list, parse_buffer_size};
use super::limits::nonzero_limit;
use super::lines::{Cursor, Line, Word, is_blank, make_word};
use super::reading::{POLICY, Reading};
use crate::config::dialect::Dialect;
use crate::config::location::{Location, Spanned};
use crate::config::problem::LineCol;
use crate::config::units::parse_digits;

/// The keys, in the order of inetd(8).
const KEYS: [&str; 15] = [
    "bind",
    "socktype",
    "acceptfilter",
    "protocol",
    "sndbuf",
    "recvbuf",
    "wait",
    "service_max",
    "ip_max",
    "accept_max",
    "user",
    "group",
    "exec",
    "args",
    "ipsec",
];

struct Pair {
    key: Word,
    values: Vec<Word>,
}

/// A mistake after which the rest of the file cannot be read: position and message.
type Broken = (LineCol, String);

impl Reading<'_> {
    /// Reads the entry whose first two words are `line`. `Err` if the file can't be read any further.
    pub(super) fn read_pair_entry(&mut self, line: &Line, cursor: &mut Cursor<'_>) -> Result<Option<Entry>, ()> {
        let Some(Head { hosts, service, rest: [switch, ..] }) = self.read_head(&line.words) else { return Ok(None) };
        let at = self.entry_location(&service);
        if switch.text.contains('#') {
            cursor.next_row();
        }
        let pairs = match read_pairs(cursor) {
            Ok(pairs) => pairs,
            Err((mark, message)) => {
                let _: Option<()> =
                    self.refuse(&at.moved_to(mark), format!("{message}; inetd reads no further in this file"));
                return Err(());
            }
        };
        let off = switch.text.starts_with("off");
        Ok(self.make_entry(&EntryPairs { pairs: &pairs, at: &at }, hosts, &service.text, off))
    }

    fn make_entry(
        &mut self,
        keys: &EntryPairs<'_>,
        hosts: Option<Vec<String>>,
        service: &str,
        off: bool,
    ) -> Option<Entry> {
        let at = keys.at;
        self.check_keys(keys)?;
        let protocol = keys.find_one("protocol").map_err(|message| self.skip::<()>(at, message)).ok()?;
        let Some((protocol, place)) = protocol else { return self.skip(at, "protocol is missing") };
        let datagram = self.read_socket_type(keys, &protocol)?;
        let protocol = self.protocol_name(&protocol, datagram, &place)?;
        let program = self.read_text(keys, "exec")?.unwrap_or_else(|| at.spanned("internal".to_owned()));
        let wait = self.read_wait_key(keys, datagram, program.value == "internal")?;
        let Some(user) = self.read_text(keys, "user")? else { return self.skip(at, "user is missing") };
        let bind = self.read_text(keys, "bind")?.map(|set| host_list(&set.value));
        let entry = Entry {
            off,
            hosts: hosts.or(bind),
            service: service.to_owned(),
            port: None,
            datagram,
            protocol,
            send_buffer: self.read_size(keys, "sndbuf")?,
            receive_buffer: self.read_size(keys, "recvbuf")?,
            limits: self.read_limits(keys, wait.value, datagram)?,
            wait,
            user: Some(user),
            group: self.read_text(keys, "group")?,
            arguments: read_args(keys, &program),
            program,
            rest: keys.other_settings(),
            places: Vec::new(),
            at: at.clone(),
        };
        self.choose_family(entry)
    }

    /// Unknown keys and those without an equivalent.
    fn check_keys(&mut self, keys: &EntryPairs<'_>) -> Option<()> {
        for Pair { key, values } in keys.pairs {
            let at = keys.at.under_key(&key.text, key.mark);
            match key.text.as_str() {
                "acceptfilter" => {
                    return self.refuse(&at, "there are no accept filters on Linux; it cannot be kept");
                }
                "ipsec" if !values.is_empty() => return self.refuse(&at, POLICY),
                name if !KEYS.contains(&name) => {
                    return self.skip(&at, format!("unknown key; inetd knows {}", KEYS.join(", ")));
                }
                _ => {}
            }
            if let Some(value) = values.iter().find(|value| !value.clean) {
                return self.refuse(&at.moved_to(value.mark), "this is not UTF-8, and a table is");
            }
        }
        Some(())
    }

    fn read_socket_type(&mut self, keys: &EntryPairs<'_>, protocol: &str) -> Option<bool> {
        match self.read_text(keys, "socktype")? {
            Some(Spanned { value, at }) => self.plain_socket_type(&value, &at),
            None if protocol.starts_with("udp") => Some(true),
            None if protocol.starts_with("tcp") => Some(false),
            None => self.skip(keys.at, "socktype is missing"),
        }
    }

    fn read_wait_key(&mut self, keys: &EntryPairs<'_>, datagram: bool, internal: bool) -> Option<Spanned<bool>> {
        match self.read_text(keys, "wait")? {
            Some(Spanned { value, at }) => match value.as_str() {
                "yes" => Some(Spanned { value: true, at }),
                "no" => Some(Spanned { value: false, at }),
                _ => self.skip(&at, format!("expected yes or no, not {value:?}")),
            },
            None if internal => Some(keys.at.spanned(datagram)),
            None => self.skip(keys.at, "wait is missing"),
        }
    }

    fn read_limits(&mut self, keys: &EntryPairs<'_>, wait: bool, datagram: bool) -> Option<Limits> {
        let starts = self.read_number(keys, "service_max")?;
        let source = self.read_number(keys, "ip_max")?;
        let instances = self.read_number(keys, "accept_max")?;
        if let Some(zero) = [&starts, &source].into_iter().flatten().find(|set| set.value == 0) {
            return self.skip(&zero.at, "NetBSD's inetd serves nobody with 0; write off");
        }
        if let Some(Spanned { at, .. }) = source.as_ref().filter(|_| wait && !datagram) {
            let message = "a service with wait does not see its clients, its program does; it cannot limit them";
            return self.refuse(at, message);
        }
        let some = |set: Option<Spanned<u64>>| set.and_then(|Spanned { value, at }| nonzero_limit(value, &at));
        let instances = some(instances).filter(|_| !wait && !datagram);
        Some(Limits { starts: some(starts), source_starts: some(source), instances, source_instances: None })
    }

    /// NetBSD asks for `tcp4` or `tcp6` unless the address says which; all addresses do not.
    fn choose_family(&mut self, mut entry: Entry) -> Option<Entry> {
        let hosts = entry.hosts.as_ref().unwrap_or(&self.hosts);
        let bare = matches!(entry.protocol.name.as_str(), "tcp" | "udp");
        let address = hosts.first().filter(|_| bare).map(|host| host.split('%').next().unwrap_or_default().to_owned());
        let Some(address) = address else { return Some(entry) };
        let suffix = match address.parse::<std::net::IpAddr>() {
            Ok(address) if address.is_ipv4() => "4",
            Ok(_) => "6",
            Err(_) => {
                let name = &entry.protocol.name;
                return self.skip(&entry.at, format!("the address says not whether {name} is {name}4 or {name}6"));
            }
        };
        entry.protocol.families = Dialect::Netbsd.find_families(suffix)?;
        Some(entry)
    }

    /// A value, or none; the outer `None` if there are more, or the key is there twice.
    fn read_text(&mut self, keys: &EntryPairs<'_>, key: &str) -> Option<Option<Spanned<String>>> {
        match keys.find_one(key) {
            Ok(found) => Some(found.map(|(value, at)| Spanned { value, at })),
            Err(message) => self.skip(keys.at, message),
        }
    }

    fn read_number(&mut self, keys: &EntryPairs<'_>, key: &str) -> Option<Option<Spanned<u64>>> {
        let Some(Spanned { value, at }) = self.read_text(keys, key)? else { return Some(None) };
        match parse_digits(&value) {
            Some(number) => Some(Some(Spanned { value: number, at })),
            None => self.skip(&at, format!("{value:?} is no number")),
        }
    }

    fn read_size(&mut self, keys: &EntryPairs<'_>, key: &str) -> Option<Option<Spanned<u32>>> {
        let Some(Spanned { value, at }) = self.read_text(keys, key)? else { return Some(None) };
        match parse_buffer_size(&value) {
            Some(size) => Some(Some(Spanned { value: size, at })),
            None => self.skip(&at, format!("{value:?} is no size, such as 64k")),
        }
    }
}

struct EntryPairs<'a> {
    pairs: &'a [Pair],
    at: &'a Location,
}

impl EntryPairs<'_> {
    fn find_all(&self, key: &str) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(move |pair| pair.key.text == key)
    }

    fn find_one(&self, key: &str) -> Result<Option<(String, Location)>, String> {
        let mut found = self.find_all(key);
        let Some(pair) = found.next() else { return Ok(None) };
        match (&pair.values[..], found.next()) {
            ([value], None) => Ok(Some((value.text.clone(), self.at.under_key(key, value.mark)))),
            ([], _) => Err(format!("{key} has no value")),
            (_, Some(_)) => Err(format!("{key} is there twice")),
            _ => Err(format!("{key} has more than one value")),
        }
    }

    /// All but what names the sockets.
    fn other_settings(&self) -> Vec<String> {
        let other = self.pairs.iter().filter(|pair| !["protocol", "bind"].contains(&pair.key.text.as_str()));
        let mut rest: Vec<String> = other
            .map(|pair| {
                let values: Vec<&str> = pair.values.iter().map(|value| value.text.as_str()).collect();
                format!("{}={}", pair.key.text, values.join("\0"))
            })
            .collect();
        rest.sort();
        rest
    }
}

fn read_args(keys: &EntryPairs<'_>, program: &Spanned<String>) -> Vec<Spanned<String>> {
    let set = |value: &Word| Spanned { value: value.text.clone(), at: keys.at.under_key("args", value.mark) };
    let mut arguments: Vec<Spanned<String>> =
        keys.find_all("args").flat_map(|pair| pair.values.iter().map(set)).collect();
    if arguments.is_empty() && program.value != "internal" {
        let name = program.value.rsplit('/').next().unwrap_or_default();
        arguments.push(program.at.spanned(name.to_owned()));
    }
    arguments
}

/// The pairs up to the semicolon, which is passed.
fn read_pairs(cursor: &mut Cursor<'_>) -> Result<Vec<Pair>, Broken> {
    let mut pairs = Vec::new();
    loop {
        skip_space(cursor)?;
        let mark = cursor.line_col();
        let rest = cursor.rest_of_row().unwrap_or_default();
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'_').count();
        let key = make_word(rest[..length].to_vec(), mark, false);
        cursor.skip_bytes(length);
        skip_space(cursor)?;
        if cursor.rest_of_row().and_then(|rest| rest.first()) != Some(&b'=') {
            let found = String::from_utf8_lossy(cursor.rest_of_row().unwrap_or_default()).chars().next().unwrap_or(' ');
            return Err((cursor.line_col(), format!("expected KEY = VALUE, and found {found:?}")));
        }
        cursor.skip_bytes(1);
        let (values, last) = read_values(cursor)?;
        pairs.push(Pair { key, values });
        if last {
            return Ok(pairs);
        }
    }
}

/// The values up to the comma, or to the semicolon, after which there is no more.
fn read_values(cursor: &mut Cursor<'_>) -> Result<(Vec<Word>, bool), Broken> {
    let mut values = Vec::new();
    loop {
        skip_space(cursor)?;
        match cursor.rest_of_row().and_then(|rest| rest.first()) {
            Some(end @ (b',' | b';')) => {
                cursor.skip_bytes(1);
                return Ok((values, *end == b';'));
            }
            _ => values.push(read_value(cursor)?),
        }
    }
}

/// A value: letters and quoted parts.
fn read_value(cursor: &mut Cursor<'_>) -> Result<Word, Broken> {
    let mark = cursor.line_col();
    let mut bytes = Vec::new();
    while let Some(byte) = cursor.rest_of_row().and_then(|rest| rest.first()).copied() {
        match byte {
            b'"' | b'\'' => read_quoted(cursor, byte, &mut bytes)?,
            b'#' | b',' | b';' => break,
            _ if is_blank(byte) => break,
            _ => {
                bytes.push(byte);
                cursor.skip_bytes(1);
            }
        }
    }
    Ok(make_word(bytes, mark, false))
}

/// A part in quotation marks, with escapes.
fn read_quoted(cursor: &mut Cursor<'_>, quote: u8, bytes: &mut Vec<u8>) -> Result<(), Broken> {
    let mark = cursor.line_col();
    cursor.skip_bytes(1);
    loop {
        let rest = cursor.rest_of_row().unwrap_or_default();
        let (byte, length) = match rest {
            [] => return Err((mark, "a quotation mark is left open".to_owned())),
            [byte, ..] if *byte == quote => {
                cursor.skip_bytes(1);
                return Ok(());
            }
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) * 16 + hex_digit(*low), 4)
            }
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', escaped @ (b'\\' | b'\'' | b'"'), ..] => (*escaped, 2),
            [b'\\', ..] => {
                return Err((
                    cursor.line_col(),
                    "unknown escape; known are \\\\ \\n \\t \\r \\' \\\" \\xHH".to_owned(),
                ));
            }
            [byte, ..] => (*byte, 1),
        };
        bytes.push(byte);
        cursor.skip_bytes(length);
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Passes blanks, comments and ends of lines.
fn skip_space(cursor: &mut Cursor<'_>) -> Result<(), Broken> {
    let from = cursor.line_col();
    loop {
        cursor.skip_blanks();
        match cursor.rest_of_row() {
            None => return Err((from, "the file ends within an entry; a semicolon is missing".to_owned())),
            Some([] | [b'#', ..]) => cursor.next_row(),
            Some(_) => return Ok(()),
        }
    }
}
