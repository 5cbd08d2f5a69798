//! The role moves: by a crash, by plan, by a lost host, a frozen agent, a cut cable.

use quorate::lab::measure::Event;
use quorate::model::record::ChainVerdict;
use quorate::model::view::Outcome;

use crate::{Cluster, nothing_lost, quick};

#[test]
fn the_primarys_postgres_is_killed() {
    let mut cluster = Cluster::start(quick());
    nothing_lost(&cluster.once(Event::Kill));
    let view = cluster.calm();
    let run = view.run.unwrap();
    assert_eq!(run.outcome, Some(Outcome::Verified));
    assert!(run.verification.iter().all(|(_, held, _)| *held), "{:?}", run.verification);
    // The former primary came back as a standby by itself, its forked log kept.
    let forks = cluster.folder.path().join("lab/node-1/state/forks");
    assert!(std::fs::read_dir(forks).unwrap().count() > 0);
    cluster.until("the audit says what was given up, and where it is kept", 10, |v| {
        v.records.iter().any(|r| r.record.rule == 105 && r.record.text.contains("set aside in"))
    });
    // And once more, back.
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
}

#[test]
fn a_planned_switchover_loses_and_fails_nothing() {
    let mut cluster = Cluster::start(quick());
    for _ in 0..3 {
        let report = cluster.once(Event::Switchover);
        nothing_lost(&report);
        assert_eq!(report.failed, 0, "{report:?}");
    }
    let view = cluster.calm();
    assert_eq!(view.chain, ChainVerdict::Verified { to: view.record_count });
}

#[test]
fn the_primarys_whole_host_dies() {
    let mut cluster = Cluster::start(quick());
    nothing_lost(&cluster.once(Event::Host));
    cluster.calm();
}

#[test]
fn the_primarys_agent_freezes_and_the_guard_fences() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    nothing_lost(&cluster.once(Event::Freeze));
    let evidence = cluster.folder.path().join("lab/node-1/state/guard.evidence");
    let text = std::fs::read_to_string(evidence).expect("the guard left its evidence");
    assert!(text.contains("\"remaining\":[]"), "{text}");
    cluster.calm();
}

#[test]
fn the_primary_is_cut_off_from_everyone() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    nothing_lost(&cluster.once(Event::Cut));
    // Healed by then: it rejoins by itself, as a standby, its forked log kept.
    let view = cluster.calm();
    assert_ne!(view.primary.unwrap().as_str(), "node-1");
    assert!(cluster.folder.path().join("lab/node-1/state/forks").exists());
}

#[test]
fn the_whole_cluster_restarts() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm();
    for node in ["node-1", "node-2", "node-3"] {
        cluster.lab().kill(node, quorate::lab::What::Host).unwrap();
    }
    for node in ["node-1", "node-2", "node-3"] {
        cluster.lab().heal(node).unwrap();
    }
    let view = cluster.until("writable again without a person", 60, |v| {
        quorate::lab::measure::is_calm(v) && v.epoch > before.epoch
    });
    assert!(view.primary.is_some());
}
