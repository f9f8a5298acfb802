//! Pass if the administrator has neither drained the service nor banned a network of the client's address.

use super::check::{Check, CheckInput, Pause, Scope, TestResult, refuse_if};
use super::text::NOT_FOR_UNIX_SOCKETS;
use crate::config::{Service, duration_text};
use crate::net::Peer;
use crate::types::Reason;

pub(super) const DRAINED: Check = Check {
    enforced_in_dry_run: true,
    pause: Pause::UntilEvent,
    ..Check::new(Reason::Drained, Scope::Service, test_drained, explain_drained)
};

fn test_drained(input: &CheckInput<'_>) -> TestResult {
    refuse_if(input.admission.is_drained(input.service))
}

fn explain_drained(input: &CheckInput<'_>, _: &Service) -> String {
    let drained = input.admission.is_drained(input.service);
    if drained { "drained by the administrator" } else { "not drained" }.to_owned()
}

pub(super) const BAN: Check =
    Check { enforced_in_dry_run: true, ..Check::new(Reason::Ban, Scope::Client, test_ban, explain_ban) };

fn test_ban(input: &CheckInput<'_>) -> TestResult {
    let Peer::Inet(address, _) = input.client.peer else { return Ok(()) };
    let now = input.now.monotonic;
    let Some((_, until)) = input.admission.bans.find_ban(address, now) else { return Ok(()) };
    Err(until.map(|until| until.saturating_sub(now)))
}

fn explain_ban(input: &CheckInput<'_>, _: &Service) -> String {
    let Peer::Inet(address, _) = input.client.peer else { return NOT_FOR_UNIX_SOCKETS.to_owned() };
    let now = input.now.monotonic;
    match input.admission.bans.find_ban(address, now) {
        None => "in no network that is banned".to_owned(),
        Some((network, None)) => format!("ban of {network}, until further notice"),
        Some((network, Some(until))) => {
            format!("ban of {network}, for another {}", duration_text(until.saturating_sub(now)))
        }
    }
}
