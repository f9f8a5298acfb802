use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn sources(entries: u32) -> Sources {
    Sources::new(PerFamily { ipv4: entries, ipv6: entries }).unwrap()
}

fn v4(number: u32) -> Source {
    Source::V4(Ipv4Addr::from_bits(number), 32)
}

fn v6(number: u64) -> Source {
    Source::V6(Ipv6Addr::from_bits(u128::from(number) << 64), 64)
}

/// One event in so many seconds.
fn one_in(seconds: u64) -> Rate {
    Rate::new(1, Duration::from_secs(seconds), 1).unwrap()
}

#[test]
fn a_source_pays_for_itself_alone() {
    let (mut table, rate) = (sources(100), one_in(1));
    let host = |last: u128| Source::V6(Ipv6Addr::from_bits(1 << 125 | last), 128);
    let all = [
        (1, v4(1000)),
        (2, v4(1000)),
        (1, Source::V4(Ipv4Addr::from_bits(1000), 24)),
        (1, Source::Uid(1000)),
        (1, Source::Unknown),
        (1, v6(1000)),
        (1, v6(1001)),
        (1, host(1)),
        (1, host(2)),
        (0, v4(0)),
        (0, v6(0)),
    ];
    for (done, &(limit, source)) in all.iter().enumerate() {
        assert_eq!(table.check(limit, source, &rate, 0), Ok(()), "{limit} {source}");
        table.commit(limit, source, &rate, 0);
        for &(limit, source) in &all[..=done] {
            assert_eq!(table.check(limit, source, &rate, 0), Err(RetryAfter(Duration::from_secs(1))));
        }
    }
    assert_eq!(table.count_indebted(0), PerFamily { ipv4: 6, ipv6: 5 });
    assert_eq!(table.count_indebted(SECOND), PerFamily::default());
}

#[test]
fn checking_takes_no_room() {
    let (table, rate) = (sources(1), one_in(1));
    (0..1_000).for_each(|n| assert_eq!(table.check(1, v4(n), &rate, 0), Ok(())));
    assert_eq!(table.count_indebted(0), PerFamily::default());
}

#[test]
fn memory_is_32_bytes_an_entry() {
    let table = sources(60_000);
    assert_eq!(size_of_val(&*table.0.v4.sets), 60_000 * 32);
    assert_eq!(size_of_val(&*sources(0).0.v4.sets), 12 * 32);
}

#[test]
fn a_table_of_6000_holds_6000_debtors() {
    let (mut table, rate) = (sources(6_000), one_in(1));
    (0..6_000).for_each(|n| table.commit(1, v4(n), &rate, 0));
    let (held, lost) = (table.count_indebted(0).ipv4 as u64, table.evicted_with_debt().ipv4);
    assert_eq!(held + lost, 6_000);
    assert!(lost <= 1, "lost {lost}, expected one in two million");
}

#[test]
fn the_least_debt_goes_first_and_is_counted() {
    // Two sets, so every one of the sixteen slots is open to every source.
    let mut table = sources(12);
    let debts = [9, 16, 4, 11, 1, 14, 7, 2, 13, 6, 10, 3, 15, 8, 5, 12];
    debts.into_iter().for_each(|seconds| table.commit(seconds, v4(seconds), &one_in(seconds.into()), 0));
    assert_eq!((table.count_indebted(0).ipv4, table.evicted_with_debt().ipv4), (16, 0));
    for evicted in 1..=16_u32 {
        table.commit(100, v4(1_000 + evicted), &one_in(3_600), 0);
        assert_eq!(table.evicted_with_debt(), PerFamily { ipv4: evicted.into(), ipv6: 0 });
        for debt in 1..=16 {
            let kept = table.check(debt, v4(debt), &one_in(debt.into()), 0).is_err();
            assert_eq!(kept, debt > evicted, "debt {debt} after {evicted} evictions");
        }
    }
}

#[test]
fn a_table_full_of_debtors_still_limits_a_newcomer() {
    let mut table = sources(12);
    (0..100).for_each(|n| table.commit(1, v4(n), &one_in(3_600), 0));
    table.commit(2, v4(7), &one_in(1), 0);
    assert!(table.check(2, v4(7), &one_in(1), SECOND - 1).is_err());
}

#[test]
fn sources_without_debt_are_forgotten_without_loss() {
    let (mut table, rate) = (sources(12), one_in(1));
    for round in 0..100_u64 {
        let now = round * SECOND;
        let batch = (0..16).map(|n| v4(round as u32 * 16 + n));
        batch.clone().for_each(|source| table.commit(1, source, &rate, now));
        batch.for_each(|source| assert!(table.check(1, source, &rate, now + SECOND - 1).is_err()));
    }
    assert_eq!(table.evicted_with_debt(), PerFamily::default());
}

#[test]
fn an_idle_slot_is_taken_before_a_debtor_of_either_set() {
    let mut table = sources(12);
    (0..15).for_each(|n| table.commit(1, v4(n), &one_in(3_600), 0));
    for n in 0..1_000 {
        table.commit(2, v4(n), &one_in(1), u64::from(n) * SECOND);
    }
    assert_eq!(table.evicted_with_debt().ipv4, 0);
    assert!((0..15).all(|n| table.check(1, v4(n), &one_in(3_600), 1_000 * SECOND).is_err()));
}

/// `distinct` sources, of which `at_once` owe something at a time.
fn parade(table: &mut Sources, distinct: u64, at_once: u64) {
    let rate = one_in(at_once);
    (0..distinct).for_each(|n| table.commit(1, v6(n), &rate, n * SECOND));
}

#[test]
fn a_million_sources_change_neither_memory_nor_the_other_family() {
    let mut table = sources(6_000);
    let place = |table: &Sources| (table.0.v6.sets.as_ptr(), table.0.v6.sets.len());
    let before = place(&table);
    (0..1_000).for_each(|n| table.commit(1, v4(n), &one_in(4_000_000), 0));
    parade(&mut table, 1_000_000, 3_000);
    assert_eq!(table.evicted_with_debt(), PerFamily::default(), "half of the table is enough for them");
    (0..1_000_000).for_each(|n| table.commit(1, v6(n), &one_in(3_600), 1_000_000 * SECOND));
    assert_eq!(place(&table), before);
    let held = table.count_indebted(1_000_000 * SECOND);
    assert_eq!(held.ipv6 + table.evicted_with_debt().ipv6 as usize, 1_000_000 + 3_000 - 1);
    assert_eq!((held.ipv4, table.evicted_with_debt().ipv4), (1_000, 0));
}

#[test]
#[ignore = "ten million: some seconds in a release build"]
fn ten_million_sources_change_no_memory() {
    let mut table = sources(65_536);
    let before = (table.0.v6.sets.as_ptr(), table.0.v6.sets.len());
    parade(&mut table, 10_000_000, 32_768);
    assert_eq!((table.0.v6.sets.as_ptr(), table.0.v6.sets.len()), before);
    assert_eq!(table.evicted_with_debt(), PerFamily::default());
}

#[test]
fn a_reload_changes_a_limit_at_once_and_the_others_not() {
    let per_second = |burst| Rate::new(1, Duration::from_secs(1), burst).unwrap();
    let (old, new, now) = (per_second(10), per_second(4), 50 * SECOND);
    let mut table = sources(100);
    for limit in 1..=3 {
        (0..5).for_each(|_| table.commit(limit, v4(7), &old, now));
    }
    let changes = [(1, Change { old, new: Some(new) }), (2, Change { old, new: None })];
    table.change_rates(&BTreeMap::from(changes), now);
    let mut left = |limit, rate: &Rate| {
        let mut come = || table.check(limit, v4(7), rate, now).map(|()| table.commit(limit, v4(7), rate, now));
        (0..100).take_while(|_| come().is_ok()).count()
    };
    assert_eq!([left(1, &new), left(2, &old), left(3, &old)], [2, 10, 5]);
}

#[test]
fn a_slot_keeps_a_time_beyond_the_end_of_the_clock() {
    let rate = Rate::new(7, Duration::from_secs(1), 3).unwrap();
    for now in [0, u64::MAX - 1, u64::MAX] {
        let mut table = sources(12);
        for _ in 0..3 {
            assert_eq!(table.check(1, v4(1), &rate, now), Ok(()));
            table.commit(1, v4(1), &rate, now);
        }
        let retry = Duration::from_nanos(142_857_143);
        assert_eq!(table.check(1, v4(1), &rate, now), Err(RetryAfter(retry)));
        assert_eq!(table.count_indebted(now).ipv4, 1);
    }
}
