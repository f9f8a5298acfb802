//! Has the administrator drained the service?

use super::check::{Check, CheckInput, Pause, Scope, TestResult, refuse_if};
use crate::config::Service;
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
