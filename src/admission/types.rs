//! What admission is asked about and what it answers: a client, a refusal, a decision.
//!
//! Plain values: nothing here decides or fails.

use std::time::Duration;

use crate::limits::ledger::Place;
use crate::net::{Peer, Source};
use crate::types::{Reason, ServiceId};

/// A client as one service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The other end of the connection.
    pub peer: Peer,
    /// Accounting key. A client that is exempt from the limits of sources is counted under its full address, so
    /// that it does not use up its prefix's quota.
    pub source: Source,
    /// The wider network that it is counted under, if the service has limits for networks and does not exempt it.
    pub network: Option<Source>,
    pub(super) exempt: bool,
}

impl Client {
    /// The client of a lent socket, which only its handler will know.
    pub const NOBODY: Self = Self { peer: Peer::Unknown, source: Source::Unknown, network: None, exempt: true };

    /// The place of its handler in the ledger.
    pub(crate) fn place(&self, service: ServiceId) -> Place {
        Place { service, source: self.source, network: self.network }
    }
}

/// Why a client is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The check that refuses.
    pub reason: Reason,
    /// After this time the same check passes, if nothing else changes. None where that is unknown.
    pub retry: Option<Duration>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, retry: None }
    }
}

/// The decision about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Admit,
    /// Serve it, and report that it would have been refused without `dry_run`.
    WouldRefuse(Refusal),
    /// Refuse it, or leave it in the backlog.
    Refuse(Refusal),
}
