//! What is forecast of a move is what the candidate will compute of the grants.

use super::tests::{World, gave_back, member, won};
use super::*;
use crate::model::Position;
use crate::model::loss::LossAccount;
use crate::model::observation::{Blocked, NodeReport, ResourceState};
use crate::model::outlook::Answer;
use crate::model::plan::PlanKind;
use crate::model::testimony::{EpochSync, ReleaseNotice};
use crate::model::topology::Strategy;

/// Its database is up again, cut off, and can say where its log ends.
fn cut_off(node: &str, lsn: u64) -> NodeReport {
    let mut report = gave_back(node);
    report.resource.state = ResourceState::Standby;
    report.resource.position = Position { timeline: 2, lsn: crate::model::Lsn(lsn) };
    report.data.system = Some(1);
    report
}

fn claimed(epoch: u64, holder: &str) -> EpochSync {
    EpochSync { won: false, promoted: false, ..won(epoch, holder) }
}

fn account(reports: &[NodeReport], to: &str, kind: PlanKind) -> LossAccount {
    let mut world = World::calm(Strategy::Manual);
    for _ in 0..30 {
        for report in reports {
            world.hear(report.clone());
        }
        world.pass(100);
    }
    world.engine.expected_loss(&member("n1"), &member(to), kind)
}

#[test]
fn a_former_holder_that_can_grant_proves_its_epoch_by_its_own_log() {
    // n3, the other standby that may have confirmed, is gone.
    let account = account(&[cut_off("n1", 120), cut_off("n2", 100)], "n2", PlanKind::Failover);
    let LossAccount::None { proof, .. } = account else { panic!("{account}") };
    assert!(proof.contains("n1 itself can grant"), "{proof}");
}

/// Of epochs above the one it held it looked at the highest alone.
#[test]
fn every_later_epoch_that_may_be_won_counts_against_a_resume() {
    // n2 claimed epoch 3, and n3 granted it; then n3 claimed epoch 4 and gave it back.
    let later = |node: &str, of_n2: bool| {
        let mut report = cut_off(node, 100);
        if of_n2 {
            // It may have confirmed what n2 wrote, and cannot say yet where its log ends.
            report.vote.history.push(claimed(3, "n2"));
            report.resource.state = ResourceState::Starting;
        }
        report.vote.history.push(claimed(4, "n3"));
        (report.vote.epoch, report.vote.holder) = (Epoch(4), Some(member("n3")));
        report.vote.releases.push(ReleaseNotice {
            epoch: Epoch(4),
            holder: member("n3"),
            final_position: None,
            promoted: false,
            since: Some(Epoch(2)),
            process: 0,
        });
        report
    };
    let resume = |of_n2| {
        let said = [later("n1", false), later("n3", of_n2)];
        account(&said, "n1", PlanKind::Resume)
    };
    assert!(matches!(resume(false), LossAccount::None { .. }), "{}", resume(false));
    let unknown = resume(true);
    assert!(matches!(unknown, LossAccount::Unknown { .. }), "{unknown}");
    assert!(unknown.reason().contains("n2"), "{unknown}");
}

#[test]
fn without_a_majority_that_could_grant_nothing_is_proved() {
    let account = account(&[cut_off("n1", 120)], "n1", PlanKind::Resume);
    assert_eq!(account.reason(), "1 of 3 voters can grant, 2 are needed");
}

/// "nothing moves because n1 is healthy", while commits waited for ever.
#[test]
fn that_a_node_is_healthy_is_no_answer_to_commits_that_wait() {
    let mut world = World::calm(Strategy::Manual);
    for _ in 0..20 {
        for node in ["n1", "n2", "n3"] {
            let mut report = super::tests::report(node);
            if node == "n1" {
                report.resource.blocked = Some(Blocked::ReadOnly);
            } else if node == "n2" {
                report.resource.state = ResourceState::Starting;
            }
            world.hear(report);
        }
        world.pass(100);
    }
    let answer = world.engine.explain().answer;
    let not_well =
        |words: &str| matches!(&answer, Answer::NotWell { why, .. } if why.contains(words));
    assert!(not_well("read_only"), "{answer:?}");
    // And with less than it should have.
    let mut world = World::calm(Strategy::Manual);
    for _ in 0..20 {
        for node in ["n1", "n2"] {
            world.hear(super::tests::report(node));
        }
        world.pass(100);
    }
    let answer = world.engine.explain().answer;
    let n3 = matches!(&answer, Answer::NotWell { why, .. } if why.starts_with("n3"));
    assert!(n3, "{answer:?}");
}

/// The screen said "none (proved)" of a plan whose proof had been reinstalled away meanwhile.
#[test]
fn a_plan_whose_proof_is_gone_is_not_executed() {
    let mut world = World::calm(Strategy::Manual);
    let silent = || {
        let mut n3 = cut_off("n3", 100);
        n3.resource.state = ResourceState::Starting;
        n3
    };
    let mut play = |first: &NodeReport| {
        for _ in 0..30 {
            for report in [first.clone(), cut_off("n2", 100), silent()] {
                world.hear(report);
            }
            world.pass(100);
        }
        let pending = world.engine.snapshot().pending.clone();
        let loss = pending.as_ref().map(|p| p.plan.loss.clone());
        let shown = world.engine.view().outlook.plan_news.clone();
        (loss, shown)
    };
    let (loss, _) = play(&cut_off("n1", 120));
    assert!(matches!(loss, Some(LossAccount::None { .. })), "{loss:?}");
    let mut reinstalled = cut_off("n1", 0);
    reinstalled.member = crate::model::Member::new("n1", "b");
    reinstalled.vote = crate::model::observation::VoteFacts::default();
    reinstalled.resource.state = ResourceState::Starting;
    let (loss, shown) = play(&reinstalled);
    assert_eq!(loss, None);
    assert!(shown.contains("loss none (proved) → unknown"), "{shown}");
}

/// A candidate that won a moment ago said before that it is a standby.
#[test]
fn a_word_from_before_the_win_is_no_word_that_nothing_writes() {
    let mut world = World::calm(Strategy::Manual);
    for (node, won) in [("n1", true), ("n3", true), ("n2", false)] {
        let mut report = cut_off(node, 100);
        let vote = &mut report.vote;
        (vote.epoch, vote.holder, vote.won) = (Epoch(3), Some(member("n2")), won);
        world.hear(report);
    }
    world.pass(100);
    let why = world.engine.view().why.clone();
    assert!(why.contains("n2") && !why.contains("no writes"), "{why}");
}
