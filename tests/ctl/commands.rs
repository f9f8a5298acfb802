//! oxinetctl against a running daemon: what each command says, how it exits, and what has changed afterwards.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{
    self, Daemon, Setup, ask_text, connect_from, free_port, hold, is_root, nobody, services, skip, wait_until,
};

const OXINETCTL: &str = env!("CARGO_BIN_EXE_oxinetctl");

/// Runs oxinetctl for this daemon.
fn ctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    command(daemon).args(arguments).output().unwrap()
}

fn command(daemon: &Daemon) -> Command {
    let mut command = Command::new(OXINETCTL);
    command.arg("--socket").arg(daemon.path("control.sock"));
    command
}

/// What it writes to standard output, if all is well.
fn said(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = ctl(daemon, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON.
fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(daemon, &[&["--format", "json"], arguments].concat())).unwrap()
}

/// The exit status and what was said on standard error, if something is wrong.
fn wrong(output: &Output) -> (i32, String) {
    assert!(!output.status.success(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The line of a table that begins with a word, in words.
fn row(table: &str, first: &str) -> Vec<String> {
    let row = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    row.into_iter().find(|row| row.first().is_some_and(|word| word == first)).unwrap_or_else(|| panic!("{table}"))
}

/// Does a client from this source get a handler?
fn is_served(source: [u8; 4], port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = connect_from(source, port) else { return false };
    let mut answer = [0; 3];
    stream.write_all(b"hi\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"hi\n"
}

#[test]
fn status_services_and_sources_agree_with_the_daemon() {
    let ([cat, date], table) = services([
        ("cat", "program: /bin/cat, instances: 5, per_source: { instances: 3 }, refuse: close"),
        ("date", "program: [/bin/date, -u]"),
    ]);
    let daemon = Daemon::start(&table);
    let _sessions: Vec<TcpStream> = (0..3).map(|_| hold(cat)).collect();
    let _other = connect_from([127, 0, 0, 2], cat).unwrap();
    wait_until("four handlers", || daemon.count("cat") == 4);
    assert_eq!(ask_text(cat, ""), "", "the fourth of one source");
    assert!(ask_text(date, "").ends_with('\n'));
    wait_until("the end of date", || daemon.count("date") == 0);

    let table = said(&daemon, &["services"]);
    assert_eq!(row(&table, "SERVICE")[..3], ["SERVICE", "STATE", "HANDLERS"]);
    assert_eq!(row(&table, "cat"), ["cat", "listening", "4/5", "4", "4", "1", "0", &format!("tcp/{cat}")]);
    assert_eq!(row(&table, "date"), ["date", "listening", "0/64", "1", "1", "0", "0", &format!("tcp/{date}")]);
    let services = json(&daemon, &["services"]);
    assert_eq!(services["cat"]["refused"], json!({ "source_instances": 1 }));
    assert_eq!(services["date"]["exits"], json!({ "success": 1, "failure": 0, "signal": 0 }));
    assert_eq!(
        (&services["date"]["durations"]["count"], &services["cat"]["durations"]["count"]),
        (&json!(1), &json!(0))
    );

    let table = said(&daemon, &["sources"]);
    assert_eq!(row(&table, "127.0.0.1"), ["127.0.0.1", "3/3", "cat"]);
    assert_eq!(row(&table, "127.0.0.2"), ["127.0.0.2", "1/3", "cat"]);
    let busiest = json!({ "service": "cat", "source": "127.0.0.1", "handlers": 3, "instances": 3 });
    assert_eq!(json(&daemon, &["sources", "--top", "1", "cat"]), json!({ "sources": [busiest], "total": 2 }));
    assert_eq!(json(&daemon, &["sources", "date"])["sources"], json!([]));
    let (status, error) = wrong(&ctl(&daemon, &["sources", "nobody"]));
    assert_eq!((status, error.as_str()), (1, "oxinetctl: there is no service \"nobody\"\n"));

    let status = said(&daemon, &["status"]);
    for line in [format!("pid {}", daemon.pid), "4 of 4096, ".to_owned(), "clean".to_owned()] {
        assert!(status.contains(&line), "{line}: {status}");
    }
    let mut status = json(&daemon, &["status"]);
    let mut by_signal = daemon.status();
    for changing in ["time_seconds", "uptime_seconds", "turns", "longest_turn_seconds"] {
        assert!(status.as_object_mut().unwrap().remove(changing).is_some(), "{changing}");
        by_signal.as_object_mut().unwrap().remove(changing);
    }
    assert_eq!(status, by_signal);
    assert!(said(&daemon, &["audit"]).starts_with("clean"));
    assert_eq!(json(&daemon, &["audit"]), json!({ "handlers": 4, "drifts": [] }));
}

#[test]
fn reload_waits_for_the_outcome_and_fails_with_its_errors() {
    let ([cat], table) = services([("cat", "program: /bin/cat, instances: 5")]);
    let daemon = Daemon::start(&table);
    let other = free_port();
    daemon.write(&format!("{table}  other: {{ listen: {other}, program: /bin/cat }}\n"));
    assert_eq!(said(&daemon, &["reload"]), "added 1, removed 0, altered 0, kept 1\n");
    assert_eq!(ask_text(other, "in use\n"), "in use\n");
    daemon.write(&table.replace("instances: 5", "instances: many, umask: 22"));
    let output = ctl(&daemon, &["reload"]);
    let (status, error) = wrong(&output);
    assert_eq!((status, output.stdout.as_slice()), (1, [].as_slice()));
    assert_eq!(error.lines().count(), 2, "every error: {error}");
    assert!(error.lines().all(|line| line.starts_with("oxinetctl: ") && line.contains("table.yaml:2:")), "{error}");
    assert_eq!(ask_text(other, "still\n"), "still\n");
    assert_eq!(daemon.status()["reloads"], json!({ "done": 1, "failed": 1 }));
    daemon.wait_log(&["control command=reload", &format!("uid={}", nix::unistd::geteuid())]);
    drop(hold(cat));
}

#[test]
fn drained_service_takes_no_clients_until_it_is_resumed() {
    let ([port], table) = services([("cat", "program: /bin/cat, when_full: refuse")]);
    let daemon = Daemon::start(&table);
    let mut session = hold(port);
    assert_eq!(said(&daemon, &["drain", "cat"]), "cat is drained\n");
    assert_eq!(json(&daemon, &["drain", "cat"]), json!({ "changed": false }));
    assert!(!is_served([127, 0, 0, 1], port));
    support::echo(&mut session, "live on\n");
    assert_eq!(json(&daemon, &["services"])["cat"]["drained"], json!(true));
    daemon.change(&table);
    assert!(!is_served([127, 0, 0, 1], port), "over a reload");
    assert_eq!(said(&daemon, &["resume", "cat"]), "cat accepts clients again\n");
    assert!(is_served([127, 0, 0, 1], port));
    assert_eq!(said(&daemon, &["resume", "cat"]), "cat was not drained\n");
    assert_eq!(wrong(&ctl(&daemon, &["drain", "dog"])).1, "oxinetctl: there is no service \"dog\"\n");
    daemon.wait_log(&["control command=\"drain cat\""]);
}

#[test]
fn ban_holds_for_its_network_until_it_ends_or_is_lifted() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    assert_eq!(said(&daemon, &["ban", "127.0.7.0/24"]), "127.0.7.0/24 is banned\n");
    assert_eq!(said(&daemon, &["ban", "127.0.8.1", "2h"]), "127.0.8.1 is banned\n");
    assert_eq!((is_served([127, 0, 7, 3], port), is_served([127, 0, 8, 1], port)), (false, false));
    assert!(is_served([127, 0, 8, 2], port));
    let bans = json(&daemon, &["bans"])["bans"].clone();
    assert_eq!((&bans[0]["network"], &bans[0]["left_seconds"]), (&json!("127.0.7.0/24"), &json!(null)));
    let left = bans[1]["left_seconds"].as_f64().unwrap();
    assert!(bans[1]["network"] == "127.0.8.1/32" && (7000.0..=7200.0).contains(&left), "{bans}");
    assert_eq!(row(&said(&daemon, &["bans"]), "127.0.7.0/24"), ["127.0.7.0/24", "-", "ban"]);
    assert_eq!(json(&daemon, &["ban", "127.0.7.0/24", "1s"]), json!({ "changed": false }));
    wait_until("the end of the ban", || is_served([127, 0, 7, 3], port));
    assert_eq!(said(&daemon, &["unban", "127.0.8.1"]), "127.0.8.1 is no longer banned\n");
    assert!(is_served([127, 0, 8, 1], port));
    assert_eq!(said(&daemon, &["unban", "127.0.8.1"]), "127.0.8.1 was not banned\n");
    let (status, error) = wrong(&ctl(&daemon, &["ban", "127.0.8.1/24"]));
    assert!(status == 1 && error.contains("without host bits, such as 127.0.8.0/24"), "{error}");
    assert_eq!(wrong(&ctl(&daemon, &["ban", "localhost"])).0, 1);
    assert_eq!(wrong(&ctl(&daemon, &["ban", "127.0.8.1", "soon"])).0, 64);
}

#[test]
fn explain_names_the_rule_and_changes_nothing() {
    let port = free_port();
    let table = format!(
        "services:\n  cat:\n    listen: {port}\n    program: /bin/cat\n    deny:\n      - 127.0.9.0/24\n    \
         per_source: {{ instances: 1, rate: 1/h, burst: 2 }}\n"
    );
    let daemon = Daemon::start(&table);
    let output = ctl(&daemon, &["explain", "cat", "127.0.9.7"]);
    assert_eq!(wrong(&output), (1, String::new()));
    let text = String::from_utf8(output.stdout).unwrap();
    let access = row(&text, "access");
    assert_eq!(access[1..4], ["no", "deny", "127.0.9.0/24"], "{text}");
    assert!(access[4].contains("table.yaml:6:9"), "{text}");
    assert!(text.ends_with("127.0.9.7 would be refused by cat: access\n"), "{text}");
    for _ in 0..5 {
        assert!(said(&daemon, &["explain", "cat", "127.0.0.1"]).ends_with("127.0.0.1 would be let in to cat\n"));
    }
    let session = hold(port);
    let explained = ctl(&daemon, &["--format", "json", "explain", "cat", "127.0.0.1"]);
    assert_eq!(explained.status.code(), Some(1));
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let no: Vec<_> = explained["questions"].as_array().unwrap().iter().filter(|one| one["yes"] == false).collect();
    assert_eq!((no.len(), &no[0]["question"]), (1, &json!("source_instances")));
    drop(session);
    daemon.wait_idle();
    // As the daemon itself decides: one more of the burst of two.
    drop(hold(port));
    daemon.wait_idle();
    assert!(!is_served([127, 0, 0, 1], port));
    assert_eq!(wrong(&ctl(&daemon, &["explain", "cat", "127.0.0.1"])).0, 1);
    assert_eq!(daemon.status()["services"]["cat"]["refused"], json!({ "source_rate": 1 }));
    assert_eq!(wrong(&ctl(&daemon, &["explain", "cat", "example.org"])).0, 1);
}

#[test]
fn user_without_permission_gets_an_error() {
    if !is_root() {
        return skip("needs root");
    }
    let (uid, gid) = nobody();
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    let socket = daemon.path("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let as_nobody = |daemon: &Daemon| {
        let copy = daemon.path("oxinetctl");
        if !copy.exists() {
            support::put_program(&copy, fs::read(OXINETCTL).unwrap());
        }
        let mut command = Command::new(copy);
        command.arg("--socket").arg(daemon.path("control.sock")).arg("audit").uid(uid).gid(gid);
        command.output().unwrap()
    };
    assert_eq!(wrong(&as_nobody(&daemon)).0, 77, "by the mode");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let (status, error) = wrong(&as_nobody(&daemon));
    assert!(status == 77 && error.contains("only root"), "by the credentials: {error}");
    daemon.change(&format!("daemon: {{ control: {{ group: '{gid}' }} }}\n{table}"));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(as_nobody(&daemon).status.success(), "by the group");
    daemon.change(&table);
    assert_eq!(wrong(&as_nobody(&daemon)).0, 77, "the group is gone");
}

#[test]
fn daemon_of_an_ordinary_user_answers_that_user_and_root() {
    if !is_root() {
        return skip("needs root");
    }
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Setup::as_nobody(&table).start();
    assert!(said(&daemon, &["status"]).contains("clean"));
    let (uid, gid) = nobody();
    let copy = daemon.path("oxinetctl");
    support::put_program(&copy, fs::read(OXINETCTL).unwrap());
    let mut command = Command::new(copy);
    let output =
        command.arg("--socket").arg(daemon.path("control.sock")).arg("audit").uid(uid).gid(gid).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn control_socket_moves_with_the_table_and_is_removed_at_stop() {
    let ([_port], table) = services([("cat", "program: /bin/cat")]);
    let place = |name: &str| format!("daemon: {{ control: FOLDER/{name} }}\n{table}");
    let mut setup = Setup::new(&place("one.sock"));
    let arguments: Vec<_> = setup.command.get_args().map(ToOwned::to_owned).collect();
    let mut command = Command::new(support::OXINETD);
    // Without --control, which would override the table.
    let keep = arguments.iter().position(|argument| argument == "--control").unwrap();
    command.args(arguments[..keep].iter().chain(&arguments[keep + 2..]));
    command.env("NOTIFY_SOCKET", setup.folder.path().join("notify"));
    command.stderr(fs::File::create(setup.folder.path().join("stderr")).unwrap());
    setup.command = command;
    // A file that a daemon has left behind is no obstacle.
    support::stop_listening(std::os::unix::net::UnixListener::bind(setup.folder.path().join("one.sock")).unwrap());
    let mut daemon = setup.start();
    let audit = |daemon: &Daemon, name: &str| {
        let output = Command::new(OXINETCTL).arg("--socket").arg(daemon.path(name)).arg("audit").output().unwrap();
        output.status.code().unwrap()
    };
    assert_eq!(audit(&daemon, "one.sock"), 0);
    daemon.change(&place("two.sock"));
    assert_eq!((audit(&daemon, "one.sock"), audit(&daemon, "two.sock")), (69, 0));
    assert!(!daemon.path("one.sock").exists());
    // What can't be had is an error, and everything stays.
    fs::write(daemon.path("file"), "").unwrap();
    daemon.write(&place("file"));
    assert!(daemon.reload().unwrap_err().contains("daemon.control"));
    assert_eq!(audit(&daemon, "two.sock"), 0);
    // A file that was removed comes back with the next reload.
    fs::remove_file(daemon.path("two.sock")).unwrap();
    daemon.change(&place("two.sock"));
    assert_eq!(audit(&daemon, "two.sock"), 0);
    daemon.change(&format!("daemon: {{ control: none }}\n{table}"));
    assert!(!daemon.path("two.sock").exists());
    daemon.change(&place("two.sock"));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.wait_end().success());
    assert!(!daemon.path("two.sock").exists());
}

#[test]
fn second_daemon_does_not_take_the_control_socket() {
    let ([_one], table) = services([("cat", "program: /bin/cat")]);
    let first = Daemon::start(&table);
    let ([_two], table) = services([("cat", "program: /bin/cat")]);
    let mut second = Setup::new(&table);
    second.command.arg("--control").arg(first.path("control.sock"));
    // clap takes one --control only; the table says the same without it.
    let arguments: Vec<_> = second.command.get_args().map(ToOwned::to_owned).collect();
    let mut command = Command::new(support::OXINETD);
    let keep = arguments.iter().position(|argument| argument == "--control").unwrap();
    command.args(arguments[..keep].iter().chain(&arguments[keep + 2..]));
    command.stderr(fs::File::create(second.folder.path().join("stderr")).unwrap());
    second.command = command;
    let (status, error) = second.fail();
    assert_eq!(status.code(), Some(69), "{error}");
    assert!(error.contains("daemon.control") && error.contains("another daemon listens there"), "{error}");
    assert!(said(&first, &["audit"]).starts_with("clean"));
}

#[test]
fn missing_daemon_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let run = || Command::new(OXINETCTL).arg("--socket").arg(&socket).arg("status").output().unwrap();
    let (status, error) = wrong(&run());
    assert!(status == 69 && error.contains("is oxinetd running?"), "{error}");
    support::stop_listening(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (status, error) = wrong(&run());
    assert!(status == 69 && error.contains("oxinetd is not running"), "{error}");
    assert_eq!(Command::new(OXINETCTL).arg("dance").output().unwrap().status.code(), Some(64));
    assert_eq!(Command::new(OXINETCTL).output().unwrap().status.code(), Some(64));
}

/// The completion script of a shell for a program.
fn completions(shell: &str, program: &[&str]) -> String {
    let script = Command::new(OXINETCTL).args(["completions", shell]).args(program).output().unwrap();
    assert!(script.status.success() && script.stderr.is_empty(), "{shell} {program:?}: {script:?}");
    String::from_utf8(script.stdout).unwrap()
}

#[test]
fn completions_are_valid_shell_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let words = [(&[][..], ["explain", "drain", "metrics"]), (&["oxinetd"], ["dialect", "netbsd", "pid-file"])];
    for (shell, (program, words)) in ["bash", "zsh", "fish"].into_iter().flat_map(|shell| words.map(|of| (shell, of))) {
        let script = completions(shell, program);
        assert!(words.iter().all(|word| script.contains(word)), "{shell} {program:?}: {script}");
        assert!(!script.contains("take-over"), "{shell}: what no user types");
        if support::installed(shell).is_none() {
            skip(&format!("{shell} is not installed"));
            continue;
        }
        let file = folder.path().join(shell);
        fs::write(&file, script).unwrap();
        let output = Command::new(shell).arg("-n").arg(&file).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    }
}

/// What bash offers for the last word of a command line, as its manual ("Programmable Completion") says that it asks.
fn offered(script: &str, line: &[&str]) -> Vec<String> {
    const ASK: &str = r#"eval "$SCRIPT"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        how=($(complete -p "$1")); for place in "${!how[@]}"; do [ "${how[place]}" = -F ] && name=${how[place + 1]}; done
        before=$(($# - 1)); "$name" "$1" "${!#}" "${!before}"; printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let output = bash.args(["--norc", "-c", ASK, "bash"]).args(line).env("SCRIPT", script).output().unwrap();
    assert!(output.stderr.is_empty(), "{line:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_the_words_of_both_programs() {
    if support::installed("bash").is_none() {
        return skip("bash is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.yaml").display().to_string();
    fs::write(&table, "").unwrap();
    let (control, daemon) = (completions("bash", &["oxinetctl"]), completions("bash", &["oxinetd"]));
    assert_eq!(control, completions("bash", &[]), "the default");
    assert_eq!(offered(&control, &["oxinetctl", "ex"]), ["explain"]);
    assert_eq!(offered(&control, &["oxinetctl", "--format", ""]), ["table", "json"]);
    assert_eq!(offered(&control, &["oxinetctl", "completions", "bash", "oxinetd"]), ["oxinetd"]);
    assert_eq!(offered(&control, &["oxinetctl", "import", "--dialect", "f"]), ["freebsd"]);
    assert_eq!(offered(&daemon, &["oxinetd", "--d"]), ["--dialect", "--dump", "--daemonize"]);
    assert_eq!(offered(&daemon, &["oxinetd", "--check", "--dialect", "g"]), ["gnu"]);
    assert_eq!(offered(&daemon, &["oxinetd", "-c", table.strip_suffix(".yaml").unwrap()]), [table.as_str()]);
}
