//! What the readers of keys say of themselves while a JSON Schema is being made.
//!
//! A [`super::section::Section`] that holds nothing notes here each key that it is asked for, and what kind of value;
//! [`super::json_schema`] takes it from there. The descriptions of the keys are written here, since no reader has them;
//! the tests of that module hold that there is one for each key.

use std::cell::RefCell;

use serde_json::{Map, Value as Json, json};

/// What has been noted of a section.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    properties: Map<String, Json>,
    required: Vec<&'static str>,
    forbidden: Vec<&'static str>,
    /// What any other key holds.
    others: Option<Json>,
}

impl Sketch {
    pub(crate) fn require(&mut self, key: &'static str) {
        self.required.push(key);
    }

    pub(crate) fn forbid(&mut self, key: &'static str) {
        self.forbidden.push(key);
    }

    pub(crate) fn others(&mut self, schema: Json) {
        self.others = Some(schema);
    }

    /// Notes a key of a section of this kind.
    pub(crate) fn key(&mut self, kind: &str, key: &str, schema: Json) {
        if self.forbidden.contains(&key) {
            return;
        }
        let mut schema = if schema.is_object() { schema } else { json!({}) };
        if let Some(text) = description(kind, key) {
            let expected = schema.get("description").and_then(Json::as_str);
            let text = expected.map_or_else(|| format!("{text}."), |expected| format!("{text}: {expected}."));
            schema["description"] = text.into();
        }
        self.properties.insert(key.to_owned(), schema);
    }

    pub(crate) fn json(&self) -> Json {
        let mut schema = json!({ "type": ["object", "null"], "properties": self.properties });
        schema["additionalProperties"] = self.others.clone().unwrap_or(Json::Bool(false));
        if !self.required.is_empty() {
            schema["required"] = self.required.clone().into();
        }
        schema
    }
}

/// What a value is like: the first note counts, as a reader says the most before it asks others.
pub(crate) type Note = RefCell<Option<Json>>;

/// A value, or a list of such.
pub(crate) fn one_or_more(element: Json) -> Json {
    let description = element.get("description").cloned();
    let mut schema = json!({ "anyOf": [element.clone(), { "type": "array", "items": element }] });
    if let Some(description) = description {
        schema["description"] = description;
    }
    schema
}

/// A scalar, whose text is read whatever YAML takes it for.
pub(crate) fn word(expected: &str) -> Json {
    json!({ "type": ["string", "number", "boolean"], "description": expected })
}

/// One of some words; `null` without quotes is a word here, and to YAML nothing.
pub(crate) fn one_of(words: &[&str]) -> Json {
    let words = words.iter().flat_map(|word| [Some(json!(word)), (*word == "null").then_some(Json::Null)]).flatten();
    json!({ "enum": words.collect::<Vec<_>>() })
}

fn description(kind: &str, key: &str) -> Option<&'static str> {
    let kind = if kind == "per_network" { "per_source" } else { kind };
    DESCRIPTIONS.iter().find(|(section, name, _)| (*section, *name) == (kind, key)).map(|(.., text)| *text)
}

/// Of each key of a kind of section.
pub(crate) const DESCRIPTIONS: [(&str, &str, &str); 94] = [
    ("file", "include", "Files to read as well, relative to this one, in this form or as inetd.conf or xinetd.conf"),
    ("file", "daemon", "The daemon itself"),
    (
        "file",
        "defaults",
        "What holds for every service of this file, and of those it includes, that doesn't say otherwise",
    ),
    ("file", "services", "The services, each under its name"),
    ("daemon", "instances", "The most handlers that may live at one time, over all services; 4096 unless given"),
    ("daemon", "sources", "For how many sources rates are kept, by family"),
    ("daemon", "drop_banned", "Who turns those away that are banned or penalised; daemon unless given"),
    ("daemon", "control", "Where oxinetctl finds the daemon"),
    ("daemon", "log", "Where and how to log"),
    ("daemon.control", "path", "Where the control socket is"),
    ("daemon.control", "group", "A group whose members may use the control socket"),
    ("daemon.log", "to", "Where log lines go"),
    ("daemon.log", "facility", "The facility of syslog(3)"),
    ("daemon.log", "format", "Lines of text, or of JSON objects"),
    ("daemon.log", "level", "The least important level that is logged; info unless given"),
    ("sources", "ipv4", "Entries for IPv4; 65536 unless given"),
    ("sources", "ipv6", "Entries for IPv6; 65536 unless given"),
    ("service", "listen", "Where clients come in"),
    (
        "service",
        "program",
        "What to run for each connection; the first word is an absolute path, and no shell is involved",
    ),
    ("service", "argv0", "The name that the program is told; the last part of its path unless given"),
    ("service", "builtin", "A service that oxinetd has built in, in place of a program"),
    ("service", "to", "Where redirect leads"),
    ("service", "connect_timeout", "How long redirect waits for its connection"),
    ("service", "idle_timeout", "After how long without a byte redirect ends"),
    ("service", "wait", "Lend the listening socket to one handler, in place of accepting connections; true for udp"),
    ("service", "enabled", "false: checked like the others, but not served"),
    ("service", "user", "The user that handlers run as; the daemon's own unless given"),
    ("service", "group", "Their group; the user's unless given"),
    ("service", "groups", "Their supplementary groups; all of the user's unless given"),
    ("service", "directory", "The directory that handlers start in; / unless given"),
    ("service", "chroot", "The root directory of handlers"),
    ("service", "umask", "The file mode mask of handlers; 022 unless given"),
    ("service", "nice", "The priority of handlers, as nice(1) counts it"),
    ("service", "rlimits", "Resource limits of handlers"),
    ("service", "env", "Variables for handlers, whose environment is otherwise empty"),
    ("service", "pass_env", "Variables of the daemon that handlers get"),
    ("service", "stderr", "Where the handlers' standard error goes; to the daemon's unless given"),
    ("service", "instances", "The most live handlers of the service; 64 unless given"),
    ("service", "rate", "How often clients may come to the service, over all"),
    ("service", "burst", "How many clients may come at once after a while without any"),
    ("service", "when_full", "What becomes of clients of a full service; queue unless given"),
    ("service", "per_source", "Limits for one source: an IPv4 address, an IPv6 /64"),
    ("service", "per_network", "The same for a wider network: an IPv4 /24, an IPv6 /48"),
    ("service", "max_load", "The load average from which on nobody is let in"),
    ("service", "lifetime", "How long a handler may live"),
    ("service", "allow", "Who may come; everybody unless given"),
    ("service", "deny", "Who may not come; the more specific of allow and deny decides"),
    ("service", "times", "When clients may come, by local time; always unless given"),
    ("service", "refuse", "What a client sees who is turned away; reset unless given"),
    ("service", "banner", "A text that is sent before the handler starts"),
    ("service", "penalties", "What a source has to wait for what it does"),
    ("service", "dry_run", "Only log who would be turned away, and let him in"),
    ("service", "socket", "Options of the listening sockets"),
    ("service", "log", "Which events of this service are logged, and where"),
    ("rlimits", "nofile", "Open files"),
    ("rlimits", "as", "Address space"),
    ("rlimits", "cpu", "Seconds of processor time"),
    ("rlimits", "data", "Data segment"),
    ("rlimits", "fsize", "Size of a file that is written"),
    ("rlimits", "stack", "Stack"),
    ("rlimits", "core", "Size of a core dump"),
    ("rlimits", "nproc", "Processes of the user"),
    ("rlimits", "memlock", "Locked memory"),
    ("per_source", "instances", "The most live handlers of each in this service"),
    ("per_source", "rate", "How often each may come to this service"),
    ("per_source", "burst", "How many connections of each may come at once after a while without any"),
    ("per_source", "prefix", "How many bits of an address tell one from another"),
    ("per_source", "exempt", "Networks for which this doesn't hold"),
    ("prefix", "ipv4", "Bits of an IPv4 address"),
    ("prefix", "ipv6", "Bits of an IPv6 address"),
    ("penalties", "crash", "For a handler that a signal has ended"),
    ("penalties", "exit", "For a handler that ended with a status other than 0"),
    ("penalties", "refused", "For a connection that was turned away"),
    ("penalties", "trap", "For coming at all, to a service that exists to catch"),
    ("penalties", "min", "A source that owes more than this is turned away"),
    ("penalties", "max", "The most that a source can owe"),
    ("penalties", "exempt", "Networks that are never charged"),
    ("socket", "backlog", "Length of the queue of connections that wait; the kernel has a limit"),
    ("socket", "nodelay", "TCP_NODELAY"),
    ("socket", "keepalive", "SO_KEEPALIVE"),
    ("socket", "defer_accept", "TCP_DEFER_ACCEPT: wait for the first data"),
    ("socket", "freebind", "IP_FREEBIND: bind to an address that this machine may not have yet"),
    ("socket", "device", "SO_BINDTODEVICE: clients of this interface alone"),
    ("socket", "mark", "SO_MARK, for routing and filters"),
    ("socket", "send_buffer", "SO_SNDBUF"),
    ("socket", "receive_buffer", "SO_RCVBUF"),
    ("socket", "owner", "Owner of a Unix socket's file"),
    ("socket", "mode", "Mode of a Unix socket's file; 0666 unless given"),
    ("log", "accept", "Handlers that start; true unless given"),
    ("log", "exit", "Handlers that end; true unless given"),
    ("log", "refuse", "Clients that are turned away; true unless given"),
    ("log", "to", "Where the lines of this service go; as daemon.log has it unless given"),
    ("log", "facility", "The facility of syslog(3); as daemon.log has it unless given"),
    ("log", "format", "Lines of text, or of JSON objects; as daemon.log has it unless given"),
];
