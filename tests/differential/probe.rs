//! A handler that says what it was given, and how to ask it: `probe.pl`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::support::{installed, is_root, skip, wait_for};

/// What a handler says of itself.
pub(crate) type World = BTreeMap<String, String>;

/// The handler, where other users can read it.
pub(crate) fn probe(folder: &Path) -> String {
    let path = folder.join("probe.pl");
    fs::write(&path, include_str!("probe.pl")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Are these here, and may they start handlers of other users?
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| installed(program).is_none()).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {missing:?}"));
    } else if !is_root() {
        skip("only root can run handlers as others");
    }
    missing.is_empty() && is_root()
}

/// Sends a request, if there is one, says that there is no more, and gives everything that comes back; waits for the
/// daemon to open the port first.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = wait_for("the port to be open", || TcpStream::connect(address).ok());
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A handler may have ended before it has read everything.
    let _ = stream.write_all(request);
    // The kernel turns the sockets of IPv4 clients into such only while both sides are open (IPV6_ADDRFORM, ipv6(7)).
    if !request.is_empty() {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Sends a datagram until there is an answer.
pub(crate) fn ask_datagram(address: SocketAddr) -> Vec<u8> {
    let local: SocketAddr = if address.is_ipv4() { "127.0.0.1:0".parse().unwrap() } else { "[::1]:0".parse().unwrap() };
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    wait_for("an answer", || {
        let _ = socket.send_to(b"what?", address);
        let mut answer = vec![0; 65_536];
        let (size, _) = socket.recv_from(&mut answer).ok()?;
        answer.truncate(size);
        Some(answer)
    })
}

/// The answer of the probe.
pub(crate) fn world(answer: &[u8]) -> World {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let pair = |line: &str| {
        let words = if line.starts_with("descriptor") { 2 } else { 1 };
        let end = line.match_indices(' ').nth(words - 1).map_or(line.len(), |(end, _)| end);
        (line[..end].to_owned(), line[end..].trim_start().to_owned())
    };
    text.lines().map(pair).collect()
}

/// The differences of two worlds, but for these keys.
pub(crate) fn differences(theirs: &World, ours: &World, but: &[&str]) -> Vec<String> {
    let keys = theirs.keys().chain(ours.keys().filter(|key| !theirs.contains_key(*key)));
    let keys = keys.filter(|key| !but.contains(&key.as_str()) && theirs.get(*key) != ours.get(*key));
    keys.map(|key| format!("{key}: theirs {:?}, ours {:?}", theirs.get(key), ours.get(key))).collect()
}
