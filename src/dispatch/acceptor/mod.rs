//! Batches of connections from ready listeners, through admission, to the spawner.
//!
//! The daemon's loop hands over the listeners that are ready; they take turns, so that no busy one starves another. A
//! connection is accepted, judged, and either its handler's start begins or it is turned away, before the next one is
//! touched. Only a few are open here at any time, and their descriptors are the lowest. A limit pauses a listener or turns
//! a client away; nothing here closes a listener, waits for longer than a moment, or fails.

mod birth;
mod connection;
mod mux;
mod waiting;

pub(crate) use birth::take_over;
pub use mux::{Carried, Kept};

#[cfg(test)]
pub(crate) use birth::{born, start_handler, stillborn};
#[cfg(test)]
pub(crate) use waiting::Waiting as WaitingForRoom;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use crate::admission::{Admission, Client, Decision, Prepared, Refusal};
use crate::config::{Refuse, Service};
use crate::dispatch::listeners::{ListenerId, Listeners, State};
use crate::dispatch::reaper::{Exit, Pidfds, Reaper};
use crate::dispatch::spawner::{Recipe, Spawner};
use crate::limits::ledger::{Ledger, Place};
use crate::limits::penalty::Cause;
use crate::log::{Burst, Event, Log};
use crate::net::Peer;
use crate::sys::clock;
use crate::sys::descriptor::Reserve;
use crate::sys::poll::Poll;
use crate::sys::socket::{self, Accepted};
use crate::types::Now;
use crate::types::{Reason, ServiceId, Ticket};
use birth::Births;
use connection::{peer_of, turn_away};
use waiting::Waiting;

/// At most so many connections are accepted in one turn.
const BUDGET: usize = 64;

/// And for so long. A start takes a tenth of a millisecond, but many times that where processors are scarce, and others
/// wait for their turn: handlers that have ended, signals.
const SLICE: Duration = Duration::from_millis(4);

/// How long a listener is left alone when descriptors, memory or processes are lacking.
const SHORTAGE: Duration = Duration::from_millis(100);

/// A service that is being served.
#[derive(Debug)]
pub struct Entry {
    /// Its number in the ledger.
    pub id: ServiceId,
    /// Its name, for the log.
    pub name: Arc<str>,
    /// What the table says.
    pub service: Service,
    /// What its handlers have in common.
    pub recipe: Recipe,
}

/// What the acceptor works on, all of it the daemon's.
pub struct Desk<'a> {
    /// The daemon's epoll set.
    pub poll: &'a Poll,
    /// The books.
    pub ledger: &'a mut Ledger,
    /// The open sockets.
    pub listeners: &'a mut Listeners,
    /// The live handlers.
    pub reaper: &'a mut Reaper<Pidfds>,
    /// The log.
    pub log: &'a Log,
    /// When this turn began, on the monotonic clock.
    pub now: Duration,
    /// The same on the wall clock.
    pub wall: Duration,
}

impl Desk<'_> {
    fn moment(&self) -> Now {
        Now { monotonic: self.now, wall: self.wall }
    }
}

/// Accepts connections and starts handlers for them.
#[derive(Debug)]
pub struct Acceptor {
    entries: HashMap<ServiceId, Rc<Entry>>,
    admission: Admission,
    spawner: Spawner,
    births: Births,
    reserve: Reserve,
    refusals: Burst,
    last_served: ListenerId,
    waiting: Waiting,
    /// Connections that their handlers may give back.
    kept: HashMap<Ticket, Kept>,
    /// What clients of `tcpmux` can ask for.
    muxed: HashMap<String, mux::Wanted>,
}

/// Is there more to be had from a listener in this turn?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

impl Acceptor {
    /// Serves nothing yet.
    ///
    /// # Errors
    /// No memory or descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            entries: HashMap::new(),
            admission: Admission::new().map_err(|_| io::ErrorKind::OutOfMemory)?,
            spawner: Spawner::new()?,
            births: Births::default(),
            reserve: Reserve::new()?,
            refusals: Burst::default(),
            last_served: ListenerId::default(),
            waiting: Waiting::default(),
            kept: HashMap::new(),
            muxed: HashMap::new(),
        })
    }

    /// Puts a new table in force, of `instances` handlers in all; `rates` is what admission has prepared for it. The
    /// listeners have all been resumed ([`Listeners::commit`]); those whose service is full will find out again.
    pub fn serve(&mut self, entries: Vec<Entry>, instances: u32, rates: Prepared, now: Now) {
        self.admission.serve(entries.iter().map(|entry| (entry.id, &entry.service)), instances, rates, now);
        self.muxed = mux::names(&entries).collect();
        self.entries = entries.into_iter().map(|entry| (entry.id, Rc::new(entry))).collect();
        self.waiting.clear();
    }

    /// The services that are being served, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(AsRef::as_ref)
    }

    /// A service that is being served.
    pub fn entry(&self, id: ServiceId) -> Option<Rc<Entry>> {
        self.entries.get(&id).cloned()
    }

    /// How many handlers are still being started.
    pub fn starting(&self) -> usize {
        self.births.count()
    }

    /// The rules in force.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The same, for what the administrator orders and asks.
    pub fn admission_mut(&mut self) -> &mut Admission {
        &mut self.admission
    }

    /// What the administrator should know and has not been told.
    pub fn complaint(&mut self) -> Option<String> {
        self.admission.complaint()
    }

    /// Accepts from the `ready` listeners, one connection of each in turn, until nobody waits or the time is up. The next
    /// turn begins behind the listener that was served last.
    pub fn accept(&mut self, desk: &mut Desk<'_>, ready: Vec<ListenerId>) {
        self.accept_batch(desk, ready);
        self.follow_all(desk);
    }

    fn accept_batch(&mut self, desk: &mut Desk<'_>, mut ready: Vec<ListenerId>) {
        ready.sort_unstable();
        let behind_last = ready.partition_point(|&id| id <= self.last_served);
        ready.rotate_left(behind_last);
        let mut queue = VecDeque::from(ready);
        let end = clock::monotonic() + SLICE;
        for _ in 0..BUDGET {
            let Some(id) = queue.pop_front() else { return };
            self.last_served = id;
            if self.accept_one(desk, id) == Next::More {
                queue.push_back(id);
            }
            if clock::monotonic() >= end {
                return;
            }
        }
    }

    fn accept_one(&mut self, desk: &mut Desk<'_>, id: ListenerId) -> Next {
        let Some(listener) = desk.listeners.get(id).filter(|listener| listener.state == State::Listening) else {
            return Next::Enough;
        };
        let Some(entry) = self.entries.get(&listener.service).cloned() else { return Next::Enough };
        if listener.wait {
            return self.offer(desk, id, &entry);
        }
        if let Err(refusal) = self.admission.room(desk.ledger, entry.id, desk.moment()) {
            if refusal.keeps_backlog(entry.service.when_full) {
                self.hold(desk, id, &entry, refusal);
                return Next::Enough;
            }
        }
        match socket::accept(listener.as_fd()) {
            Ok(accepted) => self.judge(desk, id, &entry, accepted),
            Err(error) => self.not_accepted(desk, id, &entry, &error),
        }
    }

    /// Leaves the clients of a service in its backlog, until a handler ends or time has passed.
    fn hold(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Entry, refusal: Refusal) {
        self.waiting.add(refusal.reason, entry.id, id);
        self.pause(desk, id, entry, refusal, refusal.pause_time());
    }

    fn pause(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Entry, refusal: Refusal, time: Option<Duration>) {
        let Refusal { reason, retry } = refusal;
        desk.listeners.pause(desk.poll, id, reason, time.map(|time| desk.now + time));
        if self.refusals.pass((Arc::clone(&entry.name), reason), desk.now) {
            log_pause(desk.log, desk.listeners, id, reason, retry.or(time));
        }
    }

    /// A handler has ended: its client is charged for that, if it ended badly and the service does; and where its end has
    /// made room, it is listened again.
    pub fn ended(&mut self, desk: &mut Desk<'_>, place: Place, exit: &Exit) {
        let cause = exit.ended.and_then(|ended| Cause::of_ending(ended.ending));
        // Nobody knows which of its clients a lent socket's handler has failed for, and a datagram's sender can be forged.
        let cause = cause.filter(|_| exit.about.lent.is_none());
        if let Some(entry) = self.entries.get(&place.service).cloned().filter(|_| cause.is_some()) {
            self.charge(desk, &entry, exit.about.peer, cause);
        }
        self.made_room(desk, place);
    }

    /// Turns away the clients of a service from now on. `false` if it was so already.
    pub fn drain(&mut self, id: ServiceId) -> bool {
        self.admission.drain(id)
    }

    /// Ends what [`Acceptor::drain`] began. `false` if the service was not drained.
    pub fn resume(&mut self, desk: &mut Desk<'_>, id: ServiceId) -> bool {
        let drained = State::Paused(Reason::Drained, None);
        let waiting = desk.listeners.iter().filter(|(_, one)| one.service == id && one.state == drained);
        for id in waiting.map(|(id, _)| id).collect::<Vec<_>>() {
            desk.listeners.resume(desk.poll, id);
            log_resume(desk.log, desk.listeners, id);
        }
        self.admission.resume(id)
    }

    /// Listens again where a handler's end has made room.
    fn made_room(&mut self, desk: &mut Desk<'_>, place: Place) {
        let of_daemon = self.admission.daemon_room(desk.ledger).is_ok();
        for id in self.waiting.made_room(place.service, of_daemon) {
            let full = State::Paused(Reason::ServiceInstances, None);
            let crowded = State::Paused(Reason::DaemonInstances, None);
            if desk.listeners.get(id).is_some_and(|listener| listener.state == full || listener.state == crowded) {
                desk.listeners.resume(desk.poll, id);
                log_resume(desk.log, desk.listeners, id);
            }
        }
    }

    /// What to do when accept(2) fails. Errors that belong to the connection are its own end (accept(2), "Error
    /// handling"); a lack of descriptors or memory leaves this listener alone for a moment.
    fn not_accepted(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Entry, error: &io::Error) -> Next {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::EAGAIN => Next::Enough,
            Errno::ECONNABORTED
            | Errno::EINTR
            | Errno::ENETDOWN
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ENETUNREACH
            | Errno::EPERM => Next::More,
            _ => {
                self.turn_one_away(desk, id, entry);
                self.pause(desk, id, entry, Reason::Resources.into(), Some(SHORTAGE));
                Next::Enough
            }
        }
    }

    /// Without descriptors, one client at least is told so, by the descriptor that was kept for it.
    fn turn_one_away(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Entry) {
        let Some(listener) = desk.listeners.get(id) else { return };
        let accepted = self.reserve.lend(|| {
            socket::accept(listener.as_fd()).map(|accepted| turn_away(&accepted.socket, &Refuse::Reset)).is_ok()
        });
        if accepted {
            desk.ledger.note_refusal(entry.id, Reason::Resources);
        }
    }

    /// Admits a connection or turns it away.
    fn judge(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Rc<Entry>, accepted: Accepted) -> Next {
        let client = self.admission.client(entry.id, peer_of(&accepted));
        self.admission.note_arrival(entry.id, &client, desk.moment());
        match self.admit(desk, entry, &client) {
            Ok(()) => {
                self.charge(desk, entry, client.peer, Some(Cause::Trap));
                self.start(desk, id, entry, accepted.socket, client)
            }
            Err(refusal) => {
                turn_away(&accepted.socket, &entry.service.refuse);
                self.refuse(desk, entry, &client, refusal);
                Next::More
            }
        }
    }

    /// Asks all the questions. Who is let in has used up his share of the rates; who is let in by `dry_run` alone has
    /// not, since without it he would not have been.
    fn admit(&mut self, desk: &mut Desk<'_>, entry: &Entry, client: &Client) -> Result<(), Refusal> {
        let now = desk.moment();
        match self.admission.decide(desk.ledger, entry.id, client, now) {
            Decision::Admit => self.admission.commit(entry.id, client, now),
            Decision::WouldRefuse(refusal) => {
                desk.ledger.note_dry_refusal(entry.id, refusal.reason);
                self.log_refusal(desk, entry, client, refusal, true);
            }
            Decision::Refuse(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Takes down that a client was turned away.
    fn refuse(&mut self, desk: &mut Desk<'_>, entry: &Entry, client: &Client, refusal: Refusal) {
        desk.ledger.note_refusal(entry.id, refusal.reason);
        self.log_refusal(desk, entry, client, refusal, false);
        // A service that lends its sockets charges nobody.
        self.charge(desk, entry, client.peer, refusal.penalty());
    }

    /// Charges a client for something, if the service does, and says so if his source is refused from now on.
    fn charge(&mut self, desk: &Desk<'_>, entry: &Entry, peer: Peer, cause: Option<Cause>) {
        let Some(cause) = cause else { return };
        if let Some(retry) = self.admission.charge(entry.id, &peer, cause, desk.moment()) {
            desk.log.write(Event::Penalty { service: Arc::clone(&entry.name), peer, cause: cause.word(), retry });
        }
    }

    fn log_refusal(&mut self, desk: &Desk<'_>, entry: &Entry, client: &Client, refusal: Refusal, dry_run: bool) {
        let Refusal { reason, retry } = refusal;
        if !entry.service.log.refuse {
            return;
        }
        if self.refusals.pass((Arc::clone(&entry.name), reason), desk.now) {
            let (service, peer) = (Arc::clone(&entry.name), client.peer);
            desk.log.write(Event::Refuse { service, peer, reason, retry, dry_run });
        }
    }

    /// Logs how many refusals were not logged, of the bursts that are over.
    pub fn log_suppressed(&mut self, log: &Log, now: Duration) {
        for ((service, reason), suppressed) in self.refusals.ended(now) {
            log.write(Event::Suppressed { service, reason, suppressed });
        }
    }

    /// When [`Acceptor::log_suppressed`] has something to say, or [`Acceptor::follow_late`] something to look at.
    #[must_use]
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        self.refusals.deadline().into_iter().chain(self.births.deadline(now)).min()
    }
}

/// Logs that a listener is not polled for now.
pub(crate) fn log_pause(log: &Log, listeners: &Listeners, id: ListenerId, reason: Reason, retry: Option<Duration>) {
    if let Some(listener) = listeners.get(id) {
        let (service, endpoint) = (Arc::clone(&listener.name), listener.endpoint.to_string());
        log.write(Event::Pause { service, endpoint, reason, retry });
    }
}

/// Logs that a listener is polled again.
pub(crate) fn log_resume(log: &Log, listeners: &Listeners, id: ListenerId) {
    if let Some(listener) = listeners.get(id) {
        let (service, endpoint) = (Arc::clone(&listener.name), listener.endpoint.to_string());
        log.write(Event::Resume { service, endpoint });
    }
}
