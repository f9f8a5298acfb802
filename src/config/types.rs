//! The types of a checked table.
//!
//! Plain values without behaviour: users, groups and ports are numbers, paths and arguments are C strings.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::location::Location;
use super::units;
use crate::builtin::Builtin;
use crate::limits::access::Span;
use crate::limits::penalty::{Cause, Charge};
use crate::limits::rate::{PerFamily, Rate};
pub use crate::log::LogOverrides as OwnLog;
pub use crate::log::{Level, LogFormat, LogPlace, LogTarget};
use crate::net::Prefixes;
pub use crate::net::{Endpoint, Transport};

/// Everything the administrator wrote, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The `daemon` section.
    pub daemon: Settings,
    /// The services, in the order in which they were read; names are unique.
    pub services: Vec<Rc<Service>>,
}

/// The `daemon` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The most handlers that may live at one time, over all services.
    pub instances: u32,
    /// For how many sources rates are kept, at 32 bytes each.
    pub sources: PerFamily<u32>,
    /// The control socket.
    pub control: Control,
    /// The place where banned and penalised clients are refused.
    pub drop_banned: DropBanned,
    /// Where and how to log.
    pub log: LogSettings,
}

/// Where and how the daemon logs, and every service that does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Where lines go.
    pub place: LogPlace,
    /// The least important level that is still written.
    pub level: Level,
}

/// The place where banned and penalised clients are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropBanned {
    /// Admission, like all other clients that are refused.
    Daemon,
    /// The kernel, by dropping their packets, as far as it can.
    Kernel,
}

impl DropBanned {
    /// The word in the table.
    #[must_use]
    pub fn as_word(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Kernel => "kernel",
        }
    }
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its path.
    pub place: ControlPlace,
    /// A group whose members may use it too.
    pub group: Option<u32>,
}

/// Where the control socket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlPlace {
    /// In /run/oxinetd, or for an ordinary user in `XDG_RUNTIME_DIR`; nowhere if there is neither.
    Default,
    /// There, and the daemon does not start without it.
    At(PathBuf),
    /// There is none.
    None,
}

/// The variables that the daemon sets for each connection: those of CGI, of xinetd and of UCSPI.
pub const CONNECTION_VARIABLES: [&str; 14] = [
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "REMOTE_HOST",
    "PROTO",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPCONNNUM",
    "IPCREMOTEEUID",
    "IPCREMOTEEGID",
    "IPCREMOTEPATH",
    "IPCLOCALPATH",
    "IPCCONNNUM",
];

/// One entry of the table: its sockets, its program, its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its key under `services`.
    pub name: String,
    /// Where the entry begins.
    pub origin: Location,
    /// Where its limits were written.
    pub origins: Origins,
    /// Off services are checked like the others, but not served.
    pub enabled: bool,
    /// The sockets to listen on; one for each address and family. None for a service that only `tcpmux` leads to.
    pub listen: Vec<Endpoint>,
    /// The names by which clients of `tcpmux` can ask for it.
    pub tcpmux: Vec<MuxName>,
    /// The program; [`Program::none`] for a trap.
    pub program: Program,
    /// Lend the listening socket to one handler, in place of accepting here.
    pub wait: bool,
    /// User and groups of the handler; `None` is the daemon's own.
    pub credentials: Option<Credentials>,
    /// Where the handler starts, inside `chroot`; `/` by default.
    pub directory: CString,
    /// The handler's root directory.
    pub chroot: Option<CString>,
    /// File mode creation mask, 0 to 0o777.
    pub umask: u32,
    /// Scheduling priority, -20 to 19; `None` leaves the daemon's.
    pub nice: Option<i32>,
    /// Resource limits, each kind once.
    pub rlimits: Vec<Rlimit>,
    /// Variables set for the handler, in the order written.
    pub env: Vec<(String, String)>,
    /// Names of the daemon's own variables that are passed on.
    pub pass_env: Vec<String>,
    /// Where the handler's descriptor 2 goes.
    pub stderr: Stderr,
    /// The most live handlers; `None` is unlimited.
    pub instances: Option<u32>,
    /// How many connections may come in a time.
    pub rate: Option<RateLimit>,
    /// The behaviour when `instances` or `max_load` is reached.
    pub when_full: WhenFull,
    /// Limits for one source; none for a service that lends its socket.
    pub per_source: PerSource,
    /// Limits for the wider network of a source, if there are any.
    pub per_network: Option<PerSource>,
    /// The load average of one minute from which on no client is admitted.
    pub max_load: Option<f64>,
    /// The penalties of clients of this service.
    pub penalties: Penalties,
    /// Networks of admitted clients, in the order written; empty for all.
    pub allow: Vec<IpNet>,
    /// Networks of refused clients, in the order written.
    pub deny: Vec<IpNet>,
    /// When clients may come; empty for always.
    pub times: Vec<Span>,
    /// Only log which clients would be refused, and admit them.
    pub dry_run: bool,
    /// The answer to a client that is refused.
    pub refuse: Refuse,
    /// Sent to the client before the handler starts; empty for nothing.
    pub banner: Vec<u8>,
    /// How long a handler may live.
    pub lifetime: Option<Duration>,
    /// Options of the listening sockets.
    pub socket: SocketOptions,
    /// Which events of this service are logged, and where.
    pub log: LogChoice,
}

impl Service {
    /// Frees what was needed to print where this was written, which takes a multiple of the text of the files.
    pub fn drop_positions(&self) {
        let Origins { allow, deny, keys } = &self.origins;
        let limits = allow.iter().chain(deny).chain(keys.values());
        limits.chain([&self.origin]).for_each(Location::drop_index);
    }
}

/// Where the limits of a service were written, in its own entry or in `defaults`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins {
    /// Each entry of `allow`.
    pub allow: Vec<Location>,
    /// Each entry of `deny`.
    pub deny: Vec<Location>,
    /// The other keys, as `instances` or `per_source.rate`; those that were written.
    pub keys: BTreeMap<&'static str, Location>,
}

/// A name by which clients of `tcpmux` can ask for a service (RFC 1078), in lower case: case does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MuxName {
    /// The name.
    pub name: String,
    /// Does `tcpmux` tell the client that it may go on? If not, the service does.
    pub plus: bool,
}

impl MuxName {
    /// The prefix in the grammar of `listen`.
    pub(crate) const PREFIX: &str = "tcpmux/";
}

/// Prints in the grammar of `listen`.
impl fmt::Display for MuxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = if self.plus { "+" } else { "" };
        write!(f, "{}{plus}{}", Self::PREFIX, self.name)
    }
}

/// The program of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Absolute path of the executable file.
    pub path: CString,
    /// The arguments, the first word included (by default the last component of `path`, as inetd does).
    pub argv: Vec<CString>,
    /// The builtin that this is the command line of.
    pub builtin: Option<Builtin>,
}

impl Program {
    /// No program: every client is refused.
    #[must_use]
    pub fn none() -> Self {
        Self { path: CString::default(), argv: Vec::new(), builtin: None }
    }

    /// Is there nothing to run?
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.path.is_empty()
    }
}

/// User and groups of a handler, resolved when the table is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// As written, for `--dump`.
    pub user: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, exactly these; `gid` need not be among them.
    pub groups: Vec<u32>,
}

/// One resource limit (setrlimit(2)); `u64::MAX` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// Soft limit, in the unit of the resource (bytes, seconds or a count).
    pub soft: u64,
    /// Hard limit, never below the soft one.
    pub hard: u64,
}

/// The resources that `rlimits` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names of setrlimit(2)")]
pub enum Resource {
    Nofile,
    As,
    Cpu,
    Data,
    Fsize,
    Stack,
    Core,
    Nproc,
    Memlock,
}

/// Where a handler's descriptor 2 goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stderr {
    /// The daemon's own standard error.
    Daemon,
    /// The connection, as inetd and xinetd do.
    Connection,
    /// /dev/null.
    Null,
}

/// The behaviour towards clients while a service has `instances` handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Leave them in the listener's backlog until a handler ends.
    Queue,
    /// Refuse them.
    Refuse,
}

/// Limits for one source, or one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerSource {
    /// The prefix lengths that make a source.
    pub prefix: Prefixes,
    /// The most live handlers of one source in this service; `None` is unlimited.
    pub instances: Option<u32>,
    /// How many connections of one source may come in a time.
    pub rate: Option<RateLimit>,
    /// Networks for which these limits don't hold.
    pub exempt: Vec<IpNet>,
}

/// The penalties of the clients of a service: times for which all services refuse them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Penalties {
    /// A signal that means a fault ended a handler.
    pub crash: Option<Duration>,
    /// A handler ended with a status other than 0.
    pub exit: Option<Duration>,
    /// A client was refused by an access rule or by a limit for its source.
    pub refused: Option<Duration>,
    /// A client has connected at all.
    pub trap: Option<Duration>,
    /// A penalty up to this has no effect.
    pub min: Duration,
    /// No penalty grows beyond this.
    pub max: Duration,
    /// Networks that get no penalties.
    pub exempt: Vec<IpNet>,
}

impl Penalties {
    /// The penalty for `cause`, if there is one.
    #[must_use]
    pub fn charge_for(&self, cause: Cause) -> Option<Charge> {
        let cost = match cause {
            Cause::Crash => self.crash,
            Cause::Exit => self.exit,
            Cause::Refused => self.refused,
            Cause::Trap => self.trap,
        };
        cost.map(|cost| Charge { cost, min: self.min, max: self.max })
    }

    /// Is there any penalty?
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.crash.is_some() || self.exit.is_some() || self.refused.is_some() || self.trap.is_some()
    }
}

/// So many connections in a time, as written, and the rule that this makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many, at least 1.
    pub events: u32,
    /// In how long: a second, a minute, an hour or a day.
    pub per: Duration,
    /// How many of them may come at once.
    pub burst: u32,
    /// The same for [`crate::limits::rate`].
    pub rate: Rate,
}

/// Prints `30/min, burst 10`.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = units::rate_text(units::Rate { events: self.events, per: self.per });
        write!(f, "{rate}, burst {}", self.burst)
    }
}

/// The answer to a client that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// A TCP reset, which leaves no state behind.
    Reset,
    /// An orderly close.
    Close,
    /// A text of at most 512 bytes, then a close.
    Text(Vec<u8>),
}

/// The `socket` section; `None` and `false` leave the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// Length of the accept queue; the kernel caps it at net.core.somaxconn.
    pub backlog: Option<u32>,
    /// `TCP_NODELAY`.
    pub nodelay: bool,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `TCP_DEFER_ACCEPT`, in whole seconds.
    pub defer_accept: Option<Duration>,
    /// `IP_FREEBIND`: bind to an address that this machine does not have yet.
    pub freebind: bool,
    /// `SO_BINDTODEVICE`.
    pub device: Option<String>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// `SO_SNDBUF`, in bytes.
    pub send_buffer: Option<u32>,
    /// `SO_RCVBUF`, in bytes.
    pub receive_buffer: Option<u32>,
    /// Owner of a Unix socket's file: user and group id.
    pub owner: Option<(u32, u32)>,
    /// Mode of a Unix socket's file, 0 to 0o777; 0o666 by default.
    pub mode: Option<u32>,
}

/// Which events of a service are logged, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChoice {
    /// A handler was started.
    pub accept: bool,
    /// A handler ended.
    pub exit: bool,
    /// A connection was refused.
    pub refuse: bool,
    /// The place of its lines, if it is not the daemon's.
    pub own: OwnLog,
}
