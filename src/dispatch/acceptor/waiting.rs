//! Which listeners are left alone until there is room for one more handler.
//!
//! The acceptor alone uses this. It only remembers; who asks whether there is room, and pauses and resumes, is the
//! acceptor. A listener may be named that has gone meanwhile.

use std::collections::HashMap;

use crate::dispatch::listeners::ListenerId;
use crate::types::{Reason, ServiceId};

/// Those listeners.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Until their service has fewer handlers.
    full: HashMap<ServiceId, Vec<ListenerId>>,
    /// Until the daemon has fewer handlers.
    crowded: Vec<ListenerId>,
}

impl Waiting {
    /// A listener of a service is left alone for this reason. Those that have nothing to do with room are not noted.
    pub(crate) fn add(&mut self, reason: Reason, service: ServiceId, listener: ListenerId) {
        match reason {
            Reason::ServiceInstances => self.full.entry(service).or_default().push(listener),
            Reason::DaemonInstances => self.crowded.push(listener),
            _ => {}
        }
    }

    /// A handler of this service is gone, and the daemon as a whole has room or not: gives those that need wait no
    /// longer.
    pub(crate) fn made_room(&mut self, service: ServiceId, in_daemon: bool) -> Vec<ListenerId> {
        let mut listeners = self.full.remove(&service).unwrap_or_default();
        if in_daemon {
            listeners.append(&mut self.crowded);
        }
        listeners
    }

    /// All have been resumed.
    pub(crate) fn clear(&mut self) {
        self.full.clear();
        self.crowded.clear();
    }
}
