//! One client of the control socket: it collects bytes until a line is complete, then sends the answer.
//!
//! Only [`super::ControlServer`] calls this. Each call reads or writes a limited number of bytes and never waits.
//! After any error the client is [`ClientState::Gone`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use crate::sys::poll::Interest;

/// The longest request, in bytes without the line end.
pub(super) const REQUEST_LEN_MAX: usize = 4096;

/// At most this many bytes of an answer are sent in one turn.
const SEND_LEN_MAX: usize = 64 * 1024;

/// A client has this long to send a request, and then to read the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlPeer {
    pub uid: u32,
    /// The process id as this process sees it; 0 if it is in a foreign PID namespace.
    pub pid: i32,
}

/// What the server expects from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    /// The client is to send a request.
    Reading,
    /// A line, or more bytes than a line may have, has arrived; the request waits for its turn.
    Queued,
    /// The client is to read its answer.
    Writing,
    /// The connection has ended, or is to be closed.
    Gone,
}

/// A connection with its buffers.
#[derive(Debug)]
pub(super) struct ControlClient {
    pub socket: OwnedFd,
    pub peer: ControlPeer,
    pub state: ClientState,
    /// The end of the time for the current state.
    pub deadline: Duration,
    received: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    /// Nothing more is read: after the answers the connection is closed.
    no_more: bool,
}

impl ControlClient {
    pub(super) fn new(socket: OwnedFd, peer: ControlPeer, now: Duration) -> Self {
        let (state, deadline) = (ClientState::Reading, now + CLIENT_TIMEOUT);
        Self { socket, peer, state, deadline, received: Vec::new(), answer: Vec::new(), sent: 0, no_more: false }
    }

    /// The events to wait for in the current state.
    pub(super) fn interest(&self) -> Interest {
        match self.state {
            ClientState::Reading => Interest::Reading,
            ClientState::Writing => Interest::Writing,
            ClientState::Queued | ClientState::Gone => Interest::Nothing,
        }
    }

    /// Reads or writes as much as is possible at once.
    pub(super) fn on_ready(&mut self, now: Duration) {
        match self.state {
            ClientState::Reading => self.receive(),
            ClientState::Writing => self.send_rest(now),
            // Without interest, epoll reports only that the connection has ended.
            ClientState::Queued | ClientState::Gone => self.state = ClientState::Gone,
        }
    }

    fn receive(&mut self) {
        let mut bytes = [0; REQUEST_LEN_MAX];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) if self.received.is_empty() => self.state = ClientState::Gone,
            // The last line may lack its line end.
            Ok(0) => (self.state, self.no_more) = (ClientState::Queued, true),
            Ok(size) => {
                self.received.extend_from_slice(&bytes[..size]);
                self.look_for_line();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.state = ClientState::Gone,
        }
    }

    fn look_for_line(&mut self) {
        if self.received.contains(&b'\n') || self.received.len() > REQUEST_LEN_MAX {
            self.state = ClientState::Queued;
        }
    }

    /// Takes the received line, without its end. An error if it is too long.
    pub(super) fn take_line(&mut self) -> Result<Vec<u8>, ()> {
        let end = self.received.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.received.len()) > REQUEST_LEN_MAX {
            self.no_more = true;
            self.received = Vec::new();
            return Err(());
        }
        let mut line: Vec<u8> = self.received.drain(..end.map_or(self.received.len(), |end| end + 1)).collect();
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(line)
    }

    /// Starts to send an answer.
    pub(super) fn send_answer(&mut self, answer: Vec<u8>, now: Duration) {
        (self.answer, self.sent) = (answer, 0);
        (self.state, self.deadline) = (ClientState::Writing, now + CLIENT_TIMEOUT);
        self.send_rest(now);
    }

    fn send_rest(&mut self, now: Duration) {
        let end = self.answer.len().min(self.sent + SEND_LEN_MAX);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), &self.answer[self.sent..end], flags) {
            Ok(size) => self.sent += size,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.state = ClientState::Gone,
        }
        if self.state == ClientState::Writing && self.sent == self.answer.len() {
            self.finish_answer(now);
        }
    }

    /// The answer is sent: the client may send another request.
    fn finish_answer(&mut self, now: Duration) {
        self.answer = Vec::new();
        (self.state, self.deadline) = (ClientState::Reading, now + CLIENT_TIMEOUT);
        self.look_for_line();
        match self.state {
            ClientState::Reading if self.no_more && self.received.is_empty() => self.state = ClientState::Gone,
            ClientState::Reading if self.no_more => self.state = ClientState::Queued,
            _ => {}
        }
    }
}
