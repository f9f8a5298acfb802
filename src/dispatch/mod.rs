//! The heart: the way of a connection and of an exit, in the order of their calls, under any kernel.
//!
//! ```text
//! acceptor   accepts and judges a connection          reaper     finds ended handlers, settles their exits
//! lending    the same for a socket that is lent       listeners  which sockets are polled
//! spawner    starts its handler, sees the start through
//! ```
//!
//! A [`Dispatcher`] owns the services, the records of handlers, the listeners, the ledger and admission, and is generic over
//! its [`Kernel`]: it makes no system call itself, so the model test drives this very code under a kernel of its own. The
//! server calls it in each turn: [`Dispatcher::begin_turn`], then orders of the administrator, then
//! [`Dispatcher::accept`]. There is one record for a handler ([`handler`]), and one place that decides whether a socket is
//! polled ([`listeners`]). Nothing here blocks or fails.

mod acceptor;
pub(crate) mod commit;
pub(crate) mod handler;
pub(crate) mod kernel;
mod lending;
pub(crate) mod listeners;
pub(crate) mod reaper;
pub(crate) mod saved;
pub(crate) mod service;
mod spawner;
mod tcpmux;

use std::collections::{HashMap, TryReserveError};
use std::rc::Rc;
use std::time::Duration;

use crate::admission::Admission;
use crate::api::Question;
use crate::limits::ledger::Ledger;
use crate::log::{Burst, Event};
use crate::net::Peer;
use crate::types::{Now, ServiceId, Ticket};
use handler::Handler;
use kernel::Kernel;
use listeners::{ListenerId, Listeners};
use reaper::Reaper;
use service::Served;
use spawner::Starts;
use tcpmux::MuxTarget;

/// Everything between a client that connects and a handler that has ended.
#[derive(Debug)]
pub(crate) struct Dispatcher<K: Kernel> {
    kernel: K,
    /// When this turn began.
    now: Now,
    services: HashMap<ServiceId, Rc<Served<K>>>,
    handlers: HashMap<Ticket, Handler<K>>,
    ledger: Ledger,
    admission: Admission,
    listeners: Listeners<K>,
    starts: Starts,
    reaper: Reaper,
    /// Which refusals are not logged for now.
    refusals: Burst,
    last_served: ListenerId,
    /// What clients of `tcpmux` can ask for.
    mux_targets: HashMap<String, MuxTarget>,
}

impl<K: Kernel> Dispatcher<K> {
    /// Serves nothing yet.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn new(kernel: K) -> Result<Self, TryReserveError> {
        Ok(Self {
            kernel,
            now: Now::default(),
            services: HashMap::new(),
            handlers: HashMap::new(),
            ledger: Ledger::default(),
            admission: Admission::new()?,
            listeners: Listeners::default(),
            starts: Starts::default(),
            reaper: Reaper::default(),
            refusals: Burst::default(),
            last_served: ListenerId::default(),
            mux_targets: HashMap::new(),
        })
    }

    /// What a turn does first, so that limits are judged on fresh counts: starts that took long, ended handlers (`ended`: the
    /// kernel told of some), as process 1 `orphans`, the counts of all these, and what is due by the clock.
    pub(crate) fn begin_turn(&mut self, now: Now, ended: bool, orphans: bool) {
        self.now = now;
        self.finish_late_starts(Duration::ZERO);
        self.reap(ended);
        if orphans || self.has_more_orphans() {
            self.reap_orphans();
        }
        self.settle_exits();
        self.end_overdue_handlers();
        self.end_timed_pauses();
        self.log_suppressed();
    }

    /// The time, for what is done outside of a turn.
    pub(crate) fn set_time(&mut self, now: Now) {
        self.now = now;
    }

    /// When a turn has something to do by the clock, whatever the kernel tells.
    #[must_use]
    pub(crate) fn deadline(&self, now: Duration) -> Option<Duration> {
        let deadlines =
            [self.reaper_deadline(now), self.listeners.deadline(), self.start_deadline(now), self.refusals.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Refuses the clients of a service from now on. `false` if it was so already.
    pub(crate) fn drain(&mut self, id: ServiceId) -> bool {
        self.admission.drain(id)
    }

    /// Ends what [`Dispatcher::drain`] began. `false` if the service was not drained.
    pub(crate) fn resume(&mut self, id: ServiceId) -> bool {
        let resumed = self.admission.resume(id);
        self.update_polling_of(id);
        resumed
    }

    /// Asks all checks about a client of a service, for the administrator. Changes nothing.
    pub(crate) fn explain(&mut self, served: &Served<K>, peer: Peer, now: Now) -> Vec<Question> {
        self.admission.explain(&self.ledger, served.id, &served.config, peer, now)
    }

    /// The kernel.
    pub(crate) fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The kernel, to change what the dispatcher does not see of it.
    pub(crate) fn kernel_mut(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// The kernel, to open sockets on beside those that are open.
    pub(crate) fn kernel_and_listeners(&mut self) -> (&mut K, &Listeners<K>) {
        (&mut self.kernel, &self.listeners)
    }

    /// The counts.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The rules in force.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The rules in force, for what the administrator orders and asks.
    pub(crate) fn admission_mut(&mut self) -> &mut Admission {
        &mut self.admission
    }

    /// The open sockets.
    pub(crate) fn listeners(&self) -> &Listeners<K> {
        &self.listeners
    }

    /// The open sockets and the rules, for the packet filter.
    pub(crate) fn listeners_and_admission(&mut self) -> (&mut Listeners<K>, &Admission) {
        (&mut self.listeners, &self.admission)
    }

    /// The services that are being served, in no order.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Served<K>> {
        self.services.values().map(AsRef::as_ref)
    }

    /// A service that is being served.
    #[must_use]
    pub(crate) fn service(&self, id: ServiceId) -> Option<Rc<Served<K>>> {
        self.services.get(&id).cloned()
    }

    /// The records of all handlers, those included whose exit has not been settled, in no order.
    pub(crate) fn handlers(&self) -> impl Iterator<Item = (Ticket, &Handler<K>)> {
        self.handlers.iter().map(|(&ticket, handler)| (ticket, handler))
    }

    /// How many of them are still being started.
    #[must_use]
    pub(crate) fn starting(&self) -> usize {
        self.starts.count()
    }

    fn warn(&self, message: String) {
        self.kernel.log(Event::Warning { message });
    }
}
