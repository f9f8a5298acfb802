//! What stands in the way of a start is said clearly, with its place, and leaves nothing half started.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use super::run;
use crate::support::{OXINETD, Setup, free_port, is_root, listening, services, skip};

/// A start that must fail with `status` and say all of `words`; then nothing has been started.
fn fails(table: &[u8], status: i32, words: &[&str]) {
    let port = free_port();
    let mut setup = Setup::new("");
    let folder = setup.folder.path().to_owned();
    let table = replaced(
        &replaced(table, b"PORT", port.to_string().as_bytes()),
        b"FOLDER",
        folder.to_str().unwrap().as_bytes(),
    );
    fs::write(folder.join("table.yaml"), table).unwrap();
    let pid_file = tempfile::tempdir().unwrap();
    setup.command.arg("--pid-file").arg(pid_file.path().join("pid"));
    let (ended, stderr) = setup.fail();
    assert_eq!(ended.code(), Some(status), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
    assert!(stderr.lines().all(|line| line.starts_with("oxinetd: ")), "{stderr}");
    assert!(stderr.len() < 4096, "too long to be read: {} bytes", stderr.len());
    assert_eq!(listening(port), [], "half started");
    assert!(!pid_file.path().join("pid").exists(), "half started");
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

/// A service that is right, on line 3; the tables below go on from line 4.
const GOOD: &str = "# A table with one fault.\nservices:\n  good: { listen: PORT, program: /bin/cat }\n";

fn fails_after_good(lines: &str, status: i32, words: &[&str]) {
    fails(format!("{GOOD}{lines}").as_bytes(), status, words);
}

#[test]
fn port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = ["table.yaml:4:", "services.bad.listen: ", &format!("127.0.0.1:{port}"), "in use"];
    fails_after_good(&format!("  bad: {{ listen: 127.0.0.1:{port}, program: /bin/cat }}\n"), 69, &words);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = ["table.yaml:4:", "services.bad.listen: ", "udp/127.0.0.1", "in use"];
    fails_after_good(&format!("  bad: {{ listen: 'udp/127.0.0.1:{port}', program: /bin/cat }}\n"), 69, &words);
}

#[test]
fn unknown_user() {
    let lines = "  bad:\n    listen: 1\n    program: /bin/cat\n    user: no-such-user\n    groups: [no-such-group]\n";
    fails_after_good(lines, 78, &["table.yaml:7:11: services.bad.user: ", "no-such-user"]);
}

#[test]
fn missing_program() {
    let lines = "  bad:\n    listen: 1\n    program: /no/such/program\n";
    fails_after_good(lines, 78, &["table.yaml:6:14: services.bad.program: ", "/no/such/program"]);
}

#[test]
fn unreadable_include() {
    fails_after_good("include:\n  - absent.yaml\n", 78, &["table.yaml:5:5: ", "/absent.yaml", "No such file"]);
    fails_after_good("include: [/]\n", 78, &["table.yaml:4:11: ", "directory"]);
    fails_after_good("include: [/dev/zero]\n", 78, &["table.yaml:4:11: ", "/dev/zero is not a regular file"]);
    fails_after_good("include: [table.yaml]\n", 78, &["table.yaml:4:11: ", "read twice"]);
}

#[test]
fn include_without_permission() {
    if !is_root() {
        return skip("only root can run the daemon as another user");
    }
    let setup = Setup::as_nobody("include: [secret.yaml]\n");
    let secret = setup.folder.path().join("secret.yaml");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let (status, stderr) = setup.fail();
    assert_eq!(status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("table.yaml:1:11: ") && stderr.contains("Permission denied"), "{stderr}");
}

#[test]
fn thousand_levels_of_nesting() {
    let deep = format!("  bad: {}{}\n", "[".repeat(1000), "]".repeat(1000));
    fails_after_good(&deep, 78, &["table.yaml:4:", "nested more than 32 levels deep"]);
    let indented: String = (0..1000).map(|level| format!("{}k:\n", " ".repeat(level + 4))).collect();
    fails_after_good(&format!("  bad:\n{indented}"), 78, &["table.yaml:", "deep"]);
}

#[test]
fn table_of_ten_megabytes() {
    let long = format!("{GOOD}# {}\n", "x".repeat(10 << 20));
    fails(long.as_bytes(), 78, &["table.yaml", "larger than 4 MiB"]);
}

#[test]
fn nul_in_the_table() {
    let lines = "  bad:\n    listen: 1\n    program: [/bin/cat, \"a\\0b\"]\n";
    fails_after_good(lines, 78, &["table.yaml:6:25: ", "NUL"]);
    fails_after_good("  bad: { listen: 1, \0program: /bin/cat }\n", 78, &["table.yaml:4:21: ", "NUL"]);
}

#[test]
fn table_that_is_not_utf_8() {
    // Three characters of which one has two bytes, then é in ISO 8859-1.
    let table = [GOOD.as_bytes(), "# ä".as_bytes(), b"\xe9\n"].concat();
    fails(&table, 78, &["table.yaml:4:4: ", "not UTF-8"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let lines = "  one: { listen: 70000, program: /bin/cat }\n  two: { listen: 1, program: cat, umask: 22 }\n";
    fails_after_good(
        lines,
        78,
        &["table.yaml:4:18: services.one.listen", "5:30: services.two.program", "5:42: services.two.umask"],
    );
}

#[test]
fn missing_table() {
    let output = run(&["-c", "/no/such/table.yaml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/table.yaml"), "{output:?}");
}

#[test]
fn log_or_pid_file_that_cannot_be_written() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    for argument in ["--log", "--pid-file"] {
        let mut setup = Setup::new(&table);
        let (program, config) = (OXINETD, setup.folder.path().join("table.yaml"));
        let mut command = Command::new(program);
        command.arg("-c").arg(config).args([argument, "/no/such/folder/file"]);
        command.stderr(File::create(setup.folder.path().join("stderr")).unwrap());
        setup.command = command;
        let (status, stderr) = setup.fail();
        assert!(!status.success());
        assert!(stderr.contains("No such file"), "{argument}: {stderr}");
        assert_eq!(listening(port), []);
    }
}
