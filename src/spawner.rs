//! Service and connection → a prepared child → a running handler.
//!
//! What does not depend on the connection is prepared when a table comes into force ([`Recipe`]); for each connection
//! only a few variables are written into a buffer that is used again. The acceptor calls this. It counts nothing and
//! logs nothing; a failure tells the step and the errno, and leaves no process behind.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::source::Peer;
use crate::sys::descriptor::Nofile;
use crate::sys::exec::{self, Child, Failure, Limit, Plan, Stack, Strings};
use crate::table::{Endpoint, Resource, Service, Stderr, Transport};

/// The search path that handlers get, unless `env` or `pass_env` says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// No handler gets a soft limit on open descriptors below this, as far as the hard limit allows (amandad, for one,
/// uses descriptors above 150).
const NOFILE_LEAST: u64 = 1024;

/// What all handlers of a service have in common.
#[derive(Debug)]
pub struct Recipe {
    argv: Strings,
    limits: Vec<Limit>,
    /// The part of the environment that is the same for all: `NAME=value` and a NUL byte each.
    env: Vec<u8>,
}

impl Recipe {
    /// Prepares the handlers of `service`. Reads the daemon's own variables that `pass_env` names.
    #[must_use]
    pub fn new(service: &Service, nofile: Nofile) -> Self {
        let argv = Strings::of(service.program.argv.iter().map(AsRef::as_ref));
        Self { argv, limits: limits(service, nofile), env: environment(service) }
    }
}

fn limits(service: &Service, nofile: Nofile) -> Vec<Limit> {
    let own = Limit {
        resource: number(Resource::Nofile),
        soft: nofile.soft.max(NOFILE_LEAST).min(nofile.hard),
        hard: nofile.hard,
    };
    let asked = service.rlimits.iter().map(|limit| Limit {
        resource: number(limit.resource),
        soft: limit.soft,
        hard: limit.hard,
    });
    // In order: what the table says of open files overrides the limit that the daemon was started with.
    std::iter::once(own).chain(asked).collect()
}

fn number(resource: Resource) -> i32 {
    let number = match resource {
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::As => libc::RLIMIT_AS,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Stack => libc::RLIMIT_STACK,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
    };
    // The type differs between C libraries; the numbers are below 16 in all of them.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let number = number as i32;
    number
}

/// PATH, what is passed on, and what is set; each overrides those before it.
fn environment(service: &Service) -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt;
    let passed = service.pass_env.iter().filter_map(|name| Some((name, std::env::var_os(name)?.into_vec())));
    let set = service.env.iter().map(|(name, value)| (name, value.clone().into_bytes()));
    let path = "PATH".to_owned();
    let mut all: Vec<(&String, Vec<u8>)> = vec![(&path, PATH.into())];
    for (name, value) in passed.chain(set) {
        all.retain(|(other, _)| *other != name);
        all.push((name, value));
    }
    let mut bytes = Vec::new();
    for (name, value) in all {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(&value);
        bytes.push(0);
    }
    bytes
}

/// What a handler is started for.
#[derive(Debug)]
pub struct Connection<'a> {
    /// The accepted connection, or the listening socket of a `wait` service.
    pub socket: BorrowedFd<'a>,
    /// Where it was accepted.
    pub endpoint: &'a Endpoint,
    /// The other end.
    pub peer: Peer,
    /// Our end, for Internet sockets.
    pub local: Option<SocketAddr>,
    /// The path of the other end, for the rare Unix client that has bound its socket to one.
    pub peer_path: Option<&'a Path>,
    /// How many handlers this source has in the service, this one included.
    pub number: u32,
}

/// Starts handlers.
#[derive(Debug)]
pub struct Spawner {
    stack: Stack,
    env: Strings,
    /// Signals that the daemon catches or ignores.
    signals: Vec<i32>,
}

impl Spawner {
    /// `signals` are those that the daemon catches or ignores.
    ///
    /// # Errors
    /// No memory for the children's stack.
    pub fn new(signals: Vec<i32>) -> io::Result<Self> {
        Ok(Self { stack: Stack::new()?, env: Strings::default(), signals })
    }

    /// Starts a handler. Signals must be blocked, as they always are outside of the daemon's wait.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start(&mut self, service: &Service, recipe: &Recipe, to: &Connection<'_>) -> Result<Child, Failure> {
        self.env.refill(|bytes| {
            bytes.extend_from_slice(&recipe.env);
            describe(bytes, to);
        });
        let plan = Plan {
            connection: to.socket,
            stderr: match service.stderr {
                Stderr::Daemon => exec::Stderr::Keep,
                Stderr::Connection => exec::Stderr::Connection,
                Stderr::Null => exec::Stderr::Null,
            },
            rlimits: &recipe.limits,
            nice: service.nice,
            umask: service.umask,
            chroot: service.chroot.as_deref(),
            directory: &service.directory,
            credentials: service.credentials.as_ref().map(|who| (who.uid, who.gid, who.groups.as_slice())),
            path: &service.program.path,
            argv: &recipe.argv,
            env: &self.env,
        };
        exec::spawn(&mut self.stack, &plan, &self.signals)
    }
}

/// The variables of one connection: those of CGI (RFC 3875 §4.1), as systemd sets them, of xinetd, and of UCSPI.
fn describe(bytes: &mut Vec<u8>, to: &Connection<'_>) {
    if let Peer::Inet(address, port) = to.peer {
        for name in ["REMOTE_ADDR", "REMOTE_HOST", "TCPREMOTEIP"] {
            set(bytes, name, address);
        }
        set(bytes, "REMOTE_PORT", port);
        set(bytes, "TCPREMOTEPORT", port);
    }
    match to.endpoint {
        Endpoint::Inet { transport: Transport::Udp, .. } => set(bytes, "PROTO", "UDP"),
        Endpoint::Inet { .. } => {
            set(bytes, "PROTO", "TCP");
            if let Some(local) = to.local {
                set(bytes, "TCPLOCALIP", local.ip().to_canonical());
                set(bytes, "TCPLOCALPORT", local.port());
            }
            if to.peer != Peer::Unknown {
                set(bytes, "TCPCONNNUM", to.number);
            }
        }
        Endpoint::UnixStream(path) | Endpoint::UnixDatagram(path) => describe_unix(bytes, path, to),
    }
}

fn describe_unix(bytes: &mut Vec<u8>, path: &Path, to: &Connection<'_>) {
    set(bytes, "PROTO", "IPC");
    set(bytes, "IPCLOCALPATH", path.display());
    if let Peer::Unix { uid, gid } = to.peer {
        set(bytes, "IPCREMOTEEUID", uid);
        set(bytes, "IPCREMOTEEGID", gid);
        set(bytes, "IPCCONNNUM", to.number);
    }
    if let Some(path) = to.peer_path {
        set(bytes, "IPCREMOTEPATH", path.display());
    }
}

fn set(bytes: &mut Vec<u8>, name: &str, value: impl Display) {
    // Writing to a vector can't fail.
    let _ = write!(bytes, "{name}={value}\0");
}
