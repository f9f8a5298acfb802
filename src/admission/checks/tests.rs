//! What follows from a refusal.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn each_check_is_listed_once_in_the_order_of_the_reasons() {
    let reasons: Vec<_> = CHECKS.iter().map(|check| check.reason).collect();
    assert_eq!(reasons, Reason::ALL[..reasons.len()]);
    let others = [Reason::SpawnFailed, Reason::Resources, Reason::Backoff];
    assert_eq!(Reason::ALL[reasons.len()..], others, "these are no checks");
    for other in others.map(Refusal::from) {
        assert!(!other.is_personal() && other.penalty().is_none(), "{other:?}");
    }
}

#[test]
fn only_what_is_about_the_client_is_charged_for() {
    let penalty = |reason: Reason| Refusal::from(reason).penalty();
    for reason in [Reason::Access, Reason::SourceInstances, Reason::SourceRate] {
        assert_eq!(penalty(reason), Some(Cause::Refused));
    }
    assert_eq!(penalty(Reason::Trap), Some(Cause::Trap));
    for reason in [Reason::Penalty, Reason::Ban, Reason::Times, Reason::ServiceRate, Reason::NetworkRate] {
        assert_eq!(penalty(reason), None);
    }
}

#[test]
fn a_refusal_is_about_the_client_the_service_or_the_daemon() {
    let personal = [
        Reason::Access,
        Reason::Ban,
        Reason::Penalty,
        Reason::SourceInstances,
        Reason::SourceRate,
        Reason::NetworkInstances,
        Reason::NetworkRate,
    ];
    for &reason in Reason::ALL {
        assert_eq!(Refusal::from(reason).is_personal(), personal.contains(&reason), "{reason:?}");
    }
    let of_daemon = CHECKS.iter().filter(|check| check.scope == Scope::Daemon).map(|check| check.reason);
    assert_eq!(of_daemon.collect::<Vec<_>>(), [Reason::DaemonInstances, Reason::Load]);
}

#[test]
fn a_listener_is_paused_until_the_refusal_ends() {
    let pause = |reason, retry| Refusal { reason, retry }.pause_time();
    for reason in [Reason::Drained, Reason::ServiceInstances, Reason::DaemonInstances] {
        assert_eq!((pause(reason, None), pause(reason, Some(HOUR))), (None, None), "an event ends {reason:?}");
    }
    assert_eq!((pause(Reason::Times, None), pause(Reason::Times, Some(HOUR))), (Some(MINUTE), Some(MINUTE)));
    let second = Duration::from_secs(1);
    assert_eq!(pause(Reason::Times, Some(second)), Some(second));
    for reason in [Reason::ServiceRate, Reason::Load, Reason::Access] {
        assert_eq!((pause(reason, None), pause(reason, Some(HOUR))), (Some(second), Some(HOUR)), "{reason:?}");
    }
}

#[test]
fn clients_wait_in_the_backlog_as_when_full_says_and_always_for_the_rate_of_the_service() {
    let waits = |reason: Reason, when_full| Refusal::from(reason).keeps_backlog(when_full);
    for reason in [Reason::ServiceInstances, Reason::DaemonInstances, Reason::Load] {
        assert!(waits(reason, WhenFull::Queue) && !waits(reason, WhenFull::Refuse), "{reason:?}");
    }
    assert!(waits(Reason::ServiceRate, WhenFull::Queue) && waits(Reason::ServiceRate, WhenFull::Refuse));
}
