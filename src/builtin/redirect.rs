//! `redirect`: connects the client to another server.
//!
//! The name is looked up for each connection, in the handler's process, so that only this client waits for it. The
//! addresses are tried in the order of getaddrinfo(3) (RFC 6724), each for a limited time. If none can be
//! connected, the client's connection is reset, so that the client does not take the end for an empty answer.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::command::RedirectTarget;
use super::failure::{BuiltinFailure, BuiltinResult};
use super::relay;
use crate::exit;
use crate::sys::socket;

/// Connects one client to the target, and relays until both sides have ended.
pub(super) fn serve_client(client: TcpStream, target: &RedirectTarget, idle: Duration) -> BuiltinResult {
    match connect_target(target) {
        Ok(server) => relay::relay_streams(client, server, idle),
        Err(failure) => {
            socket::reset_on_close(&client);
            Err(failure)
        }
    }
}

fn connect_target(target: &RedirectTarget) -> Result<TcpStream, BuiltinFailure> {
    let RedirectTarget { host, port, connect_timeout } = target;
    let addresses = (host.as_str(), *port).to_socket_addrs();
    let addresses = addresses.map_err(|error| BuiltinFailure::new(exit::NO_HOST, format!("{host}: {error}")))?;
    let mut tried = Vec::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, *connect_timeout) {
            Ok(server) if is_self_connected(&server) => {
                tried.push(describe_attempt(address, &io::Error::from(io::ErrorKind::ConnectionRefused)));
            }
            Ok(server) => return Ok(server),
            Err(error) => tried.push(describe_attempt(address, &error)),
        }
    }
    Err(BuiltinFailure::new(exit::UNAVAILABLE, format!("{}: {}", target.host_port(), tried.join("; "))))
}

fn describe_attempt(address: SocketAddr, error: &io::Error) -> String {
    format!("{address}: {error}")
}

/// Whether a socket is connected to itself. This may happen with a local port of the range for clients on which
/// nobody listens (RFC 9293, 3.5).
fn is_self_connected(server: &TcpStream) -> bool {
    matches!((server.local_addr(), server.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}
