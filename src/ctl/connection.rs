//! The way to the daemon: its control socket, one request, one answer.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;
use crate::api::{Code, Refused, Request, VERSION, default_socket_path, read_answer, system_socket_path};
use crate::exit;

/// How long the daemon may take to answer. A reload asks the name service, which may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the daemon listens.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    path: PathBuf,
}

impl Daemon {
    /// At `path`, or where this user's own daemon listens; if there is none, where root's does.
    pub(super) fn at(path: Option<PathBuf>) -> Self {
        let own = || default_socket_path().filter(|path| path.exists());
        Self { path: path.or_else(own).unwrap_or_else(system_socket_path) }
    }

    /// Asks, and gives the result as it was sent.
    pub(super) fn ask(&self, request: &Request) -> Result<Value, Failure> {
        let failed = |error: io::Error| Failure::new(status_of(&error), explain(&self.path, &error));
        let line = self.exchange(request).map_err(failed)?;
        let not_understood = |error| format!("{}: the daemon's answer is not understood: {error}", self.path.display());
        let answer = read_answer(&line).map_err(|error| Failure::new(exit::FAILURE, not_understood(error)))?;
        answer.map_err(|Refused { code, messages }| Failure {
            lines: messages,
            status: if code == Code::NotPermitted { exit::PERMISSION } else { exit::FAILURE },
        })
    }

    /// Asks, and reads the result.
    pub(super) fn ask_for<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        read(self.ask(request)?)
    }

    fn exchange(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_value(request)?;
        line["version"] = VERSION.into();
        // Who is not let in gets his answer before he has asked, and finds the socket closed.
        let sent = stream.write_all(format!("{line}\n").as_bytes());
        let mut answer = Vec::new();
        BufReader::new(stream).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            sent?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    }
}

/// Reads a result.
pub(super) fn read<T: DeserializeOwned>(result: Value) -> Result<T, Failure> {
    serde_json::from_value(result)
        .map_err(|error| Failure::new(exit::FAILURE, format!("the daemon's answer is not understood: {error}")))
}

fn status_of(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => exit::UNAVAILABLE,
        io::ErrorKind::PermissionDenied => exit::PERMISSION,
        _ => exit::FAILURE,
    }
}

fn explain(path: &Path, error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no control socket; is oxinetd running? --socket says where it listens".into()
        }
        io::ErrorKind::ConnectionRefused => "nobody listens; oxinetd is not running".into(),
        io::ErrorKind::PermissionDenied => {
            "only root, the daemon's own user and the group of daemon.control may ask".into()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the daemon does not answer".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the daemon has closed the connection without an answer".into()
        }
        _ => error.to_string(),
    };
    format!("{}: {what}", path.display())
}
