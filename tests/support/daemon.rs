//! The daemon under test: how it is set up and started, and what it says of itself.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    OXINETD, PATIENCE, children_of, connect, echo, free_port, nobody, put_program, state_of, wait_for, wait_until,
};

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

    /// Children that have ended and are not collected.
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

/// A table of TCP services, a port of its own for each: their names and the rest of their keys, as YAML writes them in
/// one line. Gives the ports and the text.
pub fn services<const N: usize>(services: [(&str, &str); N]) -> ([u16; N], String) {
    let ports = services.map(|_| free_port());
    let lines =
        services.iter().zip(ports).map(|((name, keys), port)| format!("  {name}: {{ listen: {port}, {keys} }}\n"));
    (ports, format!("services:\n{}", lines.collect::<String>()))
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

impl Setup {
    /// The same with the daemon run by `nobody`, which gets the folder and a copy of the binary in it. Needs root.
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
