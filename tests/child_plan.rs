//! What a handler's child does before execve(2): each step that changes something, and no other.
//!
//! strace(1) tells which system calls it makes; what comes of them the handler tells itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getgrouplist, setgroups, setresgid, setresuid};
use support::{
    Daemon, OXINETD, Setup, ask_text, children_of, field, installed, is_root, put_program, services, skip, wait_for,
};

const STATUS: &str = "program: /bin/cat /proc/self/status";

/// A daemon below strace(1), whose trace is in its folder. `first` is done before either is executed. `None` where there is
/// no strace, or it may not trace.
fn start_traced(table: &str, first: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Option<Daemon> {
    let works = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "/bin/true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        skip("no strace, or it may not trace here");
        return None;
    }
    // The name of the file is told by the shell, since the folder is not known before.
    let script = r#"exec strace -f -qq -o "${NOTIFY_SOCKET%/*}/trace" "$@""#;
    let mut setup = Setup::run_by(&["/bin/sh", "-c", script, "sh", OXINETD], table);
    setup.command.current_dir("/");
    // SAFETY: what the tests below do first is a few system calls.
    unsafe { setup.command.pre_exec(first) };
    let mut daemon = setup.start();
    daemon.pid = wait_for("the daemon itself", || children_of(daemon.pid).first().copied());
    Some(daemon)
}

/// The system calls that a process has made before it became another program, each with its arguments. Those that are
/// made once for each signal are told once.
fn calls_before_execve(daemon: &Daemon, pid: &str) -> Vec<String> {
    let trace = fs::read_to_string(daemon.path("trace")).unwrap();
    let of_process = trace.lines().filter_map(|line| line.strip_prefix(pid)?.strip_prefix(' '));
    let begun = of_process.map(str::trim_start).filter(|line| !line.starts_with(['<', '+', '-']));
    let mut calls: Vec<String> = begun.map(str::to_owned).collect();
    let end = calls.iter().position(|call| call.starts_with("execve(")).unwrap();
    calls.truncate(end);
    // musl's own.
    calls.retain(|call| !call.starts_with("set_tid_address("));
    calls.dedup_by(|one, other| [&*one, &*other].iter().all(|call| call.starts_with("rt_sigaction(")));
    calls
}

/// The names of the calls of a handler that prints its own status.
fn names_of_calls(daemon: &Daemon, port: u16) -> (String, Vec<String>) {
    let status = ask_text(port, "");
    let calls = calls_before_execve(daemon, field(&status, "Pid"));
    (status, calls.into_iter().map(|call| call.split('(').next().unwrap().to_owned()).collect())
}

const DESCRIPTORS: [&str; 4] = ["close_range", "dup3", "dup3", "close_range"];
const SIGNALS: [&str; 2] = ["rt_sigaction", "rt_sigprocmask"];

#[test]
fn a_plain_handler_costs_no_call_that_changes_nothing() {
    let ([plain, said], table) = services([
        ("plain", STATUS),
        ("said", &format!("{STATUS}, umask: '022', directory: /, chroot: /, nice: 0, stderr: daemon")),
    ]);
    let as_handlers_are = || {
        umask(Mode::from_bits_truncate(0o022));
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
    };
    let Some(daemon) = start_traced(&table, as_handlers_are) else { return };
    let expected = [&DESCRIPTORS[..], &["setsid"], &SIGNALS].concat();
    for port in [plain, said] {
        let (status, calls) = names_of_calls(&daemon, port);
        assert_eq!(calls, expected);
        for set in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
    }
}

#[test]
fn what_the_daemon_has_otherwise_is_changed_for_each_handler() {
    let ([port], table) = services([("plain", STATUS)]);
    let otherwise = || {
        umask(Mode::from_bits_truncate(0o077));
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(setrlimit(Resource::RLIMIT_NOFILE, hard / 2, hard)?)
    };
    let Some(daemon) = start_traced(&table, otherwise) else { return };
    let expected = [&DESCRIPTORS[..], &["setsid", "prlimit64", "umask"], &SIGNALS].concat();
    let (status, calls) = names_of_calls(&daemon, port);
    assert_eq!(calls, expected);
    assert_eq!(field(&status, "Umask"), "0022");
}

#[test]
fn every_step_is_made_in_order_for_a_handler_that_needs_them_all() {
    if !is_root() {
        return skip("only root becomes somebody else");
    }
    let keys = "user: nobody, groups: [4711], nice: 3, umask: '027', rlimits: { core: 4096 }, directory: /usr, \
                stderr: connection";
    let ([port], table) = services([("all", &format!("{STATUS}, {keys}"))]);
    let Some(daemon) = start_traced(&table, || Ok(setrlimit(Resource::RLIMIT_CORE, 8192, 8192)?)) else { return };
    let (_, calls) = names_of_calls(&daemon, port);
    let calls: Vec<_> = calls.iter().map(String::as_str).collect();
    let expected = [
        &["close_range", "dup3", "dup3", "dup3", "close_range", "setsid"],
        &["prlimit64", "setpriority", "umask", "chdir", "setgroups", "setresgid"][..],
        &["prctl", "setresuid", "prctl"],
        &SIGNALS,
    ];
    // There is a second one where the daemon's own limit on open files is not that of a handler.
    let mut once = calls.clone();
    once.dedup_by(|one, other| *one == "prlimit64" && *other == "prlimit64");
    assert_eq!(once, expected.concat());
}

#[test]
fn a_reload_looks_again_at_what_others_may_have_changed() {
    let ([port], table) = services([("limits", "program: /bin/cat /proc/self/limits, rlimits: { core: '0:8192' }")]);
    let mut setup = Setup::new(&table);
    // SAFETY: a system call and nothing else.
    unsafe { setup.command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_CORE, 0, 8192)?)) };
    let daemon = setup.start();
    let core = || {
        let limits = ask_text(port, "");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap().to_owned();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(core(), ["0", "8192"]);
    let other = libc::rlimit { rlim_cur: 4096, rlim_max: 8192 };
    // SAFETY: the limit outlives the call, and the old one is not asked for.
    let set = unsafe { libc::prlimit(daemon.pid, libc::RLIMIT_CORE, &raw const other, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    daemon.change(&table);
    assert_eq!(core(), ["0", "8192"]);
}

/// User, group and supplementary groups of a handler; each kind of id must be the same.
fn identity(port: u16) -> (u32, u32, BTreeSet<u32>) {
    let status = ask_text(port, "");
    let numbers = |name| field(&status, name).split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
    let (uids, gids) = (numbers("Uid"), numbers("Gid"));
    assert!(uids.iter().all(|id| *id == uids[0]) && gids.iter().all(|id| *id == gids[0]), "{status}");
    (uids[0], gids[0], numbers("Groups").into_iter().collect())
}

/// A daemon that is run by a user without any rights, of whom the machine knows nothing. Needs root.
fn run_by(uid: u32, gid: u32, groups: &'static [u32], table: &str) -> Setup {
    let mut setup = Setup::new(table);
    let folder = setup.folder.path();
    let (copy, notify) = (folder.join("oxinetd"), folder.join("notify"));
    put_program(&copy, fs::read(OXINETD).unwrap());
    for path in [folder, &notify, &copy] {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
    let mut command = Command::new(copy);
    command.args(setup.command.get_args()).stdin(Stdio::null()).env("NOTIFY_SOCKET", notify);
    command.stderr(File::create(folder.join("stderr")).unwrap());
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let become_user = move || {
        let mut own = [group; 4];
        let list = own.iter_mut().zip(groups).map(|(place, id)| *place = Gid::from_raw(*id)).count();
        setgroups(&own[..list])?;
        setresgid(group, group, group)?;
        Ok(setresuid(user, user, user)?)
    };
    // SAFETY: three system calls and nothing else.
    unsafe { command.pre_exec(become_user) };
    setup.command = command;
    setup
}

#[test]
fn an_ordinary_user_may_ask_for_what_it_is_already() {
    if !is_root() {
        return skip("only root can start a daemon as somebody else");
    }
    let with = |keys: &str| format!("{STATUS}, {keys}");
    let (ports, table) = services([
        ("plain", STATUS),
        ("user", &with("user: '4711'")),
        ("group", &with("group: '4712'")),
        ("both", &with("user: '4711', group: '4712'")),
        ("groups", &with("groups: [4714, 4713]")),
        ("own-group-among-them", &with("user: '4711', group: '4712', groups: [4712, 4713, 4714]")),
    ]);
    let daemon = run_by(4711, 4712, &[4713, 4714], &table).start();
    for port in ports {
        assert_eq!(identity(port), (4711, 4712, BTreeSet::from([4713, 4714])));
    }
    assert!(!daemon.log().contains("spawn_failed"), "{}", daemon.log());
}

#[test]
fn root_without_the_right_to_change_ids_may_ask_for_root() {
    let Some(setpriv) = installed("setpriv").filter(|_| is_root()) else {
        return skip("needs root and setpriv, to take CAP_SETGID away");
    };
    let ([port], table) = services([("root", &format!("{STATUS}, user: root"))]);
    let user = CString::new("root").unwrap();
    let Ok(all) = getgrouplist(&user, Gid::from_raw(0)) else { return skip("the groups of root can't be told") };
    let less: Vec<Gid> = all.iter().copied().filter(|group| group.as_raw() != 0).collect();
    for own in [all, less] {
        let without = ["--bounding-set=-setgid,-setuid", "--inh-caps=-setgid,-setuid", OXINETD];
        let mut setup = Setup::run_by(&[&[setpriv.to_str().unwrap()], &without[..]].concat(), &table);
        let expected = (0, 0, own.iter().map(|group| group.as_raw()).collect());
        // SAFETY: two system calls and nothing else.
        unsafe {
            setup.command.pre_exec(move || {
                setgroups(&own)?;
                Ok(setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?)
            })
        };
        let _daemon = setup.start();
        assert_eq!(identity(port), expected);
    }
}
