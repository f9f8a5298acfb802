//! From an admitted client to a running handler, on the books from before it is started.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::connection::{local_of, path_of, send_banner, turn_away};
use super::{Acceptor, Desk, Entry, Next, SHORTAGE};
use crate::admission::Client;
use crate::ledger::{Ledger, Ticket};
use crate::listeners::ListenerId;
use crate::log::{Event, Of, Reason};
use crate::reaper::{About, Kernel, Reaper};
use crate::source::Peer;
use crate::spawner::Connection;
use crate::sys::exec::{Failure, Step};

impl Acceptor {
    /// Starts the handler of an admitted connection.
    pub(super) fn start(
        &mut self,
        desk: &mut Desk<'_>,
        id: ListenerId,
        entry: &Entry,
        connection: &OwnedFd,
        client: Client,
    ) -> Next {
        let peer = client.peer;
        let Some(listener) = desk.listeners.get(id) else { return Next::Enough };
        send_banner(connection, &entry.service.banner);
        let peer_path = matches!(peer, Peer::Unix { .. }).then(|| path_of(connection)).flatten();
        let local = listener.local.or_else(|| local_of(&listener.endpoint, connection));
        let spawner = &mut self.spawner;
        let result = start_handler(desk.ledger, desk.reaper, entry, desk.now, client, None, |ledger| {
            let number = ledger.source_count(entry.id, client.source);
            let endpoint = &listener.endpoint;
            let to = Connection {
                socket: connection.as_fd(),
                endpoint,
                peer,
                local,
                peer_path: peer_path.as_deref(),
                number,
            };
            spawner.start(&entry.service, &entry.recipe, &to).map(|child| (child.pid, child.pidfd))
        });
        match result {
            Ok((_, pid)) => {
                log_accept(desk, entry, &client, pid);
                Next::More
            }
            Err(failure) => {
                turn_away(connection, &entry.service.refuse);
                self.not_started(desk, id, entry, peer, failure)
            }
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

    /// Lends a listener, unless admission has something against it.
    pub(super) fn offer(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Entry) {
        match self.admit(desk, entry, &Client::NOBODY) {
            Ok(()) => self.lend(desk, id, entry),
            Err(refusal) => self.hold(desk, id, entry, refusal),
        }
    }

    /// Lends a listener to a handler of its own. One that can't be started is tried again with growing pauses.
    fn lend(&mut self, desk: &mut Desk<'_>, id: ListenerId, entry: &Entry) {
        desk.listeners.before_lending(id);
        let Some(listener) = desk.listeners.get(id) else { return };
        let spawner = &mut self.spawner;
        let result = start_handler(desk.ledger, desk.reaper, entry, desk.now, Client::NOBODY, Some(id), |_| {
            let to = Connection {
                socket: listener.as_fd(),
                endpoint: &listener.endpoint,
                peer: Peer::Unknown,
                local: listener.local,
                peer_path: None,
                number: 0,
            };
            spawner.start(&entry.service, &entry.recipe, &to).map(|child| (child.pid, child.pidfd))
        });
        match result {
            Ok((ticket, pid)) => {
                desk.listeners.lend(desk.poll, id, ticket);
                log_accept(desk, entry, &Client::NOBODY, pid);
            }
            Err(failure) => {
                self.not_started(desk, id, entry, Peer::Unknown, failure);
                desk.listeners.back_off(desk.poll, id, desk.now);
            }
        }
    }
}

/// The birth of a handler: it has its place before it is started, and is known to the reaper before anything else can
/// happen. A start that fails gives the place back at once.
pub(crate) fn start_handler<K: Kernel>(
    ledger: &mut Ledger,
    reaper: &mut Reaper<K>,
    entry: &Entry,
    now: Duration,
    client: Client,
    lent: Option<ListenerId>,
    spawn: impl FnOnce(&Ledger) -> Result<(i32, K::Handle), Failure>,
) -> Result<(Ticket, i32), Failure> {
    let ticket = ledger.take(client.place(entry.id));
    match spawn(ledger) {
        Ok((pid, handle)) => {
            let service = Arc::clone(&entry.name);
            let about = About { service, peer: client.peer, lent, since: now, log: entry.service.log.exit };
            reaper.record(ticket, pid, handle, about, entry.service.lifetime);
            Ok((ticket, pid))
        }
        Err(failure) => {
            ledger.cancel(ticket);
            Err(failure)
        }
    }
}

fn log_accept(desk: &Desk<'_>, entry: &Entry, client: &Client, pid: i32) {
    if !entry.service.log.accept {
        return;
    }
    let source_count = desk.ledger.source_count(entry.id, client.source);
    desk.log.write(Event::Accept {
        service: Arc::clone(&entry.name),
        peer: client.peer,
        pid,
        source_count: Of { count: source_count, limit: entry.service.per_source.instances },
        service_count: Of { count: desk.ledger.service_count(entry.id), limit: entry.service.instances },
    });
}
