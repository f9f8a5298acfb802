//! The keys of the table: what may be written, before users, ports and paths are looked up.
//!
//! A [`ServiceSpec`] is a service as written: every key optional, every value with its place. `defaults` are one too,
//! and [`ServiceSpec::over`] lays a service over them. Readers of other formats produce the same. [`super::check`] turns
//! specs into services. Nothing here looks at the machine.

use std::collections::HashSet;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;

use super::problem::Set;
use super::section::{Item, Section};
use super::units::{self, Rate};
use super::values::{
    Groups, RESOURCES, absolute, control_place, count, groups, log_target, mode, network, number, positive, rate,
    refuse, rlimit, variable, words,
};
use super::{ControlPlace, DropBanned, LogFormat, LogTarget, Refuse, Rlimit, Stderr, WhenFull};
use crate::builtin::split_host_port;
use crate::limits::access::Span;
use crate::log::Level;

/// A key that may be absent.
pub(crate) type Key<T> = Option<Set<T>>;
/// A map whose keys are the administrator's.
pub(crate) type Keys<T> = Vec<Set<(String, T)>>;

/// What was written, or the default.
pub(crate) fn or<T: Clone>(key: &Key<T>, default: T) -> T {
    key.as_ref().map_or(default, |set| set.value.clone())
}

/// What was written, if anything.
pub(crate) fn value<T: Clone>(key: &Key<T>) -> Option<T> {
    key.as_ref().map(|set| set.value.clone())
}

/// A service, or `defaults`, as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceSpec {
    pub listen: Key<Vec<Set<String>>>,
    pub program: Key<Vec<String>>,
    pub argv0: Key<String>,
    pub builtin: Key<String>,
    pub to: Key<(String, u16)>,
    pub connect_timeout: Key<Duration>,
    pub idle_timeout: Key<Duration>,
    pub wait: Key<bool>,
    pub enabled: Key<bool>,
    pub user: Key<String>,
    pub group: Key<String>,
    pub groups: Key<Groups>,
    pub directory: Key<String>,
    pub chroot: Key<String>,
    pub umask: Key<u32>,
    pub nice: Key<i32>,
    pub rlimits: Keys<Rlimit>,
    pub env: Keys<String>,
    pub pass_env: Key<Vec<Set<String>>>,
    pub stderr: Key<Stderr>,
    pub instances: Key<Option<u32>>,
    pub rate: Key<Rate>,
    pub burst: Key<u32>,
    pub when_full: Key<WhenFull>,
    pub per_source: SourceSpec,
    pub per_network: SourceSpec,
    pub allow: Key<Vec<Set<IpNet>>>,
    pub deny: Key<Vec<Set<IpNet>>>,
    pub times: Key<Vec<Set<Span>>>,
    pub max_load: Key<f64>,
    pub refuse: Key<Refuse>,
    pub banner: Key<String>,
    pub lifetime: Key<Duration>,
    pub penalties: PenaltySpec,
    pub dry_run: Key<bool>,
    pub socket: SocketSpec,
    pub log: LogSpec,
}

/// `per_source` and `per_network`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceSpec {
    pub instances: Key<Option<u32>>,
    pub rate: Key<Rate>,
    pub burst: Key<u32>,
    pub ipv4: Key<u8>,
    pub ipv6: Key<u8>,
    pub exempt: Key<Vec<Set<IpNet>>>,
}

/// `penalties`.
#[derive(Clone, Debug, Default)]
pub(crate) struct PenaltySpec {
    pub crash: Key<Duration>,
    pub exit: Key<Duration>,
    pub refused: Key<Duration>,
    pub trap: Key<Duration>,
    pub min: Key<Duration>,
    pub max: Key<Duration>,
    pub exempt: Key<Vec<Set<IpNet>>>,
}

/// `socket`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketSpec {
    pub backlog: Key<u32>,
    pub nodelay: Key<bool>,
    pub keepalive: Key<bool>,
    pub defer_accept: Key<Duration>,
    pub freebind: Key<bool>,
    pub device: Key<String>,
    pub mark: Key<u32>,
    pub send_buffer: Key<u32>,
    pub receive_buffer: Key<u32>,
    pub owner: Key<String>,
    pub mode: Key<u32>,
}

/// `log` of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogSpec {
    pub accept: Key<bool>,
    pub exit: Key<bool>,
    pub refuse: Key<bool>,
    pub place: PlaceSpec,
}

/// Where log lines go, and what they look like there.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlaceSpec {
    pub to: Key<LogTarget>,
    pub facility: Key<u8>,
    pub format: Key<LogFormat>,
}

/// `daemon`, as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct DaemonSpec {
    pub instances: Key<u32>,
    pub sources: Keys<u32>,
    pub drop_banned: Key<DropBanned>,
    pub control: Key<ControlPlace>,
    pub control_group: Key<String>,
    pub log: PlaceSpec,
    pub level: Key<Level>,
}

/// Fills the fields that are absent from those below.
macro_rules! fill {
    ($over:expr, $under:expr, $($field:ident),+) => {
        $(if $over.$field.is_none() { $over.$field.clone_from(&$under.$field); })+
    };
}

impl ServiceSpec {
    /// This service with `defaults` underneath: maps merge key by key, everything else is replaced as a whole.
    #[must_use]
    pub(crate) fn over(mut self, defaults: &Self) -> Self {
        fill!(self, defaults, listen, program, argv0, wait, enabled, user, group, groups);
        fill!(self, defaults, directory, chroot, umask, nice, pass_env, stderr, instances, rate, burst, when_full);
        fill!(self, defaults, allow, deny, times, max_load, refuse, banner, lifetime, dry_run);
        fill!(self.log, defaults.log, accept, exit, refuse);
        fill!(self.log.place, defaults.log.place, to, facility, format);
        fill!(self.penalties, defaults.penalties, crash, exit, refused, trap, min, max, exempt);
        fill!(self.socket, defaults.socket, backlog, nodelay, keepalive, defer_accept, freebind, device, mark);
        fill!(self.socket, defaults.socket, send_buffer, receive_buffer, owner, mode);
        for (own, below) in
            [(&mut self.per_source, &defaults.per_source), (&mut self.per_network, &defaults.per_network)]
        {
            fill!(own, below, instances, rate, burst, ipv4, ipv6, exempt);
        }
        merge(&mut self.rlimits, &defaults.rlimits);
        merge(&mut self.env, &defaults.env);
        self
    }
}

/// Puts the keys below that are not in `own` before it.
fn merge<T: Clone>(own: &mut Keys<T>, below: &Keys<T>) {
    if below.is_empty() {
        return;
    }
    let names: HashSet<&str> = own.iter().map(|set| set.value.0.as_str()).collect();
    let mut merged: Keys<T> = below.iter().filter(|set| !names.contains(set.value.0.as_str())).cloned().collect();
    merged.append(own);
    *own = merged;
}

/// Reads `defaults`: a service without what makes it one.
pub(crate) fn defaults(section: &mut Section<'_>) -> ServiceSpec {
    for key in ["listen", "program", "argv0", "builtin", "to", "connect_timeout", "idle_timeout"] {
        section.forbid(key, "this belongs to one service and cannot be a default");
    }
    keys(section, Whose::All)
}

/// Reads a service.
pub(crate) fn service(section: &mut Section<'_>) -> ServiceSpec {
    section.require("listen", "listen is missing; it says where clients come in, such as listen: 9418");
    let runs = section.has("program") || section.has("builtin");
    let leads_somewhere = section.has("to");
    let spec = keys(section, Whose::One);
    if !runs && spec.penalties.trap.is_none() {
        section.report("program is missing; it says what to run, such as program: /bin/cat");
    }
    if !leads_somewhere && spec.builtin.as_ref().is_some_and(|set| set.value == "redirect") {
        section.report("to is missing; it says where redirect leads, such as to: 192.0.2.1:80");
    }
    spec
}

/// Whose keys are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    One,
    /// Every service's, by `defaults`.
    All,
}

fn keys(section: &mut Section<'_>, whose: Whose) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    identity(section, &mut spec);
    surroundings(section, &mut spec);
    limits(section, &mut spec);
    access(section, &mut spec);
    let penalties = section.section("penalties", "penalties", |section| penalties(section, whose));
    spec.penalties = penalties.map_or_else(PenaltySpec::default, |set| set.value);
    spec.socket = section.section("socket", "socket", socket).map_or_else(SocketSpec::default, |set| set.value);
    spec.log = section.section("log", "log", log).map_or_else(LogSpec::default, |set| set.value);
    spec
}

fn identity(section: &mut Section<'_>, spec: &mut ServiceSpec) {
    spec.listen = section.list("listen", |item| item.word("a port, such as 9418, tcp/ssh or udp/127.0.0.1:69"));
    spec.program = section.take("program", words);
    spec.argv0 = section.take("argv0", |item| item.word("a word"));
    spec.builtin = section.take("builtin", |item| item.one_of(&BUILTINS.map(|name| (name, name))).map(str::to_owned));
    spec.to = section.take("to", |item| item.parse("HOST:PORT, such as 192.0.2.1:80", split_host_port));
    spec.connect_timeout = section.take("connect_timeout", positive);
    spec.idle_timeout = section.take("idle_timeout", positive);
    spec.wait = section.take("wait", |item| item.boolean());
    spec.enabled = section.take("enabled", |item| item.boolean());
}

fn surroundings(section: &mut Section<'_>, spec: &mut ServiceSpec) {
    spec.user = section.take("user", |item| item.word("a user's name or number"));
    spec.group = section.take("group", |item| item.word("a group's name or number"));
    spec.groups = section.take("groups", groups);
    spec.directory = section.take("directory", absolute);
    spec.chroot = section.take("chroot", absolute);
    spec.umask = section.take("umask", |item| mode(item, "022"));
    spec.nice = section.take("nice", |item| number(item, -20, 19));
    let resources = RESOURCES.map(|(name, ..)| name);
    spec.rlimits = section.map("rlimits", &resources, |name, item| Ok((name.to_owned(), rlimit(name, item)?)));
    spec.env = section.map("env", &[], |name, item| Ok((variable(name)?, item.word("a text")?)));
    spec.pass_env = section.list("pass_env", |item| variable(&item.word("a variable's name, such as LANG")?));
    spec.stderr = section.take("stderr", |item| {
        item.one_of(&[("daemon", Stderr::Daemon), ("connection", Stderr::Connection), ("null", Stderr::Null)])
    });
}

fn limits(section: &mut Section<'_>, spec: &mut ServiceSpec) {
    spec.instances = section.take("instances", count);
    spec.rate = section.take("rate", rate);
    spec.burst = section.take("burst", |item| number(item, 1, u32::MAX.into()));
    spec.when_full =
        section.take("when_full", |item| item.one_of(&[("queue", WhenFull::Queue), ("refuse", WhenFull::Refuse)]));
    for (key, place) in [("per_source", &mut spec.per_source), ("per_network", &mut spec.per_network)] {
        *place = section.section(key, key, source).map_or_else(SourceSpec::default, |set| set.value);
    }
    spec.max_load = section.take("max_load", |item| {
        item.note(|| json!({ "type": "number", "exclusiveMinimum": 0 }));
        let load = item.value.as_f64().filter(|load| load.is_finite() && *load > 0.0);
        load.ok_or_else(|| item.not("a load average above 0, such as 8 or 2.5"))
    });
    spec.lifetime = section.take("lifetime", positive);
}

fn access(section: &mut Section<'_>, spec: &mut ServiceSpec) {
    spec.allow = section.list("allow", network);
    spec.deny = section.list("deny", network);
    spec.times = section.list("times", |item| item.parse("days and hours, such as Mon-Fri 08:00-18:00", units::times));
    spec.refuse = section.take("refuse", refuse);
    spec.banner = section.take("banner", |item| item.text());
    spec.dry_run = section.take("dry_run", |item| item.boolean());
}

fn source(section: &mut Section<'_>) -> SourceSpec {
    let mut spec = SourceSpec {
        instances: section.take("instances", count),
        rate: section.take("rate", rate),
        burst: section.take("burst", |item| number(item, 1, u32::MAX.into())),
        exempt: section.list("exempt", network),
        ..SourceSpec::default()
    };
    section.section("prefix", "prefix", |prefix| {
        spec.ipv4 = prefix.take("ipv4", |item| number(item, 0, 32));
        spec.ipv6 = prefix.take("ipv6", |item| number(item, 0, 128));
    });
    spec
}

fn penalties(section: &mut Section<'_>, whose: Whose) -> PenaltySpec {
    if whose == Whose::All {
        section.forbid("trap", "this would make a trap of every service; it belongs to one that exists to catch");
    }
    PenaltySpec {
        crash: section.take("crash", positive),
        exit: section.take("exit", positive),
        refused: section.take("refused", positive),
        trap: section.take("trap", positive),
        min: section.take("min", |item| item.parse("a duration, such as 15s or 0s", units::duration)),
        max: section.take("max", positive),
        exempt: section.list("exempt", network),
    }
}

fn socket(section: &mut Section<'_>) -> SocketSpec {
    let buffer = |item: Item<'_>| {
        let expected = "a size in bytes, such as 64k";
        item.parse(expected, |text| units::size(text).filter(|size| (1..=1 << 30).contains(size)))
            .and_then(|size| u32::try_from(size).map_err(|_| item.not(expected)))
    };
    SocketSpec {
        backlog: section.take("backlog", |item| number(item, 1, i32::MAX.into())),
        nodelay: section.take("nodelay", |item| item.boolean()),
        keepalive: section.take("keepalive", |item| item.boolean()),
        defer_accept: section.take("defer_accept", |item| {
            let whole = |text: &str| units::duration(text).filter(|time| time.subsec_nanos() == 0 && !time.is_zero());
            item.parse("a duration in whole seconds, such as 10s", whole)
        }),
        freebind: section.take("freebind", |item| item.boolean()),
        device: section.take("device", |item| {
            // IFNAMSIZ is 16, the NUL included.
            item.parse("the name of a network interface, such as eth0", |text| {
                (1..16).contains(&text.len()).then(|| text.to_owned())
            })
        }),
        mark: section.take("mark", |item| number(item, 0, u32::MAX.into())),
        send_buffer: section.take("send_buffer", buffer),
        receive_buffer: section.take("receive_buffer", buffer),
        owner: section.take("owner", |item| item.word("a user, or USER:GROUP")),
        mode: section.take("mode", |item| mode(item, "0660")),
    }
}

fn log(section: &mut Section<'_>) -> LogSpec {
    LogSpec {
        accept: section.take("accept", |item| item.boolean()),
        exit: section.take("exit", |item| item.boolean()),
        refuse: section.take("refuse", |item| item.boolean()),
        place: log_place(section),
    }
}

fn log_place(section: &mut Section<'_>) -> PlaceSpec {
    PlaceSpec {
        to: section.take("to", log_target),
        facility: section.take("facility", |item| {
            let names = units::FACILITIES.map(|(name, _)| name);
            item.note(|| json!({ "anyOf": [{ "enum": names }, { "type": "integer", "minimum": 0, "maximum": 23 }] }));
            match item.value.as_i64() {
                Some(_) => number(item, 0, 23),
                None => item.one_of(&units::FACILITIES),
            }
        }),
        format: section.take("format", |item| item.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)])),
    }
}

/// Reads `daemon`.
pub(crate) fn daemon(section: &mut Section<'_>) -> DaemonSpec {
    let mut spec = DaemonSpec {
        instances: section.take("instances", |item| number(item, 1, u32::MAX.into())),
        ..DaemonSpec::default()
    };
    let (mut path, mut group) = (None, None);
    let map = |control: &mut Section<'_>| {
        path = control.take("path", control_place);
        group = control.take("group", |item| item.word("a group's name or number"));
    };
    spec.control = section.section_or("control", "daemon.control", map, control_place).or(path);
    spec.control_group = group;
    let who = [DropBanned::Daemon, DropBanned::Kernel].map(|who| (who.word(), who));
    spec.drop_banned = section.take("drop_banned", |item| item.one_of(&who));
    spec.sources = section.map("sources", &["ipv4", "ipv6"], |name, item| match name {
        "ipv4" | "ipv6" => Ok((name.to_owned(), number::<u32>(item, 1, 1 << 28)?)),
        _ => Err("unknown key; known here are: ipv4 or ipv6".to_owned()),
    });
    section.section("log", "daemon.log", |log| {
        spec.log = log_place(log);
        spec.level = log.take("level", |item| item.one_of(&LEVELS));
    });
    spec
}

/// The names of the levels, as syslog(3) and logs have them.
pub(crate) const LEVELS: [(&str, Level); 6] = [
    ("critical", Level::Critical),
    ("error", Level::Error),
    ("warning", Level::Warning),
    ("notice", Level::Notice),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

const BUILTINS: [&str; 7] = ["echo", "discard", "chargen", "daytime", "time", "tcpmux", "redirect"];
