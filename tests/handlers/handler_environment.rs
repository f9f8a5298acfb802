//! The environment of a handler in the widest sense, looked at from inside: each probe is a service whose program is one of
//! the small ones that every Linux has, which prints something of its own process and ends. Nothing of what the daemon was
//! started with reaches it; credentials, limits, umask, directory and standard error are those of the table.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Daemon, Setup, ask_text, field, free_port, is_root, put_program, services, skip, wait_until};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::{Mode, umask};

const STATUS: &str = "program: /bin/cat /proc/self/status";

/// Signals that a careless parent may leave ignored; nohup(1) does it with SIGHUP, many shells and runtimes with the
/// others.
const IGNORED: [Signal; 6] =
    [Signal::SIGUSR2, Signal::SIGPIPE, Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGTTOU, Signal::SIGWINCH];
/// Signals that it may leave blocked.
const BLOCKED: [Signal; 5] = [Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGALRM, Signal::SIGCHLD, Signal::SIGHUP];

/// What a careless parent does to the daemon between fork and exec.
fn spoil() -> io::Result<()> {
    for signal_number in IGNORED {
        // SAFETY: ignoring a signal runs no code.
        unsafe { signal(signal_number, SigHandler::SigIgn) }?;
    }
    // The two that the C library keeps for itself, which its posix_spawn(3) leaves ignored.
    for number in [32, 33] {
        let ignore: [libc::c_ulong; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: the kernel's struct sigaction begins with the handler, here SIG_IGN, and is not longer than this.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, ignore.as_ptr(), std::ptr::null_mut::<u8>(), 8) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&BLOCKED.into_iter().collect::<SigSet>()), None)?;
    // Descriptors without close-on-exec: a low one, one in the middle and one where the daemon keeps its own.
    let null = fs::File::open("/dev/null")?;
    for number in [10, 251, 600] {
        // SAFETY: the new descriptor is meant to be inherited; nobody in this process owns its number.
        let copy = unsafe { nix::unistd::dup2_raw(&null, number) }?;
        let _ = copy.into_raw_fd();
    }
    umask(Mode::from_bits_truncate(0o027));
    Ok(())
}

/// A daemon that was started as badly as can be.
pub(super) fn start_spoiled(table: &str) -> Daemon {
    let mut setup = Setup::new(table);
    let odd = setup.folder.path().join("odd directory");
    fs::create_dir(&odd).unwrap();
    setup
        .command
        .current_dir(odd)
        .env("LD_BIND_NOW", "1")
        .env("ODD", "x=y\nz")
        .env("PATH", "/nowhere")
        .env("PASSED", "1");
    // SAFETY: between fork and exec `spoil` makes system calls only.
    unsafe { setup.command.pre_exec(spoil) };
    setup.start()
}

#[test]
fn nothing_of_the_environment_of_the_daemon_reaches_a_handler() {
    let (ports, table) = services([
        ("status", STATUS),
        ("descriptors", "program: /bin/ls -l /proc/self/fd"),
        ("flags", "program: /bin/cat /proc/self/fdinfo/0 /proc/self/fdinfo/1"),
        ("directory", "program: /bin/ls -l /proc/self/cwd"),
        ("stat", "program: /bin/cat /proc/self/stat"),
    ]);
    let daemon = start_spoiled(&table);
    let [status, descriptors, flags, directory, stat] = ports.map(|port| ask_text(port, ""));
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "Umask"), "0022");
    assert_eq!(field(&status, "Seccomp"), "0");
    check_descriptors(&descriptors);
    // O_NONBLOCK is 04000 in the flags that proc_pid_fdinfo(5) shows; a connection has O_RDWR and nothing else.
    let flags: Vec<_> = flags.lines().filter_map(|line| line.strip_prefix("flags:")).map(str::trim).collect();
    assert_eq!(flags, ["02", "02"]);
    assert!(directory.trim_end().ends_with("-> /"), "{directory}");
    check_session(&stat);
    daemon.wait_idle();
}

/// 0 and 1 are one socket, 2 is open, and 3 is what ls itself has opened to look.
fn check_descriptors(listing: &str) {
    let links = listing.lines().filter_map(|line| line.split_once(" -> "));
    let links: Vec<_> =
        links.map(|(name, to)| (name.rsplit(' ').next().unwrap().parse::<i32>().unwrap(), to.to_owned())).collect();
    assert_eq!(links.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3], "{listing}");
    assert!(links[0].1.starts_with("socket:["), "{listing}");
    assert_eq!(links[0].1, links[1].1);
    assert!(links[2].1.ends_with("/stderr"), "{listing}");
    assert!(links[3].1.starts_with("/proc/"), "{listing}");
}

/// proc_pid_stat(5): pid (comm) state ppid pgrp session tty_nr …
fn check_session(stat: &str) {
    let pid = stat.split(' ').next().unwrap();
    let rest: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let (group, session, terminal) = (rest[2], rest[3], rest[4]);
    assert_eq!((group, session, terminal), (pid, pid, "0"), "{stat}");
}

#[test]
fn wait_handler_has_the_same_environment() {
    let port = free_port();
    let report =
        "cat /proc/self/status > FOLDER/status; ls -l /proc/self/fd > FOLDER/fds; dd bs=512 count=1 of=/dev/null";
    let service = format!("listen: udp4/127.0.0.1:{port}, stderr: 'null', program: [/bin/sh, -c, '{report}']");
    let daemon = start_spoiled(&format!("services: {{ probe: {{ {service} }} }}"));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
    let read = |name: &str| fs::read_to_string(daemon.path(name)).unwrap();
    wait_until("the probe", || daemon.status()["services"]["probe"]["exits"]["success"] == 1);
    let status = read("status");
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    // The shell has turned 1 into the file; 3 is ls's own.
    let listing = read("fds");
    let numbers: Vec<_> =
        listing.lines().filter_map(|line| line.split_once(" -> ")?.0.rsplit(' ').next()?.parse::<i32>().ok()).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "{listing}");
    assert!(listing.contains("0 -> socket:["), "{listing}");
}

/// The supplementary groups that initgroups(3) gives, by the files alone.
fn groups_by_the_files(user: &str, gid: u32) -> BTreeSet<u32> {
    let file = fs::read_to_string("/etc/group").unwrap();
    let member = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        fields[3].split(',').any(|name| name == user).then(|| fields[2].parse().unwrap())
    };
    file.lines().filter_map(member).chain([gid]).collect()
}

/// A user of this machine that is in some group besides its own, or else `nobody`: name and ids.
fn some_user() -> (String, u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields[2] != "0");
    let mut users: Vec<(String, u32, u32)> =
        users.map(|fields| (fields[0].to_owned(), fields[2].parse().unwrap(), fields[3].parse().unwrap())).collect();
    users.sort_by_key(|(name, _, gid)| (groups_by_the_files(name, *gid).len(), name == "nobody"));
    users.pop().unwrap()
}

/// The ids in a status: real, effective, saved and file system, each the same; and the supplementary groups.
fn ids(status: &str) -> (u32, u32, BTreeSet<u32>) {
    let numbers =
        |name| field(status, name).split_whitespace().map(|id| id.parse::<u32>().unwrap()).collect::<Vec<_>>();
    let (uid, gid) = (numbers("Uid"), numbers("Gid"));
    assert!(uid.iter().all(|id| *id == uid[0]) && gid.iter().all(|id| *id == gid[0]), "{status}");
    (uid[0], gid[0], numbers("Groups").into_iter().collect())
}

#[test]
fn credentials_are_exactly_those_of_the_table() {
    if !is_root() {
        return skip("only root can run handlers as another user");
    }
    let (user, uid, gid) = some_user();
    let with = |keys: &str| format!("{STATUS}, user: {user}, {keys}");
    let (ports, table) = services([
        ("own", STATUS),
        ("all", &with("nice: 0")),
        ("said", &with("groups: all")),
        ("none", &with("groups: none")),
        ("list", &with("groups: [7, 4242, 100000]")),
        ("group", &with("group: 4243, groups: none")),
        ("numbers", &format!("{STATUS}, user: 3999999999, group: 3999999998, groups: [5]")),
        ("only-group", &format!("{STATUS}, group: 4243, groups: [4244]")),
    ]);
    let mut setup = Setup::new(&table);
    // SAFETY: a system call and nothing else.
    unsafe { setup.command.pre_exec(|| Ok(nix::unistd::setgroups(&[4711.into(), 4712.into()])?)) };
    let _daemon = setup.start();
    let statuses = ports.map(|port| ask_text(port, ""));
    let all = groups_by_the_files(&user, gid);
    let expected = [
        (0, nix::unistd::getegid().as_raw(), BTreeSet::from([4711, 4712])),
        (uid, gid, all.clone()),
        (uid, gid, all),
        (uid, gid, BTreeSet::new()),
        (uid, gid, BTreeSet::from([7, 4242, 100_000])),
        (uid, 4243, BTreeSet::new()),
        (3_999_999_999, 3_999_999_998, BTreeSet::from([5])),
        (0, 4243, BTreeSet::from([4244])),
    ];
    assert_eq!(statuses.each_ref().map(|status| ids(status)), expected);
    for status in [&statuses[1], &statuses[6]] {
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(field(status, set), "0000000000000000", "{set}");
        }
    }
}

/// The soft and hard limit in a line of /proc/self/limits.
fn limit(limits: &str, name: &str) -> (String, String) {
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// A daemon whose own limits on open files and core files are these.
fn start_limited(table: &str, soft: u64, hard: u64) -> Daemon {
    let mut setup = Setup::new(table);
    let set = move || {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        Ok(setrlimit(Resource::RLIMIT_CORE, 4096, 8192)?)
    };
    // SAFETY: two system calls and nothing else.
    unsafe { setup.command.pre_exec(set) };
    setup.start()
}

const LIMITS: &str = "program: /bin/cat /proc/self/limits";

#[test]
fn rlimits_are_those_of_the_start_or_of_the_table() {
    let set = "rlimits: { nofile: '200:300', core: 0, fsize: 64M, cpu: 7, stack: '4M:8M', nproc: 5000, memlock: 64k }";
    let ([plain, own], table) = services([("plain", LIMITS), ("own", &format!("{LIMITS}, {set}"))]);
    let _daemon = start_limited(&table, 1500, 3000);
    let pair = |soft: &str, hard: &str| (soft.to_owned(), hard.to_owned());
    let limits = ask_text(plain, "");
    assert_eq!(limit(&limits, "Max open files"), pair("1500", "3000"));
    assert_eq!(limit(&limits, "Max core file size"), pair("4096", "8192"));
    let limits = ask_text(own, "");
    assert_eq!(limit(&limits, "Max open files"), pair("200", "300"));
    assert_eq!(limit(&limits, "Max core file size"), pair("0", "0"));
    assert_eq!(limit(&limits, "Max file size"), pair("67108864", "67108864"));
    assert_eq!(limit(&limits, "Max cpu time"), pair("7", "7"));
    assert_eq!(limit(&limits, "Max stack size"), pair("4194304", "8388608"));
    assert_eq!(limit(&limits, "Max processes"), pair("5000", "5000"));
    assert_eq!(limit(&limits, "Max locked memory"), pair("65536", "65536"));
}

#[test]
fn nofile_limit_is_no_lower_than_programs_expect() {
    let ([port], table) = services([("limits", LIMITS)]);
    let nofile = |soft, hard| {
        let _daemon = start_limited(&table, soft, hard);
        limit(&ask_text(port, ""), "Max open files")
    };
    assert_eq!(nofile(256, 4096), ("1024".to_owned(), "4096".to_owned()));
    // As far as the daemon's own hard limit allows.
    assert_eq!(nofile(256, 700), ("700".to_owned(), "700".to_owned()));
}

#[test]
fn umask_nice_and_directory_are_those_of_the_table() {
    let ([mask, nice, directory], table) = services([
        ("mask", &format!("{STATUS}, umask: '0137'")),
        ("nice", "nice: 7, program: /bin/cat /proc/self/stat"),
        ("directory", "directory: /usr, program: /bin/ls -l /proc/self/cwd"),
    ]);
    let _daemon = start_spoiled(&table);
    assert_eq!(field(&ask_text(mask, ""), "Umask"), "0137");
    // Field 19 of proc_pid_stat(5), counted from the one after the name, which is the third.
    let stat = ask_text(nice, "");
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(19 - 3), Some("7"), "{stat}");
    assert!(ask_text(directory, "").trim_end().ends_with("-> /usr"));
}

/// Copies programs and the libraries that they need below `root`. `None` if ldd(1) can't tell which.
fn copy_programs(root: &Path, programs: &[&str]) -> Option<()> {
    for program in programs {
        let list = Command::new("ldd").arg(program).output().ok()?;
        let list = String::from_utf8(list.stdout).ok()?;
        let libraries = list.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain([*program]) {
            let place = root.join(&file[1..]);
            fs::create_dir_all(place.parent()?).ok()?;
            put_program(&place, fs::read(file).ok()?);
        }
    }
    Some(())
}

#[test]
fn chroot_is_the_root_of_the_handler() {
    if !is_root() {
        return skip("only root can change a process's root directory");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if copy_programs(folder.path(), &["/bin/ls", "/bin/pwd"]).is_none() {
        return skip("ldd(1) does not tell what ls and pwd need");
    }
    fs::create_dir_all(folder.path().join("inner/most")).unwrap();
    let root = folder.path().display();
    let ([top, inner, wd], table) = services([
        ("top", &format!("chroot: {root}, user: nobody, program: /bin/ls -d /inner /etc/passwd, stderr: connection")),
        ("inner", &format!("chroot: {root}, directory: /inner, program: /bin/ls")),
        ("wd", &format!("chroot: {root}, directory: /inner, program: /bin/pwd -P")),
    ]);
    let _daemon = Daemon::start(&table);
    let top = ask_text(top, "");
    assert!(top.contains("/inner\n") && top.contains("No such file"), "{top}");
    assert_eq!(ask_text(inner, ""), "most\n");
    assert_eq!(ask_text(wd, ""), "/inner\n");
}

#[test]
fn standard_error_goes_where_the_table_says() {
    let program = "program: [/bin/sh, -c, 'echo NAME to the client; echo NAME went astray >&2']";
    let service = |name: &str, place: &str| format!("{}, stderr: {place}", program.replace("NAME", name));
    let ([daemon_port, connection, nowhere, default], table) = services([
        ("daemon", &service("daemon", "daemon")),
        ("connection", &service("connection", "connection")),
        ("nowhere", &service("nowhere", "'null'")),
        ("default", &program.replace("NAME", "default")),
    ]);
    let daemon = Daemon::start(&table);
    assert_eq!(ask_text(daemon_port, ""), "daemon to the client\n");
    assert_eq!(ask_text(connection, ""), "connection to the client\nconnection went astray\n");
    assert_eq!(ask_text(nowhere, ""), "nowhere to the client\n");
    assert_eq!(ask_text(default, ""), "default to the client\n");
    assert_eq!(daemon.stderr(), "daemon went astray\ndefault went astray\n");
}

#[test]
fn argv0_is_the_name_of_the_program_unless_the_table_sets_it() {
    let command = "program: [/bin/cat, -u, /proc/self/cmdline]";
    let ([plain, renamed], table) = services([("plain", command), ("renamed", &format!("{command}, argv0: in.catd"))]);
    let _daemon = Daemon::start(&table);
    assert_eq!(ask_text(plain, ""), "cat\0-u\0/proc/self/cmdline\0");
    assert_eq!(ask_text(renamed, ""), "in.catd\0-u\0/proc/self/cmdline\0");
}
