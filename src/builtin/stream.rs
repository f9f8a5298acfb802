//! The small services over a connection: echo, discard, chargen, daytime and time.
//!
//! When the client disconnects, in any way, the service has succeeded. After the idle time-out the connection is
//! closed, with the exit status [`exit::IDLE`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::command::BuiltinKind;
use super::failure::{BuiltinFailure, BuiltinResult};
use super::text;
use crate::exit;
use crate::sys::clock;

/// Serves one client until it disconnects or is idle for too long.
pub(super) fn serve_text_client(mut client: TcpStream, kind: &BuiltinKind, idle: Duration) -> BuiltinResult {
    let times = client.set_read_timeout(Some(idle)).and_then(|()| client.set_write_timeout(Some(idle)));
    times.map_err(BuiltinFailure::system("time-out"))?;
    let now = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
    let result = match kind {
        BuiltinKind::Echo => echo_bytes(&mut client),
        BuiltinKind::Discard => discard_bytes(&client),
        BuiltinKind::Chargen => send_characters(&mut client),
        BuiltinKind::Daytime => {
            client.write_all(text::daytime_line(now).as_bytes()).and_then(|()| close_cleanly(&client))
        }
        BuiltinKind::Time => client.write_all(&text::rfc868_time(now)).and_then(|()| close_cleanly(&client)),
        BuiltinKind::Tcpmux | BuiltinKind::Redirect(_) => Ok(()),
    };
    Ok(match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => exit::IDLE,
        _ => exit::DONE,
    })
}

fn echo_bytes(client: &mut TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let size = match client.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        client.write_all(&bytes[..size])?;
    }
}

fn discard_bytes(client: &TcpStream) -> io::Result<()> {
    while discard_received(client.as_fd(), MsgFlags::empty())? > 0 {}
    Ok(())
}

fn send_characters(client: &mut TcpStream) -> io::Result<()> {
    let lines = text::chargen_lines();
    loop {
        client.write_all(&lines)?;
        // What the client sends is discarded (RFC 864). After its half-close, the client can still read.
        while discard_received(client.as_fd(), MsgFlags::MSG_DONTWAIT).unwrap_or(0) > 0 {}
    }
}

/// Receives some bytes and discards them. For TCP, `MSG_TRUNC` saves the copy (tcp(7)).
fn discard_received(client: BorrowedFd<'_>, flags: MsgFlags) -> io::Result<usize> {
    let mut bytes = [0; 16 << 10];
    loop {
        match recv(client.as_raw_fd(), &mut bytes, flags | MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Ends a connection so that the client receives everything that was sent to it. Closing a socket with unread data
/// would send a reset, which could overtake the data (RFC 2525 §2.17).
pub(super) fn close_cleanly(client: &TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    for _ in 0..4 {
        if !matches!(discard_received(client.as_fd(), MsgFlags::MSG_DONTWAIT), Ok(1..)) {
            break;
        }
    }
    Ok(())
}
