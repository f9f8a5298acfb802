//! The control socket: requests in, answers out, never waiting for anybody.
//!
//! The daemon's loop hands over what epoll says of these descriptors, takes one request a turn ([`Control::next_request`]) and
//! gives its answer back. Who is neither root, nor the daemon's own user, nor of the socket's group is told so and let
//! go. What a client can cost is bounded: a request has `REQUEST` bytes at most, there are
//! `CLIENTS` clients at most, and each has ten seconds to ask and ten to take the answer. When all places are taken,
//! the one who has been silent the longest makes room, so that idle clients keep nobody out.
//!
//! Opening the socket can fail, and that is told; nothing that a client does can.

mod carry;
mod client;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod place;
pub mod gather;

pub use place::{Open, Prepared, default_place};

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use nix::unistd::geteuid;

use crate::api::{Answer, Code, Refused, Request, read_request};
use crate::sys::poll::{Interest, Poll};
use crate::sys::{descriptor, socket};
use client::{Client, Doing, REQUEST};

/// At most so many clients at one time.
const CLIENTS: usize = 32;

/// At most so many clients are accepted in one turn.
const BATCH: usize = 16;

/// How long nobody is accepted when descriptors or memory are lacking.
const SHORTAGE: Duration = Duration::from_millis(100);

/// From here on, numbers in the daemon's epoll set are of this module: the socket, then the clients.
const FIRST: u64 = 1 << 63;

/// Is this number in the daemon's epoll set one of the control socket or its clients?
#[must_use]
pub fn owns(number: u64) -> bool {
    number >= FIRST
}

/// The process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process id, as this process sees it; 0 if it can't.
    pub pid: i32,
}

/// A request whose turn it is.
#[derive(Debug)]
pub struct Asked {
    /// Who asks, for [`Control::answer`].
    pub client: u64,
    /// Who that is.
    pub peer: Peer,
    /// What he wants, or what is wrong with his line.
    pub request: Result<Request, Refused>,
}

/// The socket and its clients.
#[derive(Debug, Default)]
pub struct Control {
    open: Option<Open>,
    clients: HashMap<u64, Client>,
    last: u64,
    /// Those who wait for their turn, in order.
    queue: VecDeque<u64>,
    /// Nobody is accepted before.
    paused: Option<Duration>,
}

impl Control {
    /// What epoll has said of one of our descriptors.
    pub fn ready(&mut self, poll: &Poll, number: u64, now: Duration) {
        if number == FIRST {
            return self.accept(poll, now);
        }
        if let Some(client) = self.clients.get_mut(&number) {
            client.go_on(now);
            self.see_to(poll, number);
        }
    }

    /// The next request, if there is one. It must be answered.
    pub fn next_request(&mut self) -> Option<Asked> {
        while let Some(number) = self.queue.pop_front() {
            let Some(client) = self.clients.get_mut(&number).filter(|client| client.doing == Doing::Waiting) else {
                continue;
            };
            let request = match client.take_line() {
                Ok(line) => read_request(&line),
                Err(()) => Err(Refused::new(Code::TooLong, format!("a request has at most {REQUEST} bytes"))),
            };
            return Some(Asked { client: number, peer: client.peer, request });
        }
        None
    }

    /// Answers a request.
    pub fn answer(&mut self, poll: &Poll, client: u64, answer: &Answer, now: Duration) {
        if let Some(asked) = self.clients.get_mut(&client) {
            asked.answer(answer.line(), now);
            self.see_to(poll, client);
        }
    }

    /// Lets those go whose time is over, and accepts again after a pause.
    pub fn on_time(&mut self, poll: &Poll, now: Duration) {
        let late: Vec<u64> =
            self.clients.iter().filter(|(_, client)| client.until <= now).map(|(&number, _)| number).collect();
        late.into_iter().for_each(|number| self.drop_client(poll, number));
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            self.listen(poll, Interest::Reading);
        }
    }

    /// When there is something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        self.clients.values().map(|client| client.until).chain(self.paused).min()
    }

    /// Acts on what has become of a client.
    fn see_to(&mut self, poll: &Poll, number: u64) {
        let Some(client) = self.clients.get(&number) else { return };
        match client.doing {
            Doing::Gone => return self.drop_client(poll, number),
            Doing::Waiting if !self.queue.contains(&number) => self.queue.push_back(number),
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

    fn accept(&mut self, poll: &Poll, now: Duration) {
        for _ in 0..BATCH {
            let Some(open) = &self.open else { return };
            match socket::accept(open.socket.as_fd()).and_then(|accepted| descriptor::move_high(accepted.socket)) {
                Ok(socket) => self.welcome(poll, socket, now),
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                    Errno::EAGAIN => return,
                    Errno::ECONNABORTED | Errno::EINTR => {}
                    _ => {
                        self.paused = Some(now + SHORTAGE);
                        return self.listen(poll, Interest::Nothing);
                    }
                },
            }
        }
    }

    fn listen(&self, poll: &Poll, interest: Interest) {
        if let Some(open) = &self.open {
            let _ = poll.change_interest(&open.socket, FIRST, interest);
        }
    }

    fn welcome(&mut self, poll: &Poll, socket: OwnedFd, now: Duration) {
        let group = self.open.as_ref().and_then(|open| open.group);
        let Some(peer) = permitted(&socket, group) else { return send_away(&socket) };
        if self.clients.len() >= CLIENTS {
            let silent = |(_, client): &(&u64, &Client)| (client.doing != Doing::Asking, client.until);
            let longest = self.clients.iter().min_by_key(silent).map(|(&number, _)| number);
            longest.into_iter().for_each(|number| self.drop_client(poll, number));
        }
        self.last += 1;
        let number = FIRST + self.last;
        if poll.add(&socket, number).is_ok() {
            self.clients.insert(number, Client::new(socket, peer, now));
        }
    }
}

/// Who is at the other end, if he may ask: root, the daemon's own user, and who is in the group.
fn permitted(socket: &OwnedFd, group: Option<u32>) -> Option<Peer> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials).ok()?;
    let uid = credentials.uid();
    let of_group = |group: u32| credentials.gid() == group || socket::peer_groups(socket.as_fd()).contains(&group);
    let may = uid == 0 || uid == geteuid().as_raw() || group.is_some_and(of_group);
    may.then(|| Peer { uid, pid: credentials.pid() })
}

/// Tells a stranger that he is one; what doesn't fit into the socket at once he misses.
fn send_away(socket: &OwnedFd) {
    let message = "only root, the daemon's own user and the group of the socket may ask";
    let answer = Answer::from(Err(Refused::new(Code::NotPermitted, message)));
    let _ = send(socket.as_raw_fd(), &answer.line(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}
