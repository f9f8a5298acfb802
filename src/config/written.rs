//! A specification as YAML values: the keys that were written, and nothing else.
//!
//! `compat::import` writes with it what a reader of an old format understood. Every field is named here, so that a new
//! one can't be forgotten. It cannot fail.

use std::time::Duration;

use ipnet::IpNet;
use serde_yaml::{Mapping, Value};

use super::dump::{Map, control_place, count, log_place, mode, refuse, rlimit};
use super::problem::Set;
use super::schema::{
    DaemonSpec, Key, Keys, LEVELS, LogSpec, PenaltySpec, PlaceSpec, ServiceSpec, SocketSpec, SourceSpec,
};
use super::units::{duration_text, rate_text, times_text};
use super::values::Groups;
use super::{Stderr, WhenFull};

/// A service, or defaults.
pub(crate) fn service(spec: &ServiceSpec) -> Mapping {
    complete(spec);
    let ServiceSpec { listen, program, argv0, builtin, to, wait, enabled, user, group, groups, .. } = spec;
    let mut map = Map::default();
    map.may("enabled", get(enabled));
    map.may("listen", list(listen, Clone::clone));
    map.may("program", get(program));
    map.may("argv0", get(argv0));
    map.may("builtin", get(builtin));
    map.may("to", with(to, |(host, port)| format!("{}:{port}", bracketed(host))));
    map.may("connect_timeout", time(&spec.connect_timeout));
    map.may("idle_timeout", time(&spec.idle_timeout));
    map.may("wait", get(wait));
    map.may("user", get(user));
    map.may("group", get(group));
    map.may("groups", with(groups, groups_value));
    surroundings(&mut map, spec);
    limits(&mut map, spec);
    access(&mut map, spec);
    map.0
}

/// Does not compile when there is a new key, which has its place in one of the functions here.
fn complete(spec: &ServiceSpec) {
    let ServiceSpec {
        listen: _,
        program: _,
        argv0: _,
        builtin: _,
        to: _,
        connect_timeout: _,
        idle_timeout: _,
        wait: _,
        enabled: _,
        user: _,
        group: _,
        groups: _,
        directory: _,
        chroot: _,
        umask: _,
        nice: _,
        rlimits: _,
        env: _,
        pass_env: _,
        stderr: _,
        instances: _,
        rate: _,
        burst: _,
        when_full: _,
        per_source: _,
        per_network: _,
        allow: _,
        deny: _,
        times: _,
        max_load: _,
        refuse: _,
        banner: _,
        lifetime: _,
        penalties: _,
        dry_run: _,
        socket: _,
        log: _,
    } = spec;
}

fn surroundings(map: &mut Map, spec: &ServiceSpec) {
    let ServiceSpec { directory, chroot, umask, nice, rlimits, env, pass_env, stderr, .. } = spec;
    map.may("directory", get(directory));
    map.may("chroot", get(chroot));
    map.may("umask", with(umask, |umask| mode(*umask)));
    map.may("nice", get(nice));
    map.some("rlimits", rlimits.iter().map(|set| rlimit(&set.value.1)).collect::<Mapping>());
    map.some("env", keys(env, |value| value.as_str().into()));
    map.may("pass_env", list(pass_env, Clone::clone));
    let word = |stderr: &Stderr| match stderr {
        Stderr::Daemon => "daemon",
        Stderr::Connection => "connection",
        Stderr::Null => "null",
    };
    map.may("stderr", with(stderr, word));
}

fn limits(map: &mut Map, spec: &ServiceSpec) {
    let ServiceSpec { instances, rate, burst, when_full, per_source, per_network, max_load, lifetime, .. } = spec;
    map.may("instances", with(instances, |limit| count(*limit)));
    map.may("rate", with(rate, |rate| rate_text(*rate)));
    map.may("burst", get(burst));
    map.may("when_full", with(when_full, |full| if *full == WhenFull::Queue { "queue" } else { "refuse" }));
    map.some("per_source", source(per_source));
    map.some("per_network", source(per_network));
    map.may("max_load", get(max_load));
    map.may("lifetime", time(lifetime));
}

fn access(map: &mut Map, spec: &ServiceSpec) {
    let ServiceSpec { allow, deny, times, refuse: refused, banner, penalties: costs, dry_run, socket, log, .. } = spec;
    map.may("allow", networks(allow));
    map.may("deny", networks(deny));
    map.may("times", list(times, times_text));
    map.may("refuse", with(refused, refuse));
    map.may("banner", get(banner));
    map.some("penalties", penalties(costs));
    map.may("dry_run", get(dry_run));
    map.some("socket", socket_map(socket));
    map.some("log", log_map(log));
}

fn source(spec: &SourceSpec) -> Mapping {
    let SourceSpec { instances, rate, burst, ipv4, ipv6, exempt } = spec;
    let mut map = Map::default();
    map.may("instances", with(instances, |limit| count(*limit)));
    map.may("rate", with(rate, |rate| rate_text(*rate)));
    map.may("burst", get(burst));
    let mut prefix = Map::default();
    prefix.may("ipv4", get(ipv4));
    prefix.may("ipv6", get(ipv6));
    map.some("prefix", prefix.0);
    map.may("exempt", networks(exempt));
    map.0
}

fn penalties(spec: &PenaltySpec) -> Mapping {
    let PenaltySpec { crash, exit, refused, trap, min, max, exempt } = spec;
    let mut map = Map::default();
    for (key, value) in
        [("crash", crash), ("exit", exit), ("refused", refused), ("trap", trap), ("min", min), ("max", max)]
    {
        map.may(key, time(value));
    }
    map.may("exempt", networks(exempt));
    map.0
}

fn socket_map(spec: &SocketSpec) -> Mapping {
    let SocketSpec {
        backlog,
        nodelay,
        keepalive,
        defer_accept,
        freebind,
        device,
        mark,
        send_buffer,
        receive_buffer,
        owner,
        mode: bits,
    } = spec;
    let mut map = Map::default();
    map.may("backlog", get(backlog));
    map.may("nodelay", get(nodelay));
    map.may("keepalive", get(keepalive));
    map.may("defer_accept", time(defer_accept));
    map.may("freebind", get(freebind));
    map.may("device", get(device));
    map.may("mark", get(mark));
    map.may("send_buffer", get(send_buffer));
    map.may("receive_buffer", get(receive_buffer));
    map.may("owner", get(owner));
    map.may("mode", with(bits, |bits| mode(*bits)));
    map.0
}

fn log_map(spec: &LogSpec) -> Mapping {
    let LogSpec { accept, exit, refuse, place } = spec;
    let mut map = Map::default();
    map.may("accept", get(accept));
    map.may("exit", get(exit));
    map.may("refuse", get(refuse));
    place_keys(&mut map, place);
    map.0
}

fn place_keys(map: &mut Map, spec: &PlaceSpec) {
    let PlaceSpec { to, facility, format } = spec;
    let copied = |set: &Set<u8>| set.value;
    log_place(
        map,
        to.as_ref().map(|set| &set.value),
        facility.as_ref().map(copied),
        format.as_ref().map(|set| set.value),
    );
}

/// The `daemon` section.
pub(crate) fn daemon(spec: &DaemonSpec) -> Mapping {
    let DaemonSpec { instances, sources, drop_banned, control, control_group, log: place, level } = spec;
    let mut log = Map::default();
    place_keys(&mut log, place);
    let level = level.as_ref().and_then(|set| LEVELS.iter().find(|(_, level)| *level == set.value));
    log.may("level", level.map(|(name, _)| *name));
    let mut map = Map::default();
    map.may("instances", get(instances));
    map.some("sources", keys(sources, |number| (*number).into()));
    map.may("drop_banned", with(drop_banned, |who| who.word()));
    let mut socket = Map::default();
    socket.may("path", with(control, control_place));
    socket.may("group", get(control_group));
    map.some("control", socket.0);
    map.some("log", log.0);
    map.0
}

fn groups_value(groups: &Groups) -> Value {
    match groups {
        Groups::All => "all".into(),
        Groups::These(names) if names.is_empty() => "none".into(),
        Groups::These(names) => names.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>().into(),
    }
}

/// An address of IPv6 before a port stands in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn get<T: Clone + Into<Value>>(key: &Key<T>) -> Option<Value> {
    with(key, |value| value.clone().into())
}

fn with<T, V: Into<Value>>(key: &Key<T>, value: impl Fn(&T) -> V) -> Option<Value> {
    key.as_ref().map(|set| value(&set.value).into())
}

fn time(key: &Key<Duration>) -> Option<Value> {
    with(key, |time| duration_text(*time))
}

fn list<T>(key: &Key<Vec<Set<T>>>, text: impl Fn(&T) -> String) -> Option<Value> {
    with(key, |list| list.iter().map(|set| Value::from(text(&set.value))).collect::<Vec<_>>())
}

fn networks(key: &Key<Vec<Set<IpNet>>>) -> Option<Value> {
    let text = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    };
    list(key, text)
}

fn keys<T>(keys: &Keys<T>, value: impl Fn(&T) -> Value) -> Mapping {
    keys.iter().map(|set| (set.value.0.as_str().into(), value(&set.value.1))).collect()
}
