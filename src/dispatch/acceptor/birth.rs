//! From an admitted client to a running handler, on the books from before it is started.
//!
//! Several starts are under way at a time. Each is followed until its child has become the handler, or has failed to: a
//! handler that could not be started was never one, and its client is turned away. A start that takes long keeps its
//! place on the books and is looked at again in later turns; nobody waits for it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{local_of, path_of, send_banner, sender_of, turn_away};
use super::{Acceptor, Desk, Entry, Next, SHORTAGE};
use crate::admission::Client;
use crate::dispatch::listeners::{ListenerId, State};
use crate::dispatch::reaper::{self, About, Kernel, Reaper};
use crate::dispatch::spawner::Connection;
use crate::limits::ledger::{Ledger, Place};
use crate::log::{Event, Of};
use crate::net::Peer;
use crate::planted::{Bug, planted};
use crate::sys::clock;
use crate::sys::exec::{Failure, Start};
use crate::sys::{filter, socket};
use crate::types::{Reason, Step, Ticket};

/// So many starts may be under way before the oldest is waited for: enough to keep a few processors busy.
const UNDER_WAY: usize = 8;

/// How long the oldest start is waited for; it takes a fraction of this where there are processors to be had.
const PATIENCE: Duration = Duration::from_millis(2);

/// How long an upgrade waits for them in all.
const LAST_PATIENCE: Duration = Duration::from_millis(50);

/// A handler that is being started.
#[derive(Debug)]
struct Birth {
    start: Start,
    ticket: Ticket,
    pid: i32,
    entry: Rc<Entry>,
    client: Client,
    listener: ListenerId,
    /// Was it lent the listener itself?
    lent: bool,
    /// Handlers of the source and of the service, this one included.
    counts: (u32, u32),
    since: Duration,
}

/// The handlers that are being started.
#[derive(Debug, Default)]
pub(super) struct Births {
    /// Those of this turn, the oldest first.
    under_way: VecDeque<Birth>,
    /// Those that have taken longer than [`PATIENCE`].
    late: Vec<Birth>,
}

impl Births {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.under_way.len() + self.late.len()
    }

    /// When to look at late ones again: in as long a time as they have taken up to now, a second at most.
    pub(super) fn deadline(&self, now: Duration) -> Option<Duration> {
        let youngest = self.late.iter().map(|birth| birth.since).max()?;
        Some(now + now.saturating_sub(youngest).clamp(PATIENCE, Duration::from_secs(1)))
    }
}

impl Acceptor {
    /// Starts the handler of an admitted connection.
    pub(super) fn start(
        &mut self,
        desk: &mut Desk<'_>,
        id: ListenerId,
        entry: &Rc<Entry>,
        connection: OwnedFd,
        client: Client,
    ) -> Next {
        let peer = client.peer;
        let Some(listener) = desk.listeners.get(id) else { return Next::Enough };
        if listener.filtered {
            filter::detach(&connection);
        }
        send_banner(&connection, &entry.service.banner);
        let peer_path = matches!(peer, Peer::Unix { .. }).then(|| path_of(&connection)).flatten();
        let local = listener.local.or_else(|| local_of(&listener.endpoint, &connection));
        let endpoint = listener.endpoint.clone();
        let to = Connection { endpoint: &endpoint, peer, local, peer_path: peer_path.as_deref(), number: 0 };
        let kept = self.keep(entry, &connection, id, peer);
        match self.begin(desk, id, entry, client, connection, to, false) {
            Ok(ticket) => {
                self.kept.extend(kept.map(|kept| (ticket, kept)));
                Next::More
            }
            Err((failure, connection)) => {
                turn_away(&connection, &entry.service.refuse);
                self.not_started(desk, id, entry, peer, failure)
            }
        }
    }

    /// Puts a handler on the books and lets its start begin.
    #[expect(clippy::too_many_arguments, reason = "what a start is made of")]
    fn begin(
        &mut self,
        desk: &mut Desk<'_>,
        listener: ListenerId,
        entry: &Rc<Entry>,
        client: Client,
        socket: OwnedFd,
        to: Connection<'_>,
        lent: bool,
    ) -> Result<Ticket, (Failure, OwnedFd)> {
        // Where there is no memory for another place to start from, that of the oldest start will do.
        while !self.spawner.has_place() && !self.births.under_way.is_empty() {
            self.follow_oldest(desk);
        }
        let spawner = &mut self.spawner;
        let borrowed = lent.then_some(listener);
        let spawn = |ledger: &Ledger| {
            let number = ledger.source_count(entry.id, client.source);
            let (child, start) = spawner.start(&entry.recipe, socket, &Connection { number, ..to })?;
            Ok((child.pid, child.pidfd, start))
        };
        let (ticket, pid, start) = start_handler(desk.ledger, desk.reaper, entry, desk.now, client, borrowed, spawn)?;
        let counts = (desk.ledger.source_count(entry.id, client.source), desk.ledger.service_count(entry.id));
        let (entry, since) = (Rc::clone(entry), desk.now);
        self.births.under_way.push_back(Birth { start, ticket, pid, entry, client, listener, lent, counts, since });
        if self.births.under_way.len() >= UNDER_WAY {
            self.follow_oldest(desk);
        }
        Ok(ticket)
    }

    /// Sees the starts of this turn through, as far as they don't take long.
    pub(super) fn follow_all(&mut self, desk: &mut Desk<'_>) {
        while !self.births.under_way.is_empty() {
            self.follow_oldest(desk);
        }
    }

    fn follow_oldest(&mut self, desk: &mut Desk<'_>) {
        let Some(birth) = self.births.under_way.pop_front() else { return };
        if birth.start.wait(PATIENCE) {
            self.finish(desk, birth);
        } else {
            self.births.late.push(birth);
        }
    }

    /// Sees all starts through, for an upgrade; those that take too long even for that are left.
    pub fn follow_to_the_end(&mut self, desk: &mut Desk<'_>) {
        let end = clock::monotonic() + LAST_PATIENCE;
        for birth in std::mem::take(&mut self.births.late) {
            if birth.start.wait(end.saturating_sub(clock::monotonic())) {
                self.finish(desk, birth);
            } else {
                self.births.late.push(birth);
            }
        }
    }

    /// Sees late starts through.
    pub fn follow_late(&mut self, desk: &mut Desk<'_>) {
        for place in (0..self.births.late.len()).rev() {
            if self.births.late[place].start.landed() {
                let birth = self.births.late.swap_remove(place);
                self.finish(desk, birth);
            }
        }
    }

    /// The child is a handler now, or has failed to become one.
    fn finish(&mut self, desk: &mut Desk<'_>, mut birth: Birth) {
        let Some((socket, failure)) = birth.start.finish() else { return };
        let Birth { start, ticket, pid, entry, client, listener, lent, counts, .. } = birth;
        self.spawner.take_back(start);
        let Some(failure) = failure else {
            born(desk.ledger, desk.reaper, ticket);
            return log_accept(desk, &entry, &client, pid, counts);
        };
        let place = stillborn(desk.ledger, desk.reaper, ticket);
        self.kept.remove(&ticket);
        if !lent {
            turn_away(&socket, &entry.service.refuse);
        } else if desk.listeners.get(listener).is_some_and(|listener| listener.state == State::Lent(ticket)) {
            desk.listeners.back_off(desk.poll, listener, desk.now);
        }
        self.not_started(desk, listener, &entry, client.peer, failure);
        if let Some(place) = place {
            self.made_room(desk, place);
        }
    }

    /// A handler could not be started. Where the daemon itself lacks the means, the listener is left alone for a moment.
    fn not_started(
        &mut self,
        desk: &mut Desk<'_>,
        id: ListenerId,
        entry: &Entry,
        peer: Peer,
        failure: Failure,
    ) -> Next {
        desk.ledger.note_failure(entry.id, failure.step);
        desk.ledger.note_refusal(entry.id, Reason::SpawnFailed);
        let service = Arc::clone(&entry.name);
        if self.refusals.pass((Arc::clone(&service), Reason::SpawnFailed), desk.now) {
            desk.log.write(Event::SpawnFailed { service, peer, step: failure.step.word(), errno: failure.errno });
        }
        if failure.step != Step::Clone {
            return Next::More;
        }
        self.pause(desk, id, entry, Reason::Resources.into(), Some(SHORTAGE));
        Next::Enough
    }

    /// Lends a listener, unless admission has something against it. A datagram whose sender is not to be served is
    /// thrown away here, and the next one looked at.
    pub(super) fn offer(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Rc<Entry>) -> Next {
        let Some(listener) = desk.listeners.get(id) else { return Next::Enough };
        let Ok(sender) = sender_of(listener) else { return Next::Enough };
        let client = sender.map_or(Client::NOBODY, |peer| self.admission.client(entry.id, peer));
        if sender.is_some() {
            self.admission.note_arrival(entry.id, &client, desk.moment());
        }
        match self.admit(desk, entry, &client) {
            Ok(()) => self.lend(desk, id, entry, client),
            Err(refusal) if sender.is_some() && refusal.is_personal() => {
                desk.listeners.get(id).into_iter().for_each(|listener| socket::discard(listener.as_fd()));
                self.refuse(desk, entry, &client, refusal);
                return Next::More;
            }
            Err(refusal) => self.hold(desk, id, entry, refusal),
        }
        Next::Enough
    }

    /// Lends a listener to a handler of its own. One that can't be started is tried again with growing pauses.
    fn lend(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Rc<Entry>, client: Client) {
        desk.listeners.before_lending(id);
        let Some(listener) = desk.listeners.get(id) else { return };
        let (endpoint, local, peer) = (listener.endpoint.clone(), listener.local, Peer::Unknown);
        let to = Connection { endpoint: &endpoint, peer, local, peer_path: None, number: 0 };
        // A copy with a low number: what lies below it is copied for the child.
        let result = match listener.as_fd().try_clone_to_owned() {
            Ok(socket) => self.begin(desk, id, entry, client, socket, to, true).map_err(|(failure, _)| failure),
            Err(error) => Err(Failure { step: Step::Clone, errno: error.raw_os_error().unwrap_or(libc::EMFILE) }),
        };
        match result {
            Ok(ticket) => desk.listeners.lend(desk.poll, id, ticket),
            Err(failure) => {
                self.not_started(desk, id, entry, peer, failure);
                desk.listeners.back_off(desk.poll, id, desk.now);
            }
        }
    }
}

/// The birth of a handler: it has its place before it is started, and is known to the reaper before anything else can
/// happen. Where no process could be made the place is given back at once.
pub(crate) fn start_handler<K: Kernel, Start, Failed>(
    ledger: &mut Ledger,
    reaper: &mut Reaper<K>,
    entry: &Entry,
    now: Duration,
    client: Client,
    lent: Option<ListenerId>,
    spawn: impl FnOnce(&Ledger) -> Result<(i32, K::Handle, Start), Failed>,
) -> Result<(Ticket, i32, Start), Failed> {
    let ticket = ledger.take(client.place(entry.id));
    match spawn(ledger) {
        Ok((pid, handle, start)) => {
            let service = Arc::clone(&entry.name);
            let about = About { service, peer: client.peer, lent, since: now, log: entry.service.log.exit };
            reaper.record(ticket, pid, handle, about, entry.service.lifetime);
            Ok((ticket, pid, start))
        }
        Err(failed) => {
            ledger.cancel(ticket);
            Err(failed)
        }
    }
}

/// The child has become the handler.
pub(crate) fn born<K: Kernel>(ledger: &mut Ledger, reaper: &mut Reaper<K>, ticket: Ticket) {
    reaper.born(ticket);
    ledger.note_start(ticket);
}

/// A child that could not become the handler: it has never been one. Gives the place that it had.
pub(crate) fn stillborn<K: Kernel>(ledger: &mut Ledger, reaper: &mut Reaper<K>, ticket: Ticket) -> Option<Place> {
    reaper.forget(ticket);
    ledger.cancel(ticket).filter(|_| !planted(Bug::StillbornMakesNoRoom))
}

/// In the program that an upgrade has started: takes over a handler of the program before. How a start ended that was
/// not over is not known to us: the process has become a handler, or will be one that fails.
///
/// # Errors
/// Its descriptor is not open.
pub(crate) fn take_over<K: Kernel>(
    ledger: &mut Ledger,
    reaper: &mut Reaper<K>,
    handler: reaper::Carried,
) -> io::Result<()> {
    if !handler.born {
        ledger.note_start(handler.ticket);
    }
    reaper.take_over(handler)
}

fn log_accept(desk: &Desk<'_>, entry: &Entry, client: &Client, pid: i32, (of_source, of_service): (u32, u32)) {
    if !entry.service.log.accept {
        return;
    }
    desk.log.write(Event::Accept {
        service: Arc::clone(&entry.name),
        peer: client.peer,
        pid,
        source_count: Of { count: of_source, limit: entry.service.per_source.instances },
        service_count: Of { count: of_service, limit: entry.service.instances },
    });
}
