//! Whether a client is admitted: the checks before a handler is started, in order; the first refusal decides.
//!
//! Check all, then commit all: [`Admission::decide`] changes nothing, and only for a client that is admitted the
//! caller [commits](Admission::commit) and takes a place in the ledger. So a client that a later check refuses has
//! not used up an earlier budget. A handler that can't be started gives its place back, but not its share of the
//! rates: the attempt costs most of what a handler costs. `Admission::explain` evaluates the same checks for the
//! administrator.
//!
//! The acceptor calls this, and the server for what the administrator asks. Nothing here fails, logs, waits, or
//! allocates for a client; time is an argument. A load average that can't be read limits no client, and
//! `Admission::take_complaint` says so once.
//!
//! `checks` has the checks; `state` what they look at, with `rules` of each service; `orders` what the
//! administrator can do; `carry` what an upgrade saves.

mod carry;
mod checks;
mod load_average;
mod orders;
mod rules;
mod state;
mod types;

pub(crate) use crate::limits::bans::TooManyBans;
pub(crate) use carry::Carried;
pub(crate) use orders::Blocked;
pub use state::{Admission, Prepared};
pub use types::{Client, Decision, Refusal};

use std::time::Duration;

use crate::api::Question;
use crate::config::Service;
use crate::limits::ledger::Ledger;
use crate::limits::meter::PeakRate;
use crate::limits::penalty::{self, Cause};
use crate::limits::rate::{PerFamily, Sources};
use crate::net::Peer;
use crate::types::{Now, Reason, ServiceId};
use checks::{BeforeAccept, CHECKS, CheckInput, first_refusal};

impl Admission {
    /// The client with this address, as a service sees it.
    pub fn client(&self, id: ServiceId, peer: Peer) -> Client {
        self.services.get(&id).map_or(Client { peer, ..Client::NOBODY }, |rules| rules.identify_client(peer))
    }

    /// Evaluates the checks that are the same for every client of a service, before accept(2).
    ///
    /// # Errors
    /// The limit that has been reached. For a service with `dry_run`, only what is enforced in it.
    pub fn room(&mut self, ledger: &Ledger, id: ServiceId, now: Now) -> Result<(), Refusal> {
        let load = self.load_for(id, now);
        // The clients of a drained service are refused instead of left waiting.
        let Some(rules) = self.services.get(&id).filter(|_| !self.is_drained(id)) else { return Ok(()) };
        let input = CheckInput { admission: self, rules, service: id, client: &Client::NOBODY, ledger, now, load };
        first_refusal(&input, |check| {
            check.before_accept != BeforeAccept::No && (check.enforced_in_dry_run || !rules.dry_run)
        })
    }

    /// Evaluates all checks for a client. Changes nothing.
    pub fn decide(&mut self, ledger: &Ledger, id: ServiceId, client: &Client, now: Now) -> Decision {
        let load = self.load_for(id, now);
        // A service without rules is not served.
        let Some(rules) = self.services.get(&id) else { return Decision::Refuse(Reason::Access.into()) };
        let input = CheckInput { admission: self, rules, service: id, client, ledger, now, load };
        match first_refusal(&input, |_| true) {
            Ok(()) => Decision::Admit,
            Err(refusal) if rules.dry_run => match first_refusal(&input, |check| check.enforced_in_dry_run) {
                Ok(()) => Decision::WouldRefuse(refusal),
                Err(refusal) => Decision::Refuse(refusal),
            },
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    /// Evaluates all checks for `peer` as a client of a service, in order, and explains each result. The first
    /// refusal is what [`decide`](Self::decide) would say. Changes nothing. Empty for a service that is not served.
    pub(crate) fn explain(
        &mut self,
        ledger: &Ledger,
        id: ServiceId,
        service: &Service,
        peer: Peer,
        now: Now,
    ) -> Vec<Question> {
        let (load, client) = (self.load_for(id, now), self.client(id, peer));
        let Some(rules) = self.services.get(&id) else { return Vec::new() };
        let input = CheckInput { admission: self, rules, service: id, client: &client, ledger, now, load };
        let questions = CHECKS.iter().map(|check| check.explain(&input, service)).collect();
        service.drop_positions();
        questions
    }

    /// Whether the daemon may have one more handler of any service.
    ///
    /// # Errors
    /// `daemon.instances` has been reached.
    pub(crate) fn daemon_room(&self, ledger: &Ledger) -> Result<(), Refusal> {
        if checks::is_daemon_full(self, ledger) { Err(Reason::DaemonInstances.into()) } else { Ok(()) }
    }

    /// Counts a connection of a client, whatever becomes of it.
    pub(crate) fn note_arrival(&mut self, id: ServiceId, client: &Client, now: Now) {
        self.meter.note_arrival(id, client.source, now);
    }

    /// Uses up the client's share of the rates. For a client that was answered with [`Decision::Admit`] and is
    /// about to be served.
    pub fn commit(&mut self, id: ServiceId, client: &Client, now: Now) {
        let Some(rules) = self.services.get_mut(&id) else { return };
        let now = now.nanos();
        rules.commit_rate(now);
        let source = (!client.exempt).then_some(client.source);
        for (limit, key) in [(Some(&rules.source), source), (rules.network.as_ref(), client.network)] {
            if let Some((limit, rate, key)) = limit.and_then(|limit| Some((limit, limit.rate?, key?))) {
                self.rates.commit(limit.number, key, &rate, now);
            }
        }
    }

    /// Charges a client of a service for an event, if the service has a penalty for it and no `dry_run`: a penalty
    /// holds in other services too. If this is what makes its source refused, gives the time for which it is.
    pub(crate) fn charge(&mut self, id: ServiceId, peer: &Peer, cause: Cause, now: Now) -> Option<Duration> {
        let rules = self.services.get(&id).filter(|rules| !rules.dry_run && *peer != Peer::Unknown)?;
        let charge = rules.charge_for(cause, peer)?;
        self.penalties.charge_source(penalty::debtor_of(peer), &charge, now.nanos())
    }

    /// The most connections of one source in one minute that a service has seen, refused ones included.
    pub(crate) fn peak_rate(&self, id: ServiceId) -> Option<PeakRate> {
        self.meter.peak_of(id)
    }

    /// The rates of sources, and how many sources there is memory for.
    pub(crate) fn rate_table(&self) -> (&Sources, PerFamily<u32>) {
        (&self.rates, self.rated_sources)
    }

    /// A message for the administrator, given once.
    pub(crate) fn take_complaint(&mut self) -> Option<String> {
        self.load_average.take_complaint()
    }

    /// The load average, if the service has a `max_load`.
    fn load_for(&mut self, id: ServiceId, now: Now) -> Option<f64> {
        self.services.get(&id)?.max_load?;
        self.load_average.average_at(now.monotonic)
    }
}

#[cfg(test)]
mod tests;
