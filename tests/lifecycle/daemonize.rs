//! `--daemonize`: the first process ends when the daemon is ready, or with what is wrong.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use crate::support::{OXINETD, ask_text, free_port, listening, services, state_of, wait_until};

/// A daemon that detaches itself: how its first process ends, and what it says.
fn daemonize(folder: &Path, table: &str) -> Output {
    fs::write(folder.join("table.yaml"), table).unwrap();
    let path = |name: &str| folder.join(name);
    let mut command = Command::new(OXINETD);
    command.args(["--daemonize", "-c"]).arg(path("table.yaml")).arg("--pid-file").arg(path("pid"));
    // A pipe would stay open in a daemon that has not closed it.
    command.arg("--log").arg(path("log")).stdin(Stdio::null()).output().unwrap()
}

/// Ends a process that is not our child, when it is dropped.
struct Stranger(i32);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

#[test]
fn daemonize_returns_when_the_daemon_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let ([port, other], table) = services([("cat", "program: /bin/cat"), ("other", "program: /bin/cat")]);
    let output = daemonize(folder.path(), &table);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid_file = folder.path().join("pid");
    let daemon = Stranger(fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap());
    assert_eq!(ask_text(port, "at once"), "at once");
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.0)).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[4], "0", "it has a terminal");
    assert_ne!(fields[3], daemon.0.to_string(), "it leads a session, and could get a terminal");
    for descriptor in 0..3 {
        let link = fs::read_link(format!("/proc/{}/fd/{descriptor}", daemon.0)).unwrap();
        assert_eq!(link, Path::new("/dev/null"));
    }
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", daemon.0)).unwrap(), Path::new("/"));

    // A second one is in the way of the first: by its ports, and without them by the pid file.
    let output = daemonize(folder.path(), &table);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let free = free_port();
    let output = daemonize(folder.path(), &format!("services: {{ cat: {{ listen: {free}, program: /bin/cat }} }}"));
    assert!(!output.status.success() && !output.stderr.is_empty(), "{output:?}");
    assert_eq!(listening(free), []);
    assert_eq!(fs::read_to_string(&pid_file).unwrap().trim(), daemon.0.to_string());
    assert_eq!(ask_text(other, "still there"), "still there");

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.0), Signal::SIGTERM).unwrap();
    wait_until("its end", || state_of(daemon.0).is_none_or(|state| state == 'Z'));
    assert!(!pid_file.exists());
}

#[test]
fn daemonize_fails_with_the_daemons_status() {
    let folder = tempfile::tempdir().unwrap();
    let output = daemonize(folder.path(), "services: { cat: { listen: x } }");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = daemonize(folder.path(), &format!("services: {{ a: {{ listen: {port}, program: /bin/cat }} }}"));
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"), "{output:?}");
    assert!(!folder.path().join("pid").exists());
}

#[test]
fn daemonize_refuses_to_log_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.yaml");
    let service = "services: { cat: { listen: 1, program: /bin/cat, log: { to: stderr } } }";
    for (content, key) in [("daemon: { log: { to: stderr } }", "daemon.log.to"), (service, "services.cat.log.to")] {
        fs::write(&table, content).unwrap();
        let output =
            Command::new(OXINETD).args(["--daemonize", "-c"]).arg(&table).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("a log to standard error would be lost") && stderr.contains(key), "{stderr}");
    }
}
