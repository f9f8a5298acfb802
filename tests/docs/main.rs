//! What is written about the program is what it does: manual pages, README, examples, commands, messages.
//!
//! What is added must be described, and what is described must exist.

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod documented_commands;
mod examples;
mod keys;
mod manual_pages;
mod messages_documented;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DAEMON: &str = "man/oxinetd.8";
const TABLE: &str = "man/oxinetd.yaml.5";
const CONTROL: &str = "man/oxinetctl.8";

/// Keys that make sense for root alone.
const FOR_ROOT: [&str; 5] = ["user", "group", "groups", "chroot", "owner"];

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
