//! The type of a check: one condition that a client must meet before a handler is started for it.
//!
//! Each file of this folder declares checks as constants of the type [`Check`]; `checks::CHECKS` lists them in
//! order. A check reads its [`CheckInput`] and changes nothing; it neither allocates nor fails.

use std::time::Duration;

use crate::admission::rules::Rules;
use crate::admission::state::Admission;
use crate::admission::types::{Client, Refusal};
use crate::api::Question;
use crate::config::Service;
use crate::limits::ledger::Ledger;
use crate::limits::penalty::Cause;
use crate::types::{Now, Reason, ServiceId};

/// The input of all checks.
pub(in crate::admission) struct CheckInput<'a> {
    pub admission: &'a Admission,
    pub rules: &'a Rules,
    pub service: ServiceId,
    pub client: &'a Client,
    pub ledger: &'a Ledger,
    pub now: Now,
    /// The load average, where the service has a `max_load` and it can be read.
    pub load: Option<f64>,
}

/// Passed, or refused. A refusal holds the time after which the check passes if nothing else changes, if known.
pub(super) type TestResult = Result<(), Option<Duration>>;

/// The result of a check that does not know when it will pass.
pub(super) fn refuse_if(refused: bool) -> TestResult {
    if refused { Err(None) } else { Ok(()) }
}

/// The subject of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admission) enum Scope {
    /// The client alone: another client may pass at the same moment.
    Client,
    /// The service: the result is the same for all its clients.
    Service,
    /// The daemon or the machine.
    Daemon,
}

/// Whether a check is evaluated before accept(2) too, and what becomes of the clients in the backlog if it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admission) enum BeforeAccept {
    /// The check needs an accepted client.
    No,
    /// The clients wait if `when_full` says `queue`; otherwise they are accepted, and refused.
    WhenFull,
    /// The clients wait whatever `when_full` says: no single one is to blame.
    AlwaysWait,
}

/// What ends the pause of a listener whose clients a check would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admission) enum Pause {
    /// An event: a handler ends, or the administrator resumes the service.
    UntilEvent,
    /// Time: that after which the check passes, and never more than `max`.
    ForTime { if_unknown: Duration, max: Duration },
}

impl Pause {
    /// The time after which the check passes; a second where it is unknown.
    pub(in crate::admission) const BY_RETRY_TIME: Self =
        Self::ForTime { if_unknown: Duration::from_secs(1), max: Duration::MAX };
}

/// One condition and the consequences of a refusal.
pub(in crate::admission) struct Check {
    /// The reason of its refusals, which also names it in explanations.
    pub reason: Reason,
    pub scope: Scope,
    /// A refusal also holds in a service with `dry_run`: it is the administrator's order, or the daemon's own need.
    pub enforced_in_dry_run: bool,
    pub before_accept: BeforeAccept,
    pub pause: Pause,
    /// The kind of penalty that a refused client is charged.
    pub penalty: Option<Cause>,
    pub test: fn(&CheckInput<'_>) -> TestResult,
    pub explanation: fn(&CheckInput<'_>, &Service) -> String,
}

impl Check {
    /// A check that needs an accepted client, is not enforced in a `dry_run`, and costs the client nothing.
    ///
    /// `explanation` names the rule, the numbers that were compared, and in brackets the rule's place in the
    /// service table.
    pub(super) const fn new(
        reason: Reason,
        scope: Scope,
        test: fn(&CheckInput<'_>) -> TestResult,
        explanation: fn(&CheckInput<'_>, &Service) -> String,
    ) -> Self {
        Self {
            reason,
            scope,
            enforced_in_dry_run: false,
            before_accept: BeforeAccept::No,
            pause: Pause::BY_RETRY_TIME,
            penalty: None,
            test,
            explanation,
        }
    }

    pub(in crate::admission) fn evaluate(&self, input: &CheckInput<'_>) -> Result<(), Refusal> {
        (self.test)(input).map_err(|retry| Refusal { reason: self.reason, retry })
    }

    pub(in crate::admission) fn explain(&self, input: &CheckInput<'_>, service: &Service) -> Question {
        let result = self.evaluate(input);
        Question {
            question: self.reason.word().to_owned(),
            yes: result.is_ok(),
            retry_seconds: result.err().and_then(|refusal| Some(refusal.retry?.as_secs_f64())),
            rule: (self.explanation)(input, service),
        }
    }
}
