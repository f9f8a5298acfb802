//! Small ones: cat and nc, the web server of busybox, and a program behind tcpd.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::thread;

use super::support::{Daemon, connect_to, free_port, skip};
use super::{all_gone, assert_file, client, have, have_ipv6, path_of, random, random_file, serve, succeed};

/// Sends all of it and says that there is no more, while reading what comes back.
fn echo(to: SocketAddr, bytes: &[u8]) {
    let mut stream = connect_to(to);
    let mut answer = Vec::new();
    thread::scope(|scope| {
        let mut sending = stream.try_clone().unwrap();
        scope.spawn(move || {
            sending.write_all(bytes).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut answer).unwrap();
    });
    assert!(answer == bytes, "{} of {} bytes", answer.len(), bytes.len());
}

#[test]
fn cat_returns_five_megabytes_after_a_half_close() {
    let port = free_port();
    let daemon = serve(&format!("  cat: {{ listen: {port}, program: /bin/cat }}"));
    let bytes = random(5_000_000);
    echo((Ipv4Addr::LOCALHOST, port).into(), &bytes);
    if have_ipv6() {
        echo((Ipv6Addr::LOCALHOST, port).into(), &bytes);
    }
    all_gone(&daemon);
}

#[test]
fn nc_gets_everything_back_from_cat() {
    // Of the many programs of this name only that of OpenBSD knows -N.
    if !have(&["nc.openbsd"]) {
        return;
    }
    let port = free_port();
    let daemon = serve(&format!("  cat: {{ listen: {port}, program: /bin/cat }}"));
    let bytes = random_file(&daemon, "original", 5_000_000);
    let mut nc = client(&daemon, "nc.openbsd");
    nc.args(["-N", "127.0.0.1", &port.to_string()]).stdin(fs::File::open(daemon.path("original")).unwrap());
    let answer = succeed(&mut nc);
    assert!(answer == bytes, "{} of {} bytes", answer.len(), bytes.len());
    all_gone(&daemon);
}

/// Fetches a file of the web server, over both families if both are here.
fn fetch(daemon: &Daemon, port: u16) {
    let bytes = random_file(daemon, "www/file", 1_000_000);
    let mut hosts = vec!["127.0.0.1"];
    hosts.extend(have_ipv6().then_some("[::1]"));
    for host in hosts {
        let address = format!("http://{host}:{port}/file");
        succeed(client(daemon, "curl").args(["-q", "-g", "-sS", "--fail", "--noproxy", "*", "-o", "page", &address]));
        assert_file(&daemon.path("page"), &bytes);
        fs::remove_file(daemon.path("page")).unwrap();
    }
}

fn busybox_has_httpd() -> bool {
    let list = || Command::new(path_of("busybox")).arg("--list").stdin(Stdio::null()).output().unwrap().stdout;
    let has = String::from_utf8(list()).unwrap().lines().any(|applet| applet == "httpd");
    if !has {
        skip("this busybox has no httpd");
    }
    has
}

#[test]
fn busybox_httpd_serves_files() {
    if !have(&["busybox", "curl"]) || !busybox_has_httpd() {
        return;
    }
    let port = free_port();
    let busybox = path_of("busybox");
    let daemon = serve(&format!("  http: {{ listen: {port}, program: [{busybox}, httpd, -i, -h, FOLDER/www] }}"));
    fetch(&daemon, port);
    all_gone(&daemon);
}

/// tcpd runs what argv\[0\] says, which therefore must come as it stands in the table.
#[test]
fn tcpd_starts_the_program_in_argv0() {
    let rules = fs::read_to_string("/etc/hosts.deny").unwrap_or_default();
    if rules.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        return skip("/etc/hosts.deny has rules of its own");
    }
    if !have(&["tcpd", "busybox", "curl"]) || !busybox_has_httpd() {
        return;
    }
    let port = free_port();
    let (tcpd, busybox) = (path_of("tcpd"), path_of("busybox"));
    let daemon =
        serve(&format!("  http: {{ listen: {port}, argv0: {busybox}, program: [{tcpd}, httpd, -i, -h, FOLDER/www] }}"));
    fetch(&daemon, port);
    all_gone(&daemon);
}
