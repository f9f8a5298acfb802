//! The reader of request lines, for [`crate::fuzzed`] alone.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::client::{ClientState, ControlClient, ControlPeer, REQUEST_LEN_MAX};

/// The longest line that is accepted, in bytes.
pub(crate) const LINE_LEN_MAX: usize = REQUEST_LEN_MAX;

/// The lines that the server reads from a client that sends `bytes` in pieces of this length. An error stands for a
/// line that is too long. Panics if the connection does not end.
pub(crate) fn read_lines(bytes: &[u8], piece_len: usize) -> Vec<Result<Vec<u8>, ()>> {
    let (mut theirs, ours) = UnixStream::pair().expect("sockets");
    let mut client = ControlClient::new(ours.into(), ControlPeer { uid: 0, pid: 0 }, Duration::ZERO);
    let mut pieces = bytes.chunks(piece_len);
    let mut lines = Vec::new();
    let mut sender = Some(&mut theirs);
    for _ in 0..2 * bytes.len() + 4 {
        match client.state {
            ClientState::Gone => return lines,
            ClientState::Queued => {
                lines.push(client.take_line());
                client.send_answer(Vec::new(), Duration::ZERO);
            }
            ClientState::Reading | ClientState::Writing => {
                match (pieces.next(), &mut sender) {
                    (Some(piece), Some(sender)) => sender.write_all(piece).expect("room"),
                    (None, Some(_)) => {
                        let done = sender.take().map(|sender| sender.shutdown(std::net::Shutdown::Write));
                        done.expect("a sender").expect("an open socket");
                    }
                    _ => {}
                }
                client.on_ready(Duration::ZERO);
            }
        }
    }
    assert!(client.state == ClientState::Gone, "{client:?}");
    lines
}
