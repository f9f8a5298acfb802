//! Free ports, clients, and what the kernel says of sockets.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use super::PATIENCE;

/// A port that no other test has, below the range from which the kernel takes ports for clients.
pub fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() % 18_000).unwrap();
    for step in 0..18_000_u16 {
        let port = 12_000 + (start + step.wrapping_mul(7)) % 18_000;
        // First the mark: what is in use by then is nothing that another test is about to open, or to close.
        let Some(mark) = reserve(port) else { continue };
        if !in_use(port) {
            std::mem::forget(mark);
            return port;
        }
    }
    panic!("no free port");
}

/// Takes a port for this process, until the mark is closed or the process ends, if no other test has it. The mark is a
/// socket without a file: it is seen where the port is, in this network namespace, by the tests of every user, and
/// nothing is left of it.
fn reserve(port: u16) -> Option<UnixDatagram> {
    let mark = std::os::unix::net::SocketAddr::from_abstract_name(format!("oxinetd-test-port-{port}")).unwrap();
    UnixDatagram::bind_addr(&mark).ok()
}

/// Has any socket this port? The kernel is asked, and no socket bound to find out: a program that another thread starts
/// in that moment has it too until its execve(2), and the daemon would find the port taken.
fn in_use(port: u16) -> bool {
    ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| !sockets_at(table, port).is_empty())
}

/// The sockets with this port at our end, in one of the lists of this network namespace (proc_net(5): `tcp`, `udp6`), as
/// fields: sl local_address rem_address st tx_queue:rx_queue … inode.
pub fn sockets_at(list: &str, port: u16) -> Vec<Vec<String>> {
    let (list, end) = (Path::new("/proc/thread-self/net").join(list), format!(":{port:04X}"));
    let lines = fs::read_to_string(list).unwrap_or_default();
    let sockets = lines.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    sockets.filter(|fields| fields[1].ends_with(&end)).collect()
}

/// Closes a listening socket, and ends the listening first: a program that another thread starts in that moment has the
/// socket too until its execve(2).
pub fn stop_listening(listener: impl AsFd) {
    nix::sys::socket::shutdown(listener.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
}

/// Connects from one of our own addresses, any of 127.0.0.0/8.
pub fn connect_from(source: [u8; 4], port: u16) -> io::Result<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(source[0], source[1], source[2], source[3], 0))?;
    connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects from 127.0.0.1.
pub fn connect(port: u16) -> TcpStream {
    connect_to(([127, 0, 0, 1], port).into())
}

pub fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `request`, says that there is no more, and gives everything that comes back.
pub fn ask(mut stream: TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Everything that is still to come.
pub fn read_all(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Sends a request over a Unix socket, says that that is all, and gives the answer.
pub fn ask_unix(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    io::read_to_string(stream).unwrap()
}

/// [`ask`] from 127.0.0.1, as text.
pub fn ask_text(port: u16, request: &str) -> String {
    String::from_utf8(ask(connect(port), request.as_bytes()).unwrap()).unwrap()
}

/// The inodes of the TCP sockets that listen on a port in this network namespace, by family: `4` or `6`.
pub fn listening(port: u16) -> Vec<(u8, u64)> {
    let mut found = Vec::new();
    for (family, list) in [(4, "tcp"), (6, "tcp6")] {
        // 0A is TCP_LISTEN.
        let listeners = sockets_at(list, port).into_iter().filter(|fields| fields[3] == "0A");
        found.extend(listeners.map(|fields| (family, fields[9].parse().unwrap())));
    }
    // The kernel writes the list piece by piece, and may show a socket twice when others come and go.
    found.sort_unstable();
    found.dedup();
    found
}

/// The inode of a socket that is a process's descriptor.
pub fn socket_of(pid: i32, descriptor: i32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Is there IPv6 on this machine's loopback?
pub fn has_ipv6() -> bool {
    TcpListener::bind(("::1", 0)).is_ok()
}

/// Sends a word to a `cat` and waits until it comes back: its handler lives.
pub fn echo(stream: &mut TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, word.as_bytes());
}
