//! The limits of a service, from what was written to what admission works with.
//!
//! Steps of [`super`]: each notes its problems and goes on. Nothing here looks at the machine.

use std::time::Duration;

use super::super::problem::{At, Set};
use super::super::schema::{Key, PenaltySpec, ServiceSpec, SourceSpec, or, value};
use super::super::units;
use super::super::{Endpoint, Origin, Origins, Penalties, PerSource, RateLimit, Transport};
use super::Checker;
use crate::limits::rate::Rate;
use crate::net::Prefixes;

/// The most that may come at once where nobody has said how many, at a rate for more than a second.
const BURST: u32 = 20;

/// Why a service that lends sockets other than those for UDP can't be told who may come.
const UNSEEN: &str = "a service with wait does not see its clients, its program does";

/// Why handlers of a source can't be counted where they are lent sockets.
const ONE_FOR_ALL: &str = "a socket for datagrams is lent to one handler, whoever sends them";

/// Why nobody is charged for a datagram.
const FORGED: &str = "the source of a datagram can be forged, so nobody is charged for one";

/// A debt that has no effect, and the most that one can owe; as sshd(8) has them.
const PENALTY_MIN: Duration = Duration::from_secs(15);
const PENALTY_MAX: Duration = Duration::from_secs(600);

impl Checker<'_> {
    /// `rate` and `burst`.
    pub(crate) fn rate_limit(&mut self, rate: &Key<units::Rate>, burst: &Key<u32>) -> Option<RateLimit> {
        let Some(Set { value: units::Rate { events, per }, at }) = rate else {
            let needless = burst.as_ref().map(|burst| burst.at.problem("burst says nothing without a rate beside it"));
            self.problems.extend(needless);
            return None;
        };
        let burst = or(burst, default_burst(*events, per.as_secs()));
        match Rate::new(*events, *per, burst) {
            Ok(rate) => Some(RateLimit { events: *events, per: *per, burst, rate }),
            Err(error) => {
                self.problems.push(at.problem(error.to_string()));
                None
            }
        }
    }

    /// `per_source` and `per_network` of the service that was written at `at`. One that does not see its clients has
    /// neither, and one that sees the first of them only counts no handlers: in `defaults` they are for its neighbours.
    pub(crate) fn per_source(&mut self, spec: &ServiceSpec, sight: Sight, at: &At) -> (PerSource, Option<PerSource>) {
        let (source, network) = (&spec.per_source, &spec.per_network);
        let (useless, why): (Vec<&At>, _) = match sight {
            Sight::All => (Vec::new(), ""),
            Sight::First => {
                ([place(&source.instances), place(&network.instances)].into_iter().flatten().collect(), ONE_FOR_ALL)
            }
            Sight::None => (places(source).chain(places(network)).collect(), UNSEEN),
        };
        for at in useless.into_iter().filter(|place| place.is_below(at)) {
            self.problems.push(at.problem(why));
        }
        if sight == Sight::None {
            let none = PerSource { prefix: Prefixes::SOURCE, instances: None, rate: None, exempt: Vec::new() };
            return (none, None);
        }
        let mut source = self.level(source, Prefixes::SOURCE);
        let mut network = self.level(network, Prefixes::NETWORK);
        if sight == Sight::First {
            (source.instances, network.instances) = (None, None);
        }
        let limits = network.instances.is_some() || network.rate.is_some();
        (source, limits.then_some(network))
    }

    fn level(&mut self, spec: &SourceSpec, prefix: Prefixes) -> PerSource {
        PerSource {
            prefix: Prefixes { ipv4: or(&spec.ipv4, prefix.ipv4), ipv6: or(&spec.ipv6, prefix.ipv6) },
            instances: or(&spec.instances, None),
            rate: self.rate_limit(&spec.rate, &spec.burst),
            exempt: values(&spec.exempt),
        }
    }

    /// `penalties`. A service that does not see its clients, or not for certain, charges nobody: in `defaults` they are
    /// for its neighbours.
    pub(crate) fn penalties(&mut self, spec: &ServiceSpec, listen: &[Endpoint], wait: bool, at: &At) -> Penalties {
        let PenaltySpec { crash, exit, refused, trap, min, max, exempt } = &spec.penalties;
        let costs = [crash, exit, refused, trap];
        let forged = listen.iter().any(Endpoint::is_datagram);
        if wait || forged {
            let message = if forged { FORGED } else { UNSEEN };
            let own = costs.into_iter().filter_map(place).filter(|place| place.is_below(at));
            self.problems.extend(own.map(|at| at.problem(message)));
        }
        let dearest = costs.into_iter().filter_map(value).max();
        let Some(dearest) = dearest.filter(|_| !wait && !forged) else {
            return Penalties { exempt: values(exempt), ..Penalties::default() };
        };
        let penalties = Penalties {
            crash: value(crash),
            exit: value(exit),
            refused: value(refused),
            trap: value(trap),
            min: or(min, PENALTY_MIN),
            max: or(max, PENALTY_MAX.max(dearest)),
            exempt: values(exempt),
        };
        for cost in costs.into_iter().flatten().filter(|cost| cost.value > penalties.max) {
            self.problems.push(cost.at.problem("this is longer than max, so nobody would ever pay it"));
        }
        if penalties.min >= penalties.max {
            let at = place(min).or(place(max)).unwrap_or(at);
            let message = "min must be shorter than max: nobody would ever be refused (min is 15s, max 10m by default)";
            self.problems.push(at.problem(message));
        }
        penalties
    }

    /// What makes no sense in `allow` and `deny`. That they have no effect would be a hole, so it is an error even
    /// where they are defaults.
    pub(crate) fn access(&mut self, spec: &ServiceSpec, listen: &[Endpoint], sight: Sight, at: &At) {
        let local = !listen.is_empty() && listen.iter().all(|endpoint| matches!(endpoint, Endpoint::UnixStream(_)));
        let unseen = sight == Sight::None;
        for list in [&spec.allow, &spec.deny].into_iter().flatten().filter(|list| unseen && !list.value.is_empty()) {
            self.problems.push(list.at.problem(UNSEEN));
        }
        for list in [&spec.allow, &spec.deny].into_iter().flatten().filter(|list| local && list.at.is_below(at)) {
            let message = "clients of Unix sockets are not subject to networks; see mode under socket";
            self.warnings.push(list.at.problem(message));
        }
        if let Some(Set { at, .. }) = spec.allow.as_ref().filter(|allow| allow.value.is_empty()) {
            let message = "this list is empty, so nobody could come; leave it out, or use enabled: false";
            self.problems.push(at.problem(message));
        }
    }
}

/// Which of its clients the daemon sees before a handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Each.
    All,
    /// The sender of the datagram for which a socket is lent.
    First,
    /// None of them.
    None,
}

impl Sight {
    /// Of a service with these sockets.
    pub(crate) fn of(listen: &[Endpoint], wait: bool) -> Self {
        let udp = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Inet { transport: Transport::Udp, .. });
        match wait {
            false => Self::All,
            true if listen.iter().all(udp) => Self::First,
            true => Self::None,
        }
    }
}

/// Where the limits were written.
pub(crate) fn origins(spec: &ServiceSpec) -> Origins {
    fn each<T>(key: &Key<Vec<Set<T>>>) -> Vec<Origin> {
        key.iter().flat_map(|set| &set.value).map(|entry| entry.at.origin()).collect()
    }
    let (source, network, penalties) = (&spec.per_source, &spec.per_network, &spec.penalties);
    let keys = [
        ("times", place(&spec.times)),
        ("penalties.exempt", place(&penalties.exempt)),
        ("penalties.trap", place(&penalties.trap)),
        ("per_source.instances", place(&source.instances)),
        ("per_source.rate", place(&source.rate)),
        ("per_source.exempt", place(&source.exempt)),
        ("per_network.instances", place(&network.instances)),
        ("per_network.rate", place(&network.rate)),
        ("per_network.exempt", place(&network.exempt)),
        ("rate", place(&spec.rate)),
        ("instances", place(&spec.instances)),
        ("max_load", place(&spec.max_load)),
    ];
    let keys = keys.into_iter().filter_map(|(key, at)| Some((key, at?.origin()))).collect();
    Origins { allow: each(&spec.allow), deny: each(&spec.deny), keys }
}

/// Where a key stands, if it was written.
fn place<T>(key: &Key<T>) -> Option<&At> {
    key.as_ref().map(|set| &set.at)
}

/// As many as the rate has in a second, or as it has in all if these are few.
fn default_burst(events: u32, seconds: u64) -> u32 {
    if seconds <= 1 { events } else { events.min(BURST) }
}

/// The values of a list.
pub(crate) fn values<T: Clone>(key: &Key<Vec<Set<T>>>) -> Vec<T> {
    value(key).into_iter().flatten().map(|set| set.value).collect()
}

/// Where the keys of a level stand that were written.
fn places(spec: &SourceSpec) -> impl Iterator<Item = &At> {
    let SourceSpec { instances, rate, burst, ipv4, ipv6, exempt } = spec;
    [place(instances), place(rate), place(burst), place(ipv4), place(ipv6), place(exempt)].into_iter().flatten()
}
