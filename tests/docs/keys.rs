//! Keys of the table: oxinetd.yaml(5) has each and no other, and `--check` takes each.

use std::collections::BTreeSet;
use std::process::Command;

use nix::unistd::geteuid;
use serde_json::Value;

use super::{FOR_ROOT, TABLE, check, read, section};

/// Every key with a value that makes sense for it: the section it stands in, as [`entries`] names them, the key, the value.
const KEYS: [(&str, &str, &str); 82] = [
    ("top", "include", "[services.d/*.yaml]"),
    ("top", "daemon", "{}"),
    ("top", "defaults", "{}"),
    ("top", "services", "{}"),
    ("daemon", "instances", "4096"),
    ("daemon", "sources", "{ ipv4: 65536, ipv6: 65536 }"),
    ("daemon", "drop_banned", "kernel"),
    ("daemon", "control", "/run/oxinetd/control.sock"),
    ("daemon", "log", "{}"),
    ("daemon.control", "path", "default"),
    ("daemon.control", "group", "'0'"),
    ("daemon.log", "to", "stderr"),
    ("daemon.log", "facility", "daemon"),
    ("daemon.log", "format", "json"),
    ("daemon.log", "level", "info"),
    ("service", "listen", "[tcp4/127.0.0.1:10007, 'tcp6/[::1]:10007', 'unix:/run/x.sock', mptcp/10008]"),
    ("service", "program", "[/bin/cat, -u]"),
    ("service", "argv0", "cat"),
    ("service", "builtin", "echo"),
    ("service", "to", "192.0.2.1:80"),
    ("service", "connect_timeout", "3s"),
    ("service", "idle_timeout", "1h"),
    ("service", "wait", "false"),
    ("service", "enabled", "true"),
    ("service", "user", "root"),
    ("service", "group", "'0'"),
    ("service", "groups", "none"),
    ("service", "directory", "/"),
    ("service", "chroot", "/"),
    ("service", "umask", "'022'"),
    ("service", "nice", "10"),
    ("service", "rlimits", "{ nofile: 1024 }"),
    ("service", "env", "{ LANG: C }"),
    ("service", "pass_env", "[LANG]"),
    ("service", "stderr", "null"),
    ("service", "lifetime", "1h30m"),
    ("service", "banner", "hello"),
    ("service", "instances", "unlimited"),
    ("service", "when_full", "refuse"),
    ("service", "per_source", "{ instances: 4 }"),
    ("service", "per_network", "{ instances: 4 }"),
    ("service", "rate", "50/s"),
    ("service", "burst", "10"),
    ("service", "max_load", "8"),
    ("service", "allow", "[192.0.2.0/24]"),
    ("service", "deny", "[192.0.2.0/24]"),
    ("service", "times", "['Mon-Fri 08:00-18:00']"),
    ("service", "penalties", "{ crash: 90s }"),
    ("service", "dry_run", "true"),
    ("service", "refuse", "{ text: 'later' }"),
    ("service", "socket", "{}"),
    ("service", "log", "{}"),
    ("penalties", "crash", "90s"),
    ("penalties", "exit", "20s"),
    ("penalties", "refused", "1s"),
    ("penalties", "trap", "1h"),
    ("penalties", "min", "0s"),
    ("penalties", "max", "1h"),
    ("penalties", "exempt", "[192.0.2.0/24]"),
    ("rlimits", "nofile", "1024:4096"),
    ("rlimits", "nproc", "64"),
    ("rlimits", "cpu", "10"),
    ("rlimits", "as", "64M"),
    ("rlimits", "data", "64M"),
    ("rlimits", "stack", "8M"),
    ("rlimits", "fsize", "1G"),
    ("rlimits", "core", "0"),
    ("rlimits", "memlock", "64k"),
    ("per_source", "instances", "4"),
    ("per_source", "prefix", "{ ipv4: 24, ipv6: 48 }"),
    ("per_source", "rate", "5/s"),
    ("per_source", "burst", "5"),
    ("per_source", "exempt", "[192.0.2.0/24]"),
    ("socket", "backlog", "128"),
    ("socket", "nodelay", "true"),
    ("socket", "keepalive", "true"),
    ("socket", "defer_accept", "5s"),
    ("socket", "freebind", "true"),
    ("socket", "device", "lo"),
    ("socket", "mark", "1"),
    ("socket", "send_buffer", "64k"),
    ("socket", "receive_buffer", "64k"),
];
/// More of them: those that need a Unix socket to make sense, and the choices of `log`.
const MORE_KEYS: [(&str, &str, &str); 8] = [
    ("socket", "owner", "root"),
    ("socket", "mode", "'660'"),
    ("log", "accept", "false"),
    ("log", "exit", "false"),
    ("log", "refuse", "false"),
    ("log", "to", "stderr"),
    ("log", "facility", "daemon"),
    ("log", "format", "json"),
];

fn keys() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KEYS.into_iter().chain(MORE_KEYS)
}

/// A key as oxinetd.yaml(5) describes it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// `top`, `daemon`, `service`, or the key whose value it stands in, `daemon.log` for that one.
    section: String,
    key: String,
}

/// The keys of one `.Sh`; nested lists belong to the key they stand in.
fn entries_of(page: &str, name: &str, top: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    // For each list that is open: which entries the text at hand belongs to.
    let mut open: Vec<Vec<usize>> = Vec::new();
    for line in section(page, name) {
        if line.starts_with(".Bl ") {
            open.push(Vec::new());
        } else if line == ".El" {
            open.pop();
        } else if let Some(rest) = line.strip_prefix(".It ") {
            let keys = rest.strip_prefix("Ic ").unwrap_or_default().split([' ', ',']).filter(|word| !word.is_empty());
            let parent =
                open.iter().rev().skip(1).find_map(|list| list.first()).map(|&index| entries[index].key.clone());
            let section = match (parent, top) {
                (None, _) => top.to_owned(),
                (Some(parent), "service") => parent,
                (Some(parent), _) => format!("{top}.{parent}"),
            };
            let first = entries.len();
            entries.extend(keys.map(|key| Entry { section: section.clone(), key: key.to_owned() }));
            if let Some(list) = open.last_mut() {
                *list = (first..entries.len()).collect();
            }
        }
    }
    entries
}

fn entries() -> Vec<Entry> {
    let page = read(TABLE);
    let sections = [("DESCRIPTION", "top"), ("THE DAEMON", "daemon"), ("SERVICES", "service")];
    sections.iter().flat_map(|(name, top)| entries_of(&page, name, top)).collect()
}

#[test]
fn entries_know_their_section() {
    let page = ".Sh S\n.Bl -tag\n.It Ic a\n.Bl -tag\n.It Cm x\nText.\n.It Ic b , c\nText.\n.El\n.It Ic d\n.El\n\
                .Sh T\n.Bl -tag\n.It Ic e\n.El\n";
    let entry = |section: &str, key: &str| Entry { section: section.into(), key: key.into() };
    let inner = [entry("service", "a"), entry("a", "b"), entry("a", "c"), entry("service", "d")];
    assert_eq!(entries_of(page, "S", "service"), inner);
    assert_eq!(entries_of(page, "S", "daemon")[1], entry("daemon.a", "b"));
}

#[test]
fn manual_has_each_key_and_no_other() {
    let page: BTreeSet<_> = entries().into_iter().map(|entry| (entry.section, entry.key)).collect();
    let known = keys().map(|(section, key, _)| (section.to_owned(), key.to_owned())).collect();
    assert_eq!(page, known);
}

/// The keys of a JSON Schema of a section, and of the sections in it, under their names in oxinetd.yaml(5).
fn declared(section: &str, schema: &Value, found: &mut BTreeSet<(String, String)>) {
    for variant in schema["anyOf"].as_array().into_iter().flatten() {
        declared(section, variant, found);
    }
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        found.insert((section.to_owned(), key.clone()));
        let inner = match (section, key.as_str()) {
            ("top", "defaults") => continue,
            ("top", "services") => "service".to_owned(),
            ("service", "per_network") => "per_source".to_owned(),
            ("daemon", key) => format!("daemon.{key}"),
            (_, key) => key.to_owned(),
        };
        declared(&inner, if inner == "service" { &value["additionalProperties"] } else { value }, found);
    }
}

/// Keys that the page explains with the section that they stand in, without entries of their own.
const EXPLAINED_WITH_THEIR_SECTION: [(&str, &str); 7] = [
    ("daemon.sources", "ipv4"),
    ("daemon.sources", "ipv6"),
    ("prefix", "ipv4"),
    ("prefix", "ipv6"),
    ("refuse", "text"),
    ("include", "path"),
    ("include", "dialect"),
];

/// The declared keys, from which the schema is made, are those of the list above, section by section.
#[test]
fn declared_keys_are_those_that_are_listed_here() {
    let output = Command::new(env!("CARGO_BIN_EXE_oxinetctl")).arg("schema").output().unwrap();
    let mut found = BTreeSet::new();
    declared("top", &serde_json::from_slice(&output.stdout).unwrap(), &mut found);
    let listed = keys().map(|(section, key, _)| (section.to_owned(), key.to_owned()));
    let explained = EXPLAINED_WITH_THEIR_SECTION.map(|(section, key)| (section.to_owned(), key.to_owned()));
    assert_eq!(found, listed.chain(explained).collect());
}

/// A table that holds one key, at its place.
fn table_with(section: &str, key: &str, value: &str) -> String {
    let service = |more: &str| format!("services:\n  x:\n    listen: 10007\n    program: /bin/cat\n{more}");
    match (section, key) {
        ("top", _) => format!("{key}: {value}\n"),
        ("daemon", _) => format!("daemon:\n  {key}: {value}\n"),
        ("daemon.log", _) => format!("daemon:\n  log:\n    {key}: {value}\n"),
        ("daemon.control", _) => format!("daemon:\n  control:\n    {key}: {value}\n"),
        ("service", "listen") => format!("services:\n  x:\n    program: /bin/cat\n    listen: {value}\n"),
        ("service", "program") => format!("services:\n  x:\n    listen: 10007\n    program: {value}\n"),
        ("service", "builtin") => "services:\n  x:\n    listen: 10007\n    builtin: echo\n".to_owned(),
        ("service", "to") => format!("services:\n  x:\n    listen: 10007\n    builtin: redirect\n    to: {value}\n"),
        ("service", "connect_timeout" | "idle_timeout") => format!(
            "services:\n  x:\n    listen: 10007\n    builtin: redirect\n    to: 192.0.2.1:80\n    {key}: {value}\n"
        ),
        ("service", "group" | "groups") => service(&format!("    user: root\n    {key}: {value}\n")),
        ("service", "burst") => service("    rate: 5/s\n    burst: 5\n"),
        ("service", _) => service(&format!("    {key}: {value}\n")),
        ("socket", "owner" | "mode") => format!(
            "services:\n  x:\n    listen: unix:/run/x.sock\n    program: /bin/cat\n    socket: {{ {key}: {value} }}\n"
        ),
        ("per_source", "burst") => service("    per_source: { rate: 5/s, burst: 5 }\n"),
        _ => service(&format!("    {section}: {{ {key}: {value} }}\n")),
    }
}

#[test]
fn check_accepts_every_key() {
    for (section, key, value) in keys() {
        if FOR_ROOT.contains(&key) && !geteuid().is_root() {
            eprintln!("skipped: {key} can be checked by root alone");
            continue;
        }
        let (errors, good) = check(&table_with(section, key, value));
        assert!(good, "{section}.{key}: {errors}");
    }
}
