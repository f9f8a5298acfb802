//! The open sockets, and the one place that decides which of them are polled.
//!
//! A listener is known by where it listens, not by its service: a reload keeps the socket, with its backlog, for every
//! [`Endpoint`] that is in both tables. No limit ever closes one. No caller decides whether a socket is polled, and none has to
//! remember it: `Dispatcher::update_polling` works it out from the listener's record, the counts and the clock, and is
//! called after each change of these. A pause is only the reason for which a client was left waiting; whether that reason
//! still holds is asked anew each time.
//!
//! The other parts of the dispatcher call this. Opening sockets is not done here, and nothing here fails.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Dispatcher;
use super::handler::Origin;
use super::kernel::{Kernel, Resources};
use crate::config::Service;
use crate::log::Event;
use crate::net::{Endpoint, Transport};
use crate::types::{ListenerId, Reason, ServiceId, Ticket};

/// What a listener is doing, for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is polled.
    Listening,
    /// It is not polled for a reason.
    Paused(Reason),
    /// The handler with this ticket has the socket.
    Lent(Ticket),
}

/// Why clients are left waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    reason: Reason,
    /// When it ends, whatever else happens; `None` for reasons that end by a change of counts or by an order.
    until: Option<Duration>,
}

/// A socket in the hands of a handler.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Loan<R: Resources> {
    ticket: Ticket,
    /// What waited in the socket when it was lent.
    #[serde(skip)]
    before: Option<R::Backlog>,
}

/// An open socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Listener<R: Resources> {
    /// Where it listens.
    pub endpoint: Rc<Endpoint>,
    /// The service that it belongs to.
    pub service: ServiceId,
    /// The service's name.
    pub name: Arc<str>,
    /// The local address of every connection, where the socket is bound to one.
    pub local: Option<SocketAddr>,
    /// Is it to be lent to a handler (`wait`)?
    pub wait: bool,
    /// The socket itself.
    pub socket: R::Socket,
    loan: Option<Loan<R>>,
    #[serde(skip)]
    pause: Option<Pause>,
    #[serde(skip)]
    polled: bool,
    /// How often in a row a handler has ended without taking anything.
    idle_loans: u32,
}

impl<R: Resources> Listener<R> {
    /// What it is doing.
    #[must_use]
    pub(crate) fn state(&self) -> State {
        match (&self.loan, self.pause) {
            (Some(loan), _) => State::Lent(loan.ticket),
            (None, Some(pause)) => State::Paused(pause.reason),
            (None, None) => State::Listening,
        }
    }

    /// Is it reported when a client waits?
    #[must_use]
    pub(crate) fn is_polled(&self) -> bool {
        self.polled
    }

    /// Where its connections come from, for the record of a handler.
    pub(super) fn origin(&self, listener: ListenerId) -> Origin {
        Origin { listener, endpoint: Rc::clone(&self.endpoint), local: self.local }
    }

    /// Can the kernel drop packets that come here, without anything of that being left to others? Not where a handler
    /// accepts for itself: it would never get rid of the filter on its connections.
    #[must_use]
    pub(crate) fn takes_filter(&self) -> bool {
        match *self.endpoint {
            Endpoint::Inet { transport: Transport::Udp, .. } => true,
            Endpoint::Inet { .. } => !self.wait,
            Endpoint::UnixStream(_) | Endpoint::UnixDatagram(_) => false,
        }
    }
}

/// All of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Listeners<R: Resources> {
    last: u64,
    open: HashMap<ListenerId, Listener<R>>,
    #[serde(skip)]
    of_service: HashMap<ServiceId, Vec<ListenerId>>,
    /// Pauses that end by the clock.
    #[serde(skip)]
    timed: BTreeSet<(Duration, ListenerId)>,
    /// Pauses that end when the daemon as a whole has room.
    #[serde(skip)]
    crowded: BTreeSet<ListenerId>,
}

impl<R: Resources> Default for Listeners<R> {
    fn default() -> Self {
        Self {
            last: ListenerId::FIRST,
            open: HashMap::new(),
            of_service: HashMap::new(),
            timed: BTreeSet::new(),
            crowded: BTreeSet::new(),
        }
    }
}

impl<R: Resources> Listeners<R> {
    /// A listener, if it is still open.
    #[must_use]
    pub(crate) fn get(&self, id: ListenerId) -> Option<&Listener<R>> {
        self.open.get(&id)
    }

    /// The socket of a listener, if it is still open.
    pub(crate) fn socket_mut(&mut self, id: ListenerId) -> Option<&mut R::Socket> {
        self.open.get_mut(&id).map(|listener| &mut listener.socket)
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ListenerId, &Listener<R>)> {
        self.open.iter().map(|(&id, listener)| (id, listener))
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    /// When the next pause ends by the clock.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.timed.first().map(|&(when, _)| when)
    }

    /// The only place that changes a pause, so that the two sets always agree with the records.
    fn set_pause(&mut self, id: ListenerId, pause: Option<Pause>) {
        let Some(listener) = self.open.get_mut(&id) else { return };
        let old = std::mem::replace(&mut listener.pause, pause);
        if let Some(until) = old.and_then(|old| old.until) {
            self.timed.remove(&(until, id));
        }
        self.crowded.remove(&id);
        let Some(Pause { reason, until }) = pause else { return };
        self.timed.extend(until.map(|until| (until, id)));
        if reason == Reason::DaemonInstances {
            self.crowded.insert(id);
        }
    }

    fn of_service(&self, service: ServiceId) -> Vec<ListenerId> {
        self.of_service.get(&service).cloned().unwrap_or_default()
    }

    fn index_services(&mut self) {
        self.of_service.clear();
        for (&id, listener) in &self.open {
            self.of_service.entry(listener.service).or_default().push(id);
        }
    }
}

/// How long a listener is left alone when the kernel has no memory to watch it.
const POLL_RETRY: Duration = Duration::from_secs(1);

/// How long a listener is left alone whose handler took nothing: this long, doubled each time …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

impl<K: Kernel> Dispatcher<K> {
    /// Polls a socket or stops polling it, as its record, the counts and the clock ask for: the only place that does
    /// either. To be called after any change of these; it may be called at any time.
    pub(super) fn update_polling(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get(id) else { return };
        let over = listener.pause.is_some_and(|pause| !self.pause_holds(listener, pause));
        if over {
            self.listeners.set_pause(id, None);
        }
        let Some(listener) = self.listeners.open.get_mut(&id) else { return };
        let wanted = listener.loan.is_none() && listener.pause.is_none();
        if over && wanted {
            let (service, endpoint) = (Arc::clone(&listener.name), listener.endpoint.to_string());
            self.kernel.log(Event::Resume { service, endpoint });
        }
        if wanted == listener.polled {
            return;
        }
        listener.polled = wanted;
        if !wanted {
            self.kernel.stop_polling(&listener.socket);
        } else if self.kernel.poll(&listener.socket, id).is_err() {
            listener.polled = false;
            let until = Some(self.now.monotonic + POLL_RETRY);
            self.listeners.set_pause(id, Some(Pause { reason: Reason::Resources, until }));
        }
    }

    /// Would a client be left waiting for this reason still?
    fn pause_holds(&self, listener: &Listener<K>, pause: Pause) -> bool {
        match pause.reason {
            Reason::ServiceInstances => self.is_full(listener.service),
            Reason::DaemonInstances => self.admission.daemon_room(&self.ledger).is_err(),
            Reason::Drained => self.admission.is_drained(listener.service),
            _ => pause.until.is_some_and(|until| self.now.monotonic < until),
        }
    }

    /// Has a service that is served as many handlers as it may have?
    fn is_full(&self, service: ServiceId) -> bool {
        let limit = self.services.get(&service).and_then(|served| served.config.instances);
        limit.is_some_and(|limit| self.ledger.service_count(service) >= limit)
    }

    /// The counts of a service have gone down, or it is drained no longer: looks at the listeners for which this may
    /// change something.
    pub(super) fn update_polling_of(&mut self, service: ServiceId) {
        for id in self.listeners.of_service(service) {
            self.update_polling(id);
        }
        if !self.listeners.crowded.is_empty() && self.admission.daemon_room(&self.ledger).is_ok() {
            for id in self.listeners.crowded.clone() {
                self.update_polling(id);
            }
        }
    }

    /// Looks at the listeners whose pause ends by the clock.
    pub(super) fn end_timed_pauses(&mut self) {
        let now = self.now.monotonic;
        let due: Vec<_> = self.listeners.timed.iter().take_while(|(when, _)| *when <= now).map(|&(_, id)| id).collect();
        due.into_iter().for_each(|id| self.update_polling(id));
    }

    /// Leaves the clients of a listener waiting, until a time or until the reason is gone.
    pub(super) fn pause(&mut self, id: ListenerId, reason: Reason, time: Option<Duration>) {
        let until = time.map(|time| self.now.monotonic + time);
        self.listeners.set_pause(id, Some(Pause { reason, until }));
        self.update_polling(id);
    }

    /// Notes that a listener's socket is in the hands of a handler.
    pub(super) fn note_loan(&mut self, id: ListenerId, ticket: Ticket, before: Option<K::Backlog>) {
        if let Some(listener) = self.listeners.open.get_mut(&id) {
            listener.loan = Some(Loan { ticket, before });
        }
        self.update_polling(id);
    }

    /// A handler is gone: takes its socket back, if it had one that is still open. `took_nothing` tells whether the handler has
    /// left everything that waited in the socket when it was lent; then the listener backs off, and the time is given.
    pub(super) fn take_back(
        &mut self,
        id: ListenerId,
        ticket: Ticket,
        took_nothing: impl FnOnce(&mut K, &K::Socket, Option<&K::Backlog>) -> bool,
    ) -> Option<Duration> {
        let listener = self.listeners.open.get_mut(&id)?;
        let loan = listener.loan.take_if(|loan| loan.ticket == ticket)?;
        if took_nothing(&mut self.kernel, &listener.socket, loan.before.as_ref()) {
            return self.back_off(id);
        }
        listener.idle_loans = 0;
        self.update_polling(id);
        None
    }

    /// Leaves a listener alone for longer each time, until a handler takes something. Gives that time.
    pub(super) fn back_off(&mut self, id: ListenerId) -> Option<Duration> {
        let listener = self.listeners.open.get_mut(&id)?;
        let delay = BACKOFF_MIN.saturating_mul(1 << listener.idle_loans.min(16)).min(BACKOFF_MAX);
        listener.idle_loans = listener.idle_loans.saturating_add(1);
        self.pause(id, Reason::Backoff, Some(delay));
        Some(delay)
    }

    /// Logs that a listener is not polled for now.
    pub(super) fn log_pause(&self, id: ListenerId, reason: Reason, retry: Option<Duration>) {
        if let Some(listener) = self.listeners.get(id) {
            let (service, endpoint) = (Arc::clone(&listener.name), listener.endpoint.to_string());
            self.kernel.log(Event::Pause { service, endpoint, reason, retry });
        }
    }

    /// Begins to listen on a socket.
    pub(super) fn add_listener(&mut self, endpoint: &Endpoint, service: &Service, id: ServiceId, socket: K::Socket) {
        self.listeners.last += 1;
        let listener = ListenerId(self.listeners.last);
        let local = self.kernel.fixed_address(&socket);
        let (endpoint, name) = (Rc::new(endpoint.clone()), Arc::from(service.name.as_str()));
        let (loan, pause, polled, idle_loans, wait) = (None, None, false, 0, service.wait);
        let record = Listener { endpoint, service: id, name, local, wait, socket, loan, pause, polled, idle_loans };
        self.listeners.open.insert(listener, record);
    }

    /// A socket that is in the old and in the new table. While it is lent, it stays so, whatever the new table says.
    /// Whatever it was paused for is judged anew under the new limits. Gives a warning if the kernel refuses one of its new
    /// options.
    pub(super) fn keep_listener(&mut self, id: ListenerId, service: &Service, owner: ServiceId) -> Option<String> {
        self.listeners.set_pause(id, None);
        let listener = self.listeners.open.get_mut(&id)?;
        (listener.service, listener.name, listener.wait) = (owner, Arc::from(service.name.as_str()), service.wait);
        listener.idle_loans = 0;
        let changed = self.kernel.change_options(&mut listener.socket, &listener.endpoint, service);
        let problem = changed.err()?;
        Some(format!("{}: services.{}.socket: {problem}; the socket stays as it was", service.origin, service.name))
    }

    /// Closes a listener, and with it the file of a Unix socket.
    pub(super) fn close_listener(&mut self, id: ListenerId) {
        self.listeners.set_pause(id, None);
        let Some(listener) = self.listeners.open.remove(&id) else { return };
        if listener.polled {
            self.kernel.stop_polling(&listener.socket);
        }
    }

    /// After a table has come into force: every listener is looked at.
    pub(super) fn update_all_polling(&mut self) {
        self.listeners.index_services();
        for id in self.listeners.open.keys().copied().collect::<Vec<_>>() {
            self.update_polling(id);
        }
    }
}
