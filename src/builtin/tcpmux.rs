//! `tcpmux`: the client names the service that he wants (RFC 1078).
//!
//! A handler of its own waits for the client to do so, and leaves what he says in the connection, unread. Is it the name
//! of a service, the handler ends with [`PASS_ON`]: the daemon, which has kept the connection too, takes the request
//! from it, and admits the client to that service as if he had just come. So the service has all its limits, the ledger
//! counts its handler as its own, and nobody but the daemon's own handler can hand a connection over. A client who takes
//! his time, sends something else or goes away costs a place of `tcpmux` alone.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::{Failure, Outcome, PASS_ON, stream};
use crate::exit;
use crate::sys::{clock, socket};

/// The longest request, with its end of line: the longest name of a service and some blanks.
pub const LONGEST_REQUEST: usize = 128;

/// The service that a request at the beginning of `bytes` names, in lower case, and the length of the request. `None` if
/// it is not complete. The line ends with CRLF; the LF alone is taken too.
#[must_use]
pub fn request(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.iter().take(LONGEST_REQUEST).position(|byte| *byte == b'\n')?;
    let name = String::from_utf8_lossy(&bytes[..end]).trim().to_ascii_lowercase();
    Some((name, end + 1))
}

/// Serves one client, to whom the services of these names, in lower case, are open.
pub(super) fn serve(client: &TcpStream, names: &[String], idle: Duration) -> Outcome {
    let (name, length) = match wait_for_request(client, idle) {
        Ok(found) => found,
        Err(nothing @ (Nothing::Gone | Nothing::Idle)) => {
            let _ = stream::goodbye(client);
            return Ok(if matches!(nothing, Nothing::Idle) { exit::IDLE } else { exit::DONE });
        }
        Err(Nothing::TooLong) => return answer(client, "-That is too long for the name of a service\r\n"),
    };
    if names.contains(&name) {
        return Ok(PASS_ON);
    }
    let mut bytes = [0; LONGEST_REQUEST];
    let _ = recv(client.as_raw_fd(), &mut bytes[..length], MsgFlags::MSG_DONTWAIT);
    if name == "help" {
        let lines: String = names.iter().map(|name| format!("{name}\r\n")).collect();
        return answer(client, &lines);
    }
    answer(client, "-Service not available\r\n")
}

fn answer(mut client: &TcpStream, text: &str) -> Outcome {
    let timeout = client.set_write_timeout(Some(Duration::from_secs(10)));
    timeout.map_err(Failure::system("time-out"))?;
    if client.write_all(text.as_bytes()).and_then(|()| stream::goodbye(client)).is_err() {
        let _ = client.shutdown(Shutdown::Both);
    }
    Ok(exit::DONE)
}

/// Why there is no request.
enum Nothing {
    Gone,
    Idle,
    TooLong,
}

/// Waits until the connection begins with a whole request, and leaves it there.
fn wait_for_request(client: &TcpStream, idle: Duration) -> Result<(String, usize), Nothing> {
    let end = clock::monotonic() + idle;
    let mut bytes = [0; LONGEST_REQUEST];
    let mut seen = 0;
    loop {
        let size = more_than(client.as_fd(), seen, end, &mut bytes);
        wake_at(client.as_fd(), 1);
        let size = size?;
        if let Some(found) = request(&bytes[..size]) {
            return Ok(found);
        }
        if size == bytes.len() {
            return Err(Nothing::TooLong);
        }
        seen = size;
    }
}

/// Looks at what the client has sent, once that is more than `seen` bytes.
fn more_than(
    client: BorrowedFd<'_>,
    seen: usize,
    end: Duration,
    bytes: &mut [u8; LONGEST_REQUEST],
) -> Result<usize, Nothing> {
    wake_at(client, seen + 1);
    let left = end.saturating_sub(clock::monotonic());
    let mut set = [PollFd::new(client, PollFlags::POLLIN)];
    let found = poll(&mut set, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    match found {
        Ok(0) => return Err(Nothing::Idle),
        Ok(_) => {}
        Err(_) => return Err(Nothing::Gone),
    }
    // Nothing new means that there will be no more; or that urgent data bars the way, which is no request.
    let size = recv(client.as_raw_fd(), bytes, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).unwrap_or(0);
    if size > seen { Ok(size) } else { Err(Nothing::Gone) }
}

/// The connection counts as readable from so many bytes on (`SO_RCVLOWAT`, socket(7)): what was looked at and is still
/// there must not wake anybody.
fn wake_at(client: BorrowedFd<'_>, bytes: usize) {
    let bytes = i32::try_from(bytes).unwrap_or(1);
    let _ = socket::set_option(client, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line() {
        let found = |text: &str| request(text.as_bytes());
        assert_eq!(found("Echo\r\nrest"), Some(("echo".to_owned(), 6)));
        assert_eq!(found("echo\nrest\n"), Some(("echo".to_owned(), 5)));
        assert_eq!(found("\r\n"), Some((String::new(), 2)));
        assert_eq!(found("echo\r"), None);
        assert_eq!(found(""), None);
        let long = "a".repeat(LONGEST_REQUEST - 1);
        assert_eq!(found(&format!("{long}\n")).map(|(_, size)| size), Some(LONGEST_REQUEST));
        assert_eq!(found(&format!("{long}a\n")), None);
        assert_eq!(request(b"\xff\0\n"), Some(("\u{fffd}\0".to_owned(), 3)));
    }
}
