//! Relays between two connections: bytes from each go to the other, through a pipe for each direction and
//! splice(2), without a copy in this process.
//!
//! [`super::redirect`] calls it. The end of one direction does not end the other: an end that has sent everything
//! can still receive (half-close). If one end is cut off, all that it has sent is delivered, and then the other end
//! gets a reset. If nothing moves for too long, both connections are closed, and that is a failure.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::failure::{BuiltinFailure, BuiltinResult};
use crate::exit;
use crate::sys::socket;

/// One call moves at most this many bytes, the capacity of a pipe (pipe(7)).
const PIPE_LEN_MAX: usize = 64 << 10;

/// Relays in both directions until both have ended.
pub(super) fn relay_streams(client: TcpStream, server: TcpStream, idle: Duration) -> BuiltinResult {
    let ends = [client, server];
    for end in &ends {
        // Small packets are passed on without delay.
        let _ = end.set_nodelay(true);
        let _ = nix::sys::socket::setsockopt(end, nix::sys::socket::sockopt::KeepAlive, &true);
        end.set_nonblocking(true).map_err(BuiltinFailure::system("O_NONBLOCK"))?;
    }
    let way = || Way::new().map_err(BuiltinFailure::system("pipe"));
    let mut ways = [way()?, way()?];
    while !ways.iter().all(|way| way.ended) {
        if !wait_ready(&ends, &mut ways, idle).map_err(BuiltinFailure::system("poll"))? {
            return Err(BuiltinFailure::new(exit::IDLE, "nothing has moved for too long"));
        }
        for (index, way) in ways.iter_mut().enumerate() {
            way.move_bytes(&ends[index], &ends[1 - index]);
        }
    }
    for (way, to) in ways.iter().zip(ends.iter().rev()) {
        // Otherwise the other end would take a part for the whole.
        if way.cut_off {
            socket::reset_on_close(to);
        }
    }
    Ok(exit::DONE)
}

/// Waits until one of the ends is ready. False after `idle` without any event.
fn wait_ready(ends: &[TcpStream; 2], ways: &mut [Way; 2], idle: Duration) -> io::Result<bool> {
    let wanted = [wanted_events(&ways[0], &ways[1]), wanted_events(&ways[1], &ways[0])];
    let mut set = Vec::with_capacity(2);
    for (end, wanted) in ends.iter().zip(wanted) {
        set.extend(wanted.map(|flags| PollFd::new(end.as_fd(), flags)));
    }
    let timeout = PollTimeout::try_from(idle).unwrap_or(PollTimeout::MAX);
    match poll(&mut set, timeout) {
        Ok(found) => {
            let mut found_flags = set.iter().map(|one| one.revents().unwrap_or(PollFlags::empty()));
            for (index, wanted) in wanted.into_iter().enumerate() {
                let Some(flags) = wanted.and_then(|_| found_flags.next()) else { continue };
                // This end no longer receives.
                if flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
                    ways[1 - index].ended = true;
                }
            }
            Ok(found > 0)
        }
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// The events to wait for at one end, where `from` begins and `to` ends; `None` if neither way needs this end.
/// While something may still be sent to it, an end without events is watched too, because it may disconnect.
fn wanted_events(from: &Way, to: &Way) -> Option<PollFlags> {
    let reads = from.has_room().then_some(PollFlags::POLLIN);
    let writes = (!to.ended && to.held > 0).then_some(PollFlags::POLLOUT);
    let watched = (!to.ended).then_some(PollFlags::empty());
    [reads, writes, watched].into_iter().flatten().reduce(|one, other| one | other)
}

/// One direction: from one end into a pipe, and out of it to the other end.
struct Way {
    pipe: (OwnedFd, OwnedFd),
    /// Bytes in the pipe.
    held: usize,
    /// The pipe took no more although it holds fewer bytes than its capacity: it is full after a number of packets,
    /// however small they are.
    full: bool,
    /// Nothing more will come from the sender.
    no_more: bool,
    /// The connection of the sender was cut: it did not end its side itself.
    cut_off: bool,
    /// Everything has arrived, or the receiver has gone.
    ended: bool,
}

impl Way {
    fn new() -> io::Result<Self> {
        let pipe = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { pipe, held: 0, full: false, no_more: false, cut_off: false, ended: false })
    }

    /// Whether this direction can take more bytes.
    fn has_room(&self) -> bool {
        !self.ended && !self.no_more && !self.full && self.held < PIPE_LEN_MAX
    }

    /// Moves what can be moved now.
    fn move_bytes(&mut self, from: &TcpStream, to: &TcpStream) {
        if self.has_room() {
            self.read_into_pipe(from);
        }
        if !self.ended && self.held > 0 {
            self.write_from_pipe(to);
        }
        if !self.ended && self.no_more && self.held == 0 {
            // If the receiver is gone meanwhile, there is nobody to tell.
            let _ = if self.cut_off { Ok(()) } else { to.shutdown(Shutdown::Write) };
            self.ended = true;
        }
    }

    fn read_into_pipe(&mut self, from: &TcpStream) {
        match splice(from, None, &self.pipe.1, None, PIPE_LEN_MAX - self.held, SPLICE_FLAGS) {
            Ok(0) => self.no_more = true,
            Ok(size) => self.held += size,
            Err(Errno::EAGAIN) => self.full = self.held > 0,
            Err(Errno::EINTR) => {}
            Err(_) => (self.no_more, self.cut_off) = (true, true),
        }
    }

    fn write_from_pipe(&mut self, to: &TcpStream) {
        match splice(&self.pipe.0, None, to, None, self.held, SPLICE_FLAGS) {
            Ok(size) => {
                self.held -= size;
                self.full = false;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.ended = true,
        }
    }
}

const SPLICE_FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        one.set_nodelay(true).unwrap();
        let (other, _) = listener.accept().unwrap();
        other.set_nonblocking(true).unwrap();
        (one, other)
    }

    fn wait_readable(end: &TcpStream) {
        let mut set = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut set, 10_000_u16), Ok(1));
    }

    #[test]
    fn a_pipe_that_is_full_of_small_packets_takes_no_more_until_it_is_emptied() {
        let ((mut sender, from), (to, mut receiver)) = (pair(), pair());
        let mut way = Way::new().unwrap();
        let mut sent = 0;
        while way.has_room() {
            sender.write_all(b"x").unwrap();
            wait_readable(&from);
            way.read_into_pipe(&from);
            sent += 1;
            assert!(sent < 1000, "a pipe has room for {} packets", way.held);
        }
        // Of the size that it could hold it is nowhere near; waiting for more to come in would be a busy loop.
        assert!(way.full && way.held == sent - 1 && way.held < PIPE_LEN_MAX, "{} of {sent}", way.held);
        assert_eq!(wanted_events(&way, &Way::new().unwrap()), Some(PollFlags::empty()));
        way.write_from_pipe(&to);
        assert!(way.has_room() && way.held == 0);
        way.move_bytes(&from, &to);
        let mut bytes = vec![0; sent];
        receiver.set_nonblocking(false).unwrap();
        receiver.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, vec![b'x'; sent]);
    }

    #[test]
    fn what_was_sent_before_a_cut_arrives() {
        let ((mut sender, from), (to, mut receiver)) = (pair(), pair());
        let mut way = Way::new().unwrap();
        sender.write_all(b"half").unwrap();
        wait_readable(&from);
        way.read_into_pipe(&from);
        socket::reset_on_close(&sender);
        drop(sender);
        wait_readable(&from);
        way.read_into_pipe(&from);
        assert!(way.no_more && way.cut_off && !way.ended);
        way.move_bytes(&from, &to);
        assert!(way.ended);
        let mut bytes = [0; 4];
        receiver.set_nonblocking(false).unwrap();
        receiver.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"half");
    }
}
