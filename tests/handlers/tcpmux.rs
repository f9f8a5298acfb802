//! `tcpmux` (RFC 1078): clients name the service that they want, and then they are its clients, under its limits.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use nix::sys::socket::{MsgFlags, send};
use std::os::fd::AsRawFd;

use crate::support::{self, Daemon, ask_text, connect, connect_from, echo, free_port, wait_until};

/// A mux on a port of its own, with these keys, and other services.
fn start(mux: &str, others: &str) -> (Daemon, u16) {
    let port = free_port();
    let table = table(port, mux, others);
    (Daemon::start(&table), port)
}

fn table(port: u16, mux: &str, others: &str) -> String {
    format!("services:\n  mux: {{ listen: {port}, builtin: tcpmux{mux} }}\n{others}")
}

const CATS: &str = "
  cat: { listen: [tcpmux/+cat, tcpmux/+Kitten], program: /bin/cat, instances: 3, per_source: { instances: 2 } }
  plain: { listen: tcpmux/plain, program: [/bin/echo, +hello] }
  closed: { listen: tcpmux/+closed, program: /bin/cat, deny: 127.0.0.0/8 }
  off: { listen: tcpmux/+off, program: /bin/cat, enabled: false }
  hidden: { listen: 'unix:FOLDER/hidden', program: /bin/cat }
";

/// Asks for a service and reads the first line of the answer.
fn ask_for(mut client: TcpStream, request: &str) -> (String, TcpStream) {
    client.write_all(request.as_bytes()).unwrap();
    let mut line = Vec::new();
    // A byte at a time: what follows the line is for others.
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    (String::from_utf8(line).unwrap(), client)
}

/// A client that is served by `cat`.
fn hold_cat(port: u16, source: [u8; 4]) -> TcpStream {
    let (line, mut client) = ask_for(connect_from(source, port).unwrap(), "cat\r\n");
    assert_eq!(line, "+Go\r\n");
    echo(&mut client, "here\n");
    client
}

const HOME: [u8; 4] = [127, 0, 0, 1];

#[test]
fn client_gets_the_service_that_it_names() {
    let (daemon, port) = start("", CATS);
    assert_eq!(ask_text(port, "cat\r\nhello"), "+Go\r\nhello");
    assert_eq!(ask_text(port, "CAT\r\n"), "+Go\r\n");
    assert_eq!(ask_text(port, "kitten\nhello\n"), "+Go\r\nhello\n");
    // The service speaks for itself.
    assert_eq!(ask_text(port, "Plain\r\n"), "+hello\n");
    assert_eq!(ask_text(port, "HELP\r\n"), "cat\r\nclosed\r\nkitten\r\nplain\r\n");
    for name in ["off", "hidden", "mux", "tcpmux", "none", "", "cat cat", "help me"] {
        assert_eq!(ask_text(port, &format!("{name}\r\n")), "-Service not available\r\n", "{name}");
    }
    let long = "x".repeat(300) + "\r\n";
    assert_eq!(ask_text(port, &long), "-That is too long for the name of a service\r\n");
    // Without the end of the line there is no request.
    assert_eq!(ask_text(port, "cat"), "");
    assert_eq!(ask_text(port, ""), "");
    daemon.wait_idle();
    daemon.wait_log(&["accept service=cat source=127.0.0.1"]);
    assert!(!daemon.log().contains("status=99"), "{}", daemon.log());
}

#[test]
fn request_may_come_in_pieces() {
    let (daemon, port) = start("", CATS);
    let mut client = connect(port);
    client.set_nodelay(true).unwrap();
    for byte in b"cat\r\nhe" {
        client.write_all(&[*byte]).unwrap();
        // Until the handler has been waiting for the next one.
        let pids = daemon.children();
        wait_until("the handler to wait", || {
            pids.iter().all(|&pid| support::state_of(pid).is_none_or(|state| state == 'S'))
        });
    }
    client.write_all(b"llo").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+Go\r\nhello");
    daemon.wait_idle();
}

#[test]
fn limits_are_those_of_the_named_service() {
    let (daemon, port) = start(", instances: 1", CATS);
    let first = hold_cat(port, HOME);
    let second = hold_cat(port, HOME);
    let no = "-Service not available\r\n";
    assert_eq!(ask_for(connect(port), "cat\r\n").0, no);
    daemon.wait_log(&["refuse service=cat source=127.0.0.1", "reason=source_instances"]);
    let third = hold_cat(port, [127, 0, 0, 2]);
    assert_eq!(ask_for(connect_from([127, 0, 0, 3], port).unwrap(), "cat\r\n").0, no);
    daemon.wait_log(&["refuse service=cat source=127.0.0.3", "reason=service_instances"]);
    assert_eq!(ask_for(connect(port), "closed\r\n").0, no);
    daemon.wait_log(&["refuse service=closed source=127.0.0.1", "reason=access"]);
    assert_eq!((daemon.count("cat"), daemon.count("mux")), (3, 0));
    let status = daemon.status();
    assert_eq!(status["services"]["cat"]["refused"]["source_instances"], 1);
    assert_eq!(status["services"]["mux"]["refused"], serde_json::json!({}));
    assert_eq!(status["services"]["mux"]["exits"]["failure"], 0);
    assert_eq!(status["services"]["cat"]["tcpmux"], serde_json::json!(["tcpmux/+cat", "tcpmux/+kitten"]));
    // Clients that leave midway free their places.
    drop((first, second));
    wait_until("one handler", || daemon.count("cat") == 1);
    drop(hold_cat(port, HOME));
    drop(third);
    daemon.wait_idle();
    assert_eq!(daemon.status()["audit"], serde_json::json!([]));
}

#[test]
fn refusal_has_the_text_of_the_named_service() {
    let others =
        "  cat: { listen: tcpmux/+cat, program: /bin/cat, deny: 127.0.0.1, refuse: { text: \"Not for you.\\n\" } }\n";
    let (daemon, port) = start("", others);
    assert_eq!(ask_text(port, "cat\r\nhello"), "-Not for you.\r\n");
    daemon.wait_idle();
}

#[test]
fn client_that_names_no_service_counts_for_tcpmux_only() {
    let (daemon, port) = start(", instances: 1, when_full: refuse, idle_timeout: 200ms", CATS);
    let waiting = connect(port);
    daemon.wait_log(&["accept service=mux"]);
    daemon.wait_log(&["exit service=mux", "status=75"]);
    drop(waiting);
    // Urgent data bars the way to what follows; that must end the handler, and not keep it busy.
    let mut client = connect(port);
    client.write_all(b"ca").unwrap();
    send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
    client.write_all(b"t\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    daemon.wait_idle();
    assert_eq!(daemon.status()["services"]["mux"]["accepted"], 2);
}

#[test]
fn client_that_leaves_midway_leaves_no_handler() {
    let (daemon, port) = start(", instances: 8, idle_timeout: 10s", CATS);
    let descriptors = daemon.settled_descriptors();
    let requests = ["", "c", "cat", "cat\r", "cat\r\n", "cat\r\nx", "help\r\n", "none\r\n", "plain\r\n"];
    for round in 0..20 {
        let clients: Vec<TcpStream> = requests
            .iter()
            .map(|request| {
                let mut client = connect(port);
                client.write_all(request.as_bytes()).unwrap();
                client
            })
            .collect();
        if round % 2 == 0 {
            for client in &clients {
                // A reset, in place of an orderly end.
                let _ = nix::sys::socket::setsockopt(
                    client,
                    nix::sys::socket::sockopt::Linger,
                    &libc::linger { l_onoff: 1, l_linger: 0 },
                );
            }
        }
        drop(clients);
    }
    daemon.wait_idle();
    assert_eq!(daemon.status()["audit"], serde_json::json!([]));
    wait_until("the same descriptors as before", || daemon.descriptors() == descriptors);
}

#[test]
fn reload_changes_the_services_that_can_be_named() {
    let (daemon, port) = start("", CATS);
    let early = connect(port);
    daemon.wait_log(&["accept service=mux"]);
    daemon.change(&table(port, "", "  dog: { listen: tcpmux/+dog, program: /bin/cat }\n"));
    // The handler knows the old names, but the daemon decides.
    assert_eq!(ask_for(early, "cat\r\n").0, "-Service not available\r\n");
    assert_eq!(ask_text(port, "cat\r\n"), "-Service not available\r\n");
    assert_eq!(ask_text(port, "dog\r\nhello"), "+Go\r\nhello");
    assert_eq!(ask_text(port, "help\r\n"), "dog\r\n");
    daemon.wait_idle();
}

#[test]
fn client_can_name_its_service_after_an_upgrade() {
    let (daemon, port) = start("", CATS);
    let clients = [connect(port), connect(port)];
    wait_until("both to be waited for", || daemon.count("mux") == 2);
    daemon.signal(nix::sys::signal::Signal::SIGUSR2);
    wait_until("the upgrade", || daemon.status()["upgrades"]["done"] == 1);
    for client in clients {
        let (line, mut client) = ask_for(client, "cat\r\n");
        assert_eq!(line, "+Go\r\n");
        echo(&mut client, "here\n");
    }
    daemon.wait_idle();
    assert_eq!(daemon.status()["audit"], serde_json::json!([]));
    assert_eq!(daemon.status()["services"]["mux"]["exits"]["failure"], 0);
}
