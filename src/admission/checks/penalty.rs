//! Is the client's source free of penalties, or exempt from them?
//!
//! Refusing a penalised client must not add to its penalty.

use super::check::{Check, CheckInput, Scope, TestResult};
use super::text::with_origin;
use crate::config::{Service, duration_text};
use crate::limits::penalty;
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
