//! Why a client would be let in or not: every question, its answer, and the rule behind it with its place in the file.
//!
//! The answers are those of [`super::questions`]; here they are put in words. Nothing is counted, charged or used up.

use super::questions::{Asked, QUESTIONS};
use super::rules::Limit;
use super::{Admission, Now, Refusal};
use crate::config::{Location, PerSource, RateLimit, Service, duration_text, times_text};
use crate::limits::access::{Rule, Verdict};
use crate::limits::ledger::Ledger;
use crate::limits::penalty;
use crate::net::{Peer, Source};
use crate::types::{Reason, ServiceId};

/// One question, as it is answered for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The question, by the reason that its no would be.
    pub question: Reason,
    /// Yes, or the refusal.
    pub answer: Result<(), Refusal>,
    /// What the answer is by, for people: the rule, the numbers that it was compared with, and in brackets where in the
    /// table it stands.
    pub rule: String,
}

impl Admission {
    /// Asks all the questions about `peer` as a client of a service, in order, and says why each is answered as it is.
    /// The first no is what [`decide`](Self::decide) would say. Changes nothing. Empty for a service that is not served.
    pub fn explain(&mut self, ledger: &Ledger, id: ServiceId, service: &Service, peer: Peer, now: Now) -> Vec<Finding> {
        let (load, client) = (self.load(id, now), self.client(id, peer));
        let Some(rules) = self.services.get(&id) else { return Vec::new() };
        let asked = Asked { rules, id, client: &client, ledger, now, load };
        let words = Words { admission: self, asked: &asked, service };
        let find = |question| Finding { question, answer: self.answer(question, &asked), rule: words.rule(question) };
        let findings = QUESTIONS.into_iter().map(find).collect();
        service.drop_positions();
        findings
    }
}

struct Words<'a> {
    admission: &'a Admission,
    asked: &'a Asked<'a>,
    service: &'a Service,
}

impl Words<'_> {
    fn rule(&self, question: Reason) -> String {
        let (service, [source, network]) = (self.service, self.asked.live());
        let [per_source, per_network] = [Some(&service.per_source), service.per_network.as_ref()];
        match question {
            Reason::Drained if self.admission.is_drained(self.asked.id) => "drained by the administrator".to_owned(),
            Reason::Drained => "not drained".to_owned(),
            Reason::Access => self.access(),
            Reason::Times => self.times(),
            Reason::Ban => self.ban(),
            Reason::Penalty => self.penalty(),
            Reason::Trap if self.asked.rules.catches_only => self.at("a trap, which serves nobody", "penalties.trap"),
            Reason::Trap => "no trap, or one with a program".to_owned(),
            Reason::SourceInstances => self.level(per_source, "per_source", |limits| count(source, limits.instances)),
            Reason::SourceRate => self.level(per_source, "per_source", |limits| ("rate", rate(limits.rate))),
            Reason::NetworkInstances => {
                self.level(per_network, "per_network", |limits| count(network, limits.instances))
            }
            Reason::NetworkRate => self.level(per_network, "per_network", |limits| ("rate", rate(limits.rate))),
            Reason::ServiceRate => self.limit(rate(service.rate), "rate"),
            Reason::ServiceInstances => {
                self.limit(count(self.asked.ledger.service_count(self.asked.id), service.instances).1, "instances")
            }
            Reason::DaemonInstances => {
                format!("{} of {} handlers (daemon.instances)", self.asked.ledger.total(), self.admission.instances)
            }
            Reason::Load => self.load(),
            Reason::SpawnFailed | Reason::Resources | Reason::Backoff => String::new(),
        }
    }

    /// A text, and where its key was written.
    fn at(&self, text: &str, key: &str) -> String {
        match self.service.origins.keys.get(key) {
            Some(origin) => format!("{text} ({origin})"),
            None => format!("{text} (default)"),
        }
    }

    fn limit(&self, text: Option<String>, key: &str) -> String {
        text.map_or_else(|| "no limit".to_owned(), |text| self.at(&text, key))
    }

    fn access(&self) -> String {
        let Verdict { rule, .. } = self.asked.rules.access(&self.asked.client.peer);
        let (service, origins) = (self.service, &self.service.origins);
        let entry = |word, networks: &[ipnet::IpNet], places: &[Location], number: u32| {
            let place = places.get(number as usize).map(ToString::to_string).unwrap_or_default();
            let network = networks.get(number as usize).map(ToString::to_string).unwrap_or_default();
            format!("{word} {network} ({place})")
        };
        match rule {
            Some(Rule::Deny(number)) => entry("deny", &service.deny, &origins.deny, number),
            Some(Rule::Allow(number)) => entry("allow", &service.allow, &origins.allow, number),
            None if !matches!(self.asked.client.peer, Peer::Inet(..)) => "no client of networks".to_owned(),
            None if service.allow.is_empty() && service.deny.is_empty() => "neither allow nor deny".to_owned(),
            None if service.allow.is_empty() => "in no network of deny, and there is no allow".to_owned(),
            None => match origins.allow.first() {
                Some(place) => format!("in no network of allow ({place})"),
                None => "in no network of allow".to_owned(),
            },
        }
    }

    fn times(&self) -> String {
        let times: Vec<_> = self.service.times.iter().map(times_text).collect();
        if times.is_empty() { "open at all times".to_owned() } else { self.at(&times.join(", "), "times") }
    }

    fn ban(&self) -> String {
        let Peer::Inet(address, _) = self.asked.client.peer else { return "no client of networks".to_owned() };
        let now = self.asked.now.monotonic;
        match self.admission.bans.find(address, now) {
            None => "in no network that is banned".to_owned(),
            Some((network, None)) => format!("ban of {network}, until further notice"),
            Some((network, Some(until))) => {
                format!("ban of {network}, for another {}", duration_text(until.saturating_sub(now)))
            }
        }
    }

    fn penalty(&self) -> String {
        let (peer, now) = (self.asked.client.peer, self.asked.now.nanos());
        let source = penalty::debtor(&peer);
        match self.admission.penalties.find(source, now) {
            _ if self.asked.rules.pardons(&peer) => self.at("exempt from penalties", "penalties.exempt"),
            None => format!("{source} owes too little"),
            Some(found) => {
                let (left, times) = (duration_text(found.left), found.times);
                format!("{source} is penalised for another {left}; time number {times}")
            }
        }
    }

    /// A limit of `per_source` or `per_network`.
    fn level(
        &self,
        limits: Option<&PerSource>,
        level: &str,
        of: impl FnOnce(&PerSource) -> (&'static str, Option<String>),
    ) -> String {
        let rules = self.asked.rules;
        let (client, limit, key) = match level {
            "per_source" => (self.asked.client, Some(&rules.source), Some(self.asked.client.source)),
            _ => (self.asked.client, rules.network.as_ref(), self.asked.client.network),
        };
        let Some((limits, limit)) = limits.zip(limit) else { return "no limit".to_owned() };
        if limit.is_exempt(&client.peer) {
            return self.exempt(limits, limit, level);
        }
        let (key_name, text) = of(limits);
        let text = text.map(|text| format!("{}: {text}", key.unwrap_or(Source::Unknown)));
        self.limit(text, &format!("{level}.{key_name}"))
    }

    fn exempt(&self, limits: &PerSource, limit: &Limit, level: &str) -> String {
        let network = match limit.exemption(&self.asked.client.peer) {
            Some(Rule::Allow(number) | Rule::Deny(number)) => limits.exempt.get(number as usize),
            None => None,
        };
        let text = format!("exempt {}", network.map(ToString::to_string).unwrap_or_default());
        self.at(&text, &format!("{level}.exempt"))
    }

    fn load(&self) -> String {
        let Some(most) = self.service.max_load else { return "no limit".to_owned() };
        let load = self.asked.load.map_or_else(|| "which can't be read".to_owned(), |load| format!("now {load}"));
        self.at(&format!("load average up to {most}, {load}"), "max_load")
    }
}

fn count(live: u32, limit: Option<u32>) -> (&'static str, Option<String>) {
    ("instances", limit.map(|most| format!("{live} of {most} handlers")))
}

fn rate(limit: Option<RateLimit>) -> Option<String> {
    limit.map(|limit| limit.to_string())
}
