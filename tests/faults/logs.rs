//! A log that can't be written, is not read, or is not there: what it loses is counted, and no client waits for it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::stat::Mode;
use serde_json::json;

use super::support::{Daemon, OXINETD, Setup, ask_text, children_of, installed, is_root, skip, wait_until};
use super::{ctl, pair, settle};

#[test]
fn log_on_a_full_disk() {
    let (ports, table) = pair("");
    let setup = Setup::new(&table);
    let log = setup.folder.path().join("log");
    symlink("/dev/full", &log).unwrap();
    let daemon = setup.start();
    for _ in 0..20 {
        assert_eq!(ask_text(ports[0], "unheard"), "unheard");
    }
    daemon.reload().unwrap();
    fs::remove_file(log).unwrap();
    daemon.reload().unwrap();
    let status = settle(&daemon, &ports);
    // 20 accepts at the least; lines of their ends may have come to the new file.
    assert!(status["log_lines_dropped"].as_u64().unwrap() >= 20, "{status}");
}

#[test]
fn log_pipe_that_is_not_read() {
    let (ports, table) = pair("");
    let setup = Setup::new(&table);
    let log = setup.folder.path().join("log");
    nix::unistd::mkfifo(&log, Mode::S_IRWXU).unwrap();
    let reader = File::options().read(true).write(true).open(&log).unwrap();
    let daemon = setup.start();
    // About 170 bytes each: a pipe holds 65,536.
    for _ in 0..600 {
        assert_eq!(ask_text(ports[0], "unheard"), "unheard");
    }
    let before = daemon.descriptors();
    for _ in 0..40 {
        daemon.reload().unwrap();
    }
    assert!(daemon.descriptors() < before + 10, "{before}, {}: the log's files pile up", daemon.descriptors());
    assert_eq!(ask_text(ports[1], "served"), "served");
    fs::remove_file(log).unwrap();
    daemon.reload().unwrap();
    drop(reader);
    settle(&daemon, &ports);
}

/// A daemon that a script starts in a mount namespace of its own. `$0` is the program, the arguments follow.
fn start_in_namespace(script: &str, table: &str) -> Option<Daemon> {
    if !is_root() || installed("unshare").is_none() {
        skip("mounts need root and unshare");
        return None;
    }
    let table_of_folder = table.replace("SCRIPT", "");
    let mut setup = Setup::run_by(&["unshare", "--mount", "/bin/sh", "-ec"], &table_of_folder);
    let folder = setup.folder.path().to_str().unwrap().to_owned();
    let arguments: Vec<_> = setup.command.get_args().skip(3).map(ToOwned::to_owned).collect();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-ec", &script.replace("FOLDER", &folder), OXINETD]).args(arguments);
    command.env("NOTIFY_SOCKET", setup.folder.path().join("notify")).stdin(std::process::Stdio::null());
    command.stderr(File::create(setup.folder.path().join("stderr")).unwrap());
    setup.command = command;
    Some(setup.start())
}

fn lines_lost(daemon: &Daemon) -> u64 {
    ctl(daemon, "status")["log_lines_dropped"].as_u64().unwrap()
}

/// A daemon with a /dev of its own, in which there is a place for the socket of syslog.
fn start_with_own_dev(log: &str, table: &str) -> Option<Daemon> {
    let script = "mkdir FOLDER/dev; for name in null zero urandom; do : > FOLDER/dev/$name; mount --bind /dev/$name FOLDER/dev/$name; done
        mount --rbind FOLDER/dev /dev; exec \"$0\" \"$1\" \"$2\" --log LOG \"$5\" \"$6\"";
    start_in_namespace(&script.replace("LOG", log), table)
}

/// No handler is left, asked without the log.
fn settle_quietly(daemon: &Daemon) {
    wait_until("all handlers to be gone", || {
        children_of(daemon.pid).is_empty() && ctl(daemon, "status")["handlers"] == 0
    });
    assert_eq!(ctl(daemon, "audit")["drifts"], json!([]));
}

#[test]
fn disk_fills_up_and_is_emptied() {
    let (ports, table) = pair("");
    let script =
        "mkdir FOLDER/disk; mount -t tmpfs -o size=96k none FOLDER/disk; head -c 32768 /dev/zero > FOLDER/disk/ballast;
        ln -s FOLDER/disk/log FOLDER/log; exec \"$0\" \"$@\"";
    let Some(daemon) = start_in_namespace(script, &table) else { return };
    // What the daemon sees under that name.
    let inside = |name: &str| {
        let path = daemon.path("disk").join(name);
        PathBuf::from(format!("/proc/{}/root{}", daemon.pid, path.display()))
    };
    let log = || fs::read_to_string(inside("log")).unwrap_or_default();
    wait_until("the disk to be full", || {
        assert_eq!(ask_text(ports[0], "unheard"), "unheard");
        lines_lost(&daemon) > 20
    });
    fs::remove_file(inside("ballast")).unwrap();
    let full = log().len();
    wait_until("a line after that", || {
        assert_eq!(ask_text(ports[1], "heard"), "heard");
        log()
            .get(full..)
            .is_some_and(|rest| rest.lines().any(|line| line.contains("service=other") && line.contains("exit")))
    });
    let log = log();
    let torn = log.lines().filter(|line| !line.starts_with("20")).count();
    assert_eq!(torn, 0, "each line begins as one: {log}");
    settle_quietly(&daemon);
}

#[test]
fn syslog_is_absent_then_stuck_then_restarted() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with_own_dev("syslog", &table) else { return };
    let path = daemon.path("dev").join("log");
    let serve = |word| ports.map(|port| assert_eq!(ask_text(port, word), word));
    wait_until("lines to be lost", || {
        serve("absent");
        lines_lost(&daemon) > 10
    });
    for _ in 0..2 {
        let syslog = UnixDatagram::bind(&path).unwrap();
        syslog.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut bytes = [0; 4096];
        wait_until("a line", || {
            serve("heard");
            syslog.recv(&mut bytes).is_ok_and(|size| bytes[..size].starts_with(b"<30>"))
        });
        // It is not read any more: the queue of the socket fills.
        let before = lines_lost(&daemon);
        wait_until("lines to be lost", || {
            serve("stuck");
            lines_lost(&daemon) > before
        });
        drop(syslog);
        fs::remove_file(&path).unwrap();
    }
    settle_quietly(&daemon);
}

#[test]
fn service_with_a_facility_of_its_own() {
    let (ports, table) = pair("log: { to: syslog, facility: local3 }");
    let Some(daemon) = start_with_own_dev("\"$4\"", &table) else { return };
    let syslog = UnixDatagram::bind(daemon.path("dev").join("log")).unwrap();
    syslog.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = [0; 4096];
    let mut heard = Vec::new();
    wait_until("a beginning and an end", || {
        ports.iter().for_each(|port| assert_eq!(ask_text(*port, "word"), "word"));
        while let Ok(size) = syslog.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(&bytes[..size]).into_owned());
        }
        ["accept", "exit"].iter().all(|verb| heard.iter().any(|line| line.contains(&format!(": {verb} service="))))
    });
    // RFC 3164: 19 for local3, times 8, and 6 for informational.
    assert!(heard.iter().all(|line| line.starts_with("<158>") && line.contains(" service=one ")), "{heard:?}");
    settle_quietly(&daemon);
}
