//! in.tftpd: `dgram wait`. It stays for a while, and leaves O_NONBLOCK behind on the socket that it was lent.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::support::{Daemon, free_port, wait_until};
use super::{
    all_gone, assert_file, client, end_handler, have_as_root, have_ipv6, listener, only_handler, path_of, random_file,
    serve, succeed,
};

fn tftp(daemon: &Daemon, to: &str, port: u16, arguments: &[&str]) {
    succeed(client(daemon, "tftp").args(["-m", "binary", to, &port.to_string(), "-c"]).args(arguments));
}

fn table(listen: &str) -> String {
    let program = path_of("in.tftpd");
    format!("  tftp: {{ listen: {listen}, program: [{program}, -s, -c, -u, nobody, -t, '4', FOLDER/srv] }}")
}

#[test]
fn tftp_works_while_its_handler_lives_and_after_it_has_ended() {
    if !have_as_root(&["in.tftpd", "tftp"]) {
        return;
    }
    let port = free_port();
    let daemon = serve(&table(&format!("udp4/127.0.0.1:{port}")));
    let bytes = random_file(&daemon, "srv/file", 1_000_000);
    fs::set_permissions(daemon.path("srv"), PermissionsExt::from_mode(0o777)).unwrap();

    tftp(&daemon, "127.0.0.1", port, &["get", "file", "first"]);
    assert_file(&daemon.path("first"), &bytes);
    let handler = only_handler(&daemon);
    assert_eq!(listener(&daemon, "tftp"), "lent");
    tftp(&daemon, "127.0.0.1", port, &["put", "first", "up"]);
    wait_until("all of it to be written", || fs::read(daemon.path("srv/up")).is_ok_and(|found| found == bytes));

    all_gone(&daemon);
    assert_eq!(listener(&daemon, "tftp"), "listening");
    tftp(&daemon, "127.0.0.1", port, &["get", "file", "second"]);
    assert_file(&daemon.path("second"), &bytes);
    let successor = only_handler(&daemon);
    assert_ne!(successor, handler);
    end_handler(&daemon, successor);
    all_gone(&daemon);
}

#[test]
fn tftp_over_ipv4_and_ipv6_has_a_handler_each() {
    if !have_as_root(&["in.tftpd", "tftp"]) || !have_ipv6() {
        return;
    }
    let port = free_port();
    let daemon = serve(&table(&format!("udp/{port}")));
    let bytes = random_file(&daemon, "srv/file", 100_000);
    tftp(&daemon, "127.0.0.1", port, &["get", "file", "v4"]);
    tftp(&daemon, "::1", port, &["get", "file", "v6"]);
    assert_file(&daemon.path("v4"), &bytes);
    assert_file(&daemon.path("v6"), &bytes);
    assert_eq!(daemon.children().len(), 2);
    daemon.children().into_iter().for_each(|handler| end_handler(&daemon, handler));
    all_gone(&daemon);
}
