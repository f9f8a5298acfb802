//! Handlers that happen to live in this program: echo, discard, chargen, daytime, time, redirect and tcpmux.
//!
//! The daemon starts them like any other program, as `oxinetd builtin NAME …` ([`Builtin::command`]), and knows no
//! special case but the connection that `tcpmux` gives back ([`PASS_ON`]). So each serves one connection on descriptor 0,
//! or a socket of datagrams until it is idle, in a process of its own, under the limits of its service; it may block,
//! look up names and end at any time. `main` calls [`run`] before it looks at anything else, so that no start pays for what
//! the daemon needs.
//!
//! How it ended is its exit status, which the daemon logs ([`crate::exit`]); a line on standard error says more, unless that is
//! the client's connection, who should not read it.

mod command;
mod datagram;
mod redirect;
mod relay;
mod stream;
mod text;
mod tcpmux;

pub use command::{Builtin, Target, Told, What, host_and_port};
pub use tcpmux::{LONGEST_REQUEST, request};

use std::fmt::Display;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::prctl;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;

use crate::exit;

/// Ports below this belong to services, not to clients (`IPPORT_RESERVED`).
pub const RESERVED_PORTS: u16 = 1024;

/// The exit status of `tcpmux` that gives the connection back to the daemon: the client's request is the next thing to be
/// read from it. No status that a shell or sysexits(3) gives a meaning.
pub const PASS_ON: u8 = 99;

/// Why a builtin could not do its work.
#[derive(Debug)]
struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    fn new(status: u8, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }

    fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::new(exit::SYSTEM, format!("{what}: {error}"))
    }
}

/// How a builtin ends: an exit status, or why.
type Outcome = Result<u8, Failure>;

/// Runs the builtin that `words`, which follow `oxinetd builtin`, name. Gives the exit status.
#[must_use]
pub fn run(words: &[String]) -> u8 {
    // Or ps(1) would show the last part of the path by which it was started, "exe".
    let _ = prctl::set_name(c"oxinetd");
    // Nothing here needs more rights than it has.
    let _ = prctl::set_no_new_privs();
    match start(words) {
        Ok(status) => status,
        Err(Failure { status, message }) => {
            complain(words, &message);
            status
        }
    }
}

fn start(words: &[String]) -> Outcome {
    let (builtin, told) = Builtin::parse(words).map_err(|message| Failure::new(exit::USAGE, message))?;
    let no_socket = |_| Failure::new(exit::USAGE, "descriptor 0 is no socket; oxinetd(8) starts builtins");
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(Failure::system("descriptor 0"))?;
    match getsockopt(&socket, sockopt::SockType).map_err(no_socket)? {
        SockType::Datagram => datagram::serve(&socket, &builtin, &told, |line| complain(words, line)),
        SockType::Stream => connection(socket, &builtin, &told.words),
        _ => Err(Failure::new(exit::USAGE, "descriptor 0 is neither a connection nor a socket of datagrams")),
    }
}

fn connection(socket: OwnedFd, builtin: &Builtin, names: &[String]) -> Outcome {
    if getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false) {
        return Err(Failure::new(exit::USAGE, "descriptor 0 is a listening socket, not a connection"));
    }
    // A client who is gone without a word would hold a place until it is idle for too long.
    let _ = nix::sys::socket::setsockopt(&socket, sockopt::KeepAlive, &true);
    let stream = TcpStream::from(socket);
    match &builtin.what {
        What::Redirect(target) => redirect::serve(stream, target, builtin.idle_timeout),
        What::Tcpmux => tcpmux::serve(&stream, names, builtin.idle_timeout),
        what => stream::serve(stream, what, builtin.idle_timeout),
    }
}

/// Says something on standard error, unless the client would read it.
fn complain(words: &[String], message: &str) {
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
