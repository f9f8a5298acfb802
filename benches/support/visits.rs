//! Clients that are not wanted, alone and as a flood, and a good one beside them.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, SockaddrIn, connect};

use super::load::{HOLDING, socket_of};

/// Who comes too often. Its handlers stay where the handler has to know from the address that they shall.
pub(crate) const BAD: Ipv4Addr = Ipv4Addr::new(127, HOLDING, 0, 2);

/// Threads that come while refusals are counted, and how many connections each has under way at one time. Clients who
/// wait for their answer before they come again would measure how fast a server is woken.
const THREADS: usize = 4;
const UNDER_WAY: usize = 16;

/// How long a good client waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of those that came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Visits {
    /// Got something from a handler.
    pub(crate) served: u32,
    /// Were let go without.
    pub(crate) refused: u32,
    /// Found a port where nobody listens.
    pub(crate) unreachable: u32,
}

impl Visits {
    pub(crate) fn all(&self) -> u32 {
        self.served + self.refused + self.unreachable
    }

    /// [`BAD`] comes once, and waits until it is let go.
    pub(crate) fn one(&mut self, to: SocketAddrV4) {
        if let Some(stream) = self.come(to) {
            self.wait(stream);
        }
    }

    fn come(&mut self, to: SocketAddrV4) -> Option<TcpStream> {
        match from_bad(to) {
            Ok(stream) => return Some(stream),
            Err(Errno::ECONNREFUSED) => self.unreachable += 1,
            // Reset before it knew that it was connected.
            Err(_) => self.refused += 1,
        }
        None
    }

    fn wait(&mut self, mut stream: TcpStream) {
        let mut answer = Vec::new();
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut answer);
        *if answer.is_empty() { &mut self.refused } else { &mut self.served } += 1;
    }

    /// [`BAD`] comes again and again for so long.
    pub(crate) fn many(to: SocketAddrV4, length: Duration) -> (Self, Duration) {
        let (sum, began) = (Mutex::new(Self::default()), Instant::now());
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let (mut mine, mut under_way) = (Self::default(), VecDeque::new());
                    while began.elapsed() < length {
                        under_way.extend(mine.come(to));
                        if under_way.len() >= UNDER_WAY {
                            under_way.pop_front().into_iter().for_each(|oldest| mine.wait(oldest));
                        }
                    }
                    under_way.into_iter().for_each(|rest| mine.wait(rest));
                    if let Ok(mut sum) = sum.lock() {
                        sum.served += mine.served;
                        sum.refused += mine.refused;
                        sum.unreachable += mine.unreachable;
                    }
                });
            }
        });
        (sum.into_inner().unwrap_or_default(), began.elapsed())
    }
}

/// A connection of [`BAD`].
pub(crate) fn from_bad(to: SocketAddrV4) -> nix::Result<TcpStream> {
    let socket = socket_of(BAD, SockFlag::empty())?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(socket.into())
}

/// A connection of [`BAD`] that is begun, and not waited for: it may be refused before it is known to have been made.
pub(crate) fn begin(to: SocketAddrV4) -> nix::Result<TcpStream> {
    let socket = socket_of(BAD, SockFlag::SOCK_NONBLOCK)?;
    let _ = connect(socket.as_raw_fd(), &SockaddrIn::from(to));
    Ok(socket.into())
}

/// One of a flood.
struct Client {
    stream: TcpStream,
    since: Instant,
    answered: bool,
    gone: bool,
}

impl Client {
    fn hear(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(1) => self.answered = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => self.gone = true,
        }
    }

    /// One that is dropped by the kernel waits for a while, as it would in any program.
    fn is_over(&self, stay: Duration) -> bool {
        let age = self.since.elapsed();
        self.gone || (self.answered && age >= stay) || age > Duration::from_secs(4)
    }
}

/// Keeps so many connections of [`BAD`] under way; each stays for `stay` if it is let, and goes as soon as it is not.
pub(crate) fn flood(to: SocketAddrV4, clients: usize, stay: Duration, over: &AtomicBool) {
    // SAFETY: no memory is involved. This thread has what the processors have left: a flood comes from elsewhere.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    let mut under_way: Vec<Client> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        under_way.retain(|client| !client.is_over(stay));
        let missing = clients - under_way.len();
        under_way.extend((0..missing).filter_map(|_| begin(to).ok()).map(|stream| Client {
            stream,
            since: Instant::now(),
            answered: false,
            gone: false,
        }));
        for ready in readable(&under_way) {
            under_way[ready].hear();
        }
    }
}

/// The places of those for whom there is something, as soon as there is any.
fn readable(clients: &[Client]) -> Vec<usize> {
    let mut set: Vec<_> = clients.iter().map(|client| PollFd::new(client.stream.as_fd(), PollFlags::POLLIN)).collect();
    let _ = poll(&mut set, PollTimeout::from(5_u8));
    (0..set.len()).filter(|&place| set[place].any() == Some(true)).collect()
}

/// How long each of so many requests of a good client waited for its byte, in ms; none for those that got none within
/// [`PATIENCE`].
pub(crate) fn good_client(to: SocketAddrV4, times: usize, pause: Duration) -> Vec<Option<f64>> {
    let ask = |_| {
        thread::sleep(pause);
        let began = Instant::now();
        let mut stream = TcpStream::connect_timeout(&to.into(), PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE.saturating_sub(began.elapsed()).max(Duration::from_millis(1)))).ok()?;
        stream.read_exact(&mut [0]).ok()?;
        Some(began.elapsed().as_secs_f64() * 1e3)
    };
    (0..times).map(ask).collect()
}
