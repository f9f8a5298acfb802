//! Programs that have gone, children that are stopped, orphans, and files that have become others.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::json;

use super::injected::start_with;
use super::support::{
    Daemon, Setup, ask_text, children_of, connect, free_port, hold, installed, is_root, skip, wait_until,
};
use super::{pair, settle, start_below, try_ask};

#[test]
fn program_is_removed() {
    let (ports, table) = pair("");
    let setup = Setup::new(&table.replacen("/bin/cat", "FOLDER/program", 1));
    symlink("/bin/cat", setup.folder.path().join("program")).unwrap();
    let daemon = setup.start();
    fs::remove_file(daemon.path("program")).unwrap();
    assert_eq!(try_ask(ports[0]), b"");
    daemon.wait_log(&["spawn_failed", "service=one", "step=exec", "errno=2"]);
    symlink("/bin/cat", daemon.path("program")).unwrap();
    let status = settle(&daemon, &ports);
    assert_eq!(status["services"]["one"]["spawn_failures"], json!({ "exec": 1 }));
}

#[test]
fn child_is_stopped_before_exec() {
    // A busy machine may need longer for the questions than the children live.
    assert!([2, 10, 50].into_iter().any(stopped_children_are_counted), "never in time");
}

/// The user of a service can stop its children at any moment. Nobody waits for them: others are served, also of the same
/// service, and they count as the live processes that they are. False if they were ended before all questions were asked.
fn stopped_children_are_counted(lifetime: u32) -> bool {
    let (ports, table) = pair(&format!("nice: 1, lifetime: {lifetime}s, per_source: {{ instances: 2 }}"));
    let Some(daemon) = start_with("setpriority:signal=SIGSTOP", &table) else { return true };
    let killed = || daemon.log().lines().any(|line| line.contains(" kill ") && line.contains("service=one"));
    let stopped = [connect(ports[0]), connect(ports[0])];
    wait_until("both to be started", || daemon.count("one") == 2 || killed());
    for _ in 0..50 {
        assert_eq!(ask_text(ports[1], "meanwhile"), "meanwhile");
    }
    let refused = try_ask(ports[0]);
    assert_eq!(daemon.status()["audit"], json!([]));
    for _ in 0..2 {
        daemon.reload().unwrap();
    }
    if killed() {
        return false;
    }
    assert_eq!(refused, b"", "two is the limit");
    daemon.wait_log(&["kill", "service=one", "signal=SIGKILL"]);
    wait_until("their end", || daemon.count("one") == 0);
    drop(stopped);
    let status = settle(&daemon, &ports[1..]);
    assert_eq!(status["services"]["one"]["exits"]["signal"], 2);
    true
}

#[test]
fn process_1_collects_many_orphans() {
    if !is_root() || installed("unshare").is_none() {
        return skip("to be process 1 needs root and unshare");
    }
    const CROWD: usize = 300;
    let script = format!(
        "exec < /dev/null > /dev/null; i=0; while [ $i -lt {CROWD} ]; do (: < FOLDER/gate &); i=$((i+1)); done"
    );
    let [port, other] = [free_port(), free_port()];
    let table = format!(
        "services: {{ crowd: {{ listen: {port}, program: [/bin/sh, -c, '{script}'] }},
        other: {{ listen: {other}, program: /bin/cat }} }}"
    );
    let daemon = start_below(&["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"], &table);
    nix::unistd::mkfifo(&daemon.path("gate"), Mode::S_IRWXU).unwrap();
    let session = hold(other);
    assert_eq!(try_ask(port), b"");
    wait_until("the orphans", || daemon.children().len() == CROWD + 1 && daemon.count("crowd") == 0);
    daemon.signal(Signal::SIGSTOP);
    // An orphan that opens it meanwhile finds a reader gone or the end of the file: all come through.
    drop(File::options().read(true).write(true).open(daemon.path("gate")).unwrap());
    wait_until("their end", || daemon.zombies() == CROWD);
    daemon.signal(Signal::SIGCONT);
    wait_until("all to be collected but the handler", || children_of(daemon.pid).len() == 1);
    assert_eq!(daemon.count("other"), 1);
    drop(session);
    wait_until("the handler, too", || children_of(daemon.pid).is_empty());
}

#[test]
fn socket_file_became_a_link_to_another() {
    let table = |mode: &str| {
        format!(
            "services: {{ cat: {{ listen: 'unix:FOLDER/socket', socket: {{ mode: '{mode}' }}, program: /bin/cat }} }}"
        )
    };
    let daemon = Daemon::start(&table("600"));
    let secret = daemon.path("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(daemon.path("socket")).unwrap();
    symlink(&secret, daemon.path("socket")).unwrap();
    daemon.change(&table("666"));
    daemon.wait_log(&["warning", "the socket stays as it was"]);
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn clients_leave_before_they_are_accepted() {
    let [tcp, other] = [free_port(), free_port()];
    let keys = "program: /bin/cat, per_source: { instances: 40 }, per_network: { instances: 40 }";
    let daemon = Daemon::start(&format!(
        "services:\n  one: {{ listen: [{tcp}, 'unix:FOLDER/sock'], {keys} }}\n  other: {{ listen: {other}, program: /bin/cat }}\n"
    ));
    for _ in 0..3 {
        daemon.stand_still();
        for _ in 0..15 {
            // A reset, before the daemon has asked for the address: getpeername(2) says ENOTCONN from now on.
            let stream = connect(tcp);
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
            drop(stream);
            drop(UnixStream::connect(daemon.path("sock")).unwrap());
        }
        daemon.signal(Signal::SIGCONT);
        wait_until("the others to be served", || try_ask(other) == b"x");
        wait_until("room again", || try_ask(tcp) == b"x");
        daemon.wait_idle();
    }
    let status = daemon.status();
    assert_eq!([&status["audit"], &status["sources"], &status["networks"]], [&json!([]); 3]);
    assert_eq!(status["services"]["one"]["handlers"], 0);
}
