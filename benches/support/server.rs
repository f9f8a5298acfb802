//! A server under test: how it is started, when it is ready, and how it ends.

use std::fs;
use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt::ReuseAddr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Place;
use super::kind::Kind;
use super::options::{Limits, words, write_table};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; ended when dropped. Its handlers end when their connections do.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// How long it took from exec until all ports were listened on.
    pub(crate) ready_after: Duration,
    limits: Limits,
    process: Pid,
    ports: Vec<u16>,
    files: PathBuf,
}

impl Server {
    /// As few ports as `kind` can do with: one where handlers end, and one, where it can have two, where they stay.
    pub(crate) fn start(kind: Kind, limits: Limits, place: &Place) -> Result<Self> {
        Self::start_on(kind, limits, place, free_ports(if kind.serves_many() { 2 } else { 1 }))
    }

    /// The same without limits. One that doesn't start is said and left out; the others still have their figures.
    pub(crate) fn start_or_say(kind: Kind, place: &Place) -> Option<Self> {
        Self::start(kind, Limits::NONE, place)
            .inspect_err(|error| eprintln!("{} is left out: {error}", kind.name()))
            .ok()
    }

    /// A service on each of `ports`, the last of which holds; waits until all listen.
    pub(crate) fn start_on(kind: Kind, limits: Limits, place: &Place, ports: Vec<u16>) -> Result<Self> {
        let files = place.directory.join(format!("{}-{}", kind.name(), ports[0]));
        write_table(kind, &limits, place, &files, &ports)?;
        let program = kind.program().ok_or_else(|| Error::other("not on this machine"))?;
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).args(words(kind, &limits, place, &files, ports[0])?);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if kind != Kind::Oxinetd {
            // They tell of each that they refuse.
            command.stderr(Stdio::null());
        }
        let begin = Instant::now();
        let process = spawn(&mut command, (kind == Kind::InetutilsInetd).then(|| files.with_extension("pid")))?;
        let mut server = Self { kind, ready_after: Duration::ZERO, limits, process, ports, files };
        server.wait_until(|server| server.ports.iter().all(|&port| listens(port)))?;
        server.ready_after = begin.elapsed();
        Ok(server)
    }

    /// Makes the first service listen elsewhere, by SIGHUP, and waits until it does.
    pub(crate) fn move_service(&mut self, place: &Place, to: u16) -> Result<Duration> {
        let from = std::mem::replace(&mut self.ports[0], to);
        write_table(self.kind, &self.limits, place, &self.files, &self.ports)?;
        let begin = Instant::now();
        self.signal(Signal::SIGHUP)?;
        self.wait_until(|_| listens(to) && !listens(from))?;
        Ok(begin.elapsed())
    }

    fn wait_until(&mut self, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let begin = Instant::now();
        while !ready(self) {
            if !self.is_alive() {
                return Err(Error::other("it ended"));
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::other("it does not listen after 20 s"));
            }
            sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        waitpid(self.process, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_raw().unsigned_abs()
    }

    /// Where a handler writes its byte and ends.
    pub(crate) fn passing(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.ports[0])
    }

    /// Where a handler stays.
    pub(crate) fn holding(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.ports[self.ports.len() - 1])
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.process, signal)?)
    }

    /// Empties the log, which would fill the disk in a long run.
    pub(crate) fn empty_log(&self) -> Result<()> {
        match fs::OpenOptions::new().write(true).open(self.files.with_extension("log")) {
            Ok(log) => log.set_len(0),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_alive() {
            return;
        }
        // A stopped process would not see TERM; errors mean that it is gone already.
        let _ = self.signal(Signal::SIGTERM).and_then(|()| self.signal(Signal::SIGCONT));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            if !self.is_alive() {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        let _ = self.signal(Signal::SIGKILL);
        let _ = waitpid(self.process, None);
    }
}

/// The process of the server. One that goes into the background leaves its number in `pid_file`, and is our child again
/// once its parent is gone.
fn spawn(command: &mut Command, pid_file: Option<PathBuf>) -> Result<Pid> {
    let Some(file) = pid_file else {
        return i32::try_from(command.spawn()?.id()).map(Pid::from_raw).map_err(Error::other);
    };
    set_child_subreaper(true)?;
    let found = command.status().and_then(|status| match status.success() {
        true => in_background(&file),
        false => Err(Error::other("it did not start")),
    });
    set_child_subreaper(false)?;
    found
}

/// Waits for its number until it is our child: `daemon` forks twice, so not only the first parent has to be gone.
fn in_background(pid_file: &Path) -> Result<Pid> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let told = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok()).map(Pid::from_raw);
        if let Some(pid) = told.filter(|&pid| waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)) {
            return Ok(pid);
        }
        sleep(Duration::from_millis(1));
    }
    Err(Error::other("it left no number of its process"))
}

/// Whether some process listens on 127.0.0.1. Two sockets that both say SO_REUSEADDR may be bound to one port unless one
/// of them listens, so asking costs the server nothing, and no handler runs.
fn listens(port: u16) -> bool {
    let bound = || {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
    };
    bound() == Err(Errno::EADDRINUSE)
}

/// Ports that nobody uses, below those that Linux gives to clients (32768); each comes again after all others.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let ports = std::iter::repeat_with(|| PORTS.start + (NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len()) as u16);
    let free = ports.take(PORTS.len()).filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.take(count).collect()
}
