//! The questions before a handler is started, in order; the first no decides.
//!
//! They are about: access, then times of day; handlers, then rate of the source; handlers, then rate of its network; the
//! rate of the service; handlers of the service, then of the daemon; the load average. What touches only the client is
//! asked before what it shares with others, so that who is turned away by a limit of his own never sees theirs.
//!
//! Check all, then commit all: [`Admission::decide`] changes nothing, and only for a client that is let in the caller
//! [commits](Admission::commit) and takes a place in the ledger. So who is refused by a later question has used up
//! nothing. A handler that can't be started gives its place back, but not its share of the rates: a start was tried,
//! and that costs most of what a handler costs.
//!
//! The acceptor alone calls this. Nothing here fails, logs, waits, or allocates once a table is in force; time is an
//! argument. A load average that can't be read limits nobody, and [`Admission::complaint`] says so once.

mod load;
mod rules;

use std::collections::{BTreeMap, HashMap, TryReserveError};
use std::time::Duration;

use crate::ledger::{Ledger, Place, ServiceId};
use crate::log::Reason;
use crate::rate::{PerFamily, Sources};
use crate::source::{Peer, Source};
use crate::table::Service;
use load::Load;
use rules::{Limit, Rules};

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The clock that never goes back; rates are measured by it.
    pub monotonic: Duration,
    /// Since 1970-01-01 00:00 UTC; `times` are judged by it.
    pub wall: Duration,
}

impl Now {
    fn nanos(self) -> u64 {
        u64::try_from(self.monotonic.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A client as one service sees him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The other end of the connection.
    pub peer: Peer,
    /// Under which he is counted. Whom the limits of a source don't hold for is counted under his own address, so that
    /// he takes no place of others in his prefix.
    pub source: Source,
    /// The wider network that he is counted under, if the service has limits for it and they hold for him.
    pub network: Option<Source>,
    exempt: bool,
}

impl Client {
    /// Nobody in particular: the one who is lent a socket.
    pub const NOBODY: Self = Self { peer: Peer::Unknown, source: Source::Unknown, network: None, exempt: true };

    /// His place in the books of a service.
    #[must_use]
    pub fn place(&self, service: ServiceId) -> Place {
        Place { service, source: self.source, network: self.network }
    }
}

/// A no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The question.
    pub reason: Reason,
    /// After this time, with nothing else happening, that question is answered with yes; where it is known.
    pub retry: Option<Duration>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, retry: None }
    }
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let him in.
    Admit,
    /// Let him in, and say that without `dry_run` he would not be.
    WouldRefuse(Refusal),
    /// Turn him away, or leave him in the queue.
    Refuse(Refusal),
}

/// The rules in force and the memory of the rates.
#[derive(Debug)]
pub struct Admission {
    /// `daemon.instances`.
    instances: u32,
    services: HashMap<ServiceId, Rules>,
    rates: Sources,
    size: PerFamily<u32>,
    load: Load,
}

/// Rate tables for a new table of services, if those in use are of the wrong size.
#[derive(Debug)]
pub struct Prepared(Option<(Sources, PerFamily<u32>)>);

/// What is had where no source has a rate.
const NO_RATES: PerFamily<u32> = PerFamily { ipv4: 0, ipv6: 0 };

impl Admission {
    /// Without rules, so without services.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Self, TryReserveError> {
        let (services, load) = (HashMap::new(), Load::of_system());
        Ok(Self { instances: 0, services, rates: Sources::new(NO_RATES)?, size: NO_RATES, load })
    }

    /// Makes room for the rates of `sources` sources, if `services` have any for them. Changes nothing yet.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub fn prepare<'a>(
        &self,
        sources: PerFamily<u32>,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> Result<Prepared, TryReserveError> {
        let rated = |service: &Service| {
            let network = service.per_network.as_ref();
            service.per_source.rate.is_some() || network.is_some_and(|network| network.rate.is_some())
        };
        let size = if services.into_iter().any(rated) { sources } else { NO_RATES };
        let fresh = (size != self.size).then(|| Sources::new(size)).transpose()?;
        Ok(Prepared(fresh.map(|sources| (sources, size))))
    }

    /// Puts the rules of a new table in force. Who has used up a part of a burst has used up the same part of the new
    /// one; what was owed to a service that is gone is forgotten, and so is everything if the table of sources has
    /// another size.
    pub fn serve<'a>(
        &mut self,
        services: impl IntoIterator<Item = (ServiceId, &'a Service)>,
        instances: u32,
        prepared: Prepared,
        now: Now,
    ) {
        self.instances = instances;
        let rules = services.into_iter().map(|(id, service)| (id, Rules::new(id, service))).collect();
        let old = std::mem::replace(&mut self.services, rules);
        if let Prepared(Some((rates, size))) = prepared {
            (self.rates, self.size) = (rates, size);
        }
        let mut changes = BTreeMap::new();
        for (id, old) in &old {
            let new = self.services.get_mut(id);
            changes.extend(old.changes(new.as_deref()));
            if let Some(new) = new {
                new.inherit(old, now.nanos());
            }
        }
        self.rates.adjust(&changes, now.nanos());
    }

    /// The client with this address, as a service sees him.
    #[must_use]
    pub fn client(&self, id: ServiceId, peer: Peer) -> Client {
        self.services.get(&id).map_or(Client { peer, ..Client::NOBODY }, |rules| rules.client(peer))
    }

    /// Is there room for one more client, whoever he is? Asked before he is accepted.
    ///
    /// # Errors
    /// The limit that has been reached. Of a service with `dry_run`, only that of the daemon counts here.
    pub fn room(&mut self, ledger: &Ledger, id: ServiceId, now: Now) -> Result<(), Refusal> {
        let Some(rules) = self.services.get(&id) else { return Ok(()) };
        if rules.dry_run {
            return self.daemon_room(ledger);
        }
        rules.service_rate(now)?;
        self.shared(ledger, id, now)
    }

    /// Asks all the questions about a client.
    pub fn decide(&mut self, ledger: &Ledger, id: ServiceId, client: &Client, now: Now) -> Decision {
        // A service without rules is none.
        let Some(rules) = self.services.get(&id) else { return Decision::Refuse(Reason::Access.into()) };
        let dry_run = rules.dry_run;
        match self.ask(rules, ledger, id, client, now).and_then(|()| self.shared(ledger, id, now)) {
            Ok(()) => Decision::Admit,
            Err(refusal) if dry_run => match self.daemon_room(ledger) {
                Ok(()) => Decision::WouldRefuse(refusal),
                Err(refusal) => Decision::Refuse(refusal),
            },
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    /// A client who was answered with [`Decision::Admit`] is about to be served: he has used up his share of the rates.
    pub fn commit(&mut self, id: ServiceId, client: &Client, now: Now) {
        let Some(rules) = self.services.get_mut(&id) else { return };
        let now = now.nanos();
        rules.commit(now);
        let source = (!client.exempt).then_some(client.source);
        for (limit, key) in [(Some(&rules.source), source), (rules.network.as_ref(), client.network)] {
            if let Some((limit, rate, key)) = limit.and_then(|limit| Some((limit, limit.rate?, key?))) {
                self.rates.commit(limit.number, key, &rate, now);
            }
        }
    }

    /// The questions up to the rate of the service.
    fn ask(&self, rules: &Rules, ledger: &Ledger, id: ServiceId, client: &Client, now: Now) -> Result<(), Refusal> {
        rules.access(&client.peer)?;
        rules.times(now)?;
        if !client.exempt {
            let live = || ledger.source_count(id, client.source);
            self.limit(&rules.source, client.source, live, now, [Reason::SourceInstances, Reason::SourceRate])?;
        }
        if let Some((limit, network)) = rules.network.as_ref().zip(client.network) {
            let live = || ledger.network_count(id, network);
            self.limit(limit, network, live, now, [Reason::NetworkInstances, Reason::NetworkRate])?;
        }
        rules.service_rate(now)
    }

    fn limit(
        &self,
        limit: &Limit,
        key: Source,
        live: impl Fn() -> u32,
        now: Now,
        [instances, rate]: [Reason; 2],
    ) -> Result<(), Refusal> {
        if limit.instances.is_some_and(|most| live() >= most) {
            return Err(instances.into());
        }
        let Some(allowed) = &limit.rate else { return Ok(()) };
        let answer = self.rates.check(limit.number, key, allowed, now.nanos());
        answer.map_err(|retry| Refusal { reason: rate, retry: Some(retry.0) })
    }

    /// The questions behind the rate of the service.
    fn shared(&mut self, ledger: &Ledger, id: ServiceId, now: Now) -> Result<(), Refusal> {
        let Some(rules) = self.services.get(&id) else { return Ok(()) };
        if rules.instances.is_some_and(|most| ledger.service_count(id) >= most) {
            return Err(Reason::ServiceInstances.into());
        }
        self.daemon_room(ledger)?;
        match rules.max_load {
            Some(most) if self.load.at(now.monotonic).is_some_and(|load| load >= most) => Err(Reason::Load.into()),
            _ => Ok(()),
        }
    }

    /// Is there room for one more handler of any service?
    ///
    /// # Errors
    /// `daemon.instances` has been reached.
    pub fn daemon_room(&self, ledger: &Ledger) -> Result<(), Refusal> {
        if ledger.total() >= self.instances { Err(Reason::DaemonInstances.into()) } else { Ok(()) }
    }

    /// What the administrator should know and has not been told.
    pub fn complaint(&mut self) -> Option<String> {
        self.load.complaint()
    }

    /// The rates of sources, and how many entries they have room for.
    #[must_use]
    pub fn rates(&self) -> (&Sources, PerFamily<u32>) {
        (&self.rates, self.size)
    }
}

#[cfg(test)]
mod tests;
