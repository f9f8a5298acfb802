//! openbsd-inetd of Debian.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Old;
use super::probe::{World, ask, ask_datagram, differences, have, probe, world};
use super::support::{Setup, free_port, has_ipv6, wait_for};

/// Variables that a handler has here; inetd passes on its own, without `PATH`.
const ENVIRONMENT: &str =
    "PATH|PROTO|REMOTE_ADDR|REMOTE_HOST|REMOTE_PORT|TCPCONNNUM|TCPLOCALIP|TCPLOCALPORT|TCPREMOTEIP|TCPREMOTEPORT";

/// Runs `lines` under both daemons, `PORT1` and so on standing for ports of each one's own, and gives the ports.
fn both<const N: usize>(lines: &str, look: impl Fn([u16; N], [u16; N])) {
    let ports = || [(); N].map(|()| free_port());
    let (theirs, ours) = (ports(), ports());
    let folder = tempfile::Builder::new().prefix("oxinetd-test-").tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lines = lines.replace("PROBE", &probe(folder.path()));
    let file = |ports: &[u16]| {
        (1..)
            .zip(ports)
            .fold(lines.clone(), |text, (number, port)| text.replace(&format!("PORT{number}"), &port.to_string()))
    };
    let path = folder.path().join("inetd.conf");
    fs::write(&path, file(&theirs)).unwrap();
    let _inetd = inetd(&path);
    let _oxinetd = Setup::new(&file(&ours)).start();
    look(theirs, ours);
}

/// The old daemon with this file, in the foreground.
fn inetd(file: &Path) -> Old {
    let mut command = Command::new("/usr/sbin/inetd");
    command.arg("-i").arg(file).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Old(command.spawn().unwrap())
}

fn v4(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn v6(port: u16) -> SocketAddr {
    (std::net::Ipv6Addr::LOCALHOST, port).into()
}

/// What both give a handler is the same, but what is documented.
fn compare(theirs: &World, ours: &World, but: &[&str]) {
    assert!(theirs.len() > 15, "{theirs:?}");
    let but = [&["environment", "SigIgn"], but].concat();
    assert_eq!(differences(theirs, ours, &but), [""; 0]);
    // inetd leaves ignored what it was started with, here by the test; perl itself ignores signal 8.
    assert_eq!(ours["SigIgn"], format!("{:016x}", 1 << (8 - 1)));
    assert!(!theirs["environment"].split('|').any(|name| name == "PATH"), "{theirs:?}");
}

#[test]
fn handler_of_a_connection_sees_the_same() {
    if !have(&["inetd", "perl"]) {
        return;
    }
    let lines = "PORT1 stream tcp nowait nobody /usr/bin/perl perl PROBE\n\
                 PORT2 stream tcp nowait nobody.daemon /usr/bin/perl another-name PROBE '' \"a b\" $HOME `x`\n\
                 127.0.0.1:PORT3 stream tcp4 nowait root /usr/bin/perl perl PROBE\n\
                 PORT4 stream tcp46 nowait nobody:daemon /usr/bin/perl perl PROBE\n";
    both(lines, |theirs: [u16; 4], ours: [u16; 4]| {
        for (index, but) in [(0, &[][..]), (1, &[]), (2, &["Groups"]), (3, &["peer", "local"])] {
            let (theirs, ours) = (world(&ask(v4(theirs[index]), b"")), world(&ask(v4(ours[index]), b"")));
            // A handler of root keeps the groups of the daemon there, and has those of root here.
            compare(&theirs, &ours, but);
            assert_eq!(ours["environment"], ENVIRONMENT);
            if index == 3 {
                // On one socket for both families inetd leaves an IPv4 client in disguise.
                assert_eq!(
                    (theirs["peer"].as_str(), ours["peer"].as_str()),
                    ("IPv6 ::ffff:127.0.0.1", "IPv4 127.0.0.1")
                );
            }
        }
        if has_ipv6() {
            compare(&world(&ask(v6(theirs[0]), b"")), &world(&ask(v6(ours[0]), b"")), &[]);
        }
    });
}

/// With SO_REUSEADDR, which inetd sets on sockets for datagrams too, others of the user could take them away.
#[test]
fn wait_handler_sees_the_same_each_time() {
    if !have(&["inetd", "perl"]) {
        return;
    }
    let lines = "PORT1 dgram udp wait nobody /usr/bin/perl perl PROBE datagram\n\
                 PORT2 stream tcp4 wait nobody /usr/bin/perl perl PROBE listener\n";
    both(lines, |theirs: [u16; 2], ours: [u16; 2]| {
        for _ in 0..3 {
            compare(&world(&ask_datagram(v4(theirs[0]))), &world(&ask_datagram(v4(ours[0]))), &["reuse"]);
            compare(&world(&ask(v4(theirs[1]), b"")), &world(&ask(v4(ours[1]), b"")), &[]);
        }
        if has_ipv6() {
            compare(&world(&ask_datagram(v6(theirs[0]))), &world(&ask_datagram(v6(ours[0]))), &["reuse"]);
        }
    });
}

#[test]
fn client_gets_the_same_bytes() {
    if !have(&["inetd"]) {
        return;
    }
    let lines = "PORT1 stream tcp nowait nobody /bin/cat\n\
                 PORT2 stream tcp nowait nobody /bin/ls ls /no/such/file\n\
                 PORT3 stream tcp nowait nobody /bin/echo echo \"a  b\" c # d\n\
                 PORT4 stream tcp nowait nobody /bin/false -l\n\
                 PORT5 stream tcp nowait nobody /usr/bin/no-such-program\n";
    let request: Vec<u8> =
        (0..1_000_000_u32).flat_map(|number| number.to_string().into_bytes()).take(1 << 20).collect();
    both(lines, |theirs: [u16; 5], ours: [u16; 5]| {
        let (sent, _) = request.split_at(16_384);
        for index in 0..4 {
            let (theirs, ours) = (ask(v4(theirs[index]), sent), ask(v4(ours[index]), sent));
            assert_eq!(String::from_utf8_lossy(&theirs), String::from_utf8_lossy(&ours), "{index}");
            assert_eq!(index == 3, theirs.is_empty(), "{index}");
        }
        // inetd opens the port of a program that is not there, and closes each connection; here it is not open.
        assert_eq!(ask(v4(theirs[4]), b""), b"");
        assert!(std::net::TcpStream::connect(v4(ours[4])).is_err());
    });
}

#[test]
fn internal_services_answer_the_same() {
    if !have(&["inetd"]) {
        return;
    }
    // Their ports are given, so the two daemons have addresses of their own. Over UDP inetd answers nobody on the
    // loopback.
    let lines = |address: &str| {
        let names = ["echo", "discard", "daytime", "time", "chargen"];
        names.map(|name| format!("{address}:{name} stream tcp4 nowait root internal\n")).concat()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inetd.conf");
    fs::write(&path, lines("127.77.0.1")).unwrap();
    let _inetd = inetd(&path);
    let _oxinetd = Setup::new(&lines("127.77.0.2")).start();
    let at = |host: u8, port: u16| SocketAddr::from(([127, 77, 0, host], port));
    for (port, request) in [(7, &b"once more\r\n"[..]), (9, b"nothing")] {
        assert_eq!(ask(at(1, port), request), ask(at(2, port), request), "{port}");
    }
    // Neither may be from another second than the other.
    for port in [13, 37] {
        assert!((0..20).any(|_| ask(at(1, port), b"") == ask(at(2, port), b"")), "{port}");
    }
    assert_eq!(chargen(at(1, 19)), chargen(at(2, 19)));
}

/// The first bytes of chargen, which has no end.
fn chargen(address: SocketAddr) -> Vec<u8> {
    use std::io::Read;
    let mut stream = wait_for("the port to be open", || std::net::TcpStream::connect(address).ok());
    let mut bytes = vec![0; 74 * 200];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}
