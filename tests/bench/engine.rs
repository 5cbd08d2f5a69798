//! `cargo bench`: what one decision costs. Medians and bars are in docs/benchmarks.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark stops at what it does not expect"
)]

use std::path::Path;

use divan::{AllocProfiler, Bencher, black_box};
use quorate::config;
use quorate::engine::detector::Detector;
use quorate::engine::fleet::Fleet;
use quorate::engine::{Engine, Input, PersonOrder};
use quorate::model::observation::{
    CheckTimes, HoldingFacts, NodeReport, PeerProbe, Pids, ResourceFacts, ResourceState,
    StandbyFacts, VoteFacts,
};
use quorate::model::plan::Proposal;
use quorate::model::testimony::EpochSync;
use quorate::model::topology::{Cluster, Detection, Policy};
use quorate::model::{
    ClusterId, Epoch, Lsn, Member, NodeId, Position, Span, SyncSet, Timestamp, WallTime,
};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn files(id: &str, nodes: usize) -> (Cluster, Policy) {
    let mut text = format!("cluster_id: {id}\nname: Bench\nregions: [r]\nnodes:\n");
    for i in 1..=nodes {
        let role = if i == 1 { "primary" } else { "secondary" };
        text.push_str(&format!("  - {{node_id: n{i}, hostname: h, role: {role}, region: r}}\n"));
    }
    let cluster = config::cluster::parse(Path::new("bench"), &text).unwrap();
    let policy = config::policy::parse(
        Path::new("bench"),
        "policy_id: p\nname: P\nstrategy: automatic\n",
        &cluster,
    )
    .unwrap();
    (cluster, policy)
}

fn report(node: usize, nodes: usize, sequence: u64) -> NodeReport {
    let name = |i: usize| NodeId::new(format!("n{i}"));
    let member = |i: usize| Member::new(name(i), "a");
    let primary = node == 1;
    let standby = |i: usize| StandbyFacts {
        node: name(i),
        state: "streaming".into(),
        sync_state: "quorum".into(),
        sent: Lsn(100),
        flushed: Lsn(100),
        replayed: Lsn(100),
        lag_bytes: 0,
        lag: None,
    };
    let probe = |i: usize| PeerProbe {
        node: name(i),
        answered: Some(Span::millis(50)),
        round_trip: Some(Span::millis(1)),
        resource_runs: Some(true),
        closed: false,
    };
    NodeReport {
        member: member(node),
        process: 1,
        sequence,
        sent: WallTime(0),
        pids: Pids::default(),
        vote: VoteFacts {
            epoch: Epoch(2),
            holder: Some(member(1)),
            won: true,
            voters_version: 1,
            voters: nodes,
            votes: true,
            members: (1..=nodes).map(member).collect(),
            history: vec![EpochSync {
                epoch: Epoch(2),
                holder: member(1),
                sync: SyncSet { members: (2..=nodes).map(member).collect(), k: 1 }.into(),
                won: true,
                promoted: true,
                doubt: quorate::model::loss::Doubt::default(),
            }],
            ..VoteFacts::default()
        },
        holding: primary.then(|| HoldingFacts {
            epoch: Epoch(2),
            left: Span::secs(2),
            promised_by: (1..=nodes).map(name).collect(),
            sync: SyncSet::default(),
            doubt: quorate::model::loss::Doubt::default(),
        }),
        resource: ResourceFacts {
            kind: "postgres".into(),
            version: "15.4".into(),
            state: if primary { ResourceState::Primary } else { ResourceState::Standby },
            position: Position { timeline: 2, lsn: Lsn(100) },
            receiving_from: (!primary).then(|| name(1)),
            upstream_age: (!primary).then_some(Span::millis(1)),
            standbys: if primary { (2..=nodes).map(standby).collect() } else { vec![] },
            check: CheckTimes {
                live: Some(Span::millis(1)),
                ready: Some(Span::millis(1)),
                deep: Some(Span::millis(1)),
            },
            disk_free: 1 << 40,
            disk_total: 1 << 41,
            ..ResourceFacts::default()
        },
        peers: (1..=nodes.min(10)).filter(|i| *i != node).map(probe).collect(),
        armed: None,
        shares: None,
        rooms: vec![],
        certificates: vec![],
        beside: String::new(),
        copies: vec![],
        activity: String::new(),
        complaint: String::new(),
        data: quorate::model::DataFound::default(),
        mark: None,
        data_fault: None,
    }
}

/// An engine that has heard everybody for a while, and the reports that come next.
fn steady(id: &str, nodes: usize) -> (Engine, Timestamp, Vec<NodeReport>) {
    let (cluster, policy) = files(id, nodes);
    let mut now = Timestamp(1_000_000_000);
    let mut engine = Engine::new(cluster, policy, now, WallTime(0));
    let mut sequence = 0;
    for _ in 0..60 {
        for node in 1..=nodes {
            sequence += 1;
            now = Timestamp(now.0 + 100_000_000 / nodes as u64);
            let decision = engine.handle(
                now,
                WallTime(0),
                Input::Report(Box::new(report(node, nodes, sequence))),
            );
            drop(black_box(decision));
        }
    }
    let next = (1..=nodes).map(|n| report(n, nodes, sequence + n as u64)).collect();
    (engine, now, next)
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
