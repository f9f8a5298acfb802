//! The notation that all dialects share: an entry is a line of fields.
//!
//! `[HOST[,HOST…]:]SERVICE TYPE PROTOCOL WAIT USER PROGRAM [ARGUMENT…]`. [`super::read_table`] calls
//! [`Reading::read_fields`] for each line. A field that the old daemon would have turned away costs the entry, with
//! a warning, as it did there; one that has no equivalent here is an error.

use super::entry::{Entry, Limits, Protocol};
use super::lines::{Line, Word};
use super::reading::Reading;
use crate::config::dialect::Dialect;
use crate::config::location::{Location, Spanned};

/// The names of the fields, for messages.
const FIELDS: &str = "SERVICE TYPE PROTOCOL WAIT USER PROGRAM";

/// The service and the addresses before it, and the words that follow.
pub(super) struct Head<'w> {
    pub hosts: Option<Vec<String>>,
    pub service: Word,
    pub rest: &'w [Word],
}

/// Sizes of a socket's buffers.
#[derive(Default)]
struct Buffers {
    send: Option<Spanned<u32>>,
    receive: Option<Spanned<u32>>,
}

impl Reading<'_> {
    /// Reads a line of fields; `None` if it makes no entry, which has been said then.
    pub(super) fn read_fields(&mut self, line: &Line) -> Option<Entry> {
        let Head { hosts, service, rest: words } = self.read_head(&line.words)?;
        let at = self.entry_location(&service);
        self.check_encoding(&line.words, &at)?;
        let [kind, protocol, wait, user, program, arguments @ ..] = words else {
            return self.too_short(&at, words.len());
        };
        let datagram = self.socket_type(kind, &at)?;
        let (protocol, buffers) = self.read_protocol(protocol, datagram, &at)?;
        let (wait, limits) = self.read_wait(wait, kind, datagram, &at)?;
        let (user, group) = self.read_user(user, &at)?;
        let arguments = self.read_arguments(arguments, program, &at)?;
        let set = |name: &str, word: &Word| Spanned { value: word.text.clone(), at: at.under_key(name, word.mark) };
        let entry = Entry {
            off: line.off,
            hosts,
            service: service.text.clone(),
            port: None,
            datagram,
            protocol,
            send_buffer: buffers.send,
            receive_buffer: buffers.receive,
            wait,
            limits,
            user: Some(user),
            group,
            program: set("program", program),
            arguments,
            rest: words[2..].iter().map(|word| word.text.clone()).collect(),
            places: Vec::new(),
            at,
        };
        self.lint_line(line, &entry);
        Some(entry)
    }

    /// The service and the addresses before it; and what follows. `None` if there are only addresses.
    pub(super) fn read_head<'w>(&mut self, words: &'w [Word]) -> Option<Head<'w>> {
        let (first, rest) = words.split_first()?;
        let split = first.text.rsplit_once(':').filter(|_| self.dialect.takes_addresses());
        let Some((hosts, service)) = split else {
            return Some(Head { hosts: None, service: first.clone(), rest });
        };
        let list = host_list(hosts);
        // After a colon and a blank, these dialects look for the service in the next word.
        let in_next = self.dialect != Dialect::Gnu && self.dialect != Dialect::Busybox;
        let (service, rest) = match (service, rest.split_first()) {
            ("", None) => {
                self.hosts = list;
                return None;
            }
            ("", Some((next, rest))) if in_next => (next.clone(), rest),
            _ => (Word { text: service.to_owned(), ..first.clone() }, rest),
        };
        Some(Head { hosts: Some(list), service, rest })
    }

    /// Words that are no text can't be kept in a table.
    fn check_encoding(&mut self, words: &[Word], at: &Location) -> Option<()> {
        let Some(word) = words.iter().find(|word| !word.clean) else { return Some(()) };
        let message = "this is not UTF-8, and a table is; write it in ASCII, or rename the file that it means";
        self.refuse(&at.moved_to(word.mark), message)
    }

    fn too_short<T>(&mut self, at: &Location, words: usize) -> Option<T> {
        let message = format!("there are {} fields, and an entry has six: {FIELDS}", words + 1);
        match self.dialect {
            Dialect::Freebsd => self.refuse(at, format!("{message}; inetd would not start with this file")),
            _ => self.skip(at, message),
        }
    }

    fn socket_type(&mut self, word: &Word, at: &Location) -> Option<bool> {
        let at = at.under_key("type", word.mark);
        let text = match self.dialect {
            Dialect::Netbsd if word.text.starts_with("stream") => return self.netbsd_stream(&word.text, &at),
            _ => word.text.as_str(),
        };
        self.plain_socket_type(text, &at)
    }

    /// `stream[,ACCEPT_MAX][:FILTER[,ARGUMENT]]`. The most at a time is read with the limits.
    fn netbsd_stream(&mut self, text: &str, at: &Location) -> Option<bool> {
        match text.split_once(':') {
            Some((_, filter)) => {
                self.refuse(at, format!("there are no accept filters on Linux; {filter} cannot be kept"))
            }
            None => Some(false),
        }
    }

    /// One of the words that all know.
    pub(super) fn plain_socket_type(&mut self, text: &str, at: &Location) -> Option<bool> {
        match text {
            "stream" => Some(false),
            "dgram" => Some(true),
            "raw" | "rdm" | "seqpacket" => self.refuse(at, format!("sockets of type {text} are not supported")),
            _ => self.skip(at, format!("expected stream or dgram, not {text:?}")),
        }
    }

    /// The protocol, with send and receive buffer.
    fn read_protocol(&mut self, word: &Word, datagram: bool, at: &Location) -> Option<(Protocol, Buffers)> {
        let place = at.under_key("protocol", word.mark);
        let (name, options) = word.text.split_once(',').map_or((word.text.as_str(), None), |(n, o)| (n, Some(o)));
        let protocol = self.protocol_name(name, datagram, &place)?;
        let buffers = match options {
            None => Buffers::default(),
            Some(options) if self.dialect.takes_buffers() => self.read_buffers(options, &place)?,
            Some(options) if self.dialect == Dialect::Gnu => {
                let message = format!("GNU inetd sets no buffers and ignores {options:?}, and so does oxinetd");
                self.warn(&place, message);
                Buffers::default()
            }
            Some(_) => {
                return self.skip(&place, format!("{:?} is no protocol to {}", word.text, self.daemon_name()));
            }
        };
        Some((protocol, buffers))
    }

    /// `tcp`, `udp6`, `unix` …
    pub(super) fn protocol_name(&mut self, name: &str, datagram: bool, at: &Location) -> Option<Protocol> {
        if name == "unix" && self.dialect != Dialect::Gnu {
            let families = Dialect::Busybox.find_families("")?;
            return Some(Protocol { name: name.to_owned(), base: None, families });
        }
        for (prefix, reason) in UNSUPPORTED {
            if name.starts_with(prefix) || prefix.starts_with('/') && name.ends_with(prefix) {
                return self.refuse(at, reason);
            }
        }
        let known = ["tcp", "udp"].into_iter().find_map(|base| {
            let families = self.dialect.find_families(name.strip_prefix(base)?)?;
            Some(Protocol { name: name.to_owned(), base: Some(base), families })
        });
        let Some(protocol) = known else {
            return self.skip(at, format!("{name:?} is no protocol to {}", self.daemon_name()));
        };
        if (protocol.base == Some("udp")) != datagram {
            let (kind, meant) = if datagram { ("dgram", "udp") } else { ("stream", "tcp") };
            if self.dialect == Dialect::Busybox {
                return self.skip(at, format!("{kind} and {name} do not go together; {kind} is {meant}"));
            }
            let message = format!("inetd goes by the type, {kind}, and serves {meant}; did you mean {meant} here too?");
            self.warn(at, message);
        }
        Some(protocol)
    }

    /// `sndbuf=SIZE`, `rcvbuf=SIZE`, or both.
    fn read_buffers(&mut self, options: &str, at: &Location) -> Option<Buffers> {
        let mut found = Buffers::default();
        for option in options.split(',') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let Some(size) = parse_buffer_size(value) else {
                return self
                    .skip(at, format!("{option:?} is no buffer; expected sndbuf=SIZE or rcvbuf=SIZE, such as 64k"));
            };
            let size = Some(at.spanned(size));
            match name {
                "sndbuf" => found.send = size,
                "rcvbuf" => found.receive = size,
                _ => return self.skip(at, format!("{name:?} is no buffer; expected sndbuf or rcvbuf")),
            }
        }
        if options.matches(',').count() > 1 {
            return self.skip(at, "there are more than two buffers");
        }
        Some(found)
    }

    /// Whether to wait, and the limits in the same field.
    fn read_wait(
        &mut self,
        word: &Word,
        kind: &Word,
        datagram: bool,
        at: &Location,
    ) -> Option<(Spanned<bool>, Limits)> {
        let place = at.under_key("wait", word.mark);
        let (wait, mut limits) = self.wait_field(&word.text, &place)?;
        if self.dialect == Dialect::Netbsd && !datagram {
            limits.instances = self.accept_max(kind, at);
        }
        Some((Spanned { value: wait, at: place }, limits))
    }

    /// The user, and the group if it is given.
    pub(super) fn read_user(
        &mut self,
        word: &Word,
        at: &Location,
    ) -> Option<(Spanned<String>, Option<Spanned<String>>)> {
        let place = at.under_key("user", word.mark);
        let field = self.dialect.user_field(&word.text);
        if let Some(class) = field.class {
            let message =
                format!("Linux knows no login classes, and {class:?} cannot be kept; write its limits as rlimits");
            return self.refuse(&place, message);
        }
        let group = field.group.map(|group| Spanned { value: group.to_owned(), at: at.under_key("group", word.mark) });
        Some((Spanned { value: field.user.to_owned(), at: place }, group))
    }

    /// The arguments as the program gets them, its name first.
    fn read_arguments(&mut self, words: &[Word], program: &Word, at: &Location) -> Option<Vec<Spanned<String>>> {
        let most = self.dialect.max_arguments().unwrap_or(usize::MAX);
        if let Some(word) = words.get(most) {
            let place = at.under_key("arguments", word.mark);
            if self.dialect == Dialect::Freebsd {
                return self.skip(&place, format!("there are more than {most} arguments"));
            }
            let message = format!(
                "{} passes {most} arguments and drops this and what follows, and so does oxinetd",
                self.daemon_name()
            );
            self.warn(&place, message);
        }
        let set = |word: &Word| Spanned { value: word.text.clone(), at: at.under_key("arguments", word.mark) };
        let mut arguments: Vec<Spanned<String>> = words.iter().take(most).map(set).collect();
        if arguments.is_empty() && program.text != "internal" {
            let path = program.text.as_str();
            let name = if self.dialect.name_is_path() { path } else { path.rsplit('/').next().unwrap_or(path) };
            arguments.push(Spanned { value: name.to_owned(), at: at.under_key("arguments", program.mark) });
        }
        Some(arguments)
    }
}

/// Beginnings (or, with a slash first, ends) of protocols that can't be kept, and why.
const UNSUPPORTED: [(&str, &str); 3] = [
    (
        "rpc/",
        "RPC services must be registered with rpcbind(8), which oxinetd does not do; run the program as a daemon of its own, and comment this out",
    ),
    ("faith/", "FAITH, the translation from IPv6 to IPv4, is gone from all systems; comment this out"),
    ("/ttcp", "T/TCP, TCP for transactions, is gone from all systems; write tcp"),
];

/// Addresses before a colon; those of IPv6 may stand in brackets.
pub(super) fn host_list(text: &str) -> Vec<String> {
    let bare = |host: &str| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
    let list: Vec<String> = text.split(',').filter(|host| !host.is_empty()).map(bare).collect();
    if list.is_empty() { vec!["*".to_owned()] } else { list }
}

/// A size in bytes, with `k` or `m` for 1024 and its square; at least 1, at most what a socket can be told.
pub(super) fn parse_buffer_size(text: &str) -> Option<u32> {
    let size = crate::config::units::parse_size(text).filter(|_| !text.ends_with(['K', 'M', 'G', 'g', 'T', 't']))?;
    u32::try_from(size).ok().filter(|size| (1..=1 << 30).contains(size))
}
