use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn v4(number: u32) -> Source {
    Source::V4(Ipv4Addr::from_bits(number), 32)
}

fn at(seconds: u64) -> u64 {
    seconds * SECOND_NS
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn charge(cost: u64, min: u64, max: u64) -> Charge {
    Charge { cost: seconds(cost), min: seconds(min), max: seconds(max) }
}

fn penalties(entries: u32) -> Penalties {
    Penalties::new(PerFamily { ipv4: entries, ipv6: entries }).unwrap()
}

/// The seconds for which a source is refused.
fn left(penalties: &Penalties, source: Source, now: u64) -> u64 {
    penalties.find_penalty(source, now).map_or(0, |found| found.left.as_secs())
}

#[test]
fn a_source_is_refused_while_it_owes_more_than_min() {
    let (mut all, crash) = (penalties(100), charge(90, 15, 600));
    assert_eq!(all.find_penalty(v4(1), at(10)), None);
    assert_eq!(all.charge_source(v4(1), &crash, at(10)), Some(seconds(75)));
    assert_eq!(all.find_penalty(v4(1), at(10)), Some(Penalised { source: v4(1), left: seconds(75), times: 1 }));
    assert_eq!(left(&all, v4(1), at(84)), 1);
    assert!(all.find_penalty(v4(1), at(85) - 1).is_some());
    assert_eq!(all.find_penalty(v4(1), at(85)), None);
    assert_eq!(all.find_penalty(v4(2), at(10)), None, "one pays for itself alone");
}

#[test]
fn small_debts_add_up_and_go_by_with_time() {
    let (mut all, exit) = (penalties(100), charge(10, 15, 600));
    assert_eq!(all.charge_source(v4(1), &exit, at(0)), None);
    assert_eq!(all.find_penalty(v4(1), at(0)), None);
    // Of the first ten, six are left.
    assert_eq!(all.charge_source(v4(1), &exit, at(4)), Some(seconds(1)));
    for n in 1..100 {
        assert_eq!(
            all.charge_source(v4(2), &exit, at(n * 10)),
            None,
            "who fails every ten seconds never owes more than ten"
        );
    }
}

#[test]
fn repeaters_pay_twice_as_much_each_time_and_never_more_than_max() {
    let (mut all, trap) = (penalties(100), charge(60, 0, 300));
    let mut now = 1;
    for (times, expected) in [(1, 60), (2, 120), (3, 240), (4, 300), (5, 300)] {
        assert_eq!(all.charge_source(v4(1), &trap, at(now)), Some(seconds(expected)), "{times}");
        assert_eq!(all.find_penalty(v4(1), at(now)).unwrap().times, times);
        now += expected + 299;
    }
    // Five minutes after the end, all is forgotten.
    now += 1;
    assert_eq!(all.charge_source(v4(1), &trap, at(now)), Some(MINUTE));
}

#[test]
fn charges_of_a_refused_source_do_not_double() {
    let (mut all, crash) = (penalties(100), charge(60, 0, 600));
    assert_eq!(all.charge_source(v4(1), &crash, at(0)), Some(MINUTE));
    assert_eq!(all.charge_source(v4(1), &crash, at(0)), None);
    assert_eq!(all.find_penalty(v4(1), at(0)), Some(Penalised { source: v4(1), left: 2 * MINUTE, times: 1 }));
    (0..100).for_each(|_| assert_eq!(all.charge_source(v4(1), &crash, at(1)), None));
    assert_eq!(left(&all, v4(1), at(1)), 600);
}

#[test]
fn a_service_with_a_smaller_max_forgives_nothing() {
    let mut all = penalties(100);
    all.charge_source(v4(1), &charge(3_600, 0, 3_600), at(0));
    assert_eq!(all.charge_source(v4(1), &charge(1, 15, 60), at(0)), None);
    assert_eq!(left(&all, v4(1), at(0)), 3_600);
}

#[test]
fn the_ends_of_the_clock_and_of_what_can_be_owed() {
    let (mut all, forever) = (penalties(100), Charge { cost: Duration::MAX, min: Duration::ZERO, max: Duration::MAX });
    for (n, now) in [0, 1, u64::MAX - 1].into_iter().enumerate() {
        let source = v4(n as u32);
        all.charge_source(source, &forever, now);
        all.charge_source(source, &forever, now);
        assert!(all.find_penalty(source, now).is_some());
        assert!(all.find_penalty(source, u64::MAX - 1).is_some());
    }
}

#[test]
fn forgiven_sources_start_anew() {
    let (mut all, trap) = (penalties(100), charge(60, 0, 600));
    let v6 = Source::V6(Ipv6Addr::from_bits(1 << 100), 64);
    for source in [v4(1), v4(2), v6, Source::Uid(7)] {
        all.charge_source(source, &trap, at(0));
    }
    let before = all.change_count();
    assert_eq!(all.forgive_sources(|source| source == v4(1) || source == v6, at(1)), 2);
    assert!(all.change_count() > before);
    let mut rest: Vec<_> = all.list_penalised(at(1)).map(|found| found.source).collect();
    rest.sort();
    assert_eq!(rest, [v4(2), Source::Uid(7)]);
    assert_eq!(all.charge_source(v4(1), &trap, at(1)), Some(MINUTE), "as if it had never been");
}

#[test]
fn a_table_full_of_debtors_takes_a_newcomer_and_forgets_the_shortest_debt() {
    let mut all = penalties(12);
    (1..=16).for_each(|n| {
        all.charge_source(v4(n), &charge(u64::from(n) * 60, 0, 3_600), at(0));
    });
    assert_eq!((all.list_penalised(at(1)).count(), all.forgotten_debtors().ipv4), (16, 0));
    all.charge_source(v4(100), &charge(600, 0, 3_600), at(1));
    assert_eq!((all.list_penalised(at(1)).count(), all.forgotten_debtors().ipv4), (16, 1));
    assert!(
        all.find_penalty(v4(1), at(1)).is_none()
            && all.find_penalty(v4(2), at(1)).is_some()
            && all.find_penalty(v4(100), at(1)).is_some()
    );
}

#[test]
fn a_million_debtors_take_no_more_memory_than_a_few() {
    let mut all = Penalties::new(PerFamily { ipv4: u32::MAX, ipv6: 1 }).unwrap();
    let slots = Penalties::MAX_DEBTORS.div_ceil(6) as usize * 8;
    (0..1_000_000).for_each(|n| {
        all.charge_source(v4(n), &charge(60, 0, 600), at(0));
    });
    assert_eq!(all.list_penalised(at(1)).count(), slots);
    assert_eq!(all.forgotten_debtors().ipv4 as usize, 1_000_000 - slots);
}

/// The examples of oxinetd.yaml(5).
#[test]
fn what_the_manual_says_of_crashes_and_failures() {
    let (mut all, crash, mut now) = (penalties(100), charge(90, 15, 600), 10);
    for owed in [90, 180, 360, 600, 600] {
        assert_eq!(all.charge_source(v4(1), &crash, at(now)), Some(seconds(owed - 15)));
        now += owed + 60;
    }
    let exit = charge(10, 15, 600);
    for (later, refused) in [(0, Some(5)), (4, Some(1)), (5, None), (10, None)] {
        let mut all = penalties(100);
        assert_eq!(all.charge_source(v4(1), &exit, at(10)), None);
        assert_eq!(all.charge_source(v4(1), &exit, at(10 + later)), refused.map(seconds), "{later} seconds later");
    }
    let (mut all, trap, mut now) = (penalties(100), charge(3_600, 0, 86_400), 10);
    for hours in [1, 2, 4, 8, 16, 24, 24] {
        assert_eq!(all.charge_source(v4(1), &trap, at(now)), Some(seconds(hours * 3_600)));
        now += hours * 3_600 + 86_399;
    }
    assert_eq!(all.charge_source(v4(1), &trap, at(now + 1)), Some(seconds(3_600)));
}

#[test]
fn only_faults_of_a_handler_are_charged_for() {
    assert_eq!(Cause::of_ending(Ending::Exited(0)), None);
    for status in [1, 127, 255] {
        assert_eq!(Cause::of_ending(Ending::Exited(status)), Some(Cause::Exit));
    }
    for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSYS] {
        assert_eq!(Cause::of_ending(Ending::Signaled(signal)), Some(Cause::Crash));
    }
    for signal in [libc::SIGPIPE, libc::SIGTERM, libc::SIGKILL, libc::SIGHUP, libc::SIGQUIT] {
        assert_eq!(Cause::of_ending(Ending::Signaled(signal)), None);
    }
}

#[test]
fn causes_have_the_names_of_their_keys() {
    let words = [Cause::Crash, Cause::Exit, Cause::Refused, Cause::Trap].map(Cause::word);
    assert_eq!(words, ["crash", "exit", "refused", "trap"]);
}

#[test]
fn another_memory_takes_over_the_debts() {
    let (mut old, mut new, trap) = (penalties(100), penalties(600), charge(60, 0, 600));
    let sources = [v4(1), Source::V6(Ipv6Addr::from_bits(1 << 100), 64), Source::Uid(7)];
    for source in sources {
        old.charge_source(source, &trap, at(1));
    }
    old.charge_source(v4(2), &charge(1, 0, 1), at(1));
    let now = at(10);
    new.copy_from(&old, now);
    for source in sources {
        assert_eq!(new.find_penalty(source, now), old.find_penalty(source, now));
        assert_eq!(left(&new, source, now), 51);
    }
    assert_eq!(new.find_penalty(v4(2), now), None);
    assert_eq!(new.list_penalised(now).count(), sources.len());
    assert!(new.change_count() > old.change_count(), "it is a change, too");
}
