//! Pass if the service has an admission and a handler left, by its own `rate` and `instances`.

use super::check::{BeforeAccept, Check, CheckInput, Pause, Scope, TestResult, refuse_if};
use super::text::{instances_text, limit_with_origin};
use crate::config::Service;
use crate::types::Reason;

pub(super) const SERVICE_RATE: Check = Check {
    before_accept: BeforeAccept::AlwaysWait,
    ..Check::new(Reason::ServiceRate, Scope::Service, test_rate, explain_rate)
};

pub(super) const SERVICE_INSTANCES: Check = Check {
    before_accept: BeforeAccept::WhenFull,
    pause: Pause::UntilEvent,
    ..Check::new(Reason::ServiceInstances, Scope::Service, test_instances, explain_instances)
};

fn test_rate(input: &CheckInput<'_>) -> TestResult {
    input.rules.check_rate(input.now.nanos()).map_err(|retry| Some(retry.0))
}

fn explain_rate(_: &CheckInput<'_>, service: &Service) -> String {
    limit_with_origin(service, service.rate.map(|rate| rate.to_string()), "rate")
}

fn test_instances(input: &CheckInput<'_>) -> TestResult {
    refuse_if(input.rules.instances.is_some_and(|limit| input.ledger.service_count(input.service) >= limit))
}

fn explain_instances(input: &CheckInput<'_>, service: &Service) -> String {
    let live = input.ledger.service_count(input.service);
    limit_with_origin(service, instances_text(live, service.instances), "instances")
}
