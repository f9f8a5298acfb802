//! The control socket: it takes requests and sends answers, and never waits for a client.
//!
//! The server's loop passes on what epoll reports for these descriptors, takes one request a turn
//! ([`ControlServer::next_request`]) and gives the answer back. Only root, the daemon's own user and the socket's
//! group may send requests; any other client gets an error, and its connection is closed. The cost of clients is
//! limited: a request has `REQUEST_LEN_MAX` bytes at most, there are `CLIENTS_MAX` clients at most, and each has
//! ten seconds to send a request and ten to read the answer. If all places are taken, a new client replaces the one
//! that has been silent longest, so that idle clients keep no other client out.
//!
//! An error from opening the socket is returned to the caller. A client's error ends only that client's connection.

mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
pub(crate) mod gather;
mod socket;

pub(crate) use client::ControlPeer;
pub(crate) use socket::{OpenSocket, PreparedSocket};

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use nix::unistd::geteuid;

use crate::api::{Answer, Code, Refused, Request, read_request};
use crate::config;
use crate::sys::descriptor;
use crate::sys::poll::{Interest, Poll};
use crate::sys::socket as sys_socket;
use client::{ClientState, ControlClient, REQUEST_LEN_MAX};
use socket::SocketChange;

/// The most clients at one time.
const CLIENTS_MAX: usize = 32;

/// The most clients that are accepted in one turn.
const ACCEPT_BATCH: usize = 16;

/// After descriptors or memory ran out, no client is accepted for this long.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// The number of the listening socket in the daemon's epoll set. All higher numbers are those of clients.
const LISTENER_NUMBER: u64 = 1 << 63;

/// Whether a number in the daemon's epoll set belongs to the control socket or one of its clients.
#[must_use]
pub(crate) fn owns_number(number: u64) -> bool {
    number >= LISTENER_NUMBER
}

/// A request that must be answered now.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    /// The number of the client, for [`ControlServer::answer_request`].
    pub client: u64,
    pub peer: ControlPeer,
    /// The request, or an error if the line is none.
    pub request: Result<Request, Refused>,
}

/// The listening socket and its clients.
#[derive(Debug, Default)]
pub(crate) struct ControlServer {
    open: Option<OpenSocket>,
    clients: HashMap<u64, ControlClient>,
    /// How many clients have been accepted so far; numbers are not used twice.
    accepted: u64,
    /// The clients whose requests wait for their turn, in order.
    queue: VecDeque<u64>,
    /// No client is accepted before this time.
    paused: Option<Duration>,
}

impl ControlServer {
    /// Handles an event that epoll reports for a number of [`owns_number`].
    pub(crate) fn on_ready(&mut self, poll: &Poll, number: u64, now: Duration) {
        if number == LISTENER_NUMBER {
            return self.accept_clients(poll, now);
        }
        if let Some(client) = self.clients.get_mut(&number) {
            client.on_ready(now);
            self.update_interest(poll, number);
        }
    }

    /// The next request, if there is one. The caller must answer it.
    pub(crate) fn next_request(&mut self) -> Option<PendingRequest> {
        while let Some(number) = self.queue.pop_front() {
            let is_queued = |client: &&mut ControlClient| client.state == ClientState::Queued;
            let Some(client) = self.clients.get_mut(&number).filter(is_queued) else { continue };
            let request = match client.take_line() {
                Ok(line) => read_request(&line),
                Err(()) => Err(Refused::new(Code::TooLong, format!("a request has at most {REQUEST_LEN_MAX} bytes"))),
            };
            return Some(PendingRequest { client: number, peer: client.peer, request });
        }
        None
    }

    /// Sends the answer to a [`PendingRequest`], unless its client is gone.
    pub(crate) fn answer_request(&mut self, poll: &Poll, client: u64, answer: &Answer, now: Duration) {
        if let Some(found) = self.clients.get_mut(&client) {
            found.send_answer(answer.line(), now);
            self.update_interest(poll, client);
        }
    }

    /// Closes the connections of clients whose time is over, and accepts clients again after a pause.
    pub(crate) fn run_timers(&mut self, poll: &Poll, now: Duration) {
        let late: Vec<u64> =
            self.clients.iter().filter(|(_, client)| client.deadline <= now).map(|(&number, _)| number).collect();
        late.into_iter().for_each(|number| self.drop_client(poll, number));
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            self.poll_listener(poll, Interest::Reading);
        }
    }

    /// When [`Self::next_request`] or [`Self::run_timers`] has something to do.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        self.clients.values().map(|client| client.deadline).chain(self.paused).min()
    }

    /// Prepares the socket that `wanted` names. Changes nothing until [`Self::commit`].
    ///
    /// # Errors
    /// A socket that the table names cannot be opened: a message, and the cause.
    pub(crate) fn prepare(&self, wanted: &config::Control) -> Result<PreparedSocket, (String, Errno)> {
        PreparedSocket::new(self.open.as_ref(), wanted)
    }

    /// A change that leaves the socket as it is.
    #[must_use]
    pub(crate) fn unchanged(&self) -> PreparedSocket {
        PreparedSocket::keep(self.open.as_ref())
    }

    /// Puts a prepared change in force. Clients keep their connections. Returns a warning if the group cannot be
    /// changed.
    pub(crate) fn commit(&mut self, poll: &Poll, prepared: PreparedSocket) -> Option<String> {
        match prepared.change {
            SocketChange::Keep => self.open.as_mut()?.change_group(prepared.group),
            SocketChange::Replace(open) => {
                self.close_socket(poll);
                self.paused = None;
                let polled = open.as_ref().map_or(Ok(()), |open| poll.add(&open.socket, LISTENER_NUMBER));
                self.open = open;
                polled.err().map(|error| format!("daemon.control: {error}"))
            }
        }
    }

    /// Closes the socket and removes its file. Clients still get the answers to their requests.
    pub(crate) fn close_socket(&mut self, poll: &Poll) {
        if let Some(old) = self.open.take() {
            let _ = poll.remove(&old.socket);
        }
    }

    /// The open socket, to be saved for the new program of an upgrade. Clients are not saved: they connect again.
    #[must_use]
    pub(crate) fn save(&self) -> Option<&OpenSocket> {
        self.open.as_ref()
    }

    /// The descriptor of the socket, which must stay open for the new program.
    #[must_use]
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    /// Continues with the socket of the program before this one.
    ///
    /// # Errors
    /// There is no memory to poll it.
    pub(crate) fn restore(&mut self, poll: &Poll, open: OpenSocket) -> io::Result<()> {
        poll.add(&open.socket, LISTENER_NUMBER)?;
        self.open = Some(open);
        Ok(())
    }

    /// Follows a client's new state: queues its request, polls for its events, or closes its connection.
    fn update_interest(&mut self, poll: &Poll, number: u64) {
        let Some(client) = self.clients.get(&number) else { return };
        match client.state {
            ClientState::Gone => return self.drop_client(poll, number),
            ClientState::Queued if !self.queue.contains(&number) => self.queue.push_back(number),
            _ => {}
        }
        if poll.change_interest(&client.socket, number, client.interest()).is_err() {
            self.drop_client(poll, number);
        }
    }

    fn drop_client(&mut self, poll: &Poll, number: u64) {
        if let Some(client) = self.clients.remove(&number) {
            let _ = poll.remove(&client.socket);
        }
    }

    fn accept_clients(&mut self, poll: &Poll, now: Duration) {
        for _ in 0..ACCEPT_BATCH {
            let Some(open) = &self.open else { return };
            match sys_socket::accept(open.socket.as_fd()).and_then(|accepted| descriptor::move_high(accepted.socket)) {
                Ok(socket) => self.accept_client(poll, socket, now),
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                    Errno::EAGAIN => return,
                    Errno::ECONNABORTED | Errno::EINTR => {}
                    _ => {
                        self.paused = Some(now + SHORTAGE_PAUSE);
                        return self.poll_listener(poll, Interest::Nothing);
                    }
                },
            }
        }
    }

    fn poll_listener(&self, poll: &Poll, interest: Interest) {
        if let Some(open) = &self.open {
            let _ = poll.change_interest(&open.socket, LISTENER_NUMBER, interest);
        }
    }

    fn accept_client(&mut self, poll: &Poll, socket: OwnedFd, now: Duration) {
        let group = self.open.as_ref().and_then(|open| open.group);
        let Some(peer) = permitted_peer(&socket, group) else { return reject_client(&socket) };
        if self.clients.len() >= CLIENTS_MAX {
            self.drop_most_silent(poll);
        }
        self.accepted += 1;
        let number = LISTENER_NUMBER + self.accepted;
        if poll.add(&socket, number).is_ok() {
            self.clients.insert(number, ControlClient::new(socket, peer, now));
        }
    }

    fn drop_most_silent(&mut self, poll: &Poll) {
        let order = |(_, client): &(&u64, &ControlClient)| (client.state != ClientState::Reading, client.deadline);
        let silent = self.clients.iter().min_by_key(order).map(|(&number, _)| number);
        silent.into_iter().for_each(|number| self.drop_client(poll, number));
    }
}

/// The process at the other end, if it may send requests: that of root, of the daemon's own user, or of the group.
fn permitted_peer(socket: &OwnedFd, group: Option<u32>) -> Option<ControlPeer> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials).ok()?;
    let uid = credentials.uid();
    let in_group = |group: u32| credentials.gid() == group || sys_socket::peer_groups(socket.as_fd()).contains(&group);
    let permitted = uid == 0 || uid == geteuid().as_raw() || group.is_some_and(in_group);
    permitted.then(|| ControlPeer { uid, pid: credentials.pid() })
}

/// Sends a `NotPermitted` error. A full socket buffer drops it.
fn reject_client(socket: &OwnedFd) {
    let message = "only root, the daemon's own user and the group of the socket may ask";
    let answer = Answer::from(Err(Refused::new(Code::NotPermitted, message)));
    let _ = send(socket.as_raw_fd(), &answer.line(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}
