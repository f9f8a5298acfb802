//! The scenarios that inetds are tested with: of GNU inetutils (five rounds of another port and SIGHUP), of Debian's
//! openbsd-inetd (which protocol takes which clients), of NetBSD (limits), and Debian's update-inetd at work on a file that
//! is in use.
//!
//! Where a limit closes the service for all clients there, here it holds for its source alone, and the service stays open.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::{
    Daemon, Setup, ask, connect, connect_from, connect_to, echo, free_port, has_ipv6, hold, installed, own_user, skip,
    wait_until,
};

/// The address of its client, as a handler that prints its environment knows it; `None` if nobody listens.
fn client_at(address: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect(address).ok()?;
    let answer = String::from_utf8(ask(stream, b"").ok()?).unwrap();
    answer.lines().find_map(|line| line.strip_prefix("REMOTE_ADDR=")).map(str::to_owned)
}

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse::<IpAddr>().unwrap(), port)
}

#[test]
fn five_reloads_with_another_port() {
    let mut port = free_port();
    let hosts: &[&str] = if has_ipv6() { &["127.0.0.1", "::1"] } else { &["127.0.0.1"] };
    let file = |port: u16| {
        let line =
            |(host, family)| format!("{host}:{port} stream tcp{family} nowait {} /usr/bin/env env\n", own_user());
        hosts.iter().zip([4, 6]).map(line).collect::<String>()
    };
    let mut setup = Setup::new(&file(port));
    setup.command.args(["--dialect", "gnu"]);
    let daemon = setup.start();
    for _ in 0..5 {
        for host in hosts {
            assert_eq!(client_at(at(host, port)).as_deref(), Some(*host), "{port}");
        }
        let before = std::mem::replace(&mut port, free_port());
        daemon.change(&file(port));
        for host in hosts {
            assert_eq!(client_at(at(host, before)), None, "{before}");
        }
    }
}

#[test]
fn each_protocol_takes_the_clients_of_its_family() {
    if !has_ipv6() {
        return skip("no IPv6 here");
    }
    let [both, one, pair, v4, v6, local, local6, late] = [(); 8].map(|()| free_port());
    let user = own_user();
    let mut table: String = [
        (both.to_string(), "tcp"),
        (one.to_string(), "tcp46"),
        (pair.to_string(), "tcp4"),
        (pair.to_string(), "tcp6"),
        (v4.to_string(), "tcp4"),
        (v6.to_string(), "tcp6"),
        (format!("localhost:{local}"), "tcp4"),
        (format!("[::1]:{local6}"), "tcp6"),
    ]
    .iter()
    .map(|(service, protocol)| format!("{service}\tstream\t{protocol}\tnowait\t{user}\t/usr/bin/env\n"))
    .collect();
    let mut daemon = Daemon::start(&table);
    let check = |port: u16, v4: bool, v6: bool| {
        for (host, answers) in [("127.0.0.1", v4), ("::1", v6)] {
            assert_eq!(client_at(at(host, port)).as_deref(), Some(host).filter(|_| answers), "{port} from {host}");
        }
    };
    for (port, v4, v6) in [
        (both, true, true),
        (one, true, true),
        (pair, true, true),
        (v4, true, false),
        (v6, false, true),
        (local, true, false),
        (local6, false, true),
        (late, false, false),
    ] {
        check(port, v4, v6);
    }
    table += &format!("{late}\tstream\ttcp\tnowait\t{user}\t/usr/bin/env\n");
    daemon.change(&table);
    assert!(daemon.process.try_wait().unwrap().is_none());
    check(late, true, true);
    check(both, true, true);
}

/// A daemon with NetBSD's notation: these keys for a service of all clients on 127.0.0.1.
fn netbsd(services: &[(u16, &str)]) -> Daemon {
    let entry = |(port, keys): &(u16, &str)| {
        format!("{port} on\n\tprotocol = tcp,\n\twait = no,\n\tuser = {},\n\t{keys};\n", own_user())
    };
    let mut setup = Setup::new(&format!("127.0.0.1:\n{}", services.iter().map(entry).collect::<String>()));
    setup.command.args(["--dialect", "netbsd"]);
    setup.start()
}

/// Is a client from this address served?
fn served(source: [u8; 4], port: u16) -> bool {
    connect_from(source, port).and_then(|stream| ask(stream, b"")).is_ok_and(|answer| answer == b"here\n")
}

#[test]
fn rate_of_one_source_leaves_others_served() {
    let port = free_port();
    let _daemon = netbsd(&[(port, "service_max = 50, ip_max = 3, exec = /bin/echo, args = echo here")]);
    assert_eq!([(); 4].map(|()| served([127, 0, 0, 1], port)), [true, true, true, false]);
    assert_eq!([(); 4].map(|()| served([127, 0, 0, 2], port)), [true, true, true, false]);
}

#[test]
fn rate_of_a_service_makes_the_rest_wait() {
    let port = free_port();
    let daemon = netbsd(&[(port, "service_max = 2, exec = /bin/echo, args = echo here")]);
    assert!(served([127, 0, 0, 1], port) && served([127, 0, 0, 2], port));
    // The third is neither served nor refused before its time, half a minute from now.
    let third = connect(port);
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = ask(third.try_clone().unwrap(), b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    wait_until("both to be logged, and no third", || daemon.log().matches(" accept ").count() == 2);
    assert!(daemon.log().matches(" listen ").count() == 1 && TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn number_of_handlers_at_a_time_is_limited() {
    let (pairs, fields) = (free_port(), free_port());
    let mut setup = Setup::new(&format!(
        "127.0.0.1:{pairs} on protocol = tcp4, wait = no, user = {0}, accept_max = 2, exec = /bin/cat;\n\
         {fields} stream,2 tcp nowait {0} /bin/cat\n",
        own_user()
    ));
    setup.command.args(["--dialect", "netbsd"]);
    let daemon = setup.start();
    for port in [pairs, fields] {
        let held = [hold(port), hold(port)];
        let mut third = connect(port);
        third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        std::io::Write::write_all(&mut third, b"third\n").unwrap();
        assert!(std::io::Read::read(&mut third, &mut [0; 1]).is_err(), "{port}");
        drop(held);
        third.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut answer = [0; 6];
        std::io::Read::read_exact(&mut third, &mut answer).unwrap();
        assert_eq!(&answer, b"third\n");
    }
    daemon.wait_idle();
}

#[test]
fn limit_of_zero_serves_no_client() {
    let ports = [(); 3].map(|()| free_port());
    let daemon = netbsd(&[
        (ports[0], "service_max = 0, exec = /bin/cat"),
        (ports[1], "ip_max = 0, exec = /bin/cat"),
        (ports[2], "exec = /bin/cat"),
    ]);
    let open = ports.map(|port| TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(open, [false, false, true]);
    wait_until("a warning for each", || daemon.log().matches("serves nobody").count() == 2);
}

/// Runs Debian's own update-inetd on the daemon's file.
fn update_inetd(daemon: &Daemon, arguments: &[&str]) {
    let mut command = Command::new("update-inetd");
    command.arg("--file").arg(daemon.path("table.yaml")).args(arguments);
    // It would restart an inetd of this machine.
    command.env("UPDATE_INETD_FAKE_IT", "1").env("DEBIAN_FRONTEND", "noninteractive");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(daemon.reload(), Ok(()), "{}", daemon.log());
}

#[test]
fn update_inetd_adds_and_disables_entries() {
    if installed("update-inetd").is_none() {
        return skip("not installed: update-inetd");
    }
    let (own, package) = (free_port(), free_port());
    let user = own_user();
    let before = format!("#:OTHER: Other services\n{own}\tstream\ttcp\tnowait\t{user}\t/bin/cat\n\n# the end\n");
    let daemon = Daemon::start(&before);
    let mut open = hold(own);
    let is_open = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
    let name = package.to_string();
    update_inetd(
        &daemon,
        &["--group", "OTHER", "--add", &format!("{package}\\tstream\\ttcp\\tnowait\\t{user}\\t/bin/cat\\tcat")],
    );
    echo(&mut connect_to(at("127.0.0.1", package)), "added");
    update_inetd(&daemon, &["--disable", &name]);
    let file = std::fs::read_to_string(daemon.path("table.yaml")).unwrap();
    assert!(file.contains(&format!("#<off># {package}\t")), "{file}");
    assert!(!is_open(package) && is_open(own));
    assert_eq!(daemon.status()["services"][format!("{package}/tcp")]["handlers"].as_u64().unwrap_or(0), 0);
    update_inetd(&daemon, &["--enable", &name]);
    echo(&mut connect_to(at("127.0.0.1", package)), "switched on");
    update_inetd(&daemon, &["--remove", &name]);
    assert!(!is_open(package) && is_open(own));
    // The connection that was there all the time still is.
    echo(&mut open, "still here");
    drop(open);
    wait_until("the handlers to be gone", || daemon.children().is_empty());
}
