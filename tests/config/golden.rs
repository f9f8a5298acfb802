//! What the administrator is told: each `golden/NAME.yaml` with the lines of `NAME.expect`, which were written
//! from the manual. An error is a line, a warning begins with `warning: `, and a table that loads ends in `ok`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oxinetd::compat::load;
use oxinetd::config::Problem;

const DIRECTORY: &str = "tests/config/golden/";

/// What is said about a file, one line each, names relative to `directory`.
fn said(file: &Path, directory: &str) -> String {
    let text = |problems: &[Problem], before: &str| -> String {
        problems.iter().map(|problem| format!("{before}{problem}\n").replace(directory, "")).collect()
    };
    match load(&[file.to_owned()]) {
        Ok(loaded) => text(&loaded.warnings, "warning: ") + "ok\n",
        Err(problems) => text(&problems, ""),
    }
}

#[test]
fn every_golden_file_gives_the_expected_messages() {
    let mut files: Vec<PathBuf> = fs::read_dir(DIRECTORY).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() > 30, "only {} golden files", files.len());
    let mut wrong = String::new();
    for file in files {
        let expected = fs::read_to_string(file.with_extension("expect")).unwrap();
        let found = said(&file, DIRECTORY);
        if found != expected {
            wrong += &format!("== {}\n-- expected:\n{expected}-- found:\n{found}", file.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Loads a file of this content and gives what is said.
fn said_about(content: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.yaml");
    fs::write(&file, content).unwrap();
    said(&file, &format!("{}/", directory.path().display()))
}

#[test]
fn deep_nesting_is_refused_before_anything_is_built() {
    let too_deep = "lists and maps are nested more than 32 levels deep\n";
    let flow = format!("services: {}{}", "[".repeat(1000), "]".repeat(1000));
    assert!(said_about(flow.as_bytes()).ends_with(too_deep), "{}", said_about(flow.as_bytes()));
    let block: String = (0..1000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert!(said_about(block.as_bytes()).starts_with("f.yaml:33:33: a.a."), "{}", said_about(block.as_bytes()));
    assert!(said_about(block.as_bytes()).ends_with(too_deep));
    let aliases: String = (1..100_000).map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1)).collect();
    let aliases = format!("a0: &a0 [1]\n{aliases}");
    assert!(said_about(aliases.as_bytes()).ends_with(too_deep));
}

#[test]
fn aliases_cannot_multiply_without_bound() {
    let tenfold = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    let bomb = format!("a0: &a0 [1]\n{}", (1..12).map(tenfold).collect::<String>());
    let said = said_about(bomb.as_bytes());
    assert!(
        said.ends_with("aliases stand for more than 100000 values in all\n") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn file_of_ten_megabytes_is_refused() {
    let said = said_about("# comment\n".repeat(1_000_000).as_bytes());
    assert_eq!(said, "f.yaml: f.yaml is larger than 4 MiB; split it with include\n");
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_at_their_place() {
    let latin1 = said_about(b"services:\n  caf\xe9: {}\n");
    assert_eq!(latin1, "f.yaml:2:6: this is not UTF-8; save the file in that encoding\n");
    let nul = said_about("# é\nservices:\0\n".as_bytes());
    assert_eq!(nul, "f.yaml:2:10: there is a NUL byte here\n");
}

#[test]
fn byte_order_mark_is_allowed() {
    assert_eq!(said_about("\u{feff}services:\n".as_bytes()), "ok\n");
}

#[test]
fn syntax_errors_have_a_place_and_hide_nothing_of_other_files() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = format!("{}/", directory.path().display());
    let main = directory.path().join("main.yaml");
    fs::write(&main, "include: ['*.part']\nservices:\n  a: { listen: 8080 }\n").unwrap();
    fs::write(directory.path().join("1.part"), "services:\n  b: [1, 2\n  c: 3\n").unwrap();
    fs::write(directory.path().join("2.part"), "servces:\n").unwrap();
    let said = said(&main, &prefix);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("main.yaml:3:3: services.a: program is missing"), "{said}");
    assert!(lines[1].starts_with("1.part:3:") && lines[1].contains("this is not YAML"), "{said}");
    assert_eq!(lines[2], "2.part:1:1: servces: unknown key; did you mean services?");
}

#[test]
fn only_regular_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let prefix = format!("{}/", directory.path().display());
    assert_eq!(said(&fifo, &prefix), "fifo: fifo is not a regular file\n");
    assert_eq!(said(Path::new("/dev/zero"), &prefix), "/dev/zero: /dev/zero is not a regular file\n");
    let missing = directory.path().join("missing.yaml");
    assert_eq!(said(&missing, &prefix), "missing.yaml: cannot read missing.yaml: No such file or directory\n");
}

#[test]
fn unreadable_include_is_an_error_at_its_entry() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root can read everything");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (main, part) = (directory.path().join("main.yaml"), directory.path().join("part.yaml"));
    fs::write(&main, "include: part.yaml\n").unwrap();
    fs::write(&part, "services:\n").unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o000)).unwrap();
    let said = said(&main, &format!("{}/", directory.path().display()));
    assert_eq!(said, "main.yaml:1:10: include: cannot read part.yaml: Permission denied\n");
}
