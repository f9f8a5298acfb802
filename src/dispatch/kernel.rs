//! What the dispatcher asks of the system.
//!
//! [`Dispatcher`](super::Dispatcher) holds the order of calls and makes no system call itself; all of them go through
//! this trait. [`crate::system`] implements it for the real kernel, and the model test for one with four process ids, so
//! that the order that is proved is the order that ships. No call may block, and none may panic.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::listeners::ListenerId;
use crate::config::{Refuse, Service};
use crate::log::Event;
use crate::net::{Endpoint, Peer};
use crate::types::{Ended, KillSignal, SpawnFailure, Ticket};

/// What a system's things are to the dispatcher: it keeps them, and gives them back to the [`Kernel`].
pub(crate) trait Resources: Sized {
    /// An open listening socket, with whatever must be undone when it is closed. It is serialized for an upgrade.
    type Socket: Debug + Serialize + DeserializeOwned;
    /// An accepted connection, or a copy of a listening socket that is lent.
    type Connection: Debug + Serialize + DeserializeOwned;
    /// A process that was started.
    type Process: Debug + Serialize + DeserializeOwned;
    /// A start that is under way.
    type Start: Debug;
    /// What all handlers of a service have in common, made once when a table comes into force.
    type Template: Debug;
    /// What waited in a socket when it was lent.
    type Backlog: Debug;
}

/// A system on which handlers run.
pub(crate) trait Kernel: Resources {
    /// The monotonic clock.
    fn clock(&self) -> Duration;

    /// Writes an event to the log, without waiting.
    fn log(&self, event: Event);

    /// Reports the socket under the number of its listener from now on, when a client waits. A socket that comes back from
    /// a handler is made non-blocking again.
    ///
    /// # Errors
    /// No memory.
    fn poll(&mut self, socket: &Self::Socket, id: ListenerId) -> io::Result<()>;

    /// Ends what [`Kernel::poll`] began.
    fn stop_polling(&mut self, socket: &Self::Socket);

    /// Gives a socket that stays open over a reload the options of the new table.
    ///
    /// # Errors
    /// What the kernel refused; the socket keeps its old options.
    fn change_options(
        &mut self,
        socket: &mut Self::Socket,
        endpoint: &Endpoint,
        service: &Service,
    ) -> Result<(), &'static str>;

    /// The local address of every connection of this socket; `None` where connections differ.
    fn fixed_address(&self, socket: &Self::Socket) -> Option<SocketAddr>;

    /// Accepts one client.
    ///
    /// # Errors
    /// There is none to be had, see [`AcceptError`].
    fn accept(&mut self, socket: &Self::Socket) -> Result<(Self::Connection, Peer), AcceptError>;

    /// Accepts one client by the descriptor that is kept for this, and resets the connection. `false` if even that was not
    /// possible.
    fn reset_one(&mut self, socket: &Self::Socket) -> bool;

    /// The sender of the first datagram that waits.
    fn sender(&mut self, socket: &Self::Socket, endpoint: &Endpoint) -> Sender;

    /// Throws the first datagram away.
    fn discard_datagram(&mut self, socket: &Self::Socket);

    /// Makes a socket ready for a handler that accepts or reads for itself: a blocking copy, and what waits in it.
    ///
    /// # Errors
    /// No descriptor for the copy.
    fn lend(&mut self, socket: &Self::Socket) -> Result<(Self::Connection, Option<Self::Backlog>), SpawnFailure>;

    /// Is everything still there that waited in a socket when it was lent, as far as one can see?
    fn is_untouched(&mut self, socket: &Self::Socket, before: &Self::Backlog) -> bool;

    /// Our address of a connection, for Internet sockets.
    fn local_address(&self, connection: &Self::Connection, endpoint: &Endpoint) -> Option<SocketAddr>;

    /// Sends a text to a client, as far as its socket takes it at once.
    fn send(&mut self, connection: &Self::Connection, text: &[u8]);

    /// Refuses a client, and closes its connection.
    fn refuse(&mut self, connection: Self::Connection, how: &Refuse);

    /// A second descriptor of a connection, for a handler that may hand it back; `None` if there is none to be had.
    fn copy(&mut self, connection: &Self::Connection) -> Option<Self::Connection>;

    /// Takes the name of the wanted service from a connection that a handler of `tcpmux` has handed back.
    fn take_mux_request(&mut self, connection: &Self::Connection) -> Option<String>;

    /// Refuses a client of `tcpmux`, and closes its connection.
    fn refuse_mux(&mut self, connection: Self::Connection, how: &Refuse);

    /// Is there memory to start one more handler from?
    fn has_slot(&mut self) -> bool;

    /// Begins to start a handler with this connection. How it went is told by [`Kernel::finish_start`].
    ///
    /// # Errors
    /// No process could be made; the connection comes back.
    #[expect(clippy::type_complexity, reason = "a started process, or the connection back")]
    fn spawn(
        &mut self,
        template: &Self::Template,
        connection: Self::Connection,
        to: &ConnectionInfo<'_>,
    ) -> Result<Spawned<Self::Process, Self::Start>, (SpawnFailure, Self::Connection)>;

    /// Waits until a start is over, but no longer than `limit`. Is it over?
    fn wait_for_start(&mut self, start: &Self::Start, limit: Duration) -> bool;

    /// The end of a start that is over: `None` if the child has become the handler, else why not, and the connection.
    fn finish_start(&mut self, start: Self::Start) -> Option<(SpawnFailure, Self::Connection)>;

    /// From now on tells when this process has ended.
    ///
    /// # Errors
    /// No memory.
    fn watch(&mut self, process: &Self::Process, ticket: Ticket) -> io::Result<()>;

    /// Appends the tickets of watched processes that have ended, at most [`EXIT_BATCH`](super::reaper::EXIT_BATCH) of them.
    /// Those that are not collected are found again by the next call.
    fn ended(&mut self, found: &mut Vec<Ticket>);

    /// Collects a process that has ended; `None` if it still runs.
    ///
    /// # Errors
    /// Somebody else has collected it.
    fn collect(&mut self, process: &Self::Process) -> io::Result<Option<Ended>>;

    /// Collects a child that failed to become a handler and is in _exit(2) already.
    fn reap_failed_child(&mut self, process: &Self::Process);

    /// Sends a signal to the process group of a process that has not been collected.
    fn signal_group(&mut self, pid: i32, signal: KillSignal);

    /// As process 1: the id of a child that has ended, whether it is a handler or an orphan that was inherited. It is
    /// reported until it has been collected.
    fn next_ended_child(&mut self) -> Option<i32>;

    /// Collects an orphan.
    fn reap_orphan(&mut self, pid: i32);
}

/// Why nobody was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nobody waits.
    NobodyWaits,
    /// The connection that waited is broken; the next one may be fine (accept(2), "Error handling").
    BrokenConnection,
    /// No descriptors or memory.
    Shortage,
}

/// Who sent the first datagram that waits in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// This client.
    Known(Peer),
    /// It cannot be known: the socket is none of Internet datagrams.
    Unknown,
    /// No datagram waits after all, for instance because its checksum was wrong.
    NoDatagram,
}

/// What a handler is told of its connection, or of the listening socket of a `wait` service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionInfo<'a> {
    /// Where it was accepted.
    pub endpoint: &'a Endpoint,
    /// The other end.
    pub peer: Peer,
    /// Our end, for Internet sockets.
    pub local: Option<SocketAddr>,
    /// How many handlers this source has in the service, this one included.
    pub source_count: u32,
}

/// A process that is on its way to become a handler.
#[derive(Debug)]
pub(crate) struct Spawned<P, S> {
    /// Its process id; for the log and for signals to its group.
    pub pid: i32,
    /// By what the kernel knows it.
    pub process: P,
    /// Its start.
    pub start: S,
}
