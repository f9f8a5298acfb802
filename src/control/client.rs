//! One client of the control socket: bytes until a line is whole, then an answer until it is taken.
//!
//! Only [`super::Control`] calls this. Each call reads or writes a bounded number of bytes and never waits.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::Peer;
use crate::sys::poll::Interest;

/// The longest request.
pub(super) const REQUEST: usize = 4096;

/// At most so much of an answer is sent in one turn.
const PIECE: usize = 64 * 1024;

/// How long a client has to send a request, and then to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// He has a request to send.
    Asking,
    /// He has sent a line, or more than a line may have, and waits for his turn.
    Waiting,
    /// He has an answer to take.
    Taking,
    /// He is gone, or done with.
    Gone,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub socket: OwnedFd,
    pub peer: Peer,
    pub doing: Doing,
    /// How long he has for it.
    pub until: Duration,
    received: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    /// No more is read from him: he is let go once he has his answer.
    last: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, peer: Peer, now: Duration) -> Self {
        let (received, answer) = (Vec::new(), Vec::new());
        Self { socket, peer, doing: Doing::Asking, until: now + PATIENCE, received, answer, sent: 0, last: false }
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Interest {
        match self.doing {
            Doing::Asking => Interest::Reading,
            Doing::Taking => Interest::Writing,
            Doing::Waiting | Doing::Gone => Interest::Nothing,
        }
    }

    /// Reads or writes what can be read or written at once.
    pub(super) fn go_on(&mut self, now: Duration) {
        match self.doing {
            Doing::Asking => self.receive(),
            Doing::Taking => self.send(now),
            // Nothing was to be told of him but that he has gone.
            Doing::Waiting | Doing::Gone => self.doing = Doing::Gone,
        }
    }

    fn receive(&mut self) {
        let mut bytes = [0; REQUEST];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            // A last line without an end is one, too.
            Ok(0) if self.received.is_empty() => self.doing = Doing::Gone,
            Ok(0) => (self.doing, self.last) = (Doing::Waiting, true),
            Ok(size) => {
                self.received.extend_from_slice(&bytes[..size]);
                self.look_for_a_line();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.doing = Doing::Gone,
        }
    }

    fn look_for_a_line(&mut self) {
        if self.received.contains(&b'\n') || self.received.len() > REQUEST {
            self.doing = Doing::Waiting;
        }
    }

    /// The line that he has sent, without its end. An error if it is too long.
    pub(super) fn take_line(&mut self) -> Result<Vec<u8>, ()> {
        let end = self.received.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.received.len()) > REQUEST {
            self.last = true;
            self.received = Vec::new();
            return Err(());
        }
        let mut line: Vec<u8> = self.received.drain(..end.map_or(self.received.len(), |end| end + 1)).collect();
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(line)
    }

    /// Gives him an answer to take.
    pub(super) fn answer(&mut self, answer: Vec<u8>, now: Duration) {
        (self.answer, self.sent) = (answer, 0);
        (self.doing, self.until) = (Doing::Taking, now + PATIENCE);
        self.send(now);
    }

    fn send(&mut self, now: Duration) {
        let end = self.answer.len().min(self.sent + PIECE);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), &self.answer[self.sent..end], flags) {
            Ok(size) => self.sent += size,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.doing = Doing::Gone,
        }
        if self.doing == Doing::Taking && self.sent == self.answer.len() {
            self.answered(now);
        }
    }

    /// He has his answer, and may ask for more.
    fn answered(&mut self, now: Duration) {
        self.answer = Vec::new();
        (self.doing, self.until) = (Doing::Asking, now + PATIENCE);
        self.look_for_a_line();
        match self.doing {
            Doing::Asking if self.last && self.received.is_empty() => self.doing = Doing::Gone,
            Doing::Asking if self.last => self.doing = Doing::Waiting,
            _ => {}
        }
    }
}
