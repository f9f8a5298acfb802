//! A service with a log of its own: its lines go there and nowhere else, through reloads, rotation, a full disk and
//! files of xinetd. tests/lifecycle/upgrade.rs has the upgrade, tests/faults/logs.rs syslog.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Daemon, Setup, ask_text, connect, free_port, is_root, services, skip, wait_until};

/// The lines of a file in the daemon's folder that speak of a service's connections.
fn lines_of(daemon: &Daemon, file: &str, service: &str) -> Vec<String> {
    let content = fs::read_to_string(daemon.path(file)).unwrap_or_default();
    let verbs = [" accept ", " exit ", " refuse ", " spawn_failed "];
    let about =
        |line: &&str| line.contains(&format!(" service={service} ")) && verbs.iter().any(|verb| line.contains(verb));
    content.lines().filter(about).map(str::to_owned).collect()
}

/// Serves one client, and waits until the end of its handler is in the log.
fn serve(daemon: &Daemon, port: u16, file: &str, service: &str) {
    let ends = || lines_of(daemon, file, service).iter().filter(|line| line.contains(" exit ")).count();
    let before = ends();
    assert_eq!(ask_text(port, "hello"), "hello");
    wait_until(&format!("the end of {service} in {file}"), || ends() > before);
}

/// No log but this has a line of the service.
fn only_in(daemon: &Daemon, file: &str, service: &str) {
    for other in ["log", "a.log", "b.log", "c.log", "rotated"].iter().filter(|other| **other != file) {
        assert_eq!(lines_of(daemon, other, service), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn lines_of_a_service_go_to_its_own_file_only() {
    let (ports, table) = services([
        ("a", "program: /bin/cat, log: { to: FOLDER/a.log }"),
        ("b", "program: /bin/cat, log: { to: FOLDER/b.log, format: json, exit: false }, allow: [192.0.2.1]"),
        ("other", "program: /bin/cat"),
    ]);
    let daemon = Daemon::start(&table);
    serve(&daemon, ports[0], "a.log", "a");
    serve(&daemon, ports[2], "log", "other");
    // The client is refused, so it may see a reset.
    let _ = connect(ports[1]).write_all(b"x");
    let b = || fs::read_to_string(daemon.path("b.log")).unwrap_or_default();
    wait_until("a refusal", || b().contains("\"event\":\"refuse\""));
    let line: serde_json::Value = serde_json::from_str(b().lines().next().unwrap()).unwrap();
    assert_eq!((&line["service"], &line["reason"]), (&"b".into(), &"access".into()));
    only_in(&daemon, "a.log", "a");
    only_in(&daemon, "b.log", "b");
    only_in(&daemon, "log", "other");
    let lines = lines_of(&daemon, "a.log", "a");
    assert!(lines[0].contains(" accept service=a source=127.0.0.1 ") && lines[1].contains(" status=0 "), "{lines:?}");
    // The daemon's own business stays where it was.
    let log = daemon.log();
    assert!(log.contains(" start ") && log.contains(" listen service=a ") && log.contains(" listen service=b "));
    let mode = fs::metadata(daemon.path("a.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn reload_moves_one_log_and_removes_another() {
    let (ports, table) = services([
        ("a", "program: /bin/cat, log: { to: FOLDER/a.log }"),
        ("b", "program: /bin/cat, log: { to: FOLDER/b.log }"),
    ]);
    let daemon = Daemon::start(&table);
    serve(&daemon, ports[0], "a.log", "a");
    serve(&daemon, ports[1], "b.log", "b");
    let descriptors = daemon.settled_descriptors();
    daemon.change(&table.replace("a.log", "c.log").replace(", log: { to: FOLDER/b.log }", ""));
    serve(&daemon, ports[0], "c.log", "a");
    serve(&daemon, ports[1], "log", "b");
    assert_eq!((lines_of(&daemon, "a.log", "a").len(), lines_of(&daemon, "b.log", "b").len()), (2, 2));
    wait_until("the old files to be closed", || daemon.descriptors() == descriptors - 1);
    // And gives one to a service that had none.
    daemon.change(&table);
    serve(&daemon, ports[1], "b.log", "b");
    assert_eq!((lines_of(&daemon, "log", "b").len(), lines_of(&daemon, "b.log", "b").len()), (2, 4));
}

#[test]
fn reload_with_a_log_that_cannot_be_opened_changes_nothing() {
    let (ports, table) = services([("a", "program: /bin/cat, log: { to: FOLDER/a.log }")]);
    let daemon = Daemon::start(&table);
    daemon.write(&table.replace("a.log", "absent/a.log"));
    let refused = daemon.reload().unwrap_err();
    assert!(refused.contains("services.a.log.to: ") && refused.contains("No such file"), "{refused}");
    serve(&daemon, ports[0], "a.log", "a");
    only_in(&daemon, "a.log", "a");
}

#[test]
fn start_with_a_log_that_cannot_be_opened_fails() {
    let (_, table) = services([("a", "program: /bin/cat, log: { to: FOLDER/absent/a.log }")]);
    let (status, stderr) = Setup::new(&table).fail();
    assert_eq!(status.code(), Some(71), "{stderr}");
    assert!(stderr.contains("services.a.log.to: ") && stderr.contains("No such file"), "{stderr}");
    // One that is off needs none.
    let (_, table) = services([("a", "enabled: false, program: /bin/cat, log: { to: FOLDER/absent/a.log }")]);
    Daemon::start(&table);
}

#[test]
fn renamed_log_is_reopened_by_a_reload() {
    let (ports, table) = services([
        ("a", "program: /bin/cat, log: { to: FOLDER/a.log }"),
        ("b", "program: /bin/cat, log: { to: FOLDER/b.log }"),
    ]);
    let daemon = Daemon::start(&table);
    serve(&daemon, ports[0], "a.log", "a");
    fs::rename(daemon.path("a.log"), daemon.path("rotated")).unwrap();
    serve(&daemon, ports[0], "rotated", "a");
    daemon.reload().unwrap();
    serve(&daemon, ports[0], "a.log", "a");
    serve(&daemon, ports[1], "b.log", "b");
    assert_eq!((lines_of(&daemon, "rotated", "a").len(), lines_of(&daemon, "a.log", "a").len()), (4, 2));
}

#[test]
fn full_disk_loses_the_lines_of_that_service_only() {
    let (ports, table) = services([
        ("full", "program: /bin/cat, log: { to: /dev/full }"),
        ("b", "program: /bin/cat, log: { to: FOLDER/b.log }"),
    ]);
    let daemon = Daemon::start(&table);
    for _ in 0..5 {
        assert_eq!(ask_text(ports[0], "unheard"), "unheard");
        serve(&daemon, ports[1], "b.log", "b");
    }
    daemon.wait_idle();
    // A beginning and an end each.
    wait_until("10 lines to be lost", || daemon.status()["log_lines_dropped"] == 10);
    daemon.wait_log(&[" dropped lines="]);
    assert_eq!(lines_of(&daemon, "b.log", "b").len(), 10);
    only_in(&daemon, "b.log", "b");
}

#[test]
fn xinetd_log_type_of_a_service_goes_to_its_own_file() {
    if !is_root() {
        return skip("services of xinetd have no supplementary groups, which only root can take away");
    }
    let folder = tempfile::tempdir().unwrap();
    let (conf, ports) = (folder.path().join("x.conf"), [free_port(), free_port()]);
    let service = |name: &str, port: u16, log: &str| {
        format!(
            "service {name}\n{{\ntype = UNLISTED\nport = {port}\nsocket_type = stream\nprotocol = tcp\nwait = no\n\
             user = root\nserver = /bin/cat\n{log}\n}}\n"
        )
    };
    let defaults = "defaults\n{\nlog_type = SYSLOG daemon\nlog_on_success = PID EXIT\n}\n";
    let setup = Setup::new(&format!("include: {}", conf.display()));
    let file = setup.folder.path().join("a.log");
    let own = format!("log_type = FILE {}", file.display());
    fs::write(&conf, [defaults, &service("a", ports[0], &own), &service("b", ports[1], "")].concat()).unwrap();
    // The daemon's log, which defaults name, is another by --log.
    let daemon = setup.start();
    serve(&daemon, ports[0], "a.log", "a");
    serve(&daemon, ports[1], "log", "b");
    only_in(&daemon, "a.log", "a");
    only_in(&daemon, "log", "b");
}
