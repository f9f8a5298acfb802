//! Manual pages: flags are compared with `--help`; verbs, levels, steps of a start, variables and the keys of the status
//! with the source.

use std::collections::BTreeSet;
use std::process::Command;

use oxinetd::types::{Reason, Step};

use super::{CONTROL, DAEMON, TABLE, items, oxinetd, path, read, section};

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
fn manual_has_each_flag_and_no_other() {
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
fn manual_of_oxinetctl_has_each_command_and_flag_and_no_other() {
    let (page, help) = (read(CONTROL), help_of_control(&[]));
    let commands = commands_of_help(&help);
    assert!(!commands.is_empty(), "this test no longer understands the help: {help}");
    assert_eq!(items(&page, "COMMANDS", "Ic"), commands);
    let mut flags = flags_of_help(&help);
    commands.iter().for_each(|command| flags.extend(flags_of_help(&help_of_control(&[command]))));
    assert_eq!(flags_of_page(&page), flags);
}

// --- log lines ------------------------------------------------------------------------------------------------------

/// The variants of an enum of `src/log/event.rs`, as log lines spell them.
fn variants(of: &str) -> BTreeSet<String> {
    let source = read("src/log/event.rs");
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
fn manual_has_each_verb_and_each_reason() {
    assert_eq!(snake_case("SpawnFailed"), "spawn_failed");
    assert_eq!(items(&read(DAEMON), "LOG LINES", "Sy"), variants("Event"));
    let reasons = Reason::ALL.iter().map(|reason| reason.word().to_owned());
    assert_eq!(items(&read(DAEMON), "DIAGNOSTICS", "Sy"), reasons.collect());
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
fn manual_has_the_level_of_each_log_line() {
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
fn manual_has_the_steps_of_a_start_in_order() {
    let page = read(DAEMON);
    let lines = section(&page, "HANDLER PROCESSES");
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
fn manual_has_each_variable_of_a_connection() {
    let source = read("src/system/template.rs");
    let calls = source.split("set_variable(bytes, \"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut set: BTreeSet<String> = calls.map(str::to_owned).collect();
    assert!(set.len() > 8, "this test no longer understands the template: it finds only {set:?}");
    set.extend(["PATH", "REMOTE_ADDR", "REMOTE_HOST", "TCPREMOTEIP"].map(str::to_owned));
    let page = read(DAEMON);
    let given = section(&page, "ENVIRONMENT").into_iter().take_while(|line| *line != ".Ss Read by oxinetd");
    let names = given.filter_map(|line| line.strip_prefix(".It ")).flat_map(|line| line.split(" , "));
    let page: BTreeSet<String> = names.filter_map(|name| name.strip_prefix("Ev ")).map(str::to_owned).collect();
    assert_eq!(page, set);
}

#[test]
fn manual_has_each_key_of_the_status() {
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
