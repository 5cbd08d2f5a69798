//! A winner that fetches log which another voter has: it holds its lease meanwhile.

use super::attempt::Attempt;
use super::tests::{at, member, record, setup};
use super::{Effect, Found, Goal, Machine, Reason, Resource, Tenure, Turn};
use crate::lease::claim::{Claim, Win};
use crate::lease::{Ack, ClaimRequest, Grant, Testimony, VoterRecord};
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::{Epoch, Lsn, Position, Span, SyncSet, Timestamp};
use crate::wire::message::{PeerMessage, PeerReply};

fn place(lsn: u64) -> Position {
    Position { timeline: 2, lsn: Lsn(lsn) }
}

fn standby_at(machine: &Machine, lsn: u64) -> Resource {
    Resource {
        settled: machine.goal_id,
        has_data: true,
        position: Some(place(lsn)),
        ..Resource::default()
    }
}

/// n2 has won epoch 3 with n3's grant, and n3 has log that it lacks.
fn fetching() -> (Machine, Turn) {
    let record = VoterRecord { claimed: Some(Epoch(3)), ..record("n2") };
    let voters = record.voters.clone().unwrap();
    let (mut machine, _) = Machine::start(at(0), setup("n2"), record, &Found::default());
    machine.resource = standby_at(&machine, 10);
    machine.attempt = Some(Attempt::new(at(5_000), Reason::Found, Epoch(0)));
    let request = ClaimRequest {
        voters: voters.clone(),
        epoch: Epoch(3),
        candidate: member("n2"),
        duration: Span::secs(2),
        sync: SyncSet::default().into(),
        plan: None,
        approvals: vec![],
        released: vec![],
        process: 0,
    };
    let mut claim = Claim::new(request, voters, at(5_000), true);
    for voter in ["n2", "n3"] {
        claim.grant(Grant {
            voter: member(voter),
            epoch: Epoch(3),
            candidate: member("n2"),
            said: Testimony {
                not_writable: true,
                position: Some(place(if voter == "n3" { 1_000 } else { 10 })),
                ..Testimony::default()
            },
            writes: 0,
        });
    }
    let win = Win {
        not_fenced: vec![],
        fence: FenceRung::SyncFenced,
        last_fence: FenceRung::SyncFenced,
        loose: vec![],
        fetch: Some(("n3".into(), place(1_000))),
        loss: LossAccount::None { proof: String::new(), by: vec![], excluded: vec![] },
    };
    let mut turn = Turn::default();
    machine.won(at(5_010), Box::new(claim), win, &mut turn);
    (machine, turn)
}

fn round_of(turn: &Turn) -> Option<u64> {
    turn.effects.iter().find_map(|e| match e {
        Effect::Send(_, PeerMessage::Renew(renew)) => {
            assert_eq!(renew.promoted, None, "nothing is promoted yet");
            Some(renew.round)
        }
        _ => None,
    })
}

/// n3 promises until `end`, every 300 ms; every second brings 10 bytes more, if `grows`.
fn promised_until(machine: &mut Machine, first: Turn, end: u64, grows: bool) {
    let mut asked = round_of(&first);
    for ms in (5_020..end).step_by(10) {
        let now: Timestamp = at(ms);
        if let Some(round) = asked.take() {
            let ack = Ack {
                voter: member("n3"),
                holder: member("n2"),
                epoch: Epoch(3),
                round,
                duration: Span::secs(2),
                writes: 0,
            };
            drop(machine.reply(now, &"n3".into(), PeerReply::Ack(ack)));
        }
        let lsn = if grows { 10 + (ms - 5_000) / 100 } else { 10 };
        let seen = standby_at(machine, lsn);
        asked = round_of(&machine.observed(now, seen));
    }
}

/// Every fetch that took longer than a lease ended in "the lease ran out".
#[test]
fn a_fetch_may_take_longer_than_a_lease_and_than_its_patience_while_more_comes() {
    let (mut machine, first) = fetching();
    assert!(round_of(&first).is_some(), "{first:?}");
    promised_until(&mut machine, first, 25_000, true);
    assert!(machine.attempt.is_some(), "{}", machine.complaint());
    drop(machine.observed(at(25_000), standby_at(&machine, 1_000)));
    assert!(
        matches!(machine.goal(), Goal::Primary { epoch: Epoch(3), .. }),
        "{:?}",
        machine.goal()
    );
    assert!(machine.tenure().held(at(25_001)).is_some());
}

#[test]
fn a_fetch_that_brings_nothing_more_is_given_up_and_its_epoch_given_back() {
    let (mut machine, first) = fetching();
    promised_until(&mut machine, first, 15_500, false);
    assert!(machine.attempt.is_none());
    assert!(machine.complaint().contains("nothing more came"), "{}", machine.complaint());
    assert!(machine.record().is_released());
}

#[test]
fn without_promises_the_lease_that_was_won_ends_the_fetch() {
    let (mut machine, _) = fetching();
    let turn = machine.wakeup(at(7_001));
    assert!(machine.attempt.is_none(), "{turn:?}");
    assert!(machine.complaint().contains("the lease ran out"), "{}", machine.complaint());
    assert!(matches!(machine.tenure(), Tenure::None));
}

/// It is known to be won, and nothing was written in it.
#[test]
fn a_process_that_dies_while_it_fetches_leaves_nothing_to_resume() {
    let (machine, _) = fetching();
    let left = machine.record().clone();
    assert!(left.is_won());
    let (machine, _) = Machine::start(
        at(9_000),
        setup("n2"),
        left,
        &Found { running_guarded: true, ..Found::default() },
    );
    assert!(matches!(machine.tenure(), Tenure::None));
    assert!(!matches!(machine.goal(), Goal::Primary { .. }));
}
