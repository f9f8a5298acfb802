//! Datagrams to a local daemon that may be slow, restarted or missing: syslog or the journal.
//!
//! The socket is never connected, so messages reach a restarted daemon without any action (on a connected socket
//! they would fail for ever). It does not block: if the queue is full, the sender waits for a moment; then messages
//! are lost and counted until the daemon reads again.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::descriptor;

/// One message waits at most this long for room.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// After a message could not be sent, none is sent for this long.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The longest message in bytes; the default limits of Linux allow local datagrams of this size.
pub(super) const MESSAGE_LEN_MAX: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Datagrams {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Nothing is sent before this time.
    not_before: Option<Instant>,
    lost: u64,
}

impl Datagrams {
    pub(super) fn to(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None, not_before: None, lost: 0 }
    }

    /// Sends one message, cut to [`MESSAGE_LEN_MAX`].
    pub(super) fn send(&mut self, message: &[u8]) {
        if self.not_before.is_some_and(|when| Instant::now() < when) {
            self.lost += 1;
            return;
        }
        self.not_before = None;
        if self.try_send(&message[..message.len().min(MESSAGE_LEN_MAX)]).is_err() {
            self.lost += 1;
            self.not_before = Some(Instant::now() + RETRY_INTERVAL);
        }
    }

    fn try_send(&mut self, message: &[u8]) -> io::Result<usize> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open_socket()?),
        };
        match socket.send_to(message, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => send_when_room(socket, message, &self.path),
            result => result,
        }
    }

    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

fn open_socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::from(descriptor::move_high(UnixDatagram::unbound()?.into())?);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Waits for room within [`SEND_TIMEOUT`], and sends. Two buffers may be full: our send buffer, which our socket
/// reports, and the daemon's queue, which only a socket that is connected to it reports (`unix_dgram_poll` in the
/// kernel).
fn send_when_room(socket: &UnixDatagram, message: &[u8], path: &Path) -> io::Result<usize> {
    let end = Instant::now() + SEND_TIMEOUT;
    let probe = open_socket()?;
    probe.connect(path)?;
    loop {
        let in_time = wait_for_room(socket, end) && wait_for_room(&probe, end);
        match socket.send_to(message, path) {
            Err(error) if in_time && error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Waits until the socket takes more. Whether there is time left.
fn wait_for_room(socket: &UnixDatagram, end: Instant) -> bool {
    let left = end.saturating_duration_since(Instant::now());
    let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let _ = poll(&mut set, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
    Instant::now() < end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_waited_for_also_when_the_send_buffer_is_what_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let daemon = UnixDatagram::bind(&path).unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        // A few messages of this size fill net.core.wmem_default, before there are net.unix.max_dgram_qlen of them.
        let (message, count) = (vec![b'x'; 30_000], 50);
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; MESSAGE_LEN_MAX];
            let read = |_: &usize| {
                std::thread::sleep(Duration::from_millis(1));
                daemon.recv(&mut bytes).is_ok()
            };
            (0..count).take_while(read).count()
        });
        let mut datagrams = Datagrams::to(&path);
        (0..count).for_each(|_| datagrams.send(&message));
        assert_eq!((datagrams.take_lost(), reader.join().unwrap()), (0, count));
    }
}
