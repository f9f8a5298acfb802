//! The handlers within this program: echo, discard, chargen, daytime, time, redirect and tcpmux.
//!
//! The daemon starts them like any other program, as `oxinetd builtin NAME …` (`Builtin::command_line`). The only
//! special case is the connection that `tcpmux` gives back (`PASS_ON`). Each builtin serves one connection on
//! descriptor 0, or a socket of datagrams until it is idle, in a separate process, under the limits of its service.
//! It may block, look up names and end at any time. `main` calls [`run_builtin`] before anything else, so that a
//! start does no work that only the daemon needs.
//!
//! The exit status tells how a builtin ended, and the daemon logs it ([`crate::exit`]). A line on standard error
//! tells more, unless standard error is the connection, where the client would read it.

mod command;
mod datagram;
mod failure;
mod redirect;
mod relay;
mod stream;
mod text;
mod tcpmux;

pub use command::{Builtin, BuiltinKind, RedirectTarget};
pub(crate) use command::{BuiltinContext, split_host_port};
pub(crate) use datagram::CLIENT_PORT_MIN;
pub(crate) use tcpmux::{PASS_ON, REQUEST_LEN_MAX, parse_request};

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::prctl;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;

use crate::exit;
use failure::{BuiltinFailure, BuiltinResult};

/// Runs a builtin; `words` are those that follow `oxinetd builtin`. Returns the exit status.
#[must_use]
pub fn run_builtin(words: &[String]) -> u8 {
    // Otherwise ps(1) would show the last part of the path by which it was started, "exe".
    let _ = prctl::set_name(c"oxinetd");
    // No builtin needs further privileges.
    let _ = prctl::set_no_new_privs();
    match serve_stdin(words) {
        Ok(status) => status,
        Err(BuiltinFailure { status, message }) => {
            report_error(words, &message);
            status
        }
    }
}

fn serve_stdin(words: &[String]) -> BuiltinResult {
    let (builtin, context) = Builtin::parse(words).map_err(|message| BuiltinFailure::new(exit::USAGE, message))?;
    let no_socket = |_| BuiltinFailure::new(exit::USAGE, "descriptor 0 is no socket; oxinetd(8) starts builtins");
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(BuiltinFailure::system("descriptor 0"))?;
    match getsockopt(&socket, sockopt::SockType).map_err(no_socket)? {
        SockType::Datagram => datagram::serve_socket(&socket, &builtin, &context, |line| report_error(words, line)),
        SockType::Stream => serve_connection(socket, &builtin, &context.words),
        _ => Err(BuiltinFailure::new(exit::USAGE, "descriptor 0 is neither a connection nor a socket of datagrams")),
    }
}

fn serve_connection(socket: OwnedFd, builtin: &Builtin, names: &[String]) -> BuiltinResult {
    if getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false) {
        return Err(BuiltinFailure::new(exit::USAGE, "descriptor 0 is a listening socket, not a connection"));
    }
    // Otherwise a client that vanishes without closing would hold its place until the idle time-out.
    let _ = nix::sys::socket::setsockopt(&socket, sockopt::KeepAlive, &true);
    let stream = TcpStream::from(socket);
    match &builtin.kind {
        BuiltinKind::Redirect(target) => redirect::serve_client(stream, target, builtin.idle_timeout),
        BuiltinKind::Tcpmux => tcpmux::serve_client(&stream, names, builtin.idle_timeout),
        kind => stream::serve_text_client(stream, kind, builtin.idle_timeout),
    }
}

/// Writes a message to standard error, unless the client would read it.
fn report_error(words: &[String], message: &str) {
    let same = |one: &nix::sys::stat::FileStat, other: &nix::sys::stat::FileStat| {
        (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    };
    let shown_to_client = match (fstat(io::stdin()), fstat(io::stderr())) {
        (Ok(connection), Ok(stderr)) => same(&connection, &stderr),
        _ => false,
    };
    if !shown_to_client {
        let name = words.first().map_or("", String::as_str);
        let _ = writeln!(io::stderr(), "oxinetd builtin {name}: {message}");
    }
}
