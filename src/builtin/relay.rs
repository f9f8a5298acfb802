//! Two connections, and what comes from each goes to the other, without a copy through this process: splice(2), by a
//! pipe for each way.
//!
//! The end of one way does not end the other: who has sent everything can go on receiving (half-close). Who is cut off in
//! the middle is passed on as a reset, once all that he has sent is on its way. If nothing moves for too long, both ends
//! are closed.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::{Failure, Outcome};
use crate::exit;
use crate::sys::socket;

/// The most that is moved by one call: what a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;

/// Moves everything both ways until both have ended.
pub(super) fn between(client: TcpStream, server: TcpStream, idle: Duration) -> Outcome {
    let ends = [client, server];
    for end in &ends {
        // What comes is passed on as it comes.
        let _ = end.set_nodelay(true);
        let _ = nix::sys::socket::setsockopt(end, nix::sys::socket::sockopt::KeepAlive, &true);
        end.set_nonblocking(true).map_err(Failure::system("O_NONBLOCK"))?;
    }
    let way = || Way::new().map_err(Failure::system("pipe"));
    let mut ways = [way()?, way()?];
    while !ways.iter().all(|way| way.ended) {
        if !wait(&ends, &mut ways, idle).map_err(Failure::system("poll"))? {
            return Err(Failure::new(exit::IDLE, "nothing has moved for too long"));
        }
        for (index, way) in ways.iter_mut().enumerate() {
            way.step(&ends[index], &ends[1 - index]);
        }
    }
    for (way, to) in ways.iter().zip(ends.iter().rev()) {
        // Or the other end would take a part for the whole.
        if way.cut_off {
            socket::reset_on_close(to);
        }
    }
    Ok(exit::DONE)
}

/// Waits until one of the ends can go on; false if none can for too long.
fn wait(ends: &[TcpStream; 2], ways: &mut [Way; 2], idle: Duration) -> io::Result<bool> {
    let wanted = [wanted(&ways[0], &ways[1]), wanted(&ways[1], &ways[0])];
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
                // Nobody is there any more to send to.
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

/// What to wait for at one end, from which one way leads and to which the other; nothing if neither has any use for it.
/// An end that is asked for nothing is still watched while something may be sent to it: it may go away.
fn wanted(from: &Way, to: &Way) -> Option<PollFlags> {
    let reads = from.takes().then_some(PollFlags::POLLIN);
    let writes = (!to.ended && to.held > 0).then_some(PollFlags::POLLOUT);
    let watched = (!to.ended).then_some(PollFlags::empty());
    [reads, writes, watched].into_iter().flatten().reduce(|one, other| one | other)
}

/// One way: from one end into a pipe, and out of it to the other end.
struct Way {
    pipe: (OwnedFd, OwnedFd),
    /// Bytes in the pipe.
    held: usize,
    /// The pipe took no more, though it holds less than it could: it has room for a number of packets, however small.
    full: bool,
    /// Nothing more will come from the sender.
    no_more: bool,
    /// He has not said so himself.
    cut_off: bool,
    /// Everything has arrived, or the receiver has gone.
    ended: bool,
}

impl Way {
    fn new() -> io::Result<Self> {
        let pipe = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { pipe, held: 0, full: false, no_more: false, cut_off: false, ended: false })
    }

    /// Is there a use for more?
    fn takes(&self) -> bool {
        !self.ended && !self.no_more && !self.full && self.held < CHUNK
    }

    /// Moves what can be moved now.
    fn step(&mut self, from: &TcpStream, to: &TcpStream) {
        if self.takes() {
            self.fill(from);
        }
        if !self.ended && self.held > 0 {
            self.empty(to);
        }
        if !self.ended && self.no_more && self.held == 0 {
            // Whoever has gone meanwhile needs no telling.
            let _ = if self.cut_off { Ok(()) } else { to.shutdown(Shutdown::Write) };
            self.ended = true;
        }
    }

    fn fill(&mut self, from: &TcpStream) {
        match splice(from, None, &self.pipe.1, None, CHUNK - self.held, MOVE) {
            Ok(0) => self.no_more = true,
            Ok(size) => self.held += size,
            Err(Errno::EAGAIN) => self.full = self.held > 0,
            Err(Errno::EINTR) => {}
            Err(_) => (self.no_more, self.cut_off) = (true, true),
        }
    }

    fn empty(&mut self, to: &TcpStream) {
        match splice(&self.pipe.0, None, to, None, self.held, MOVE) {
            Ok(size) => {
                self.held -= size;
                self.full = false;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.ended = true,
        }
    }
}

const MOVE: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

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
        while way.takes() {
            sender.write_all(b"x").unwrap();
            wait_readable(&from);
            way.fill(&from);
            sent += 1;
            assert!(sent < 1000, "a pipe has room for {} packets", way.held);
        }
        // Of the size that it could hold it is nowhere near; waiting for more to come in would be a busy loop.
        assert!(way.full && way.held == sent - 1 && way.held < CHUNK, "{} of {sent}", way.held);
        assert_eq!(wanted(&way, &Way::new().unwrap()), Some(PollFlags::empty()));
        way.empty(&to);
        assert!(way.takes() && way.held == 0);
        way.step(&from, &to);
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
        way.fill(&from);
        socket::reset_on_close(&sender);
        drop(sender);
        wait_readable(&from);
        way.fill(&from);
        assert!(way.no_more && way.cut_off && !way.ended);
        way.step(&from, &to);
        assert!(way.ended);
        let mut bytes = [0; 4];
        receiver.set_nonblocking(false).unwrap();
        receiver.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"half");
    }
}
