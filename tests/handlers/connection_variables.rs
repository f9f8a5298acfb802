//! What a handler is told about its client: environment variables, and the family of its socket.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::handler_environment::start_spoiled;
use crate::support::{
    self, Daemon, ask, connect, connect_to, has_ipv6, installed, listening, services, skip, socket_of, wait_for,
};

#[test]
fn environment_holds_only_what_the_connection_and_the_table_give() {
    let env = installed("env").unwrap();
    let program = format!("program: {}", env.display());
    let set =
        format!("{program}, pass_env: [PASSED, ODD, ABSENT], env: {{ PATH: /opt/bin, WORDS: 'a b=c', EMPTY: '' }}");
    let ([plain, more], table) = services([("plain", &program), ("more", &set)]);
    let _daemon = start_spoiled(&table);
    let stream = connect(plain);
    let here = stream.local_addr().unwrap().port();
    let connection = |client: u16, server: u16| {
        [
            "REMOTE_ADDR=127.0.0.1".to_owned(),
            format!("REMOTE_PORT={client}"),
            "REMOTE_HOST=127.0.0.1".to_owned(),
            "PROTO=TCP".to_owned(),
            "TCPREMOTEIP=127.0.0.1".to_owned(),
            format!("TCPREMOTEPORT={client}"),
            "TCPLOCALIP=127.0.0.1".to_owned(),
            format!("TCPLOCALPORT={server}"),
            "TCPCONNNUM=1".to_owned(),
        ]
    };
    let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let mut expected = BTreeSet::from(connection(here, plain));
    expected.insert("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    assert_eq!(lines(&ask(stream, b"").unwrap()), expected);

    let stream = connect(more);
    let mut expected = BTreeSet::from(connection(stream.local_addr().unwrap().port(), more));
    let others = ["PATH=/opt/bin", "PASSED=1", "ODD=x=y", "z", "WORDS=a b=c", "EMPTY="];
    expected.extend(others.map(str::to_owned));
    assert_eq!(lines(&ask(stream, b"").unwrap()), expected);
}

#[test]
fn ipv6_client_is_named_by_its_address() {
    if !has_ipv6() {
        return skip("no IPv6 here");
    }
    let ([port], table) = services([("env", &format!("program: {}", installed("env").unwrap().display()))]);
    let _daemon = Daemon::start(&table);
    let answer = ask(connect_to(SocketAddr::from((Ipv6Addr::LOCALHOST, port))), b"").unwrap();
    let text = String::from_utf8(answer).unwrap();
    for line in ["REMOTE_ADDR=::1", "REMOTE_HOST=::1", "TCPREMOTEIP=::1", "TCPLOCALIP=::1", "PROTO=TCP"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn connections_of_one_source_are_numbered() {
    let ([port], table) = services([("number", "program: [/bin/sh, -c, 'echo $TCPCONNNUM; exec cat']")]);
    let _daemon = Daemon::start(&table);
    let number = |source: u8| {
        let mut stream = support::connect_from([127, 0, 0, source], port).unwrap();
        let mut byte = [0; 2];
        stream.read_exact(&mut byte).unwrap();
        (byte[0], stream)
    };
    let held = [number(1), number(1), number(2), number(1)];
    assert_eq!(held.map(|(byte, _)| byte), *b"1213");
}

/// Is this connected socket one of this family, by the kernel's list?
fn is_in_list(inode: u64, list: &str) -> bool {
    let list = fs::read_to_string(list).unwrap();
    list.lines().any(|line| line.split_whitespace().nth(9) == Some(&inode.to_string()))
}

#[test]
fn ipv4_client_of_a_dual_stack_socket_has_an_ipv4_socket() {
    if !has_ipv6() {
        return skip("no IPv6 here, so no dual-stack sockets");
    }
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let daemon = Daemon::start(&table);
    assert!(matches!(listening(port)[..], [(6, _)]), "{:?}", listening(port));
    for (address, list) in [("127.0.0.1", "/proc/net/tcp"), ("::1", "/proc/net/tcp6")] {
        let mut stream = connect_to(SocketAddr::new(address.parse().unwrap(), port));
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let inode = wait_for("the handler's socket", || socket_of(*daemon.children().first()?, 0));
        assert!(is_in_list(inode, list), "{address}");
        drop(stream);
        daemon.wait_idle();
    }
}

#[test]
fn getpeername_gives_the_family_of_the_client() {
    let Some(python) = installed("python3") else {
        return skip("no python3, which asks getpeername for us");
    };
    if !has_ipv6() {
        return skip("no IPv6 here, so no dual-stack sockets");
    }
    let code =
        "import socket; s = socket.socket(fileno=0); print(s.family.name, s.getpeername()[0], s.getsockname()[0])";
    let ([port], table) = services([("peer", &format!("program: [{}, -c, '{code}']", python.display()))]);
    let _daemon = Daemon::start(&table);
    // The client does not half-close: the kernel turns established connections alone (IPV6_ADDRFORM, ipv6(7)).
    let tell = |address: &str| {
        let mut text = String::new();
        connect_to(SocketAddr::new(address.parse().unwrap(), port)).read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(tell("127.0.0.1"), "AF_INET 127.0.0.1 127.0.0.1\n");
    assert_eq!(tell("::1"), "AF_INET6 ::1 ::1\n");
}

#[test]
fn unix_client_is_named_by_its_credentials_and_path() {
    let env = installed("env").unwrap();
    let service = format!("listen: unix:FOLDER/socket, program: {}", env.display());
    let daemon = Daemon::start(&format!("services: {{ env: {{ {service} }} }}"));
    let path = daemon.path("socket");
    let ask = |stream: UnixStream| {
        let mut text = String::new();
        (&stream).read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let mut expected = BTreeSet::from([
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        "PROTO=IPC".to_owned(),
        format!("IPCLOCALPATH={}", path.display()),
        format!("IPCREMOTEEUID={}", nix::unistd::geteuid()),
        format!("IPCREMOTEEGID={}", nix::unistd::getegid()),
        "IPCCONNNUM=1".to_owned(),
    ]);
    assert_eq!(ask(UnixStream::connect(&path).unwrap()), expected);
    daemon.wait_idle();

    let mine = daemon.path("client");
    assert_eq!(ask(connect_bound(&mine, &path)), {
        expected.insert(format!("IPCREMOTEPATH={}", mine.display()));
        expected
    });
}

/// Connects a Unix socket that is bound to a path of its own.
fn connect_bound(own: &Path, to: &Path) -> UnixStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(own).unwrap()).unwrap();
    connect(socket.as_raw_fd(), &UnixAddr::new(to).unwrap()).unwrap();
    socket.into()
}
