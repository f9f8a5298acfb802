//! Bans, penalties and drained services, and the list of what is blocked.

use super::*;
use crate::admission::Blocked;

#[test]
fn a_ban_holds_for_its_network_until_it_ends_or_is_taken_back() {
    let mut world = World::new("instances: unlimited");
    let until = NOW.monotonic + MINUTE;
    world.admission.ban(network("192.0.2.0/24"), Some(until), NOW).unwrap();
    world.admission.ban(network("192.0.2.7/32"), None, NOW).unwrap();
    world.admission.ban(network("2001:db8::/32"), None, NOW).unwrap();
    assert_eq!(world.decide("192.0.2.1", NOW), no(Reason::Ban, Some(MINUTE)));
    assert_eq!(world.decide("192.0.2.7", NOW), no(Reason::Ban, None), "the one that ends last is told");
    assert_eq!(world.decide("2001:db8:7::1", NOW), no(Reason::Ban, None));
    assert_eq!(world.decide("192.0.3.1", NOW), Decision::Admit);
    assert_eq!(world.admission.list_bans(NOW).len(), 3);
    world.reload("instances: unlimited", 1000, NOW);
    assert_ne!(world.decide("192.0.2.1", later(MINUTE - Duration::from_nanos(1))), Decision::Admit);
    assert_eq!(world.decide("192.0.2.1", later(MINUTE)), Decision::Admit);
    assert_eq!(world.decide("192.0.2.7", later(MINUTE)), no(Reason::Ban, None));
    assert_eq!(world.admission.list_bans(later(MINUTE)).len(), 2);
    assert!(!world.admission.unban(network("192.0.2.0/24"), later(MINUTE)), "that one is over");
    assert!(world.admission.unban(network("192.0.2.7/32"), NOW));
    assert_eq!(world.decide("192.0.2.7", later(MINUTE)), Decision::Admit);
    assert!(!world.admission.unban(network("192.0.2.7/32"), NOW));
}

#[test]
fn a_ban_of_mapped_addresses_is_one_of_ipv4_and_none_holds_for_local_users() {
    let mut world = World::new("instances: unlimited");
    world.admission.ban(network("::ffff:192.0.2.0/120"), None, NOW).unwrap();
    world.admission.ban(network("::/0"), None, NOW).unwrap();
    assert_eq!(world.admission.list_bans(NOW)[0].0, network("192.0.2.0/24"));
    assert_eq!(world.decide("192.0.2.1", NOW), no(Reason::Ban, None));
    assert_eq!(world.decide("::ffff:192.0.2.1", NOW), no(Reason::Ban, None));
    assert_eq!(world.decide("192.0.3.1", NOW), Decision::Admit);
    let client = world.admission.client(world.id, Peer::Unix { uid: 0, gid: 0 });
    assert_eq!(world.admission.decide(&world.ledger, world.id, &client, NOW), Decision::Admit);
}

#[test]
fn a_dry_run_lifts_penalties_and_no_bans() {
    let mut world = World::new("dry_run: true, penalties: { exit: 1h }");
    assert_eq!(world.admission.charge(world.id, &peer(ADDRESS), Cause::Exit, NOW), None, "it would hold elsewhere");
    world.reload("penalties: { exit: 1h }", 1000, NOW);
    assert!(world.admission.charge(world.id, &peer(ADDRESS), Cause::Exit, NOW).is_some());
    world.reload("dry_run: true", 1000, NOW);
    assert!(matches!(world.decide(ADDRESS, NOW), Decision::WouldRefuse(no) if no.reason == Reason::Penalty));
    world.admission.ban(network("192.0.2.0/24"), None, NOW).unwrap();
    assert_eq!(world.decide(ADDRESS, NOW), no(Reason::Ban, None));
    world.admission.drain(world.id);
    assert_eq!(world.decide(ADDRESS, NOW), Decision::Refuse(Reason::Drained.into()));
}

#[test]
fn a_penalty_holds_for_the_source_in_every_service_and_not_for_the_exempt() {
    let mut ledger = Ledger::default();
    let ids = ledger.list(["trap", "other", "kind"]);
    let trap = "trap: { listen: 1, penalties: { trap: 1h, min: 0s, exempt: [192.0.2.9] } }";
    let kind = "kind: { listen: 3, program: /bin/cat, penalties: { exempt: [192.0.2.0/24] } }";
    let table = table(&format!("{FEW}services: {{ {trap}, other: {{ listen: 2, program: /bin/cat }}, {kind} }}"));
    let mut admission = Admission::new().unwrap();
    let prepared = admission.prepare(table.daemon.sources, &table.services).unwrap();
    admission.serve(ids.iter().copied().zip(&table.services), 100, prepared, NOW);
    let decide = |admission: &mut Admission, id, address: &str| {
        let client = admission.client(id, peer(address));
        admission.decide(&ledger, id, &client, NOW)
    };
    for address in ["192.0.2.1", "192.0.2.9", "2001:db8::1"] {
        assert_eq!(decide(&mut admission, ids[0], address), Decision::Refuse(Reason::Trap.into()));
        admission.charge(ids[0], &peer(address), Refusal::from(Reason::Trap).penalty().unwrap(), NOW);
    }
    for id in [ids[0], ids[1]] {
        assert_eq!(decide(&mut admission, id, "192.0.2.1"), no(Reason::Penalty, Some(HOUR)));
        assert_eq!(decide(&mut admission, id, "2001:db8::ffff"), no(Reason::Penalty, Some(HOUR)), "all of the /64");
    }
    assert_eq!(decide(&mut admission, ids[1], "192.0.2.9"), Decision::Admit);
    assert_eq!(decide(&mut admission, ids[1], "2001:db8:0:1::1"), Decision::Admit);
    assert_eq!(decide(&mut admission, ids[2], "192.0.2.1"), Decision::Admit, "this service pardons them");
    assert_eq!(admission.list_penalised(NOW).count(), 2);
    assert!(admission.unban(network("2001:db8::7/128"), NOW), "of whose /64 this is a part");
    assert_eq!(admission.list_penalised(NOW).count(), 1);
}

#[test]
fn penalties_are_kept_when_their_service_goes_and_when_the_memory_changes_its_size() {
    let mut world = World::new("penalties: { crash: 90s }");
    assert_eq!(world.admission.charge(world.id, &peer(ADDRESS), Cause::Crash, NOW), Some(Duration::from_secs(75)));
    assert_eq!(world.admission.charge(world.id, &Peer::Unknown, Cause::Crash, NOW), None, "an unknown peer");
    assert_eq!(world.admission.charge(world.id, &peer("192.0.2.9"), Cause::Exit, NOW), None, "that is for free");
    world.reload("instances: 3", 1000, NOW);
    let left = |now: Duration| no(Reason::Penalty, Some(Duration::from_secs(75) - now));
    assert_eq!(world.decide(ADDRESS, NOW), left(Duration::ZERO));
    let table = table_of("penalties: { crash: 1s }");
    let prepared = world.admission.prepare(PerFamily { ipv4: 60, ipv6: 12 }, &table.services).unwrap();
    world.admission.serve([(world.id, &table.services[0])], 1000, prepared, later(MINUTE));
    assert_eq!(world.decide(ADDRESS, later(MINUTE)), left(MINUTE));
}

#[test]
fn a_drained_service_stays_so_over_a_reload() {
    let mut world = World::new("instances: 3");
    assert!(world.admission.drain(world.id) && !world.admission.drain(world.id));
    world.reload("instances: 4", 1000, NOW);
    assert_eq!(world.decide(ADDRESS, NOW), Decision::Refuse(Reason::Drained.into()));
    assert!(world.admission.resume(world.id) && !world.admission.resume(world.id));
    assert_eq!(world.decide(ADDRESS, NOW), Decision::Admit);
}

#[test]
fn memory_for_penalties_is_taken_when_a_service_has_one() {
    let mut world = World::new("rate: 1/h");
    assert_eq!(world.admission.penalised_sources, NO_SOURCES);
    world.reload("penalties: { crash: 90s }", 1000, NOW);
    assert_eq!(world.admission.penalised_sources, PerFamily { ipv4: 600, ipv6: 600 });
    let hosts = || (1..=200).map(|last| format!("192.0.2.{last}"));
    for host in hosts() {
        world.admission.charge(world.id, &peer(&host), Cause::Crash, NOW);
    }
    world.reload("penalties: { crash: 10s }", 1000, NOW);
    assert_eq!(world.admission.list_penalised(NOW).count(), 200);
    assert!(hosts().all(|host| world.decide(&host, NOW) == no(Reason::Penalty, Some(Duration::from_secs(75)))));
}

#[test]
fn bans_are_listed_before_penalties_and_the_longest_first() {
    let mut world = World::new("penalties: { crash: 90s }");
    let changes = world.admission.blocked_changes();
    world.admission.charge(world.id, &peer("198.51.100.1"), Cause::Crash, NOW);
    let charged = world.admission.blocked_changes();
    assert!(charged > changes);
    for _ in 0..2 {
        world.admission.charge(world.id, &peer("2001:db8::1"), Cause::Crash, NOW);
    }
    for (banned, time) in [("192.0.2.0/26", Some(MINUTE)), ("192.0.2.64/26", None), ("192.0.2.128/26", Some(HOUR))] {
        let before = world.admission.blocked_changes();
        world.admission.ban(network(banned), time.map(|time| NOW.monotonic + time), NOW).unwrap();
        assert!(world.admission.blocked_changes() > before);
    }
    let all = world.admission.list_blocked(NOW, 100);
    let seen: Vec<_> = all.iter().map(|one| (one.network.to_string(), one.until, one.banned)).collect();
    let until = |seconds| Some(NOW.monotonic + Duration::from_secs(seconds));
    let expected = [
        ("192.0.2.64/26", None, true),
        ("192.0.2.128/26", until(3_600), true),
        ("192.0.2.0/26", until(60), true),
        ("2001:db8::/64", until(165), false),
        ("198.51.100.1/32", until(75), false),
    ];
    assert_eq!(seen, expected.map(|(network, until, banned)| (network.to_owned(), until, banned)));
    assert_eq!(world.admission.list_blocked(NOW, 4), all[..4]);
}

#[test]
fn a_service_does_not_block_networks_that_it_exempts() {
    let ban = |text: &str, banned| Blocked { network: network(text), until: None, banned };
    let asked = |world: &World, text: &str| world.admission.blocks_network(world.id, &ban(text, false));
    let mut world = World::new("penalties: { crash: 90s }");
    assert!(!world.admission.has_exemptions(world.id) && asked(&world, "192.0.2.0/24"));
    world.reload("penalties: { crash: 90s, exempt: [192.0.2.64/26, '::ffff:198.51.100.0/120'] }", 1000, NOW);
    assert!(world.admission.has_exemptions(world.id));
    for (text, enforced) in [
        ("192.0.2.0/24", false),
        ("192.0.2.64/26", false),
        ("192.0.2.65/32", false),
        ("192.0.2.128/26", true),
        ("198.51.100.7/32", false),
        ("2001:db8::/64", true),
    ] {
        assert_eq!(asked(&world, text), enforced, "{text}");
    }
    assert!(world.admission.blocks_network(world.id, &ban("192.0.2.64/26", true)), "of a ban there are no exceptions");
    world.reload("penalties: { crash: 90s }, dry_run: true", 1000, NOW);
    assert!(world.admission.has_exemptions(world.id) && !asked(&world, "2001:db8::/64"));
    assert!(world.admission.blocks_network(world.id, &ban("2001:db8::/64", true)));
}
