//! The open sockets: opened, adopted, paused, resumed, lent, and carried over a reload.
//!
//! A listener is known by where it listens, not by its service: a reload keeps the socket, with its backlog, for every
//! [`Endpoint`] that is in both tables. New sockets are opened by [`Listeners::prepare`] before anything is
//! changed, and [`Listeners::commit`] cannot fail. A listener that is not to be read from is taken out of the epoll
//! set; no limit ever closes one. What a listener is doing is its [`State`] alone, never a field of the table.
//!
//! The daemon and the acceptor call this. Errors of opening name the service and the endpoint.

mod carry;
mod open;

pub use carry::Carried;
pub use open::OpenError;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Endpoint, Service, Transport};
use crate::sys::filter::{self, Instruction};
use crate::sys::poll::Poll;
use crate::sys::{descriptor, socket};
use crate::types::{Reason, ServiceId, Ticket};
use open::Opened;

/// A listener; a number that is never used twice, and its number in the daemon's epoll set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerId(u64);

impl ListenerId {
    /// Numbers below this are not listeners; the daemon has other descriptors in the same epoll set.
    pub const FIRST: u64 = 16;

    /// The listener with this number in the epoll set.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        (number >= Self::FIRST).then_some(Self(number))
    }
}

/// What a listener is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the epoll set.
    Listening,
    /// Left alone for a reason, until a time where one is known.
    Paused(Reason, Option<Duration>),
    /// In the hands of the handler with this ticket.
    Lent(Ticket),
}

/// An open socket.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Whose it is.
    pub service: ServiceId,
    /// The service's name.
    pub name: Arc<str>,
    /// What it is doing.
    pub state: State,
    /// The local address of every connection, where the socket is bound to one.
    pub local: Option<SocketAddr>,
    /// Is it to be lent to a handler?
    pub wait: bool,
    /// May accepted connections have inherited a program that drops packets?
    pub filtered: bool,
    opened: Opened,
    /// What was waiting in it when it was lent.
    before: Option<socket::Waiting>,
    /// How often in a row a handler has ended without taking anything.
    failures: u32,
}

/// The socket.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.socket.as_fd()
    }
}

/// What a `wait` handler was like, for the decision whether to lend the socket again at once.
#[derive(Clone, Copy, Debug)]
pub struct Borrower {
    /// How long it lived.
    pub lived: Duration,
    /// Did it end by a signal or with a status other than 0?
    pub failed: bool,
}

/// New sockets, open but not yet in use. Dropped, they are closed again and nothing has changed.
#[derive(Debug, Default)]
pub struct Prepared {
    fresh: HashMap<Endpoint, Opened>,
}

/// What a reload has done to one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The service's name.
    pub service: Arc<str>,
    /// The endpoint, in the grammar of `listen`.
    pub endpoint: String,
    /// `opened`, `adopted` or `closed`.
    pub how: &'static str,
}

/// What putting a table in force has done.
#[derive(Debug, Default)]
pub struct Committed {
    /// Sockets that were opened or closed.
    pub changes: Vec<Change>,
    /// Options that the kernel would not change on a socket that was kept.
    pub warnings: Vec<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Listeners {
    last: u64,
    open: HashMap<ListenerId, Listener>,
    /// Sockets from the service manager that no table has claimed yet.
    passed: Vec<OwnedFd>,
    /// When to resume which.
    until: BTreeSet<(Duration, ListenerId)>,
}

impl Listeners {
    /// None but those that the service manager has passed.
    #[must_use]
    pub fn new(passed: Vec<OwnedFd>) -> Self {
        Self { last: ListenerId::FIRST, passed, ..Self::default() }
    }

    /// Opens every socket of the enabled services that is not open yet, or finds it among the passed ones.
    ///
    /// # Errors
    /// All that could not be opened; then none is.
    pub fn prepare(&mut self, services: &[Service]) -> Result<Prepared, Vec<OpenError>> {
        let kept: HashMap<&Endpoint, &Listener> = self.open.values().map(|one| (&one.endpoint, one)).collect();
        let (mut prepared, mut errors) = (Prepared::default(), Vec::new());
        for service in services.iter().filter(|service| service.enabled) {
            for endpoint in service.listen.iter().filter(|endpoint| !kept.contains_key(endpoint)) {
                let found = open::claim(&mut self.passed, endpoint, service).map(|opened| Ok(Some(opened)));
                let neighbours = self.open.values().filter(|one| one.endpoint.overlaps(endpoint));
                match found.unwrap_or_else(|| open::open(endpoint, service, neighbours)) {
                    Ok(opened) => prepared.fresh.extend(opened.map(|opened| (endpoint.clone(), opened))),
                    Err(error) => errors.push(error),
                }
            }
        }
        if errors.is_empty() { Ok(prepared) } else { Err(errors) }
    }

    /// Puts a new table in force: its enabled `services`, and `ids`, their numbers. Listeners that are in no service are closed.
    pub fn commit(
        &mut self,
        poll: &Poll,
        services: &[Service],
        ids: &[ServiceId],
        mut prepared: Prepared,
    ) -> Committed {
        let mut old: HashMap<Endpoint, ListenerId> =
            self.open.iter().map(|(&id, listener)| (listener.endpoint.clone(), id)).collect();
        let mut done = Committed::default();
        for (service, &owner) in services.iter().zip(ids) {
            let name = Arc::<str>::from(service.name.as_str());
            for endpoint in &service.listen {
                if let Some(id) = old.remove(endpoint) {
                    done.warnings.extend(self.keep(poll, id, service, owner, &name));
                } else if let Some(opened) = prepared.fresh.remove(endpoint) {
                    done.changes.push(Change::new(&name, endpoint, opened.how));
                    self.add(poll, opened, endpoint, service, owner, &name);
                }
            }
        }
        for id in old.into_values() {
            done.changes.extend(self.close(poll, id));
        }
        done
    }

    fn add(
        &mut self,
        poll: &Poll,
        opened: Opened,
        endpoint: &Endpoint,
        service: &Service,
        owner: ServiceId,
        name: &Arc<str>,
    ) {
        self.last += 1;
        let id = ListenerId(self.last);
        let listener = Listener {
            endpoint: endpoint.clone(),
            service: owner,
            name: Arc::clone(name),
            state: State::Paused(Reason::Resources, None),
            local: opened.fixed_address(),
            wait: service.wait,
            // Whoever has passed it may have put one on it.
            filtered: opened.how == "adopted",
            opened,
            before: None,
            failures: 0,
        };
        self.open.insert(id, listener);
        self.resume(poll, id);
    }

    /// A socket that is in the old and in the new table. While it is lent, it stays so, whatever the new table says.
    /// Gives a warning if the kernel refuses one of its new options.
    fn keep(
        &mut self,
        poll: &Poll,
        id: ListenerId,
        service: &Service,
        owner: ServiceId,
        name: &Arc<str>,
    ) -> Option<String> {
        let listener = self.open.get_mut(&id)?;
        (listener.service, listener.name, listener.wait) = (owner, Arc::clone(name), service.wait);
        let changed = listener.opened.change_options(&listener.endpoint, service);
        listener.failures = 0;
        // Whatever it was paused for is judged anew under the new limits.
        if matches!(listener.state, State::Paused(..)) {
            self.resume(poll, id);
        }
        let errno = changed.err()?;
        Some(format!("{}: services.{name}.socket: {}; the socket stays as it was", service.origin, errno.desc()))
    }

    fn close(&mut self, poll: &Poll, id: ListenerId) -> Option<Change> {
        let listener = self.open.remove(&id)?;
        self.leave(poll, id, &listener);
        Some(Change::new(&listener.name, &listener.endpoint, "closed"))
    }

    /// Closes all of them, and removes the files of Unix sockets.
    pub fn close_all(&mut self, poll: &Poll) -> Vec<Change> {
        let ids: Vec<_> = self.open.keys().copied().collect();
        ids.into_iter().filter_map(|id| self.close(poll, id)).collect()
    }

    /// Sockets from the service manager that no service wants; they are closed.
    pub fn unclaimed(&mut self) -> usize {
        std::mem::take(&mut self.passed).len()
    }

    /// A listener, if it is still open.
    #[must_use]
    pub fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.open.get(&id)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ListenerId, &Listener)> {
        self.open.iter().map(|(&id, listener)| (id, listener))
    }

    /// Takes it out of the epoll set and out of the list of times.
    fn leave(&mut self, poll: &Poll, id: ListenerId, listener: &Listener) {
        match listener.state {
            // An open descriptor that is in the set can be removed.
            State::Listening => drop(poll.remove(listener)),
            State::Paused(_, Some(when)) => drop(self.until.remove(&(when, id))),
            State::Paused(_, None) | State::Lent(_) => {}
        }
    }

    fn change(&mut self, poll: &Poll, id: ListenerId, state: State) -> Option<&mut Listener> {
        let mut listener = self.open.remove(&id)?;
        self.leave(poll, id, &listener);
        if let State::Paused(_, Some(when)) = state {
            self.until.insert((when, id));
        }
        listener.state = state;
        Some(self.open.entry(id).or_insert(listener))
    }

    /// Leaves a listener alone, until a time or until it is resumed.
    pub fn pause(&mut self, poll: &Poll, id: ListenerId, reason: Reason, until: Option<Duration>) {
        self.change(poll, id, State::Paused(reason, until));
    }

    /// Listens again. If the kernel has no memory to watch it, it is tried again a second later.
    pub fn resume(&mut self, poll: &Poll, id: ListenerId) {
        let Some(listener) = self.change(poll, id, State::Listening) else { return };
        // A handler that had the socket may have made it blocking, and an accept that blocks would stop everything.
        let _ = descriptor::set_nonblocking(listener.as_fd(), true);
        if poll.add(&*listener, id.0).is_err() {
            listener.state = State::Paused(Reason::Resources, None);
            let soon = crate::sys::clock::monotonic() + Duration::from_secs(1);
            self.pause(poll, id, Reason::Resources, Some(soon));
        }
    }

    /// The listeners whose pause is over.
    pub fn due(&mut self, now: Duration) -> Vec<ListenerId> {
        self.until.iter().take_while(|(when, _)| *when <= now).map(|&(_, id)| id).collect()
    }

    /// When the next pause is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.until.first().map(|&(when, _)| when)
    }

    /// Puts a program on a socket that says which packets the kernel is to drop, in place of an earlier one; or takes it
    /// off again.
    ///
    /// # Errors
    /// Those of [`filter::attach`].
    pub fn set_filter(&mut self, id: ListenerId, program: Option<&[Instruction]>) -> io::Result<()> {
        let Some(listener) = self.open.get_mut(&id) else { return Ok(()) };
        match program {
            Some(program) => {
                filter::attach(listener.as_fd(), program)?;
                listener.filtered = true;
            }
            None if listener.filtered => filter::detach(listener.as_fd()),
            None => {}
        }
        Ok(())
    }

    /// Makes the socket ready for a handler that reads or accepts from it: blocking. Notes what waits in it.
    pub fn before_lending(&mut self, id: ListenerId) {
        if let Some(listener) = self.open.get_mut(&id) {
            listener.before = socket::Waiting::at(listener.opened.socket.as_fd());
            let _ = descriptor::set_nonblocking(listener.opened.socket.as_fd(), false);
        }
    }

    /// Puts a listener into the hands of a handler.
    pub fn lend(&mut self, poll: &Poll, id: ListenerId, ticket: Ticket) {
        self.change(poll, id, State::Lent(ticket));
    }

    /// Takes a listener back from a handler that has ended. If that handler ended at once without taking anything, it
    /// is left alone for a while: 100 ms, doubled each time, up to 30 s. Gives that time.
    pub fn take_back(
        &mut self,
        poll: &Poll,
        id: ListenerId,
        ticket: Ticket,
        borrower: Borrower,
        now: Duration,
    ) -> Option<Duration> {
        let listener = self.open.get_mut(&id).filter(|listener| listener.state == State::Lent(ticket))?;
        if listener.took_nothing(borrower) {
            return self.back_off(poll, id, now);
        }
        listener.failures = 0;
        self.resume(poll, id);
        None
    }

    /// Leaves a listener alone for longer each time, until a handler takes something. Gives that time.
    pub fn back_off(&mut self, poll: &Poll, id: ListenerId, now: Duration) -> Option<Duration> {
        let listener = self.open.get_mut(&id)?;
        let delay = BACKOFF.saturating_mul(1 << listener.failures.min(16)).min(BACKOFF_MOST);
        listener.failures += 1;
        self.pause(poll, id, Reason::Backoff, Some(now + delay));
        Some(delay)
    }
}

const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(30);

impl Listener {
    /// Can the kernel drop packets that come here, without anything of that being left to others? Not where a handler
    /// accepts for itself: it would never get rid of the program on its connections.
    #[must_use]
    pub fn takes_filter(&self) -> bool {
        match self.endpoint {
            Endpoint::Inet { transport: Transport::Udp, .. } => true,
            Endpoint::Inet { .. } => !self.wait,
            Endpoint::UnixStream(_) | Endpoint::UnixDatagram(_) => false,
        }
    }

    /// Did a handler end at once and leave everything that waited? What waits now is compared with what waited when
    /// the socket was lent. New arrivals can hide that something was taken; a handler that lived for more than a
    /// moment and ended well is believed to have done its work.
    fn took_nothing(&self, borrower: Borrower) -> bool {
        let at_once = borrower.lived < Duration::from_secs(1);
        let believable = !borrower.failed && borrower.lived > Duration::from_millis(50);
        let now = socket::Waiting::at(self.as_fd());
        let unchanged = now.as_ref().zip(self.before.as_ref()).is_some_and(|(now, before)| now.holds(before));
        at_once && !believable && unchanged
    }
}

impl Change {
    fn new(service: &Arc<str>, endpoint: &Endpoint, how: &'static str) -> Self {
        Self { service: Arc::clone(service), endpoint: endpoint.to_string(), how }
    }
}
