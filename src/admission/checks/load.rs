//! Is the load average below `max_load`? Where it can't be read, the check passes.

use super::check::{BeforeAccept, Check, CheckInput, Scope, TestResult, refuse_if};
use super::text::{NO_LIMIT, with_origin};
use crate::config::Service;
use crate::types::Reason;

pub(super) const LOAD: Check =
    Check { before_accept: BeforeAccept::WhenFull, ..Check::new(Reason::Load, Scope::Daemon, test_load, explain_load) };

fn test_load(input: &CheckInput<'_>) -> TestResult {
    refuse_if(input.rules.max_load.zip(input.load).is_some_and(|(limit, load)| load >= limit))
}

fn explain_load(input: &CheckInput<'_>, service: &Service) -> String {
    let Some(limit) = service.max_load else { return NO_LIMIT.to_owned() };
    let load = input.load.map_or_else(|| "which can't be read".to_owned(), |load| format!("now {load}"));
    with_origin(service, &format!("load average up to {limit}, {load}"), "max_load")
}
