//! The small services over a connection: echo, discard, chargen, daytime and time.
//!
//! A client who goes away, however he does it, has ended the service well. One who does nothing for too long is let go.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::{Failure, Outcome, What, text};
use crate::exit;
use crate::sys::clock;

/// Serves one client.
pub(super) fn serve(mut client: TcpStream, what: &What, idle: Duration) -> Outcome {
    let times = client.set_read_timeout(Some(idle)).and_then(|()| client.set_write_timeout(Some(idle)));
    times.map_err(Failure::system("time-out"))?;
    let now = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
    let result = match what {
        What::Echo => echo(&mut client),
        What::Discard => discard(&client),
        What::Chargen => chargen(&mut client),
        What::Daytime => client.write_all(text::daytime(now).as_bytes()).and_then(|()| goodbye(&client)),
        What::Time => client.write_all(&text::seconds(now)).and_then(|()| goodbye(&client)),
        What::Tcpmux | What::Redirect(_) => Ok(()),
    };
    Ok(match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => exit::IDLE,
        _ => exit::DONE,
    })
}

fn echo(client: &mut TcpStream) -> io::Result<()> {
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

fn discard(client: &TcpStream) -> io::Result<()> {
    while drop_received(client.as_fd(), MsgFlags::empty())? > 0 {}
    Ok(())
}

fn chargen(client: &mut TcpStream) -> io::Result<()> {
    let lines = text::characters();
    loop {
        client.write_all(&lines)?;
        // What the client sends is thrown away (RFC 864); who says that he sends no more may go on reading.
        while drop_received(client.as_fd(), MsgFlags::MSG_DONTWAIT).unwrap_or(0) > 0 {}
    }
}

/// Receives some bytes to nowhere: for TCP, `MSG_TRUNC` saves even the copy (tcp(7)).
fn drop_received(client: BorrowedFd<'_>, flags: MsgFlags) -> io::Result<usize> {
    let mut bytes = [0; 16 << 10];
    loop {
        match recv(client.as_raw_fd(), &mut bytes, flags | MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Ends a connection so that the client reads what was sent to him, whatever he has sent himself: closing a socket with
/// unread data sends a reset, which would overtake it (RFC 2525 §2.17).
pub(super) fn goodbye(client: &TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    for _ in 0..4 {
        if !matches!(drop_received(client.as_fd(), MsgFlags::MSG_DONTWAIT), Ok(1..)) {
            break;
        }
    }
    Ok(())
}
