//! Makes the specification of a service: a draft, the defaults where they apply, and what xinetd derives from both.
//!
//! [`make_spec`] asks the questions that xinetd asks when all files are read: what is missing, what does not go
//! together, which port. It notes what differs here, and ends with a fault where xinetd, or this daemon, can't
//! serve.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::draft::{Draft, Fault, Flag, Kind};
use super::logs::log_place;
use super::maker::{Maker, Step};
use super::world::World;
use super::{access, program};
use crate::config::keys::{DaemonLogSpec, DaemonSpec, ServiceSpec};
use crate::config::location::{Location, Spanned};
use crate::config::problem::Problem;
use crate::config::units::Rate;
use crate::config::values::Groups;
use crate::config::{Refuse, Stderr, WhenFull};

/// Connections per second without `cps`.
const DEFAULT_RATE_PER_SECOND: u32 = 50;

/// A service that came out of a draft.
pub(super) struct Made {
    pub spec: Result<ServiceSpec, (Location, Fault)>,
    /// Warnings if it is on.
    pub notes: Vec<Problem>,
}

pub(super) fn make_spec(draft: &Draft, defaults: &Draft, world: &mut World<'_>, on: bool) -> Made {
    let mut maker = Maker { draft, defaults, world, notes: Vec::new(), spec: ServiceSpec::default(), lends: false };
    let result = maker.run_steps(on);
    Made { spec: result.map(|()| maker.spec), notes: maker.notes }
}

/// The defaults of xinetd.
pub(super) fn base_spec() -> ServiceSpec {
    let at = Location::in_file(&std::path::Path::new("").into(), Default::default());
    let mut spec = ServiceSpec {
        groups: Some(at.spanned(Groups::These(Vec::new()))),
        stderr: Some(at.spanned(Stderr::Connection)),
        instances: Some(at.spanned(None)),
        when_full: Some(at.spanned(WhenFull::Refuse)),
        refuse: Some(at.spanned(Refuse::Close)),
        ..ServiceSpec::default()
    };
    for choice in [&mut spec.log.accept, &mut spec.log.exit, &mut spec.log.refuse] {
        *choice = Some(at.spanned(false));
    }
    spec
}

impl Maker<'_, '_> {
    fn run_steps(&mut self, on: bool) -> Step {
        self.check_supported()?;
        program::check_required(self)?;
        let datagrams = self.find_transport()?;
        self.put_wait(datagrams);
        if self.draft.has_kind(Kind::Tcpmux) || self.draft.has_kind(Kind::TcpmuxPlus) {
            self.listen_behind_tcpmux(datagrams)?;
        } else {
            let port = self.find_port(datagrams)?;
            self.put_listen(datagrams, port)?;
        }
        program::put_program(self)?;
        if on {
            program::check_wrappers(self)?;
        }
        self.put_environment();
        self.put_limits();
        access::put_access(self)?;
        access::put_logs(self)?;
        access::put_banners(self);
        Ok(())
    }

    fn check_supported(&mut self) -> Step {
        if self.draft.has_kind(Kind::Rpc) {
            return self
                .end_refused("type", "RPC services are not supported: nobody registers them with rpcbind(8) here");
        }
        if self.draft.has_kind(Kind::Special) {
            return self.end_refused("type", "SPECIAL marks services inside of xinetd, and has no meaning here");
        }
        if self.draft.has_flag(Flag::Labeled) {
            return self
                .end_refused("flags", "LABELED is not supported: handlers get no SELinux context of their clients");
        }
        if self.draft.has_flag(Flag::Intercept) {
            let internal = self.draft.has_kind(Kind::Internal);
            if internal || self.draft.wait == Some(false) {
                let what = if internal { "an internal service" } else { "a service that does not wait" };
                let at = self.draft.place_of("flags");
                self.add_note(&at, format!("xinetd cannot INTERCEPT {what}, and ignores the flag"));
            } else {
                let message =
                    "INTERCEPT is not supported: what a handler reads from the lent socket cannot be filtered here";
                return self.end_refused("flags", message);
            }
        }
        Ok(())
    }

    /// Datagrams always wait: a socket has one queue for those of all clients.
    fn put_wait(&mut self, datagrams: bool) {
        let waits = self.draft.wait == Some(true);
        self.lends = waits || datagrams;
        self.spec.wait = self.placed_at("wait", self.lends);
        if datagrams && !waits && !self.draft.has_kind(Kind::Internal) {
            let message = "without waiting, programs take each other's datagrams, which come in one queue; oxinetd \
                           waits, and starts the next program when one has ended";
            self.add_note(&self.draft.place_of("wait"), message);
        }
    }

    fn put_environment(&mut self) {
        self.spec.user = self.inherited_value("user", |draft| &draft.user);
        self.spec.group = self.inherited_value("group", |draft| &draft.group).or_else(|| {
            // xinetd does not look a number up: the group has the same one.
            self.spec.user.clone().filter(|user| user.value.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let groups = self.inherited_value("groups", |draft| &draft.groups);
        self.spec.groups = groups.map(|Spanned { value, at }| {
            let value = if value { Groups::All } else { Groups::These(Vec::new()) };
            Spanned { value, at }
        });
        self.spec.umask = self.inherited_value("umask", |draft| &draft.umask);
        self.spec.nice = self.inherited_value("nice", |draft| &draft.nice);
        self.spec.rlimits.clone_from(&self.draft.rlimits);
        let pass_env = self.draft.pass_env.apply_to(&self.defaults.pass_env);
        self.spec.pass_env = pass_env.map(|value| Spanned { value, at: self.place_of("passenv") });
        for set in self.draft.env.apply_to(&self.defaults.env).unwrap_or_default() {
            // The last of one name counts.
            self.spec.env.retain(|other| other.value.0 != set.value.0);
            self.spec.env.push(set);
        }
        let socket = &mut self.spec.socket;
        let flag = |flag| self.draft.has_flag(flag).then(|| Spanned { value: true, at: self.draft.place_of("flags") });
        socket.nodelay = flag(Flag::NoDelay);
        socket.keepalive = flag(Flag::KeepAlive);
    }

    fn put_limits(&mut self) {
        self.spec.instances = self.inherited_value("instances", |draft| &draft.instances);
        let per_source = self.inherited_value("per_source", |draft| &draft.per_source);
        if !self.lends {
            self.spec.per_source.instances = per_source;
        } else if self.draft.per_source.is_some() {
            let at = self.draft.place_of("per_source");
            self.add_note(
                &at,
                "this has no effect: a service that waits has one handler, which sees the clients itself",
            );
        }
        let usual = || Spanned {
            value: Some(Rate { events: DEFAULT_RATE_PER_SECOND, per: Duration::from_secs(1) }),
            at: self.draft.at.clone(),
        };
        // No default of a YAML file can say that there is no rate, so this one does not lie below those.
        if let Spanned { value: Some(rate), at } =
            self.inherited_value("cps", |draft| &draft.rate).unwrap_or_else(usual)
        {
            self.spec.burst = Some(at.spanned(rate.events));
            self.spec.rate = Some(Spanned { value: rate, at });
        }
        self.spec.max_load = self.inherited_value("max_load", |draft| &draft.max_load);
        let times = self.inherited_value("access_times", |draft| &draft.times);
        self.spec.times = times;
    }
}

/// The daemon's settings in `defaults`: its log.
pub(super) fn daemon_spec(defaults: &Draft, warnings: &mut Vec<Problem>) -> Option<Spanned<DaemonSpec>> {
    let at = defaults.place_of("log_type");
    match log_place(defaults.log_type.as_ref()?, &at) {
        Ok(place) => {
            let log = DaemonLogSpec { place, ..DaemonLogSpec::default() };
            Some(Spanned { value: DaemonSpec { log, ..DaemonSpec::default() }, at })
        }
        Err(fault) => {
            warnings.push(at.problem(format!("{fault}; the log goes to syslog")));
            None
        }
    }
}

/// The sockets that services have.
#[derive(Default)]
pub(super) struct Taken(HashMap<Vec<String>, Location>);

impl Taken {
    /// Takes the sockets of a service; if they are another's, where that one stands.
    pub(super) fn claim_sockets(&mut self, spec: &ServiceSpec, at: &Location) -> Option<Location> {
        let sockets: Vec<String> =
            spec.listen.iter().flat_map(|list| &list.value).map(|set| set.value.clone()).collect();
        match self.0.entry(sockets) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(at.clone());
                None
            }
        }
    }
}

/// A name for a service that no other has: its id, or with the protocol or a number behind it.
pub(super) fn unique_name(draft: &Draft, spec: &ServiceSpec, names: &mut HashSet<String>) -> String {
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
