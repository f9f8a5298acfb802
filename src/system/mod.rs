//! The real kernel of the dispatcher: Linux with epoll, pidfds and clone(2).
//!
//! The server makes a [`System`], and the dispatcher calls it through [`Kernel`]. It decides nothing and counts
//! nothing. It uses two epoll sets: the server's, in which listeners are polled, and one of its own for processes,
//! which is readable when a handler has ended. Errors are those of the system. Only [`Kernel::wait_for_start`]
//! waits, at most as long as its caller says.

mod connection;
mod open;
pub(crate) mod packet_filter;
mod table_sockets;
mod template;

pub(crate) use open::{ListenerSocket, OpenSocketError};
pub(crate) use template::HandlerTemplate;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use crate::config::{Refuse, Service};
use crate::dispatch::handler::Handler;
use crate::dispatch::kernel::{AcceptError, ConnectionInfo, Kernel, Resources, Sender, Spawned};
use crate::dispatch::reaper::EXIT_BATCH;
use crate::log::{Event, Log};
use crate::net::socket_file::FileIdentity;
use crate::net::{Endpoint, Peer, Transport};
use crate::sys::descriptor::{self, Inheritable, Nofile, SpareDescriptor};
use crate::sys::pidfd;
use crate::sys::poll::{Poll, ReadyList};
use crate::sys::socket::{self, QueuedInput};
use crate::sys::spawn::{Child, PlanError, ProcessState, SpawnSlot};
use crate::sys::{bpf, clock};
use crate::types::{Ended, KillSignal, ListenerId, SpawnFailure, Step, Ticket};

/// The number of unused slots for starts that are kept. If more starts are under way, more slots are made for them.
const IDLE_SLOTS_MAX: usize = 16;

/// The kernel of this machine, with what the dispatcher needs to start and watch handlers.
#[derive(Debug)]
pub(crate) struct System {
    log: Log,
    /// The daemon's epoll set.
    poll: Rc<Poll>,
    /// The epoll set of the handlers' pidfds.
    processes: Poll,
    ended: ReadyList,
    /// Slots in which no start is under way.
    slots: Vec<SpawnSlot>,
    /// Closed to accept one client when there are no descriptors left.
    spare: SpareDescriptor,
    nofile: Nofile,
    /// The state of this process that handlers inherit.
    state: ProcessState,
    /// Sockets from the service manager that no table has claimed yet.
    passed: Vec<OwnedFd>,
}

impl System {
    /// A system that polls no listener and watches no process yet.
    ///
    /// # Errors
    /// No descriptors or memory.
    pub(crate) fn new(
        log: Log,
        poll: Rc<Poll>,
        nofile: Nofile,
        state: ProcessState,
        passed: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let (processes, ended) = (Poll::new()?, ReadyList::new(EXIT_BATCH));
        let (slots, spare) = (vec![SpawnSlot::new()?], SpareDescriptor::new()?);
        Ok(Self { log, poll, processes, ended, slots, spare, nofile, state, passed })
    }

    /// The state of this process that handlers inherit.
    pub(crate) fn state(&self) -> &ProcessState {
        &self.state
    }

    /// Reads again the state of this process that other programs may have changed.
    pub(crate) fn refresh_state(&mut self) {
        self.state.refresh();
    }

    /// Prepares the handlers of a service.
    ///
    /// # Errors
    /// The settings of the service make no plan.
    pub(crate) fn template(&self, service: &Service) -> Result<HandlerTemplate, PlanError> {
        HandlerTemplate::new(service, self.nofile, &self.state)
    }

    /// Closes the sockets from the service manager that no service has claimed, and returns their number.
    pub(crate) fn close_unclaimed(&mut self) -> usize {
        std::mem::take(&mut self.passed).len()
    }

    fn keep_slot(&mut self, slot: SpawnSlot) {
        if self.slots.len() < IDLE_SLOTS_MAX {
            self.slots.push(slot);
        }
    }
}

/// Readable while a handler has ended and has not been reaped.
impl AsFd for System {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.processes.as_fd()
    }
}

impl Resources for System {
    type Socket = ListenerSocket;
    type Connection = Inheritable;
    type Process = Inheritable;
    type Start = SpawnSlot;
    type Template = HandlerTemplate;
    type Backlog = QueuedInput;
}

/// The same resources as plain values, for a program that only checks whether it can read a state.
#[derive(Debug)]
pub(crate) struct Preview;

impl Resources for Preview {
    type Socket = ListenerSocket<RawFd, FileIdentity>;
    type Connection = RawFd;
    type Process = RawFd;
    type Start = ();
    type Template = ();
    type Backlog = ();
}

/// The descriptors in a handler's record, which must stay open over the execve(2) of an upgrade.
pub(crate) fn descriptors_of(handler: &Handler<System>) -> impl Iterator<Item = BorrowedFd<'_>> {
    handler.hand_back.iter().chain([&handler.process]).map(AsFd::as_fd)
}

impl Kernel for System {
    fn clock(&self) -> Duration {
        clock::monotonic()
    }

    fn log(&self, event: Event) {
        self.log.write(event);
    }

    fn poll(&mut self, socket: &ListenerSocket, id: ListenerId) -> io::Result<()> {
        // A handler that had the socket may have made it blocking, and an accept that blocks would stop the whole
        // daemon.
        let _ = descriptor::set_nonblocking(socket.as_fd(), true);
        self.poll.add(socket, id.number())
    }

    fn stop_polling(&mut self, socket: &ListenerSocket) {
        // An open descriptor that is in the set can be removed.
        let _ = self.poll.remove(socket);
    }

    fn change_options(
        &mut self,
        socket: &mut ListenerSocket,
        endpoint: &Endpoint,
        service: &Service,
    ) -> Result<(), &'static str> {
        socket.change_options(endpoint, service).map_err(Errno::desc)
    }

    fn fixed_address(&self, socket: &ListenerSocket) -> Option<SocketAddr> {
        socket.fixed_address()
    }

    fn accept(&mut self, socket: &ListenerSocket) -> Result<(Inheritable, Peer), AcceptError> {
        let accepted = socket::accept(socket.as_fd()).map_err(|error| accept_error(&error))?;
        if socket.filtered {
            bpf::detach_program(&accepted.socket);
        }
        let peer = connection::identify_peer(&accepted);
        Ok((Inheritable(accepted.socket), peer))
    }

    fn reset_one(&mut self, socket: &ListenerSocket) -> bool {
        let reset = |accepted: socket::Accepted| connection::refuse_client(&accepted.socket, &Refuse::Reset);
        self.spare.close_during(|| socket::accept(socket.as_fd()).map(reset).is_ok())
    }

    fn sender(&mut self, socket: &ListenerSocket, endpoint: &Endpoint) -> Sender {
        if !matches!(endpoint, Endpoint::Inet { transport: Transport::Udp, .. }) {
            return Sender::Unknown;
        }
        match socket::peek_sender(socket.as_fd()) {
            Ok(Some(address)) => Sender::Known(Peer::Inet(address.ip().to_canonical(), address.port())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sender::NoDatagram,
            Ok(None) | Err(_) => Sender::Unknown,
        }
    }

    fn discard_datagram(&mut self, socket: &ListenerSocket) {
        socket::discard_datagram(socket.as_fd());
    }

    fn lend(&mut self, socket: &ListenerSocket) -> Result<(Inheritable, Option<QueuedInput>), SpawnFailure> {
        let before = QueuedInput::of_socket(socket.as_fd());
        let _ = descriptor::set_nonblocking(socket.as_fd(), false);
        // A copy with a low number: the child copies all descriptors below it.
        match socket.as_fd().try_clone_to_owned() {
            Ok(copy) => Ok((Inheritable(copy), before)),
            Err(error) => Err(SpawnFailure { step: Step::Clone, errno: error.raw_os_error().unwrap_or(libc::EMFILE) }),
        }
    }

    fn is_untouched(&mut self, socket: &ListenerSocket, before: &QueuedInput) -> bool {
        QueuedInput::of_socket(socket.as_fd()).is_some_and(|now| now.still_holds(before))
    }

    fn local_address(&self, connection: &Inheritable, endpoint: &Endpoint) -> Option<SocketAddr> {
        connection::local_address(endpoint, &connection.0)
    }

    fn send(&mut self, connection: &Inheritable, text: &[u8]) {
        connection::send_text(&connection.0, text);
    }

    fn refuse(&mut self, connection: Inheritable, how: &Refuse) {
        connection::refuse_client(&connection.0, how);
    }

    fn copy(&mut self, connection: &Inheritable) -> Option<Inheritable> {
        descriptor::copy_high(connection.as_fd()).ok().map(Inheritable)
    }

    fn take_mux_request(&mut self, connection: &Inheritable) -> Option<String> {
        connection::take_mux_request(&connection.0)
    }

    fn refuse_mux(&mut self, connection: Inheritable, how: &Refuse) {
        connection::refuse_mux(&connection.0, how);
    }

    fn has_slot(&mut self) -> bool {
        if self.slots.is_empty() {
            self.slots.extend(SpawnSlot::new());
        }
        !self.slots.is_empty()
    }

    fn spawn(
        &mut self,
        template: &HandlerTemplate,
        connection: Inheritable,
        to: &ConnectionInfo<'_>,
    ) -> Result<Spawned<Inheritable, SpawnSlot>, (SpawnFailure, Inheritable)> {
        let Some(mut start) = self.slots.pop() else {
            return Err((SpawnFailure { step: Step::Clone, errno: libc::ENOMEM }, connection));
        };
        let peer_path = matches!(to.peer, Peer::Unix { .. }).then(|| connection::peer_path(&connection.0)).flatten();
        let fill = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&template.env);
            template::describe_connection(bytes, to, peer_path.as_deref());
        };
        match start.spawn(&template.plan, connection.0, fill) {
            Ok(Child { pid, pidfd }) => Ok(Spawned { pid, process: Inheritable(pidfd), start }),
            Err((failure, connection)) => {
                self.keep_slot(start);
                Err((failure, Inheritable(connection)))
            }
        }
    }

    fn wait_for_start(&mut self, start: &SpawnSlot, limit: Duration) -> bool {
        if limit.is_zero() { start.has_exec_or_exited() } else { start.wait_for_exec(limit) }
    }

    fn finish_start(&mut self, mut start: SpawnSlot) -> Option<(SpawnFailure, Inheritable)> {
        let (connection, failure) = start.finish()?;
        self.keep_slot(start);
        failure.map(|failure| (failure, Inheritable(connection)))
    }

    fn watch(&mut self, process: &Inheritable, ticket: Ticket) -> io::Result<()> {
        self.processes.add(process, ticket.number())
    }

    fn ended(&mut self, found: &mut Vec<Ticket>) {
        if self.processes.try_wait(&mut self.ended).is_ok() {
            found.extend(self.ended.numbers().map(Ticket::from_number));
        }
    }

    fn collect(&mut self, process: &Inheritable) -> io::Result<Option<Ended>> {
        pidfd::try_reap(&process.0)
    }

    fn reap_failed_child(&mut self, process: &Inheritable) {
        // This takes microseconds: the child is in _exit(2) already. If it has been reaped elsewhere, nothing is
        // left to do.
        let _ = pidfd::reap_blocking(&process.0);
    }

    fn signal_group(&mut self, pid: i32, signal: KillSignal) {
        let number = match signal {
            KillSignal::Term => libc::SIGTERM,
            KillSignal::Kill => libc::SIGKILL,
        };
        // A group that has gone needs no signal, and one that we may not signal can't be helped.
        let _ = pidfd::signal_group(pid, number);
    }

    fn next_ended_child(&mut self) -> Option<i32> {
        pidfd::find_ended_child()
    }

    fn reap_orphan(&mut self, pid: i32) {
        pidfd::reap_orphan(pid);
    }
}

/// Distinguishes errors of the one connection from errors of the daemon (accept(2), "Error handling").
fn accept_error(error: &io::Error) -> AcceptError {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EAGAIN => AcceptError::NobodyWaits,
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
        | Errno::EPERM => AcceptError::BrokenConnection,
        _ => AcceptError::Shortage,
    }
}
