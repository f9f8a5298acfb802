//! What the questions of admission cost, few against many: 10 and 4,000 networks, 1,000 and 1,000,000 sources. The cost
//! with many should stay within twice that with few. `cargo bench --bench admission`

#![allow(missing_docs, reason = "the macros of criterion write functions without")]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ipnet::IpNet;
use oxinetd::admission::Admission;
use oxinetd::compat;
use oxinetd::limits::access::Access;
use oxinetd::limits::ledger::Ledger;
use oxinetd::limits::rate::{Change, PerFamily, Rate, Sources};
use oxinetd::net::{Peer, Source};
use oxinetd::types::Now;
use oxinetd::types::ServiceId;

const NETWORKS: [u32; 2] = [10, 4_000];
const SOURCES: [u32; 2] = [1_000, 1_000_000];

/// A generator of numbers (xorshift64*), so that neither caches nor branches learn the order.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(end)) >> 32) as u32
    }
}

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn v6(bits: u32) -> IpAddr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits) << 64).into()
}

fn networks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access");
    for count in NETWORKS {
        for (family, address, length) in [("ipv4", v4 as fn(u32) -> IpAddr, 24), ("ipv6", v6, 56)] {
            let random = &mut Random(7);
            let mut list = |count| -> Vec<IpNet> {
                (0..count).filter_map(|_| IpNet::new(address(random.next()), length).ok()).collect()
            };
            let access = Access::new(&list(count / 2), &list(count / 2), &[]);
            group.bench_function(BenchmarkId::new(family, count), |bencher| {
                bencher.iter(|| access.judge_peer(black_box(&Peer::Inet(address(random.next()), 1))));
            });
        }
    }
    group.finish();
}

fn source(number: u32) -> Source {
    Source::V4(Ipv4Addr::from_bits(number), 32)
}

fn one_an_hour() -> Rate {
    Rate::new(1, Duration::from_secs(3_600), 10).expect("a rate")
}

/// A table with as many debtors as it has entries.
fn full(count: u32) -> Sources {
    let mut table = Sources::new(PerFamily { ipv4: count, ipv6: 0 }).expect("memory");
    (0..count).for_each(|n| table.commit(1, source(n), &one_an_hour(), 0));
    table
}

fn ask_and_commit(table: &mut Sources, number: u32, now: u64) -> bool {
    let (source, rate) = (source(number), one_an_hour());
    let admitted = table.check(1, source, &rate, now).is_ok();
    table.commit(1, source, &rate, now);
    admitted
}

fn sources(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rate");
    for count in SOURCES {
        let random = &mut Random(7);
        let mut table = full(count);
        group.bench_function(BenchmarkId::new("hit", count), |bencher| {
            bencher.iter(|| ask_and_commit(&mut table, black_box(random.below(count)), 0));
        });
        group.bench_function(BenchmarkId::new("refuse", count), |bencher| {
            bencher.iter(|| table.check(1, source(black_box(random.below(count))), &one_an_hour(), 0));
        });
        // All of them have paid when the newcomers come, and each newcomer has before the table is full again.
        let mut now = 1 << 50;
        group.bench_function(BenchmarkId::new("insert", count), |bencher| {
            bencher.iter(|| {
                now += 7_200_000_000_000 / u64::from(count);
                ask_and_commit(&mut table, black_box(random.next()), now)
            });
        });
        let mut table = full(count);
        group.bench_function(BenchmarkId::new("evict", count), |bencher| {
            bencher.iter(|| ask_and_commit(&mut table, black_box(random.next()), 0));
        });
    }
    group.finish();
}

/// Admission with a service that has all limits and denies so many networks; so many sources have come once.
fn admission(networks: u32, sources: u32) -> (Ledger, ServiceId, Admission) {
    let random = &mut Random(7);
    let deny: String = (0..networks).map(|_| format!("{}/24, ", v4(random.next() & 0xffff_ff00))).collect();
    // Enough for everybody in all rounds, so that each of the questions is asked and answered with yes.
    let limit = "{ instances: 5, rate: 1000000/day, burst: 1000000 }";
    let keys =
        format!("deny: [{deny}], rate: 1000000000/s, per_source: {limit}, per_network: {{ rate: 1000000000/s }}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("table.yaml");
    let text = format!(
        "daemon: {{ sources: {{ ipv4: {} }} }}\nservices: {{ s: {{ listen: 80, program: /bin/cat, {keys} }} }}",
        sources + sources / 8
    );
    fs::write(&file, text).expect("a file");
    let table = compat::load(&[file]).expect("a table").table;
    let mut ledger = Ledger::default();
    let id = ledger.list(["s"])[0];
    let mut admission = Admission::new().expect("memory");
    let prepared = admission.prepare(table.daemon.sources, &table.services).expect("memory");
    admission.serve([(id, &table.services[0])], 1_000, prepared, Now::default());
    for number in 0..sources {
        let client = admission.client(id, Peer::Inet(v4(number), 1));
        admission.commit(id, &client, Now::default());
    }
    (ledger, id, admission)
}

/// All the questions about a client, and the answer taken down.
fn decision(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision");
    for (sources, networks) in SOURCES.into_iter().zip(NETWORKS) {
        let random = &mut Random(7);
        let (ledger, id, mut admission) = admission(networks, sources);
        let mut decide = |number: u32| {
            let client = admission.client(id, Peer::Inet(v4(number), 1));
            let decision = admission.decide(&ledger, id, &client, Now::default());
            admission.commit(id, &client, Now::default());
            decision
        };
        let id = BenchmarkId::from_parameter(format!("{networks} networks, {sources} sources"));
        group.bench_function(id, |bencher| bencher.iter(|| decide(black_box(random.below(sources)))));
    }
    group.finish();
}

/// What a reload costs that changes a rate, and a start.
fn whole_table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    group.sample_size(10);
    for count in SOURCES {
        let mut table = full(count);
        let changes = BTreeMap::from([(1, Change { old: one_an_hour(), new: Some(one_an_hour()) })]);
        group.bench_function(BenchmarkId::new("adjust", count), |bencher| {
            bencher.iter(|| table.change_rates(black_box(&changes), 0));
        });
        group.bench_function(BenchmarkId::new("new", count), |bencher| {
            bencher.iter_batched(|| (), |()| Sources::new(PerFamily { ipv4: count, ipv6: 0 }), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = networks, sources, decision, whole_table
}
criterion_main!(benches);
