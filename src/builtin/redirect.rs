//! `redirect`: connects the client with somebody else.
//!
//! The name is looked up for each connection, here, where only this client waits for it. The addresses are tried in the
//! order in which getaddrinfo(3) gives them (RFC 6724), each for a limited time. A client who can't be connected is
//! reset, so that he does not take it for an empty answer.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::{Failure, Outcome, Target, relay};
use crate::exit;
use crate::sys::socket;

/// Serves one client.
pub(super) fn serve(client: TcpStream, target: &Target, idle: Duration) -> Outcome {
    match connect(target) {
        Ok(server) => relay::between(client, server, idle),
        Err(failure) => {
            socket::reset_on_close(&client);
            Err(failure)
        }
    }
}

fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let Target { host, port, connect_timeout } = target;
    let addresses = (host.as_str(), *port).to_socket_addrs();
    let addresses = addresses.map_err(|error| Failure::new(exit::NO_HOST, format!("{host}: {error}")))?;
    let mut tried = Vec::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, *connect_timeout) {
            Ok(server) if is_itself(&server) => {
                tried.push(describe(address, &io::Error::from(io::ErrorKind::ConnectionRefused)));
            }
            Ok(server) => return Ok(server),
            Err(error) => tried.push(describe(address, &error)),
        }
    }
    Err(Failure::new(exit::UNAVAILABLE, format!("{}: {}", target.place(), tried.join("; "))))
}

fn describe(address: SocketAddr, error: &io::Error) -> String {
    format!("{address}: {error}")
}

/// A connection to a local port of the range for clients, on which nobody listens, may be one to itself (RFC 9293, 3.5).
fn is_itself(server: &TcpStream) -> bool {
    matches!((server.local_addr(), server.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}
