//! An entry of xinetd.conf(5) while it is being read: which attributes are set, and to what.
//!
//! [`super::values`] fills it, [`super::service`] makes a specification of it. A draft of `defaults` is one too. It
//! knows no rule but when an entry is on.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::edits::Edits;
use crate::config::Rlimit;
use crate::config::location::{Location, Spanned, SpannedMap};
use crate::config::problem::Problem;
use crate::config::units::Rate;
use crate::limits::access::Span;

/// A mistake in an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// xinetd goes on as if the line was not there.
    Ignored(String),
    /// xinetd does not start the service.
    Broken(String),
    /// xinetd can do it, this daemon can't: the table must not be used.
    Refused(String),
}

/// Whether an entry is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    On,
    /// `disable = yes`: xinetd reads no further.
    Off,
    /// For a mistake.
    Broken,
}

/// A word of `flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Flag {
    Reuse,
    Intercept,
    NoRetry,
    IdOnly,
    NameInArgs,
    NoDelay,
    KeepAlive,
    NoLibwrap,
    Sensor,
    Ipv4,
    Ipv6,
    Labeled,
}

/// A word of `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Rpc,
    Internal,
    Unlisted,
    Special,
    Tcpmux,
    TcpmuxPlus,
}

/// A word of `log_on_success` and `log_on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum LogItem {
    Host,
    Duration,
    Exit,
    Pid,
    UserId,
    Traffic,
    Attempt,
}

/// The value of `log_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogType {
    /// By the number of the facility.
    Syslog(u8),
    File(String),
}

/// A member of an address list: as it was written, and the networks that it stands for.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub text: String,
    pub networks: Vec<IpNet>,
}

/// Members are the same if they stand for the same.
impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.networks == other.networks && (!self.networks.is_empty() || self.text == other.text)
    }
}

/// The value of `bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    Address(IpAddr),
    /// A link-local address with its interface.
    Scoped(String),
    /// A name with several addresses, of which the flags choose one.
    OneOf(Vec<IpAddr>),
}

/// Attributes without which a service is no more open than with them, or none at all.
const HARMLESS: [&str; 15] = [
    "id",
    "socket_type",
    "protocol",
    "port",
    "wait",
    "user",
    "server",
    "nice",
    "banner",
    "banner_success",
    "banner_fail",
    "log_type",
    "log_on_success",
    "log_on_failure",
    "rpc_number",
];

#[derive(Default)]
pub(super) struct Draft {
    /// Behind `service`.
    pub name: String,
    pub at: Location,
    /// Attributes that have a value, and where they got the last.
    pub set: HashMap<&'static str, Location>,
    pub state: State,
    /// Broken by something that may open the service further: `disable = no` further down does not switch it on.
    harmful: bool,
    /// Warnings that are no fault.
    pub notes: Vec<Problem>,
    /// Features that oxinetd does not have; reported only while the service is on.
    pub refused: Vec<Problem>,
    pub id: Option<String>,
    pub kinds: BTreeSet<Kind>,
    pub flags: BTreeSet<Flag>,
    pub socket_type: Option<String>,
    pub protocol: Option<String>,
    pub wait: Option<bool>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub groups: Option<bool>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub server: Option<String>,
    pub server_args: Option<Vec<String>>,
    pub env: Edits<(String, String)>,
    pub pass_env: Edits<String>,
    pub port: Option<u16>,
    pub bind: Option<Bind>,
    pub v6only: Option<bool>,
    pub redirect: Option<(String, u16)>,
    pub instances: Option<Option<u32>>,
    pub per_source: Option<Option<u32>>,
    /// `None` for `cps = 0 …`.
    pub rate: Option<Option<Rate>>,
    pub max_load: Option<f64>,
    pub times: Option<Vec<Spanned<Span>>>,
    pub only_from: Edits<Member>,
    pub no_access: Edits<Member>,
    pub libwrap: Option<String>,
    /// Minutes; `None` for ever.
    pub deny_time: Option<Option<u32>>,
    pub banner: Option<String>,
    pub banner_success: Option<String>,
    pub banner_fail: Option<String>,
    pub log_type: Option<LogType>,
    pub log_on_success: Edits<LogItem>,
    pub log_on_failure: Edits<LogItem>,
    pub rlimits: SpannedMap<Rlimit>,
    /// Ids of `enabled` and `disabled`; only in `defaults`.
    pub enabled: Option<Vec<String>>,
    pub disabled: Vec<String>,
}

impl Draft {
    pub(super) fn new(name: String, at: Location) -> Self {
        Self { name, at, ..Self::default() }
    }

    /// The name in `enabled`, `disabled` and logs.
    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }

    /// Where an attribute stands, or else the entry.
    pub(super) fn place_of(&self, attribute: &str) -> Location {
        self.set.get(attribute).unwrap_or(&self.at).clone()
    }

    pub(super) fn has_kind(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    pub(super) fn has_flag(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// Marks the entry as broken by an attribute.
    pub(super) fn mark_broken(&mut self, attribute: &str) {
        if self.state == State::On {
            self.state = State::Broken;
        }
        self.harmful |= !HARMLESS.contains(&attribute);
    }

    /// `disable = no`. xinetd forgets an earlier mistake then, and starts the service without that attribute; here
    /// only if this opens it to no other client.
    pub(super) fn enable_again(&mut self, at: &Location) {
        if self.state != State::Broken {
            return;
        }
        if !self.harmful {
            self.state = State::On;
            self.add_note(
                at,
                "by this line xinetd forgets what was wrong above, and starts the service without it after all",
            );
        } else {
            self.add_note(
                at,
                "by this line xinetd forgets what was wrong above, and starts the service; here it stays off",
            );
        }
    }

    /// Do these defaults let a service start? Ids are compared without regard to case.
    pub(super) fn permits_service(&self, draft: &Draft) -> bool {
        let named = |list: &[String]| list.iter().any(|id| id.eq_ignore_ascii_case(draft.id()));
        self.enabled.as_deref().is_none_or(named) && !named(&self.disabled)
    }

    pub(super) fn add_note(&mut self, at: &Location, message: impl Into<String>) {
        self.notes.push(at.problem(message));
    }
}
