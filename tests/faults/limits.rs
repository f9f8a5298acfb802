//! Descriptors and memory run out, and come back.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::support::{Daemon, OXINETD, Setup, ask, children_of, connect, echo, field, hold, listeners, wait_until};
use super::{pair, settle, try_ask};

/// Sets a soft limit of the daemon, by an option of prlimit(1).
fn set_limit(daemon: &Daemon, option: &str) {
    let status = Command::new("prlimit").args(["--pid", &daemon.pid.to_string(), option]).status();
    assert!(status.unwrap().success());
}

/// Sets the daemon's limit on open files; the kernel looks at it for new ones only.
fn limit_descriptors(daemon: &Daemon, limit: usize) {
    set_limit(daemon, &format!("--nofile={limit}:"));
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
    let before = daemon.settled_descriptors();
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

/// How many descriptors whatever is started here has already, such as those of make's job server.
fn inherited() -> usize {
    let flags = |fd| fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok();
    let stays = |info: &str| {
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_CLOEXEC as u32 == 0
    };
    (3..1024).filter_map(flags).filter(|info| stays(info)).count()
}

#[test]
fn start_with_few_descriptors() {
    let (ports, table) = pair("");
    let limit = format!("--nofile={}", 24 + inherited());
    let daemon = Setup::run_by(&["prlimit", &limit, OXINETD], &table).start();
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
fn passed_sockets_are_missing() {
    let (_, table) = pair("");
    // One of the last must be missing, whatever is inherited.
    for count in [2_147_483_647, 1_000_000, inherited() + 2] {
        let script = format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" \"$@\"");
        let (status, stderr) = Setup::run_by(&["/bin/sh", "-c", &script, OXINETD], &table).fail();
        assert_eq!(status.code(), Some(64), "{stderr}");
        assert!(stderr.starts_with("oxinetd: LISTEN_FDS: "), "{stderr}");
    }
}

/// Not a page more than it has, nor for its handlers, which have the limit too: cat does with less.
fn limit_memory_to_what_it_has(daemon: &Daemon) {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid)).unwrap();
    let size: u64 = field(&status, "VmSize").trim_end_matches(" kB").parse().unwrap();
    set_limit(daemon, &format!("--as={}:", size * 1024));
}

#[test]
fn daemon_without_more_memory_goes_on_serving() {
    let (ports, table) = pair("instances: unlimited");
    let daemon = Daemon::start(&table);
    let crowd = || drop((0..40).map(|_| hold(ports[0])).collect::<Vec<_>>());
    crowd();
    settle(&daemon, &ports);
    limit_memory_to_what_it_has(&daemon);
    let mut session = hold(ports[0]);
    for _ in 0..5 {
        crowd();
        assert_eq!(try_ask(ports[1]), b"x");
    }
    echo(&mut session, "still here\n");
    set_limit(&daemon, "--as=unlimited:");
    drop(session);
    settle(&daemon, &ports);
}

#[test]
fn starts_follow_one_another_without_memory_for_more() {
    let (ports, table) = pair("instances: unlimited");
    let daemon = Daemon::start(&table);
    settle(&daemon, &ports);
    limit_memory_to_what_it_has(&daemon);
    // Eight clients that come at once. Where processors are busy a start may take longer than it is waited for.
    wait_until("all of them to be served", || {
        daemon.stand_still();
        let clients: Vec<_> = (0..8).map(|_| connect(ports[0])).collect();
        daemon.signal(Signal::SIGCONT);
        clients.into_iter().all(|client| ask(client, b"x").is_ok_and(|answer| answer == b"x"))
    });
    set_limit(&daemon, "--as=unlimited:");
    settle(&daemon, &ports);
}
