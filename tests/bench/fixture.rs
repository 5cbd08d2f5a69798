//! A cluster that has been heard for a while, of any size.

use std::path::Path;

use quorate::config;
use quorate::engine::{Engine, Input};
use quorate::model::observation::{
    CheckTimes, HoldingFacts, NodeReport, PeerProbe, Pids, ResourceFacts, ResourceState,
    StandbyFacts, VoteFacts,
};
use quorate::model::testimony::EpochSync;
use quorate::model::topology::{Cluster, Policy};
use quorate::model::{Epoch, Lsn, Member, NodeId, Position, Span, SyncSet, Timestamp, WallTime};

pub fn files(id: &str, nodes: usize) -> (Cluster, Policy) {
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

pub fn report(node: usize, nodes: usize, sequence: u64) -> NodeReport {
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
pub fn steady(id: &str, nodes: usize) -> (Engine, Timestamp, Vec<NodeReport>) {
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
            drop(std::hint::black_box(decision));
        }
    }
    let next = (1..=nodes).map(|n| report(n, nodes, sequence + n as u64)).collect();
    (engine, now, next)
}
