//! Does the client's source have a handler and an admission left in this service, by `per_source`? Does its wider
//! network, by `per_network`?

use super::check::{Check, CheckInput, Scope, TestResult, refuse_if};
use super::text::{NO_LIMIT, instances, limit_with_origin, with_origin};
use crate::admission::rules::Limit;
use crate::config::{PerSource, Service};
use crate::limits::access::Rule;
use crate::limits::penalty::Cause;
use crate::net::Source;
use crate::types::Reason;

pub(super) const SOURCE_INSTANCES: Check = Check {
    penalty: Some(Cause::Refused),
    ..of_client(Reason::SourceInstances, test_instances::<PerSourceLevel>, explain_instances::<PerSourceLevel>)
};

pub(super) const SOURCE_RATE: Check = Check {
    penalty: Some(Cause::Refused),
    ..of_client(Reason::SourceRate, test_rate::<PerSourceLevel>, explain_rate::<PerSourceLevel>)
};

pub(super) const NETWORK_INSTANCES: Check =
    of_client(Reason::NetworkInstances, test_instances::<PerNetworkLevel>, explain_instances::<PerNetworkLevel>);

pub(super) const NETWORK_RATE: Check =
    of_client(Reason::NetworkRate, test_rate::<PerNetworkLevel>, explain_rate::<PerNetworkLevel>);

const fn of_client(
    reason: Reason,
    test: fn(&CheckInput<'_>) -> TestResult,
    explain: fn(&CheckInput<'_>, &Service) -> String,
) -> Check {
    Check::new(reason, Scope::Client, test, explain)
}

/// What `per_source` and `per_network` differ in.
trait Level {
    /// The section of the service table.
    const SECTION: &'static str;

    fn written(service: &Service) -> Option<&PerSource>;

    fn limit<'a>(input: &CheckInput<'a>) -> Option<&'a Limit>;

    /// What the client is counted under; none if the limit does not hold for it.
    fn key(input: &CheckInput<'_>) -> Option<Source>;

    fn count_handlers(input: &CheckInput<'_>, key: Source) -> u32;
}

struct PerSourceLevel;

impl Level for PerSourceLevel {
    const SECTION: &'static str = "per_source";

    fn written(service: &Service) -> Option<&PerSource> {
        Some(&service.per_source)
    }

    fn limit<'a>(input: &CheckInput<'a>) -> Option<&'a Limit> {
        Some(&input.rules.source)
    }

    fn key(input: &CheckInput<'_>) -> Option<Source> {
        (!input.client.exempt).then_some(input.client.source)
    }

    fn count_handlers(input: &CheckInput<'_>, key: Source) -> u32 {
        input.ledger.source_count(input.service, key)
    }
}

struct PerNetworkLevel;

impl Level for PerNetworkLevel {
    const SECTION: &'static str = "per_network";

    fn written(service: &Service) -> Option<&PerSource> {
        service.per_network.as_ref()
    }

    fn limit<'a>(input: &CheckInput<'a>) -> Option<&'a Limit> {
        input.rules.network.as_ref()
    }

    fn key(input: &CheckInput<'_>) -> Option<Source> {
        input.client.network
    }

    fn count_handlers(input: &CheckInput<'_>, key: Source) -> u32 {
        input.ledger.network_count(input.service, key)
    }
}

fn test_instances<L: Level>(input: &CheckInput<'_>) -> TestResult {
    let limit = L::limit(input).and_then(|limit| limit.instances);
    refuse_if(limit.zip(L::key(input)).is_some_and(|(limit, key)| L::count_handlers(input, key) >= limit))
}

fn test_rate<L: Level>(input: &CheckInput<'_>) -> TestResult {
    let limit = L::limit(input).and_then(|limit| Some((limit.number, limit.rate.as_ref()?)));
    let Some(((number, rate), key)) = limit.zip(L::key(input)) else { return Ok(()) };
    let result = input.admission.rates.check(number, key, rate, input.now.nanos());
    result.map_err(|retry| Some(retry.0))
}

fn explain_instances<L: Level>(input: &CheckInput<'_>, service: &Service) -> String {
    let live = L::key(input).map_or(0, |key| L::count_handlers(input, key));
    explain::<L>(input, service, "instances", |limits| instances(live, limits.instances))
}

fn explain_rate<L: Level>(input: &CheckInput<'_>, service: &Service) -> String {
    explain::<L>(input, service, "rate", |limits| limits.rate.map(|rate| rate.to_string()))
}

/// The limit that a key of the section sets, or what exempts the client from the section.
fn explain<L: Level>(
    input: &CheckInput<'_>,
    service: &Service,
    key: &str,
    text: impl FnOnce(&PerSource) -> Option<String>,
) -> String {
    let Some((written, limit)) = L::written(service).zip(L::limit(input)) else { return NO_LIMIT.to_owned() };
    if let Some(Rule::Allow(number) | Rule::Deny(number)) = limit.exemption(&input.client.peer) {
        let network = written.exempt.get(number as usize).map(ToString::to_string).unwrap_or_default();
        return with_origin(service, &format!("exempt {network}"), &format!("{}.exempt", L::SECTION));
    }
    let counted_under = L::key(input).unwrap_or(Source::Unknown);
    let text = text(written).map(|text| format!("{counted_under}: {text}"));
    limit_with_origin(service, text, &format!("{}.{key}", L::SECTION))
}
