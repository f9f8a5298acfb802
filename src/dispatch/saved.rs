//! The dispatcher's state as an upgrade hands it to the next program: the live records themselves, without mirrors.
//!
//! [`Dispatcher::save`] borrows them for serialization, [`Dispatcher::restore`] takes the owned form that the next program
//! has read. Counts are not carried; they are worked out anew from the places, so that they are exact in the new program
//! whatever they were in the old one. Sockets and processes are descriptors of the process, which stays the same.

use std::collections::{HashMap, TryReserveError};

use serde::{Deserialize, Serialize};

use super::Dispatcher;
use super::handler::{Handler, Phase};
use super::kernel::Kernel;
use super::listeners::Listeners;
use crate::admission;
use crate::limits::ledger::Ledger;
use crate::types::{Now, Ticket};

/// The state: borrowed from a dispatcher where it is written, owned where it is read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State<L, H, S> {
    ledger: L,
    handlers: H,
    listeners: S,
    admission: admission::Carried,
}

/// The state as it is written.
pub(crate) type Saved<'a, R> = State<&'a Ledger, &'a HashMap<Ticket, Handler<R>>, &'a Listeners<R>>;

/// The state as it is read.
pub(crate) type Restored<R> = State<Ledger, HashMap<Ticket, Handler<R>>, Listeners<R>>;

impl<K: Kernel> Dispatcher<K> {
    /// Makes the state one that can be handed over: no start is under way that could be seen through in a moment. The exit
    /// queue is empty since the turn has begun.
    pub(crate) fn settle_for_upgrade(&mut self) {
        self.finish_all_starts();
    }

    /// The state for the next program.
    #[must_use]
    pub(crate) fn save(&self) -> Saved<'_, K> {
        State {
            ledger: &self.ledger,
            handlers: &self.handlers,
            listeners: &self.listeners,
            admission: self.admission.carry(self.now),
        }
    }

    /// In the next program, before a table is put in force: goes on with the state of the program before it. How a start ended
    /// that was not over is not known to us: its process counts as a handler, and is one or will end.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn restore(&mut self, state: Restored<K>, now: Now) -> Result<(), TryReserveError> {
        let State { ledger, handlers, listeners, admission } = state;
        self.now = now;
        self.ledger = ledger.recounted();
        self.listeners = listeners;
        self.admission.take_over(admission, now)?;
        for (ticket, mut handler) in handlers {
            if matches!(handler.phase, Phase::StartedUnseen) {
                self.ledger.note_start(ticket);
                handler.phase = Phase::Running;
            }
            self.watch_handler(ticket, handler);
        }
        Ok(())
    }
}
