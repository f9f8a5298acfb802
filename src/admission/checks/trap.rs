//! Is the service more than a trap? A trap without a program refuses all clients and charges them.

use super::check::{Check, CheckInput, Scope, TestResult, refuse_if};
use super::text::with_origin;
use crate::config::Service;
use crate::limits::penalty::Cause;
use crate::types::Reason;

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
