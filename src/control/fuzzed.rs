//! The reader of lines, for [`crate::fuzzed`].

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Peer;
use super::client::{Client, Doing, REQUEST};

/// The longest line that is taken.
pub const LONGEST: usize = REQUEST;

/// The lines that a client has taken from him who sends `bytes`, so many at a time; an error stands for one that is too
/// long.
///
/// # Panics
/// If he is kept for ever.
#[must_use]
pub fn lines(bytes: &[u8], at_a_time: usize) -> Vec<Result<Vec<u8>, ()>> {
    let (mut theirs, ours) = UnixStream::pair().expect("sockets");
    let mut client = Client::new(ours.into(), Peer { uid: 0, pid: 0 }, Duration::ZERO);
    let mut pieces = bytes.chunks(at_a_time);
    let mut lines = Vec::new();
    let mut sender = Some(&mut theirs);
    for _ in 0..2 * bytes.len() + 4 {
        match client.doing {
            Doing::Gone => return lines,
            Doing::Waiting => {
                lines.push(client.take_line());
                client.answer(Vec::new(), Duration::ZERO);
            }
            Doing::Asking | Doing::Taking => {
                match (pieces.next(), &mut sender) {
                    (Some(piece), Some(sender)) => sender.write_all(piece).expect("room"),
                    (None, Some(_)) => {
                        let done = sender.take().map(|sender| sender.shutdown(std::net::Shutdown::Write));
                        done.expect("a sender").expect("an open socket");
                    }
                    _ => {}
                }
                client.go_on(Duration::ZERO);
            }
        }
    }
    assert!(client.doing == Doing::Gone, "{client:?}");
    lines
}
