//! The one record of a handler's life, from before its process exists until its exit is settled.
//!
//! The dispatcher alone has these, one for each ticket of the ledger. Values; nothing here fails.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::kernel::Resources;
use super::listeners::ListenerId;
use super::service::Served;
use crate::admission::Client;
use crate::builtin::PASS_ON;
use crate::net::{Endpoint, Peer};
use crate::types::{Ended, Ending, KillSignal, Ticket};

/// Where a connection was accepted, or which socket is lent. It outlives the listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The listener.
    pub listener: ListenerId,
    /// Its endpoint.
    pub endpoint: Rc<Endpoint>,
    /// The listener's local address, where it is bound to one.
    pub local: Option<SocketAddr>,
}

/// A live handler, or a process that is about to become one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Handler<R: Resources> {
    /// The service's name.
    pub service: Arc<str>,
    /// The client; nobody in particular for a `wait` service.
    pub peer: Peer,
    /// Where the client came, or the socket that is lent.
    pub origin: Origin,
    /// Has it been lent the listening socket itself?
    pub lent: bool,
    /// Its process id, for the log and for signals to its group.
    pub pid: i32,
    /// Its process.
    pub process: R::Process,
    /// When it was started, on the monotonic clock.
    pub since: Duration,
    /// Is its exit to be logged?
    pub log_exit: bool,
    /// How far its life has come.
    pub phase: Phase<R>,
    /// When to send which signal, if it lives that long.
    pub deadline: Option<(Duration, KillSignal)>,
    /// A copy of the connection, which a handler of `tcpmux` may hand back.
    pub hand_back: Option<R::Connection>,
}

impl<R: Resources> Handler<R> {
    /// Is its exit on the queue?
    #[must_use]
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The connection that a handler of `tcpmux` hands back by its exit status, which is then taken for a good end.
    pub(super) fn take_handed_back(&mut self, exit: &mut Exit) -> Option<R::Connection> {
        let connection = self.hand_back.take()?;
        let ended = exit.ended.as_mut().filter(|ended| ended.ending == Ending::Exited(PASS_ON.into()))?;
        ended.ending = Ending::Exited(0);
        Some(connection)
    }
}

/// How far the life of a handler has come.
pub(crate) enum Phase<R: Resources> {
    /// Its child has not called execve(2) yet, and may fail to.
    Starting(Box<Starting<R>>),
    /// It was being started when an upgrade took place. Nobody will tell how that start went, so it counts as a handler.
    StartedUnseen,
    /// It serves.
    Running,
    /// It has ended and been collected; its exit is on the queue.
    Ended,
}

/// What is needed to see a start through.
pub(crate) struct Starting<R: Resources> {
    /// The start.
    pub start: R::Start,
    /// Its service.
    pub served: Rc<Served<R>>,
    /// Its client.
    pub client: Client,
    /// Handlers of the source and of the service, this one included; for the log.
    pub counts: (u32, u32),
}

impl<R: Resources> fmt::Debug for Phase<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting(_) => "Starting",
            Self::StartedUnseen => "StartedUnseen",
            Self::Running => "Running",
            Self::Ended => "Ended",
        })
    }
}

/// For an upgrade: is the start over? There is no exit on the queue then.
impl<R: Resources> Serialize for Phase<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(!matches!(self, Self::Starting(_) | Self::StartedUnseen))
    }
}

impl<'de, R: Resources> Deserialize<'de> for Phase<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let running = bool::deserialize(deserializer)?;
        Ok(if running { Self::Running } else { Self::StartedUnseen })
    }
}

/// A handler's end, as it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    /// The place that it held.
    pub ticket: Ticket,
    /// How it ended; `None` if somebody else has collected it.
    pub ended: Option<Ended>,
    /// When that was found, on the monotonic clock.
    pub at: Duration,
}
