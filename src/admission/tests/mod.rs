//! The checks in all combinations of results, and what they leave as it was.

mod explanations;
mod orders;

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;

use super::load_average::LoadAverage;
use super::rules::Limit;
use super::state::NO_SOURCES;
use super::*;
use crate::compat::{Options, load_with};
use crate::config::Table;
use crate::fake_machine::FakeMachine;
use crate::limits::rate::{Bucket, Rate, RetryAfter};
use crate::net::Source;

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
    load_with(&[file], &Options { machine: &FakeMachine::with_everything(), ..Options::default() }).table.unwrap()
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
        self.admission.client(self.id, peer(address))
    }

    fn decide(&mut self, address: &str, now: Now) -> Decision {
        let client = self.client(address);
        self.admission.decide(&self.ledger, self.id, &client, now)
    }

    /// Admits a client whose handler lives on, unless admission refuses it.
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

    /// How many clients are admitted before the first is refused, and why it is.
    fn admitted(&mut self, address: &str, now: Now) -> (u32, Reason) {
        (0..).find_map(|count| Some((count, self.arrive(address, now).err()?))).unwrap()
    }

    /// The used part of the rates of the service, of a source and of its network.
    fn used(&self, client: &Client, now: Now) -> (Bucket, [Result<(), RetryAfter>; 2]) {
        let rules = &self.admission.services[&self.id];
        let probe = Rate::new(1, HOUR, 1).unwrap();
        let of = |limit: &Limit, key| self.admission.rates.check(limit.number, key, &probe, now.nanos());
        let network = of(rules.network.as_ref().unwrap(), client.network.unwrap());
        (rules.bucket, [of(&rules.source, client.source), network])
    }
}

/// Keys of a service and the `instances` of the daemon with which just these questions are answered with no, for a
/// client that has one handler and has come once.
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

fn world_saying_no(to: impl Fn(Reason) -> bool, load: &LoadAverage) -> World {
    let (keys, daemon_instances) = saying_no(to);
    let mut world = World::new(&keys);
    world.reload(&keys, daemon_instances, NOW);
    world.admission.load_average = load.clone();
    let client = world.client(ADDRESS);
    world.admission.commit(world.id, &client, NOW);
    let _live = world.ledger.take(client.place(world.id));
    world
}

fn load_of_five() -> (tempfile::TempDir, LoadAverage) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loadavg");
    fs::write(&file, "5.00 1.00 1.00 1/80 1\n").unwrap();
    (folder, LoadAverage::in_file(file))
}

/// Whether the bit of this question is set.
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
            assert!(self.admission.charge(id, &peer(ADDRESS), Cause::Crash, NOW).is_some());
        }
        self.admission.services.get_mut(&id).unwrap().is_bare_trap = no(Reason::Trap);
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

/// The decision is the first of all questions that is to be answered with no, the explanation names all of them,
/// and neither has used up anything.
fn first_no_decides(world: &mut World, no: &dyn Fn(Reason) -> bool) {
    let client = world.client(ADDRESS);
    let before = world.used(&client, NOW);
    let said = match world.decide(ADDRESS, NOW) {
        Decision::Admit => None,
        Decision::Refuse(refusal) => Some(refusal.reason),
        Decision::WouldRefuse(refusal) => panic!("{refusal:?}"),
    };
    let expected: Vec<_> = CHECKS.iter().map(|check| check.reason).filter(|reason| no(*reason)).collect();
    assert_eq!(said, expected.first().copied(), "{expected:?}");
    let service = &world.table.services[0];
    let findings = world.admission.explain(&world.ledger, world.id, service, client.peer, NOW);
    let explained = findings.iter().filter(|check| !check.yes).map(|check| check.question.as_str());
    assert_eq!(explained.collect::<Vec<_>>(), expected.iter().map(|reason| reason.word()).collect::<Vec<_>>());
    assert_eq!(world.used(&client, NOW), before, "{expected:?}");
    assert_eq!((world.ledger.total(), world.ledger.audit()), (1, vec![]));
}

#[test]
fn an_admitted_client_has_used_up_a_share_of_every_rate() {
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
fn only_shared_checks_are_made_before_accept() {
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
fn a_dry_run_reports_and_admits_except_at_the_limit_of_the_daemon() {
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
fn a_refusal_tells_the_time_until_the_check_passes() {
    let mut world = World::new("rate: 1/h, burst: 1, per_source: { rate: 2/h, burst: 1 }, instances: unlimited");
    assert_eq!(world.arrive("192.0.2.1", NOW), Ok(()));
    assert_eq!(world.decide("192.0.2.1", NOW), no(Reason::SourceRate, Some(HOUR / 2)));
    assert_eq!(world.decide("192.0.2.2", NOW), no(Reason::ServiceRate, Some(HOUR)));
    let early = later(HOUR - Duration::from_nanos(1));
    assert_eq!(world.decide("192.0.2.1", early), no(Reason::ServiceRate, Some(Duration::from_nanos(1))));
    assert_eq!(world.decide("192.0.2.1", later(HOUR)), Decision::Admit);
}

#[test]
fn a_service_that_is_closed_says_when_it_opens() {
    let local = crate::sys::clock::local_time(NOW.wall.as_secs().try_into().unwrap());
    let next = (local.hour + 1) % 24;
    let mut world = World::new(&format!("times: ['{next:02}:00-{next:02}:01']"));
    let seconds = 3_600 - u64::from(local.minute) * 60 - u64::from(local.second);
    for passed in [0, 1, 59, 60, seconds - 61, seconds - 1] {
        let (now, retry) = (later(Duration::from_secs(passed)), Some(Duration::from_secs(seconds - passed)));
        assert_eq!(world.decide("192.0.2.1", now), no(Reason::Times, retry));
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
fn the_rates_of_a_removed_service_are_forgotten() {
    let mut world = World::new("per_source: { rate: 1/h }");
    assert_eq!(world.admitted("192.0.2.1", NOW), (1, Reason::SourceRate));
    let table = table_of("per_source: { rate: 1/h }");
    let prepared = world.admission.prepare(table.daemon.sources, &table.services).unwrap();
    let none: [(ServiceId, &Rc<Service>); 0] = [];
    world.admission.serve(none, 1000, prepared, NOW);
    assert_eq!(world.decide("192.0.2.1", NOW), no(Reason::Access, None), "no rules, no service");
    assert_eq!(world.client("192.0.2.1").peer, peer("192.0.2.1"));
    world.reload("per_source: { rate: 1/h }", 1000, NOW);
    assert_eq!(world.admitted("192.0.2.1", NOW), (1, Reason::SourceRate));
}

#[test]
fn memory_for_rates_is_taken_only_where_a_source_has_one() {
    let mut world = World::new("rate: 1/h");
    assert_eq!(world.admission.rate_table().1, NO_SOURCES);
    world.reload("per_network: { rate: 1/h }", 1000, NOW);
    assert_eq!(world.admission.rate_table().1, PerFamily { ipv4: 600, ipv6: 600 });
}

#[test]
fn a_load_average_that_cannot_be_read_limits_nobody_and_is_told_once() {
    let mut world = World::new("max_load: 0.01");
    world.admission.load_average = LoadAverage::in_file("/no/such/file".into());
    assert_eq!(world.decide("192.0.2.1", NOW), Decision::Admit);
    assert!(world.admission.take_complaint().is_some_and(|text| text.contains("max_load has no effect")));
    assert_eq!(world.decide("192.0.2.1", later(HOUR)), Decision::Admit);
    assert_eq!(world.admission.take_complaint(), None);
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
fn the_peak_counts_refused_clients_and_is_saved_by_an_upgrade() {
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
