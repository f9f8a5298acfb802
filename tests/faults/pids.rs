//! Process ids in a namespace that has a hundred of them, a control group that may have only so many processes, and a user
//! who may: they come back, and they run out.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::support::{Daemon, connect_from, echo, free_port, hold, installed, is_root, listeners, skip, wait_until};
use super::{pair, settle, start_below, try_ask};

/// Ids below 300 are given once (`RESERVED_PIDS` in the kernel's pid.c); the others, up to this, again and again.
const IDS: usize = 400;

/// So many are given again and again.
const AGAIN: usize = 100;

/// A daemon as process 1 of a namespace with few ids, which Linux 6.14 and later can have.
fn start_with_few_ids(table: &str) -> Option<Daemon> {
    let script = format!("echo {IDS} > /proc/sys/kernel/pid_max && exec \"$0\" \"$@\"");
    let namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let own = |id: &str| fs::read_to_string(id).unwrap_or_default();
    let before = own("/proc/sys/kernel/pid_max");
    let try_it = "read most < /proc/sys/kernel/pid_max; echo 400 > /proc/sys/kernel/pid_max && test $most != 400";
    let works = is_root()
        && installed("unshare").is_some()
        && is_modern()
        && std::process::Command::new(namespace[0])
            .args(&namespace[1..])
            .args(["/bin/sh", "-c", try_it])
            .status()
            .is_ok_and(|status| status.success());
    if !works {
        skip("a namespace with few process ids needs root, unshare and Linux 6.14");
        return None;
    }
    let daemon = start_below(&[&namespace[..], &["/bin/sh", "-c", &script]].concat(), table);
    assert_eq!(own("/proc/sys/kernel/pid_max"), before, "only the namespace's own has changed");
    Some(daemon)
}

/// Before Linux 6.14 the number is that of the whole machine, and not to be touched.
fn is_modern() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

/// A connection to a `cat` that has said something; nothing if it was refused.
fn greet(source: u8, port: u16) -> Option<TcpStream> {
    let mut stream = connect_from([127, 0, 0, source], port).ok()?;
    let mut byte = [0];
    (stream.write_all(b"x").is_ok() && stream.read(&mut byte).is_ok_and(|size| size == 1)).then_some(stream)
}

/// So many connections of five sources, which live as long as ten to sixty others take.
fn ids_come_back(connections: u64) {
    let port = free_port();
    let quiet = "log: { accept: false, exit: false }";
    let table = format!(
        "services: {{ cat: {{ listen: {port}, program: /bin/cat, instances: 200, per_source: {{ instances: 40 }}, {quiet} }} }}"
    );
    let Some(daemon) = start_with_few_ids(&table) else { return };
    let mut held = VecDeque::new();
    for number in 0..connections {
        let source = u8::try_from(1 + number % 5).unwrap();
        held.push_back(greet(source, port).expect("nobody is refused"));
        let stays = 10 + number / 7 % 50;
        while held.len() as u64 > stays {
            // Not the oldest: ids come back in another order than they went.
            held.swap_remove_front(usize::try_from(number * 13).unwrap() % held.len());
        }
        if number % 500 == 0 {
            let status = daemon.status();
            assert_eq!(status["audit"], json!([]));
            assert!(status["handlers"].as_u64().unwrap() >= held.len() as u64, "{status}");
        }
    }
    let live = held.len();
    wait_until("the handlers of clients that have left to be gone", || daemon.count("cat") == live as u64);
    drop(held);
    daemon.wait_idle();
    let status = daemon.status();
    assert_eq!((&status["audit"], &status["sources"], &status["handlers"]), (&json!([]), &json!([]), &json!(0)));
    let cat = &status["services"]["cat"];
    assert_eq!((&cat["accepted"], &cat["exits"]["success"]), (&json!(connections), &json!(connections)));
    assert_eq!((daemon.zombies(), &cat["spawn_failures"]), (0, &json!({})));
}

#[test]
fn every_pid_is_reused_several_times() {
    ids_come_back(2_000);
}

#[test]
#[ignore = "a minute; CI_FULL=1 runs it"]
fn every_pid_is_reused_two_hundred_times() {
    ids_come_back(20_000);
}

#[test]
fn pids_run_out_and_come_back() {
    let (port, other) = (free_port(), free_port());
    let table = format!(
        "services: {{ cat: {{ listen: {port}, program: /bin/cat, instances: unlimited }}, other: {{ listen: {other}, program: /bin/cat }} }}"
    );
    let Some(daemon) = start_with_few_ids(&table) else { return };
    let full = |service| listeners(&daemon.status(), service) == ["paused resources"];
    for _ in 0..2 {
        let mut held = Vec::new();
        while let Some(stream) = greet(1, port) {
            held.push(stream);
            assert!(held.len() <= IDS, "there are no more ids");
        }
        assert!(held.len() > AGAIN / 2, "{} were had", held.len());
        assert!(greet(2, other).is_none(), "the ids are those of all services");
        daemon.wait_log(&["spawn_failed", "service=cat", "step=clone", "errno=11"]);
        wait_until("the listeners to be left alone", || full("cat") || full("other"));
        assert_eq!((daemon.count("cat"), &daemon.status()["audit"]), (held.len() as u64, &json!([])));
        held.pop();
        wait_until("a client to be served in place of the one that has left", || greet(2, other).is_some());
        drop(held);
        daemon.wait_idle();
        assert!(greet(1, port).is_some() && greet(2, other).is_some());
    }
    daemon.wait_idle();
    assert_eq!((daemon.zombies(), &daemon.status()["audit"]), (0, &json!([])));
}

/// A control group for a number of processes, removed with this.
struct Group(PathBuf);

impl Group {
    /// Below the one hierarchy (version 2), or that of pids (version 1); nothing where there is neither, or not for us.
    fn new(name: &str) -> Option<Self> {
        let name = format!("oxinetd-test-{name}-{}", std::process::id());
        let made = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"].into_iter().find_map(|root| {
            let folder = Path::new(root).join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            group.0.join("pids.max").exists().then_some(group)
        });
        if made.is_none() {
            skip("a limit on the processes of a control group needs root and a control group with pids.max");
        }
        made
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap();
    }

    fn count(&self) -> usize {
        fs::read_to_string(self.0.join("pids.current")).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn control_group_is_full_and_has_room_again() {
    let Some(group) = Group::new("full") else { return };
    let (ports, table) = pair("instances: unlimited");
    let daemon = Daemon::start(&table);
    group.write("cgroup.procs", &daemon.pid.to_string());
    for _ in 0..2 {
        group.write("pids.max", &(group.count() + 5).to_string());
        let mut held: Vec<_> = (0..5).map(|_| hold(ports[0])).collect();
        assert_eq!(try_ask(ports[1]), b"", "there is no place for another process");
        daemon.wait_log(&["spawn_failed", "service=other", "step=clone", "errno=11"]);
        held.iter_mut().for_each(|session| echo(session, "still here\n"));
        assert_eq!((daemon.count("one"), &daemon.status()["audit"]), (5, &json!([])));
        held.pop();
        wait_until("a client to be served in place of the one that has left", || try_ask(ports[1]) == b"x");
        drop(held);
        group.write("pids.max", "max");
        settle(&daemon, &ports);
    }
    // The group must be empty before it can be removed.
    drop(daemon);
}

#[test]
fn user_reaches_the_nproc_limit_and_has_room_again() {
    if !is_root() {
        return skip("to become another user needs root");
    }
    // A user who has no other process on this machine.
    let (ports, table) = pair("user: 61234, group: 61234, groups: none, rlimits: { nproc: 3 }, instances: unlimited");
    let daemon = Daemon::start(&table);
    for _ in 0..2 {
        // The kernel lets one more process become that user, and refuses its program (execve(2), EAGAIN). Some kernels count the
        // limit itself in, some do not.
        let mut held: Vec<_> = std::iter::from_fn(|| greet(1, ports[0])).take(5).collect();
        assert!((3..5).contains(&held.len()), "{} of 3", held.len());
        daemon.wait_log(&["spawn_failed", "service=one", "step=exec", "errno=11"]);
        assert_eq!(try_ask(ports[1]), b"x", "that concerns no other service");
        held.iter_mut().for_each(|session| echo(session, "still here\n"));
        assert_eq!((daemon.count("one"), &daemon.status()["audit"]), (held.len() as u64, &json!([])));
        held.pop();
        wait_until("a client to be served in place of the one that has left", || try_ask(ports[0]) == b"x");
        drop(held);
        // As long as they live, the others are not served.
        daemon.wait_idle();
        settle(&daemon, &ports);
    }
}
