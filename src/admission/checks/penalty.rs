//! Pass if the client's source has no penalty or is exempt, and if the service is more than a trap.
//!
//! Refusing a penalised client adds nothing to its penalty. A trap without a program refuses and charges all
//! clients.

use super::check::{Check, CheckInput, Scope, TestResult, refuse_if};
use super::text::with_origin;
use crate::config::{Service, duration_text};
use crate::limits::penalty::{self, Cause};
use crate::types::Reason;

pub(super) const PENALTY: Check = Check::new(Reason::Penalty, Scope::Client, test_penalty, explain_penalty);

fn test_penalty(input: &CheckInput<'_>) -> TestResult {
    let peer = &input.client.peer;
    match input.admission.penalties.find_penalty(penalty::debtor_of(peer), input.now.nanos()) {
        Some(found) if !input.rules.is_exempt_from_penalties(peer) => Err(Some(found.left)),
        _ => Ok(()),
    }
}

fn explain_penalty(input: &CheckInput<'_>, service: &Service) -> String {
    let peer = &input.client.peer;
    let source = penalty::debtor_of(peer);
    match input.admission.penalties.find_penalty(source, input.now.nanos()) {
        _ if input.rules.is_exempt_from_penalties(peer) => {
            with_origin(service, "exempt from penalties", "penalties.exempt")
        }
        None => format!("{source}: no penalty above min"),
        Some(found) => {
            let (left, times) = (duration_text(found.left), found.times);
            format!("{source} is penalised for another {left}; time number {times}")
        }
    }
}

pub(super) const TRAP: Check =
    Check { penalty: Some(Cause::Trap), ..Check::new(Reason::Trap, Scope::Service, test_trap, explain_trap) };

fn test_trap(input: &CheckInput<'_>) -> TestResult {
    refuse_if(input.rules.is_bare_trap)
}

fn explain_trap(input: &CheckInput<'_>, service: &Service) -> String {
    if input.rules.is_bare_trap {
        with_origin(service, "a trap, which serves nobody", "penalties.trap")
    } else {
        "not a trap".to_owned()
    }
}
