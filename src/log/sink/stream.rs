//! A file or standard error: lines are gathered and written together.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

use crate::sys::descriptor;

/// At most this many bytes are gathered before they are written.
const BATCH_LEN_MAX: usize = 64 * 1024;

/// A full pipe delays the log at most this long, in milliseconds; then its lines are lost.
const WRITE_TIMEOUT_MS: u16 = 1000;

#[derive(Debug)]
pub(super) struct Stream {
    descriptor: OwnedFd,
    gathered: Vec<u8>,
    /// The last write ended within a line, because the disk was full. The next batch begins with a line end.
    torn: bool,
    /// The pipe took nothing within the time-out. The thread, which serves other places too, does not wait for it
    /// again until it takes something.
    stuck: bool,
    lost: u64,
}

impl Stream {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, gathered: Vec::with_capacity(BATCH_LEN_MAX), torn: false, stuck: false, lost: 0 }
    }

    /// Standard error, through a separate descriptor.
    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self::new(descriptor::copy_high(io::stderr().as_fd())?))
    }

    pub(super) fn put_line(&mut self, line: &str) {
        if self.gathered.len() + line.len() + 2 > BATCH_LEN_MAX {
            self.write();
        }
        if self.torn && self.gathered.is_empty() {
            self.gathered.push(b'\n');
        }
        self.gathered.extend_from_slice(line.as_bytes());
        self.gathered.push(b'\n');
    }

    pub(super) fn flush_batch(&mut self) -> u64 {
        self.write();
        std::mem::take(&mut self.lost)
    }

    /// Writes the gathered lines. Lines that cannot be written, because the disk is full or nobody reads the pipe,
    /// are lost and counted.
    fn write(&mut self) {
        let mut rest = self.gathered.as_slice();
        while !rest.is_empty() {
            match write(&self.descriptor, rest) {
                Ok(size) if size > 0 => {
                    self.stuck = false;
                    self.torn = rest[size - 1] != b'\n';
                    rest = &rest[size..];
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !self.stuck => self.stuck = !wait_writable(&self.descriptor),
                _ => break,
            }
        }
        let mends = self.torn && rest.len() == self.gathered.len() && !rest.is_empty();
        let ends = rest.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost += ends - u64::from(mends);
        self.gathered.clear();
    }
}

/// Waits until the descriptor takes more, at most [`WRITE_TIMEOUT_MS`].
fn wait_writable(descriptor: &OwnedFd) -> bool {
    let mut set = [PollFd::new(descriptor.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut set, PollTimeout::from(WRITE_TIMEOUT_MS)), Ok(1..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Read;

    fn opened(path: &str) -> Stream {
        Stream::new(File::options().append(true).open(path).unwrap().into())
    }

    fn pipe() -> (File, OwnedFd) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        (reader.into(), writer)
    }

    #[test]
    fn a_full_disk_loses_lines_and_counts_them() {
        let mut stream = opened("/dev/full");
        stream.put_line("one");
        stream.put_line("two");
        assert_eq!((stream.flush_batch(), stream.flush_batch()), (2, 0));
    }

    #[test]
    fn a_line_after_a_torn_one_begins_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "half a li").unwrap();
        let mut stream = opened(path.to_str().unwrap());
        stream.torn = true;
        stream.put_line("whole");
        assert_eq!(stream.flush_batch(), 0);
        assert_eq!(fs::read_to_string(path).unwrap(), "half a li\nwhole\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_loses_lines_and_goes_on_when_it_is_read() {
        let (mut reader, writer) = pipe();
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut stream = Stream::new(writer);
        let line = "x".repeat(999);
        (0..200).for_each(|_| stream.put_line(&line));
        let lost = stream.flush_batch();
        assert!(lost > 0 && lost < 200, "{lost}");
        let mut read = vec![0; 65_536];
        assert!(reader.read(&mut read).unwrap() > 1000);
        stream.put_line("after");
        assert_eq!(stream.flush_batch(), 0);
        drop(stream);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.lines().last(), Some("after"));
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_waited_for_once() {
        let (mut reader, writer) = pipe();
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut stream = Stream::new(writer);
        let full = "x".repeat(100_000);
        stream.put_line(&full);
        assert_eq!((stream.flush_batch(), stream.stuck), (1, true));
        stream.put_line("lost at once");
        assert_eq!((stream.flush_batch(), stream.stuck), (1, true));
        let mut read = vec![0; 100_000];
        while reader.read(&mut read).unwrap() == read.len() {}
        stream.put_line("after");
        assert_eq!((stream.flush_batch(), stream.stuck), (0, false));
    }

    #[test]
    fn a_torn_line_stays_alone_however_often_writing_fails_after_it() {
        let (mut reader, writer) = pipe();
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut stream = Stream::new(writer);
        // Larger than a pipe is by default (pipe(7)), so that only a part of it goes in.
        stream.put_line(&"x".repeat(100_000));
        assert_eq!(stream.flush_batch(), 1);
        stream.put_line("does not fit");
        assert_eq!(stream.flush_batch(), 1);
        let mut read = vec![0; 100_000];
        let size = reader.read(&mut read).unwrap();
        assert!((1..100_000).contains(&size) && read[..size].iter().all(|&byte| byte == b'x'));
        stream.put_line("after");
        assert_eq!(stream.flush_batch(), 0);
        drop(stream);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "\nafter\n");
    }
}
