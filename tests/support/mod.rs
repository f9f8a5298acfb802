//! What the end-to-end tests share: a daemon of their own on free ports, and waiting for conditions.
//!
//! Each test starts the real binary with a table of its own and drives it from 127.0.0.0/8 or ::1. Nothing here sleeps
//! for a fixed time: [`wait_for`] polls, with a generous limit. A dropped [`Daemon`] is killed, with its handlers.
#![allow(dead_code, unreachable_pub, reason = "a module of every test, none of which uses all of it")]

pub mod fake_machine;
pub mod validator;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long a condition may take before a test fails; far more than any needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
pub const OXINETD: &str = env!("CARGO_BIN_EXE_oxinetd");

/// Polls until `condition` gives a value.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Polls until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// A port that no other test has, below the range from which the kernel takes ports for clients.
pub fn free_port() -> u16 {
    let folder = std::env::temp_dir().join("oxinetd-test-ports");
    fs::create_dir_all(&folder).unwrap();
    // For every user; who has not made it can't change it, and need not.
    let _ = fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o1777));
    let start = u16::try_from(std::process::id() % 18_000).unwrap();
    for step in 0..18_000_u16 {
        let port = 12_000 + (start + step.wrapping_mul(7)) % 18_000;
        let Ok(file) = File::create(folder.join(port.to_string())) else { continue };
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        if !in_use(port) {
            // Held until this process ends.
            std::mem::forget(lock);
            return port;
        }
    }
    panic!("no free port");
}

/// Has any socket this port? The kernel is asked, and no socket bound to find out: a program that another thread starts
/// in that moment has it too until its execve(2), and the daemon would find the port taken.
fn in_use(port: u16) -> bool {
    ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| !sockets_at(table, port).is_empty())
}

/// The sockets with this port at our end, in one of the lists of this network namespace (proc_net(5): `tcp`, `udp6`), as
/// fields: sl local_address rem_address st tx_queue:rx_queue … inode.
pub fn sockets_at(list: &str, port: u16) -> Vec<Vec<String>> {
    let (list, end) = (Path::new("/proc/thread-self/net").join(list), format!(":{port:04X}"));
    let lines = fs::read_to_string(list).unwrap_or_default();
    let sockets = lines.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    sockets.filter(|fields| fields[1].ends_with(&end)).collect()
}

/// Closes a listening socket, and ends the listening first: a program that another thread starts in that moment has the
/// socket too until its execve(2).
pub fn stop_listening(listener: impl AsFd) {
    nix::sys::socket::shutdown(listener.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
}

/// Puts a program at `place`. Another process writes it: the kernel runs no file that somebody could still write to, as a
/// program could that another thread of ours starts in that moment, until its execve(2).
pub fn put_program(place: &Path, content: impl AsRef<[u8]>) {
    let mut shell = Command::new("/bin/sh");
    let mut writer =
        shell.args(["-c", r#"cat > "$0" && chmod 755 "$0""#]).arg(place).stdin(Stdio::piped()).spawn().unwrap();
    writer.stdin.take().unwrap().write_all(content.as_ref()).unwrap();
    assert!(writer.wait().unwrap().success());
}

/// Says on standard error that a test could not do its work here, and why.
pub fn skip(why: &str) {
    // Not by eprintln!, which the test runner keeps back while a test passes.
    let _ = writeln!(io::stderr(), "skipped: {}: {why}", thread::current().name().unwrap_or_default());
}

/// Is the test run as root?
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The path of a program, if it is installed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}

/// A daemon that is about to be started.
pub struct Setup {
    pub command: Command,
    pub folder: TempDir,
    notify: UnixDatagram,
}

impl Setup {
    /// A table in a folder of its own. `FOLDER` in it stands for that folder.
    pub fn new(table: &str) -> Self {
        Self::run_by(&[OXINETD], table)
    }

    /// The same with the daemon started by another program: `prefix` ends with the path of the binary.
    pub fn run_by(prefix: &[&str], table: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("oxinetd-test-").tempdir().unwrap();
        // Handlers of other users look into it.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let notify = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).arg("-c").arg(folder.path().join("table.yaml"));
        command.arg("--log").arg(folder.path().join("log"));
        command.arg("--control").arg(folder.path().join("control.sock"));
        command.env("NOTIFY_SOCKET", folder.path().join("notify")).stdin(Stdio::null());
        command.stderr(File::create(folder.path().join("stderr")).unwrap());
        let setup = Self { command, folder, notify };
        setup.write(table);
        setup
    }

    pub fn write(&self, table: &str) {
        write_table(self.folder.path(), table);
    }

    /// Starts it and waits until it is ready.
    pub fn start(mut self) -> Daemon {
        let process = self.command.spawn().unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        let mut daemon = Daemon { process, pid, folder: self.folder, notify: self.notify };
        daemon.wait_ready();
        daemon
    }

    /// Runs it to its end: its status and what it wrote to standard error. For daemons that shall not start.
    pub fn fail(mut self) -> (ExitStatus, String) {
        let mut process = self.command.spawn().unwrap();
        let status = wait_for("the daemon to give up", || process.try_wait().unwrap());
        (status, fs::read_to_string(self.folder.path().join("stderr")).unwrap())
    }
}

fn write_table(folder: &Path, table: &str) {
    let table = table.replace("FOLDER", folder.to_str().unwrap());
    let new = folder.join("table.new");
    fs::write(&new, table).unwrap();
    fs::rename(new, folder.join("table.yaml")).unwrap();
}

/// A running daemon.
pub struct Daemon {
    pub process: Child,
    /// Its process id: that of the child, unless a program in between has said otherwise.
    pub pid: i32,
    pub folder: TempDir,
    notify: UnixDatagram,
}

impl Daemon {
    /// Starts a daemon with `table` and waits until it is ready.
    pub fn start(table: &str) -> Self {
        Setup::new(table).start()
    }

    fn wait_ready(&mut self) {
        let mut bytes = [0; 4096];
        self.notify.set_nonblocking(true).unwrap();
        wait_until("READY=1", || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the daemon ended with {status}: {}{}", self.stderr(), self.log());
            }
            self.notify.recv(&mut bytes).is_ok_and(|size| bytes[..size].starts_with(b"READY=1"))
        });
    }

    /// What the daemon has told the service manager since it was last asked: a message each.
    pub fn notified(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let mut all = Vec::new();
        while let Ok(size) = self.notify.recv(&mut bytes) {
            all.push(String::from_utf8_lossy(&bytes[..size]).into_owned());
        }
        all
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Waits until the log has a line with all of `parts`, and gives it.
    pub fn wait_log(&self, parts: &[&str]) -> String {
        wait_for(&format!("{parts:?} in the log"), || {
            let log = self.log();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap();
    }

    pub fn write(&self, table: &str) {
        write_table(self.folder.path(), table);
    }

    /// Sends SIGHUP and waits for the outcome. The error is what the daemon says of the failure.
    pub fn reload(&self) -> Result<(), String> {
        self.notified();
        self.signal(Signal::SIGHUP);
        let state = wait_for("the end of the reload", || {
            self.notified().into_iter().find(|message| message.starts_with("READY=1"))
        });
        if state.contains("failed") { Err(state) } else { Ok(()) }
    }

    /// Writes a new table and reloads it, which must work.
    pub fn change(&self, table: &str) {
        self.write(table);
        let log = self.reload();
        assert_eq!(log, Ok(()), "{}", self.log());
    }

    /// The daemon's own books.
    pub fn status(&self) -> Value {
        let lines = |log: &str| log.lines().filter(|line| line.contains("status json={")).count();
        let before = lines(&self.log());
        self.signal(Signal::SIGUSR1);
        wait_for("the status", || {
            let log = self.log();
            let line = log.lines().filter(|line| line.contains("status json={")).nth(before)?;
            serde_json::from_str(&line[line.find('{')?..]).ok()
        })
    }

    /// The handlers of one service, by the daemon's books.
    pub fn count(&self, service: &str) -> u64 {
        self.status()["services"][service]["handlers"].as_u64().unwrap_or(0)
    }

    /// The daemon's live children, by the kernel's books: zombies do not count.
    pub fn children(&self) -> Vec<i32> {
        children_of(self.pid).into_iter().filter(|&pid| state_of(pid).is_some_and(|state| state != 'Z')).collect()
    }

    /// Children that have ended and that nobody has collected.
    pub fn zombies(&self) -> usize {
        children_of(self.pid).into_iter().filter(|&pid| state_of(pid) == Some('Z')).count()
    }

    /// The numbers of the daemon's open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// The number of its descriptors between two turns: whatever was started is a handler, and the log has found out about
    /// the time zone.
    pub fn settled_descriptors(&self) -> usize {
        self.status();
        self.descriptors()
    }

    /// Stops the daemon, until SIGCONT, and waits until it stands still.
    pub fn stand_still(&self) {
        self.signal(Signal::SIGSTOP);
        // t: below strace(1).
        wait_until("the daemon to stand still", || state_of(self.pid).is_some_and(|state| "Tt".contains(state)));
    }

    /// Waits until the daemon knows of no handler and the kernel of no child.
    pub fn wait_idle(&self) {
        wait_until("all handlers to be gone", || children_of(self.pid).is_empty() && self.status()["handlers"] == 0);
    }

    /// Waits for the end of the daemon.
    pub fn wait_end(&mut self) -> ExitStatus {
        wait_for("the daemon's end", || self.process.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let children = children_of(self.pid);
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        for pid in children {
            let _ = kill(Pid::from_raw(-pid), Signal::SIGKILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("--- log\n{}--- stderr\n{}", self.log(), self.stderr());
        }
    }
}

/// All children of a process, zombies included.
pub fn children_of(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The state letter of a process, as ps(1) shows it.
pub fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// Connects from one of our own addresses, any of 127.0.0.0/8.
pub fn connect_from(source: [u8; 4], port: u16) -> io::Result<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(source[0], source[1], source[2], source[3], 0))?;
    connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects from 127.0.0.1.
pub fn connect(port: u16) -> TcpStream {
    connect_to(([127, 0, 0, 1], port).into())
}

pub fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `request`, says that there is no more, and gives everything that comes back.
pub fn ask(mut stream: TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Sends a request over a Unix socket, says that that is all, and gives the answer.
pub fn ask_unix(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    io::read_to_string(stream).unwrap()
}

/// [`ask`] from 127.0.0.1, as text.
pub fn ask_text(port: u16, request: &str) -> String {
    String::from_utf8(ask(connect(port), request.as_bytes()).unwrap()).unwrap()
}

/// A table of TCP services, a port of its own for each: their names and the rest of their keys, as YAML writes them in
/// one line. Gives the ports and the text.
pub fn services<const N: usize>(services: [(&str, &str); N]) -> ([u16; N], String) {
    let ports = services.map(|_| free_port());
    let lines =
        services.iter().zip(ports).map(|((name, keys), port)| format!("  {name}: {{ listen: {port}, {keys} }}\n"));
    (ports, format!("services:\n{}", lines.collect::<String>()))
}

/// The inodes of the TCP sockets that listen on a port in this network namespace, by family: `4` or `6`.
pub fn listening(port: u16) -> Vec<(u8, u64)> {
    let mut found = Vec::new();
    for (family, list) in [(4, "tcp"), (6, "tcp6")] {
        // 0A is TCP_LISTEN.
        let listeners = sockets_at(list, port).into_iter().filter(|fields| fields[3] == "0A");
        found.extend(listeners.map(|fields| (family, fields[9].parse().unwrap())));
    }
    // The kernel writes the list piece by piece, and may show a socket twice when others come and go.
    found.sort_unstable();
    found.dedup();
    found
}

/// The inode of a socket that is a process's descriptor.
pub fn socket_of(pid: i32, descriptor: i32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Is there IPv6 on this machine's loopback?
pub fn has_ipv6() -> bool {
    TcpListener::bind(("::1", 0)).is_ok()
}

/// A field of a `/proc/PID/status`, without its name.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status:?}")).trim()
}

/// Sends a word to a `cat` and waits until it comes back: its handler lives.
pub fn echo(stream: &mut TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, word.as_bytes());
}

/// A connection to a `cat` whose handler has been started.
pub fn hold(port: u16) -> TcpStream {
    let mut stream = connect(port);
    echo(&mut stream, "here\n");
    stream
}

/// The state of each listener of a service, and why, in the order of the endpoints: `listening`, `paused backoff`.
pub fn listeners(status: &Value, service: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = status["services"][service]["listeners"].as_array().cloned().unwrap_or_default();
    list.iter().map(|one| format!("{} {}", text(&one["state"]), text(&one["reason"])).trim_end().to_owned()).collect()
}

/// The ids of the user and group `nobody`, who owns nothing.
pub fn nobody() -> (u32, u32) {
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    (user.uid.as_raw(), user.gid.as_raw())
}

impl Setup {
    /// The same with the daemon run by `nobody`, who gets the folder and a copy of the binary in it. Needs root.
    pub fn as_nobody(table: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let mut setup = Self::new(table);
        let (uid, gid) = nobody();
        let copy = setup.folder.path().join("oxinetd");
        put_program(&copy, fs::read(OXINETD).unwrap());
        for path in [setup.folder.path(), &setup.folder.path().join("notify"), &copy] {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
        let mut command = Command::new(copy);
        command.args(setup.command.get_args()).stdin(Stdio::null()).uid(uid).gid(gid);
        command.env("NOTIFY_SOCKET", setup.folder.path().join("notify"));
        command.stderr(File::create(setup.folder.path().join("stderr")).unwrap());
        setup.command = command;
        setup
    }
}
