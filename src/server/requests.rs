//! The requests of the control socket: one in each turn, answered between two batches of connections.
//!
//! The server calls this in each turn. A request that changes something is logged first. A request that cannot be done is
//! answered with a code and a message; nothing else comes of it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Server;
use crate::admission::TooManyBans;
use crate::api::{Audit, BanList, Changed, Code, Explanation, Outcome, Refused, Reloaded, Request, SourceList};
use crate::api::{Snapshot, Upgrades};
use crate::config;
use crate::control::gather::{self, ServerFacts};
use crate::control::{self, PendingRequest};
use crate::limits::access::unmap_network;
use crate::log::Event;
use crate::net::Peer;
use crate::sys::clock;
use crate::types::Now;
use crate::types::ServiceId;

impl Server {
    /// Answers the next request, if there is one.
    pub(super) fn handle_request(&mut self, now: Duration) {
        let Some(PendingRequest { client, peer, request }) = self.control.next_request() else { return };
        let outcome = request.and_then(|request| {
            self.log_request(&request, peer);
            self.dispatch_request(request, now)
        });
        self.control.answer_request(&self.poll, client, &outcome.into(), now);
    }

    fn dispatch_request(&mut self, request: Request, now: Duration) -> Result<Outcome, Refused> {
        match request {
            Request::Status {} => Ok(Outcome::Status(Box::new(self.take_snapshot(now)))),
            Request::Sources { top, service } => self.list_sources(top, service.as_deref()),
            Request::Audit {} => Ok(Outcome::Audit(self.audit_counts())),
            Request::Explain { service, address } => self.explain_service(&service, &address, now),
            Request::Reload {} => self.request_reload(now),
            Request::Upgrade {} => self.request_upgrade(),
            Request::Drain { service } => self.drain_service(&service),
            Request::Resume { service } => self.resume_service(&service),
            Request::Ban { network, seconds } => self.ban_network(&network, seconds, now),
            Request::Unban { network } => self.unban_network(&network, now),
            Request::Bans {} => Ok(self.list_bans(now)),
        }
    }

    /// Logs a request that changes something, with the client's user and process id.
    fn log_request(&self, request: &Request, control::ControlPeer { uid, pid }: control::ControlPeer) {
        let command = match request {
            Request::Status {} | Request::Sources { .. } | Request::Audit {} => return,
            Request::Explain { .. } | Request::Bans {} => return,
            Request::Reload {} => "reload".to_owned(),
            Request::Upgrade {} => "upgrade".to_owned(),
            Request::Drain { service } => format!("drain {service}"),
            Request::Resume { service } => format!("resume {service}"),
            Request::Ban { network, seconds: None } => format!("ban {network}"),
            Request::Ban { network, seconds: Some(seconds) } => format!("ban {network} {seconds}s"),
            Request::Unban { network } => format!("unban {network}"),
        };
        self.log.write(Event::Control { command, uid, pid });
    }

    /// The present status and all counts.
    pub(super) fn take_snapshot(&self, now: Duration) -> Snapshot {
        gather::take_snapshot(&self.gather_facts(now), &self.dispatcher, now)
    }

    fn gather_facts(&self, now: Duration) -> ServerFacts<'_> {
        ServerFacts {
            time: clock::wall(),
            uptime: now.saturating_sub(self.since),
            instances: self.instances,
            turns: &self.turns,
            longest_turn: self.longest_turn,
            reloads: self.reloads,
            upgrades: Upgrades { under_way: self.preflight.is_some(), ..self.upgrades.clone() },
            table_since: self.table_since,
            dropped: self.log.dropped(),
        }
    }

    fn list_sources(&self, top: Option<u32>, service: Option<&str>) -> Result<Outcome, Refused> {
        let count = top.map_or(gather::SOURCES_MAX, |top| top as usize);
        let only = service.map(|name| self.find_service(name)).transpose()?;
        let sources = gather::list_sources(&self.dispatcher, only, count);
        Ok(Outcome::Sources(SourceList { sources, total: self.dispatcher.ledger().sources().count() as u64 }))
    }

    fn audit_counts(&self) -> Audit {
        Audit { handlers: self.dispatcher.ledger().total(), drifts: gather::audit_counts(&self.dispatcher) }
    }

    fn find_service(&self, service: &str) -> Result<ServiceId, Refused> {
        let none = || Refused::new(Code::NoSuchService, format!("there is no service {service:?}"));
        self.dispatcher.ledger().find(service).ok_or_else(none)
    }

    /// As [`Server::find_service`], but only a service that is in the table.
    fn find_listed(&self, service: &str) -> Result<ServiceId, Refused> {
        let id = self.find_service(service)?;
        let gone = || Refused::new(Code::NoSuchService, format!("service {service:?} is not in the table any more"));
        self.dispatcher.ledger().tally(id).filter(|tally| tally.listed).map(|_| id).ok_or_else(gone)
    }

    fn explain_service(&mut self, service: &str, address: &str, now: Duration) -> Result<Outcome, Refused> {
        let id = self.find_listed(service)?;
        let peer = read_peer(address)?;
        let served = self.dispatcher.service(id).ok_or_else(|| no_entry(service))?;
        let source = self.dispatcher.admission().client(id, peer).source.to_string();
        let questions = self.dispatcher.explain(&served, peer, on_both_clocks(now));
        let (yes, dry_run) = (questions.iter().all(|question| question.yes), served.config.dry_run);
        let service = service.to_owned();
        Ok(Outcome::Explain(Explanation {
            service,
            source,
            admitted: yes || dry_run,
            dry_run: !yes && dry_run,
            questions,
        }))
    }

    fn drain_service(&mut self, service: &str) -> Result<Outcome, Refused> {
        let id = self.find_listed(service)?;
        Ok(Outcome::Drain(Changed { changed: self.dispatcher.drain(id) }))
    }

    fn resume_service(&mut self, service: &str) -> Result<Outcome, Refused> {
        let id = self.find_listed(service)?;
        Ok(Outcome::Resume(Changed { changed: self.dispatcher.resume(id) }))
    }

    fn ban_network(&mut self, network: &str, seconds: Option<u64>, now: Duration) -> Result<Outcome, Refused> {
        let network = read_network(network)?;
        let until = seconds.map(|seconds| now.saturating_add(Duration::from_secs(seconds)));
        let now = on_both_clocks(now);
        let same = unmap_network(network);
        let changed = !self.dispatcher.admission().list_bans(now).iter().any(|(banned, _)| *banned == same);
        let full = |error: TooManyBans| Refused::new(Code::TooManyBans, error.to_string());
        self.dispatcher.admission_mut().ban(network, until, now).map_err(full)?;
        Ok(Outcome::Ban(Changed { changed }))
    }

    fn unban_network(&mut self, network: &str, now: Duration) -> Result<Outcome, Refused> {
        let network = read_network(network)?;
        Ok(Outcome::Unban(Changed { changed: self.dispatcher.admission_mut().unban(network, on_both_clocks(now)) }))
    }

    fn list_bans(&self, now: Duration) -> Outcome {
        let admission = self.dispatcher.admission();
        Outcome::Bans(BanList {
            bans: gather::list_bans(admission, now),
            penalties: gather::penalty_status(admission, now),
        })
    }

    fn request_upgrade(&mut self) -> Result<Outcome, Refused> {
        if self.quitting.is_some() {
            return Err(Refused::new(Code::Ending, "the daemon is ending"));
        }
        self.begin_upgrade();
        Ok(Outcome::Upgrade(Changed { changed: self.preflight.is_some() }))
    }

    fn request_reload(&mut self, now: Duration) -> Result<Outcome, Refused> {
        if self.quitting.is_some() {
            return Err(Refused::new(Code::Ending, "the daemon is ending"));
        }
        match self.reload(now) {
            Ok(reloaded) => Ok(Outcome::Reload(reloaded)),
            Err(error) => Err(Refused { code: Code::ReloadFailed, messages: error.lines() }),
        }
    }
}

impl From<&crate::config::change::Plan> for Reloaded {
    fn from(plan: &crate::config::change::Plan) -> Self {
        let count = |list: &Vec<String>| list.len() as u64;
        Self {
            added: count(&plan.added),
            removed: count(&plan.removed),
            altered: count(&plan.altered),
            kept: count(&plan.kept),
        }
    }
}

fn no_entry(service: &str) -> Refused {
    Refused::new(Code::NoSuchService, format!("service {service:?} is not served"))
}

fn on_both_clocks(now: Duration) -> Now {
    Now { monotonic: now, wall: clock::wall() }
}

/// Reads a client's address or user id.
fn read_peer(text: &str) -> Result<Peer, Refused> {
    let user = || Some(Peer::Unix { uid: text.strip_prefix("uid:")?.parse().ok()?, gid: u32::MAX });
    let address = || Some(Peer::Inet(text.parse::<IpAddr>().ok()?.to_canonical(), 0));
    let expected = || format!("expected an address, such as 192.0.2.1 or 2001:db8::1, or uid:N, not {text:?}");
    address().or_else(user).ok_or_else(|| Refused::new(Code::NoSuchAddress, expected()))
}

fn read_network(text: &str) -> Result<IpNet, Refused> {
    let refused = |message| Refused::new(Code::NoSuchAddress, message);
    match config::parse_network(text) {
        Some(Ok(network)) => Ok(network),
        Some(Err(meant)) => {
            Err(refused(format!("expected a network without host bits, such as {meant}, not {text:?}")))
        }
        None => {
            let expected = "expected a network or an address, such as 192.0.2.0/24 or 2001:db8::/32";
            Err(refused(format!("{expected}, not {text:?}")))
        }
    }
}
