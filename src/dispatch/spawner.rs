//! Service and connection → a prepared child → a running handler.
//!
//! What does not depend on the connection is prepared when a table comes into force ([`Recipe`]); for each connection
//! only a few variables are written into a buffer that is used again. The acceptor calls this, goes on, and asks each
//! [`Start`] later how it went. Nothing here counts, logs or waits; a failure tells the step and the errno.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use crate::config::{Endpoint, Resource, Service, Stderr, Transport};
use crate::net::Peer;
use crate::sys::descriptor::Nofile;
use crate::sys::exec::{self, Child, Failure, Limit, Start, Strings};
use crate::types::Step;

/// The search path that handlers get, unless `env` or `pass_env` says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// No handler gets a soft limit on open descriptors below this, as far as the hard limit allows (amandad, for one,
/// uses descriptors above 150).
const NOFILE_LEAST: u64 = 1024;

/// What all handlers of a service have in common.
#[derive(Debug)]
pub struct Recipe {
    child: Rc<exec::Recipe>,
    /// The part of the environment that is the same for all: `NAME=value` and a NUL byte each.
    env: Vec<u8>,
}

impl Recipe {
    /// Prepares the handlers of `service`; `signals` are those that the daemon catches or ignores. Reads the daemon's own
    /// variables that `pass_env` names.
    #[must_use]
    pub fn new(service: &Service, nofile: Nofile, signals: &[i32]) -> Self {
        let child = exec::Recipe {
            stderr: match service.stderr {
                Stderr::Daemon => exec::Stderr::Keep,
                Stderr::Connection => exec::Stderr::Connection,
                Stderr::Null => exec::Stderr::Null,
            },
            rlimits: limits(service, nofile),
            nice: service.nice,
            umask: service.umask,
            chroot: service.chroot.clone(),
            directory: service.directory.clone(),
            credentials: service.credentials.as_ref().map(|who| (who.uid, who.gid, who.groups.clone())),
            path: service.program.path.clone(),
            argv: Strings::of(service.program.argv.iter().map(AsRef::as_ref)),
            signals: signals.to_vec(),
        };
        Self { child: Rc::new(child), env: environment(service) }
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

/// What a handler is told of its connection, or of the listening socket of a `wait` service.
#[derive(Debug)]
pub struct Connection<'a> {
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

/// So many places for starts are kept, to be used again; where more are under way, others are made for them.
const KEPT: usize = 16;

/// Starts handlers.
#[derive(Debug)]
pub struct Spawner {
    idle: Vec<Start>,
}

impl Spawner {
    /// With one place to start handlers from.
    ///
    /// # Errors
    /// No memory for a child's stack.
    pub fn new() -> io::Result<Self> {
        Ok(Self { idle: vec![Start::new()?] })
    }

    /// Is there a place to start a handler from? Makes one if it must and there is memory for it.
    pub fn has_place(&mut self) -> bool {
        if self.idle.is_empty() {
            self.idle.extend(Start::new());
        }
        !self.idle.is_empty()
    }

    /// Starts a handler with `socket` as its descriptors 0 and 1. Signals must be blocked, as they always are outside of
    /// the daemon's wait. How the start went is told by [`Start::finish`], and its place comes back to
    /// [`Spawner::take_back`].
    ///
    /// # Errors
    /// No process could be made, or there is no place ([`Spawner::has_place`]); the socket comes back.
    pub fn start(
        &mut self,
        recipe: &Recipe,
        socket: OwnedFd,
        to: &Connection<'_>,
    ) -> Result<(Child, Start), (Failure, OwnedFd)> {
        let Some(mut start) = self.idle.pop() else {
            return Err((Failure { step: Step::Clone, errno: libc::ENOMEM }, socket));
        };
        let fill = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&recipe.env);
            describe(bytes, to);
        };
        let result = start.go(&recipe.child, socket, fill);
        match result {
            Ok(child) => Ok((child, start)),
            Err((failure, socket)) => {
                self.take_back(start);
                Err((failure, socket))
            }
        }
    }

    /// Keeps a place whose start is over.
    pub fn take_back(&mut self, start: Start) {
        if self.idle.len() < KEPT {
            self.idle.push(start);
        }
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
    let begin = bytes.len();
    // Writing to a vector can't fail.
    let _ = write!(bytes, "{name}={value}");
    if bytes[begin..].contains(&0) {
        // What follows the NUL would be another variable, of the client's choice. No kernel gives such a path.
        bytes.truncate(begin);
    } else {
        bytes.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_hold_another_variable() {
        let mut bytes = Vec::new();
        set(&mut bytes, "A", "1");
        set(&mut bytes, "IPCREMOTEPATH", "/tmp/a\0LD_PRELOAD=/tmp/evil.so");
        set(&mut bytes, "B", "2");
        assert_eq!(bytes, b"A=1\0B=2\0");
    }
}
