//! The questions in all combinations of answers, and what they leave as it was.

use std::fs;
use std::time::Duration;

use super::rules::Limit;
use super::*;
use crate::compat::{Options, load_with};
use crate::config::Table;
use crate::fuzzed::FakeMachine;
use crate::limits::rate::{Bucket, Rate, RetryAfter};

const HOUR: Duration = Duration::from_secs(3_600);
const NOW: Now = Now { monotonic: Duration::from_secs(1_000_000), wall: Duration::from_secs(1_800_000_000) };

/// The questions whose answer is the table's, in their order.
const BY_TABLE: [Reason; 10] = [
    Reason::Access,
    Reason::Times,
    Reason::SourceInstances,
    Reason::SourceRate,
    Reason::NetworkInstances,
    Reason::NetworkRate,
    Reason::ServiceRate,
    Reason::ServiceInstances,
    Reason::DaemonInstances,
    Reason::Load,
];

/// Those whose answer is not, in their order.
const BY_HAND: [Reason; 4] = [Reason::Drained, Reason::Ban, Reason::Penalty, Reason::Trap];

fn later(time: Duration) -> Now {
    Now { monotonic: NOW.monotonic + time, wall: NOW.wall + time }
}

/// Each world of the tests has memory of its own.
const FEW: &str = "daemon: { sources: { ipv4: 600, ipv6: 600 } }\n";

fn table(yaml: &str) -> Table {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    fs::write(&file, yaml).unwrap();
    load_with(&[file], &Options { machine: &FakeMachine, ..Options::default() }).table.unwrap()
}

/// The table with one service that has these keys.
fn table_of(keys: &str) -> Table {
    table(&format!("{FEW}services: {{ s: {{ listen: 80, program: /bin/cat, {keys} }} }}"))
}

/// The books and the rules of one service.
struct World {
    ledger: Ledger,
    admission: Admission,
    id: ServiceId,
    table: Table,
}

impl World {
    fn new(keys: &str) -> Self {
        let mut ledger = Ledger::default();
        let id = ledger.list(["s"])[0];
        let mut world = Self { ledger, admission: Admission::new().unwrap(), id, table: table_of(keys) };
        world.reload(keys, 1000, NOW);
        world
    }

    fn reload(&mut self, keys: &str, daemon_instances: u32, now: Now) {
        let table = table_of(keys);
        let prepared = self.admission.prepare(table.daemon.sources, &table.services).unwrap();
        self.admission.serve([(self.id, &table.services[0])], daemon_instances, prepared, now);
        self.table = table;
    }

    fn client(&self, address: &str) -> Client {
        self.admission.client(self.id, Peer::Inet(address.parse().unwrap(), 1))
    }

    fn decide(&mut self, address: &str, now: Now) -> Decision {
        let client = self.client(address);
        self.admission.decide(&self.ledger, self.id, &client, now)
    }

    /// Lets a client in whose handler lives on, if admission has nothing against it.
    fn arrive(&mut self, address: &str, now: Now) -> Result<(), Reason> {
        match self.decide(address, now) {
            Decision::Admit => {
                let client = self.client(address);
                self.admission.commit(self.id, &client, now);
                let _live = self.ledger.take(client.place(self.id));
                Ok(())
            }
            Decision::Refuse(refusal) | Decision::WouldRefuse(refusal) => Err(refusal.reason),
        }
    }

    /// How many are let in before the first is not, and why he isn't.
    fn admitted(&mut self, address: &str, now: Now) -> (u32, Reason) {
        let mut count = 0;
        loop {
            match self.arrive(address, now) {
                Ok(()) => count += 1,
                Err(reason) => return (count, reason),
            }
        }
    }

    /// What has been used up of the rates of the service, of a source and of its network.
    fn used(&self, client: &Client, now: Now) -> (Bucket, [Result<(), RetryAfter>; 2]) {
        let rules = &self.admission.services[&self.id];
        let probe = Rate::new(1, HOUR, 1).unwrap();
        let of = |limit: &Limit, key| self.admission.rates.check(limit.number, key, &probe, now.nanos());
        let network = of(rules.network.as_ref().unwrap(), client.network.unwrap());
        (rules.bucket(), [of(&rules.source, client.source), network])
    }
}

/// Keys of a service and the `instances` of the daemon with which just these questions are answered with no, for a
/// client who has one handler and has come once.
fn saying_no(to: impl Fn(Reason) -> bool) -> (String, u32) {
    let one_or_two = |reason| if to(reason) { 1 } else { 2 };
    let keys = format!(
        "deny: [{}], times: {}, rate: 1/h, burst: {}, instances: {}, max_load: {},
        per_source: {{ instances: {}, rate: 1/h, burst: {} }}, per_network: {{ instances: {}, rate: 1/h, burst: {} }},
        penalties: {{ crash: 90s }}",
        if to(Reason::Access) { "192.0.2.0/24" } else { "192.0.2.0/25" },
        // The moment of the tests is on a Friday, whatever the time zone.
        if to(Reason::Times) { "[Mon 00:00-24:00]" } else { "[Thu-Sat 00:00-24:00]" },
        one_or_two(Reason::ServiceRate),
        one_or_two(Reason::ServiceInstances),
        if to(Reason::Load) { "5.0" } else { "5.01" },
        one_or_two(Reason::SourceInstances),
        one_or_two(Reason::SourceRate),
        one_or_two(Reason::NetworkInstances),
        one_or_two(Reason::NetworkRate),
    );
    (keys, one_or_two(Reason::DaemonInstances))
}

const ADDRESS: &str = "192.0.2.200";

fn world_saying_no(to: impl Fn(Reason) -> bool, load: &Load) -> World {
    let (keys, daemon_instances) = saying_no(to);
    let mut world = World::new(&keys);
    world.reload(&keys, daemon_instances, NOW);
    world.admission.load = load.clone();
    let client = world.client(ADDRESS);
    world.admission.commit(world.id, &client, NOW);
    let _live = world.ledger.take(client.place(world.id));
    world
}

fn load_of_five() -> (tempfile::TempDir, Load) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loadavg");
    fs::write(&file, "5.00 1.00 1.00 1/80 1\n").unwrap();
    (folder, Load::in_file(file))
}

/// Is this question's bit set?
fn bit(questions: &[Reason], combination: u32, reason: Reason) -> bool {
    questions.iter().position(|one| *one == reason).is_some_and(|bit| combination >> bit & 1 == 1)
}

impl World {
    /// Makes just those of [`BY_HAND`] be answered with no whose bit is set.
    fn say_no_by_hand(&mut self, combination: u32) {
        let no = |reason| bit(&BY_HAND, combination, reason);
        let (id, network) = (self.id, "192.0.2.0/24".parse().unwrap());
        self.admission.resume(id);
        self.admission.unban(network, NOW);
        if no(Reason::Drained) {
            assert!(self.admission.drain(id));
        }
        if no(Reason::Ban) {
            self.admission.ban(network, None, NOW).unwrap();
        }
        if no(Reason::Penalty) {
            let peer = Peer::Inet(ADDRESS.parse().unwrap(), 9);
            assert!(self.admission.charge(id, &peer, Cause::Crash, NOW).is_some());
        }
        self.admission.services.get_mut(&id).unwrap().catches_only = no(Reason::Trap);
    }
}

#[test]
fn the_first_no_decides_and_uses_up_nothing_in_all_combinations() {
    let (_folder, load) = load_of_five();
    for combination in 0..1_u32 << BY_TABLE.len() {
        let mut world = world_saying_no(|reason| bit(&BY_TABLE, combination, reason), &load);
        for by_hand in 0..1_u32 << BY_HAND.len() {
            world.say_no_by_hand(by_hand);
            let no = |reason| bit(&BY_TABLE, combination, reason) || bit(&BY_HAND, by_hand, reason);
            first_no_decides(&mut world, &no);
        }
    }
}

/// The decision is the first of all questions that is to be answered with no, the explanation names all of them, and
/// neither has used up anything.
fn first_no_decides(world: &mut World, no: &dyn Fn(Reason) -> bool) {
    let client = world.client(ADDRESS);
    let before = world.used(&client, NOW);
    let said = match world.decide(ADDRESS, NOW) {
        Decision::Admit => None,
        Decision::Refuse(refusal) => Some(refusal.reason),
        Decision::WouldRefuse(refusal) => panic!("{refusal:?}"),
    };
    let expected: Vec<_> = QUESTIONS.into_iter().filter(|reason| no(*reason)).collect();
    assert_eq!(said, expected.first().copied(), "{expected:?}");
    let service = &world.table.services[0];
    let findings = world.admission.explain(&world.ledger, world.id, service, client.peer, NOW);
    let explained = findings.iter().filter_map(|finding| finding.answer.err().map(|refusal| refusal.reason));
    assert_eq!(explained.collect::<Vec<_>>(), expected);
    assert_eq!(world.used(&client, NOW), before, "{expected:?}");
    assert_eq!((world.ledger.total(), world.ledger.audit()), (1, vec![]));
}

#[test]
fn who_is_let_in_has_used_up_a_share_of_every_rate() {
    let (_folder, load) = load_of_five();
    let mut world = world_saying_no(|_| false, &load);
    let client = world.client(ADDRESS);
    let (bucket, _) = world.used(&client, NOW);
    assert_eq!(world.arrive(ADDRESS, NOW), Ok(()));
    let (after, sources) = world.used(&client, NOW);
    assert_ne!(after, bucket);
    assert_eq!(sources, [Err(RetryAfter(2 * HOUR)), Err(RetryAfter(2 * HOUR))]);
}

#[test]
fn before_a_client_is_accepted_only_what_is_shared_is_asked() {
    let (_folder, load) = load_of_five();
    for (number, question) in BY_TABLE.into_iter().enumerate() {
        let mut world = world_saying_no(|reason| reason == question, &load);
        let room = world.admission.room(&world.ledger, world.id, NOW).map_err(|refusal| refusal.reason);
        assert_eq!(room, if number < 6 { Ok(()) } else { Err(question) });
    }
    let mut world = world_saying_no(|_| false, &load);
    world.say_no_by_hand(u32::MAX);
    assert_eq!(world.admission.room(&world.ledger, world.id, NOW), Ok(()), "they are told so, not left to wait");
}

#[test]
fn a_dry_run_says_no_and_lets_in_but_for_the_daemon_as_a_whole() {
    let (_folder, load) = load_of_five();
    for question in BY_TABLE {
        let (keys, daemon_instances) = saying_no(|reason| reason == question);
        let mut world = world_saying_no(|reason| reason == question, &load);
        world.reload(&format!("{keys}, dry_run: true"), daemon_instances, NOW);
        let decision = world.decide(ADDRESS, NOW);
        let room = world.admission.room(&world.ledger, world.id, NOW);
        if question == Reason::DaemonInstances {
            assert_eq!((decision, room), (Decision::Refuse(question.into()), Err(question.into())));
        } else {
            assert!(matches!(decision, Decision::WouldRefuse(no) if no.reason == question), "{decision:?}");
            assert_eq!(room, Ok(()));
        }
    }
}

#[test]
fn who_is_told_no_is_told_when_it_will_be_yes() {
    let mut world = World::new("rate: 1/h, burst: 1, per_source: { rate: 2/h, burst: 1 }, instances: unlimited");
    assert_eq!(world.arrive("192.0.2.1", NOW), Ok(()));
    let no = |reason, retry| Decision::Refuse(Refusal { reason, retry: Some(retry) });
    assert_eq!(world.decide("192.0.2.1", NOW), no(Reason::SourceRate, HOUR / 2));
    assert_eq!(world.decide("192.0.2.2", NOW), no(Reason::ServiceRate, HOUR));
    let early = later(HOUR - Duration::from_nanos(1));
    assert_eq!(world.decide("192.0.2.1", early), no(Reason::ServiceRate, Duration::from_nanos(1)));
    assert_eq!(world.decide("192.0.2.1", later(HOUR)), Decision::Admit);
}

#[test]
fn a_service_that_is_closed_says_when_it_opens() {
    let local = crate::sys::clock::local(NOW.wall.as_secs().try_into().unwrap());
    let next = (local.hour + 1) % 24;
    let mut world = World::new(&format!("times: ['{next:02}:00-{next:02}:01']"));
    let seconds = 3_600 - u64::from(local.minute) * 60 - u64::from(local.second);
    for passed in [0, 1, 59, 60, seconds - 61, seconds - 1] {
        let (now, retry) = (later(Duration::from_secs(passed)), Some(Duration::from_secs(seconds - passed)));
        assert_eq!(world.decide("192.0.2.1", now), Decision::Refuse(Refusal { reason: Reason::Times, retry }));
    }
    assert_eq!(world.decide("192.0.2.1", later(Duration::from_secs(seconds))), Decision::Admit);
}

#[test]
fn the_exempt_are_not_limited_and_take_no_place_of_others() {
    let limits = "instances: 2, rate: 2/h, burst: 2, prefix: { ipv4: 24 }, exempt: [192.0.2.7]";
    let mut world = World::new(&format!("per_source: {{ {limits} }}"));
    for _ in 0..5 {
        assert_eq!(world.arrive("192.0.2.7", NOW), Ok(()));
    }
    assert_eq!(world.admitted("192.0.2.8", NOW), (2, Reason::SourceInstances));
    let mut seen: Vec<_> = world.ledger.sources().map(|(_, source, count)| (source.to_string(), count)).collect();
    seen.sort();
    assert_eq!(seen, [("192.0.2.0/24".to_owned(), 2), ("192.0.2.7".to_owned(), 5)], "all of them can be seen");
}

#[test]
fn networks_have_their_own_exempt() {
    let mut world =
        World::new("per_source: { exempt: ['::/0'] }, per_network: { instances: 1, exempt: ['2001:db8::/32'] }");
    assert_eq!(world.arrive("2001:db8::1", NOW), Ok(()));
    assert_eq!(world.arrive("2001:db8::1", NOW), Ok(()));
    assert_eq!(world.admitted("2001:db9::1", NOW), (1, Reason::NetworkInstances));
    assert_eq!(world.ledger.networks().count(), 1);
}

#[test]
fn a_walk_through_a_64_is_one_source_and_one_through_a_48_one_network() {
    let mut world = World::new("instances: unlimited, per_source: { rate: 3/h }, per_network: { rate: 10/h }");
    let in_one_64 = (1..100).filter(|host| world.arrive(&format!("2001:db8:1::{host:x}"), NOW).is_ok()).count();
    assert_eq!(in_one_64, 3);
    let in_one_48 = (1..100).filter(|net| world.arrive(&format!("2001:db8:1:{net:x}::1"), NOW).is_ok()).count();
    assert_eq!(in_one_48, 7, "ten, less the three before");
    assert_eq!(world.arrive("2001:db8:2::1", NOW), Ok(()));
}

#[test]
fn a_reload_keeps_the_part_of_each_burst_that_is_used() {
    let keys = |burst| {
        let rate = format!("rate: 1/h, burst: {burst}");
        format!("instances: unlimited, {rate}, per_source: {{ {rate} }}, per_network: {{ {rate} }}")
    };
    let mut world = World::new(&keys(10));
    for _ in 0..5 {
        assert_eq!(world.arrive("192.0.2.1", NOW), Ok(()));
    }
    world.reload(&keys(20), 1000, NOW);
    assert_eq!(world.admitted("192.0.2.1", NOW), (10, Reason::SourceRate));
    world.reload("instances: unlimited, per_source: { rate: 1/h, burst: 4 }", 1000, NOW);
    assert_eq!(world.admitted("192.0.2.1", NOW), (0, Reason::SourceRate));
    world.reload(&keys(1), 1000, NOW);
    assert_eq!(world.admitted("192.0.2.9", NOW), (1, Reason::SourceRate), "limits that come anew are unused");
}

#[test]
fn what_was_owed_to_a_service_that_is_gone_is_forgotten() {
    let mut world = World::new("per_source: { rate: 1/h }");
    assert_eq!(world.admitted("192.0.2.1", NOW), (1, Reason::SourceRate));
    let table = table_of("per_source: { rate: 1/h }");
    let prepared = world.admission.prepare(table.daemon.sources, &table.services).unwrap();
    let none: [(ServiceId, &Service); 0] = [];
    world.admission.serve(none, 1000, prepared, NOW);
    assert_eq!(world.decide("192.0.2.1", NOW), Decision::Refuse(Reason::Access.into()), "no rules, no service");
    world.reload("per_source: { rate: 1/h }", 1000, NOW);
    assert_eq!(world.admitted("192.0.2.1", NOW), (1, Reason::SourceRate));
}

#[test]
fn memory_for_rates_is_taken_only_where_a_source_has_one() {
    let mut world = World::new("rate: 1/h");
    assert_eq!(world.admission.rates().1, NONE);
    world.reload("per_network: { rate: 1/h }", 1000, NOW);
    assert_eq!(world.admission.rates().1, PerFamily { ipv4: 600, ipv6: 600 });
}

#[test]
fn a_load_average_that_cannot_be_read_limits_nobody_and_is_told_once() {
    let mut world = World::new("max_load: 0.01");
    world.admission.load = Load::in_file("/no/such/file".into());
    assert_eq!(world.decide("192.0.2.1", NOW), Decision::Admit);
    assert!(world.admission.complaint().is_some_and(|text| text.contains("max_load has no effect")));
    assert_eq!(world.decide("192.0.2.1", later(HOUR)), Decision::Admit);
    assert_eq!(world.admission.complaint(), None);
}

#[test]
fn local_users_are_sources_and_subject_to_no_network() {
    let mut world = World::new("allow: 192.0.2.0/24, per_source: { instances: 1 }");
    let peer = Peer::Unix { uid: 7, gid: 7 };
    let client = world.admission.client(world.id, peer);
    assert_eq!(client.source, Source::Uid(7));
    assert_eq!(world.admission.decide(&world.ledger, world.id, &client, NOW), Decision::Admit);
    let _live = world.ledger.take(client.place(world.id));
    let no = Decision::Refuse(Reason::SourceInstances.into());
    assert_eq!(world.admission.decide(&world.ledger, world.id, &client, NOW), no);
}

/// The address of a client as a peer.
fn peer(address: &str) -> Peer {
    Peer::Inet(address.parse().unwrap(), 1)
}

fn network(text: &str) -> IpNet {
    text.parse().unwrap()
}

const MINUTE: Duration = Duration::from_secs(60);

fn no(reason: Reason, retry: Option<Duration>) -> Decision {
    Decision::Refuse(Refusal { reason, retry })
}

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
    assert_eq!(world.admission.bans(NOW).len(), 3);
    world.reload("instances: unlimited", 1000, NOW);
    assert_ne!(world.decide("192.0.2.1", later(MINUTE - Duration::from_nanos(1))), Decision::Admit);
    assert_eq!(world.decide("192.0.2.1", later(MINUTE)), Decision::Admit);
    assert_eq!(world.decide("192.0.2.7", later(MINUTE)), no(Reason::Ban, None));
    assert_eq!(world.admission.bans(later(MINUTE)).len(), 2);
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
    assert_eq!(world.admission.bans(NOW)[0].0, network("192.0.2.0/24"));
    assert_eq!(world.decide("192.0.2.1", NOW), no(Reason::Ban, None));
    assert_eq!(world.decide("::ffff:192.0.2.1", NOW), no(Reason::Ban, None));
    assert_eq!(world.decide("192.0.3.1", NOW), Decision::Admit);
    let client = world.admission.client(world.id, Peer::Unix { uid: 0, gid: 0 });
    assert_eq!(world.admission.decide(&world.ledger, world.id, &client, NOW), Decision::Admit);
}

#[test]
fn a_dry_run_lets_in_whom_a_penalty_refuses_and_not_whom_a_ban_does() {
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
        admission.charge(ids[0], &peer(address), Cause::of_refusal(Reason::Trap).unwrap(), NOW);
    }
    for id in [ids[0], ids[1]] {
        assert_eq!(decide(&mut admission, id, "192.0.2.1"), no(Reason::Penalty, Some(HOUR)));
        assert_eq!(decide(&mut admission, id, "2001:db8::ffff"), no(Reason::Penalty, Some(HOUR)), "all of the /64");
    }
    assert_eq!(decide(&mut admission, ids[1], "192.0.2.9"), Decision::Admit);
    assert_eq!(decide(&mut admission, ids[1], "2001:db8:0:1::1"), Decision::Admit);
    assert_eq!(decide(&mut admission, ids[2], "192.0.2.1"), Decision::Admit, "this service pardons them");
    assert_eq!(admission.penalised(NOW).count(), 2);
    assert!(admission.unban(network("2001:db8::7/128"), NOW), "of whose /64 this is a part");
    assert_eq!(admission.penalised(NOW).count(), 1);
}

#[test]
fn penalties_are_kept_when_their_service_goes_and_when_the_memory_changes_its_size() {
    let mut world = World::new("penalties: { crash: 90s }");
    assert_eq!(world.admission.charge(world.id, &peer(ADDRESS), Cause::Crash, NOW), Some(Duration::from_secs(75)));
    assert_eq!(world.admission.charge(world.id, &Peer::Unknown, Cause::Crash, NOW), None, "nobody in particular");
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
fn an_explanation_names_rules_numbers_and_places() {
    let keys = "deny: [192.0.2.0/25,\n  192.0.2.128/25], times: 00:00-24:00, per_source: { instances: 2, rate: 30/min, burst: 10,
        exempt: [198.51.100.0/24] }, max_load: 1000, penalties: { crash: 90s, exempt: [203.0.113.1] }";
    let mut world = World::new(keys);
    let explain = |world: &mut World, address: &str| -> Vec<(Reason, bool, String)> {
        let service = &world.table.services[0];
        let found = world.admission.explain(&world.ledger, world.id, service, peer(address), NOW);
        found.into_iter().map(|one| (one.question, one.answer.is_ok(), one.rule)).collect()
    };
    let rule = |all: &[(Reason, bool, String)], question| {
        let found = all.iter().find(|(one, ..)| *one == question);
        found.map(|(_, yes, rule)| (*yes, rule.clone())).unwrap()
    };
    let denied = explain(&mut world, "192.0.2.200");
    assert_eq!(denied.iter().map(|(question, ..)| *question).collect::<Vec<_>>(), QUESTIONS);
    let (yes, text) = rule(&denied, Reason::Access);
    assert!(!yes && text.starts_with("deny 192.0.2.128/25 (/") && text.ends_with("t.yaml:3:3)"), "{text}");
    world.admission.charge(world.id, &peer("203.0.113.7"), Cause::Crash, NOW);
    world.admission.ban(network("203.0.113.0/24"), Some(NOW.monotonic + MINUTE), NOW).unwrap();
    assert_eq!(world.decide("203.0.113.7", NOW), no(Reason::Ban, Some(MINUTE)));
    let all = explain(&mut world, "203.0.113.7");
    let expected = [
        (Reason::Drained, true, "not drained"),
        (Reason::Access, true, "in no network of deny, and there is no allow"),
        (Reason::Ban, false, "ban of 203.0.113.0/24, for another 1m"),
        (Reason::Penalty, false, "203.0.113.7 is penalised for another 1m15s; time number 1"),
        (Reason::Trap, true, "no trap, or one with a program"),
        (Reason::NetworkRate, true, "no limit"),
        (Reason::ServiceInstances, true, "0 of 64 handlers (default)"),
        (Reason::DaemonInstances, true, "0 of 1000 handlers (daemon.instances)"),
    ];
    for (question, yes, text) in expected {
        assert_eq!(rule(&all, question), (yes, text.to_owned()));
    }
    let (_, text) = rule(&all, Reason::SourceInstances);
    assert!(text.starts_with("203.0.113.7: 0 of 2 handlers (/") && text.contains("t.yaml:3:"), "{text}");
    assert!(rule(&all, Reason::SourceRate).1.starts_with("203.0.113.7: 30/min, burst 10 (/"));
    assert!(rule(&all, Reason::Times).1.starts_with("Sun,Mon,Tue,Wed,Thu,Fri,Sat 00:00-24:00 (/"));
    assert!(rule(&all, Reason::Load).1.starts_with("load average up to 1000, now "));
    let exempt = explain(&mut world, "198.51.100.1");
    assert!(rule(&exempt, Reason::SourceRate).1.starts_with("exempt 198.51.100.0/24 (/"));
    assert!(rule(&explain(&mut world, "203.0.113.1"), Reason::Penalty).1.starts_with("exempt from penalties (/"));
}

#[test]
fn memory_for_penalties_is_taken_when_somebody_can_be_charged() {
    let mut world = World::new("rate: 1/h");
    assert_eq!(world.admission.debtors, NONE);
    world.reload("penalties: { crash: 90s }", 1000, NOW);
    assert_eq!(world.admission.debtors, PerFamily { ipv4: 600, ipv6: 600 });
    let hosts = || (1..=200).map(|last| format!("192.0.2.{last}"));
    for host in hosts() {
        world.admission.charge(world.id, &peer(&host), Cause::Crash, NOW);
    }
    world.reload("penalties: { crash: 10s }", 1000, NOW);
    assert_eq!(world.admission.penalised(NOW).count(), 200);
    assert!(hosts().all(|host| world.decide(&host, NOW) == no(Reason::Penalty, Some(Duration::from_secs(75)))));
}

#[test]
fn who_comes_to_a_service_that_is_gone_is_refused_under_his_name() {
    let mut world = World::new("");
    world.admission.services.clear();
    let client = world.client("192.0.2.1");
    assert_eq!(client.peer, Peer::Inet("192.0.2.1".parse().unwrap(), 1));
    assert_eq!(world.decide("192.0.2.1", NOW), no(Reason::Access, None));
}

#[test]
fn the_peak_counts_everybody_who_comes_and_goes_to_the_next_program() {
    let mut world = World::new("deny: 192.0.2.0/24");
    assert_eq!(world.admission.peak_rate(world.id), None);
    let client = world.client("192.0.2.1");
    (0..3).for_each(|_| world.admission.note_arrival(world.id, &client, NOW));
    let peak = Some(PeakRate { source: client.source, connections: 3 });
    assert_eq!(world.admission.peak_rate(world.id), peak);
    let carried = serde_json::to_string(&world.admission.carry(NOW)).unwrap();
    let mut next = Admission::new().unwrap();
    next.take_over(serde_json::from_str(&carried).unwrap(), NOW).unwrap();
    assert_eq!(next.peak_rate(world.id), peak);
}

#[test]
fn the_barred_are_bans_and_then_debtors_the_longest_first() {
    let mut world = World::new("penalties: { crash: 90s }");
    let changes = world.admission.barred_changes();
    world.admission.charge(world.id, &peer("198.51.100.1"), Cause::Crash, NOW);
    let charged = world.admission.barred_changes();
    assert!(charged > changes);
    for _ in 0..2 {
        world.admission.charge(world.id, &peer("2001:db8::1"), Cause::Crash, NOW);
    }
    for (banned, time) in [("192.0.2.0/26", Some(MINUTE)), ("192.0.2.64/26", None), ("192.0.2.128/26", Some(HOUR))] {
        let before = world.admission.barred_changes();
        world.admission.ban(network(banned), time.map(|time| NOW.monotonic + time), NOW).unwrap();
        assert!(world.admission.barred_changes() > before);
    }
    let all = world.admission.barred(NOW, 100);
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
    assert_eq!(world.admission.barred(NOW, 4), all[..4]);
}

#[test]
fn a_service_that_makes_exceptions_does_not_enforce_what_they_are_of() {
    let ban = |text: &str, banned| Barred { network: network(text), until: None, banned };
    let asked = |world: &World, text: &str| world.admission.enforces(world.id, &ban(text, false));
    let mut world = World::new("penalties: { crash: 90s }");
    assert!(!world.admission.makes_exceptions(world.id) && asked(&world, "192.0.2.0/24"));
    world.reload("penalties: { crash: 90s, exempt: [192.0.2.64/26, '::ffff:198.51.100.0/120'] }", 1000, NOW);
    assert!(world.admission.makes_exceptions(world.id));
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
    assert!(world.admission.enforces(world.id, &ban("192.0.2.64/26", true)), "of a ban there are no exceptions");
    world.reload("penalties: { crash: 90s }, dry_run: true", 1000, NOW);
    assert!(world.admission.makes_exceptions(world.id) && !asked(&world, "2001:db8::/64"));
    assert!(world.admission.enforces(world.id, &ban("2001:db8::/64", true)));
}

#[test]
fn an_explanation_says_what_is_so_when_it_is_not_as_usual() {
    let mut world = World::new("allow: 192.0.2.0/24, penalties: { trap: 1h }, instances: 3");
    let rule = |world: &mut World, peer, question| {
        let found = world.admission.explain(&world.ledger, world.id, &world.table.services[0], peer, NOW);
        found.into_iter().find(|one| one.question == question).unwrap().rule
    };
    assert!(rule(&mut world, peer("198.51.100.1"), Reason::Access).starts_with("in no network of allow (/"));
    assert!(rule(&mut world, peer("192.0.2.1"), Reason::Access).starts_with("allow 192.0.2.0/24 (/"));
    world.reload("", 1000, NOW);
    assert_eq!(rule(&mut world, peer("192.0.2.1"), Reason::Access), "neither allow nor deny");
    let user = Peer::Unix { uid: 7, gid: 7 };
    assert_eq!(rule(&mut world, user, Reason::Access), "no client of networks");
    assert_eq!(rule(&mut world, user, Reason::Drained), "not drained");
    world.admission.drain(world.id);
    assert_eq!(rule(&mut world, user, Reason::Drained), "drained by the administrator");
    assert!(rule(&mut world, user, Reason::Trap).starts_with("no trap"));
    let trap = table(&format!("{FEW}services: {{ s: {{ listen: 80, penalties: {{ trap: 1h }} }} }}"));
    let prepared = world.admission.prepare(trap.daemon.sources, &trap.services).unwrap();
    world.admission.serve([(world.id, &trap.services[0])], 1000, prepared, NOW);
    world.table = trap;
    assert!(rule(&mut world, user, Reason::Trap).starts_with("a trap, which serves nobody (/"));
    world.reload("per_source: { instances: 5 }, per_network: { instances: 9 }", 1000, NOW);
    world.admission.resume(world.id);
    (0..2).for_each(|_| world.arrive("192.0.2.1", NOW).unwrap());
    world.arrive("192.0.2.2", NOW).unwrap();
    assert!(rule(&mut world, peer("192.0.2.1"), Reason::SourceInstances).contains("2 of 5 handlers"));
    assert!(rule(&mut world, peer("192.0.2.1"), Reason::NetworkInstances).contains("3 of 9 handlers"));
}
