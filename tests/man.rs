//! What the manual pages and the README say is what the program does.
//!
//! Flags are compared with `--help`, keys and examples with what `--check` answers; verbs, levels, steps of a start,
//! variables and the keys of the status with the source. What is added must be described, and what is described must
//! exist.
//!
//! An example whose comment `# Needs: …` names a file, `user NAME` or `group NAME` that this machine lacks is skipped, and
//! says so; so is what only root may have, for anybody else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::geteuid;
use oxinetd::types::Step;
use serde_json::Value;

const DAEMON: &str = "man/oxinetd.8";
const TABLE: &str = "man/oxinetd.yaml.5";
const CONTROL: &str = "man/oxinetctl.8";

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

/// Keys that make sense for root alone.
const FOR_ROOT: [&str; 5] = ["user", "group", "groups", "chroot", "owner"];

fn keys() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KEYS.into_iter().chain(MORE_KEYS)
}

/// A file of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn oxinetd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oxinetd")).args(arguments).output().unwrap()
}

/// What `--check` says of a table: standard error, and whether it found nothing wrong.
fn check(table: &str) -> (String, bool) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("table.yaml");
    fs::write(&file, table).unwrap();
    let output = oxinetd(&["--check", "-c", file.to_str().unwrap()]);
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
}

/// The lines of a page between `.Sh NAME` and the next `.Sh`.
fn section<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!(".Sh {name}");
    let lines: Vec<&str> = page.lines().skip_while(|line| *line != head).skip(1).collect();
    assert!(!lines.is_empty(), "no section {name}");
    lines.into_iter().take_while(|line| !line.starts_with(".Sh ")).collect()
}

/// The first words of all `.It MACRO WORD` of a section.
fn items(page: &str, name: &str, macro_name: &str) -> BTreeSet<String> {
    let start = format!(".It {macro_name} ");
    let words = section(page, name).into_iter().filter_map(|line| line.strip_prefix(&start)?.split(' ').next());
    words.map(str::to_owned).collect()
}

// --- flags ----------------------------------------------------------------------------------------------------------

/// The flags of clap's help: at the start of a line, `-c, --config <FILE>`.
fn flags_of_help(help: &str) -> BTreeSet<String> {
    let options = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words =
        options.flat_map(|line| line.split([' ', ',']).take_while(|word| word.is_empty() || word.starts_with('-')));
    words.map(|word| word.trim_end_matches('.').to_owned()).filter(|word| word.len() > 1).collect()
}

/// The flags of a page: `.It Fl c Ar file , Fl \-config Ar file`.
fn flags_of_page(page: &str) -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with(".It Fl")) {
        let words: Vec<&str> = line.split(' ').collect();
        let pairs = words.windows(2).filter(|pair| pair[0] == "Fl");
        flags.extend(pairs.map(|pair| format!("-{}", pair[1].replace("\\-", "-"))));
    }
    flags
}

#[test]
fn flags_are_told_from_the_text_around_them() {
    let help = "Usage: oxinetd [OPTIONS]\n\nOptions:\n  -c, --config <FILE>  Table, see --check\n      --pid-file <FILE>\n  \
                -v...  More - or less\n";
    let expected = ["--config", "--pid-file", "-c", "-v"].map(str::to_owned);
    assert_eq!(flags_of_help(help), BTreeSet::from(expected.clone()));
    let page = ".Fl x\n.It Fl c Ar file , Fl \\-config Ar file\n.It Fl \\-pid\\-file Ar file\n.It Fl v\n";
    assert_eq!(flags_of_page(page), BTreeSet::from(expected));
}

#[test]
fn the_page_has_each_flag_and_no_other() {
    let output = oxinetd(&["--help"]);
    assert!(output.status.success(), "--help: {output:?}");
    assert_eq!(flags_of_page(&read(DAEMON)), flags_of_help(&String::from_utf8_lossy(&output.stdout)));
}

// --- commands -------------------------------------------------------------------------------------------------------

/// The help of oxinetctl, or of one of its commands.
fn help_of_control(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_oxinetctl")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands of clap's help.
fn commands_of_help(help: &str) -> BTreeSet<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_page_of_oxinetctl_has_each_command_and_each_flag_and_no_other() {
    let (page, help) = (read(CONTROL), help_of_control(&[]));
    let commands = commands_of_help(&help);
    assert!(!commands.is_empty(), "this test no longer understands the help: {help}");
    assert_eq!(items(&page, "COMMANDS", "Ic"), commands);
    let mut flags = flags_of_help(&help);
    commands.iter().for_each(|command| flags.extend(flags_of_help(&help_of_control(&[command]))));
    assert_eq!(flags_of_page(&page), flags);
}

// --- keys -----------------------------------------------------------------------------------------------------------

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
fn the_page_has_each_key_and_no_other() {
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
fn the_declared_keys_are_those_that_are_listed_here() {
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
fn every_key_is_taken() {
    for (section, key, value) in keys() {
        if FOR_ROOT.contains(&key) && !geteuid().is_root() {
            eprintln!("skipped: {key} can be checked by root alone");
            continue;
        }
        let (errors, good) = check(&table_with(section, key, value));
        assert!(good, "{section}.{key}: {errors}");
    }
}

// --- log lines ------------------------------------------------------------------------------------------------------

/// The variants of an enum of `src/log/event.rs`, as log lines spell them.
fn variants(of: &str) -> BTreeSet<String> {
    let source = read("src/log/event.rs") + &read("src/types.rs");
    let start = format!("pub enum {of} {{\n");
    let body = source.split(&start).nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    ")?.split([' ', ',', '(']).next());
    names.filter(|name| name.starts_with(char::is_uppercase)).map(snake_case).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[test]
fn the_page_has_each_verb_and_each_reason() {
    assert_eq!(snake_case("SpawnFailed"), "spawn_failed");
    assert_eq!(items(&read(DAEMON), "LOG LINES", "Sy"), variants("Event"));
    assert_eq!(items(&read(DAEMON), "DIAGNOSTICS", "Sy"), variants("Reason"));
}

/// The levels of `fn level` in `src/log/render/mod.rs`, by verb.
fn levels_of_source() -> BTreeSet<(String, String)> {
    let source = read("src/log/render/mod.rs");
    let body = source.split("fn level(").nth(1).and_then(|rest| rest.split("\n    }\n").next()).unwrap();
    let mut arms: Vec<&str> = body.split("=> Level::").collect();
    let mut levels = BTreeSet::new();
    for index in (1..arms.len()).rev() {
        let (level, rest) = arms[index].split_once(',').unwrap();
        arms[index] = rest;
        let names = arms[index - 1].split("Self::").skip(1).filter_map(|rest| rest.split(' ').next());
        levels.extend(names.map(|name| (snake_case(name), level.to_lowercase())));
    }
    levels
}

#[test]
fn the_page_has_the_level_of_each_line() {
    let page = read(DAEMON);
    let lines = section(&page, "LOG LINES");
    let items = lines.windows(2).filter_map(|pair| Some((pair[0].strip_prefix(".It Sy ")?, pair[1])));
    let levels: BTreeSet<_> = items
        .map(|(item, level)| {
            let level = level.trim_start_matches('(').split([',', ')']).next().unwrap();
            (item.split(' ').next().unwrap().to_owned(), level.to_owned())
        })
        .collect();
    assert_eq!(levels, levels_of_source());
}

#[test]
fn the_page_has_the_steps_of_a_start_in_order() {
    let page = read(DAEMON);
    let lines = section(&page, "THE HANDLER'S WORLD");
    let from = lines.iter().position(|line| line.starts_with("The steps of a start")).unwrap();
    let to = lines.iter().position(|line| line.starts_with("in this order")).unwrap();
    let words = lines[from..to].iter().filter_map(|line| line.strip_prefix(".Cm ")).flat_map(|line| line.split(' '));
    assert_eq!(
        words.filter(|word| *word != ",").collect::<Vec<_>>(),
        Step::ALL.iter().map(|step| step.word()).collect::<Vec<_>>()
    );
}

// --- variables and status -------------------------------------------------------------------------------------------

#[test]
fn the_page_has_each_variable_of_a_connection() {
    let source = read("src/dispatch/spawner.rs");
    let calls = source.split("set(bytes, \"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut set: BTreeSet<String> = calls.map(str::to_owned).collect();
    assert!(set.len() > 8, "this test no longer understands the spawner: it finds only {set:?}");
    set.extend(["PATH", "REMOTE_ADDR", "REMOTE_HOST", "TCPREMOTEIP"].map(str::to_owned));
    let page = read(DAEMON);
    let given = section(&page, "ENVIRONMENT").into_iter().take_while(|line| *line != ".Ss Read by oxinetd");
    let names = given.filter_map(|line| line.strip_prefix(".It ")).flat_map(|line| line.split(" , "));
    let page: BTreeSet<String> = names.filter_map(|name| name.strip_prefix("Ev ")).map(str::to_owned).collect();
    assert_eq!(page, set);
}

#[test]
fn the_page_has_each_key_of_the_status() {
    let source = read("src/api/status.rs");
    let fields =
        source.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(": ").map(|(name, _)| name));
    let fields = fields.filter(|name| !name.contains(' '));
    let known: BTreeSet<String> = fields.map(str::to_owned).collect();
    assert!(known.len() > 30, "this test no longer understands the report: it finds only {known:?}");
    let page = read(DAEMON);
    let words =
        section(&page, "STATUS").into_iter().filter(|line| line.contains("Ic ")).flat_map(|line| line.split(' '));
    let page: BTreeSet<&str> = words.collect();
    let absent: Vec<_> = known.iter().filter(|key| !page.contains(key.as_str())).collect();
    assert!(absent.is_empty(), "keys of the status that the page does not have: {absent:?}");
}

// --- examples -------------------------------------------------------------------------------------------------------

/// The literal blocks of a page, without roff's escapes, as far as they are tables.
fn examples_of_page(page: &str) -> Vec<String> {
    let blocks = page.split("\n.Bd -literal").skip(1);
    let bodies = blocks.map(|block| block.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap());
    let plain =
        bodies.map(|body| body.replace("\\e", "\\").replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", ""));
    plain.filter(|text| is_table(text)).map(|text| text + "\n").collect()
}

fn examples_of_markdown(text: &str) -> Vec<String> {
    text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn is_table(text: &str) -> bool {
    text.lines().any(|line| ["include:", "daemon:", "defaults:", "services:"].iter().any(|key| line.starts_with(key)))
}

/// What an example says it needs and this machine lacks.
fn lacks(example: &str) -> Vec<String> {
    let needs = example.lines().filter_map(|line| line.strip_prefix("# Needs: ")).flat_map(|line| line.split(", "));
    let mut lacks: Vec<String> = needs.filter(|need| !is_here(need)).map(str::to_owned).collect();
    let keys = example.lines().filter_map(|line| line.trim_start().split_once(": "));
    if !geteuid().is_root() && keys.into_iter().any(|(key, _)| FOR_ROOT.contains(&key)) {
        lacks.push("root".to_owned());
    }
    lacks
}

fn is_here(need: &str) -> bool {
    let listed = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.split(':').next() == Some(name))
    };
    match need.split_once(' ') {
        Some(("user", name)) => listed("/etc/passwd", name),
        Some(("group", name)) => listed("/etc/group", name),
        _ => Path::new(need).exists(),
    }
}

/// Runs `--check` on an example, or says loudly what keeps it from doing so.
fn must_check_clean(name: &str, example: &str) {
    let lacks = lacks(example);
    if !lacks.is_empty() {
        eprintln!("skipped: {name} needs {}", lacks.join(", "));
        return;
    }
    let (errors, good) = check(example);
    assert!(good && errors.is_empty(), "{name}: {errors}\n{example}");
}

#[test]
fn a_need_that_is_not_there_is_seen() {
    let example =
        "# Needs: /bin/sh, user root, group root\n# Needs: /no/such/program, user no-such-user\nservices: {}\n";
    assert_eq!(lacks(example), ["/no/such/program", "user no-such-user"]);
}

#[test]
fn examples_of_the_pages_check_clean() {
    for (page, least) in [(DAEMON, 1), (TABLE, 5)] {
        let examples = examples_of_page(&read(page));
        assert!(examples.len() >= least, "{page}: {} examples found", examples.len());
        for (number, example) in examples.iter().enumerate() {
            must_check_clean(&format!("{page}, example {}", number + 1), example);
        }
    }
}

#[test]
fn examples_of_the_readme_check_clean() {
    let examples = examples_of_markdown(&read("README.md"));
    assert!(!examples.is_empty(), "README.md has no example");
    for (number, example) in examples.iter().enumerate() {
        must_check_clean(&format!("README.md, example {}", number + 1), example);
    }
}

#[test]
fn the_files_of_etc_check_clean() {
    for name in ["etc/oxinetd.yaml", "etc/quickstart.yaml"] {
        let output = oxinetd(&["--check", "-c", path(name).to_str().unwrap()]);
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
    }
    let examples: Vec<PathBuf> =
        fs::read_dir(path("etc/services.d")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        let name = example.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.ends_with(".yaml.example"), "{name}: an active service has no place in the default files");
        must_check_clean(&name, &fs::read_to_string(&example).unwrap());
    }
}

// --- form -----------------------------------------------------------------------------------------------------------

#[test]
fn mandoc_finds_no_fault() {
    if Command::new("mandoc").arg("/dev/null").output().is_err() {
        eprintln!("skipped: mandoc is not installed");
        return;
    }
    for page in [DAEMON, TABLE, CONTROL] {
        let output = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(path(page)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
