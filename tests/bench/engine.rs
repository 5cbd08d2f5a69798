//! `cargo bench`: what one decision costs. Medians and bars are in docs/benchmarks.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark stops at what it does not expect"
)]

use divan::{AllocProfiler, Bencher, black_box};
use quorate::engine::detector::Detector;
use quorate::engine::fleet::Fleet;
use quorate::engine::{Engine, Input, PersonOrder};
use quorate::model::observation::NodeReport;
use quorate::model::plan::Proposal;
use quorate::model::topology::Detection;
use quorate::model::{ClusterId, Timestamp, WallTime};

#[path = "fixture.rs"]
mod fixture;
use fixture::{files, report, steady};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn phi() -> Detection {
    Detection::default()
}

fn beating() -> (Detector, Timestamp) {
    let mut detector = Detector::new(phi());
    let mut now = Timestamp(0);
    for i in 0..250u64 {
        now = Timestamp(i * 100_000_000 + i % 7 * 1_000_000);
        detector.heartbeat(now);
    }
    (detector, now)
}

#[divan::bench]
fn phi_record_a_heartbeat(bencher: Bencher) {
    let (mut detector, mut now) = beating();
    bencher.bench_local(|| {
        now = Timestamp(now.0 + 100_000_000);
        detector.heartbeat(black_box(now));
    });
}

#[divan::bench]
fn phi_compute(bencher: Bencher) {
    let (detector, now) = beating();
    let mut ahead = 0;
    bencher.bench_local(|| {
        ahead = (ahead + 1_000_000) % 900_000_000;
        black_box(detector.phi_milli(Timestamp(now.0 + 100_000_000 + ahead)))
    });
}

#[divan::bench(args = [5, 100])]
fn engine_one_heartbeat(bencher: Bencher, nodes: usize) {
    let (mut engine, mut now, next) = steady("bench", nodes);
    let mut sequence = 1 << 32;
    let mut node = 0;
    let step = 100_000_000 / nodes as u64;
    bencher
        .with_inputs(|| {
            node = (node + 1) % nodes;
            sequence += 1;
            Input::Report(Box::new(NodeReport { sequence, ..next[node].clone() }))
        })
        .bench_local_values(|input| {
            now = Timestamp(now.0 + step);
            drop(black_box(engine.handle(now, WallTime(0), input)));
        });
}

#[divan::bench(args = [5, 100])]
fn engine_one_judgement(bencher: Bencher, nodes: usize) {
    let (mut engine, mut now, _) = steady("bench", nodes);
    bencher.bench_local(|| {
        now = Timestamp(now.0 + 1);
        drop(black_box(engine.handle(now, WallTime(0), Input::Wakeup)));
    });
}

#[divan::bench(args = [5, 1_000], sample_count = 20)]
fn plan(bencher: Bencher, nodes: usize) {
    let (engine, now, _) = steady("bench", nodes);
    let order = PersonOrder::Propose(Proposal { reason: "bench".into(), ..Proposal::default() });
    bencher.with_inputs(|| (engine.clone(), order.clone())).bench_local_values(
        |(mut engine, order)| {
            let decision = engine.handle(
                Timestamp(now.0 + 1),
                WallTime(0),
                Input::Person { who: "alice".into(), order },
            );
            assert!(engine.snapshot().pending.is_some(), "{}", engine.refusal());
            drop(black_box(decision));
            engine
        },
    );
}

#[divan::bench]
fn verify(bencher: Bencher) {
    let (engine, ..) = steady("bench", 5);
    bencher.bench_local(|| black_box(engine.verify()));
}

/// One second of a fleet: 1,000 clusters of 5 nodes, a heartbeat a second each, and the wake-ups
/// between.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn fleet_of_1000_clusters_one_second(bencher: Bencher) {
    let mut fleet = Fleet::default();
    let mut now = Timestamp(1_000_000_000);
    let ids: Vec<ClusterId> = (0..1_000).map(|i| ClusterId::new(format!("c{i}"))).collect();
    for id in &ids {
        let (cluster, policy) = files(id.as_str(), 5);
        fleet.insert(Engine::new(cluster, policy, now, WallTime(0)));
    }
    let template: Vec<NodeReport> = (1..=5).map(|n| report(n, 5, 0)).collect();
    let mut sequence = 0;
    let mut second = |fleet: &mut Fleet| {
        for (i, id) in ids.iter().enumerate() {
            for node in &template {
                now = Timestamp(now.0 + 200_000);
                while let Some((at, cluster)) = fleet.next_wakeup().filter(|(at, _)| *at <= now) {
                    let cluster = cluster.clone();
                    let _ = at;
                    drop(fleet.handle(now, WallTime(0), &cluster, Input::Wakeup));
                    now = Timestamp(now.0 + 1);
                }
                sequence += 1;
                drop(fleet.handle(
                    now,
                    WallTime(0),
                    id,
                    Input::Report(Box::new(NodeReport { sequence, ..node.clone() })),
                ));
            }
            if i % 100 == 0 {
                now = Timestamp(now.0 + 1);
                drop(fleet.guard(now, WallTime(0)));
            }
        }
    };
    // Until every detector's window is full.
    let before = resident_mib();
    for _ in 0..210 {
        second(&mut fleet);
    }
    println!(
        "fleet: {} MiB more than before its first heartbeat, {} MiB in all",
        resident_mib() - before,
        resident_mib()
    );
    bencher.bench_local(|| second(&mut fleet));
}

/// This process's resident memory (proc(5), `VmRSS`), in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}
