//! Whose data a node answers for, whose store it believes, and a founding that did not work out.

use super::tests::{at, member, record, setup};
use super::{Effect, Found, Goal, Machine, Reason, Resource};
use crate::lease::{ClaimRequest, EpochSync, ReleaseNotice, VoterRecord};
use crate::model::loss::Doubt;
use crate::model::{
    DataFault, DataFound, DataMark, Epoch, Lsn, Position, Span, SyncSet, TimelineHistory,
};
use crate::wire::message::{Hello, PeerMessage, PeerReply};

fn place(lsn: u64) -> Position {
    Position { timeline: 2, lsn: Lsn(lsn) }
}

/// n2, cut off, with the log up to `lsn` on line 2 of `system`; its mark is at 50,000 on system 7.
fn standby(system: u64, lsn: u64) -> Machine {
    let line = TimelineHistory { timeline: 2, left: vec![(1, Lsn(1_000))] };
    let mark = DataMark {
        system: Some(7),
        line: Some(line.clone()),
        high: Some(place(50_000)),
        print: None,
        own: None,
        pardoned: false,
    };
    let marked = VoterRecord { data: mark, ..record("n2") };
    let (mut machine, _) = Machine::start(at(0), setup("n2"), marked, &Found::default());
    let data = DataFound { system: Some(system), line: Some(line), ..DataFound::default() };
    let resource = Resource {
        settled: machine.goal_id,
        has_data: true,
        position: Some(place(lsn)),
        data,
        ..Resource::default()
    };
    let _ = machine.observed(at(1), resource);
    machine
}

/// What it grants to n3 once its promise has run out.
fn granted_position(machine: &mut Machine) -> Option<Position> {
    let set = machine.record().voters.clone().unwrap();
    let request = ClaimRequest {
        voters: set,
        epoch: Epoch(3),
        candidate: member("n3"),
        duration: Span::secs(2),
        sync: SyncSet::default().into(),
        plan: None,
        approvals: vec![],
        released: vec![],
        process: 0,
    };
    let (_, reply) = machine.message(at(60_000), PeerMessage::Claim(request), Ok(()));
    let PeerReply::Grant(grant) = reply else { panic!("{reply:?}") };
    grant.said.position
}

#[test]
fn a_vote_needs_no_data_and_a_position_does() {
    assert_eq!(granted_position(&mut standby(7, 50_000)), Some(place(50_000)));
    let mut foreign = standby(8, 50_000);
    assert_eq!(foreign.data_fault(), Some(DataFault::AnotherSystem { found: 8, expected: 7 }));
    assert_eq!(granted_position(&mut foreign), None, "another cluster's database");
    let mut older = standby(7, 40_000);
    assert_eq!(granted_position(&mut older), None, "an older copy");
}

#[test]
fn a_former_holder_with_an_older_copy_does_not_take_its_role_back() {
    let mark = DataMark { high: Some(place(50_000)), ..DataMark::default() };
    let marked = VoterRecord { data: mark, ..record("n1") };
    let (mut machine, _) = Machine::start(at(0), setup("n1"), marked, &Found::default());
    let resource = |lsn| Resource {
        settled: 1,
        has_data: true,
        position: Some(place(lsn)),
        ..Resource::default()
    };
    let _ = machine.observed(at(1), resource(40_000));
    assert!(!machine.is_incumbent());
    let _ = machine.observed(at(2), resource(50_000));
    assert!(machine.is_incumbent());
}

#[test]
fn the_mark_is_durable_within_a_second_and_a_rebuild_ends_it() {
    let mut machine = standby(7, 50_000);
    let mut resource = machine.resource.clone();
    resource.position = Some(place(80_000));
    resource.data.flushed = Some(place(70_000));
    let turn = machine.observed(at(1_200), resource.clone());
    let written = turn.persist.expect("the mark moved");
    assert_eq!(written.data.high, Some(place(70_000)));
    // Cloned: what it has now is what the primary had.
    resource.data.rebuilt += 1;
    resource.data.flushed = None;
    resource.position = Some(place(60_000));
    let turn = machine.observed(at(1_300), resource);
    assert_eq!(turn.persist.expect("it is another now").data.high, None);
    assert_eq!(machine.data_fault(), None);
}

fn hello(node: &str, writes: u64, known: &[(&str, u64)]) -> PeerReply {
    PeerReply::Hello(Hello {
        member: member(node),
        voters_version: 1,
        voters: None,
        won: None,
        line: None,
        resource_runs: true,
        releases: vec![],
        shares: None,
        writes,
        known: known.iter().map(|(n, w)| (member(n), *w)).collect(),
        contests: false,
        report: None,
    })
}

/// The winner of epoch 4 died after a survivor received the beginning of its line and before that
/// heard it say so; another one did hear it.
#[test]
fn a_line_that_a_peer_heard_its_winner_open_is_proved() {
    let mut machine = standby(7, 60_000);
    let line = TimelineHistory { timeline: 4, left: vec![(1, Lsn(1_000)), (2, Lsn(55_000))] };
    let mut resource = machine.resource.clone();
    resource.data.line = Some(line.clone());
    let _ = machine.observed(at(2), resource);
    let may_be_won = EpochSync {
        epoch: Epoch(4),
        holder: member("n3"),
        sync: SyncSet::default().into(),
        won: true,
        promoted: false,
        doubt: Doubt::default(),
    };
    let heard = |won, line| match hello("n3", 1, &[]) {
        PeerReply::Hello(said) => PeerReply::Hello(Hello { won: Some(won), line, ..said }),
        other => other,
    };
    let _ = machine.reply(at(3), &member("n3").node, heard(may_be_won.clone(), None));
    assert!(machine.vote_facts(at(3)).unproved_line, "nobody says whose it is");
    let said = EpochSync { promoted: true, ..may_be_won };
    let turn = machine.reply(at(4), &member("n3").node, heard(said, Some(line.clone())));
    assert_eq!(turn.persist.expect("durable").data.line, Some(line));
    assert!(!machine.vote_facts(at(3)).unproved_line);
    assert_eq!(machine.data_fault(), None);
}

#[test]
fn a_peer_whose_store_says_less_than_it_did_does_not_count() {
    let mut machine = standby(7, 50_000);
    let _ = machine.reply(at(2), &member("n3").node, hello("n3", 40, &[]));
    assert!(!machine.is_restored(&member("n3"), 41, Some(at(3))));
    assert!(!machine.is_restored(&member("n3"), 39, Some(at(1))), "asked before, answered late");
    assert!(machine.is_restored(&member("n3"), 39, Some(at(3))));
    assert!(machine.is_restored(&member("n3"), 90, None), "not until it is readmitted");
}

#[test]
fn a_node_that_was_restored_learns_it_from_its_peers_and_is_a_stranger() {
    let mut machine = standby(7, 50_000);
    let own = machine.record().writes;
    let turn = machine.reply(at(2), &member("n3").node, hello("n3", 4, &[("n2", own)]));
    assert!(!turn.effects.iter().any(|e| matches!(e, Effect::Renounce(_))));
    let turn = machine.reply(at(3), &member("n3").node, hello("n3", 4, &[("n2", own + 30)]));
    assert!(turn.effects.iter().any(|e| matches!(e, Effect::Renounce(_))), "{turn:?}");
}

#[test]
fn a_founder_whose_first_claim_was_not_won_founds_again() {
    let entry = EpochSync {
        epoch: Epoch(2),
        holder: member("n1"),
        sync: SyncSet::default().into(),
        won: false,
        promoted: false,
        doubt: crate::model::loss::Doubt::default(),
    };
    let notice = ReleaseNotice {
        epoch: Epoch(2),
        holder: member("n1"),
        final_position: None,
        promoted: false,
        since: None,
        process: 0,
    };
    let given_up = VoterRecord { history: vec![entry], released: vec![notice], ..record("n1") };
    let founder = super::Setup { founder: true, ..setup("n1") };
    let (mut machine, _) = Machine::start(at(0), founder, given_up, &Found::default());
    let resource = Resource {
        settled: machine.goal_id,
        has_data: true,
        position: Some(place(9)),
        ..Resource::default()
    };
    assert!(matches!(machine.goal(), Goal::Standby { upstream: None, .. }));
    let _ = machine.observed(at(1), resource);
    let attempt = machine.attempt.as_ref().expect("it founds");
    assert_eq!(attempt.reason, Reason::Found);
}

fn cut_off(machine: &Machine) -> Resource {
    Resource {
        settled: machine.goal_id,
        has_data: true,
        position: Some(place(9)),
        ..Resource::default()
    }
}

#[test]
fn a_claim_that_died_with_its_process_is_given_back_by_the_next_one() {
    let died = VoterRecord { claimed: Some(Epoch(5)), ..record("n3") };
    let (mut machine, _) = Machine::start(at(0), setup("n3"), died, &Found::default());
    let turn = machine.observed(at(1), cut_off(&machine));
    let given_back = turn.effects.iter().any(|e| {
        matches!(e, Effect::Send(_, PeerMessage::Release(r)) if r.epoch == Epoch(5) && !r.promoted)
    });
    assert!(given_back, "{turn:?}");
    assert_eq!(turn.persist.expect("durable first").claimed, None);
}

#[test]
fn a_role_that_was_to_be_taken_back_is_taken_back_after_a_restart_too() {
    let notice = ReleaseNotice {
        epoch: Epoch(2),
        holder: member("n1"),
        final_position: None,
        promoted: true,
        since: None,
        process: 0,
    };
    let stopped = VoterRecord { released: vec![notice], ..record("n1") };
    let (mut machine, _) = Machine::start(at(0), setup("n1"), stopped, &Found::default());
    let _ = machine.observed(at(1), cut_off(&machine));
    assert!(machine.attempt.is_none(), "others have the time that the policy gives them");
    let _ = machine.wakeup(at(10_001));
    assert_eq!(machine.attempt.as_ref().expect("it takes it back").reason, Reason::Reclaim);
}
