//! System calls that fail on demand, at one place or at all.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::support::{
    Daemon, Setup, ask_text, children_of, field, installed, is_root, listeners, services, skip, wait_until,
};
use super::{pair, settle, start_below, try_ask};

/// A daemon whose system calls fail as `fault` says (strace(1), "Tampering"). `None` where that can't be had.
pub(super) fn start_with(fault: &str, table: &str) -> Option<Daemon> {
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

#[test]
fn clone_fails() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("clone:error=EAGAIN:when=2", &table) else { return };
    let before = daemon.settled_descriptors();
    assert_eq!(ask_text(ports[0], "first"), "first");
    assert_eq!(try_ask(ports[0]), b"");
    daemon.wait_log(&["spawn_failed", "service=one", "step=clone"]);
    let status = settle(&daemon, &ports);
    assert_eq!(status["services"]["one"]["spawn_failures"], json!({ "clone": 1 }));
    assert_eq!(status["services"]["one"]["refused"], json!({ "spawn_failed": 1 }));
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn accept_fails_for_lack_of_descriptors() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("accept4:error=EMFILE:when=1", &table) else { return };
    let before = daemon.settled_descriptors();
    assert_eq!(try_ask(ports[0]), b"", "the reserved descriptor is for turning this client away");
    daemon.wait_log(&["pause", "service=one", "reason=resources"]);
    let status = settle(&daemon, &ports);
    assert_eq!(status["services"]["one"]["refused"], json!({ "resources": 1 }));
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn setgroups_fails() {
    if !is_root() {
        return skip("only root can run handlers as another user");
    }
    let (ports, table) = pair("user: nobody");
    let Some(daemon) = start_with("setgroups:error=EPERM", &table) else { return };
    for _ in 0..3 {
        assert_eq!(try_ask(ports[0]), b"", "no client may be served with the daemon's groups");
    }
    daemon.wait_log(&["spawn_failed", "service=one", "step=groups", "errno=1"]);
    let status = settle(&daemon, &ports[1..]);
    assert_eq!(status["services"]["one"]["spawn_failures"], json!({ "groups": 3 }));
    assert_eq!(status["services"]["one"]["accepted"], 0);
}

#[test]
fn close_range_fails() {
    // The second call of each child; the daemon itself makes one, at its start.
    let (ports, table) = pair("");
    let Some(daemon) = start_with("close_range:error=ENOMEM:when=2", &table) else { return };
    let before = daemon.settled_descriptors();
    for port in ports {
        assert_eq!(try_ask(port), b"", "a handler with descriptors of the daemon");
    }
    daemon.wait_log(&["spawn_failed", "service=other", "step=descriptors", "errno=12"]);
    settle(&daemon, &[]);
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn epoll_ctl_fails_for_a_listener() {
    // The first two calls are for the signals and the reaper.
    let (ports, table) = pair("");
    let Some(daemon) = start_with("epoll_ctl:error=ENOMEM:when=3", &table) else { return };
    settle(&daemon, &ports);
    assert_eq!(listeners(&daemon.status(), "one"), ["listening"]);
}

#[test]
fn epoll_ctl_fails_for_a_handler() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("epoll_ctl:error=ENOMEM:when=5", &table) else { return };
    assert_eq!(ask_text(ports[0], "unwatched"), "unwatched");
    let status = settle(&daemon, &ports);
    assert_eq!(status["services"]["one"]["exits"]["success"], 2);
}

#[test]
fn handler_was_collected_by_another() {
    let (ports, table) = pair("");
    let Some(daemon) = start_with("waitid:error=ECHILD:when=1", &table) else { return };
    assert_eq!(ask_text(ports[0], "stolen"), "stolen");
    daemon.wait_log(&["warning", "not ours to collect"]);
    assert_eq!((daemon.count("one"), &daemon.status()["audit"]), (0, &json!([])));
    assert_eq!(ask_text(ports[0], "after"), "after");
}

/// strace, which lets system calls of a running daemon fail, until it is dropped.
struct Fault(Child);

impl Fault {
    /// From now on calls fail as `fault` says; they are counted from here, in each process for itself.
    fn inject(daemon: &Daemon, fault: &str) -> Option<Self> {
        let trace = format!("trace={}", fault.split(':').next().unwrap());
        let mut command = Command::new(installed("strace")?);
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &format!("inject={fault}")]);
        let mut strace = command.args(["-p", &daemon.pid.to_string()]).spawn().unwrap();
        let mut refused = false;
        wait_until("strace to have all threads", || {
            refused = strace.try_wait().unwrap().is_some();
            refused || is_traced(daemon.pid)
        });
        (!refused).then_some(Self(strace))
    }
}

fn is_traced(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    status.all(|status| field(&status, "TracerPid") != "0")
}

impl Drop for Fault {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Ten connections in turn to both services; says how many of each were not served.
fn visit(ports: &[u16; 2]) -> [usize; 2] {
    ports.map(|port| (0..5).filter(|_| try_ask(port) != b"x").count())
}

#[test]
fn any_system_call_of_the_daemon_may_fail() {
    let (ports, table) = pair("");
    let daemon = Daemon::start(&table);
    visit(&ports);
    settle(&daemon, &ports);
    let before = daemon.settled_descriptors();
    // What fails, at which call, and how many clients that may cost. No client here retries a reset connection.
    let calls: [(&str, &[u32], usize); 15] = [
        ("clone:error=EAGAIN", &[1, 2, 5], 1),
        ("clone:error=ENOMEM", &[1, 3], 1),
        ("accept4:error=EMFILE", &[1, 2, 4], 1),
        ("accept4:error=ENFILE", &[1, 3], 1),
        ("accept4:error=ENOMEM", &[2], 1),
        // The client is none any more; the daemon does not know that this is not so.
        ("accept4:error=ECONNABORTED", &[1, 2, 3, 6], 0),
        ("accept4:error=EINTR", &[1, 2], 0),
        ("epoll_ctl:error=ENOMEM", &[1, 2, 3, 4, 8], 0),
        ("epoll_wait,epoll_pwait,epoll_pwait2:error=EINTR", &[1, 2, 3], 0),
        ("fcntl:error=EMFILE", &[1, 2, 3, 4, 7], 1),
        ("futex:error=EINTR", &[1, 2, 3, 4], 0),
        ("futex:error=EAGAIN", &[1, 2, 3, 4], 0),
        ("setsockopt:error=ENOBUFS", &[1, 2, 3], 1),
        ("getsockname:error=ENOBUFS", &[1, 2], 1),
        ("ioctl:error=EIO", &[1, 2], 1),
    ];
    for (call, positions, most) in calls {
        for position in positions {
            let fault = format!("{call}:when={position}");
            let Some(injected) = Fault::inject(&daemon, &fault) else { return skip("strace may not trace here") };
            let lost = visit(&ports).iter().sum::<usize>();
            drop(injected);
            assert!(lost <= most, "{fault}: {lost} clients have paid for it");
            settle(&daemon, &ports);
        }
    }
    // The reserved one may be gone, and comes back with the next shortage.
    assert!(daemon.descriptors() <= before, "{before}: descriptors have been leaked");
}

/// The daemon's soft limit on open files is not the hard one.
fn halve_open_files() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard / 2, hard)?)
}

#[test]
fn any_system_call_of_a_child_may_fail() {
    if !is_root() {
        return skip("only root can run handlers as another user");
    }
    // Where the daemon is as a handler shall be, a child asks for nothing: neither its directory nor its limit on open
    // files is.
    let keys = "program: /bin/cat, directory: /usr";
    let more = format!("{keys}, user: nobody, umask: '077', nice: 1, rlimits: {{ core: 0 }}");
    let (ports, table) = services([("one", &more), ("other", keys)]);
    let mut setup = Setup::new(&table);
    // SAFETY: two system calls and nothing else.
    unsafe { setup.command.pre_exec(halve_open_files) };
    let daemon = setup.start();
    visit(&ports);
    settle(&daemon, &ports);
    let before = daemon.settled_descriptors();
    // What fails, in which step, and whether the other service makes that call too.
    let calls = [
        ("execve:error=EACCES", "exec", true),
        ("execve:error=ENOMEM", "exec", true),
        ("close_range:error=ENOMEM:when=1", "descriptors", true),
        ("close_range:error=EMFILE:when=2", "descriptors", true),
        ("dup3:error=EBADF:when=1", "descriptors", true),
        ("dup3:error=EBADF:when=2", "descriptors", true),
        ("setsid:error=EPERM", "setsid", true),
        ("prlimit64:error=EPERM", "rlimits", true),
        ("setpriority:error=EACCES", "nice", false),
        ("chdir:error=ENOENT", "directory", true),
        ("setgroups:error=EPERM", "groups", false),
        ("setresgid:error=EPERM", "group", false),
        ("setresuid:error=EAGAIN", "user", false),
    ];
    for (number, (fault, step, both)) in calls.into_iter().enumerate() {
        let failures = || daemon.status()["services"]["one"]["spawn_failures"][step].as_u64().unwrap_or(0);
        let failed = failures();
        let Some(injected) = Fault::inject(&daemon, fault) else { return skip("strace may not trace here") };
        let lost = visit(&ports);
        drop(injected);
        assert_eq!(lost, [5, if both { 5 } else { 0 }], "{fault}");
        assert_eq!(failures(), failed + 5, "{fault}");
        let status = settle(&daemon, &ports);
        let one = &status["services"]["one"];
        // Those before and after each fault, and not one of those during it.
        assert_eq!((&one["accepted"], &one["exits"]["success"]), (&json!(number + 7), &json!(number + 7)), "{fault}");
    }
    assert_eq!(daemon.settled_descriptors(), before);
}

#[test]
fn lost_exits_leave_no_place_taken() {
    let (ports, table) = pair("instances: 3, when_full: refuse");
    let daemon = Daemon::start(&table);
    for (lost, position) in [1, 2, 4].into_iter().enumerate() {
        let fault = format!("waitid:error=ECHILD:when={position}");
        let Some(injected) = Fault::inject(&daemon, &fault) else { return skip("strace may not trace here") };
        visit(&ports);
        wait_until("all places to be free", || daemon.status()["handlers"] == 0);
        drop(injected);
        // As far as the daemon knows another process has collected it; in truth none has.
        wait_until("the others to be collected", || children_of(daemon.pid).len() == lost + 1);
        assert_eq!(daemon.status()["audit"], json!([]));
        for port in ports {
            assert_eq!(ask_text(port, "after"), "after");
        }
    }
}
