//! Pass if the daemon has a handler left, by `daemon.instances`, and if the load average is below `max_load` or
//! can't be read.

use super::check::{BeforeAccept, Check, CheckInput, Pause, Scope, TestResult, refuse_if};
use super::text::{NO_LIMIT, with_origin};
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
