//! The steps and the environment of handlers: the part that all handlers of a service share, and that of a
//! connection.
//!
//! The server makes a [`HandlerTemplate`] when a table comes into force; each connection only adds a few variables
//! to a buffer that is used again. Only a template without a plan fails.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use crate::config::{Credentials, Resource, Service, Stderr};
use crate::dispatch::kernel::ConnectionInfo;
use crate::net::{Endpoint, Peer, Transport};
use crate::sys::descriptor::Nofile;
use crate::sys::spawn::{ChildStep, ExecPlan, PlanError, ProcessState, Rlimit, StderrTo, Strings};

/// The search path that handlers get, unless `env` or `pass_env` says otherwise.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// No handler gets a soft limit on open descriptors below this, as far as the hard limit allows (amandad, for one,
/// uses descriptors above 150).
const NOFILE_MIN: u64 = 1024;

/// What all handlers of a service have in common.
#[derive(Debug)]
pub(crate) struct HandlerTemplate {
    pub(super) plan: Rc<ExecPlan>,
    /// The part of the environment that is the same for all: `NAME=value` and a NUL byte each.
    pub(super) env: Vec<u8>,
}

impl HandlerTemplate {
    /// Prepares the handlers of `service`; `nofile` is the limit on open files that the daemon was started with,
    /// `process` what it is now. Reads the daemon's own variables that `pass_env` names.
    ///
    /// # Errors
    /// The settings of the service make no plan.
    pub(crate) fn new(service: &Service, nofile: Nofile, process: &ProcessState) -> Result<Self, PlanError> {
        let argv = Strings::from_list(service.program.argv.iter().map(AsRef::as_ref));
        let plan = ExecPlan::compile(steps_of(service, nofile), process, service.program.path.clone(), argv)?;
        Ok(Self { plan: Rc::new(plan), env: build_environment(service) })
    }
}

/// The steps that the service wants of its handlers. The plan leaves out those that would change nothing.
fn steps_of(service: &Service, nofile: Nofile) -> Vec<ChildStep> {
    let mut wishes = vec![ChildStep::SetUmask(service.umask), ChildStep::ChangeDirectory(service.directory.clone())];
    match service.stderr {
        Stderr::Daemon => {}
        Stderr::Connection => wishes.push(ChildStep::SetStderr(StderrTo::Connection)),
        Stderr::Null => wishes.push(ChildStep::SetStderr(StderrTo::Null)),
    }
    wishes.extend(limit_steps(service, nofile));
    wishes.extend(service.nice.map(ChildStep::SetNice));
    wishes.extend(service.chroot.clone().map(ChildStep::ChangeRoot));
    if let Some(Credentials { uid, gid, groups, .. }) = &service.credentials {
        wishes.push(ChildStep::SetGroups(groups.as_slice().into()));
        wishes.extend([ChildStep::SetGid(*gid), ChildStep::SetUid(*uid)]);
    }
    wishes
}

/// The limits of the table, and the limit on open files that the daemon was started with unless the table has
/// another.
fn limit_steps(service: &Service, nofile: Nofile) -> Vec<ChildStep> {
    let set = |resource, soft, hard| {
        ChildStep::SetRlimit(Rlimit { resource: resource_number(resource), value: [soft, hard] })
    };
    let mut limits: Vec<_> = service.rlimits.iter().map(|limit| set(limit.resource, limit.soft, limit.hard)).collect();
    if !service.rlimits.iter().any(|limit| limit.resource == Resource::Nofile) {
        limits.push(set(Resource::Nofile, nofile.soft.max(NOFILE_MIN).min(nofile.hard), nofile.hard));
    }
    limits
}

fn resource_number(resource: Resource) -> i32 {
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
fn build_environment(service: &Service) -> Vec<u8> {
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
pub(super) fn describe_connection(bytes: &mut Vec<u8>, to: &ConnectionInfo<'_>, peer_path: Option<&Path>) {
    if let Peer::Inet(address, port) = to.peer {
        for name in ["REMOTE_ADDR", "REMOTE_HOST", "TCPREMOTEIP"] {
            set_variable(bytes, name, address);
        }
        set_variable(bytes, "REMOTE_PORT", port);
        set_variable(bytes, "TCPREMOTEPORT", port);
    }
    match to.endpoint {
        Endpoint::Inet { transport: Transport::Udp, .. } => set_variable(bytes, "PROTO", "UDP"),
        Endpoint::Inet { .. } => {
            set_variable(bytes, "PROTO", "TCP");
            if let Some(local) = to.local {
                set_variable(bytes, "TCPLOCALIP", local.ip().to_canonical());
                set_variable(bytes, "TCPLOCALPORT", local.port());
            }
            if to.peer != Peer::Unknown {
                set_variable(bytes, "TCPCONNNUM", to.source_count);
            }
        }
        Endpoint::UnixStream(path) | Endpoint::UnixDatagram(path) => describe_unix(bytes, path, to, peer_path),
    }
}

fn describe_unix(bytes: &mut Vec<u8>, path: &Path, to: &ConnectionInfo<'_>, peer_path: Option<&Path>) {
    set_variable(bytes, "PROTO", "IPC");
    set_variable(bytes, "IPCLOCALPATH", path.display());
    if let Peer::Unix { uid, gid } = to.peer {
        set_variable(bytes, "IPCREMOTEEUID", uid);
        set_variable(bytes, "IPCREMOTEEGID", gid);
        set_variable(bytes, "IPCCONNNUM", to.source_count);
    }
    if let Some(path) = peer_path {
        set_variable(bytes, "IPCREMOTEPATH", path.display());
    }
}

fn set_variable(bytes: &mut Vec<u8>, name: &str, value: impl Display) {
    let begin = bytes.len();
    // Writing to a vector can't fail.
    let _ = write!(bytes, "{name}={value}");
    if bytes[begin..].contains(&0) {
        // A NUL would begin another variable, of the client's choice. No kernel gives such a path.
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
        set_variable(&mut bytes, "A", "1");
        set_variable(&mut bytes, "IPCREMOTEPATH", "/tmp/a\0LD_PRELOAD=/tmp/evil.so");
        set_variable(&mut bytes, "B", "2");
        assert_eq!(bytes, b"A=1\0B=2\0");
    }
}
