//! A daemon that is ending (SIGQUIT) while handlers still live opens no socket again and gives way to no other program,
//! whoever asks for it: both would make it live on.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Daemon, connect, listening, services, state_of, wait_until};

/// A daemon whose one handler ignores SIGTERM, so that it has five seconds to live after a SIGQUIT.
struct Ending {
    daemon: Daemon,
    port: u16,
    session: TcpStream,
    /// Connections to the control socket from before its end.
    clients: Vec<UnixStream>,
}

impl Ending {
    fn begin() -> Self {
        let deaf = "program: [/bin/sh, -c, 'trap \"\" TERM; echo ready; while :; do sleep 1000; done']";
        let ([port], table) = services([("deaf", deaf)]);
        let daemon = Daemon::start(&table);
        let mut session = connect(port);
        session.read_exact(&mut [0; 6]).unwrap();
        let clients: Vec<_> = (0..2).map(|_| UnixStream::connect(daemon.path("control.sock")).unwrap()).collect();
        // Whoever has come before has been accepted when this is answered.
        daemon.status();
        daemon.signal(Signal::SIGQUIT);
        daemon.wait_log(&[" stop ", "signal=SIGQUIT"]);
        wait_until("the socket to be closed", || listening(port).is_empty());
        Self { daemon, port, session, clients }
    }

    /// The handler is killed, and the daemon ends.
    fn end(mut self) {
        let handlers = self.daemon.children();
        assert_eq!(handlers.len(), 1);
        assert_eq!(self.session.read(&mut [0]).unwrap(), 0);
        assert_eq!(self.daemon.wait_end().code(), Some(0));
        assert!(state_of(handlers[0]).is_none());
        assert_eq!(listening(self.port), []);
    }
}

/// The code of the answer to a request.
fn refusal(mut client: UnixStream, request: &str) -> Value {
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    client.write_all(b"\n").unwrap();
    let mut answer = String::new();
    BufReader::new(client).read_line(&mut answer).unwrap();
    serde_json::from_str::<Value>(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))["error"]["code"]
        .clone()
}

#[test]
fn a_reload_opens_no_socket() {
    let ending = Ending::begin();
    ending.daemon.signal(Signal::SIGHUP);
    // The turn with the reload, if there were one, is over.
    ending.daemon.status();
    assert_eq!(listening(ending.port), []);
    assert!(!ending.daemon.log().contains(" reload "), "{}", ending.daemon.log());
    ending.end();
}

#[test]
fn an_upgrade_does_not_keep_it_alive() {
    let ending = Ending::begin();
    ending.daemon.signal(Signal::SIGUSR2);
    let status = ending.daemon.status();
    assert_eq!(status["upgrades"]["under_way"], false);
    assert!(!ending.daemon.log().contains(" upgrade"), "{}", ending.daemon.log());
    ending.end();
}

#[test]
fn requests_for_either_are_refused() {
    let mut ending = Ending::begin();
    let (one, other) = (ending.clients.remove(0), ending.clients.remove(0));
    assert_eq!(refusal(one, r#"{"command":"reload"}"#), "ending");
    assert_eq!(refusal(other, r#"{"command":"upgrade"}"#), "ending");
    assert_eq!(listening(ending.port), []);
    ending.end();
}
