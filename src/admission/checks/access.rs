//! Passes if `allow` and `deny` accept the client's address.

use ipnet::IpNet;

use super::check::{Check, CheckInput, Scope, TestResult, refuse_if};
use super::text::NOT_FOR_UNIX_SOCKETS;
use crate::config::{Location, Service};
use crate::limits::access::{Rule, Verdict};
use crate::limits::penalty::Cause;
use crate::net::Peer;
use crate::types::Reason;

pub(super) const ACCESS: Check =
    Check { penalty: Some(Cause::Refused), ..Check::new(Reason::Access, Scope::Client, test_access, explain_access) };

fn test_access(input: &CheckInput<'_>) -> TestResult {
    refuse_if(!input.rules.access.judge_peer(&input.client.peer).allowed)
}

fn explain_access(input: &CheckInput<'_>, service: &Service) -> String {
    let Verdict { rule, .. } = input.rules.access.judge_peer(&input.client.peer);
    let origins = &service.origins;
    match rule {
        Some(Rule::Deny(number)) => entry_text("deny", &service.deny, &origins.deny, number),
        Some(Rule::Allow(number)) => entry_text("allow", &service.allow, &origins.allow, number),
        None if !matches!(input.client.peer, Peer::Inet(..)) => NOT_FOR_UNIX_SOCKETS.to_owned(),
        None if service.allow.is_empty() && service.deny.is_empty() => "neither allow nor deny".to_owned(),
        None if service.allow.is_empty() => "in no network of deny, and there is no allow".to_owned(),
        None => match origins.allow.first() {
            Some(origin) => format!("in no network of allow ({origin})"),
            None => "in no network of allow".to_owned(),
        },
    }
}

/// The entry of a list that decides, and where it was written.
fn entry_text(list: &str, networks: &[IpNet], origins: &[Location], number: u32) -> String {
    let origin = origins.get(number as usize).map(ToString::to_string).unwrap_or_default();
    let network = networks.get(number as usize).map(ToString::to_string).unwrap_or_default();
    format!("{list} {network} ({origin})")
}
