//! What connections cost that are served, beside handlers that stay.

use std::io::Result;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::figures::micros;
use super::load;
use super::process::cpu;
use super::server::Server;

/// How long held handlers are left alone before anything is measured. The kernel's averages of the load of so many new
/// sessions take some seconds to fade, and make every wake-up dearer until then.
const SETTLE: Duration = Duration::from_secs(4);

/// What was seen of a server in one turn.
pub(crate) struct Served {
    /// Connections per second.
    pub(crate) rate: f64,
    /// CPU time per connection in µs: the server itself, its children, and the load generator.
    pub(crate) server: f64,
    pub(crate) handlers: f64,
    pub(crate) client: f64,
}

impl Served {
    /// As many connections as the server takes in `length`.
    pub(crate) fn measure(server: &Server, length: Duration) -> Result<Self> {
        let (before, client) = (cpu(server.pid())?, own_cpu()?);
        let window = load::window(server.passing(), length)?;
        let (after, client) = (cpu(server.pid())?, own_cpu()? - client);
        server.empty_log()?;
        let each = |time: Duration| micros(time) / f64::from(window.served);
        Ok(Self {
            rate: f64::from(window.served) / window.elapsed.as_secs_f64(),
            server: each(after.own - before.own),
            handlers: each(after.children - before.children),
            client: each(client),
        })
    }

    /// CPU time per connection in µs, without the load generator.
    pub(crate) fn cpu(&self) -> f64 {
        self.server + self.handlers
    }
}

/// Connections with `held` handlers that stay until they are dropped, once the machine has got used to them.
pub(crate) fn hold(server: &Server, held: usize) -> Result<Vec<TcpStream>> {
    let holding = load::hold(server.holding(), held)?;
    if held > 0 {
        sleep(SETTLE);
    }
    Ok(holding)
}

fn own_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().unsigned_abs()))
}
