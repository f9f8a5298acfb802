//! The checks of admission, in their order; the first that refuses decides.
//!
//! A check is declared in one place of this folder: its reason, its test, its explanation, its scope, whether
//! `dry_run` lifts it, what a refusal costs the client, and what it means for a listener ([`Check`]). A new check
//! is one declaration, its line in [`CHECKS`] and the word of its [`Reason`].
//!
//! Per-client checks run before shared ones, so a client refused by its own limit learns nothing about the
//! service's load. Admission alone evaluates checks; a [`Refusal`] tells the dispatcher what follows from it.

mod access;
mod check;
mod daemon;
mod orders;
mod penalty;
mod service;
mod source;
mod text;
mod times;

pub(super) use check::{BeforeAccept, Check, CheckInput};
pub(super) use daemon::is_daemon_full;

use std::time::Duration;

use super::types::Refusal;
use crate::config::WhenFull;
use crate::limits::penalty::Cause;
use crate::types::Reason;
use check::{Pause, Scope};

/// All checks, in order.
pub(super) static CHECKS: [Check; 14] = [
    orders::DRAINED,
    access::ACCESS,
    times::TIMES,
    orders::BAN,
    penalty::PENALTY,
    penalty::TRAP,
    source::SOURCE_INSTANCES,
    source::SOURCE_RATE,
    source::NETWORK_INSTANCES,
    source::NETWORK_RATE,
    service::SERVICE_RATE,
    service::SERVICE_INSTANCES,
    daemon::DAEMON_INSTANCES,
    daemon::LOAD,
];

/// The first refusal of all those checks that `which` selects.
pub(super) fn first_refusal(input: &CheckInput<'_>, which: impl Fn(&Check) -> bool) -> Result<(), Refusal> {
    CHECKS.iter().filter(|check| which(check)).try_for_each(|check| check.evaluate(input))
}

/// The check that refuses for this reason. None for other reasons: a failed start, a lack of descriptors, a
/// backoff.
fn check_of(reason: Reason) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.reason == reason)
}

impl Refusal {
    /// Whether it is about the client alone, so that another client may be admitted at the same moment.
    pub(crate) fn is_personal(&self) -> bool {
        check_of(self.reason).is_some_and(|check| check.scope == Scope::Client)
    }

    /// The event that the refused client may be charged for.
    pub(crate) fn penalty(&self) -> Option<Cause> {
        check_of(self.reason)?.penalty
    }

    /// Whether clients wait in the backlog while this refusal is what [`room`](super::Admission::room) says,
    /// instead of being accepted and refused.
    pub(crate) fn keeps_backlog(&self, when_full: WhenFull) -> bool {
        match check_of(self.reason).map(|check| check.before_accept) {
            Some(BeforeAccept::AlwaysWait) => true,
            _ => when_full == WhenFull::Queue,
        }
    }

    /// How long a listener is paused for this refusal. None if an event ends the pause: a handler ends, or the
    /// administrator resumes the service.
    pub(crate) fn pause_time(&self) -> Option<Duration> {
        match check_of(self.reason).map_or(Pause::BY_RETRY_TIME, |check| check.pause) {
            Pause::UntilEvent => None,
            Pause::ForTime { if_unknown, max } => Some(self.retry.unwrap_or(if_unknown).min(max)),
        }
    }
}

#[cfg(test)]
mod tests;
