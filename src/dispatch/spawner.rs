//! From an admitted client to a running handler, on the books from before its process exists.
//!
//! Several starts are under way at a time. Each is followed until its child has become the handler, or has failed to: such
//! a child was never a handler, and its client is refused. A start that takes long keeps its place on the books and is
//! looked at again in later turns; nobody waits for it. The acceptor calls this; nothing here fails.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Dispatcher;
use super::acceptor::{Next, SHORTAGE_PAUSE};
use super::handler::{Handler, Origin, Phase, Starting};
use super::kernel::{ConnectionInfo, Kernel, Spawned};
use super::listeners::ListenerId;
use super::service::Served;
use crate::admission::Client;
use crate::log::{CountOf, Event};
use crate::net::Peer;
use crate::types::{KillSignal, Reason, SpawnFailure, Step, Ticket};

/// So many starts may be under way before the oldest is waited for: enough to keep a few processors busy.
const STARTS_MAX: usize = 8;

/// How long the oldest start is waited for; it takes a fraction of this where there are processors to be had.
const START_WAIT: Duration = Duration::from_millis(2);

/// How long an upgrade waits for all starts together.
const UPGRADE_START_WAIT: Duration = Duration::from_millis(50);

/// A late start is looked at again at least as often as this.
const LATE_LOOK_MAX: Duration = Duration::from_secs(1);

/// The handlers whose start is under way.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// Those of this turn, the oldest first.
    recent: VecDeque<Ticket>,
    /// Those that have taken longer than [`START_WAIT`].
    late: Vec<Ticket>,
}

impl Starts {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.recent.len() + self.late.len()
    }
}

/// What a handler is started for, besides its standard input and output.
pub(super) enum Role<K: Kernel> {
    /// It serves one connection, of which it may hand back this copy.
    Connection { hand_back: Option<K::Connection> },
    /// It has been lent the listening socket, in which this waited.
    Lent { before: Option<K::Backlog> },
}

/// A handler that is about to be started.
pub(super) struct NewHandler<K: Kernel> {
    pub(super) origin: Origin,
    pub(super) served: Rc<Served<K>>,
    pub(super) client: Client,
    pub(super) role: Role<K>,
}

impl<K: Kernel> NewHandler<K> {
    /// What it is told of its connection; of a socket that it is lent, only where that listens.
    fn connection_info(&self, kernel: &K, connection: &K::Connection, source_count: u32) -> ConnectionInfo<'_> {
        let endpoint = &*self.origin.endpoint;
        let (peer, local) = match self.role {
            Role::Lent { .. } => (Peer::Unknown, self.origin.local),
            Role::Connection { .. } => {
                (self.client.peer, self.origin.local.or_else(|| kernel.local_address(connection, endpoint)))
            }
        };
        ConnectionInfo { endpoint, peer, local, source_count }
    }
}

impl<K: Kernel> Dispatcher<K> {
    /// Starts the handler of an admitted connection.
    pub(super) fn start_for(
        &mut self,
        origin: Origin,
        served: &Rc<Served<K>>,
        connection: K::Connection,
        client: Client,
    ) -> Next {
        if !served.config.banner.is_empty() {
            self.kernel.send(&connection, &served.config.banner);
        }
        let (listener, peer) = (origin.listener, client.peer);
        let hand_back = if served.hands_back() { self.kernel.copy(&connection) } else { None };
        let role = Role::Connection { hand_back };
        match self.begin_start(NewHandler { origin, served: Rc::clone(served), client, role }, connection) {
            Ok(()) => Next::More,
            Err((failure, connection)) => {
                self.kernel.refuse(connection, &served.config.refuse);
                self.note_spawn_failure(listener, served, peer, failure)
            }
        }
    }

    /// Gives a handler its place in the ledger and lets its start begin. Where no process could be made the place is given
    /// back at once.
    pub(super) fn begin_start(
        &mut self,
        new: NewHandler<K>,
        connection: K::Connection,
    ) -> Result<(), (SpawnFailure, K::Connection)> {
        // Where there is no memory for another slot to start from, that of the oldest start will do.
        while !self.kernel.has_slot() && !self.starts.recent.is_empty() {
            self.follow_oldest_start();
        }
        let (id, source) = (new.served.id, new.client.source);
        let ticket = self.ledger.take(new.client.place(id));
        let counts = (self.ledger.source_count(id, source), self.ledger.service_count(id));
        let info = new.connection_info(&self.kernel, &connection, counts.0);
        match self.kernel.spawn(&new.served.template, connection, &info) {
            Ok(spawned) => self.record_handler(ticket, spawned, new, counts),
            Err(failed) => {
                self.ledger.cancel(ticket);
                return Err(failed);
            }
        }
        if self.starts.recent.len() >= STARTS_MAX {
            self.follow_oldest_start();
        }
        Ok(())
    }

    /// Makes the record of a handler. It is known to the reaper before anything else can happen.
    fn record_handler(
        &mut self,
        ticket: Ticket,
        Spawned { pid, process, start }: Spawned<K::Process, K::Start>,
        NewHandler { origin, served, client, role }: NewHandler<K>,
        counts: (u32, u32),
    ) {
        let since = self.now.monotonic;
        let deadline = served.config.lifetime.map(|time| (since.saturating_add(time), KillSignal::Term));
        let (service, log_exit, listener) = (Arc::clone(&served.name), served.config.log.exit, origin.listener);
        let (lent, hand_back, before) = match role {
            Role::Connection { hand_back } => (false, hand_back, None),
            Role::Lent { before } => (true, None, before),
        };
        let peer = client.peer;
        let phase = Phase::Starting(Box::new(Starting { start, served, client, counts }));
        let handler =
            Handler { service, peer, origin, lent, pid, process, since, log_exit, phase, deadline, hand_back };
        self.watch_handler(ticket, handler);
        self.starts.recent.push_back(ticket);
        if lent {
            self.note_loan(listener, ticket, before);
        }
    }

    /// Sees the starts of this turn through, as far as they don't take long.
    pub(super) fn finish_starts_of_turn(&mut self) {
        while !self.starts.recent.is_empty() {
            self.follow_oldest_start();
        }
    }

    fn follow_oldest_start(&mut self) {
        let Some(ticket) = self.starts.recent.pop_front() else { return };
        if self.start_is_over(ticket, START_WAIT) {
            self.finish_start(ticket);
        } else {
            self.starts.late.push(ticket);
        }
    }

    /// Sees those starts through that took long, as far as they are over.
    pub(super) fn finish_late_starts(&mut self, limit: Duration) {
        let end = self.kernel.clock() + limit;
        for ticket in std::mem::take(&mut self.starts.late) {
            let left = end.saturating_sub(self.kernel.clock());
            if self.start_is_over(ticket, left) {
                self.finish_start(ticket);
            } else {
                self.starts.late.push(ticket);
            }
        }
    }

    /// Sees all starts through, for an upgrade; those that take too long even for that are left.
    pub(super) fn finish_all_starts(&mut self) {
        self.finish_starts_of_turn();
        self.finish_late_starts(UPGRADE_START_WAIT);
    }

    fn start_is_over(&mut self, ticket: Ticket, limit: Duration) -> bool {
        match self.handlers.get(&ticket).map(|handler| &handler.phase) {
            Some(Phase::Starting(starting)) => self.kernel.wait_for_start(&starting.start, limit),
            _ => true,
        }
    }

    /// The child is a handler now, or has failed to become one.
    fn finish_start(&mut self, ticket: Ticket) {
        let Some(handler) = self.handlers.get_mut(&ticket) else { return };
        let Phase::Starting(starting) = std::mem::replace(&mut handler.phase, Phase::Running) else { return };
        let Starting { start, served, client, counts } = *starting;
        let Some((failure, connection)) = self.kernel.finish_start(start) else {
            self.ledger.note_start(ticket);
            return self.log_accept(ticket, &served, counts);
        };
        let Some(handler) = self.forget_failed_child(ticket) else { return };
        self.ledger.cancel(ticket);
        if handler.lent {
            self.take_back(handler.origin.listener, ticket, |_, _, _| true);
        } else {
            self.kernel.refuse(connection, &served.config.refuse);
        }
        self.note_spawn_failure(handler.origin.listener, &served, client.peer, failure);
        self.update_polling_of(served.id);
    }

    /// Counts and logs a start that failed. Where the daemon itself lacks the means, the listener is left alone for a moment.
    pub(super) fn note_spawn_failure(
        &mut self,
        id: ListenerId,
        served: &Served<K>,
        peer: Peer,
        failure: SpawnFailure,
    ) -> Next {
        self.ledger.note_failure(served.id, failure.step);
        self.ledger.note_refusal(served.id, Reason::SpawnFailed);
        let service = Arc::clone(&served.name);
        if self.refusals.should_write((Arc::clone(&service), Reason::SpawnFailed), self.now.monotonic) {
            let (step, errno) = (failure.step.word(), failure.errno);
            self.kernel.log(Event::SpawnFailed { service, peer, step, errno });
        }
        if failure.step != Step::Clone {
            return Next::More;
        }
        self.pause_logged(id, served, Reason::Resources.into(), Some(SHORTAGE_PAUSE));
        Next::Enough
    }

    fn log_accept(&self, ticket: Ticket, served: &Served<K>, (of_source, of_service): (u32, u32)) {
        let Some(handler) = self.handlers.get(&ticket).filter(|_| served.config.log.accept) else { return };
        self.kernel.log(Event::Accept {
            service: Arc::clone(&served.name),
            peer: handler.peer,
            pid: handler.pid,
            source_count: CountOf { count: of_source, limit: served.config.per_source.instances },
            service_count: CountOf { count: of_service, limit: served.config.instances },
        });
    }

    /// When late starts are to be looked at again: in as long a time as they have taken up to now, a second at most.
    pub(super) fn start_deadline(&self, now: Duration) -> Option<Duration> {
        let handlers = self.starts.late.iter().filter_map(|ticket| self.handlers.get(ticket));
        let youngest = handlers.map(|handler| handler.since).max()?;
        Some(now + now.saturating_sub(youngest).clamp(START_WAIT, LATE_LOOK_MAX))
    }
}
