//! `penalties`: what costs a source how much time.

use std::time::Duration;

use ipnet::IpNet;

use super::kinds::{List, Rule};
use crate::config::location::{Spanned, SpannedList};
use crate::config::units;
use crate::config::values::{Word, above_zero, network_form};

const TRAP: Rule = Rule {
    service_only: Some("this would make a trap of every service; it belongs to one that exists to catch"),
    missing: None,
};

/// A duration that may be 0.
fn any_duration() -> Word<Duration> {
    Word { expected: "a duration, such as 15s or 0s", pattern: None, parse: units::parse_duration, ..above_zero() }
}

section! {
    /// `penalties`.
    pub(crate) struct PenaltySpec {
        /// For a handler that a signal has ended.
        crash: Option<Spanned<Duration>> = above_zero();
        /// For a handler that ended with a status other than 0.
        exit: Option<Spanned<Duration>> = above_zero();
        /// For a connection that was refused.
        refused: Option<Spanned<Duration>> = above_zero();
        /// For every connection, to a service that exists to catch.
        [TRAP] trap: Option<Spanned<Duration>> = above_zero();
        /// A source whose penalty exceeds this is refused.
        min: Option<Spanned<Duration>> = any_duration() => Duration::from_secs(15);
        /// No penalty grows beyond this.
        max: Option<Spanned<Duration>> = above_zero();
        /// Networks that get no penalties.
        exempt: SpannedList<IpNet> = List(network_form());
    }
}
