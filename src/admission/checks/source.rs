//! Pass if the client's source has a handler and an admission left in this service, by `per_source`, and its wider
//! network, by `per_network`.

use super::check::{Check, CheckInput, Scope, TestResult, refuse_if};
use super::text::{NO_LIMIT, instances_text, limit_with_origin, with_origin};
use crate::admission::rules::Limit;
use crate::config::{PerSource, Service};
use crate::limits::access::Rule;
use crate::limits::penalty::Cause;
use crate::net::Source;
use crate::types::Reason;

pub(super) const SOURCE_INSTANCES: Check = Check {
    penalty: Some(Cause::Refused),
    ..Check::new(Reason::SourceInstances, Scope::Client, test_instances::<SOURCE>, explain_instances::<SOURCE>)
};

pub(super) const SOURCE_RATE: Check = Check {
    penalty: Some(Cause::Refused),
    ..Check::new(Reason::SourceRate, Scope::Client, test_rate::<SOURCE>, explain_rate::<SOURCE>)
};

pub(super) const NETWORK_INSTANCES: Check =
    Check::new(Reason::NetworkInstances, Scope::Client, test_instances::<NETWORK>, explain_instances::<NETWORK>);

pub(super) const NETWORK_RATE: Check =
    Check::new(Reason::NetworkRate, Scope::Client, test_rate::<NETWORK>, explain_rate::<NETWORK>);

/// The levels of limits: `per_source` and `per_network`.
const SOURCE: u8 = 0;
const NETWORK: u8 = 1;

/// The limit of a level, if the service has one, and what the client is counted under; no key if the limit does not
/// hold for it.
fn limit_and_key<'a, const LEVEL: u8>(input: &CheckInput<'a>) -> (Option<&'a Limit>, Option<Source>) {
    let (rules, client) = (input.rules, input.client);
    match LEVEL {
        SOURCE => (Some(&rules.source), (!client.exempt).then_some(client.source)),
        _ => (rules.network.as_ref(), client.network),
    }
}

fn count_handlers<const LEVEL: u8>(input: &CheckInput<'_>, key: Source) -> u32 {
    match LEVEL {
        SOURCE => input.ledger.source_count(input.service, key),
        _ => input.ledger.network_count(input.service, key),
    }
}

fn test_instances<const LEVEL: u8>(input: &CheckInput<'_>) -> TestResult {
    let (limit, key) = limit_and_key::<LEVEL>(input);
    let most = limit.and_then(|limit| limit.instances);
    refuse_if(most.zip(key).is_some_and(|(most, key)| count_handlers::<LEVEL>(input, key) >= most))
}

fn test_rate<const LEVEL: u8>(input: &CheckInput<'_>) -> TestResult {
    let (limit, key) = limit_and_key::<LEVEL>(input);
    let limit = limit.and_then(|limit| Some((limit.number, limit.rate.as_ref()?)));
    let Some(((number, rate), key)) = limit.zip(key) else { return Ok(()) };
    let result = input.admission.rates.check(number, key, rate, input.now.nanos());
    result.map_err(|retry| Some(retry.0))
}

fn explain_instances<const LEVEL: u8>(input: &CheckInput<'_>, service: &Service) -> String {
    let live = limit_and_key::<LEVEL>(input).1.map_or(0, |key| count_handlers::<LEVEL>(input, key));
    explain_limit::<LEVEL>(input, service, "instances", |limits| instances_text(live, limits.instances))
}

fn explain_rate<const LEVEL: u8>(input: &CheckInput<'_>, service: &Service) -> String {
    explain_limit::<LEVEL>(input, service, "rate", |limits| limits.rate.map(|rate| rate.to_string()))
}

/// The limit that a key of the section sets, or what exempts the client from the section.
fn explain_limit<const LEVEL: u8>(
    input: &CheckInput<'_>,
    service: &Service,
    key: &str,
    text: impl FnOnce(&PerSource) -> Option<String>,
) -> String {
    let (section, written) = match LEVEL {
        SOURCE => ("per_source", Some(&service.per_source)),
        _ => ("per_network", service.per_network.as_ref()),
    };
    let (limit, counted_under) = limit_and_key::<LEVEL>(input);
    let Some((written, limit)) = written.zip(limit) else { return NO_LIMIT.to_owned() };
    if let Some(Rule::Allow(number) | Rule::Deny(number)) = limit.find_exemption(&input.client.peer) {
        let network = written.exempt.get(number as usize).map(ToString::to_string).unwrap_or_default();
        return with_origin(service, &format!("exempt {network}"), &format!("{section}.exempt"));
    }
    let counted_under = counted_under.unwrap_or(Source::Unknown);
    let text = text(written).map(|text| format!("{counted_under}: {text}"));
    limit_with_origin(service, text, &format!("{section}.{key}"))
}
