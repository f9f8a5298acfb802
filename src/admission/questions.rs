//! The one list of questions, and the one answer to each: for the decision about a client and for its explanation.

use super::rules::{Limit, Rules};
use super::{Admission, Client, Now, Refusal};
use crate::limits::ledger::Ledger;
use crate::limits::penalty;
use crate::net::{Peer, Source};
use crate::types::{Reason, ServiceId};

/// All questions, in order. Each is named by the reason to refuse that its no is.
pub const QUESTIONS: [Reason; 14] = [
    Reason::Drained,
    Reason::Access,
    Reason::Times,
    Reason::Ban,
    Reason::Penalty,
    Reason::Trap,
    Reason::SourceInstances,
    Reason::SourceRate,
    Reason::NetworkInstances,
    Reason::NetworkRate,
    Reason::ServiceRate,
    Reason::ServiceInstances,
    Reason::DaemonInstances,
    Reason::Load,
];

/// Those that are the same for all clients of a service, and may be asked before one is accepted.
pub(super) const SHARED: [Reason; 4] =
    [Reason::ServiceRate, Reason::ServiceInstances, Reason::DaemonInstances, Reason::Load];

/// Those whose no holds for a `dry_run` too: what the administrator has ordered, and what the daemon itself needs.
pub(super) const HARD: [Reason; 3] = [Reason::Drained, Reason::Ban, Reason::DaemonInstances];

/// About whom the questions are, and when.
pub(super) struct Asked<'a> {
    pub rules: &'a Rules,
    pub id: ServiceId,
    pub client: &'a Client,
    pub ledger: &'a Ledger,
    pub now: Now,
    /// The load average, where the service has a `max_load` and it can be read.
    pub load: Option<f64>,
}

impl Asked<'_> {
    /// Live handlers of the source, and of its network.
    pub(super) fn live(&self) -> [u32; 2] {
        let network = self.client.network.map(|network| self.ledger.network_count(self.id, network));
        [self.ledger.source_count(self.id, self.client.source), network.unwrap_or(0)]
    }
}

fn no_if(no: bool, reason: Reason) -> Result<(), Refusal> {
    if no { Err(reason.into()) } else { Ok(()) }
}

impl Admission {
    pub(super) fn first_no(&self, questions: &[Reason], asked: &Asked<'_>) -> Result<(), Refusal> {
        questions.iter().try_for_each(|&question| self.answer(question, asked))
    }

    /// The answer to one question. What is no question is answered with yes.
    pub(super) fn answer(&self, question: Reason, asked: &Asked<'_>) -> Result<(), Refusal> {
        let Asked { rules, id, client, ledger, now, load } = *asked;
        let source = (!client.exempt).then_some((&rules.source, client.source));
        let network = rules.network.as_ref().zip(client.network);
        match question {
            Reason::Drained => no_if(self.is_drained(id), question),
            Reason::Access => no_if(!rules.access(&client.peer).allowed, question),
            Reason::Times => rules.times(now),
            Reason::Ban => self.not_banned(&client.peer, now),
            Reason::Penalty => self.not_penalised(rules, &client.peer, now),
            Reason::Trap => no_if(rules.catches_only, question),
            Reason::SourceInstances => room(source, question, |source| ledger.source_count(id, source)),
            Reason::NetworkInstances => room(network, question, |network| ledger.network_count(id, network)),
            Reason::SourceRate => self.in_time(source, question, now),
            Reason::NetworkRate => self.in_time(network, question, now),
            Reason::ServiceRate => rules.service_rate(now),
            Reason::ServiceInstances => {
                no_if(rules.instances.is_some_and(|most| ledger.service_count(id) >= most), question)
            }
            Reason::DaemonInstances => self.daemon_room(ledger),
            Reason::Load => no_if(rules.max_load.zip(load).is_some_and(|(most, load)| load >= most), question),
            Reason::SpawnFailed | Reason::Resources | Reason::Backoff => Ok(()),
        }
    }

    fn not_banned(&self, peer: &Peer, now: Now) -> Result<(), Refusal> {
        let Peer::Inet(address, _) = peer else { return Ok(()) };
        let Some((_, until)) = self.bans.find(*address, now.monotonic) else { return Ok(()) };
        Err(Refusal { reason: Reason::Ban, retry: until.map(|until| until.saturating_sub(now.monotonic)) })
    }

    fn not_penalised(&self, rules: &Rules, peer: &Peer, now: Now) -> Result<(), Refusal> {
        let Some(found) = self.penalties.find(penalty::debtor(peer), now.nanos()) else { return Ok(()) };
        if rules.pardons(peer) {
            return Ok(());
        }
        Err(Refusal { reason: Reason::Penalty, retry: Some(found.left) })
    }

    fn in_time(&self, limit: Option<(&Limit, Source)>, reason: Reason, now: Now) -> Result<(), Refusal> {
        let rated = limit.and_then(|(limit, key)| Some((limit.number, key, limit.rate.as_ref()?)));
        let Some((number, key, rate)) = rated else { return Ok(()) };
        let answer = self.rates.check(number, key, rate, now.nanos());
        answer.map_err(|retry| Refusal { reason, retry: Some(retry.0) })
    }
}

fn room(limit: Option<(&Limit, Source)>, reason: Reason, live: impl Fn(Source) -> u32) -> Result<(), Refusal> {
    no_if(limit.is_some_and(|(limit, key)| limit.instances.is_some_and(|most| live(key) >= most)), reason)
}
