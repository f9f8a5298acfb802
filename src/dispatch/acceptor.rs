//! Batches of connections from ready listeners, through admission, to the spawner.
//!
//! Listeners take turns, so that no busy one starves another. A connection is accepted, judged, and either its handler's
//! start begins or it is refused, before the next one is touched. Only a few are open here at any time, and their
//! descriptors are the lowest. A limit leaves clients waiting or refuses one; nothing here closes a listener, waits for
//! longer than a moment, or fails.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Dispatcher;
use super::handler::Origin;
use super::kernel::{AcceptError, Kernel};
use super::listeners::ListenerId;
use super::service::Served;
use crate::admission::{Client, Decision, Refusal};
use crate::limits::penalty::Cause;
use crate::log::Event;
use crate::net::Peer;
use crate::types::Reason;

/// At most so many connections are accepted in one turn.
const ACCEPT_BATCH: usize = 64;

/// And for so long. A start takes a tenth of a millisecond, but many times that where processors are scarce, and others
/// wait for their turn: handlers that have ended, signals.
const ACCEPT_TIME_MAX: Duration = Duration::from_millis(4);

/// How long a listener is left alone when descriptors, memory or processes are lacking.
pub(super) const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// May there be more to be had from a listener in this turn?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Enough,
}

impl<K: Kernel> Dispatcher<K> {
    /// Accepts from the `ready` listeners, one connection of each in turn, until nobody waits or the time is up, and sees
    /// the starts through. The next turn begins behind the listener that was served last.
    pub(crate) fn accept(&mut self, ready: Vec<ListenerId>) {
        self.accept_batch(ready);
        self.finish_starts_of_turn();
    }

    fn accept_batch(&mut self, mut ready: Vec<ListenerId>) {
        ready.sort_unstable();
        let behind_last = ready.partition_point(|&id| id <= self.last_served);
        ready.rotate_left(behind_last);
        let mut queue = VecDeque::from(ready);
        let end = self.kernel.clock() + ACCEPT_TIME_MAX;
        for _ in 0..ACCEPT_BATCH {
            let Some(id) = queue.pop_front() else { return };
            self.last_served = id;
            if self.accept_one(id) == Next::More {
                queue.push_back(id);
            }
            if self.kernel.clock() >= end {
                return;
            }
        }
    }

    fn accept_one(&mut self, id: ListenerId) -> Next {
        // What an earlier connection of this turn has changed counts: the service may be full by now.
        let Some(listener) = self.listeners.get(id).filter(|listener| listener.is_polled()) else {
            return Next::Enough;
        };
        let Some(served) = self.services.get(&listener.service).cloned() else { return Next::Enough };
        if listener.wait {
            return self.offer_socket(id, &served);
        }
        if let Err(refusal) = self.admission.room(&self.ledger, served.id, self.now) {
            if refusal.keeps_backlog(served.config.when_full) {
                self.leave_waiting(id, &served, refusal);
                return Next::Enough;
            }
        }
        let origin = listener.origin(id);
        match self.kernel.accept(&listener.socket) {
            Ok((connection, peer)) => self.judge(origin, &served, connection, peer),
            Err(AcceptError::NobodyWaits) => Next::Enough,
            Err(AcceptError::BrokenConnection) => Next::More,
            Err(AcceptError::Shortage) => {
                self.reset_one(id, &served);
                self.pause_logged(id, &served, Reason::Resources.into(), Some(SHORTAGE_PAUSE));
                Next::Enough
            }
        }
    }

    /// Leaves the clients of a service in its backlog, until a handler ends or time has passed.
    pub(super) fn leave_waiting(&mut self, id: ListenerId, served: &Served<K>, refusal: Refusal) {
        self.pause_logged(id, served, refusal, refusal.pause_time());
    }

    /// Pauses a listener, and says so once in a while.
    pub(super) fn pause_logged(
        &mut self,
        id: ListenerId,
        served: &Served<K>,
        refusal: Refusal,
        time: Option<Duration>,
    ) {
        let Refusal { reason, retry } = refusal;
        self.pause(id, reason, time);
        if self.refusals.should_write((Arc::clone(&served.name), reason), self.now.monotonic) {
            self.log_pause(id, reason, retry.or(time));
        }
    }

    /// Without descriptors, one client at least is told so, by the descriptor that was kept for it.
    fn reset_one(&mut self, id: ListenerId, served: &Served<K>) {
        let Some(listener) = self.listeners.get(id) else { return };
        if self.kernel.reset_one(&listener.socket) {
            self.ledger.note_refusal(served.id, Reason::Resources);
        }
    }

    /// Admits an accepted client or refuses it.
    fn judge(&mut self, origin: Origin, served: &Rc<Served<K>>, connection: K::Connection, peer: Peer) -> Next {
        let client = self.admission.client(served.id, peer);
        self.admission.note_arrival(served.id, &client, self.now);
        match self.admit(served, &client) {
            Ok(()) => {
                self.charge(served, client.peer, Some(Cause::Trap));
                self.start_for(origin, served, connection, client)
            }
            Err(refusal) => {
                self.kernel.refuse(connection, &served.config.refuse);
                self.note_refusal(served, &client, refusal);
                Next::More
            }
        }
    }

    /// Asks all checks. A client that is admitted has used up its share of the rates; one that is admitted by `dry_run`
    /// alone has not, since without it the client would have been refused.
    pub(super) fn admit(&mut self, served: &Served<K>, client: &Client) -> Result<(), Refusal> {
        match self.admission.decide(&self.ledger, served.id, client, self.now) {
            Decision::Admit => self.admission.commit(served.id, client, self.now),
            Decision::WouldRefuse(refusal) => {
                self.ledger.note_dry_refusal(served.id, refusal.reason);
                self.log_refusal(served, client, refusal, true);
            }
            Decision::Refuse(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Counts and logs a refusal, and charges the client for it.
    pub(super) fn note_refusal(&mut self, served: &Served<K>, client: &Client, refusal: Refusal) {
        self.ledger.note_refusal(served.id, refusal.reason);
        self.log_refusal(served, client, refusal, false);
        // A service that lends its sockets charges nobody.
        self.charge(served, client.peer, refusal.penalty());
    }

    /// Charges a client for something, if the service does, and says so if its source is refused from now on.
    pub(super) fn charge(&mut self, served: &Served<K>, peer: Peer, cause: Option<Cause>) {
        let Some(cause) = cause else { return };
        if let Some(retry) = self.admission.charge(served.id, &peer, cause, self.now) {
            self.kernel.log(Event::Penalty { service: Arc::clone(&served.name), peer, cause: cause.word(), retry });
        }
    }

    fn log_refusal(&mut self, served: &Served<K>, client: &Client, refusal: Refusal, dry_run: bool) {
        let Refusal { reason, retry } = refusal;
        if !served.config.log.refuse {
            return;
        }
        if self.refusals.should_write((Arc::clone(&served.name), reason), self.now.monotonic) {
            let (service, peer) = (Arc::clone(&served.name), client.peer);
            self.kernel.log(Event::Refuse { service, peer, reason, retry, dry_run });
        }
    }

    /// Logs how many refusals were not logged, of the bursts that are over.
    pub(super) fn log_suppressed(&mut self) {
        for ((service, reason), suppressed) in self.refusals.take_ended(self.now.monotonic) {
            self.kernel.log(Event::Suppressed { service, reason, suppressed });
        }
    }
}
