//! Every attribute, flag and type of xinetd.conf(5) has an effect here, or is refused with a reason; and no bytes
//! at all make the reader panic.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::attributes::ATTRIBUTES;
use super::values::{FLAGS, KINDS};
use crate::compat::{Options, load_with};
use crate::config::dump::dump;
use crate::fake_machine::FakeMachine;

/// Where a line stands.
#[derive(Clone, Copy)]
enum In {
    /// In a service over streams.
    Service,
    /// In one that waits for datagrams.
    Datagrams,
    /// In `defaults`.
    Defaults,
}

use In::{Datagrams, Defaults, Service};

/// Each attribute with a value, and a part of what becomes of it: of the table, or of what is said.
const ATTRIBUTE: [(&str, &str, In, &str); 50] = [
    ("id", "other", Service, "  other:"),
    ("type", "INTERNAL UNLISTED", Service, "no internal service"),
    ("flags", "NODELAY", Service, "nodelay: true"),
    ("socket_type", "seqpacket", Service, "error: seqpacket over tcp is not supported"),
    ("protocol", "udp", Service, "warning: stream and udp do not go together"),
    ("wait", "yes", Service, "wait: true"),
    ("user", "daemon", Service, "user: daemon"),
    ("group", "12", Service, "group: 12"),
    ("groups", "yes", Service, "groups:\n    - "),
    ("umask", "027", Service, "umask: '0027'"),
    ("nice", "7", Service, "nice: 7"),
    ("server", "/bin/sh", Service, "- /bin/sh"),
    ("server_args", "-a b", Service, "- -a\n    - b"),
    ("env", "A=b", Service, "A: b"),
    ("passenv", "PATH", Service, "pass_env:\n    - PATH"),
    ("port", "7002", Service, "tcp/7002"),
    ("bind", "127.0.0.1", Service, "tcp/127.0.0.1:7001"),
    ("interface", "127.0.0.1", Service, "tcp/127.0.0.1:7001"),
    ("v6only", "yes", Service, "tcp6/7001"),
    ("redirect", "192.0.2.1 80", Service, "to: 192.0.2.1:80"),
    ("instances", "7", Service, "instances: 7"),
    ("per_source", "7", Service, "per_source:\n      instances: 7"),
    ("cps", "7 1", Service, "rate: 7/s"),
    ("max_load", "2.5", Service, "max_load: 2.5"),
    ("access_times", "8:00-9:00", Service, "08:00-09:01"),
    ("only_from", "192.0.2.1", Service, "allow:\n    - 192.0.2.1/32"),
    ("no_access", "192.0.2.1", Service, "deny:\n    - 192.0.2.1/32"),
    ("libwrap", "a", Service, ""),
    ("deny_time", "60", Service, "warning: this has no effect without flags = SENSOR"),
    ("banner", "/etc/hostname", Service, "banner: |"),
    ("banner_success", "/etc/hostname", Service, "banner: |"),
    ("banner_fail", "/etc/hostname", Service, "refuse:\n      text: |"),
    ("log_type", "FILE /tmp/x", Service, "      refuse: false\n      to: /tmp/x\n"),
    ("log_type", "SYSLOG local3 info", Service, "      refuse: false\n      to: syslog\n      facility: local3\n"),
    ("log_type", "FILE /tmp/x 1k 2k", Service, "warning: the size of a log is not limited here"),
    ("log_type", "SYSLOG local3", Defaults, "facility: local3"),
    ("log_on_success", "HOST", Service, "accept: true"),
    ("log_on_failure", "HOST", Service, "refuse: true"),
    ("rpc_version", "1", Service, "warning: this has no effect without type = RPC"),
    ("rpc_number", "1", Service, "warning: this has no effect without type = RPC"),
    ("rlimit_as", "64M", Service, "as: 67108864:67108864"),
    ("rlimit_cpu", "7", Service, "cpu: 7:7"),
    ("rlimit_data", "1k", Service, "data: 1024:1024"),
    ("rlimit_files", "2k", Service, "nofile: 2048:2048"),
    ("rlimit_rss", "1k", Service, "warning: Linux has not limited the resident set"),
    ("rlimit_stack", "1M", Service, "stack: 1048576:1048576"),
    ("disable", "yes", Service, "enabled: false"),
    ("mdns", "no", Service, "warning: mdns has a meaning on macOS alone"),
    ("enabled", "nobody", Defaults, "enabled: false"),
    ("disabled", "probe", Defaults, "enabled: false"),
];

const FLAG: [(&str, In, &str); 12] = [
    // What it asks for is always so, or has no counterpart: SO_REUSEADDR is set, and a failed start is not tried
    // again.
    ("REUSE", Service, ""),
    ("NORETRY", Service, ""),
    ("INTERCEPT", Datagrams, "error: INTERCEPT is not supported"),
    ("IDONLY", Service, "warning: IDONLY has no effect without USERID"),
    ("NAMEINARGS", Service, "warning: NAMEINARGS needs server_args"),
    ("NODELAY", Service, "nodelay: true"),
    ("KEEPALIVE", Service, "keepalive: true"),
    ("NOLIBWRAP", Service, ""),
    ("SENSOR", Service, "penalties:\n      trap: "),
    ("IPv4", Service, "tcp4/7001"),
    ("IPv6", Service, "tcp/7001"),
    ("LABELED", Service, "error: LABELED is not supported"),
];

const KIND: [(&str, In, &str); 6] = [
    ("RPC", Service, "error: RPC services are not supported"),
    ("INTERNAL UNLISTED", Service, "no internal service"),
    ("UNLISTED", Service, "tcp/7001"),
    ("SPECIAL", Service, "error: SPECIAL marks services inside of xinetd"),
    ("TCPMUX UNLISTED", Service, "tcpmux/probe"),
    ("TCPMUXPLUS UNLISTED", Service, "tcpmux/+probe"),
];

/// A file with a line in it that stands in place of what it sets.
fn file(name: &str, value: &str, place: In) -> String {
    let mut attributes =
        BTreeMap::from([("type", "UNLISTED"), ("port", "7001"), ("user", "root"), ("server", "/bin/cat")]);
    match place {
        Datagrams => attributes.extend([("socket_type", "dgram"), ("protocol", "udp"), ("wait", "yes")]),
        _ => attributes.extend([("socket_type", "stream"), ("protocol", "tcp"), ("wait", "no")]),
    }
    let mut defaults = String::new();
    match place {
        Defaults => defaults = format!("defaults\n{{\n{name} = {value}\n}}\n"),
        _ => attributes.extend((!name.is_empty()).then_some((name, value))),
    }
    let lines: String = attributes.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    format!("{defaults}service probe\n{{\n{lines}}}\n")
}

/// All that becomes of a file.
fn outcome(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.conf");
    std::fs::write(&path, text).unwrap();
    let reading = load_with(&[path], &Options { machine: &FakeMachine::default(), ..Options::default() });
    let said = |kind: &str, message: &str| format!("{kind}: {message}\n");
    let mut outcome: String = reading.warnings.iter().map(|warning| said("warning", &warning.message)).collect();
    match reading.table {
        Ok(table) => outcome += &dump(&table),
        Err(problems) => outcome.extend(problems.iter().map(|problem| said("error", &problem.message))),
    }
    outcome
}

fn must_show(name: &str, value: &str, place: In, part: &str) {
    let (found, usual) = (outcome(&file(name, value, place)), outcome(&file("", "", place)));
    if part.is_empty() {
        assert_eq!(found, usual, "{name} = {value}");
    } else {
        assert!(found.contains(part), "{name} = {value}: {part:?} is not in\n{found}");
        let by_itself = usual.contains(part) && !["tcp/7001"].contains(&part);
        assert!(!by_itself, "{name} = {value}: {part:?} is there without it\n{usual}");
    }
}

#[test]
fn every_attribute_has_an_effect_or_is_refused() {
    for (name, value, place, part) in ATTRIBUTE {
        must_show(name, value, place, part);
    }
    let tried: BTreeSet<&str> = ATTRIBUTE.iter().map(|(name, ..)| *name).collect();
    let known: BTreeSet<&str> = ATTRIBUTES.iter().map(|attribute| attribute.name).collect();
    assert_eq!(tried, known);
}

#[test]
fn every_flag_and_type_has_an_effect_or_is_refused() {
    for (value, place, part) in FLAG {
        must_show("flags", value, place, part);
    }
    for (value, place, part) in KIND {
        must_show("type", value, place, part);
    }
    let tried: BTreeSet<&str> = FLAG.iter().map(|(name, ..)| *name).collect();
    assert_eq!(tried, FLAGS.iter().map(|(name, _)| *name).collect());
    let tried: BTreeSet<&str> = KIND.iter().filter_map(|(name, ..)| name.split(' ').next()).collect();
    assert_eq!(tried, KINDS.iter().map(|(name, _)| *name).collect());
}

/// A word as files have it, or nearly.
fn word() -> impl Strategy<Value = String> {
    let names: Vec<String> = ATTRIBUTES.iter().map(|attribute| attribute.name.to_owned()).collect();
    let words = [
        "service",
        "defaults",
        "include",
        "includedir",
        "{",
        "}",
        "=",
        "+=",
        "-=",
        "\n",
        "\n",
        "\n",
        "#",
        "yes",
        "no",
        "0",
        "-1",
        "99999999999999999999",
        "10.0.0.0",
        "1.2.3.{4,5}",
        "{",
        "::1/128",
        "a,b",
        "localhost",
        "UNLISTED",
        "stream",
        "dgram",
        "tcp",
        "udp",
        "root",
        "/bin/cat",
        "/",
        ".",
        "..",
        "8:00-9:00",
        "UNLIMITED",
        "SENSOR",
        "IPv6",
        "TCPMUX",
        "RPC",
        "FILE",
        "SYSLOG",
        "\r",
        "\0",
        "\u{fffd}",
        "é",
    ];
    let words = names.into_iter().chain(words.map(str::to_owned)).collect::<Vec<_>>();
    prop_oneof![8 => proptest::sample::select(words), 1 => "[ -~]{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        outcome(&format!("service x\n{}", String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn no_words_make_the_reader_panic(words in proptest::collection::vec(word(), 0..120)) {
        outcome(&format!("service x\n{{\n{}", words.join(" ")));
    }

    /// With any value behind an attribute, the line is read or a message is given.
    #[test]
    fn no_values_make_an_attribute_panic(index in 0..ATTRIBUTES.len(), values in proptest::collection::vec(word(), 0..5)) {
        outcome(&file(ATTRIBUTES[index].name, &values.join(" ").replace('\n', " "), Service));
        outcome(&file(ATTRIBUTES[index].name, &values.join(" ").replace('\n', " "), Defaults));
    }
}
