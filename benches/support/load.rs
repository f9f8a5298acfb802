//! The load generator: connects, takes the handler's byte, goes. One thread, and as few system calls as can be, because
//! it shares the machine with what it measures.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket,
    sockopt::{IpBindAddressNoPort, Linger},
};

/// Second byte of the source addresses of connections that come and go.
const PASSING: u8 = 1;
/// Second byte of the source addresses of connections that are held; [`super::minimal`] and the handler know it.
pub(crate) const HOLDING: u8 = 2;

/// Connections under way at one time: enough to keep any server busy, and no more than the smallest backlog, which is
/// that of inetutils-inetd.
const IN_FLIGHT: usize = 10;

/// Sources taken in turn, so that counting by source has something to count.
const SOURCES: u32 = 250;

/// How long a server may leave a client without its byte before the run is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one window, or the opening of what is to be held, may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What one window of load saw.
pub(crate) struct Window {
    /// Connections that got their byte.
    pub(crate) served: u32,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

/// A socket of `source`. Closing it resets its connection, so that no port stays in TIME_WAIT.
pub(crate) fn socket_of(source: Ipv4Addr, flags: SockFlag) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC | flags, None)?;
    setsockopt(&fd, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    setsockopt(&fd, IpBindAddressNoPort, &true)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    Ok(fd)
}

/// Connects from the next source of 127.`net`.0.0/16.
fn open(to: SocketAddrV4, net: u8) -> Result<TcpStream> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let last = (NEXT.fetch_add(1, Ordering::Relaxed) % SOURCES + 1) as u8;
    let fd = socket_of(Ipv4Addr::new(127, net, 0, last), SockFlag::empty())?;
    connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Waits for the handler's byte.
fn take(mut stream: TcpStream) -> Result<TcpStream> {
    match stream.read(&mut [0])? {
        0 => Err(Error::new(ErrorKind::UnexpectedEof, "a connection was closed without a byte from its handler")),
        _ => Ok(stream),
    }
}

/// Keeps [`IN_FLIGHT`] connections under way while `more` says so; `done` gets each in the order of opening. A server
/// that takes them in this order makes us wait for the oldest only.
fn pipeline(to: SocketAddrV4, net: u8, mut more: impl FnMut() -> bool, mut done: impl FnMut(TcpStream)) -> Result<()> {
    let (begin, mut waiting) = (Instant::now(), VecDeque::with_capacity(IN_FLIGHT));
    loop {
        if begin.elapsed() > LIMIT {
            return Err(Error::new(ErrorKind::TimedOut, "too slow to be measured"));
        }
        while waiting.len() < IN_FLIGHT && more() {
            waiting.push_back(open(to, net)?);
        }
        match waiting.pop_front() {
            Some(oldest) => done(take(oldest)?),
            None => return Ok(()),
        }
    }
}

/// As many connections as the server takes in `length`.
pub(crate) fn window(to: SocketAddrV4, length: Duration) -> Result<Window> {
    let (begin, mut served) = (Instant::now(), 0);
    pipeline(to, PASSING, || begin.elapsed() < length, |_| served += 1)?;
    Ok(Window { served, elapsed: begin.elapsed() })
}

/// `count` connections that stay until they are dropped, each with a live handler.
pub(crate) fn hold(to: SocketAddrV4, count: usize) -> Result<Vec<TcpStream>> {
    let (mut begun, mut held) = (0, Vec::with_capacity(count));
    let more = || {
        begun += 1;
        begun <= count
    };
    pipeline(to, HOLDING, more, |stream| held.push(stream))?;
    Ok(held)
}

/// One connection with `between` called while it waits in the backlog: how long from then to the handler's byte.
pub(crate) fn probe_after(to: SocketAddrV4, between: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let stream = open(to, PASSING)?;
    let begin = Instant::now();
    between()?;
    take(stream).map(|_| begin.elapsed())
}

/// One connection: from connect to the handler's byte.
pub(crate) fn probe(to: SocketAddrV4) -> Result<Duration> {
    let begin = Instant::now();
    take(open(to, PASSING)?).map(|_| begin.elapsed())
}
