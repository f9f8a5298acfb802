//! xinetd 2.3.15.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{connect_from, connect_to, free_port, has_ipv6, installed, is_root, skip};
use crate::{Answers, answer, both, from_home};

/// xinetd, installed, or unpacked below `target` since its package does not go together with other inetds.
fn xinetd() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/usr/sbin/xinetd");
    installed("xinetd").or_else(|| Some(unpacked).filter(|path| path.exists()))
}

/// A file with a port for each service; `NAME` and attributes with semicolons between them.
struct Table {
    text: String,
    ports: Vec<(&'static str, u16)>,
}

impl Table {
    fn new(defaults: &str) -> Self {
        Self { text: format!("defaults\n{{\n{}\n}}\n", defaults.replace("; ", "\n")), ports: Vec::new() }
    }

    fn add(&mut self, name: &'static str, attributes: &str) {
        let port = free_port();
        let attributes = attributes.replace("; ", "\n");
        let mut usual = String::new();
        let given = |key: &str| attributes.lines().any(|line| line.split_whitespace().next() == Some(key));
        for (key, value) in
            [("type", "UNLISTED"), ("socket_type", "stream"), ("protocol", "tcp"), ("wait", "no"), ("user", "nobody")]
        {
            if !given(key) {
                usual += &format!("{key} = {value}\n");
            }
        }
        self.text += &format!("service {name}\n{{\n{usual}{attributes}\nport = {port}\n}}\n");
        self.ports.push((name, port));
    }

    fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|(other, _)| *other == name).unwrap().1
    }

    /// Starts both daemons with this table, one after the other. `None` where it can't be done.
    fn both(&self, ask: impl Fn() -> Answers) -> Option<(Answers, Answers)> {
        let Some(xinetd) = xinetd().filter(|_| is_root()) else {
            skip("needs root and xinetd");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("xinetd.conf");
        fs::write(&file, &self.text).unwrap();
        let mut command = Command::new(xinetd);
        command.args(["-dontfork", "-f"]).arg(&file).arg("-pidfile").arg(folder.path().join("pid"));
        command.arg("-filelog").arg(folder.path().join("log"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C").env("PASSED", "a b");
        let streams: Vec<u16> =
            self.ports.iter().filter(|(name, _)| !name.starts_with("udp")).map(|(_, port)| *port).collect();
        Some(both(command, &self.text, &streams, ask))
    }
}

fn same(theirs: &Answers, ours: &Answers) {
    for (question, answer) in theirs {
        assert_eq!(answer, &ours[question], "{question}: theirs, ours");
    }
    assert_eq!(theirs.len(), ours.len());
}

/// The lines of /proc/PID/status that say what a process is allowed and how it is disturbed. xinetd passes on the signals
/// that its parent ignores, here the two of the C library's that posix_spawn(3) leaves so; nothing is passed on here.
fn status(text: &str) -> String {
    let names =
        ["Name", "Uid", "Gid", "Groups", "Umask", "SigBlk", "SigIgn", "SigCgt", "CapEff", "CapPrm", "NoNewPrivs"];
    let told = |line: &&str| names.iter().any(|name| line.starts_with(&format!("{name}:")));
    let lines = text.lines().filter(told).map(|line| format!("{}\n", line.trim_end()));
    lines.collect::<String>().replace("SigIgn:\t0000000180000000", "SigIgn:\t0000000000000000")
}

/// The limits that the table sets, and those that it leaves alone. xinetd raises the soft limit of open files to the hard
/// one, which makes programs slow that walk all of them: here it stays.
fn limits(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("Max open files")).map(|line| format!("{line}\n")).collect()
}

/// Descriptors as `ls -l` shows them, without the directory that it reads itself and without the numbers of sockets; but
/// whether they are one socket.
fn descriptors(text: &str) -> String {
    let links = text.lines().filter_map(|line| line.split_once(" -> "));
    let targets: Vec<&str> = links.map(|(_, target)| target).filter(|target| !target.starts_with("/proc/")).collect();
    let one = targets.windows(2).all(|pair| pair[0] == pair[1]);
    format!("{} descriptors, one socket: {one}", targets.len())
}

/// The variables that the table sets. REMOTE_HOST has no `::ffff:` here, and there are more variables of the connection.
fn environment(text: &str) -> String {
    let ours = ["PATH=", "REMOTE_ADDR=", "REMOTE_PORT=", "PROTO=", "TCP"];
    let mut variables: Vec<String> = text.split_terminator('\0').map(|one| one.replace("::ffff:", "")).collect();
    variables.retain(|one| !ours.iter().any(|start| one.starts_with(start)));
    variables.sort();
    variables.join("\n")
}

#[test]
fn handlers_see_the_same_process() {
    let mut table = Table::new("instances = 50; per_source = 40");
    table.add("status", "server = /bin/cat; server_args = /proc/self/status");
    table.add("daemon", "server = /bin/cat; server_args = /proc/self/status; user = daemon; group = tty; umask = 027");
    table.add("groups", "server = /bin/cat; server_args = /proc/self/status; user = root; groups = yes");
    table.add("number", "server = /bin/cat; server_args = /proc/self/status; user = 1234; umask = 0");
    table.add("nice", "server = /usr/bin/nice; nice = 7");
    table.add("limits", "server = /bin/cat; server_args = /proc/self/limits; rlimit_cpu = 20; rlimit_as = 512M; rlimit_stack = 4096k; rlimit_data = 256M");
    table.add("files", "server = /bin/cat; server_args = /proc/self/limits; rlimit_files = 1k");
    table.add("descriptors", "server = /bin/ls; server_args = -l /proc/self/fd");
    table.add("argv", "server = /bin/cat; server_args = /proc/self/cmdline \"a b\" c\\ $HOME #x");
    table.add("named", "flags = NAMEINARGS; server = /bin/cat; server_args = tac /proc/self/cmdline");
    table.add("env", "server = /bin/cat; server_args = /proc/self/environ; passenv =; env = A=b C==; env += D=");
    table.add("directory", "server = /bin/readlink; server_args = /proc/self/cwd");
    table.add("v4", "flags = IPv4; server = /bin/cat; server_args = /proc/self/environ; passenv =");
    let ask = || {
        let plain = |name| from_home(table.port(name), b"");
        let mut answers = Answers::new();
        for name in ["status", "daemon", "groups", "number"] {
            answers.insert(name, status(&plain(name)));
        }
        for name in ["nice", "argv", "named", "directory"] {
            answers.insert(name, plain(name));
        }
        answers.insert("limits", limits(&plain("limits")));
        answers.insert("files", plain("files").lines().filter(|line| line.starts_with("Max open files")).collect());
        answers.insert("descriptors", descriptors(&plain("descriptors")));
        answers.insert("env", environment(&plain("env")));
        answers.insert("v4", environment(&plain("v4")));
        answers
    };
    let Some((theirs, ours)) = table.both(ask) else { return };
    assert_eq!(theirs["descriptors"], "3 descriptors, one socket: true");
    assert_eq!(theirs["nice"], "7\n");
    assert_eq!(theirs["env"], "A=b\nC==\nD=\nREMOTE_HOST=127.0.0.1");
    assert!(theirs["daemon"].contains("Umask:\t0027") && theirs["number"].contains("Gid:\t1234"), "{theirs:?}");
    assert!(theirs["argv"].contains("\"a\0b\""), "{:?}", theirs["argv"]);
    same(&theirs, &ours);
}

#[test]
fn clients_get_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (welcome, go_away) = (folder.path().join("welcome"), folder.path().join("go-away"));
    fs::write(&welcome, "Welcome.\r\n").unwrap();
    fs::write(&go_away, "Go away.\r\n").unwrap();
    let mut table = Table::new(&format!("banner_fail = {}", go_away.display()));
    table.add("cat", "server = /bin/cat");
    table.add("welcome", &format!("server = /bin/cat; banner_success = {}", welcome.display()));
    table.add("always", &format!("server = /bin/cat; banner = {}", welcome.display()));
    table.add("home", "server = /bin/cat; only_from = 127.0.0.1 192.0.2.0");
    table.add("all_but", "server = /bin/cat; only_from = 127.0.0.0; no_access = 127.0.0.{2,3}");
    table.add("nobody", "server = /bin/cat; only_from =");
    table.add("none", "server = /bin/cat; instances = 0");
    table.add("never", "server = /bin/cat; access_times = 0:00-0:01 0:01-0:02; max_load = 0.000001");
    table.add("stderr", "server = /bin/cat; server_args = /no-such-file");
    table.add("echo", "type = INTERNAL UNLISTED");
    table.add("discard", "type = INTERNAL UNLISTED");
    let cat = table.port("cat");
    table.add("redirect", &format!("redirect = 127.0.0.1 {cat}"));
    table.add("six", "flags = IPv6; server = /bin/cat");
    let megabyte: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n / 7 % 26) as u8).collect();
    let ask = || {
        let from = |last, name| answer(connect_from([127, 0, 0, last], table.port(name)), b"hello\n");
        let mut answers = Answers::new();
        for name in ["cat", "welcome", "always", "nobody", "none", "never", "stderr", "echo", "discard"] {
            answers.insert(name, from(1, name));
        }
        // xinetd ends the connection when the client has sent everything, so this one waits for the answer first.
        let mut redirected = connect_from([127, 0, 0, 1], table.port("redirect")).unwrap();
        crate::support::echo(&mut redirected, "there and back\n");
        answers.insert("redirect", answer(Ok(redirected), b""));
        answers.insert("home from 1", from(1, "home"));
        answers.insert("home from 2", from(2, "home"));
        answers.insert("all_but from 1", from(1, "all_but"));
        answers.insert("all_but from 3", from(3, "all_but"));
        answers.insert("megabyte", from_home(cat, &megabyte));
        if has_ipv6() {
            let address = (std::net::Ipv6Addr::LOCALHOST, table.port("six")).into();
            answers.insert("over IPv6", answer(Ok(connect_to(address)), b"six\n"));
        }
        answers
    };
    let Some((theirs, ours)) = table.both(ask) else { return };
    assert_eq!((theirs["home from 1"].as_str(), theirs["home from 2"].as_str()), ("hello\n", "Go away.\r\n"));
    assert_eq!(theirs["welcome"], "Welcome.\r\nhello\n");
    assert_eq!(theirs["never"], "Go away.\r\n");
    assert_eq!((theirs["megabyte"].len(), theirs["echo"].as_str()), (1_000_000, "hello\n"));
    same(&theirs, &ours);
}

#[test]
fn full_services_refuse_the_next_client() {
    let mut table = Table::new("instances = UNLIMITED");
    table.add("two", "server = /bin/cat; instances = 2");
    table.add("one_each", "server = /bin/cat; per_source = 1");
    let ask = || {
        let held = |name| {
            let mut stream = connect_from([127, 0, 0, 1], table.port(name)).unwrap();
            crate::support::echo(&mut stream, "here\n");
            stream
        };
        let (_first, _second) = (held("two"), held("two"));
        let _own = held("one_each");
        let from = |last, name| answer(connect_from([127, 0, 0, last], table.port(name)), b"hello\n");
        Answers::from([
            ("the third of two", from(2, "two")),
            ("another of mine", from(1, "one_each")),
            ("one of one source", from(2, "one_each")),
        ])
    };
    let Some((theirs, ours)) = table.both(ask) else { return };
    assert_eq!(theirs["the third of two"], "");
    assert_eq!(theirs["one of one source"], "hello\n");
    same(&theirs, &ours);
}

/// Asks by datagram, again and again, as datagrams may be lost.
fn datagram(port: u16, request: &[u8]) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answer = [0; 2048];
    for _ in 0..40 {
        // An error of the one before, if no daemon listened then.
        let _ = socket.send(request);
        if let Ok(size) = socket.recv(&mut answer) {
            return String::from_utf8_lossy(&answer[..size]).into_owned();
        }
    }
    "no answer".to_owned()
}

#[test]
fn datagrams_are_answered_the_same() {
    let mut table = Table::new("instances = UNLIMITED");
    // Without a stream there would be nothing to wait for.
    table.add("cat", "server = /bin/cat");
    table.add("udp-echo", "type = INTERNAL UNLISTED; id = x; socket_type = dgram; protocol = udp; wait = yes");
    table.text = table.text.replace("service udp-echo", "service echo");
    let ask = || Answers::from([("echo", datagram(table.port("udp-echo"), b"hello"))]);
    let Some((theirs, ours)) = table.both(ask) else { return };
    assert_eq!(theirs["echo"], "hello");
    same(&theirs, &ours);
}
