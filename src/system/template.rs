//! What all handlers of a service have in common, and the variables that each is told of its connection.
//!
//! What does not depend on the connection is prepared when a table comes into force ([`HandlerTemplate`]); for each
//! connection only a few variables are written into a buffer that is used again. Nothing here fails.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use crate::config::{Resource, Service, Stderr};
use crate::dispatch::kernel::ConnectionInfo;
use crate::net::{Endpoint, Peer, Transport};
use crate::sys::descriptor::Nofile;
use crate::sys::exec::{self, Limit, Strings};

/// The search path that handlers get, unless `env` or `pass_env` says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// No handler gets a soft limit on open descriptors below this, as far as the hard limit allows (amandad, for one,
/// uses descriptors above 150).
const NOFILE_MIN: u64 = 1024;

/// What all handlers of a service have in common.
#[derive(Debug)]
pub struct HandlerTemplate {
    pub(super) child: Rc<exec::Recipe>,
    /// The part of the environment that is the same for all: `NAME=value` and a NUL byte each.
    pub(super) env: Vec<u8>,
}

impl HandlerTemplate {
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
        soft: nofile.soft.max(NOFILE_MIN).min(nofile.hard),
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

/// The variables of one connection: those of CGI (RFC 3875 §4.1), as systemd sets them, of xinetd, and of UCSPI.
pub(super) fn describe(bytes: &mut Vec<u8>, to: &ConnectionInfo<'_>, peer_path: Option<&Path>) {
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
                set(bytes, "TCPCONNNUM", to.source_count);
            }
        }
        Endpoint::UnixStream(path) | Endpoint::UnixDatagram(path) => describe_unix(bytes, path, to, peer_path),
    }
}

fn describe_unix(bytes: &mut Vec<u8>, path: &Path, to: &ConnectionInfo<'_>, peer_path: Option<&Path>) {
    set(bytes, "PROTO", "IPC");
    set(bytes, "IPCLOCALPATH", path.display());
    if let Peer::Unix { uid, gid } = to.peer {
        set(bytes, "IPCREMOTEEUID", uid);
        set(bytes, "IPCREMOTEEGID", gid);
        set(bytes, "IPCCONNNUM", to.source_count);
    }
    if let Some(path) = peer_path {
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
