//! Reports the daemon's state to the service manager (sd_notify(3)).
//!
//! The server calls this. It never waits and never fails: without a service manager, or with one that does not
//! listen, nothing is sent.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The connection to the service manager.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. Call it in the first process, because WATCHDOG_PID
    /// names that one.
    pub fn from_env() -> Self {
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(open_socket);
        Self { watchdog: to.as_ref().and_then(|_| read_watchdog()), to }
    }

    /// The longest time between two watchdog messages: half of the service manager's limit, as
    /// sd_watchdog_enabled(3) advises.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Sends assignments, one on each line. Never blocks; a manager that does not listen misses them.
    pub fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

fn open_socket(name: OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(&name).ok()?,
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((UnixDatagram::from(super::descriptor::move_high(socket.into()).ok()?), address))
}

fn read_watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|&micros| micros > 0 && for_us)?;
    Some(Duration::from_micros(micros))
}
