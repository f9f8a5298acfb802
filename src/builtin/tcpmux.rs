//! `tcpmux`: the client names the service that it wants (RFC 1078).
//!
//! A separate handler waits for the client's request, and leaves it in the connection, unread. If the request names
//! a service, the handler ends with [`PASS_ON`]. The daemon, which has kept the connection too, then reads the
//! request, and admits the client to that service like a new connection. So all limits of the service apply, the
//! ledger counts its handler under that service, and only the daemon's own handler can hand over a connection. A
//! client that is slow, sends something else or disconnects takes a place of `tcpmux` alone.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::failure::{BuiltinFailure, BuiltinResult};
use super::stream;
use crate::exit;
use crate::sys::{clock, socket};

/// With this exit status `tcpmux` gives the connection back to the daemon, with the client's request still unread.
/// Neither shells nor sysexits(3) use this status.
pub(crate) const PASS_ON: u8 = 99;

/// The longest request in bytes, including the end of line: room for the longest name of a service and some blanks.
pub(crate) const REQUEST_LEN_MAX: usize = 128;

/// Reads the request at the beginning of `bytes`: the name of the service in lower case, and the length of the
/// request. `None` if it is not complete. The line ends with CRLF; LF alone is accepted too.
#[must_use]
pub(crate) fn parse_request(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.iter().take(REQUEST_LEN_MAX).position(|byte| *byte == b'\n')?;
    let name = String::from_utf8_lossy(&bytes[..end]).trim().to_ascii_lowercase();
    Some((name, end + 1))
}

/// Serves one client, which may ask for the services with these `names`, in lower case.
pub(super) fn serve_client(client: &TcpStream, names: &[String], idle: Duration) -> BuiltinResult {
    let (name, length) = match wait_for_request(client, idle) {
        Ok(found) => found,
        Err(missing @ (NoRequest::Gone | NoRequest::Idle)) => {
            let _ = stream::close_cleanly(client);
            return Ok(if matches!(missing, NoRequest::Idle) { exit::IDLE } else { exit::DONE });
        }
        Err(NoRequest::TooLong) => return send_answer(client, "-That is too long for the name of a service\r\n"),
    };
    if names.contains(&name) {
        return Ok(PASS_ON);
    }
    let mut bytes = [0; REQUEST_LEN_MAX];
    let _ = recv(client.as_raw_fd(), &mut bytes[..length], MsgFlags::MSG_DONTWAIT);
    if name == "help" {
        let lines: String = names.iter().map(|name| format!("{name}\r\n")).collect();
        return send_answer(client, &lines);
    }
    send_answer(client, "-Service not available\r\n")
}

fn send_answer(mut client: &TcpStream, text: &str) -> BuiltinResult {
    let timeout = client.set_write_timeout(Some(Duration::from_secs(10)));
    timeout.map_err(BuiltinFailure::system("time-out"))?;
    if client.write_all(text.as_bytes()).and_then(|()| stream::close_cleanly(client)).is_err() {
        let _ = client.shutdown(Shutdown::Both);
    }
    Ok(exit::DONE)
}

/// Why no request was read.
enum NoRequest {
    Gone,
    Idle,
    TooLong,
}

/// Waits until the connection begins with a whole request, and leaves it unread.
fn wait_for_request(client: &TcpStream, idle: Duration) -> Result<(String, usize), NoRequest> {
    let end = clock::monotonic() + idle;
    let mut bytes = [0; REQUEST_LEN_MAX];
    let mut seen = 0;
    loop {
        let size = peek_more_than(client.as_fd(), seen, end, &mut bytes);
        set_low_watermark(client.as_fd(), 1);
        let size = size?;
        if let Some(found) = parse_request(&bytes[..size]) {
            return Ok(found);
        }
        if size == bytes.len() {
            return Err(NoRequest::TooLong);
        }
        seen = size;
    }
}

/// Waits until the client has sent more than `seen` bytes, and reads all of them without removing them.
fn peek_more_than(
    client: BorrowedFd<'_>,
    seen: usize,
    end: Duration,
    bytes: &mut [u8; REQUEST_LEN_MAX],
) -> Result<usize, NoRequest> {
    set_low_watermark(client, seen + 1);
    let left = end.saturating_sub(clock::monotonic());
    let mut set = [PollFd::new(client, PollFlags::POLLIN)];
    let found = poll(&mut set, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    match found {
        Ok(0) => return Err(NoRequest::Idle),
        Ok(_) => {}
        Err(_) => return Err(NoRequest::Gone),
    }
    // No new bytes: the client will send no more, or urgent data comes first, which is no request.
    let size = recv(client.as_raw_fd(), bytes, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).unwrap_or(0);
    if size > seen { Ok(size) } else { Err(NoRequest::Gone) }
}

/// Makes the connection readable only from this many bytes on (`SO_RCVLOWAT`, socket(7)), so that bytes that were
/// seen and left there do not wake the handler.
fn set_low_watermark(client: BorrowedFd<'_>, bytes: usize) {
    let bytes = i32::try_from(bytes).unwrap_or(1);
    let _ = socket::set_option(client, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line() {
        let found = |text: &str| parse_request(text.as_bytes());
        assert_eq!(found("Echo\r\nrest"), Some(("echo".to_owned(), 6)));
        assert_eq!(found("echo\nrest\n"), Some(("echo".to_owned(), 5)));
        assert_eq!(found("\r\n"), Some((String::new(), 2)));
        assert_eq!(found("echo\r"), None);
        assert_eq!(found(""), None);
        let long = "a".repeat(REQUEST_LEN_MAX - 1);
        assert_eq!(found(&format!("{long}\n")).map(|(_, size)| size), Some(REQUEST_LEN_MAX));
        assert_eq!(found(&format!("{long}a\n")), None);
        assert_eq!(parse_request(b"\xff\0\n"), Some(("\u{fffd}\0".to_owned(), 3)));
    }
}
