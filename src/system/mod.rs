//! The real kernel, as the dispatcher sees it: Linux by epoll, pidfds and clone(2).
//!
//! [`System`] implements [`Kernel`] and opens sockets ([`open`]); it decides nothing and counts nothing. The server makes it
//! and looks after the two epoll sets: its own, in which listeners are polled, and the one of processes, which is readable
//! when a handler has ended. No call blocks but [`Kernel::wait_for_start`], for as long as it is told.

mod connection;
mod open;
pub mod packet_filter;
mod template;

pub use open::{OpenError, Socket};
pub use template::{HandlerTemplate, PATH};

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use crate::config::{Refuse, Service};
use crate::dispatch::handler::Handler;
use crate::dispatch::kernel::{AcceptError, ConnectionInfo, Kernel, Resources, Sender, Spawned};
use crate::dispatch::listeners::ListenerId;
use crate::dispatch::reaper::EXIT_BATCH;
use crate::log::{Event, Log};
use crate::net::socket_file::FileIdentity;
use crate::net::{Endpoint, Peer, Transport};
use crate::sys::descriptor::{self, Inheritable, Nofile, SpareDescriptor};
use crate::sys::exec::{Child, Start};
use crate::sys::pidfd;
use crate::sys::poll::{Poll, ReadyList};
use crate::sys::socket::{self, QueuedInput};
use crate::sys::{bpf, clock};
use crate::types::{Ended, KillSignal, SpawnFailure, Step, Ticket};

/// So many slots for starts are kept, to be used again; where more are under way, others are made for them.
const SLOTS_KEPT: usize = 16;

/// Linux.
#[derive(Debug)]
pub struct System {
    log: Log,
    /// The daemon's epoll set.
    poll: Rc<Poll>,
    /// Processes, in an epoll set of their own.
    processes: Poll,
    ended: ReadyList,
    /// Slots in which no start is under way.
    slots: Vec<Start>,
    /// For accepting one client when there are no descriptors left.
    spare: SpareDescriptor,
    nofile: Nofile,
    /// The signals that the daemon catches or ignores, which handlers get back.
    signals: Vec<i32>,
    /// Sockets from the service manager that no table has claimed yet.
    passed: Vec<OwnedFd>,
}

impl System {
    /// Nothing is polled or watched yet.
    ///
    /// # Errors
    /// No descriptors or memory.
    pub fn new(log: Log, poll: Rc<Poll>, nofile: Nofile, signals: Vec<i32>, passed: Vec<OwnedFd>) -> io::Result<Self> {
        let (processes, ended) = (Poll::new()?, ReadyList::new(EXIT_BATCH));
        let (slots, spare) = (vec![Start::new()?], SpareDescriptor::new()?);
        Ok(Self { log, poll, processes, ended, slots, spare, nofile, signals, passed })
    }

    /// Closes the sockets from the service manager that no service wants, and gives their number.
    pub fn close_unclaimed(&mut self) -> usize {
        std::mem::take(&mut self.passed).len()
    }

    fn keep_slot(&mut self, slot: Start) {
        if self.slots.len() < SLOTS_KEPT {
            self.slots.push(slot);
        }
    }
}

/// Readable while a handler has ended that has not been collected.
impl AsFd for System {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.processes.as_fd()
    }
}

impl Resources for System {
    type Socket = Socket;
    type Connection = Inheritable;
    type Process = Inheritable;
    type Start = Start;
    type Template = HandlerTemplate;
    type Backlog = QueuedInput;
}

/// The same as plain values, for a program that only looks whether it could take a state over.
#[derive(Debug)]
pub struct Preview;

impl Resources for Preview {
    type Socket = Socket<RawFd, FileIdentity>;
    type Connection = RawFd;
    type Process = RawFd;
    type Start = ();
    type Template = ();
    type Backlog = ();
}

/// The descriptors of a handler's record, which must stay open over the execve(2) of an upgrade.
pub fn descriptors_of(handler: &Handler<System>) -> impl Iterator<Item = BorrowedFd<'_>> {
    handler.hand_back.iter().chain([&handler.process]).map(AsFd::as_fd)
}

impl Kernel for System {
    fn clock(&self) -> Duration {
        clock::monotonic()
    }

    fn log(&self, event: Event) {
        self.log.write(event);
    }

    fn template(&self, service: &Service) -> HandlerTemplate {
        HandlerTemplate::new(service, self.nofile, &self.signals)
    }

    fn poll(&mut self, socket: &Socket, id: ListenerId) -> io::Result<()> {
        // A handler that had the socket may have made it blocking, and an accept that blocks would stop everything.
        let _ = descriptor::set_nonblocking(socket.as_fd(), true);
        self.poll.add(socket, id.number())
    }

    fn stop_polling(&mut self, socket: &Socket) {
        // An open descriptor that is in the set can be removed.
        let _ = self.poll.remove(socket);
    }

    fn change_options(
        &mut self,
        socket: &mut Socket,
        endpoint: &Endpoint,
        service: &Service,
    ) -> Result<(), &'static str> {
        socket.change_options(endpoint, service).map_err(Errno::desc)
    }

    fn fixed_address(&self, socket: &Socket) -> Option<SocketAddr> {
        socket.fixed_address()
    }

    fn accept(&mut self, socket: &Socket) -> Result<(Inheritable, Peer), AcceptError> {
        let accepted = socket::accept(socket.as_fd()).map_err(|error| accept_error(&error))?;
        if socket.filtered {
            bpf::detach_program(&accepted.socket);
        }
        let peer = connection::peer_of(&accepted);
        Ok((Inheritable(accepted.socket), peer))
    }

    fn reset_one(&mut self, socket: &Socket) -> bool {
        let reset = |accepted: socket::Accepted| connection::refuse(&accepted.socket, &Refuse::Reset);
        self.spare.close_during(|| socket::accept(socket.as_fd()).map(reset).is_ok())
    }

    fn sender(&mut self, socket: &Socket, endpoint: &Endpoint) -> Sender {
        if !matches!(endpoint, Endpoint::Inet { transport: Transport::Udp, .. }) {
            return Sender::Unknown;
        }
        match socket::peek_sender(socket.as_fd()) {
            Ok(Some(address)) => Sender::Known(Peer::Inet(address.ip().to_canonical(), address.port())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sender::NoDatagram,
            Ok(None) | Err(_) => Sender::Unknown,
        }
    }

    fn discard_datagram(&mut self, socket: &Socket) {
        socket::discard_datagram(socket.as_fd());
    }

    fn lend(&mut self, socket: &Socket) -> Result<(Inheritable, Option<QueuedInput>), SpawnFailure> {
        let before = QueuedInput::of_socket(socket.as_fd());
        let _ = descriptor::set_nonblocking(socket.as_fd(), false);
        // A copy with a low number: what lies below it is copied for the child.
        match socket.as_fd().try_clone_to_owned() {
            Ok(copy) => Ok((Inheritable(copy), before)),
            Err(error) => Err(SpawnFailure { step: Step::Clone, errno: error.raw_os_error().unwrap_or(libc::EMFILE) }),
        }
    }

    fn is_untouched(&mut self, socket: &Socket, before: &QueuedInput) -> bool {
        QueuedInput::of_socket(socket.as_fd()).is_some_and(|now| now.still_holds(before))
    }

    fn local_address(&self, connection: &Inheritable, endpoint: &Endpoint) -> Option<SocketAddr> {
        connection::local_of(endpoint, &connection.0)
    }

    fn send(&mut self, connection: &Inheritable, text: &[u8]) {
        connection::send_text(&connection.0, text);
    }

    fn refuse(&mut self, connection: Inheritable, how: &Refuse) {
        connection::refuse(&connection.0, how);
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
            self.slots.extend(Start::new());
        }
        !self.slots.is_empty()
    }

    fn spawn(
        &mut self,
        template: &HandlerTemplate,
        connection: Inheritable,
        to: &ConnectionInfo<'_>,
    ) -> Result<Spawned<Inheritable, Start>, (SpawnFailure, Inheritable)> {
        let Some(mut start) = self.slots.pop() else {
            return Err((SpawnFailure { step: Step::Clone, errno: libc::ENOMEM }, connection));
        };
        let peer_path = matches!(to.peer, Peer::Unix { .. }).then(|| connection::path_of(&connection.0)).flatten();
        let fill = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&template.env);
            template::describe(bytes, to, peer_path.as_deref());
        };
        match start.go(&template.child, connection.0, fill) {
            Ok(Child { pid, pidfd }) => Ok(Spawned { pid, process: Inheritable(pidfd), start }),
            Err((failure, connection)) => {
                self.keep_slot(start);
                Err((failure, Inheritable(connection)))
            }
        }
    }

    fn wait_for_start(&mut self, start: &Start, limit: Duration) -> bool {
        if limit.is_zero() { start.landed() } else { start.wait(limit) }
    }

    fn finish_start(&mut self, mut start: Start) -> Option<(SpawnFailure, Inheritable)> {
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
        // Microseconds: it is in _exit(2) already. If somebody else has collected it, all the better.
        let _ = pidfd::reap_blocking(&process.0);
    }

    fn signal_group(&mut self, pid: i32, signal: KillSignal) {
        let number = match signal {
            KillSignal::Term => libc::SIGTERM,
            KillSignal::Kill => libc::SIGKILL,
        };
        // A group that has gone meanwhile, or that has become somebody we may not signal, needs none.
        let _ = pidfd::signal_group(pid, number);
    }

    fn next_ended_child(&mut self) -> Option<i32> {
        pidfd::find_ended_child()
    }

    fn reap_orphan(&mut self, pid: i32) {
        pidfd::reap_orphan(pid);
    }
}

/// Errors that belong to the connection are its own end (accept(2), "Error handling").
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
