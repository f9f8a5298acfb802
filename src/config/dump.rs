//! Writes a table as YAML that reads back to the same table, with every default filled in and nothing looked up again
//! but what the file itself names.
//!
//! `oxinetd --dump` calls [`dump`]; so may anything that shows the table. What it writes stands alone: no `include`, no
//! `defaults`. Dumping what was read from a dump gives the same bytes. It cannot fail: a table holds only text.

use std::ffi::CStr;

use ipnet::IpNet;
use serde_yaml::{Mapping, Value};

use super::check::Sight;
use super::program::base_name;
use super::schema::LEVELS;
use super::units::{FACILITIES, Rate, duration_text, rate_text, times_text};
use super::values::RESOURCES;
use super::{
    Control, ControlPlace, Credentials, LogFormat, LogPlace, LogTarget, OwnLog, PerSource, RateLimit, Refuse, Rlimit,
    Service, Settings, SocketOptions, Stderr, Table, WhenFull,
};
use crate::builtin::{Builtin, BuiltinKind};
use crate::limits::penalty::Cause;

/// The table as YAML.
#[must_use]
pub fn dump(table: &Table) -> String {
    let mut services = Mapping::new();
    for service in &table.services {
        services.insert(service.name.as_str().into(), service_map(service).into());
    }
    let mut whole = Map::default();
    whole.put("daemon", daemon_map(&table.daemon));
    whole.put("services", services);
    serde_yaml::to_string(&whole.0).unwrap_or_default()
}

/// A map in the making.
#[derive(Default)]
pub(crate) struct Map(pub Mapping);

impl Map {
    pub(crate) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.into(), value.into());
    }

    /// Puts a value that may be absent.
    pub(crate) fn may(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// Puts a map or list unless it is empty.
    pub(crate) fn some(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let empty = value.as_mapping().is_some_and(Mapping::is_empty) || value.as_sequence().is_some_and(Vec::is_empty);
        if !empty {
            self.put(key, value);
        }
    }
}

fn daemon_map(daemon: &Settings) -> Mapping {
    let LogPlace { to, facility, format } = &daemon.log.place;
    let mut log = Map::default();
    log_place(&mut log, Some(to), Some(*facility), Some(*format));
    log.may("level", LEVELS.iter().find(|(_, level)| *level == daemon.log.level).map(|(name, _)| *name));
    let mut map = Map::default();
    map.put("instances", daemon.instances);
    let mut sources = Map::default();
    sources.put("ipv4", daemon.sources.ipv4);
    sources.put("ipv6", daemon.sources.ipv6);
    map.put("sources", sources.0);
    map.put("control", control(&daemon.control));
    map.put("drop_banned", daemon.drop_banned.word());
    map.put("log", log.0);
    map.0
}

/// The keys that daemon and services have in common, those that are given.
pub(crate) fn log_place(map: &mut Map, to: Option<&LogTarget>, facility: Option<u8>, format: Option<LogFormat>) {
    let target = |to: &LogTarget| match to {
        LogTarget::Syslog => "syslog".to_owned(),
        LogTarget::Journal => "journal".to_owned(),
        LogTarget::Stderr => "stderr".to_owned(),
        LogTarget::File(path) => path.display().to_string(),
    };
    let name = |number: u8| {
        let known = FACILITIES.iter().find(|(_, known)| *known == number);
        known.map_or_else(|| Value::from(number), |(name, _)| Value::from(*name))
    };
    map.may("to", to.map(target));
    map.may("facility", facility.map(name));
    map.may("format", format.map(|format| if format == LogFormat::Text { "text" } else { "json" }));
}

fn control(control: &Control) -> Mapping {
    let mut map = Map::default();
    map.put("path", control_place(&control.place));
    map.may("group", control.group);
    map.0
}

pub(crate) fn control_place(place: &ControlPlace) -> String {
    match place {
        ControlPlace::Default => "default".to_owned(),
        ControlPlace::None => "none".to_owned(),
        ControlPlace::At(path) => path.display().to_string(),
    }
}

fn service_map(service: &Service) -> Mapping {
    let mut map = Map::default();
    map.put("enabled", service.enabled);
    let sockets = service.listen.iter().map(ToString::to_string);
    let names = service.tcpmux.iter().map(ToString::to_string);
    map.put("listen", sockets.chain(names).map(Value::from).collect::<Vec<_>>());
    map.put("wait", service.wait);
    match &service.program.builtin {
        Some(builtin) => put_builtin(&mut map, builtin),
        None => program(&mut map, service),
    }
    if let Some(credentials) = &service.credentials {
        put_credentials(&mut map, credentials);
    }
    surroundings(&mut map, service);
    limits(&mut map, service);
    access(&mut map, service);
    map.put("refuse", refuse(&service.refuse));
    map.put("banner", text(&service.banner));
    map.some("socket", socket(&service.socket));
    let mut log = Map::default();
    log.put("accept", service.log.accept);
    log.put("exit", service.log.exit);
    log.put("refuse", service.log.refuse);
    let OwnLog { to, facility, format } = &service.log.own;
    log_place(&mut log, to.as_ref(), *facility, *format);
    map.put("log", log.0);
    map.0
}

fn program(map: &mut Map, service: &Service) {
    if service.program.is_none() {
        return;
    }
    let path = c_text(&service.program.path);
    let (argv0, arguments) = match service.program.argv.split_first() {
        Some((first, rest)) => (c_text(first), rest),
        None => (String::new(), &[][..]),
    };
    let words = std::iter::once(path.clone()).chain(arguments.iter().map(|word| c_text(word)));
    map.put("program", words.map(Value::from).collect::<Vec<_>>());
    if argv0 != base_name(&path) {
        map.put("argv0", argv0);
    }
}

fn put_builtin(map: &mut Map, builtin: &Builtin) {
    map.put("builtin", builtin.kind.name());
    if let BuiltinKind::Redirect(target) = &builtin.kind {
        map.put("to", target.host_port());
        map.put("connect_timeout", duration_text(target.connect_timeout));
    }
    map.put("idle_timeout", duration_text(builtin.idle_timeout));
}

fn put_credentials(map: &mut Map, credentials: &Credentials) {
    map.put("user", credentials.user.as_str());
    map.put("group", credentials.gid);
    let groups: Vec<Value> = credentials.groups.iter().map(|group| (*group).into()).collect();
    map.put("groups", groups);
}

fn surroundings(map: &mut Map, service: &Service) {
    map.put("directory", c_text(&service.directory));
    map.may("chroot", service.chroot.as_deref().map(c_text));
    map.put("umask", mode(service.umask));
    map.may("nice", service.nice);
    map.some("rlimits", service.rlimits.iter().map(rlimit).collect::<Mapping>());
    let pair = |(name, value): &(String, String)| (name.as_str().into(), value.as_str().into());
    map.some("env", service.env.iter().map(pair).collect::<Mapping>());
    map.some("pass_env", service.pass_env.iter().map(|name| name.as_str().into()).collect::<Vec<Value>>());
    let stderr = match service.stderr {
        Stderr::Daemon => "daemon",
        Stderr::Connection => "connection",
        Stderr::Null => "null",
    };
    map.put("stderr", stderr);
}

fn limits(map: &mut Map, service: &Service) {
    map.put("instances", count(service.instances));
    map.put("when_full", if service.when_full == WhenFull::Queue { "queue" } else { "refuse" });
    rate(map, service.rate);
    if !service.wait {
        map.put("per_source", per_source(&service.per_source));
    } else if Sight::of(&service.listen, true) == Sight::First {
        map.put("per_source", without_instances(per_source(&service.per_source)));
    }
    let per_network = service.per_network.as_ref().map(per_source);
    map.may("per_network", if service.wait { per_network.map(without_instances) } else { per_network });
    map.may("max_load", service.max_load);
    map.some("penalties", penalties(service));
    map.may("lifetime", service.lifetime.map(duration_text));
}

/// A socket that is lent to one handler has no handlers of a source to be counted.
fn without_instances(mut limits: Mapping) -> Mapping {
    limits.remove("instances");
    limits
}

fn per_source(limits: &PerSource) -> Mapping {
    let mut prefix = Map::default();
    prefix.put("ipv4", limits.prefix.ipv4);
    prefix.put("ipv6", limits.prefix.ipv6);
    let mut map = Map::default();
    map.put("instances", count(limits.instances));
    rate(&mut map, limits.rate);
    map.put("prefix", prefix.0);
    map.some("exempt", networks(&limits.exempt));
    map.0
}

fn penalties(service: &Service) -> Mapping {
    let penalties = &service.penalties;
    let mut map = Map::default();
    for cause in [Cause::Crash, Cause::Exit, Cause::Refused, Cause::Trap] {
        map.may(cause.word(), penalties.charge(cause).map(|charge| duration_text(charge.cost)));
    }
    if penalties.any() {
        map.put("min", duration_text(penalties.min));
        map.put("max", duration_text(penalties.max));
    }
    map.some("exempt", networks(&penalties.exempt));
    map.0
}

fn rate(map: &mut Map, limit: Option<RateLimit>) {
    if let Some(RateLimit { events, per, burst, .. }) = limit {
        map.put("rate", rate_text(Rate { events, per }));
        map.put("burst", burst);
    }
}

fn access(map: &mut Map, service: &Service) {
    map.some("allow", networks(&service.allow));
    map.some("deny", networks(&service.deny));
    map.some("times", service.times.iter().map(|span| times_text(span).into()).collect::<Vec<Value>>());
    map.put("dry_run", service.dry_run);
}

fn networks(networks: &[IpNet]) -> Vec<Value> {
    networks.iter().map(|network| network.to_string().into()).collect()
}

pub(crate) fn refuse(refuse: &Refuse) -> Value {
    match refuse {
        Refuse::Reset => "reset".into(),
        Refuse::Close => "close".into(),
        Refuse::Text(bytes) => Mapping::from_iter([("text".into(), text(bytes).into())]).into(),
    }
}

fn socket(options: &SocketOptions) -> Mapping {
    let mut map = Map::default();
    map.may("backlog", options.backlog);
    map.may("nodelay", options.nodelay.then_some(true));
    map.may("keepalive", options.keepalive.then_some(true));
    map.may("defer_accept", options.defer_accept.map(duration_text));
    map.may("freebind", options.freebind.then_some(true));
    map.may("device", options.device.as_deref());
    map.may("mark", options.mark);
    map.may("send_buffer", options.send_buffer);
    map.may("receive_buffer", options.receive_buffer);
    map.may("owner", options.owner.map(|(uid, gid)| format!("{uid}:{gid}")));
    map.may("mode", options.mode.map(mode));
    map.0
}

pub(crate) fn rlimit(limit: &Rlimit) -> (Value, Value) {
    let name = RESOURCES.iter().find(|(_, resource, _)| *resource == limit.resource).map_or("", |(name, ..)| name);
    let one = |value: u64| {
        if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() }
    };
    (name.into(), format!("{}:{}", one(limit.soft), one(limit.hard)).into())
}

pub(crate) fn count(limit: Option<u32>) -> Value {
    limit.map_or_else(|| "unlimited".into(), Value::from)
}

/// With a leading zero, which YAML readers of all versions leave a text when it is quoted.
pub(crate) fn mode(mode: u32) -> String {
    format!("{mode:04o}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn c_text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}
