//! Old files side by side: first the old daemon serves a file, then this one serves the same file, and the same clients
//! ask both the same. The handlers, small programs that every Linux has, tell what they see of their own process.
//!
//! What differs on purpose is taken out of both answers before they are compared, at one place each, with the reason.
//! The old daemons come from their Debian packages; without them, and without root, the tests are skipped.

#[path = "../support/mod.rs"]
mod support;

mod inetd;
mod probe;
mod xinetd;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use support::{Setup, connect_from, wait_until};

/// What clients got, by what they did.
type Answers = BTreeMap<&'static str, String>;

/// An old daemon; killed, by its process id, when it is dropped.
struct Old(Child);

impl Drop for Old {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The answers of an old daemon and of this one to the same questions about the same file, in which `ports` listen.
fn both(mut old: Command, file: &str, ports: &[u16], ask: impl Fn() -> Answers) -> (Answers, Answers) {
    let theirs = {
        let log = tempfile::NamedTempFile::new().unwrap();
        let (out, err) = (log.reopen().unwrap(), log.reopen().unwrap());
        let _old = Old(old.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap());
        wait_until("the old daemon to listen", || ports.iter().all(|port| !support::listening(*port).is_empty()));
        ask()
    };
    wait_until("its ports to be free", || ports.iter().all(|port| support::listening(*port).is_empty()));
    let ours = Setup::new(file).start();
    let answers = ask();
    ours.wait_idle();
    (theirs, answers)
}

/// Sends a request and gives all that comes back, as text. A client that is reset gets what came before that.
fn answer(stream: io::Result<TcpStream>, request: &[u8]) -> String {
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return format!("no connection: {}", error.kind()),
    };
    let _ = io::Write::write_all(&mut stream, request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while let Ok(size @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..size]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks from 127.0.0.1.
fn from_home(port: u16, request: &[u8]) -> String {
    answer(connect_from([127, 0, 0, 1], port), request)
}
