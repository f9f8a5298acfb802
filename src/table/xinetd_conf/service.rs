//! Makes the specification of a service: a draft, the defaults where they apply, and what xinetd derives from both.
//!
//! [`make`] asks the questions that xinetd asks when all files are read: what is missing, what does not go together,
//! which port. It notes what differs here, and ends with a fault where xinetd, or this daemon, can't serve.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use super::super::Origin;
use super::super::problem::{At, Problem, Set};
use super::super::schema::{DaemonSpec, Groups, Key, ServiceSpec};
use super::super::units::Rate;
use super::super::{LogTarget, Refuse, Stderr, WhenFull};
use super::draft::{Bind, Draft, Fault, Flag, Kind, LogType};
use super::world::World;
use super::{access, program};

/// Connections per second if nobody says how many.
const RATE: u32 = 50;

/// A service that came out of a draft.
pub(super) struct Made {
    pub spec: Result<ServiceSpec, (At, Fault)>,
    /// What to say of it if it is on.
    pub notes: Vec<Problem>,
}

/// A specification in the making.
pub(super) struct Maker<'a, 'w> {
    pub draft: &'a Draft,
    pub defaults: &'a Draft,
    pub world: &'a mut World<'w>,
    pub notes: Vec<Problem>,
    pub spec: ServiceSpec,
}

/// What ends the making: where, and why.
pub(super) type Step = Result<(), (At, Fault)>;

/// Makes a specification.
pub(super) fn make(draft: &Draft, defaults: &Draft, world: &mut World<'_>, on: bool) -> Made {
    let mut maker = Maker { draft, defaults, world, notes: Vec::new(), spec: ServiceSpec::default() };
    let result = maker.all(on);
    Made { spec: result.map(|()| maker.spec), notes: maker.notes }
}

/// What xinetd does where a file says nothing.
pub(super) fn base() -> ServiceSpec {
    let nowhere = At::file(&std::path::Path::new("").into(), Default::default());
    fn set<T>(value: T, at: &At) -> Key<T> {
        Some(Set { value, at: at.clone() })
    }
    let at = &nowhere;
    let mut spec = ServiceSpec {
        groups: set(Groups::These(Vec::new()), at),
        stderr: set(Stderr::Connection, at),
        instances: set(None, at),
        when_full: set(WhenFull::Refuse, at),
        refuse: set(Refuse::Close, at),
        ..ServiceSpec::default()
    };
    for choice in [&mut spec.log.accept, &mut spec.log.exit, &mut spec.log.refuse] {
        *choice = set(false, at);
    }
    spec
}

impl Maker<'_, '_> {
    fn all(&mut self, on: bool) -> Step {
        self.possible()?;
        program::required(self)?;
        let datagrams = self.transport()?;
        if self.draft.has_kind(Kind::Tcpmux) || self.draft.has_kind(Kind::TcpmuxPlus) {
            self.tcpmux(datagrams)?;
        } else {
            let port = self.port(datagrams)?;
            self.listen(datagrams, port)?;
        }
        program::program(self)?;
        if on {
            program::wrapped(self)?;
        }
        self.surroundings();
        self.limits();
        access::access(self)?;
        access::logs(self)?;
        access::banners(self);
        Ok(())
    }

    /// An end at an attribute: xinetd does not start it.
    pub(super) fn broken<T>(&self, attribute: &str, message: impl Into<String>) -> Result<T, (At, Fault)> {
        Err((self.draft.place(attribute), Fault::Broken(message.into())))
    }

    /// An end at an attribute: xinetd can do it, and this daemon can't.
    pub(super) fn refused<T>(&self, attribute: &str, message: impl Into<String>) -> Result<T, (At, Fault)> {
        Err((self.draft.place(attribute), Fault::Refused(message.into())))
    }

    pub(super) fn note(&mut self, at: &At, message: impl Into<String>) {
        self.notes.push(at.problem(message));
    }

    /// A value of the service, or else of the defaults, with its place.
    pub(super) fn key<T: Clone>(&self, attribute: &str, value: impl Fn(&Draft) -> &Option<T>) -> Key<T> {
        let of = |draft: &Draft| value(draft).clone().map(|value| Set { value, at: draft.place(attribute) });
        of(self.draft).or_else(|| of(self.defaults))
    }

    /// Where an attribute stands, in the service or in the defaults.
    pub(super) fn place(&self, attribute: &str) -> At {
        let place = self.draft.set.get(attribute).or_else(|| self.defaults.set.get(attribute));
        place.unwrap_or(&self.draft.at).clone()
    }

    /// A value that the reader decides on, placed at an attribute.
    pub(super) fn at<T>(&self, attribute: &str, value: T) -> Key<T> {
        Some(Set { value, at: self.draft.place(attribute) })
    }

    /// Turns away what has no equivalent.
    fn possible(&mut self) -> Step {
        if self.draft.has_kind(Kind::Rpc) {
            return self.refused("type", "RPC services are not supported: nobody registers them with rpcbind(8) here");
        }
        if self.draft.has_kind(Kind::Special) {
            return self.refused("type", "SPECIAL marks services inside of xinetd, and has no meaning here");
        }
        if self.draft.has_flag(Flag::Labeled) {
            return self.refused("flags", "LABELED is not supported: handlers get no SELinux context of their clients");
        }
        if self.draft.has_flag(Flag::Intercept) {
            let internal = self.draft.has_kind(Kind::Internal);
            if internal || self.draft.wait == Some(false) {
                let what = if internal { "an internal service" } else { "a service that does not wait" };
                let at = self.draft.place("flags");
                self.note(&at, format!("xinetd cannot INTERCEPT {what}, and ignores the flag"));
            } else {
                let message =
                    "INTERCEPT is not supported: what a handler reads from the lent socket cannot be filtered here";
                return self.refused("flags", message);
            }
        }
        Ok(())
    }

    /// Stream or datagrams? xinetd derives the type of the socket from the protocol, and the other way round.
    fn transport(&mut self) -> Result<bool, (At, Fault)> {
        let (kind, protocol) = (self.draft.socket_type.as_deref(), self.draft.protocol.as_deref());
        let (kind, protocol) = match (kind, protocol) {
            (Some(kind), Some(protocol)) => (kind, protocol.to_ascii_lowercase()),
            (Some("dgram"), None) => ("dgram", "udp".to_owned()),
            (Some(kind), None) => (kind, "tcp".to_owned()),
            (None, Some(protocol)) if protocol.eq_ignore_ascii_case("tcp") => ("stream", "tcp".to_owned()),
            (None, Some(protocol)) if protocol.eq_ignore_ascii_case("udp") => ("dgram", "udp".to_owned()),
            (None, _) => return self.broken("service", "socket_type is missing, such as socket_type = stream"),
        };
        match (kind, protocol.as_str()) {
            ("stream", "tcp") => Ok(false),
            ("dgram", "udp") => Ok(true),
            ("stream" | "dgram", "tcp" | "udp") => self.broken(
                "protocol",
                format!("{kind} and {protocol} do not go together; stream goes with tcp, dgram with udp"),
            ),
            _ => self.refused("socket_type", format!("{kind} over {protocol} is not supported, only tcp and udp are")),
        }
    }

    /// The port: as /etc/services has it, unless the service is UNLISTED.
    fn port(&mut self, datagrams: bool) -> Result<u16, (At, Fault)> {
        let protocol = self.draft.protocol.clone().unwrap_or_else(|| if datagrams { "udp" } else { "tcp" }.to_owned());
        let name = &self.draft.name;
        if self.draft.has_kind(Kind::Unlisted) {
            return match self.draft.port {
                Some(0) => {
                    self.refused("port", "port 0 stands for a port that nobody knows; write one from 1 to 65535")
                }
                Some(port) => Ok(port),
                None => self.broken("type", "a service that is UNLISTED needs a port"),
            };
        }
        let listed = self.world.ports.named(name, &protocol);
        match (listed, self.draft.port) {
            (Some(listed), None) => Ok(listed),
            (Some(listed), Some(port)) if listed == port => Ok(port),
            (Some(listed), Some(port)) => self.broken(
                "port",
                format!("/etc/services has port {listed} for {name}/{protocol}, not {port}; if {port} is meant, add type = UNLISTED"),
            ),
            (None, port) => {
                let port = port.map_or_else(|| "a port and type = UNLISTED".to_owned(), |_| "type = UNLISTED".to_owned());
                self.broken("port", format!("there is no service {name:?} for {protocol} in /etc/services; add {port}"))
            }
        }
    }

    /// No socket, but a name that clients of tcpmux ask for.
    fn tcpmux(&mut self, datagrams: bool) -> Step {
        if datagrams || !self.draft.has_kind(Kind::Unlisted) {
            return self.broken("type", "a service behind tcpmux is of protocol = tcp, and type has UNLISTED too");
        }
        let plus = if self.draft.has_kind(Kind::TcpmuxPlus) { "+" } else { "" };
        let at = self.draft.place("type");
        let text = format!("tcpmux/{plus}{}", self.draft.name);
        self.spec.listen = Some(Set { value: vec![Set { value: text, at: at.clone() }], at });
        Ok(())
    }

    /// The sockets, in the grammar of `listen`.
    fn listen(&mut self, datagrams: bool, port: u16) -> Step {
        let protocol = if datagrams { "udp" } else { "tcp" };
        let only_v4 = self.draft.has_flag(Flag::Ipv4) && !self.draft.has_flag(Flag::Ipv6);
        let v6only = self.v6only(only_v4);
        let bind = self.key("bind", |draft| &draft.bind);
        let address = match bind.as_ref().map(|bind| &bind.value) {
            None => None,
            Some(Bind::Scoped(address)) => Some(format!("[{address}]")),
            Some(Bind::Address(address)) => everywhere_or(*address),
            Some(Bind::OneOf(addresses)) => {
                let family = |address: &&IpAddr| address.is_ipv4() == only_v4;
                addresses.iter().find(family).or(addresses.first()).copied().and_then(everywhere_or)
            }
        };
        let any_v4 =
            matches!(bind.as_ref().map(|bind| &bind.value), Some(Bind::Address(IpAddr::V4(v4))) if v4.is_unspecified());
        let text = match address {
            Some(address) if only_v4 && address.starts_with('[') => {
                return self.broken("bind", format!("flags ask for IPv4, and {address} is an IPv6 address"));
            }
            Some(address) => format!("{protocol}/{address}:{port}"),
            None if only_v4 || any_v4 => format!("{protocol}4/{port}"),
            None if v6only => format!("{protocol}6/{port}"),
            None => format!("{protocol}/{port}"),
        };
        let at = bind.map_or_else(|| self.draft.place("port"), |bind| bind.at);
        self.spec.listen = Some(Set { value: vec![Set { value: text, at: at.clone() }], at });
        Ok(())
    }

    /// xinetd takes `v6only = no` for yes, and does not see it in the defaults. What is written counts here.
    fn v6only(&mut self, only_v4: bool) -> bool {
        let Some(Set { value, at }) = self.key("v6only", |draft| &draft.v6only) else { return false };
        match (value, self.draft.v6only) {
            (false, Some(_)) if !only_v4 => {
                self.note(&at, "xinetd takes this for yes, and keeps IPv4 clients out; here they may come, as it says");
            }
            (true, None) => self.note(&at, "xinetd does not see v6only in defaults; here it holds for all services"),
            _ => {}
        }
        value
    }

    fn surroundings(&mut self) {
        self.spec.user = self.key("user", |draft| &draft.user);
        self.spec.group = self.key("group", |draft| &draft.group).or_else(|| {
            // xinetd does not look a number up: the group has the same one.
            self.spec.user.clone().filter(|user| user.value.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let groups = self.key("groups", |draft| &draft.groups);
        self.spec.groups = groups.map(|Set { value, at }| {
            let value = if value { Groups::All } else { Groups::These(Vec::new()) };
            Set { value, at }
        });
        self.spec.umask = self.key("umask", |draft| &draft.umask);
        self.spec.nice = self.key("nice", |draft| &draft.nice);
        self.spec.rlimits.clone_from(&self.draft.rlimits);
        let pass_env = self.draft.pass_env.result(&self.defaults.pass_env);
        self.spec.pass_env = pass_env.map(|value| Set { value, at: self.place("passenv") });
        for set in self.draft.env.result(&self.defaults.env).unwrap_or_default() {
            // The last of one name counts.
            self.spec.env.retain(|other| other.value.0 != set.value.0);
            self.spec.env.push(set);
        }
        let socket = &mut self.spec.socket;
        let flag = |flag| self.draft.has_flag(flag).then(|| Set { value: true, at: self.draft.place("flags") });
        socket.nodelay = flag(Flag::NoDelay);
        socket.keepalive = flag(Flag::KeepAlive);
    }

    fn limits(&mut self) {
        self.spec.instances = self.key("instances", |draft| &draft.instances);
        let per_source = self.key("per_source", |draft| &draft.per_source);
        if self.draft.wait != Some(true) {
            self.spec.per_source.instances = per_source;
        } else if self.draft.per_source.is_some() {
            let at = self.draft.place("per_source");
            self.note(&at, "this has no effect: a service that waits has one handler, which sees the clients itself");
        }
        let usual =
            || Set { value: Some(Rate { events: RATE, per: Duration::from_secs(1) }), at: self.draft.at.clone() };
        // No default of a YAML file can say that there is no rate, so this one does not lie below those.
        if let Set { value: Some(rate), at } = self.key("cps", |draft| &draft.rate).unwrap_or_else(usual) {
            self.spec.burst = Some(Set { value: rate.events, at: at.clone() });
            self.spec.rate = Some(Set { value: rate, at });
        }
        self.spec.max_load = self.key("max_load", |draft| &draft.max_load);
        let times = self.key("access_times", |draft| &draft.times);
        self.spec.times = times;
    }
}

/// An address in the grammar of `listen`; nothing for all of them.
fn everywhere_or(address: IpAddr) -> Option<String> {
    match address {
        address if address.is_unspecified() => None,
        IpAddr::V4(address) => Some(address.to_string()),
        IpAddr::V6(address) => {
            Some(address.to_ipv4_mapped().map_or_else(|| format!("[{address}]"), |v4| v4.to_string()))
        }
    }
}

/// What the defaults say of the daemon: where its log goes.
pub(super) fn daemon(defaults: &Draft, warnings: &mut Vec<Problem>) -> Option<Set<DaemonSpec>> {
    let at = defaults.place("log_type");
    let set = |value| Some(Set { value, at: at.clone() });
    let mut spec = DaemonSpec::default();
    match defaults.log_type.as_ref()? {
        LogType::Syslog(facility) => {
            spec.to = set(LogTarget::Syslog);
            spec.facility = Some(Set { value: *facility, at: at.clone() });
        }
        LogType::File(path) if path.starts_with('/') => spec.to = set(LogTarget::File(path.into())),
        LogType::File(path) => {
            warnings.push(at.problem(format!("{path} is not an absolute path; the log goes to syslog")));
            return None;
        }
    }
    Some(Set { value: spec, at })
}

/// The sockets that services have.
#[derive(Default)]
pub(super) struct Taken(HashMap<Vec<String>, Origin>);

impl Taken {
    /// Takes the sockets of a service; if they are another's, where that one stands.
    pub(super) fn claim(&mut self, spec: &ServiceSpec, at: &At) -> Option<Origin> {
        let sockets: Vec<String> =
            spec.listen.iter().flat_map(|list| &list.value).map(|set| set.value.clone()).collect();
        match self.0.entry(sockets) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(at.origin());
                None
            }
        }
    }
}

/// A name for a service that no other has: its id, or with the protocol or a number behind it.
pub(super) fn name(draft: &Draft, spec: &ServiceSpec, names: &mut HashSet<String>) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-+@:/".contains(c) { c } else { '_' };
    let mut id: String = draft.id().chars().map(fits).take(60).collect();
    if id.starts_with('-') {
        id.insert(0, '_');
    }
    let listen = spec.listen.as_ref().and_then(|list| list.value.first());
    let protocol = listen.map_or("tcp", |set| if set.value.starts_with("udp") { "udp" } else { "tcp" });
    let mut candidates =
        [id.clone(), format!("{id}-{protocol}")].into_iter().chain((2..).map(|number| format!("{id}-{number}")));
    loop {
        match candidates.next() {
            Some(name) if !names.insert(name.clone()) => {}
            Some(name) => return name,
            None => return id,
        }
    }
}
