//! One agent, input by input: what it holds, when it lets go, what it refuses.

use super::*;
use crate::lease::{Ack, EpochSync, Holder, Refusal, Renew};
use crate::model::VoterSet;
use crate::model::WallTime;
use crate::model::command::{HistoryOrder, Order, OverrideOrder, VoterOrder};
use crate::model::plan::Plan;
use crate::model::share::Shares;
use crate::wire::message::PeerReply;

pub(super) fn member(node: &str) -> Member {
    Member::new(node, "a")
}
pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp(1_000_000_000 + ms * 1_000_000)
}

pub(super) fn setup(node: &str) -> Setup {
    Setup {
        cluster: "c".into(),
        me: member(node),
        nodes: ["n1", "n2", "n3"].map(NodeId::from).into_iter().collect(),
        witnesses: BTreeSet::new(),
        founder: node == "n1",
        terms: Terms::for_duration(Span::secs(2)),
        synchronous_standbys: 1,
        declared_shares: None,
        strategy: Strategy::Automatic,
        reclaim_after: Span::secs(10),
        first_round: 7,
    }
}

/// A record in which n1 won epoch 2.
pub(super) fn record(node: &str) -> VoterRecord {
    let voters =
        VoterSet { version: 1, members: ["n1", "n2", "n3"].map(member).into_iter().collect() };
    let sync = SyncSet { members: ["n2", "n3"].map(member).into_iter().collect(), k: 1 };
    let entry = EpochSync {
        epoch: Epoch(2),
        holder: member("n1"),
        sync: sync.into(),
        won: true,
        promoted: true,
        doubt: crate::model::loss::Doubt::default(),
    };
    VoterRecord {
        voters: Some(voters),
        epoch: Epoch(2),
        holder: Some(member("n1")),
        promised_max: Span::secs(2),
        history: vec![entry],
        ..VoterRecord::new(member(node))
    }
}

fn renewal(turn: &Turn) -> Option<&Renew> {
    turn.effects.iter().find_map(|e| match e {
        Effect::Send(_, PeerMessage::Renew(renew)) => Some(renew),
        _ => None,
    })
}

/// n2 promises again.
fn ack(round: u64) -> Ack {
    Ack {
        voter: member("n2"),
        holder: member("n1"),
        epoch: Epoch(2),
        round,
        duration: Span::secs(2),
        writes: 0,
    }
}

/// n1's agent was started again under a living guard, and n2 confirms that it still holds the role.
pub(super) fn holding() -> Machine {
    let (mut machine, turn) = Machine::start(
        at(0),
        setup("n1"),
        record("n1"),
        &Found { running_guarded: true, ..Found::default() },
    );
    assert!(matches!(machine.tenure(), Tenure::Resuming { .. }), "{turn:?}");
    let turn = machine.wakeup(at(1));
    let round = renewal(&turn).expect("it asks the voters").round;
    let turn = machine.reply(at(2), &"n2".into(), PeerReply::Ack(ack(round)));
    assert!(
        turn.effects.iter().any(|e| matches!(e, Effect::Guard(_))),
        "the guard is told: {turn:?}"
    );
    assert!(machine.tenure().held(at(2)).is_some());
    let turn = machine.observed(at(3), writable(&machine));
    drop(turn);
    machine
}

pub(super) fn writable(machine: &Machine) -> Resource {
    Resource {
        settled: machine.goal_id,
        writable: true,
        has_data: true,
        write_ok: Some(at(3)),
        history: Some(TimelineHistory { timeline: 2, left: vec![] }),
        ..Resource::default()
    }
}

pub(super) fn stopped(machine: &Machine) -> Resource {
    let evidence = StopEvidence {
        at: WallTime(0),
        how: "kill".into(),
        killed: 3,
        remaining: 0,
        final_position: None,
        looked: String::new(),
    };
    Resource {
        settled: machine.goal_id,
        stopped: Some(evidence),
        has_data: true,
        newest_timeline: Some(2),
        ..Resource::default()
    }
}

fn released(turn: &Turn) -> Option<&ReleaseNotice> {
    turn.effects.iter().find_map(|e| match e {
        Effect::Send(_, PeerMessage::Release(notice)) => Some(notice),
        _ => None,
    })
}

#[test]
fn without_renewals_the_database_is_stopped_before_the_lease_ends_and_the_role_given_back_after() {
    let mut machine = holding();
    let turn = machine.wakeup(at(1_700));
    assert!(!matches!(machine.goal(), Goal::Stopped(_)), "{turn:?}");
    let turn = machine.wakeup(at(1_802));
    assert_eq!(machine.goal(), &Goal::Stopped(Manner::Kill));
    assert_eq!(released(&turn), None, "not before it is proved");
    let turn = machine.observed(at(1_850), stopped(&machine));
    assert!(turn.persist.is_some(), "durable first");
    assert!(released(&turn).is_some_and(|n| n.epoch == Epoch(2) && n.promoted));
    assert!(machine.record().is_released());
}

/// Seen on a frozen agent that woke: a claim that had waited in its socket turned "stop" into "be a
/// standby", and the node never gave its role back nor followed anybody.
#[test]
fn a_claim_that_arrives_while_the_database_stops_does_not_stop_the_stopping() {
    let mut machine = holding();
    let turn = machine.wakeup(at(5_000));
    drop(turn);
    assert_eq!(machine.goal(), &Goal::Stopped(Manner::Kill));
    let request = crate::lease::ClaimRequest {
        voters: record("n2").voters.unwrap(),
        epoch: Epoch(3),
        candidate: member("n2"),
        duration: Span::secs(2),
        sync: SyncSet::default().into(),
        plan: None,
        approvals: vec![],
        released: vec![],
        process: 0,
    };
    let resource = Resource { writable: false, ..writable(&machine) };
    let turn = machine.observed(at(5_001), Resource { settled: 0, ..resource });
    drop(turn);
    let (turn, _) = machine.message(at(5_002), PeerMessage::Claim(request), Ok(()));
    drop(turn);
    assert_eq!(machine.goal(), &Goal::Stopped(Manner::Kill));
    let turn = machine.observed(at(5_050), stopped(&machine));
    assert!(released(&turn).is_some());
}

#[test]
fn a_hung_database_loses_the_lease() {
    let mut machine = holding();
    // Promises come, but no write has reached the disk for a whole lease: it does not ask for
    // another.
    assert!(renewals(&machine.wakeup(at(400))) > 0);
    let Tenure::Holding { holder, .. } = &mut machine.tenure else { panic!() };
    holder.granted(&member("n2"), at(3_000));
    holder.granted(&member("n1"), at(3_000));
    assert_eq!(renewals(&machine.wakeup(at(2_500))), 0);
    assert!(machine.complaint().contains("has not completed a write"));
}

fn guard(turn: &Turn) -> Option<Timestamp> {
    turn.effects.iter().find_map(|e| if let Effect::Guard(at) = e { Some(*at) } else { None })
}
fn renewals(turn: &Turn) -> usize {
    turn.effects.iter().filter(|e| matches!(e, Effect::Send(_, PeerMessage::Renew(_)))).count()
}

/// A change of voters counts promises in two sets: the end of the lease falls, and a guard that
/// was told the higher one would let the database outlive it.
#[test]
fn two_voter_changes_in_a_row_lower_the_guards_deadline() {
    let mut machine = holding();
    drop(machine.wakeup(at(337)));
    let holder = |m: &mut Machine, of: &dyn Fn(&mut Holder)| match &mut m.tenure {
        Tenure::Holding { holder, .. } => of(holder),
        other => panic!("{other:?}"),
    };
    holder(&mut machine, &|h| {
        h.granted(&member("n2"), at(400));
        h.granted(&member("n3"), at(450));
    });
    assert_eq!(guard(&machine.wakeup(at(451))), Some(at(2_200)));
    let set = |version: u64, of: &[&str]| VoterSet {
        version,
        members: of.iter().map(|n| member(n)).collect(),
    };
    let change = |h: &mut Holder, to: VoterSet, now: Timestamp| {
        h.begin_change(to, now);
        h.take_force();
    };
    holder(&mut machine, &|h| h.begin_change(set(2, &["n1", "n2"]), at(452)));
    assert_eq!(guard(&machine.wakeup(at(452))), None, "the set before counts until then");
    holder(&mut machine, &|h| h.take_force());
    assert_eq!(guard(&machine.wakeup(at(456))), Some(at(2_137)), "its own promise counts last");
    holder(&mut machine, &|h| {
        h.granted(&member("n1"), at(460));
        h.granted(&member("n2"), at(460));
        change(h, set(3, &["n1", "n2", "n4"]), at(460));
        h.granted(&member("n4"), at(100));
    });
    assert_eq!(guard(&machine.wakeup(at(461))), Some(at(2_260)));
    holder(&mut machine, &|h| change(h, set(4, &["n1", "n4"]), at(461)));
    assert_eq!(guard(&machine.wakeup(at(462))), Some(at(1_900)), "n4 promised long ago");
    assert_eq!(guard(&machine.wakeup(at(463))), None, "once is enough");
}

#[test]
fn an_unguarded_lease_is_not_renewed() {
    let mut machine = holding();
    drop(machine.guarded(at(335), Some(at(335))));
    assert!(renewals(&machine.wakeup(at(668))) > 0, "a guard may be started anew meanwhile");
    assert_eq!(renewals(&machine.wakeup(at(1_100))), 0);
    assert!(machine.complaint().contains("no guard has confirmed"), "{}", machine.complaint());
    drop(machine.guarded(at(1_200), None));
    assert!(renewals(&machine.wakeup(at(1_500))) > 0, "confirmed: it goes on");
}

/// A holder whose disk is full: its own voter counts for nobody, so the others have to carry it.
#[test]
fn a_voter_that_cannot_save_counts_for_nobody_not_even_for_itself() {
    let mut machine = holding();
    let before = |m: &Machine| m.tenure().held(at(3)).unwrap().promised_by(at(2_100));
    drop(machine.saved(at(4), false));
    assert!(!machine.vote_facts(at(4)).votes);
    assert!(renewals(&machine.wakeup(at(400))) > 0, "it goes on asking");
    assert_eq!(before(&machine), Vec::<NodeId>::new());
    drop(machine.saved(at(401), true));
    assert!(machine.vote_facts(at(401)).votes);
    drop(machine.wakeup(at(800)));
    assert_eq!(before(&machine), [NodeId::new("n1")]);
}

#[test]
fn a_restart_without_a_guard_trusts_nothing() {
    let (mut machine, turn) = Machine::start(
        at(0),
        setup("n1"),
        record("n1"),
        &Found { running_guarded: false, ..Found::default() },
    );
    drop(turn);
    assert_eq!(machine.goal(), &Goal::Standby { upstream: None, may_init: false });
    assert!(matches!(machine.tenure(), Tenure::None));
    // Once nothing here can write, the role is given back and taken back only after a while.
    let cut = Resource {
        settled: machine.goal_id,
        has_data: true,
        position: Some(Position::default()),
        ..Resource::default()
    };
    let turn = machine.observed(at(50), cut);
    assert!(released(&turn).is_some());
    assert_eq!(machine.next_wakeup(), Some(at(10_050)));
}

/// Of an epoch that it claimed before it voted for somebody else nobody could prove that it is
/// fenced; with the planted bug it is kept for ever.
#[test]
fn an_older_epoch_of_its_own_is_given_back_after_it_voted_for_another() {
    let give_back = || {
        let mut record = record("n2");
        let own = EpochSync {
            epoch: Epoch(3),
            holder: member("n2"),
            won: false,
            promoted: false,
            ..record.history[0].clone()
        };
        let other = EpochSync { epoch: Epoch(4), holder: member("n3"), ..own.clone() };
        record.history.extend([own, other]);
        (record.epoch, record.holder) = (Epoch(4), Some(member("n3")));
        let (mut machine, _) = Machine::start(at(0), setup("n2"), record, &Found::default());
        let cut = Resource {
            settled: machine.goal_id,
            has_data: true,
            position: Some(Position { timeline: 2, lsn: crate::model::Lsn(9) }),
            ..Resource::default()
        };
        released(&machine.observed(at(5), cut)).map(|r| (r.epoch, r.promoted))
    };
    assert_eq!(give_back(), Some((Epoch(3), false)));
    let bug = crate::model::planted::Bug::KeepsOldEpochs;
    assert_eq!(crate::model::planted::with(bug, give_back), None, "the bug is found");
}

/// A founder that was reinstalled votes by a set that a holder made: there is a cluster, and it is
/// not the one to begin it.
#[test]
fn a_founder_that_was_readmitted_founds_nothing() {
    let ready = |m: &Machine| Resource {
        settled: m.goal_id,
        has_data: true,
        position: Some(Position::default()),
        ..Resource::default()
    };
    let claims = |version: u64| {
        let members = ["n1", "n2", "n3"].map(member).into_iter().collect();
        let record = VoterRecord {
            voters: Some(VoterSet { version, members }),
            ..VoterRecord::new(member("n1"))
        };
        let (mut machine, turn) = Machine::start(at(0), setup("n1"), record, &Found::default());
        drop(turn);
        assert_eq!(machine.goal(), &Goal::Standby { upstream: None, may_init: false });
        let resource = ready(&machine);
        drop(machine.observed(at(1), resource));
        machine.attempt.is_some()
    };
    assert!(claims(1), "the first set: it founds");
    assert!(!claims(8 << 16 | 2), "a set that the holder of epoch 8 made");
}

#[test]
fn a_replica_follows_its_durable_holder_and_cuts_itself_off_when_that_gives_up() {
    let (mut machine, turn) = Machine::start(at(0), setup("n2"), record("n2"), &Found::default());
    drop(turn);
    let settled = |m: &Machine| Resource {
        settled: m.goal_id,
        has_data: true,
        position: Some(Position { timeline: 2, lsn: crate::model::Lsn(9) }),
        ..Resource::default()
    };
    let turn = machine.observed(at(1), settled(&machine));
    drop(turn);
    let renew = crate::lease::Renew {
        voters_version: 1,
        next_version: None,
        epoch: Epoch(2),
        holder: member("n1"),
        round: 1,
        duration: Span::secs(2),
        sync: SyncSet::default().into(),
        promoted: Some(TimelineHistory { timeline: 2, left: vec![] }),
        system: None,
        process: 0,
        doubt: crate::model::loss::Doubt::default(),
    };
    let (turn, reply) = machine.message(at(2), PeerMessage::Renew(renew), Ok(()));
    assert!(matches!(reply, PeerReply::Ack(_)), "{turn:?}");
    assert!(
        matches!(machine.goal(), Goal::Standby { upstream: Some(u), .. } if u.node.as_str() == "n1")
    );
    let notice = ReleaseNotice {
        epoch: Epoch(2),
        holder: member("n1"),
        final_position: None,
        promoted: true,
        since: None,
        process: 0,
    };
    let (turn, _) = machine.message(at(3), PeerMessage::Release(notice), Ok(()));
    assert!(turn.persist.is_some());
    assert_eq!(machine.goal(), &Goal::Standby { upstream: None, may_init: false });
    // Its log's end is certain only when the cut is reached.
    assert_eq!(machine.local().cut, Cut::Not);
    let turn = machine.observed(at(4), settled(&machine));
    drop(turn);
    assert!(matches!(machine.local().cut, Cut::At(_)));
}

/// A switchover from n1 to n2.
fn plan() -> Box<Plan> {
    Box::new(Plan::sample(Epoch(2), member("n1"), member("n2")))
}

/// Whoever began a planned move and was killed in it takes the role back, also where a person
/// decides otherwise; a crash under the same policy stays a person's matter.
#[test]
fn a_planned_move_that_nobody_completes_is_undone_by_the_next_process() {
    let manual = || Setup { strategy: Strategy::Manual, ..setup("n1") };
    let killed_and_started = |saved: VoterRecord| {
        let (mut machine, _) = Machine::start(at(100), manual(), saved, &Found::default());
        let cut = Resource {
            settled: machine.goal_id,
            has_data: true,
            position: Some(Position { timeline: 2, lsn: crate::model::Lsn(9) }),
            ..Resource::default()
        };
        assert!(released(&machine.observed(at(200), cut)).is_some());
        machine.next_wakeup()
    };
    let (turn, outcome) =
        holding().order(at(4), Order::Demote { plan: plan(), approvals: vec![] }, Ok(()));
    outcome.expect("it fits");
    let saved = turn.persist.expect("on record before the database is stopped");
    assert_eq!(saved.handing, Some(Epoch(2)));
    assert_eq!(killed_and_started(saved.clone()), Some(at(10_200)));
    assert_eq!(killed_and_started(record("n1")), None, "a crash");
    // Its database never stopped, and it holds on: nothing is handed over any more.
    let found = Found { running_guarded: true, ..Found::default() };
    let (mut machine, _) = Machine::start(at(100), manual(), saved, &found);
    let round = renewal(&machine.wakeup(at(101))).expect("it asks the voters").round;
    let turn = machine.reply(at(102), &"n2".into(), PeerReply::Ack(ack(round)));
    assert_eq!(turn.persist.expect("forgotten").handing, None);
}

/// Every order that a plane can give has an answer in every state of an agent: taken up, or refused
/// in words.
#[test]
fn every_order_has_an_answer_in_every_state() {
    let voters = record("n1").voters.unwrap();
    let change = VoterOrder {
        cluster: "c".into(),
        from_version: 1,
        remove: Some(member("n3")),
        add: None,
        reason: String::new(),
    };
    let left = VoterSet {
        version: voters.override_version(Epoch(1)),
        members: voters.members.iter().take(2).cloned().collect(),
    };
    let gone = OverrideOrder {
        cluster: "c".into(),
        left,
        remove: vec![member("n3")],
        accept_unknown_loss: false,
        reason: String::new(),
    };
    let history = HistoryOrder {
        cluster: "c".into(),
        member: member("n2"),
        system: 7,
        timeline: 2,
        reason: String::new(),
    };
    let orders = || {
        vec![
            Order::Arm { plan: plan(), approvals: vec![] },
            Order::Demote { plan: plan(), approvals: vec![] },
            Order::Shift { plan: plan(), approvals: vec![] },
            Order::Disarm { plan: plan().digest() },
            Order::Prove,
            Order::Restart,
            Order::Voters { order: change.clone(), approvals: vec![] },
            Order::Override { order: gone.clone(), approvals: vec![] },
            Order::History { order: history.clone(), approvals: vec![] },
        ]
    };
    for order in orders() {
        // A new order of the plane has to be added above: this match does not compile without it.
        match order {
            Order::Arm { .. }
            | Order::Demote { .. }
            | Order::Shift { .. }
            | Order::Disarm { .. }
            | Order::Prove
            | Order::Restart
            | Order::Voters { .. }
            | Order::Override { .. }
            | Order::History { .. } => {}
        }
    }
    let start = |node: &str, record: VoterRecord, guarded| {
        Machine::start(
            at(0),
            setup(node),
            record,
            &Found { running_guarded: guarded, ..Found::default() },
        )
        .0
    };
    let armed = || {
        let mut machine = start("n2", record("n2"), false);
        drop(machine.observed(
            at(1),
            Resource {
                settled: machine.goal_id,
                has_data: true,
                position: Some(Position::default()),
                ..Resource::default()
            },
        ));
        drop(machine.order(at(2), Order::Arm { plan: plan(), approvals: vec![] }, Ok(())));
        machine
    };
    let states: Vec<(&str, Machine)> = vec![
        ("a stranger", start("n2", VoterRecord::new(member("n2")), false)),
        ("cut, not settled", start("n2", record("n2"), false)),
        ("armed", armed()),
        ("claiming", {
            let mut machine = armed();
            drop(machine.wakeup(at(4_000)));
            machine
        }),
        ("sharing the traffic", {
            let of = [("n1".into(), 50), ("n2".into(), 50)].into_iter().collect();
            let declared = Shares { epoch: Epoch(0), plan: None, of };
            let setup = Setup { declared_shares: Some(declared), ..setup("n2") };
            Machine::start(at(0), setup, VoterRecord::new(member("n2")), &Found::default()).0
        }),
        ("resuming", start("n1", record("n1"), true)),
        ("holding", holding()),
        ("handing over", {
            let mut machine = holding();
            drop(machine.order(at(4), Order::Demote { plan: plan(), approvals: vec![] }, Ok(())));
            machine
        }),
        ("ending", {
            let mut machine = holding();
            drop(machine.wakeup(at(5_000)));
            machine
        }),
    ];
    for (name, machine) in states {
        for order in orders() {
            let mut machine = machine.clone();
            let now = Timestamp(machine.now.0 + 1_000_000);
            let text = format!("{order:?}");
            let (_turn, outcome) = machine.order(now, order.clone(), Ok(()));
            assert!(outcome.as_ref().err().is_none_or(|why| !why.is_empty()), "{name}: {text}");
            // Said twice it does no harm.
            let (_turn, again) = machine.order(Timestamp(now.0 + 1_000_000), order, Ok(()));
            assert!(
                outcome.is_err() || again.is_ok(),
                "{name}: {text}: {outcome:?} then {again:?}"
            );
        }
    }
}

/// A suspended host whose clock stood still with it believes in its lease; the first word of the
/// winner there was meanwhile ends it.
#[test]
fn a_holder_that_hears_of_a_newer_winner_ends_at_once() {
    let end = || {
        let mut machine = holding();
        let renew = Renew {
            voters_version: record("n1").voters.unwrap().version,
            next_version: None,
            epoch: Epoch(3),
            holder: member("n2"),
            round: 1,
            duration: Span::secs(2),
            sync: crate::model::SyncStage::default(),
            promoted: None,
            system: None,
            process: 7,
            doubt: crate::model::loss::Doubt::default(),
        };
        let (_, reply) = machine.message(at(10), PeerMessage::Renew(renew), Ok(()));
        assert!(matches!(reply, PeerReply::Refused { .. }), "{reply:?}");
        matches!(machine.goal(), Goal::Stopped(Manner::Kill))
    };
    assert!(end());
    let bug = crate::model::planted::Bug::HoldsOnOvertaken;
    assert!(!crate::model::planted::with(bug, end), "the bug is found");
}

/// Between a win and the promotion another volume was put in place: that is not what the voters
/// granted to.
#[test]
fn data_that_changed_since_the_win_is_not_promoted() {
    let mut machine = holding();
    if let Tenure::Holding { promoted, .. } = &mut machine.tenure {
        *promoted = None;
    }
    let mark = crate::model::DataMark { system: Some(1), ..machine.voter.record().data.clone() };
    let _ = machine.voter.note_data(mark);
    let data = crate::model::DataFound { system: Some(2), ..Default::default() };
    let other = Resource { data, writable: false, history: None, ..writable(&machine) };
    drop(machine.observed(at(10), other));
    assert!(matches!(machine.goal(), Goal::Stopped(Manner::Kill)), "{:?}", machine.goal());
}

/// Each climb left refused renewals of the epoch before under way, which made the next: with 80 ms
/// each way 74 in 26 s.
#[test]
fn a_late_answer_to_a_renewal_from_before_a_climb_is_no_reason_for_another() {
    let refused = |of: &str| PeerReply::Refused {
        by: member("n2"),
        why: Refusal::NewerEpoch { epoch: Epoch(2), of: Some(member(of)) },
    };
    let mut machine = holding();
    let _ = machine.reply(at(10), &"n2".into(), refused("n1"));
    assert!(machine.attempt.is_none(), "n2 voted for n1 there: {:?}", machine.complaint);
    // Stranded is a voter that voted for another there, or for this node in an epoch that it never
    // won; and one that does not say for whom may be.
    let unwon = PeerReply::Refused {
        by: member("n2"),
        why: Refusal::NewerEpoch { epoch: Epoch(3), of: Some(member("n1")) },
    };
    let unsaid = PeerReply::Refused {
        by: member("n2"),
        why: Refusal::NewerEpoch { epoch: Epoch(2), of: None },
    };
    for stranded in [refused("n3"), unwon, unsaid] {
        let mut machine = holding();
        let _ = machine.reply(at(11), &"n2".into(), stranded.clone());
        assert!(machine.attempt.is_some(), "{stranded:?}");
    }
}
