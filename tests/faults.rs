//! What the kernel refuses, one connection pays for: it is turned away and reported, and everything else goes on.
//!
//! strace(1) makes system calls fail on demand; descriptors, a disk and a pipe really run out; a handler is stopped
//! before it is one. Afterwards the books are as if nothing had happened, and nothing has been leaked.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use support::{
    Daemon, OXINETD, Setup, ask, ask_text, children_of, connect, echo, free_port, hold, installed, is_root, listeners,
    services, skip, wait_for, wait_until,
};

/// A daemon that is the child of another program.
fn start_below(prefix: &[&str], table: &str) -> Daemon {
    below(Setup::run_by(&[prefix, &[OXINETD]].concat(), table).start())
}

fn below(mut daemon: Daemon) -> Daemon {
    daemon.pid = wait_for("the daemon itself", || children_of(daemon.pid).first().copied());
    daemon
}

/// A daemon whose system calls fail as `fault` says (strace(1), "Tampering"). `None` where that can't be had.
fn start_with(fault: &str, table: &str) -> Option<Daemon> {
    let call = fault.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={fault}"));
    let works = installed("strace").is_some_and(|strace| {
        let tried = Command::new(strace).args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "/bin/true"]).status();
        tried.is_ok_and(|status| status.success())
    });
    if !works {
        skip("no strace, or it may not trace here: no fault can be injected");
        return None;
    }
    Some(start_below(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], table))
}

/// Two services that repeat what they hear; `keys` are more keys of the first.
fn pair(keys: &str) -> ([u16; 2], String) {
    services([("one", &format!("program: /bin/cat, {keys}")), ("other", "program: /bin/cat")])
}

/// What a client gets to hear; nothing if it is turned away.
fn try_ask(port: u16) -> Vec<u8> {
    ask(connect(port), b"x").unwrap_or_default()
}

/// The number of the daemon's descriptors between two turns, when its log has found out about the time zone.
fn settled_descriptors(daemon: &Daemon) -> usize {
    daemon.status();
    daemon.descriptors()
}

/// Both services work (again), and the books agree with the kernel's: nobody is left.
fn settle(daemon: &Daemon, ports: &[u16]) -> Value {
    for &port in ports {
        assert_eq!(ask_text(port, "after"), "after");
    }
    daemon.wait_idle();
    let status = daemon.status();
    assert_eq!((&status["audit"], &status["sources"]), (&json!([]), &json!([])));
    assert_eq!(
        (&status["services"]["one"]["handlers"], &status["services"]["other"]["handlers"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(daemon.zombies(), 0);
    status
}

#[test]
fn no_process_can_be_made() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("clone:error=EAGAIN:when=2", &table) else { return };
    let before = settled_descriptors(&daemon);
    assert_eq!(ask_text(ports[0], "first"), "first");
    assert_eq!(try_ask(ports[0]), b"");
    daemon.wait_log(&["spawn_failed", "service=one", "step=clone"]);
    let status = settle(&daemon, &ports);
    assert_eq!(status["services"]["one"]["spawn_failures"], json!({ "clone": 1 }));
    assert_eq!(status["services"]["one"]["refused"], json!({ "spawn_failed": 1 }));
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn no_descriptor_for_a_connection() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("accept4:error=EMFILE:when=1", &table) else { return };
    let before = settled_descriptors(&daemon);
    assert_eq!(try_ask(ports[0]), b"", "the reserved descriptor is for turning this client away");
    daemon.wait_log(&["pause", "service=one", "reason=resources"]);
    let status = settle(&daemon, &ports);
    assert_eq!(status["services"]["one"]["refused"], json!({ "resources": 1 }));
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn groups_that_cannot_be_set() {
    if !is_root() {
        return skip("only root becomes somebody else");
    }
    let (ports, table) = pair("user: nobody");
    let Some(daemon) = start_with("setgroups:error=EPERM", &table) else { return };
    for _ in 0..3 {
        assert_eq!(try_ask(ports[0]), b"", "with the daemon's groups nobody may be served");
    }
    daemon.wait_log(&["spawn_failed", "service=one", "step=groups", "errno=1"]);
    let status = settle(&daemon, &ports[1..]);
    assert_eq!(status["services"]["one"]["spawn_failures"], json!({ "groups": 3 }));
    assert_eq!(status["services"]["one"]["accepted"], 0);
}

#[test]
fn a_program_that_has_gone() {
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
fn a_table_of_descriptors_that_cannot_be_closed() {
    // The second call of each child; the daemon itself makes one, at its start.
    let (ports, table) = pair("");
    let Some(daemon) = start_with("close_range:error=ENOMEM:when=2", &table) else { return };
    let before = settled_descriptors(&daemon);
    for port in ports {
        assert_eq!(try_ask(port), b"", "a handler with descriptors of the daemon");
    }
    daemon.wait_log(&["spawn_failed", "service=other", "step=descriptors", "errno=12"]);
    settle(&daemon, &[]);
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn no_memory_to_watch_a_listener() {
    // The first two calls are for the signals and the reaper.
    let (ports, table) = pair("");
    let Some(daemon) = start_with("epoll_ctl:error=ENOMEM:when=3", &table) else { return };
    settle(&daemon, &ports);
    assert_eq!(listeners(&daemon.status(), "one"), ["listening"]);
}

#[test]
fn no_memory_to_watch_a_handler() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("epoll_ctl:error=ENOMEM:when=5", &table) else { return };
    assert_eq!(ask_text(ports[0], "unwatched"), "unwatched");
    let status = settle(&daemon, &ports);
    assert_eq!(status["services"]["one"]["exits"]["success"], 2);
}

#[test]
fn a_handler_that_somebody_else_has_collected() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("waitid:error=ECHILD:when=1", &table) else { return };
    assert_eq!(ask_text(ports[0], "stolen"), "stolen");
    daemon.wait_log(&["warning", "not ours to collect"]);
    assert_eq!((daemon.count("one"), &daemon.status()["audit"]), (0, &json!([])));
    assert_eq!(ask_text(ports[0], "after"), "after");
}

#[test]
fn a_child_that_is_stopped_before_it_is_a_handler() {
    // As whom it is to run can do so at any moment. Nobody waits for it: others are served, also of its own service, and
    // it counts as the live process that it is.
    let (ports, table) = pair("nice: 1, lifetime: 2s, per_source: { instances: 2 }");
    let Some(daemon) = start_with("setpriority:signal=SIGSTOP", &table) else { return };
    let stopped = [connect(ports[0]), connect(ports[0])];
    wait_until("both to be started", || daemon.count("one") == 2);
    for _ in 0..50 {
        assert_eq!(ask_text(ports[1], "meanwhile"), "meanwhile");
    }
    assert_eq!(try_ask(ports[0]), b"", "two is the limit");
    assert_eq!(daemon.status()["audit"], json!([]));
    for _ in 0..2 {
        daemon.reload().unwrap();
    }
    daemon.wait_log(&["kill", "service=one", "signal=SIGKILL"]);
    wait_until("their end", || daemon.count("one") == 0);
    drop(stopped);
    let status = settle(&daemon, &ports[1..]);
    assert_eq!(status["services"]["one"]["exits"]["signal"], 2);
}

/// Sets the daemon's limit on open files; the kernel looks at it for new ones only.
fn limit_descriptors(daemon: &Daemon, limit: usize) {
    let limit = format!("--nofile={limit}:");
    assert!(Command::new("prlimit").args(["--pid", &daemon.pid.to_string(), &limit]).status().unwrap().success());
}

/// User and system time of a process, in hundredths of a second.
fn cpu(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat[stat.rfind(')').unwrap() + 2..].split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn descriptors_run_out_and_come_back() {
    let (ports, table) = pair("instances: unlimited");
    let daemon = Daemon::start(&table);
    let mut session = hold(ports[0]);
    let before = settled_descriptors(&daemon);
    // 3: not even a connection. 4: one for a connection, none for a handler.
    for limit in [3, 4] {
        limit_descriptors(&daemon, limit);
        let waiting: Vec<_> = (0..20).flat_map(|_| ports.map(connect)).collect();
        wait_until("the shortage", || listeners(&daemon.status(), "one") == ["paused resources"]);
        let spent = cpu(daemon.pid);
        thread::sleep(Duration::from_secs(1));
        let spent = cpu(daemon.pid) - spent;
        assert!(spent < 50, "it spins: {spent} % of a second");
        echo(&mut session, "still here\n");
        drop(waiting);
        limit_descriptors(&daemon, 4096);
        wait_until("service to go on", || ports.iter().all(|&port| try_ask(port) == b"x"));
    }
    wait_until("the rest to end", || children_of(daemon.pid).len() == 1 && daemon.count("one") == 1);
    // The reserved one may be gone.
    assert!(daemon.descriptors() <= before, "descriptors have been leaked");
    drop(session);
    settle(&daemon, &ports);
}

#[test]
fn few_descriptors_are_enough_to_start_with() {
    let (ports, table) = pair("");
    let daemon = Setup::run_by(&["prlimit", "--nofile=24", OXINETD], &table).start();
    let _session = hold(ports[0]);
    let second = connect(ports[1]);
    wait_until("the daemon to be full", || listeners(&daemon.status(), "other") == ["paused daemon_instances"]);
    drop((_session, second));
    settle(&daemon, &ports);
}

#[test]
fn listeners_may_have_more_than_half_of_the_descriptors() {
    let entry = |number| format!("  s{number}: {{ listen: 'unix:FOLDER/s{number}', program: /bin/cat }}\n");
    let table = format!("services:\n{}", (0..700).map(entry).collect::<String>());
    let daemon = Setup::run_by(&["prlimit", "--nofile=1024", OXINETD], &table).start();
    for number in [0, 699] {
        let mut stream = UnixStream::connect(daemon.path(&format!("s{number}"))).unwrap();
        stream.write_all(b"x").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(std::io::read_to_string(stream).unwrap(), "x");
    }
    daemon.wait_idle();
}

#[test]
fn sockets_that_were_promised_and_not_passed() {
    let (_, table) = pair("");
    for count in ["2147483647", "1000000", "2"] {
        let script = format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" \"$@\"");
        let (status, stderr) = Setup::run_by(&["/bin/sh", "-c", &script, OXINETD], &table).fail();
        assert_eq!(status.code(), Some(64), "{stderr}");
        assert!(stderr.starts_with("oxinetd: LISTEN_FDS: "), "{stderr}");
    }
}

#[test]
fn a_log_on_a_full_disk() {
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
fn a_log_pipe_that_nobody_reads() {
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

#[test]
fn a_crowd_of_orphans_of_process_1() {
    if !is_root() || installed("unshare").is_none() {
        return skip("to be process 1 needs root and unshare");
    }
    const CROWD: usize = 300;
    let script = format!(
        "exec < /dev/null > /dev/null; i=0; while [ $i -lt {CROWD} ]; do (: < FOLDER/gate &); i=$((i+1)); done"
    );
    let port = free_port();
    let table = format!("services: {{ crowd: {{ listen: {port}, program: [/bin/sh, -c, '{script}'] }} }}");
    let daemon = start_below(&["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"], &table);
    nix::unistd::mkfifo(&daemon.path("gate"), Mode::S_IRWXU).unwrap();
    assert_eq!(try_ask(port), b"");
    wait_until("the orphans", || daemon.children().len() == CROWD && daemon.count("crowd") == 0);
    daemon.signal(Signal::SIGSTOP);
    // Whoever opens it meanwhile finds a reader gone or the end of the file: all come through.
    drop(File::options().read(true).write(true).open(daemon.path("gate")).unwrap());
    wait_until("their end", || daemon.zombies() == CROWD);
    daemon.signal(Signal::SIGCONT);
    wait_until("all to be collected", || children_of(daemon.pid).is_empty());
}

#[test]
fn a_socket_file_that_has_become_a_link_to_another() {
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
fn clients_who_are_gone_before_they_are_accepted() {
    let [tcp, other] = [free_port(), free_port()];
    let keys = "program: /bin/cat, per_source: { instances: 40 }, per_network: { instances: 40 }";
    let daemon = Daemon::start(&format!(
        "services:\n  one: {{ listen: [{tcp}, 'unix:FOLDER/sock'], {keys} }}\n  other: {{ listen: {other}, program: /bin/cat }}\n"
    ));
    for _ in 0..3 {
        daemon.signal(Signal::SIGSTOP);
        wait_until("the daemon to stop", || support::state_of(daemon.pid) == Some('T'));
        for _ in 0..15 {
            // A reset, before anybody has looked who is there: getpeername(2) says ENOTCONN from now on.
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
