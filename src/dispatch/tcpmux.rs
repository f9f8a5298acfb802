//! Connections that a handler of `tcpmux` hands back, because their clients want another service (RFC 1078).
//!
//! The record of such a handler has a copy of its connection. If the handler's exit status says so, the client's request is
//! the next thing to be read, and the kernel reads it without waiting. Then the client is judged like any other that comes
//! to the service that it names. It has been accepted already, so where others would wait in a queue it is refused. The
//! reaper calls this; nothing here fails.

use std::rc::Rc;

use super::Dispatcher;
use super::handler::Origin;
use super::kernel::Kernel;
use super::service::Served;
use crate::config::Refuse;
use crate::limits::penalty::Cause;
use crate::net::Peer;
use crate::types::ServiceId;

/// What a client of `tcpmux` reaches under a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct MuxTarget {
    service: ServiceId,
    /// Is the client told here that it may go on?
    plus: bool,
}

/// The names by which clients of `tcpmux` can ask for a service.
pub(super) fn names<K: Kernel>(served: &Served<K>) -> impl Iterator<Item = (String, MuxTarget)> + '_ {
    let service = served.id;
    served.config.tcpmux.iter().map(move |name| (name.name.clone(), MuxTarget { service, plus: name.plus }))
}

impl<K: Kernel> Dispatcher<K> {
    /// Admits a client to the service that it has asked for, or refuses it.
    pub(super) fn pass_on(&mut self, origin: Origin, peer: Peer, connection: K::Connection) {
        let target = self.kernel.take_mux_request(&connection).and_then(|name| self.mux_targets.get(&name).copied());
        // A reload may have taken the service away since the handler was started.
        let served = target.and_then(|target| self.services.get(&target.service).cloned());
        let Some((MuxTarget { plus, .. }, served)) = target.zip(served) else {
            return self.kernel.refuse_mux(connection, &Refuse::Close);
        };
        self.judge_handed_back(origin, peer, &served, connection, plus);
    }

    fn judge_handed_back(
        &mut self,
        origin: Origin,
        peer: Peer,
        served: &Rc<Served<K>>,
        connection: K::Connection,
        plus: bool,
    ) {
        let client = self.admission.client(served.id, peer);
        match self.admit(served, &client) {
            Ok(()) => {
                self.charge(served, client.peer, Some(Cause::Trap));
                if plus {
                    self.kernel.send(&connection, b"+Go\r\n");
                }
                self.start_for(origin, served, connection, client);
            }
            Err(refusal) => {
                self.kernel.refuse_mux(connection, &served.config.refuse);
                self.note_refusal(served, &client, refusal);
            }
        }
    }
}
