//! A service, and `defaults`.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value as Json, json};
use serde_yaml::{Mapping, Value as Yaml};

use super::kinds::{Keys, List, Merge, Rule, Sub};
use super::log::LogSpec;
use super::maps::{rlimits_kind, variable_name, variables_kind};
use super::penalties::PenaltySpec;
use super::socket::SocketSpec;
use super::source::SourceSpec;
use crate::builtin::split_host_port;
use crate::config::location::{Spanned, SpannedList, SpannedMap};
use crate::config::reader::{Expected, ValueReader};
use crate::config::section::Section;
use crate::config::units::{self, Rate};
use crate::config::values::{
    Form, Groups, Octal, OneOf, Whole, Word, above_zero, absolute_path, boolean_form, groups_form, limit_form,
    network_form, rate_notation, text_form, word_notation,
};
use crate::config::{Refuse, Rlimit, Stderr, WhenFull};
use crate::limits::access::Span;

const BUILTINS: [&str; 7] = ["echo", "discard", "chargen", "daytime", "time", "tcpmux", "redirect"];
const STDERR: &[(&str, Stderr)] =
    &[("daemon", Stderr::Daemon), ("connection", Stderr::Connection), ("null", Stderr::Null)];
/// The most bytes of text that fit into one packet, so that sending it never blocks.
const MAX_REFUSE_BYTES: usize = 512;
const REFUSAL: &str = "reset, close or { text: \"…\" }";
const WHEN_FULL: &[(&str, WhenFull)] = &[("queue", WhenFull::Queue), ("refuse", WhenFull::Refuse)];
/// The mask that nearly every system gives its users.
const DEFAULT_UMASK: u32 = 0o022;

/// Rule for the keys that only a service has.
const OWN: Rule = Rule { service_only: Some("this belongs to one service and cannot be a default"), missing: None };
const LISTEN: Rule =
    Rule { missing: Some("listen is missing; it says where clients come in, such as listen: 9418"), ..OWN };

/// Where `redirect` leads. An address of IPv6 before a port stands in brackets.
fn redirect_target() -> Word<(String, u16)> {
    Word {
        expected: "HOST:PORT, such as 192.0.2.1:80",
        pattern: None,
        parse: split_host_port,
        print: |(host, port)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
    }
}

fn times_notation() -> Word<Span> {
    Word {
        expected: "days and hours, such as Mon-Fri 08:00-18:00",
        pattern: None,
        parse: units::parse_times,
        print: units::times_text,
    }
}

section! {
    /// A service, or `defaults`, as written.
    pub(crate) struct ServiceSpec {
        /// If false, the service is checked like the others, but not served.
        enabled: Option<Spanned<bool>> = boolean_form() => true;
        /// Where clients connect.
        [LISTEN] listen: SpannedList<String> = List(word_notation("a port, such as 9418, tcp/ssh or udp/127.0.0.1:69"));
        /// Lend the listening socket to one handler, in place of accepting connections; true for udp.
        wait: Option<Spanned<bool>> = boolean_form();
        /// What to run for each connection; the first word is an absolute path, and no shell is involved.
        [OWN] program: Option<Spanned<Vec<String>>> = command_form();
        /// The name that the program is told; the last part of its path unless given.
        [OWN] argv0: Option<Spanned<String>> = word_notation("a word");
        /// A service that oxinetd has built in, in place of a program.
        [OWN] builtin: Option<Spanned<String>> = builtin_form();
        /// Where redirect leads.
        [OWN] to: Option<Spanned<(String, u16)>> = redirect_target();
        /// How long redirect waits for its connection.
        [OWN] connect_timeout: Option<Spanned<Duration>> = above_zero();
        /// After how long without a byte redirect ends.
        [OWN] idle_timeout: Option<Spanned<Duration>> = above_zero();
        /// The user that handlers run as; the daemon's own unless given.
        user: Option<Spanned<String>> = word_notation("a user's name or number");
        /// The group of handlers; the user's unless given.
        group: Option<Spanned<String>> = word_notation("a group's name or number");
        /// The supplementary groups of handlers; all of the user's unless given.
        groups: Option<Spanned<Groups>> = groups_form();
        /// The directory that handlers start in.
        directory: Option<Spanned<String>> = absolute_path() => "/".to_owned();
        /// The root directory of handlers.
        chroot: Option<Spanned<String>> = absolute_path();
        /// The file mode mask of handlers.
        umask: Option<Spanned<u32>> = Octal("022") => DEFAULT_UMASK;
        /// The priority of handlers, as nice(1) counts it.
        nice: Option<Spanned<i32>> = Whole(-20, 19);
        /// Resource limits of handlers.
        rlimits: SpannedMap<Rlimit> = rlimits_kind();
        /// Variables for handlers, whose environment is otherwise empty.
        env: SpannedMap<String> = variables_kind();
        /// Variables of the daemon that handlers get.
        pass_env: SpannedList<String> = List(variable_name());
        /// Where the handlers' standard error goes.
        stderr: Option<Spanned<Stderr>> = OneOf(STDERR) => Stderr::Daemon;
        /// The most live handlers of the service.
        instances: Option<Spanned<Option<u32>>> = limit_form() => Some(64);
        /// What becomes of clients of a full service.
        when_full: Option<Spanned<WhenFull>> = OneOf(WHEN_FULL) => WhenFull::Queue;
        /// How often clients may connect to the service, over all.
        rate: Option<Spanned<Rate>> = rate_notation();
        /// How many connections are accepted at once after a while without any.
        burst: Option<Spanned<u32>> = Whole(1, u32::MAX as i64);
        /// Limits for one source: an IPv4 address, an IPv6 /64.
        per_source: SourceSpec = Sub::Here;
        /// The same for a wider network: an IPv4 /24, an IPv6 /48.
        per_network: SourceSpec = Sub::Here;
        /// The load average from which on no client is accepted.
        max_load: Option<Spanned<f64>> = load_form();
        /// How much penalty time each event adds for a source.
        penalties: PenaltySpec = Sub::Here;
        /// How long a handler may live.
        lifetime: Option<Spanned<Duration>> = above_zero();
        /// Networks whose clients are accepted; all unless given.
        allow: SpannedList<IpNet> = List(network_form());
        /// Networks whose clients are refused; the more specific of allow and deny decides.
        deny: SpannedList<IpNet> = List(network_form());
        /// When clients are accepted, by local time; always unless given.
        times: SpannedList<Span> = List(times_notation());
        /// Only log which clients would be refused, and accept them.
        dry_run: Option<Spanned<bool>> = boolean_form() => false;
        /// What a client that is refused sees.
        refuse: Option<Spanned<Refuse>> = refusal_form() => Refuse::Reset;
        /// A text that is sent before the handler starts.
        banner: Option<Spanned<String>> = text_form() => String::new();
        /// Options of the listening sockets.
        socket: SocketSpec = Sub::Here;
        /// Which events of this service are logged, and where.
        log: LogSpec = Sub::Here;
    }
}

impl ServiceSpec {
    /// This service with `defaults` underneath.
    #[must_use]
    pub(crate) fn laid_over(mut self, defaults: &Self) -> Self {
        self.merge(defaults);
        self
    }
}

/// Reads a service, and says what it lacks.
pub(super) fn read_service(section: &mut Section<'_>) -> ServiceSpec {
    let runs = section.has_key("program") || section.has_key("builtin");
    let leads_somewhere = section.has_key("to");
    let spec = ServiceSpec::read(section);
    if !runs && spec.penalties.trap.is_none() {
        section.report_problem("program is missing; it says what to run, such as program: /bin/cat");
    }
    if !leads_somewhere && spec.builtin.as_ref().is_some_and(|set| set.value == "redirect") {
        section.report_problem("to is missing; it says where redirect leads, such as to: 192.0.2.1:80");
    }
    spec
}

/// The name of a builtin.
fn builtin_form() -> Form<String> {
    Form {
        read: |reader| reader.one_of(&BUILTINS.map(|name| (name, name))).map(str::to_owned),
        write: |name| name.as_str().into(),
        schema: || json!({ "enum": BUILTINS }),
    }
}

/// A finite number above 0.
fn load_form() -> Form<f64> {
    Form {
        read: |reader| {
            let load = reader.value.as_f64().filter(|load| load.is_finite() && *load > 0.0);
            load.ok_or_else(|| reader.expected_error("a load average above 0, such as 8 or 2.5"))
        },
        write: |load| (*load).into(),
        schema: || json!({ "type": "number", "exclusiveMinimum": 0 }),
    }
}

/// A list of words, or a text to be split into them.
fn command_form() -> Form<Vec<String>> {
    const EXPECTED: &str = "a command, such as [/bin/cat, -u] or \"/bin/cat -u\"";
    Form {
        read: |reader| {
            let words: Vec<String> = match (reader.list_elements(), reader.value) {
                (Some(words), _) => words.map(|word| word.read_word("a word as argument")).collect::<Result<_, _>>()?,
                (None, Yaml::String(text)) => shlex::split(text)
                    .ok_or_else(|| format!("a quotation mark or backslash is left open in {text:?}"))?,
                _ => return Err(reader.expected_error(EXPECTED)),
            };
            if words.is_empty() { Err(format!("expected {EXPECTED}, not an empty one").into()) } else { Ok(words) }
        },
        write: |words| words.clone().into(),
        schema: || {
            let word = json!({ "type": ["string", "number", "boolean"] });
            let list = json!({ "type": "array", "items": word, "minItems": 1 });
            json!({ "anyOf": [{ "type": "string" }, list], "description": EXPECTED })
        },
    }
}

/// `reset`, `close` or `{ text: "…" }`.
fn refusal_form() -> Form<Refuse> {
    Form { read: read_refusal, write: write_refusal, schema: refusal_schema }
}

fn read_refusal(reader: &ValueReader<'_>) -> Result<Refuse, Expected> {
    let map = reader.value.as_mapping().filter(|map| map.len() == 1);
    match (reader.value.as_str(), map.and_then(|map| map.get("text")?.as_str())) {
        (Some("reset"), _) => Ok(Refuse::Reset),
        (Some("close"), _) => Ok(Refuse::Close),
        (_, Some(text)) if text.len() <= MAX_REFUSE_BYTES => Ok(Refuse::Text(text.into())),
        (_, Some(text)) => {
            Err(format!("the text has {} bytes; at most {MAX_REFUSE_BYTES} can be sent", text.len()).into())
        }
        _ => Err(reader.expected_error(REFUSAL)),
    }
}

fn write_refusal(refuse: &Refuse) -> Yaml {
    match refuse {
        Refuse::Reset => "reset".into(),
        Refuse::Close => "close".into(),
        Refuse::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            Mapping::from_iter([("text".into(), text.into())]).into()
        }
    }
}

fn refusal_schema() -> Json {
    let text = json!({ "type": "string", "maxLength": MAX_REFUSE_BYTES, "description": "What the client is sent." });
    let keys = json!({ "text": text });
    let map = json!({ "type": "object", "properties": keys, "required": ["text"], "additionalProperties": false });
    json!({ "anyOf": [{ "enum": ["reset", "close"] }, map], "description": REFUSAL })
}
