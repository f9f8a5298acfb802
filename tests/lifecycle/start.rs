//! Ways to start: command line, `--check` and `--dump`, as an ordinary user, as process 1.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use super::run;
use crate::support::{self, OXINETD, Setup, ask_text, children_of, hold, is_root, services, skip, wait_until};

#[test]
fn wrong_usage_exits_64_and_help_exits_0() {
    for arguments in [&["--no-such-option"][..], &["operand"], &["-c"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    for argument in ["--help", "--version"] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn ordinary_user_can_use_high_ports_and_not_low_ones() {
    if !is_root() {
        return skip("only root can run the daemon as another user");
    }
    let status = "program: /bin/cat /proc/self/status";
    let ([cat, status], table) = services([("cat", "program: /bin/cat"), ("status", status)]);
    let daemon = Setup::as_nobody(&table).start();
    assert_eq!(ask_text(cat, "x"), "x");
    let uid = support::nobody().0.to_string();
    assert!(support::field(&ask_text(status, ""), "Uid").split_whitespace().all(|id| id == uid));
    daemon.wait_idle();
    drop(daemon);

    let first: u16 =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    if first < 2 {
        return skip("every port is open to everybody here");
    }
    let port = first - 1;
    let (status, stderr) =
        Setup::as_nobody(&format!("services: {{ low: {{ listen: {port}, program: /bin/cat }} }}")).fail();
    assert_eq!(status.code(), Some(77), "{stderr}");
    assert!(stderr.contains("services.low.listen: ") && stderr.contains("ermission denied"), "{stderr}");
    let (status, stderr) = Setup::as_nobody("services: { a: { listen: 9, program: /bin/cat, user: root } }").fail();
    assert_eq!(status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("services.a.user: ") && stderr.contains("only root"), "{stderr}");
}

#[test]
fn check_opens_nothing() {
    let ([port], table) = services([("cat", "program: /bin/cat, rlimits: { nofile: 20 }")]);
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let setup = Setup::new(&table);
    let path = setup.folder.path().join("table.yaml");
    let output = run(&["--check", "-c", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("table.yaml:2:"), "a warning of few files: {output:?}");
    setup.write("services: { cat: { listen: x } }");
    assert_eq!(run(&["--check", "-c", path.to_str().unwrap()]).status.code(), Some(78));
}

#[test]
fn dump_reads_back_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.yaml");
    let text = "defaults: { USER umask: '027', env: { A: '1' } }\nservices:\n  \
                one: { listen: [23, 'udp6/[::1]:69'], wait: true, program: '/bin/cat \"a b\" ''c''', lifetime: 90s }\n  \
                two: { listen: 'unix:/run/two', program: [/bin/cat, \"é\\n\"], refuse: { text: \"no\\r\\n\" }, \
                rlimits: { nofile: '2000:unlimited' }, socket: { mode: '0600', owner: '1:2' }, enabled: false }\n";
    let text = text.replace("USER", if is_root() { "user: root," } else { "" });
    fs::write(&path, text).unwrap();
    let dump = |path: &Path| {
        let output = run(&["--dump", "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = dump(&path);
    assert!(first.contains("a b") && first.contains("1m30s"), "{first}");
    fs::write(&path, &first).unwrap();
    assert_eq!(dump(&path), first);
}

#[test]
fn process_1_collects_orphans_and_obeys_signals() {
    let tried = Command::new("unshare").args(["-p", "-f", "--mount-proc", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return skip("no process id namespaces here");
    }
    // The shell ends at once and leaves a child behind, which the kernel gives to process 1.
    let orphan = "program: [/bin/sh, -c, '(sleep 0.05; exit 3) </dev/null >/dev/null 2>&1 & echo $PPID']";
    let ([port, cat], table) = services([("orphan", orphan), ("cat", "program: /bin/cat")]);
    let mut daemon = Setup::run_by(&["unshare", "-p", "-f", "--kill-child", "--mount-proc", OXINETD], &table).start();
    // The child of unshare(1) is the daemon.
    daemon.pid = children_of(daemon.pid)[0];
    for _ in 0..5 {
        assert_eq!(ask_text(port, ""), "1\n");
    }
    wait_until("no child and no zombie", || children_of(daemon.pid).is_empty());
    let mut session = hold(cat);
    let status = daemon.status();
    assert_eq!(status["services"]["orphan"]["exits"], json!({ "success": 5, "failure": 0, "signal": 0 }));
    assert_eq!((&status["handlers"], &status["audit"]), (&json!(1), &json!([])));
    daemon.reload().unwrap();
    session.write_all(b"x").unwrap();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_end().code(), Some(0));
}
