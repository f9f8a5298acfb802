//! The only owner of counts: which handler holds which place, and therefore how many there are.
//!
//! A handler's place is a [`Ticket`], taken before the handler is started and given back once, by its number, when it
//! has ended. The count of a service or a source is always the number of tickets that name it; [`Ledger::audit`]
//! works it out anew and compares. The daemon's loop alone calls this, and every cost here is independent of how many
//! services, sources or handlers there are.
//!
//! The ledger calls nobody, logs nothing, knows no descriptor, no process id and no clock. It cannot fail: a ticket
//! that it does not know is told to the caller and changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::limits::histogram::{Histogram, LIVES};
use crate::net::Source;
use crate::types::{Ending, Reason, ServiceId, Step, Ticket};
use serde::{Deserialize, Serialize};

/// What one ticket stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The service that the handler belongs to.
    pub service: ServiceId,
    /// The source that it was started for.
    pub source: Source,
    /// The wider network of that source, where the service counts by networks too. As the source, it is what the table
    /// said when the place was taken: a reload that changes prefixes changes nothing here.
    pub network: Option<Source>,
}

/// The books of one service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// The service's name.
    pub name: Arc<str>,
    /// Live handlers; worked out anew from the places by the next program of an upgrade.
    #[serde(skip)]
    pub live: u32,
    /// The most that there had been at one time when one ended.
    peak: u32,
    /// Handlers that were started.
    pub accepted: u64,
    /// Connections that were turned away, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Connections that were let in because of `dry_run` alone, by the reason to turn them away.
    pub would_refuse: BTreeMap<Reason, u64>,
    /// Handlers that could not be started, by the step that failed.
    pub failed: BTreeMap<Step, u64>,
    /// Handlers that have ended.
    pub ended: Endings,
    /// How long they had lived.
    pub lives: Histogram<{ LIVES.len() }>,
    /// Is it in the table? If not, it goes with its last handler.
    pub listed: bool,
}

/// How many handlers have ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endings {
    /// With status 0.
    pub well: u64,
    /// With another status.
    pub badly: u64,
    /// By a signal.
    pub by_signal: u64,
}

impl Tally {
    /// The most live handlers that there have been at one time.
    #[must_use]
    pub fn peak(&self) -> u32 {
        self.peak.max(self.live)
    }

    fn new(name: Arc<str>) -> Self {
        let (refused, would_refuse, failed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (ended, lives) = (Endings::default(), Histogram::new(&LIVES));
        Self { name, live: 0, peak: 0, accepted: 0, refused, would_refuse, failed, ended, lives, listed: true }
    }
}

/// A count that does not agree with the tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Whose count.
    pub what: String,
    /// The number of tickets.
    pub expected: u64,
    /// The count.
    pub found: u64,
}

/// How many places each key has in each service; none is zero.
#[derive(Debug, Default)]
struct Counts(HashMap<(ServiceId, Source), u32>);

impl Counts {
    fn up(&mut self, service: ServiceId, key: Source) {
        *self.0.entry((service, key)).or_insert(0) += 1;
    }

    fn down(&mut self, service: ServiceId, key: Source) {
        if let Some(count) = self.0.get_mut(&(service, key)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&(service, key));
            }
        }
    }

    fn get(&self, service: ServiceId, key: Source) -> u32 {
        self.0.get(&(service, key)).copied().unwrap_or(0)
    }

    fn iter(&self) -> impl Iterator<Item = (ServiceId, Source, u32)> + '_ {
        self.0.iter().map(|(&(service, key), &count)| (service, key, count))
    }
}

/// The books. Serialized they are what the counts are counts of: the services and the places.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    last_ticket: u64,
    last_service: u32,
    places: HashMap<Ticket, Place>,
    /// The most places that there had been when one was settled.
    peak: u32,
    services: HashMap<ServiceId, Tally>,
    #[serde(skip)]
    names: HashMap<Arc<str>, ServiceId>,
    #[serde(skip)]
    sources: Counts,
    #[serde(skip)]
    networks: Counts,
}

impl Ledger {
    /// Opens the books of the services with these names, in this order, and gives their numbers. A service that is
    /// known already, be it only by its live handlers, keeps its number and its counts; one that is not named any more
    /// goes when its last handler does.
    pub fn list<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Vec<ServiceId> {
        self.services.values_mut().for_each(|tally| tally.listed = false);
        let listed = names.into_iter().map(|name| self.enter(name)).collect();
        let Self { services, names, .. } = self;
        services.retain(|_, tally| tally.listed || tally.live > 0);
        names.retain(|_, id| services.contains_key(id));
        listed
    }

    fn enter(&mut self, name: &str) -> ServiceId {
        if let Some(&id) = self.names.get(name) {
            if let Some(tally) = self.services.get_mut(&id) {
                tally.listed = true;
            }
            return id;
        }
        self.last_service += 1;
        let (id, name) = (ServiceId(self.last_service), Arc::<str>::from(name));
        self.names.insert(Arc::clone(&name), id);
        self.services.insert(id, Tally::new(name));
        id
    }

    /// The books that the program before this one has written: every count is worked out anew from the places, so that it is
    /// exact whatever it was there.
    #[must_use]
    pub fn recounted(mut self) -> Self {
        (self.sources, self.networks) = (Counts::default(), Counts::default());
        self.names = self.services.iter().map(|(&id, tally)| (Arc::clone(&tally.name), id)).collect();
        self.services.values_mut().for_each(|tally| tally.live = 0);
        for (ticket, place) in std::mem::take(&mut self.places) {
            self.enter_place(ticket, place);
        }
        self
    }

    /// Gives a place in a listed service to a handler that is about to be started.
    pub fn take(&mut self, place: Place) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.enter_place(ticket, place);
        ticket
    }

    fn enter_place(&mut self, ticket: Ticket, place: Place) {
        let Place { service, source, network } = place;
        self.places.insert(ticket, place);
        self.sources.up(service, source);
        if let Some(network) = network {
            self.networks.up(service, network);
        }
        if let Some(tally) = self.services.get_mut(&service) {
            tally.live += 1;
        }
    }

    /// Takes a place back, when its handler has ended. `None` if there is no such ticket: nothing changes then, and
    /// the caller has an inconsistency to report.
    pub fn settle(&mut self, ticket: Ticket) -> Option<Place> {
        let peak = self.peak();
        let place = self.places.remove(&ticket)?;
        self.peak = peak;
        if let Some(tally) = self.services.get_mut(&place.service) {
            tally.peak = tally.peak();
        }
        self.release(place);
        Some(place)
    }

    /// The process that holds this place has become a handler.
    pub fn note_start(&mut self, ticket: Ticket) {
        let Some(place) = self.places.get(&ticket) else { return };
        if let Some(tally) = self.services.get_mut(&place.service) {
            tally.accepted += 1;
        }
    }

    /// Takes a place back whose handler could not be started: it has never been one.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<Place> {
        let place = self.places.remove(&ticket)?;
        self.release(place);
        Some(place)
    }

    fn release(&mut self, place: Place) {
        self.sources.down(place.service, place.source);
        if let Some(network) = place.network {
            self.networks.down(place.service, network);
        }
        let Some(tally) = self.services.get_mut(&place.service) else { return };
        tally.live = tally.live.saturating_sub(1);
        if tally.live == 0 && !tally.listed {
            self.names.remove(&tally.name);
            self.services.remove(&place.service);
        }
    }

    /// Notes a connection that was turned away.
    pub fn note_refusal(&mut self, service: ServiceId, reason: Reason) {
        if let Some(tally) = self.services.get_mut(&service) {
            *tally.refused.entry(reason).or_default() += 1;
        }
    }

    /// Notes a connection that was let in because of `dry_run` alone.
    pub fn note_dry_refusal(&mut self, service: ServiceId, reason: Reason) {
        if let Some(tally) = self.services.get_mut(&service) {
            *tally.would_refuse.entry(reason).or_default() += 1;
        }
    }

    /// Notes a handler that could not be started.
    pub fn note_failure(&mut self, service: ServiceId, step: Step) {
        if let Some(tally) = self.services.get_mut(&service) {
            *tally.failed.entry(step).or_default() += 1;
        }
    }

    /// Notes how a handler has ended, and how long it had lived.
    pub fn note_ending(&mut self, service: ServiceId, ending: Ending, lived: Duration) {
        let Some(tally) = self.services.get_mut(&service) else { return };
        tally.lives.add(lived);
        match ending {
            Ending::Exited(0) => tally.ended.well += 1,
            Ending::Exited(_) => tally.ended.badly += 1,
            Ending::Signaled(_) => tally.ended.by_signal += 1,
        }
    }

    /// Live handlers of a service.
    #[must_use]
    pub fn service_count(&self, service: ServiceId) -> u32 {
        self.services.get(&service).map_or(0, |tally| tally.live)
    }

    /// Live handlers of one source in a service.
    #[must_use]
    pub fn source_count(&self, service: ServiceId, source: Source) -> u32 {
        self.sources.get(service, source)
    }

    /// Live handlers of one network in a service.
    #[must_use]
    pub fn network_count(&self, service: ServiceId, network: Source) -> u32 {
        self.networks.get(service, network)
    }

    /// Live handlers of the daemon.
    #[must_use]
    pub fn total(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// The most live handlers of the daemon that there have been at one time.
    #[must_use]
    pub fn peak(&self) -> u32 {
        self.peak.max(self.total())
    }

    /// The books of one service.
    #[must_use]
    pub fn tally(&self, service: ServiceId) -> Option<&Tally> {
        self.services.get(&service)
    }

    /// The service of this name, if it is in the table or has handlers.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.names.get(name).copied()
    }

    /// The books of every service, in no order.
    pub fn tallies(&self) -> impl Iterator<Item = (ServiceId, &Tally)> {
        self.services.iter().map(|(&id, tally)| (id, tally))
    }

    /// The counts of every source that has handlers, in no order.
    pub fn sources(&self) -> impl Iterator<Item = (ServiceId, Source, u32)> + '_ {
        self.sources.iter()
    }

    /// The counts of every network that has handlers, in no order; of services that count by networks.
    pub fn networks(&self) -> impl Iterator<Item = (ServiceId, Source, u32)> + '_ {
        self.networks.iter()
    }

    /// Works out every count anew from the tickets and names those that do not agree.
    #[must_use]
    pub fn audit(&self) -> Vec<Drift> {
        let mut services: HashMap<ServiceId, u64> = HashMap::new();
        let mut sources: HashMap<(ServiceId, Source), u64> = HashMap::new();
        let mut networks: HashMap<(ServiceId, Source), u64> = HashMap::new();
        for place in self.places.values() {
            *services.entry(place.service).or_default() += 1;
            *sources.entry((place.service, place.source)).or_default() += 1;
            if let Some(network) = place.network {
                *networks.entry((place.service, network)).or_default() += 1;
            }
        }
        let mut drifts = Vec::new();
        for (id, tally) in &self.services {
            let expected = services.remove(id).unwrap_or(0);
            compare(&mut drifts, || format!("service {}", tally.name), expected, tally.live.into());
        }
        for (id, expected) in services {
            compare(&mut drifts, || format!("service number {}", id.0), expected, 0);
        }
        audit_keys(&mut drifts, "source", sources, &self.sources);
        audit_keys(&mut drifts, "network", networks, &self.networks);
        drifts
    }
}

fn compare(drifts: &mut Vec<Drift>, what: impl Fn() -> String, expected: u64, found: u64) {
    if expected != found {
        drifts.push(Drift { what: what(), expected, found });
    }
}

fn audit_keys(drifts: &mut Vec<Drift>, what: &str, mut expected: HashMap<(ServiceId, Source), u64>, counts: &Counts) {
    let name = |id: ServiceId, key: Source| format!("{what} {key} in service number {}", id.0);
    for (id, key, found) in counts.iter() {
        compare(drifts, || name(id, key), expected.remove(&(id, key)).unwrap_or(0), found.into());
    }
    for ((id, key), expected) in expected {
        compare(drifts, || name(id, key), expected, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Source = Source::Uid(1);
    const B: Source = Source::Uid(2);

    fn place(service: ServiceId, source: Source) -> Place {
        Place { service, source, network: None }
    }

    #[test]
    fn counts_are_the_tickets() {
        let mut ledger = Ledger::default();
        let ids = ledger.list(["one", "two"]);
        let (first, second, third) =
            (ledger.take(place(ids[0], A)), ledger.take(place(ids[0], A)), ledger.take(place(ids[1], B)));
        assert_eq!((ledger.service_count(ids[0]), ledger.source_count(ids[0], A), ledger.total()), (2, 2, 3));
        assert_eq!(ledger.settle(first), Some(place(ids[0], A)));
        assert_eq!((ledger.service_count(ids[0]), ledger.source_count(ids[0], A), ledger.total()), (1, 1, 2));
        assert!(ledger.settle(second).is_some() && ledger.settle(third).is_some());
        assert_eq!((ledger.total(), ledger.sources().count()), (0, 0));
        assert_eq!(ledger.audit(), []);
    }

    #[test]
    fn a_service_is_found_by_its_name() {
        let mut ledger = Ledger::default();
        let ids = ledger.list(["one", "two"]);
        assert_eq!((ledger.find("one"), ledger.find("two"), ledger.find("three")), (Some(ids[0]), Some(ids[1]), None));
    }

    #[test]
    fn a_ticket_is_known_by_its_number() {
        let mut ledger = Ledger::default();
        let id = ledger.list(["s"])[0];
        for ticket in [A, A, B].map(|source| ledger.take(place(id, source))) {
            assert!(ledger.settle(Ticket::from_number(ticket.number())).is_some());
        }
        assert_eq!(ledger.total(), 0);
    }

    #[test]
    fn what_happens_to_a_service_is_noted_in_its_tally_and_no_other() {
        let mut ledger = Ledger::default();
        let ids = ledger.list(["one", "two"]);
        for _ in 0..3 {
            ledger.note_refusal(ids[0], Reason::Access);
            ledger.note_failure(ids[0], Step::Clone);
        }
        ledger.note_refusal(ids[0], Reason::Load);
        ledger.note_dry_refusal(ids[0], Reason::Access);
        ledger.note_dry_refusal(ids[0], Reason::Access);
        let second = Duration::from_secs(1);
        for ending in [Ending::Exited(0), Ending::Exited(1), Ending::Exited(2), Ending::Signaled(9)] {
            ledger.note_ending(ids[0], ending, second);
        }
        let tally = ledger.tally(ids[0]).unwrap();
        assert_eq!(tally.refused, BTreeMap::from([(Reason::Access, 3), (Reason::Load, 1)]));
        assert_eq!(tally.would_refuse, BTreeMap::from([(Reason::Access, 2)]));
        assert_eq!(tally.failed, BTreeMap::from([(Step::Clone, 3)]));
        assert_eq!(tally.ended, Endings { well: 1, badly: 2, by_signal: 1 });
        assert_eq!((tally.lives.count(), tally.lives.sum()), (4, 4 * second));
        let other = ledger.tally(ids[1]).unwrap();
        assert_eq!((other.refused.len(), other.would_refuse.len(), other.failed.len()), (0, 0, 0));
        assert_eq!(other.ended, Endings::default());
    }

    #[test]
    fn the_most_at_one_time_is_remembered_also_over_an_upgrade() {
        let mut ledger = Ledger::default();
        let ids = ledger.list(["one", "two"]);
        let peaks = |ledger: &Ledger| (ledger.peak(), ledger.tally(ids[0]).unwrap().peak());
        let tickets = [A, A, B].map(|source| ledger.take(place(ids[0], source)));
        let other = ledger.take(place(ids[1], A));
        assert_eq!(peaks(&ledger), (4, 3));
        for ticket in tickets.into_iter().chain([other]) {
            assert!(ledger.settle(ticket).is_some());
        }
        let _last = ledger.take(place(ids[0], B));
        assert_eq!((peaks(&ledger), ledger.total()), ((4, 3), 1));
        let next = serde_json::from_slice::<Ledger>(&serde_json::to_vec(&ledger).unwrap()).unwrap().recounted();
        assert_eq!((peaks(&next), next.total()), ((4, 3), 1));
    }

    #[test]
    fn a_ticket_is_settled_once() {
        let mut ledger = Ledger::default();
        let id = ledger.list(["one"])[0];
        let ticket = ledger.take(place(id, A));
        let _other = ledger.take(place(id, A));
        assert!(ledger.settle(ticket).is_some());
        assert_eq!(ledger.settle(ticket), None);
        assert_eq!(ledger.service_count(id), 1);
    }

    #[test]
    fn a_service_that_comes_back_still_has_its_handlers() {
        let mut ledger = Ledger::default();
        let one = ledger.list(["one"])[0];
        let ticket = ledger.take(place(one, A));
        let two = ledger.list(["two"])[0];
        assert_eq!((ledger.service_count(one), ledger.service_count(two)), (1, 0));
        assert_eq!(ledger.list(["two", "one"]), [two, one]);
        assert_eq!(ledger.service_count(one), 1);
        ledger.settle(ticket);
        assert_eq!(ledger.service_count(one), 0);
    }

    #[test]
    fn a_removed_service_goes_with_its_last_handler_and_its_number_never_comes_back() {
        let mut ledger = Ledger::default();
        let one = ledger.list(["one"])[0];
        let ticket = ledger.take(place(one, A));
        ledger.list([]);
        assert_eq!(ledger.tallies().count(), 1);
        ledger.settle(ticket);
        assert_eq!(ledger.tallies().count(), 0);
        assert_ne!(ledger.list(["one"])[0], one);
    }

    #[test]
    fn sources_share_the_count_of_their_network_and_a_ticket_keeps_its_own_keys() {
        let mut ledger = Ledger::default();
        let id = ledger.list(["one"])[0];
        let network = Source::Uid(100);
        let in_network = |source| Place { service: id, source, network: Some(network) };
        let (first, second) = (ledger.take(in_network(A)), ledger.take(in_network(B)));
        let other = ledger.take(place(id, A));
        assert_eq!((ledger.network_count(id, network), ledger.source_count(id, A)), (2, 2));
        assert_eq!(ledger.audit(), []);
        // Whatever the table says of prefixes by now.
        assert_eq!(ledger.settle(first), Some(in_network(A)));
        assert_eq!((ledger.network_count(id, network), ledger.source_count(id, A)), (1, 1));
        assert!(ledger.settle(other).is_some() && ledger.cancel(second).is_some());
        assert_eq!((ledger.networks().count(), ledger.sources().count(), ledger.total()), (0, 0, 0));
    }

    #[test]
    fn the_audit_names_a_count_that_is_wrong() {
        let mut ledger = Ledger::default();
        let id = ledger.list(["one"])[0];
        let _ticket = ledger.take(place(id, A));
        ledger.services.get_mut(&id).unwrap().live = 7;
        ledger.sources.0.insert((id, B), 1);
        ledger.networks.0.insert((id, B), 2);
        let found: Vec<_> = ledger.audit().into_iter().map(|drift| (drift.expected, drift.found)).collect();
        assert_eq!(found, [(1, 7), (0, 1), (0, 2)]);
    }
}
