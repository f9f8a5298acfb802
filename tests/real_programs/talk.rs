//! in.ntalkd: `dgram wait`, drops whatever does not come from AF_INET, and spins on a non-blocking socket.
//!
//! The packets are those of <protocols/talkd.h>, made here: talk(1) itself needs a terminal.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use super::support::{free_port, is_root, state_of, wait_until};
use super::{all_gone, end_handler, have, listener, only_handler, path_of, serve};

const LOOK_UP: u8 = 1;
const NOT_HERE: u8 = 1;
const UNKNOWN_REQUEST: u8 = 5;
const BAD_VERSION: u8 = 6;
const VERSION: u8 = 1;

/// An address as 4.3BSD had it: the family and then what `struct sockaddr_in` has, all in network order.
fn old_address(address: SocketAddrV4) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[1] = 2; // AF_INET
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    bytes
}

/// `CTL_MSG`: is there an invitation for callee by caller? To be answered at `own`.
fn message(version: u8, kind: u8, own: SocketAddrV4) -> Vec<u8> {
    let name = |name: &str| {
        let mut bytes = [0; 12];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes
    };
    let mut bytes = vec![version, kind, 0, 0];
    bytes.extend([0; 4]); // id_num
    bytes.extend(old_address(own)); // where to talk
    bytes.extend(old_address(own)); // where to answer
    bytes.extend(1_u32.to_be_bytes()); // pid
    bytes.extend(name("callee"));
    bytes.extend(name("caller"));
    bytes.extend([0; 16]); // tty
    assert_eq!(bytes.len(), 84);
    bytes
}

/// Sends a message and gives the first words of the answer: version, type, answer.
fn ask(socket: &UdpSocket, port: u16, version: u8, kind: u8) -> [u8; 3] {
    let SocketAddr::V4(own) = socket.local_addr().unwrap() else { panic!("not IPv4") };
    socket.send_to(&message(version, kind, own), ("127.0.0.1", port)).unwrap();
    // CTL_RESPONSE: version, type, answer, a byte of nothing, id_num, an address.
    let mut answer = [0; 64];
    assert_eq!(socket.recv(&mut answer).unwrap(), 24);
    answer[..3].try_into().unwrap()
}

#[test]
fn talk_works_while_its_handler_lives_and_after_it_was_ended() {
    if !have(&["in.ntalkd"]) {
        return;
    }
    let port = free_port();
    let user = if is_root() { "user: nobody, " } else { "" };
    let daemon =
        serve(&format!("  ntalk: {{ listen: udp4/127.0.0.1:{port}, {user}program: {} }}", path_of("in.ntalkd")));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();

    assert_eq!(ask(&socket, port, VERSION, LOOK_UP), [VERSION, LOOK_UP, NOT_HERE]);
    let handler = only_handler(&daemon);
    assert_eq!(listener(&daemon, "ntalk"), "lent");
    assert_eq!(ask(&socket, port, VERSION, 99), [VERSION, 99, UNKNOWN_REQUEST]);
    assert_eq!(ask(&socket, port, 0, LOOK_UP), [VERSION, LOOK_UP, BAD_VERSION]);
    assert_eq!(only_handler(&daemon), handler);
    // On a socket that does not block it would ask again and again.
    wait_until("the handler to sleep", || state_of(handler) == Some('S'));

    end_handler(&daemon, handler);
    assert_eq!(ask(&socket, port, VERSION, LOOK_UP), [VERSION, LOOK_UP, NOT_HERE]);
    let successor = only_handler(&daemon);
    assert_ne!(successor, handler);
    end_handler(&daemon, successor);
    all_gone(&daemon);
}
