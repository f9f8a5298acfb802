//! A file or standard error: lines are gathered and written in one go.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

use crate::sys::descriptor;

/// At most so many bytes are gathered before they are written.
const GATHERED: usize = 64 * 1024;

/// How long a full pipe may hold up the log before its lines are given up, in milliseconds.
const PATIENCE: u16 = 1000;

#[derive(Debug)]
pub(super) struct Stream {
    descriptor: OwnedFd,
    gathered: Vec<u8>,
    /// What was written last is a part of a line, because the disk was full: what is gathered begins with a line end.
    torn: bool,
    /// Nobody has read the pipe for as long as we wait. It is not waited for again until it has taken something: other
    /// places of the log need the thread, too.
    stuck: bool,
    lost: u64,
}

impl Stream {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, gathered: Vec::with_capacity(GATHERED), torn: false, stuck: false, lost: 0 }
    }

    /// Standard error, by a descriptor of its own.
    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self::new(descriptor::copy_high(io::stderr().as_fd())?))
    }

    pub(super) fn put(&mut self, line: &str) {
        if self.gathered.len() + line.len() + 2 > GATHERED {
            self.write();
        }
        if self.torn && self.gathered.is_empty() {
            self.gathered.push(b'\n');
        }
        self.gathered.extend_from_slice(line.as_bytes());
        self.gathered.push(b'\n');
    }

    pub(super) fn finish(&mut self) -> u64 {
        self.write();
        std::mem::take(&mut self.lost)
    }

    /// Writes what is gathered. What can't be written is lost and counted: the disk is full, or nobody reads the pipe.
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
                Err(Errno::EAGAIN) if !self.stuck => self.stuck = !writable(&self.descriptor),
                _ => break,
            }
        }
        let mends = self.torn && rest.len() == self.gathered.len() && !rest.is_empty();
        let ends = rest.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost += ends - u64::from(mends);
        self.gathered.clear();
    }
}

/// Waits until the descriptor takes more, for a moment.
fn writable(descriptor: &OwnedFd) -> bool {
    let mut set = [PollFd::new(descriptor.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut set, PollTimeout::from(PATIENCE)), Ok(1..))
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
        stream.put("one");
        stream.put("two");
        assert_eq!((stream.finish(), stream.finish()), (2, 0));
    }

    #[test]
    fn a_line_after_a_torn_one_begins_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "half a li").unwrap();
        let mut stream = opened(path.to_str().unwrap());
        stream.torn = true;
        stream.put("whole");
        assert_eq!(stream.finish(), 0);
        assert_eq!(fs::read_to_string(path).unwrap(), "half a li\nwhole\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_loses_lines_and_goes_on_when_it_is_read() {
        let (mut reader, writer) = pipe();
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut stream = Stream::new(writer);
        let line = "x".repeat(999);
        (0..200).for_each(|_| stream.put(&line));
        let lost = stream.finish();
        assert!(lost > 0 && lost < 200, "{lost}");
        let mut read = vec![0; 65_536];
        assert!(reader.read(&mut read).unwrap() > 1000);
        stream.put("after");
        assert_eq!(stream.finish(), 0);
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
        stream.put(&full);
        assert_eq!((stream.finish(), stream.stuck), (1, true));
        stream.put("lost at once");
        assert_eq!((stream.finish(), stream.stuck), (1, true));
        let mut read = vec![0; 100_000];
        while reader.read(&mut read).unwrap() == read.len() {}
        stream.put("after");
        assert_eq!((stream.finish(), stream.stuck), (0, false));
    }

    #[test]
    fn a_torn_line_stays_alone_however_often_writing_fails_after_it() {
        let (mut reader, writer) = pipe();
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut stream = Stream::new(writer);
        // Larger than a pipe is by default (pipe(7)), so that only a part of it goes in.
        stream.put(&"x".repeat(100_000));
        assert_eq!(stream.finish(), 1);
        stream.put("does not fit");
        assert_eq!(stream.finish(), 1);
        let mut read = vec![0; 100_000];
        let size = reader.read(&mut read).unwrap();
        assert!((1..100_000).contains(&size) && read[..size].iter().all(|&byte| byte == b'x'));
        stream.put("after");
        assert_eq!(stream.finish(), 0);
        drop(stream);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "\nafter\n");
    }
}
