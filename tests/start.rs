//! Start and stop: what stands in the way of a start is said clearly and leaves nothing half started; every way to
//! start, to be watched over and to stop.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;
use support::{
    Daemon, OXINETD, Setup, ask_text, children_of, connect, echo, free_port, hold, is_root, listening, services, skip,
    state_of, wait_until,
};

/// Runs the binary to its end.
fn run(arguments: &[&str]) -> Output {
    Command::new(OXINETD).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A start that must fail with `status` and say all of `words`; then nothing has been started.
fn fails(table: &[u8], status: i32, words: &[&str]) {
    let port = free_port();
    let mut setup = Setup::new("");
    let folder = setup.folder.path().to_owned();
    let table = replaced(
        &replaced(table, b"PORT", port.to_string().as_bytes()),
        b"FOLDER",
        folder.to_str().unwrap().as_bytes(),
    );
    fs::write(folder.join("table.yaml"), table).unwrap();
    let pid_file = tempfile::tempdir().unwrap();
    setup.command.arg("--pid-file").arg(pid_file.path().join("pid"));
    let (ended, stderr) = setup.fail();
    assert_eq!(ended.code(), Some(status), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
    assert!(stderr.lines().all(|line| line.starts_with("oxinetd: ")), "{stderr}");
    assert!(stderr.len() < 4096, "too long to be read: {} bytes", stderr.len());
    assert_eq!(listening(port), [], "half started");
    assert!(!pid_file.path().join("pid").exists(), "half started");
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

/// A service that is right, on line 3; the tables below go on from line 4.
const GOOD: &str = "# A table with one fault.\nservices:\n  good: { listen: PORT, program: /bin/cat }\n";

fn fails_after_good(lines: &str, status: i32, words: &[&str]) {
    fails(format!("{GOOD}{lines}").as_bytes(), status, words);
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = ["table.yaml:4:", "services.bad.listen: ", &format!("127.0.0.1:{port}"), "in use"];
    fails_after_good(&format!("  bad: {{ listen: 127.0.0.1:{port}, program: /bin/cat }}\n"), 69, &words);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = ["table.yaml:4:", "services.bad.listen: ", "udp/127.0.0.1", "in use"];
    fails_after_good(&format!("  bad: {{ listen: 'udp/127.0.0.1:{port}', program: /bin/cat }}\n"), 69, &words);
}

#[test]
fn an_unknown_user_and_group() {
    let lines = "  bad:\n    listen: 1\n    program: /bin/cat\n    user: no-such-user\n    groups: [no-such-group]\n";
    fails_after_good(lines, 78, &["table.yaml:7:11: services.bad.user: ", "no-such-user"]);
}

#[test]
fn a_missing_program() {
    let lines = "  bad:\n    listen: 1\n    program: /no/such/program\n";
    fails_after_good(lines, 78, &["table.yaml:6:14: services.bad.program: ", "/no/such/program"]);
}

#[test]
fn an_include_that_cannot_be_read() {
    fails_after_good("include:\n  - absent.yaml\n", 78, &["table.yaml:5:5: ", "/absent.yaml", "No such file"]);
    fails_after_good("include: [/]\n", 78, &["table.yaml:4:11: ", "directory"]);
    fails_after_good("include: [/dev/zero]\n", 78, &["table.yaml:4:11: ", "/dev/zero is not a regular file"]);
    fails_after_good("include: [table.yaml]\n", 78, &["table.yaml:4:11: ", "read twice"]);
}

#[test]
fn an_include_that_is_forbidden() {
    if !is_root() {
        return skip("only root can run the daemon as somebody else");
    }
    let setup = Setup::as_nobody("include: [secret.yaml]\n");
    let secret = setup.folder.path().join("secret.yaml");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let (status, stderr) = setup.fail();
    assert_eq!(status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("table.yaml:1:11: ") && stderr.contains("Permission denied"), "{stderr}");
}

#[test]
fn a_thousand_levels() {
    let deep = format!("  bad: {}{}\n", "[".repeat(1000), "]".repeat(1000));
    fails_after_good(&deep, 78, &["table.yaml:4:", "nested more than 32 levels deep"]);
    let indented: String = (0..1000).map(|level| format!("{}k:\n", " ".repeat(level + 4))).collect();
    fails_after_good(&format!("  bad:\n{indented}"), 78, &["table.yaml:", "deep"]);
}

#[test]
fn ten_megabytes() {
    let long = format!("{GOOD}# {}\n", "x".repeat(10 << 20));
    fails(long.as_bytes(), 78, &["table.yaml", "larger than 4 MiB"]);
}

#[test]
fn a_nul() {
    let lines = "  bad:\n    listen: 1\n    program: [/bin/cat, \"a\\0b\"]\n";
    fails_after_good(lines, 78, &["table.yaml:6:25: ", "NUL"]);
    fails_after_good("  bad: { listen: 1, \0program: /bin/cat }\n", 78, &["table.yaml:4:21: ", "NUL"]);
}

#[test]
fn text_that_is_not_utf_8() {
    // Three characters of which one has two bytes, then é in ISO 8859-1.
    let table = [GOOD.as_bytes(), "# ä".as_bytes(), b"\xe9\n"].concat();
    fails(&table, 78, &["table.yaml:4:4: ", "not UTF-8"]);
}

#[test]
fn all_problems_are_told_at_once() {
    let lines = "  one: { listen: 70000, program: /bin/cat }\n  two: { listen: 1, program: cat, umask: 22 }\n";
    fails_after_good(
        lines,
        78,
        &["table.yaml:4:18: services.one.listen", "5:30: services.two.program", "5:42: services.two.umask"],
    );
}

#[test]
fn a_table_that_is_not_there() {
    let output = run(&["-c", "/no/such/table.yaml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/table.yaml"), "{output:?}");
}

#[test]
fn a_log_that_cannot_be_written_and_a_pid_file_that_cannot() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    for argument in ["--log", "--pid-file"] {
        let mut setup = Setup::new(&table);
        let (program, config) = (OXINETD, setup.folder.path().join("table.yaml"));
        let mut command = Command::new(program);
        command.arg("-c").arg(config).args([argument, "/no/such/folder/file"]);
        command.stderr(File::create(setup.folder.path().join("stderr")).unwrap());
        setup.command = command;
        let (status, stderr) = setup.fail();
        assert!(!status.success());
        assert!(stderr.contains("No such file"), "{argument}: {stderr}");
        assert_eq!(listening(port), []);
    }
}

#[test]
fn usage() {
    for arguments in [&["--no-such-option"][..], &["operand"], &["-c"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    for argument in ["--help", "--version"] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn an_ordinary_user_is_served_on_high_ports_and_not_on_low_ones() {
    if !is_root() {
        return skip("only root can run the daemon as somebody else");
    }
    let status = "program: /bin/cat /proc/self/status";
    let ([cat, status], table) = services([("cat", "program: /bin/cat"), ("status", status)]);
    let daemon = Setup::as_nobody(&table).start();
    assert_eq!(ask_text(cat, "x"), "x");
    let uid = support::nobody().0.to_string();
    assert!(support::field(&ask_text(status, ""), "Uid").split_whitespace().all(|id| id == uid));
    daemon.wait_idle();
    drop(daemon);

    let first: u16 =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    if first < 2 {
        return skip("every port is open to everybody here");
    }
    let port = first - 1;
    let (status, stderr) =
        Setup::as_nobody(&format!("services: {{ low: {{ listen: {port}, program: /bin/cat }} }}")).fail();
    assert_eq!(status.code(), Some(77), "{stderr}");
    assert!(stderr.contains("services.low.listen: ") && stderr.contains("ermission denied"), "{stderr}");
    let (status, stderr) = Setup::as_nobody("services: { a: { listen: 9, program: /bin/cat, user: root } }").fail();
    assert_eq!(status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("services.a.user: ") && stderr.contains("only root"), "{stderr}");
}

#[test]
fn check_opens_nothing() {
    let ([port], table) = services([("cat", "program: /bin/cat, rlimits: { nofile: 20 }")]);
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let setup = Setup::new(&table);
    let path = setup.folder.path().join("table.yaml");
    let output = run(&["--check", "-c", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("table.yaml:2:"), "a warning of few files: {output:?}");
    setup.write("services: { cat: { listen: x } }");
    assert_eq!(run(&["--check", "-c", path.to_str().unwrap()]).status.code(), Some(78));
}

#[test]
fn dump_reads_back_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.yaml");
    let text = "defaults: { USER umask: '027', env: { A: '1' } }\nservices:\n  \
                one: { listen: [23, 'udp6/[::1]:69'], wait: true, program: '/bin/cat \"a b\" ''c''', lifetime: 90s }\n  \
                two: { listen: 'unix:/run/two', program: [/bin/cat, \"é\\n\"], refuse: { text: \"no\\r\\n\" }, \
                rlimits: { nofile: '2000:unlimited' }, socket: { mode: '0600', owner: '1:2' }, enabled: false }\n";
    let text = text.replace("USER", if is_root() { "user: root," } else { "" });
    fs::write(&path, text).unwrap();
    let dump = |path: &Path| {
        let output = run(&["--dump", "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = dump(&path);
    assert!(first.contains("a b") && first.contains("1m30s"), "{first}");
    fs::write(&path, &first).unwrap();
    assert_eq!(dump(&path), first);
}

/// A daemon that detaches itself: how its first process ends, and what it says.
fn daemonize(folder: &Path, table: &str) -> Output {
    fs::write(folder.join("table.yaml"), table).unwrap();
    let path = |name: &str| folder.join(name);
    let mut command = Command::new(OXINETD);
    command.args(["--daemonize", "-c"]).arg(path("table.yaml")).arg("--pid-file").arg(path("pid"));
    // A pipe would stay open in a daemon that has not let go of it.
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
fn daemonize_wants_a_log_that_somebody_can_read() {
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

#[test]
fn term_and_int_stop_listening_and_leave_handlers_be() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let ([port], table) = services([("cat", "program: /bin/cat")]);
        let mut daemon = Daemon::start(&table);
        let mut session = hold(port);
        let handler = daemon.children()[0];
        daemon.notified();
        daemon.signal(signal);
        assert_eq!(daemon.wait_end().code(), Some(0));
        assert!(daemon.notified().iter().any(|message| message.starts_with("STOPPING=1")));
        assert_eq!(listening(port), []);
        assert!(state_of(handler).is_some());
        echo(&mut session, "on its own\n");
        drop(session);
        wait_until("the handler's end", || state_of(handler).is_none_or(|state| state == 'Z'));
    }
}

#[test]
fn quit_ends_the_handlers_too() {
    let deaf = "program: [/bin/sh, -c, 'trap \"\" TERM; echo ready; while :; do sleep 1000; done']";
    let ([cat, deaf], table) = services([("cat", "program: /bin/cat"), ("deaf", deaf)]);
    let mut daemon = Daemon::start(&table);
    let (mut session, mut other) = (hold(cat), connect(deaf));
    other.read_exact(&mut [0; 6]).unwrap();
    let handlers = daemon.children();
    assert_eq!(handlers.len(), 2);
    daemon.signal(Signal::SIGQUIT);
    assert_eq!(session.read(&mut [0]).unwrap(), 0, "cat ends by SIGTERM");
    assert_eq!(listening(cat), []);
    // The other one ignores SIGTERM, also in the sleep that it has started.
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    assert_eq!(daemon.wait_end().code(), Some(0));
    assert!(handlers.into_iter().all(|pid| state_of(pid).is_none()));
}

#[test]
fn a_signal_is_heard_while_clients_keep_coming() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let ([port], table) = services([("cat", "program: /bin/cat, instances: 1, when_full: refuse, refuse: close")]);
    let mut daemon = Daemon::start(&table);
    let _session = hold(port);
    let (stop, clients) = (AtomicBool::new(false), AtomicU32::new(0));
    let flood = || {
        while !stop.load(Ordering::Relaxed) {
            match std::net::TcpStream::connect(("127.0.0.1", port)) {
                Ok(_) => {
                    clients.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => std::thread::yield_now(),
            }
        }
    };
    let ended = std::thread::scope(|scope| {
        scope.spawn(flood);
        scope.spawn(flood);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while clients.load(Ordering::Relaxed) < 1000 && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        daemon.signal(Signal::SIGTERM);
        let ended = loop {
            let status = daemon.process.try_wait().unwrap();
            if status.is_some() || std::time::Instant::now() > end {
                break status;
            }
            std::thread::yield_now();
        };
        stop.store(true, Ordering::Relaxed);
        ended
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

#[test]
fn usr1_writes_the_status() {
    let ([port], table) = services([("cat", "program: /bin/cat, instances: 7")]);
    let daemon = Daemon::start(&table);
    let _session = hold(port);
    let status = daemon.status();
    assert_eq!((&status["pid"], &status["handlers"]), (&json!(daemon.pid), &json!(1)));
    let service = &status["services"]["cat"];
    let expected = json!({ "listed": true, "handlers": 1, "instances": 7, "peak": 1, "accepted": 1 });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&service[key], value, "{key}");
    }
    assert_eq!(
        service["listeners"],
        json!([{ "endpoint": format!("tcp/{port}"), "state": "listening", "reason": null }])
    );
    assert_eq!(
        status["sources"],
        json!([{ "service": "cat", "source": "127.0.0.1", "handlers": 1, "instances": null }])
    );
    assert_eq!(status["audit"], json!([]));
}

#[test]
fn the_service_manager_is_told_of_every_change() {
    let ([_], table) = services([("cat", "program: /bin/cat")]);
    let mut daemon = Daemon::start(&table);
    daemon.notified();
    let before = nix::time::ClockId::CLOCK_MONOTONIC.now().unwrap();
    daemon.signal(Signal::SIGHUP);
    let mut messages = Vec::new();
    wait_until("the end of the reload", || {
        messages.extend(daemon.notified());
        messages.iter().any(|message| message.starts_with("READY=1"))
    });
    assert_eq!(messages.len(), 2, "{messages:?}");
    let lines: Vec<_> = messages[0].lines().collect();
    assert!(lines.contains(&"RELOADING=1"), "{lines:?}");
    // sd_notify(3): a time between the signal and now.
    let time = lines.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap().parse::<i64>().unwrap();
    let micros = |time: nix::sys::time::TimeSpec| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000;
    let after = nix::time::ClockId::CLOCK_MONOTONIC.now().unwrap();
    assert!((micros(before)..=micros(after)).contains(&time));
    assert!(messages[1].lines().any(|line| line.starts_with("STATUS=") && line.contains('1')), "{messages:?}");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_end();
    assert!(daemon.notified().iter().any(|message| message.lines().any(|line| line == "STOPPING=1")));
}

#[test]
fn the_watchdog_is_fed_if_there_is_one() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let mut setup = Setup::new(&table);
    setup.command.env("WATCHDOG_USEC", "100000");
    let daemon = setup.start();
    let mut pings = 0;
    wait_until("ten pings", || {
        pings += daemon.notified().iter().filter(|message| *message == "WATCHDOG=1").count();
        pings >= 10
    });

    let mut setup = Setup::new(&table.replace(&port.to_string(), &free_port().to_string()));
    setup.command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let daemon = setup.start();
    // Each reload is a turn, and takes longer than a millisecond.
    let mut messages = Vec::new();
    for number in 1..=10 {
        daemon.signal(Signal::SIGHUP);
        wait_until("the reload", || {
            messages.extend(daemon.notified());
            messages.iter().filter(|message| message.starts_with("READY=1")).count() == number
        });
    }
    assert!(!messages.contains(&"WATCHDOG=1".to_owned()), "the watchdog is another process's");
}

/// A daemon that is passed sockets as descriptors 3 and up. The shell in between knows the process id beforehand.
fn start_with(table: &str, sockets: Vec<TcpListener>) -> Daemon {
    let count = sockets.len();
    let script = format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" \"$@\"");
    let mut setup = Setup::run_by(&["/bin/sh", "-c", &script, OXINETD], table);
    let pass = move || {
        for (number, socket) in (3..).zip(&sockets) {
            // SAFETY: the numbers are those that sd_listen_fds(3) demands; dup2 also clears close-on-exec, except
            // where the socket has that number already.
            unsafe {
                if socket.as_raw_fd() == number {
                    libc::fcntl(number, libc::F_SETFD, 0);
                } else {
                    libc::dup2(socket.as_raw_fd(), number);
                }
            }
        }
        Ok(())
    };
    // SAFETY: system calls and nothing else.
    unsafe { setup.command.pre_exec(pass) };
    setup.start()
}

#[test]
fn sockets_of_the_service_manager_are_adopted() {
    let (adopted, own) = (free_port(), free_port());
    // Numbers far above 3 and 4, so that none is overwritten while it is moved.
    let high = |listener: TcpListener| {
        let number = nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(100)).unwrap();
        // SAFETY: the descriptor is new and nobody else's.
        unsafe { <TcpListener as std::os::fd::FromRawFd>::from_raw_fd(number) }
    };
    let passed = high(TcpListener::bind(("127.0.0.1", adopted)).unwrap());
    let stranger = high(TcpListener::bind("127.0.0.1:0").unwrap());
    let before = listening(adopted);
    let table = |more: &str| {
        format!("services: {{ cat: {{ listen: ['127.0.0.1:{adopted}', {own}], program: /bin/cat{more} }} }}")
    };
    let client = connect(adopted);
    let unwanted = stranger.local_addr().unwrap().port();
    let daemon = start_with(&table(""), vec![passed, stranger]);
    assert_eq!(listening(adopted), before, "another socket than the one that was passed");
    assert_eq!(support::ask(client, b"from before").unwrap(), b"from before");
    assert_eq!(ask_text(own, "x"), "x");
    assert_eq!(listening(unwanted), [], "a socket that no service wants is closed");
    daemon.change(&table(", nice: 1"));
    assert_eq!((listening(adopted), ask_text(adopted, "x")), (before, "x".to_owned()));
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let mut setup = Setup::new(&table);
    setup.command.env("LISTEN_PID", "1").env("LISTEN_FDS", "5");
    let _daemon = setup.start();
    assert_eq!(ask_text(port, "x"), "x");
}

#[test]
fn as_process_1_it_collects_orphans_and_obeys() {
    let tried = Command::new("unshare").args(["-p", "-f", "--mount-proc", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return skip("no process id namespaces here");
    }
    // The shell ends at once and leaves a child behind, which the kernel gives to process 1.
    let orphan = "program: [/bin/sh, -c, '(sleep 0.05; exit 3) </dev/null >/dev/null 2>&1 & echo $PPID']";
    let ([port, cat], table) = services([("orphan", orphan), ("cat", "program: /bin/cat")]);
    let mut daemon = Setup::run_by(&["unshare", "-p", "-f", "--kill-child", "--mount-proc", OXINETD], &table).start();
    // The child of unshare(1) is the daemon.
    daemon.pid = children_of(daemon.pid)[0];
    for _ in 0..5 {
        assert_eq!(ask_text(port, ""), "1\n");
    }
    wait_until("no child and no zombie", || children_of(daemon.pid).is_empty());
    let mut session = hold(cat);
    let status = daemon.status();
    assert_eq!(status["services"]["orphan"]["exits"], json!({ "success": 5, "failure": 0, "signal": 0 }));
    assert_eq!((&status["handlers"], &status["audit"]), (&json!(1), &json!([])));
    daemon.reload().unwrap();
    session.write_all(b"x").unwrap();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_end().code(), Some(0));
}
