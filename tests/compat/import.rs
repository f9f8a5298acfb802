//! Old tables in YAML: `oxinetctl import` writes what people would write, and the table that comes out of it is the one
//! that the old file gives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::fake_machine::FakeMachine;
use crate::support::own_user;
use oxinetd::compat::import::{Imported, import};
use oxinetd::compat::{Options, load_with};
use oxinetd::config::Dialect;
use oxinetd::config::dump::dump;
use proptest::prelude::*;

/// The table of a file and that of its translation, or why there is none.
fn both(file: &Path, options: &Options<'_>) -> (Result<String, String>, Result<String, String>) {
    let table = |files: &[PathBuf]| match load_with(files, options).table {
        Ok(table) => Ok(dump(&table)),
        Err(problems) => Err(problems.iter().map(|problem| format!("{problem}\n")).collect()),
    };
    let folder = tempfile::tempdir().unwrap();
    let translated = folder.path().join("translated.yaml");
    let Imported { yaml, .. } = import(&[file.to_owned()], options).unwrap();
    fs::write(&translated, yaml).unwrap();
    (table(&[file.to_owned()]), table(&[translated]))
}

#[test]
fn inetd_conf_files_translate_to_the_same_table() {
    let machine = FakeMachine::default();
    let mut compared = 0;
    for entry in fs::read_dir("tests/compat/inetd_conf").unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        let Some(shape) = name.strip_suffix(".conf") else { continue };
        let dialect: Dialect = shape.rsplit('.').next().unwrap().parse().unwrap();
        let (old, new) = both(&file, &Options { machine: &machine, dialect });
        // What is refused in the old file is left out of the new one, and must not spoil the rest.
        match old {
            Ok(old) => assert_eq!(Ok(old), new, "{name}"),
            Err(_) => assert!(new.is_ok(), "{name}: {}", new.unwrap_err()),
        }
        compared += 1;
    }
    assert!(compared > 20, "only {compared} files");
}

/// The same for files of xinetd: those of this repository, and those of a corpus if there is one.
#[test]
fn xinetd_conf_files_translate_to_the_same_table() {
    let machine = FakeMachine::default();
    let mut folders = vec![PathBuf::from("tests/compat/xinetd_conf")];
    let corpus = std::env::var_os("OXINETD_CORPUS").filter(|corpus| !corpus.is_empty()).map(PathBuf::from);
    folders.extend(corpus.iter().flat_map(|corpus| ["xinetd", "embedded"].map(|kind| corpus.join(kind))));
    let (mut compared, mut wrong) = (0, String::new());
    for folder in folders {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let options = Options { machine: &machine, dialect: Dialect::Debian };
            if !file.is_file() || import(std::slice::from_ref(&file), &options).is_err() {
                continue;
            }
            let (old, new) = both(&file, &options);
            compared += usize::from(old.is_ok());
            if old.is_ok() && old != new || new.is_err() {
                wrong += &format!("{}: {}\n", file.display(), first_difference(old, new));
            }
        }
    }
    assert!(wrong.is_empty(), "{compared} compared\n{wrong}");
    assert!(compared > 5, "only {compared} files");
}

/// The first line that differs, for a message.
fn first_difference(old: Result<String, String>, new: Result<String, String>) -> String {
    let (Ok(old), Ok(new)) = (old, new.clone()) else { return new.unwrap_err() };
    let differs = old.lines().zip(new.lines()).find(|(old, new)| old != new);
    differs.map_or_else(|| "one ends first".to_owned(), |(old, new)| format!("{old:?}, translated {new:?}"))
}

#[test]
fn translation_keeps_comments_and_order() {
    let options = Options { machine: &FakeMachine::default(), dialect: Dialect::Debian };
    let imported = import(&["tests/compat/import/daily.conf".into()], &options).unwrap();
    let expected = fs::read_to_string("tests/compat/import/daily.yaml").unwrap();
    assert_eq!(imported.yaml.replace("tests/compat/import/", ""), expected);
    assert_eq!(imported.problems, []);
}

#[test]
fn missing_program_and_user_are_kept_disabled_or_commented_out() {
    let (_folder, path) = file(
        "ftp\tstream\ttcp\tnowait\troot\t/bin/no-such-program\n\
         # For those who know it.\n\
         finger\tstream\ttcp\tnowait\tno-such-user\t/bin/cat\n",
    );
    let options = Options { machine: &FakeMachine::default(), dialect: Dialect::Debian };
    let Imported { yaml, warnings, .. } = import(&[path.into()], &options).unwrap();
    assert!(yaml.contains("\n  ftp:\n    enabled: false\n    listen: 21  # ftp\n"), "{yaml}");
    let comment =
        "\n  # # For those who know it.\n  # finger:\n  #   listen: 79  # finger\n  #   program: [/bin/cat]\n";
    assert!(yaml.contains(comment) && yaml.contains("\n  #   user: no-such-user\n"), "{yaml}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn tcpmux_names_are_translated_as_such() {
    let (_folder, path) = file("tcpmux stream tcp nowait root internal\ntcpmux/+ftp stream tcp nowait root /bin/cat\n");
    let options = Options { machine: &FakeMachine::default(), dialect: Dialect::Gnu };
    let yaml = import(&[path.into()], &options).unwrap().yaml;
    assert!(yaml.contains("\n    listen: tcpmux/+ftp\n"), "{yaml}");
}

/// Runs oxinetctl import.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_oxinetctl")).arg("import").args(arguments).output();
    let Output { status, stdout, stderr } = command.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A file of this content, gone when the folder is. `USER` in it stands for the user that runs the tests, as the program
/// is asked about the machine that it runs on.
fn file(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inetd.conf");
    fs::write(&path, content.replace("USER", &own_user())).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn warnings_go_to_standard_error_and_fail_only_with_strict() {
    let (_folder, path) = file("2000 stream tcp nowiat USER /bin/cat\n");
    let (status, yaml, notes) = run(&[&path]);
    assert_eq!((status, notes.lines().count()), (Some(0), 1), "{notes}");
    assert!(notes.contains(":1:17: 2000.wait: inetd takes \"nowiat\" for nowait"), "{notes}");
    assert!(yaml.contains("\n  2000/tcp:\n    listen: 2000\n"), "{yaml}");
    let (status, same, _) = run(&["--strict", &path]);
    assert_eq!((status, same), (Some(78), yaml));
    let (_folder, path) = file("2000 stream tcp nowait USER /bin/cat\n");
    assert_eq!(run(&["--strict", &path]).0, Some(0));
}

#[test]
fn untranslatable_entry_is_reported_and_the_rest_is_translated() {
    let (_folder, path) = file("2000 stream tcp nowait USER /bin/cat\nrstatd/1-5 dgram rpc/udp wait USER /bin/cat\n");
    let (status, yaml, notes) = run(&[&path]);
    assert_eq!(status, Some(78));
    assert!(notes.contains(":2:18: rstatd/1-5.protocol: RPC services"), "{notes}");
    assert!(yaml.contains("  2000/tcp:") && !yaml.contains("rstatd"), "{yaml}");
}

#[test]
fn file_in_another_format_is_refused() {
    let (_folder, path) = file("services: {}\n");
    let (status, yaml, notes) = run(&[&path]);
    assert_eq!((status, yaml.as_str()), (Some(78), ""));
    assert!(notes.contains("this is no inetd.conf and no xinetd.conf"), "{notes}");
    let (status, _, notes) = run(&["/no/such/file"]);
    assert!(status == Some(78) && notes.contains("No such file"), "{notes}");
    assert_eq!(run(&[]).0, Some(64));
    assert_eq!(run(&["--dialect", "solaris", &path]).0, Some(64));
}

#[test]
fn file_of_comments_is_an_empty_table() {
    let (_folder, path) = file("# nothing\n\n#ftp stream tcp nowait root /bin/ftpd\n");
    let (status, yaml, notes) = run(&[&path]);
    assert_eq!((status, notes.as_str()), (Some(0), ""));
    assert!(yaml.ends_with("\nservices: {}\n"), "{yaml}");
}

#[test]
fn dialect_of_the_command_line_is_used() {
    let (_folder, path) = file("2000 stream tcp nowait/3/10/2 USER /bin/cat cat \"a b\"\n");
    let (_, yaml, _) = run(&["--dialect", "freebsd", &path]);
    assert!(yaml.contains("listen: tcp4/2000\n    program: [/bin/cat, a b]\n"), "{yaml}");
    assert!(yaml.contains("per_source: { instances: 2, rate: 10/min, burst: 10 }"), "{yaml}");
}

/// Lines that are entries, or nearly.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("ftp"),
        Just("echo"),
        Just("2000"),
        Just("127.0.0.1:finger"),
        Just("localhost,*:2001"),
        Just("[::1]:ssh"),
        Just("/run/x"),
        Just("stream"),
        Just("dgram"),
        Just("tcp"),
        Just("udp6"),
        Just("tcp46"),
        Just("unix"),
        Just("nowait"),
        Just("wait"),
        Just("nowait.3"),
        Just("nowait/1/2/3"),
        Just("root"),
        Just("nobody.tty"),
        Just("a:b/c"),
        Just("/bin/cat"),
        Just("internal"),
        Just("-u"),
        Just("\"a b\""),
        Just("'"),
        Just("#"),
        Just("#<off>#"),
        Just("\\"),
        Just("on"),
        Just("off"),
        Just("protocol"),
        Just("="),
        Just(","),
        Just(";"),
        Just("*:"),
        Just(".include"),
        Just("tcp,sndbuf=1k"),
        Just("\u{e4}"),
        Just("rpc/udp"),
        Just("tcpmux/x"),
        Just("#@"),
        Just("\0"),
    ];
    let line = proptest::collection::vec((word, prop_oneof![Just(" "), Just("\t"), Just("")]), 0..12);
    let typical = "(\\*:|127\\.0\\.0\\.1:)?(ftp|2000|2001|echo) (stream|dgram) (tcp|udp|tcp6) (no)?wait root /bin/[a-c] [a-c-]? [a-z#]?";
    let line = prop_oneof![
        1 => line.prop_map(|words| words.into_iter().map(|(word, blank)| format!("{word}{blank}")).collect::<String>()),
        2 => typical.prop_map(String::from),
    ];
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    /// No input stops a reader, and what it makes of it, the translation keeps.
    #[test]
    fn any_file_translates_to_the_same_table(
        content in prop_oneof![3 => entries(), 1 => proptest::collection::vec(any::<u8>(), 0..200)],
        dialect in 0..6_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inetd.conf");
        // So that it is taken for an inetd.conf.
        fs::write(&path, [b"#:X:\n".as_slice(), &content].concat()).unwrap();
        let machine = FakeMachine::default();
        let (old, new) = both(&path, &Options { machine: &machine, dialect: oxinetd::config::DIALECTS[dialect].1 });
        match old {
            Ok(old) => prop_assert_eq!(Ok(old), new),
            Err(_) => prop_assert!(new.is_ok(), "{}", new.unwrap_err()),
        }
    }
}
