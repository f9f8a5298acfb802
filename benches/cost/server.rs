//! The servers under test: how each is configured and started, when it is ready, and how it ends.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt::ReuseAddr};
use nix::unistd::Pid;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The program of this package.
    Oxinetd,
    /// [`crate::minimal::plain`].
    Minimal,
    /// [`crate::minimal::session`].
    Session,
    /// [`crate::minimal::design`].
    Design,
    /// tcpsvd of ipsvd or busybox; without `-l` ipsvd asks the DNS for each connection.
    Tcpsvd,
    /// openbsd-inetd.
    Inetd,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oxinetd => "oxinetd",
            Self::Minimal => "minimal",
            Self::Session => "session",
            Self::Design => "design",
            Self::Tcpsvd => "tcpsvd",
            Self::Inetd => "inetd",
        }
    }

    /// The program and its first words, if it is on this machine.
    fn program(self) -> Option<Vec<PathBuf>> {
        match self {
            Self::Oxinetd => Some(vec![env!("CARGO_BIN_EXE_oxinetd").into()]),
            Self::Minimal | Self::Session | Self::Design => Some(vec![std::env::current_exe().ok()?]),
            Self::Tcpsvd => find("tcpsvd").map(|path| vec![path]).or_else(busybox_tcpsvd),
            Self::Inetd => find("inetd").map(|path| vec![path]),
        }
    }

    /// Whether it serves more than one port.
    pub(crate) fn serves_many(self) -> bool {
        matches!(self, Self::Oxinetd | Self::Inetd)
    }

    pub(crate) fn is_here(self) -> bool {
        self.program().is_some()
    }
}

/// The program of this name in PATH or where servers live.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join(name)).find(|file| file.is_file())
}

fn busybox_tcpsvd() -> Option<Vec<PathBuf>> {
    let busybox = find("busybox")?;
    let applets = Command::new(&busybox).arg("--list").output().ok()?.stdout;
    let has_it = applets.split(|&byte| byte == b'\n').any(|applet| applet == b"tcpsvd");
    has_it.then(|| vec![busybox, "tcpsvd".into()])
}

/// A place for the files of one run, and the handler in it.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) handler: PathBuf,
}

/// A running server; ended when dropped. Its handlers end when their connections do.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// How long it took from exec until all ports were listened on.
    pub(crate) ready_after: Duration,
    process: Child,
    ports: Vec<u16>,
    files: PathBuf,
}

impl Server {
    /// Starts `kind` with a service on each of `ports`, the last of which holds; waits until all listen.
    pub(crate) fn start(kind: Kind, place: &Place, ports: Vec<u16>) -> Result<Self> {
        let files = place.directory.join(format!("{}-{}", kind.name(), ports[0]));
        configure(kind, place, &files, &ports)?;
        let program = kind.program().ok_or_else(|| Error::other("not on this machine"))?;
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).stdin(Stdio::null());
        let port = ports[0].to_string();
        let [config, log] = ["yaml", "log"].map(|suffix| files.with_extension(suffix));
        let words: Vec<&OsStr> = match kind {
            Kind::Oxinetd => vec!["-c".as_ref(), config.as_ref(), "--log".as_ref(), log.as_ref()],
            Kind::Inetd => ["-i", "-R", "2000000000"].iter().map(OsStr::new).chain([config.as_os_str()]).collect(),
            Kind::Tcpsvd => ["-l", "localhost", "-b", "1024", "-c", "20000", "127.0.0.1", &port]
                .map(OsStr::new)
                .into_iter()
                .chain([place.handler.as_os_str()])
                .collect(),
            Kind::Minimal | Kind::Session | Kind::Design => {
                vec![crate::SERVE.as_ref(), kind.name().as_ref(), port.as_ref(), place.handler.as_ref()]
            }
        };
        let begin = Instant::now();
        let process = command.args(words).spawn()?;
        let mut server = Self { kind, ready_after: Duration::ZERO, process, ports, files };
        server.wait_until(|server| server.ports.iter().all(|&port| listens(port)))?;
        server.ready_after = begin.elapsed();
        Ok(server)
    }

    /// Makes the first service listen elsewhere, by SIGHUP, and waits until it does.
    pub(crate) fn move_service(&mut self, place: &Place, to: u16) -> Result<Duration> {
        let from = std::mem::replace(&mut self.ports[0], to);
        configure(self.kind, place, &self.files, &self.ports)?;
        let begin = Instant::now();
        self.signal(Signal::SIGHUP)?;
        self.wait_until(|_| listens(to) && !listens(from))?;
        Ok(begin.elapsed())
    }

    fn wait_until(&mut self, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let begin = Instant::now();
        while !ready(self) {
            if let Some(status) = self.process.try_wait()? {
                return Err(Error::other(format!("it ended, {status}")));
            }
            if begin.elapsed() > Duration::from_secs(20) {
                return Err(Error::other("it does not listen after 20 s"));
            }
            sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
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
        Ok(kill(Pid::from_raw(self.pid() as i32), signal)?)
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
        // A stopped process would not see TERM; errors mean that it is gone already.
        let _ = self.signal(Signal::SIGTERM).and_then(|()| self.signal(Signal::SIGCONT));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) && matches!(self.process.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes the configuration, where there is one.
fn configure(kind: Kind, place: &Place, files: &Path, ports: &[u16]) -> Result<()> {
    let handler = place.handler.display();
    let mut text = String::new();
    if kind == Kind::Oxinetd {
        text += "daemon: { instances: 20000 }\ndefaults: { instances: unlimited, per_source: { instances: 20000 } }\nservices:\n";
    }
    for (index, port) in ports.iter().enumerate() {
        let hold = if index + 1 == ports.len() { " hold" } else { "" };
        let written = match kind {
            Kind::Oxinetd => {
                writeln!(text, "  s{index}: {{ listen: \"tcp/127.0.0.1:{port}\", program: {handler}{hold} }}")
            }
            Kind::Inetd => writeln!(text, "127.0.0.1:{port} stream tcp nowait root {handler} handler{hold}"),
            Kind::Minimal | Kind::Session | Kind::Design | Kind::Tcpsvd => return Ok(()),
        };
        written.map_err(Error::other)?;
    }
    fs::write(files.with_extension("yaml"), text)
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

/// Ports that nobody uses, below those that Linux gives to clients (32768).
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take_while(|&port| port < 32_768);
    ports.filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()).take(count).collect()
}
