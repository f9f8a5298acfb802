use std::collections::HashSet;

use super::*;

/// Idle until told otherwise; knows its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    source: u64,
    number: u32,
    busy_until: u64,
}

impl Slot for Note {
    type Weight = u64;

    fn for_key(key: &Key) -> Self {
        Self { source: key.source, number: key.number, busy_until: 0 }
    }

    fn matches_key(&self, key: &Key) -> bool {
        self.source == key.source && self.number == key.number
    }

    fn is_idle(&self, now: u64) -> bool {
        self.busy_until <= now
    }

    fn weight(&self) -> u64 {
        self.busy_until
    }
}

fn slots() -> Slots<Note> {
    Slots::new(PerFamily { ipv4: 60, ipv6: 60 }).unwrap()
}

fn v4(address: u32, length: u8) -> Source {
    Source::V4(Ipv4Addr::from_bits(address), length)
}

fn v6(network: u64) -> Source {
    Source::V6(Ipv6Addr::from_bits(u128::from(network) << 64), 64)
}

/// Kinds whose bits could be taken for another's.
fn alike() -> Vec<Source> {
    let numbers = [0, 1, 1 << 16, 1 << 17, 1 << 31, u32::MAX];
    let of = |number| [v4(number, 32), v4(number, 24), v4(number, 0), Source::Uid(number)];
    let networks = [0, 1, UID, UNKNOWN, 32 << 32, u64::MAX].map(v6);
    numbers.into_iter().flat_map(of).chain(networks).chain([Source::Unknown]).collect()
}

#[test]
fn a_source_comes_back_from_its_bits() {
    let slots = slots();
    for source in alike() {
        assert_eq!(source_of(slots.source_bits(source), is_v6(source)), source);
    }
}

#[test]
fn no_two_sources_have_the_same_bits() {
    let (slots, all) = (slots(), alike());
    let of_one_family =
        |v6| all.iter().filter(move |source| is_v6(**source) == v6).map(|source| slots.source_bits(*source));
    assert_eq!(of_one_family(false).collect::<HashSet<_>>().len(), of_one_family(false).count());
    assert_eq!(of_one_family(true).collect::<HashSet<_>>().len(), of_one_family(true).count());
}

#[test]
fn busy_slots_are_those_that_are_not_idle_now() {
    let mut slots = slots();
    for (number, until) in [(1, 10), (2, 20), (3, 30)] {
        slots.claim_slot(number, v4(7, 32), 0).busy_until = until;
        slots.claim_slot(number, v6(7), 0).busy_until = until;
    }
    for (now, expected) in [(9, vec![1, 1, 2, 2, 3, 3]), (10, vec![2, 2, 3, 3]), (29, vec![3, 3]), (30, vec![])] {
        let mut numbers: Vec<u32> = slots.busy_slots(now).map(|note| note.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, expected, "at {now}");
        let mut numbers: Vec<u32> = slots.busy_mut(now).map(|note| note.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, expected, "at {now}");
        assert_eq!(slots.count_busy(now), PerFamily { ipv4: expected.len() / 2, ipv6: expected.len() / 2 });
    }
}

#[test]
fn a_claimed_slot_is_found_by_its_number_and_source_alone() {
    let mut slots = slots();
    for (now, source) in alike().into_iter().enumerate() {
        assert_eq!(slots.find_slot(1, source), None);
        slots.claim_slot(1, source, 0).busy_until = now as u64 + 1;
        assert_eq!(slots.find_slot(1, source).map(|note| note.busy_until), Some(now as u64 + 1));
        assert_eq!(slots.find_slot(2, source), None);
    }
}

#[test]
fn a_set_holds_eight_and_gives_up_the_one_that_matters_least() {
    // Two sets, where every slot is open to every source.
    let mut slots: Slots<Note> = Slots::new(PerFamily { ipv4: 0, ipv6: 0 }).unwrap();
    assert_eq!(slots.v4.sets.len(), 2);
    for number in 0..16 {
        slots.claim_slot(number, v4(number, 32), 0).busy_until = 100 - u64::from(number);
        assert_eq!(slots.eviction_count(), PerFamily::default());
    }
    slots.claim_slot(16, v4(16, 32), 0).busy_until = 50;
    assert_eq!(slots.eviction_count(), PerFamily { ipv4: 1, ipv6: 0 });
    assert_eq!(slots.find_slot(15, v4(15, 32)), None, "it mattered least");
    assert_eq!(slots.count_busy(0).ipv4, 16);
}

#[test]
fn the_next_program_has_the_busy_slots_alone() {
    let mut slots = slots();
    let numbers = 1..=20;
    for number in numbers.clone() {
        for source in [v4(7, 32), v6(7)] {
            slots.claim_slot(number, source, 0).busy_until = number.into();
        }
    }
    let json = serde_json::to_string(&slots.save_state(10)).unwrap();
    let next = Slots::<Note>::restore_state(serde_json::from_str(&json).unwrap()).unwrap();
    for number in numbers {
        for source in [v4(7, 32), v6(7)] {
            let expected = (number > 10).then(|| *slots.find_slot(number, source).unwrap());
            assert_eq!(next.find_slot(number, source), expected.as_ref());
        }
    }
    assert_eq!(next.count_busy(0), PerFamily { ipv4: 10, ipv6: 10 });
    assert_eq!((next.v4.sets.len(), next.v6.sets.len()), (slots.v4.sets.len(), slots.v6.sets.len()));
}
