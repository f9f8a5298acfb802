//! `upgrade`: replaces the running program with the one on disk, and waits for the result. If the new program
//! cannot take over, this command shows the reason and fails.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::connection::DaemonClient;
use super::failure::Failure;
use super::output::Output;
use crate::api::{Request, Snapshot, Upgrades};
use crate::ctl::render::grid::Tone;
use crate::exit;

/// The longest wait for the result; the daemon itself gives the new program ten seconds.
const RESULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The time between two requests for the result.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn upgrade_daemon(daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    let before = daemon.request_as::<Snapshot>(&Request::Status {})?.upgrades;
    daemon.request(&Request::Upgrade {})?;
    let now = wait_for_result(daemon, &before)?;
    if now.upgrades.done == before.done {
        let problem = now.upgrades.problem.unwrap_or_default();
        return Err(Failure::new(exit::FAILURE, format!("the running program continues: {problem}")));
    }
    let result = serde_json::json!({ "version": now.version, "pid": now.pid });
    output.print_result(&result, |output| {
        output.print_line(&format!("version {} has taken over", now.version), Tone::Plain)
    })
}

/// The status once the result is known. While the programs change, the daemon may not answer.
fn wait_for_result(daemon: &DaemonClient, before: &Upgrades) -> Result<Snapshot, Failure> {
    let end = Instant::now() + RESULT_TIMEOUT;
    loop {
        let answer = daemon.request_as::<Snapshot>(&Request::Status {});
        match answer {
            Ok(now) if (now.upgrades.done, now.upgrades.failed) != (before.done, before.failed) => return Ok(now),
            Err(failure) if Instant::now() >= end => return Err(failure),
            Ok(_) if Instant::now() >= end => {
                return Err(Failure::new(exit::FAILURE, "the daemon has not reported the result of the upgrade"));
            }
            _ => sleep(RETRY_INTERVAL),
        }
    }
}
