//! The limits of a service, from what was written to what admission works with.
//!
//! Steps of [`super`]: each notes its problems and goes on. Nothing here looks at the machine.

use std::time::Duration;

use super::super::keys::{PenaltySpec, PrefixSpec, ServiceSpec, SourceSpec};
use super::super::location::{Location, Spanned, SpannedList, value_or, written_elements, written_value};
use super::super::units;
use super::super::{Endpoint, Origins, Penalties, PerSource, RateLimit, Transport};
use super::checker::Checker;
use crate::limits::rate::Rate;
use crate::net::Prefixes;

/// The default of `burst` at a rate for more than a second.
const DEFAULT_BURST: u32 = 20;

/// The message for access lists of a service that lends sockets other than those for UDP.
const UNSEEN: &str = "a service with wait does not see its clients, its program does";

/// The message for `instances` of a source where sockets are lent.
const ONE_FOR_ALL: &str = "a socket for datagrams is lent to one handler for all senders";

/// The message for penalties of a service with datagrams.
const FORGED: &str = "the source of a datagram can be forged, so nobody is charged for one";

/// The default of the longest penalty, as in sshd(8).
const DEFAULT_MAX_PENALTY: Duration = Duration::from_secs(600);

impl Checker<'_> {
    /// `rate` and `burst`.
    pub(crate) fn rate_limit(
        &mut self,
        rate: &Option<Spanned<units::Rate>>,
        burst: &Option<Spanned<u32>>,
    ) -> Option<RateLimit> {
        let Some(Spanned { value: units::Rate { events, per }, at }) = rate else {
            let needless = burst.as_ref().map(|burst| burst.at.problem("burst says nothing without a rate beside it"));
            self.problems.extend(needless);
            return None;
        };
        let burst = value_or(burst, default_burst(*events, per.as_secs()));
        match Rate::new(*events, *per, burst) {
            Ok(rate) => Some(RateLimit { events: *events, per: *per, burst, rate }),
            Err(error) => {
                self.problems.push(at.problem(error.to_string()));
                None
            }
        }
    }

    /// `per_source` and `per_network` of the service that was written at `at`. One that does not see its clients
    /// has neither, and one that sees the first of them only counts no handlers: in `defaults` they are for its
    /// neighbours.
    pub(crate) fn per_source(
        &mut self,
        spec: &ServiceSpec,
        visibility: ClientVisibility,
        at: &Location,
    ) -> (PerSource, Option<PerSource>) {
        let (source, network) = (&spec.per_source, &spec.per_network);
        let (useless, why): (Vec<&Location>, _) = match visibility {
            ClientVisibility::EachConnection => (Vec::new(), ""),
            ClientVisibility::FirstDatagram => (
                [written_at(&source.instances), written_at(&network.instances)].into_iter().flatten().collect(),
                ONE_FOR_ALL,
            ),
            ClientVisibility::Hidden => (written_places(source).chain(written_places(network)).collect(), UNSEEN),
        };
        for at in useless.into_iter().filter(|place| place.is_below(at)) {
            self.problems.push(at.problem(why));
        }
        if visibility == ClientVisibility::Hidden {
            let none = PerSource { prefix: Prefixes::SOURCE, instances: None, rate: None, exempt: Vec::new() };
            return (none, None);
        }
        let mut source = self.source_limits(source, Prefixes::SOURCE);
        let mut network = self.source_limits(network, Prefixes::NETWORK);
        if visibility == ClientVisibility::FirstDatagram {
            (source.instances, network.instances) = (None, None);
        }
        let limits = network.instances.is_some() || network.rate.is_some();
        (source, limits.then_some(network))
    }

    fn source_limits(&mut self, spec: &SourceSpec, prefix: Prefixes) -> PerSource {
        PerSource {
            prefix: Prefixes {
                ipv4: value_or(&spec.prefix.ipv4, prefix.ipv4),
                ipv6: value_or(&spec.prefix.ipv6, prefix.ipv6),
            },
            instances: spec.instances(),
            rate: self.rate_limit(&spec.rate, &spec.burst),
            exempt: written_elements(&spec.exempt),
        }
    }

    /// `penalties`. A service that does not see its clients, or not for certain, has none: in `defaults` they are
    /// for its neighbours.
    pub(crate) fn check_penalties(
        &mut self,
        spec: &ServiceSpec,
        listen: &[Endpoint],
        wait: bool,
        at: &Location,
    ) -> Penalties {
        let PenaltySpec { crash, exit, refused, trap, min, max, exempt } = &spec.penalties;
        let costs = [crash, exit, refused, trap];
        let forged = listen.iter().any(Endpoint::is_datagram);
        if wait || forged {
            let message = if forged { FORGED } else { UNSEEN };
            let own = costs.into_iter().filter_map(written_at).filter(|place| place.is_below(at));
            self.problems.extend(own.map(|at| at.problem(message)));
        }
        let dearest = costs.into_iter().filter_map(written_value).max();
        let Some(dearest) = dearest.filter(|_| !wait && !forged) else {
            return Penalties { exempt: written_elements(exempt), ..Penalties::default() };
        };
        let penalties = Penalties {
            crash: written_value(crash),
            exit: written_value(exit),
            refused: written_value(refused),
            trap: written_value(trap),
            min: spec.penalties.min(),
            max: value_or(max, DEFAULT_MAX_PENALTY.max(dearest)),
            exempt: written_elements(exempt),
        };
        for cost in costs.into_iter().flatten().filter(|cost| cost.value > penalties.max) {
            self.problems.push(cost.at.problem("this is longer than max, so nobody would ever pay it"));
        }
        if penalties.min >= penalties.max {
            let at = written_at(min).or(written_at(max)).unwrap_or(at);
            let message = "min must be shorter than max: nobody would ever be refused (min is 15s, max 10m by default)";
            self.problems.push(at.problem(message));
        }
        penalties
    }

    /// Reports `allow` and `deny` that have no effect. That would be a hole, so it is an error even
    /// where they are defaults.
    pub(crate) fn check_access(
        &mut self,
        spec: &ServiceSpec,
        listen: &[Endpoint],
        visibility: ClientVisibility,
        at: &Location,
    ) {
        let local = !listen.is_empty() && listen.iter().all(|endpoint| matches!(endpoint, Endpoint::UnixStream(_)));
        let unseen = visibility == ClientVisibility::Hidden;
        for list in [&spec.allow, &spec.deny].into_iter().flatten().filter(|list| unseen && !list.value.is_empty()) {
            self.problems.push(list.at.problem(UNSEEN));
        }
        for list in [&spec.allow, &spec.deny].into_iter().flatten().filter(|list| local && list.at.is_below(at)) {
            let message = "clients of Unix sockets are not subject to networks; see mode under socket";
            self.warnings.push(list.at.problem(message));
        }
        if let Some(Spanned { at, .. }) = spec.allow.as_ref().filter(|allow| allow.value.is_empty()) {
            let message = "this list is empty, so nobody could come; leave it out, or use enabled: false";
            self.problems.push(at.problem(message));
        }
    }
}

/// The clients that the daemon sees before a handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientVisibility {
    /// Each.
    EachConnection,
    /// The sender of the datagram for which a socket is lent.
    FirstDatagram,
    /// None of them.
    Hidden,
}

impl ClientVisibility {
    /// Of a service with these sockets.
    pub(crate) fn of_sockets(listen: &[Endpoint], wait: bool) -> Self {
        let udp = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Inet { transport: Transport::Udp, .. });
        match wait {
            false => Self::EachConnection,
            true if listen.iter().all(udp) => Self::FirstDatagram,
            true => Self::Hidden,
        }
    }
}

/// Where the limits were written.
pub(crate) fn limit_origins(spec: &ServiceSpec) -> Origins {
    fn each<T>(key: &SpannedList<T>) -> Vec<Location> {
        key.iter().flat_map(|set| &set.value).map(|entry| entry.at.clone()).collect()
    }
    let (source, network, penalties) = (&spec.per_source, &spec.per_network, &spec.penalties);
    let keys = [
        ("times", written_at(&spec.times)),
        ("penalties.exempt", written_at(&penalties.exempt)),
        ("penalties.trap", written_at(&penalties.trap)),
        ("per_source.instances", written_at(&source.instances)),
        ("per_source.rate", written_at(&source.rate)),
        ("per_source.exempt", written_at(&source.exempt)),
        ("per_network.instances", written_at(&network.instances)),
        ("per_network.rate", written_at(&network.rate)),
        ("per_network.exempt", written_at(&network.exempt)),
        ("rate", written_at(&spec.rate)),
        ("instances", written_at(&spec.instances)),
        ("max_load", written_at(&spec.max_load)),
    ];
    let keys = keys.into_iter().filter_map(|(key, at)| Some((key, at?.clone()))).collect();
    Origins { allow: each(&spec.allow), deny: each(&spec.deny), keys }
}

/// Where a key stands, if it was written.
fn written_at<T>(key: &Option<Spanned<T>>) -> Option<&Location> {
    key.as_ref().map(|set| &set.at)
}

/// As many as the rate has in a second, or as it has in all if these are few.
fn default_burst(events: u32, seconds: u64) -> u32 {
    if seconds <= 1 { events } else { events.min(DEFAULT_BURST) }
}

/// Where the keys of a level stand that were written.
fn written_places(spec: &SourceSpec) -> impl Iterator<Item = &Location> {
    let SourceSpec { instances, rate, burst, prefix: PrefixSpec { ipv4, ipv6 }, exempt } = spec;
    [written_at(instances), written_at(rate), written_at(burst), written_at(ipv4), written_at(ipv6), written_at(exempt)]
        .into_iter()
        .flatten()
}
