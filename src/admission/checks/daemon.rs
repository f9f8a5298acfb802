//! Does the daemon have a handler left, by `daemon.instances`?

use super::check::{BeforeAccept, Check, CheckInput, Pause, Scope, TestResult, refuse_if};
use crate::admission::state::Admission;
use crate::config::Service;
use crate::limits::ledger::Ledger;
use crate::types::Reason;

pub(super) const DAEMON_INSTANCES: Check = Check {
    enforced_in_dry_run: true,
    before_accept: BeforeAccept::WhenFull,
    pause: Pause::UntilEvent,
    ..Check::new(Reason::DaemonInstances, Scope::Daemon, test_instances, explain_instances)
};

/// Whether the daemon has as many handlers as it may have.
pub(in crate::admission) fn is_daemon_full(admission: &Admission, ledger: &Ledger) -> bool {
    ledger.total() >= admission.instances
}

fn test_instances(input: &CheckInput<'_>) -> TestResult {
    refuse_if(is_daemon_full(input.admission, input.ledger))
}

fn explain_instances(input: &CheckInput<'_>, _: &Service) -> String {
    format!("{} of {} handlers (daemon.instances)", input.ledger.total(), input.admission.instances)
}
