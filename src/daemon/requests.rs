//! What the operator asks over the control socket: one request a turn, answered between two batches of connections.

use std::time::Duration;

use super::Daemon;
use crate::control::protocol::{Audit, Code, Outcome, Refused, Reloaded, Request, Sources};
use crate::control::{Asked, Peer};
use crate::log::Event;
use crate::report::Snapshot;
use crate::report::gather::{self, Books, Facts};
use crate::sys::clock;

impl Daemon {
    /// Answers the next request, if there is one.
    pub(super) fn hear(&mut self, now: Duration) {
        let Some(Asked { client, peer, request }) = self.control.next_request() else { return };
        let outcome = request.and_then(|request| {
            self.log_request(&request, peer);
            self.fulfil(request, now)
        });
        self.control.answer(&self.poll, client, &outcome.into(), now);
    }

    fn fulfil(&mut self, request: Request, now: Duration) -> Result<Outcome, Refused> {
        match request {
            Request::Status {} => Ok(Outcome::Status(Box::new(self.snapshot(now)))),
            Request::Sources { top, service } => self.sources(top, service.as_deref()),
            Request::Audit {} => Ok(Outcome::Audit(self.audit(now))),
            Request::Reload {} => self.reload_as_asked(now),
        }
    }

    /// What changes something is logged, with who has asked for it.
    fn log_request(&self, request: &Request, Peer { uid, pid }: Peer) {
        let command = match request {
            Request::Status {} | Request::Sources { .. } | Request::Audit {} => return,
            Request::Reload {} => "reload".to_owned(),
        };
        self.log.write(Event::Control { command, uid, pid });
    }

    /// The books as they are now.
    pub(super) fn snapshot(&self, now: Duration) -> Snapshot {
        gather::snapshot(&self.facts(now), &self.books(), now)
    }

    fn facts(&self, now: Duration) -> Facts<'_> {
        Facts {
            time: clock::wall(),
            uptime: now.saturating_sub(self.since),
            instances: self.instances,
            turns: &self.turns,
            longest_turn: self.longest_turn,
            reloads: self.reloads,
            table_since: self.table_since,
            dropped: self.log.dropped(),
            handlers: (self.reaper.handlers(), self.reaper.waiting()),
        }
    }

    fn books(&self) -> Books<'_> {
        Books { ledger: &self.ledger, listeners: &self.listeners, acceptor: &self.acceptor }
    }

    fn sources(&self, top: Option<u32>, service: Option<&str>) -> Result<Outcome, Refused> {
        let most = top.map_or(gather::SOURCES, |top| top as usize);
        let only = service.map(|name| self.ledger.find(name).ok_or_else(|| no_such_service(name))).transpose()?;
        let sources = gather::sources(&self.books(), only, most);
        Ok(Outcome::Sources(Sources { sources, total: self.ledger.sources().count() as u64 }))
    }

    fn audit(&self, now: Duration) -> Audit {
        Audit { handlers: self.ledger.total(), drifts: gather::audit(&self.facts(now), &self.ledger) }
    }

    fn reload_as_asked(&mut self, now: Duration) -> Result<Outcome, Refused> {
        if self.quitting.is_some() {
            return Err(Refused::new(Code::Ending, "the daemon is ending"));
        }
        match self.reload(now) {
            Ok(reloaded) => Ok(Outcome::Reload(reloaded)),
            Err(messages) => Err(Refused { code: Code::ReloadFailed, messages }),
        }
    }
}

impl From<&crate::table::change::Plan> for Reloaded {
    fn from(plan: &crate::table::change::Plan) -> Self {
        let count = |list: &Vec<String>| list.len() as u64;
        Self {
            added: count(&plan.added),
            removed: count(&plan.removed),
            altered: count(&plan.altered),
            kept: count(&plan.kept),
        }
    }
}

fn no_such_service(name: &str) -> Refused {
    Refused::new(Code::NoSuchService, format!("there is no service {name:?}"))
}
