//! The questions before a handler is started, in order; the first no decides.
//!
//! They are about: the service being drained; access, then times of day; bans, then penalties; the service being a trap;
//! handlers, then rate of the source; handlers, then rate of its network; the rate of the service; handlers of the
//! service, then of the daemon; the load average. What touches only the client is asked before what it shares with
//! others, so that who is turned away by a limit of his own never sees theirs.
//!
//! Check all, then commit all: [`Admission::decide`] changes nothing, and only for a client that is let in the caller
//! [commits](Admission::commit) and takes a place in the ledger. So who is refused by a later question has used up
//! nothing. A handler that can't be started gives its place back, but not its share of the rates: a start was tried,
//! and that costs most of what a handler costs. [`Admission::explain`] asks the same questions for the administrator.
//!
//! The acceptor calls this, and the daemon for what the administrator asks. Nothing here fails, logs, waits, or allocates
//! for a client; time is an argument. A load average that can't be read limits nobody, and [`Admission::complaint`] says
//! so once.

mod carry;
mod explain;
mod load;
mod questions;
mod rules;

pub use crate::limits::bans::TooManyBans;
pub use crate::limits::meter::PeakRate;
pub use carry::Carried;
pub use explain::Finding;
pub use questions::QUESTIONS;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, TryReserveError};
use std::time::Duration;

use ipnet::IpNet;

use crate::config::Service;
use crate::limits::bans::Bans;
use crate::limits::ledger::{Ledger, Place};
use crate::limits::meter::Meter;
use crate::limits::penalty::{self, Cause, Penalised, Penalties};
use crate::limits::rate::{Bucket, PerFamily, Sources};
use crate::net::{Peer, Source};
use crate::planted::{Bug, planted};
use crate::types::{Now, Reason, ServiceId};
use load::Load;
use questions::{Asked, HARD, SHARED};
use rules::Rules;

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

/// The rules in force, the memory of rates and penalties, and the administrator's bans.
#[derive(Debug)]
pub struct Admission {
    /// `daemon.instances`.
    instances: u32,
    services: HashMap<ServiceId, Rules>,
    drained: HashSet<ServiceId>,
    bans: Bans,
    rates: Sources,
    size: PerFamily<u32>,
    penalties: Penalties,
    debtors: PerFamily<u32>,
    meter: Meter,
    load: Load,
    /// What services had used up of their own rates in the program before an upgrade, until their rules are made.
    buckets: HashMap<ServiceId, Bucket>,
}

/// Somebody who is refused for longer than this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barred {
    /// Who.
    pub network: IpNet,
    /// Until when, on the monotonic clock.
    pub until: Option<Duration>,
    /// By the administrator? Or for what he owes, of which a service may make an exception.
    pub banned: bool,
}

/// Memory for a new table of services, where what is in use has the wrong size.
#[derive(Debug)]
pub struct Prepared {
    rates: Option<(Sources, PerFamily<u32>)>,
    penalties: Option<(Penalties, PerFamily<u32>)>,
}

/// What is had where no source has a rate, or nobody is charged for anything.
const NONE: PerFamily<u32> = PerFamily { ipv4: 0, ipv6: 0 };

impl Admission {
    /// Without rules, so without services.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Self, TryReserveError> {
        Ok(Self {
            instances: 0,
            services: HashMap::new(),
            drained: HashSet::new(),
            bans: Bans::default(),
            rates: Sources::new(NONE)?,
            size: NONE,
            penalties: Penalties::new(NONE)?,
            debtors: NONE,
            meter: Meter::new()?,
            load: Load::of_system(),
            buckets: HashMap::new(),
        })
    }

    /// Makes room for the rates of `sources` sources, if `services` have any for them, and for their penalties. Changes
    /// nothing yet.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub fn prepare<'a>(
        &self,
        sources: PerFamily<u32>,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> Result<Prepared, TryReserveError> {
        let (mut rated, mut charged) = (false, false);
        for service in services {
            let network = service.per_network.as_ref();
            rated |= service.per_source.rate.is_some() || network.is_some_and(|network| network.rate.is_some());
            charged |= service.penalties.any();
        }
        let size = if rated { sources } else { NONE };
        // What is owed stays owed when nobody is charged any more.
        let debtors = if charged { sources } else { self.debtors };
        let rates = (size != self.size).then(|| Sources::new(size)).transpose()?;
        let penalties = (debtors != self.debtors).then(|| Penalties::new(debtors)).transpose()?;
        Ok(Prepared { rates: rates.map(|rates| (rates, size)), penalties: penalties.map(|some| (some, debtors)) })
    }

    /// Puts the rules of a new table in force. Who has used up a part of a burst has used up the same part of the new
    /// one; what was owed to a service that is gone is forgotten, and so are all rates if the table of sources has
    /// another size. Bans and penalties stay, and so does what is drained.
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
        if let Some((rates, size)) = prepared.rates {
            (self.rates, self.size) = (rates, size);
        }
        if let Some((penalties, size)) = prepared.penalties {
            let before = std::mem::replace(&mut self.penalties, penalties);
            if !planted(Bug::PenaltiesLostByReload) {
                self.penalties.take_over(&before, now.nanos());
            }
            self.debtors = size;
        }
        let mut changes = BTreeMap::new();
        for (id, old) in &old {
            let new = self.services.get_mut(id);
            changes.extend(old.changes(new.as_deref()));
            if let Some(new) = new.filter(|_| !planted(Bug::RateLostByReload)) {
                new.inherit(old, now.nanos());
            }
        }
        for (id, bucket) in std::mem::take(&mut self.buckets) {
            self.services.get_mut(&id).into_iter().for_each(|rules| rules.set_bucket(bucket));
        }
        self.rates.adjust(&changes, now.nanos());
        self.drained.retain(|id| self.services.contains_key(id));
        self.meter.retain(|id| self.services.contains_key(&id));
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
        let load = self.load(id, now);
        // Who comes to a drained service is told so, in place of being left to wait.
        let Some(rules) = self.services.get(&id).filter(|_| !self.is_drained(id)) else { return Ok(()) };
        let asked = Asked { rules, id, client: &Client::NOBODY, ledger, now, load };
        let questions = if rules.dry_run { &[Reason::DaemonInstances][..] } else { &SHARED };
        self.first_no(questions, &asked)
    }

    /// Asks all the questions about a client.
    pub fn decide(&mut self, ledger: &Ledger, id: ServiceId, client: &Client, now: Now) -> Decision {
        if planted(Bug::CommittedTooEarly) {
            self.commit(id, client, now);
        }
        let load = self.load(id, now);
        // A service without rules is none.
        let Some(rules) = self.services.get(&id) else { return Decision::Refuse(Reason::Access.into()) };
        let asked = Asked { rules, id, client, ledger, now, load };
        match self.first_no(&QUESTIONS, &asked) {
            Ok(()) => Decision::Admit,
            Err(refusal) if rules.dry_run => match self.first_no(&HARD, &asked) {
                Ok(()) => Decision::WouldRefuse(refusal),
                Err(refusal) => Decision::Refuse(refusal),
            },
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    /// A client has come, whatever becomes of him.
    pub fn note_arrival(&mut self, id: ServiceId, client: &Client, now: Now) {
        self.meter.note(id, client.source, now);
    }

    /// The most connections of one source in one minute that a service has seen, refused ones included.
    #[must_use]
    pub fn peak_rate(&self, id: ServiceId) -> Option<PeakRate> {
        self.meter.peak(id)
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

    /// Is there room for one more handler of any service?
    ///
    /// # Errors
    /// `daemon.instances` has been reached.
    pub fn daemon_room(&self, ledger: &Ledger) -> Result<(), Refusal> {
        if ledger.total() >= self.instances { Err(Reason::DaemonInstances.into()) } else { Ok(()) }
    }

    /// Charges a client of a service for something, if the service charges for that. With `dry_run` it does not: the
    /// debt would hold elsewhere. Gives the time for which his source is refused, if this is what brings that about.
    pub fn charge(&mut self, id: ServiceId, peer: &Peer, cause: Cause, now: Now) -> Option<Duration> {
        let rules = self.services.get(&id).filter(|rules| !rules.dry_run && *peer != Peer::Unknown)?;
        let charge = rules.charge(cause, peer)?;
        self.penalties.charge(penalty::debtor(peer), &charge, now.nanos())
    }

    /// Turns away all clients of a service from now on; its handlers live on. Holds over reloads, for as long as the
    /// service is served. `false` if it was so already.
    pub fn drain(&mut self, id: ServiceId) -> bool {
        self.drained.insert(id)
    }

    /// Ends what [`drain`](Self::drain) began. `false` if the service was not drained.
    pub fn resume(&mut self, id: ServiceId) -> bool {
        self.drained.remove(&id)
    }

    /// Is this service drained?
    #[must_use]
    pub fn is_drained(&self, id: ServiceId) -> bool {
        self.drained.contains(&id)
    }

    /// Refuses a network in every service, until a time on the monotonic clock or until it is
    /// [taken back](Self::unban); in place of an earlier ban of the same network.
    ///
    /// # Errors
    /// There are too many already.
    pub fn ban(&mut self, network: IpNet, until: Option<Duration>, now: Now) -> Result<(), TooManyBans> {
        self.bans.add(network, until, now.monotonic)
    }

    /// Takes back the ban of exactly this network, and forgives all sources in it their penalties. `false` if there was
    /// nothing to be taken back.
    pub fn unban(&mut self, network: IpNet, now: Now) -> bool {
        let banned = self.bans.remove(network, now.monotonic);
        let pardoned = self.penalties.pardon(|source| source.overlaps(network), now.nanos());
        banned || pardoned > 0
    }

    /// The bans in force and when each ends on the monotonic clock, in the order of the networks.
    #[must_use]
    pub fn bans(&self, now: Now) -> Vec<(IpNet, Option<Duration>)> {
        self.bans.all(now.monotonic)
    }

    /// The sources that are refused for what they owe, in no order. Looks at the whole memory of penalties, about a
    /// millisecond; for the administrator.
    pub fn penalised(&self, now: Now) -> impl Iterator<Item = Penalised> {
        self.penalties.iter(now.nanos())
    }

    /// Who is banned or penalised, at most so many of both: bans first, then the longest penalties.
    #[must_use]
    pub fn barred(&self, now: Now, most: usize) -> Vec<Barred> {
        let ends = |until: Option<Duration>| Reverse(until.unwrap_or(Duration::MAX));
        let mut bans = self.bans(now);
        bans.sort_by_key(|(_, until)| ends(*until));
        let mut debtors: Vec<_> = self.penalised(now).collect();
        debtors.sort_unstable_by_key(|one| Reverse(one.left));
        let bans = bans.into_iter().map(|(network, until)| Barred { network, until, banned: true });
        let debtors = debtors.into_iter().filter_map(|one| {
            Some(Barred { network: one.source.network()?, until: Some(now.monotonic + one.left), banned: false })
        });
        bans.chain(debtors).take(most).collect()
    }

    /// Grows with every change of bans and penalties but the passing of time.
    #[must_use]
    pub fn barred_changes(&self) -> u64 {
        self.bans.changes() + self.penalties.changes()
    }

    /// Does a service let some in who are penalised elsewhere?
    #[must_use]
    pub fn makes_exceptions(&self, id: ServiceId) -> bool {
        self.services.get(&id).is_some_and(Rules::makes_exceptions)
    }

    /// Does a service refuse everybody there?
    #[must_use]
    pub fn enforces(&self, id: ServiceId, barred: &Barred) -> bool {
        barred.banned || self.services.get(&id).is_some_and(|rules| rules.enforces(barred.network))
    }

    /// How many debtors were forgotten for lack of room, since the start.
    #[must_use]
    pub fn forgotten_debtors(&self) -> PerFamily<u64> {
        self.penalties.forgotten()
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

    /// The load average, if a service asks for it.
    fn load(&mut self, id: ServiceId, now: Now) -> Option<f64> {
        self.services.get(&id)?.max_load?;
        self.load.at(now.monotonic)
    }
}

#[cfg(test)]
mod tests;
