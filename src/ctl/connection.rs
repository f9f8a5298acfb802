//! The connection to the daemon: its control socket, one request, one answer.
//!
//! All subcommands that need the daemon use it. Every error is a [`Failure`] with a message and an exit status.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::Failure;
use crate::api::{Code, Refused, Request, VERSION, default_socket_path, read_answer, system_socket_path};
use crate::exit;

/// The longest wait for an answer. A reload looks up users, which may be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The control socket of a daemon. Each request makes a new connection.
#[derive(Clone, Debug)]
pub(super) struct DaemonClient {
    path: PathBuf,
}

impl DaemonClient {
    /// The socket at `path`; without it, that of this user's own daemon; if there is none, that of root's daemon.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let own = || default_socket_path().filter(|path| path.exists());
        Self { path: path.or_else(own).unwrap_or_else(system_socket_path) }
    }

    /// Sends a request, and returns the result as it was sent.
    pub(super) fn request(&self, request: &Request) -> Result<Value, Failure> {
        let failed = |error: io::Error| Failure::new(status_of(&error), describe_error(&self.path, &error));
        let line = self.exchange_lines(request).map_err(failed)?;
        let not_understood = |error| format!("{}: the daemon's answer is not understood: {error}", self.path.display());
        let answer = read_answer(&line).map_err(|error| Failure::new(exit::FAILURE, not_understood(error)))?;
        answer.map_err(|Refused { code, messages }| Failure {
            lines: messages,
            status: if code == Code::NotPermitted { exit::PERMISSION } else { exit::FAILURE },
        })
    }

    /// Sends a request, and reads the result into a type.
    pub(super) fn request_as<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        parse_result(&self.request(request)?)
    }

    fn exchange_lines(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let mut line = serde_json::to_value(request)?;
        line["version"] = VERSION.into();
        // A client without permission gets its answer before it has sent a request, and the socket is closed.
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

/// Reads a result into a type.
pub(super) fn parse_result<T: DeserializeOwned>(result: &Value) -> Result<T, Failure> {
    T::deserialize(result)
        .map_err(|error| Failure::new(exit::FAILURE, format!("the daemon's answer is not understood: {error}")))
}

fn status_of(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => exit::UNAVAILABLE,
        io::ErrorKind::PermissionDenied => exit::PERMISSION,
        _ => exit::FAILURE,
    }
}

fn describe_error(path: &Path, error: &io::Error) -> String {
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
