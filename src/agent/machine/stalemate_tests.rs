//! A former holder that nobody directs does not use epochs up on what it was refused for before.

use super::tests::{at, member, record, setup};
use super::*;
use crate::lease::{Answer, EpochSync, Grant, Testimony};
use crate::model::Lsn;
use crate::wire::message::PeerReply;

fn position() -> Option<Position> {
    Some(Position { timeline: 2, lsn: Lsn(100) })
}

/// n2 granted epoch 3 to n3, which nobody has heard since.
fn of_n2(position: Option<Position>) -> Testimony {
    let mut history = record("n2").history;
    let sync = SyncSet { members: ["n1", "n2"].map(member).into_iter().collect(), k: 1 };
    history.push(EpochSync {
        epoch: Epoch(3),
        holder: member("n3"),
        sync: sync.into(),
        won: false,
        promoted: false,
        doubt: crate::model::loss::Doubt::default(),
    });
    Testimony { position, history, ..Testimony::default() }
}

/// What n2 says to whatever n1 sends, for so long; how often n1 claimed.
fn play(machine: &mut Machine, from: u64, to: u64, said: &Testimony) -> usize {
    let mut claimed = std::collections::BTreeSet::new();
    for ms in (from..to).step_by(25) {
        let resource = Resource {
            settled: machine.goal_id,
            has_data: true,
            position: position(),
            ..Resource::default()
        };
        let turn = machine.observed(at(ms), resource);
        for effect in turn.effects {
            let reply = match effect {
                Effect::Send(to, PeerMessage::Ask(ask)) if to.as_str() == "n2" => {
                    PeerReply::Answer(Answer {
                        voter: member("n2"),
                        epoch: ask.epoch.min(Epoch(3)),
                        holder: None,
                        refusal: None,
                        said: said.clone(),
                    })
                }
                Effect::Send(to, PeerMessage::Claim(claim)) if to.as_str() == "n2" => {
                    claimed.insert(claim.epoch);
                    PeerReply::Grant(Grant {
                        voter: member("n2"),
                        epoch: claim.epoch,
                        candidate: claim.candidate,
                        said: said.clone(),
                        writes: 0,
                    })
                }
                _ => continue,
            };
            let _ = machine.reply(at(ms + 1), &"n2".into(), reply);
        }
    }
    claimed.len()
}

#[test]
fn after_equal_refusals_it_asks_and_claims_no_more_until_a_voter_knows_more() {
    let (mut machine, _) = Machine::start(at(0), setup("n1"), record("n1"), &Found::default());
    let claims = play(&mut machine, 0, 120_000, &of_n2(None));
    assert_eq!(claims, 3, "{}", machine.activity());
    assert!(
        machine.activity().contains("n3 (epoch 3) cannot acknowledge"),
        "{}",
        machine.activity()
    );
    assert!(machine.activity().contains("when a person decides"), "{}", machine.activity());
    // n2's database is up: its log is the proof that nothing was acknowledged elsewhere.
    let claims = play(&mut machine, 120_000, 150_000, &of_n2(position()));
    assert_eq!(claims, 1);
    assert!(machine.tenure().held(at(150_000)).is_some() || machine.record().is_won());
}
