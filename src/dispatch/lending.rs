//! `wait` services: the listening socket itself is lent to one handler, which accepts or reads for itself.
//!
//! The acceptor offers a socket when a client waits, and the reaper takes it back. The handler may have shared the socket with
//! others, so nothing is believed of it: it is made non-blocking again before it is polled, and a handler that ends at once
//! without taking anything makes the listener back off. Nothing here waits or fails.

use std::rc::Rc;
use std::time::Duration;

use super::Dispatcher;
use super::acceptor::Next;
use super::kernel::{Kernel, Sender};
use super::listeners::ListenerId;
use super::service::Served;
use super::spawner::{NewHandler, Role};
use crate::admission::Client;
use crate::net::Peer;
use crate::types::{Ended, Ending, Reason, Ticket};

/// A handler that lived for as long as this has done something, whatever it left in the socket.
const IDLE_LOAN_MAX: Duration = Duration::from_secs(1);

/// A handler that ended well after as long as this is believed to have done its work.
const BELIEVED_AFTER: Duration = Duration::from_millis(50);

impl<K: Kernel> Dispatcher<K> {
    /// Lends a listener, unless admission refuses. A datagram whose sender is refused is discarded here, and the next one
    /// looked at.
    pub(super) fn offer_socket(&mut self, id: ListenerId, served: &Rc<Served<K>>) -> Next {
        let Some(listener) = self.listeners.get(id) else { return Next::Enough };
        let sender = match self.kernel.sender(&listener.socket, &listener.endpoint) {
            Sender::NoDatagram => return Next::Enough,
            Sender::Known(peer) => Some(peer),
            Sender::Unknown => None,
        };
        let client = sender.map_or(Client::NOBODY, |peer| self.admission.client(served.id, peer));
        if sender.is_some() {
            self.admission.note_arrival(served.id, &client, self.now);
        }
        match self.admit(served, &client) {
            Ok(()) => self.lend_socket(id, served, client),
            Err(refusal) if sender.is_some() && refusal.is_personal() => {
                if let Some(listener) = self.listeners.get(id) {
                    self.kernel.discard_datagram(&listener.socket);
                }
                self.note_refusal(served, &client, refusal);
                return Next::More;
            }
            Err(refusal) => self.leave_waiting(id, served, refusal),
        }
        Next::Enough
    }

    /// Lends a listener to a handler of its own. One that can't be started is tried again with growing pauses.
    fn lend_socket(&mut self, id: ListenerId, served: &Rc<Served<K>>, client: Client) {
        let Some(listener) = self.listeners.get(id) else { return };
        let origin = listener.origin(id);
        let started = self.kernel.lend(&listener.socket).and_then(|(copy, before)| {
            let (served, role) = (Rc::clone(served), Role::Lent { before });
            self.begin_start(NewHandler { origin, served, client, role }, copy).map_err(|(failure, _)| failure)
        });
        if let Err(failure) = started {
            self.note_spawn_failure(id, served, Peer::Unknown, failure);
            self.back_off(id);
        }
    }

    /// A handler that had been lent a socket has ended.
    pub(super) fn take_back_after(&mut self, id: ListenerId, ticket: Ticket, lived: Duration, ended: Option<Ended>) {
        let failed = ended.is_none_or(|ended| ended.ending != Ending::Exited(0));
        let believed = !failed && lived > BELIEVED_AFTER;
        let delay = self.take_back(id, ticket, |kernel, socket, before| {
            // New arrivals can hide that something was taken.
            lived < IDLE_LOAN_MAX && !believed && before.is_some_and(|before| kernel.is_untouched(socket, before))
        });
        if delay.is_some() {
            self.log_pause(id, Reason::Backoff, delay);
        }
    }
}
