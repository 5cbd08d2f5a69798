//! Tables beside the code. The exhaustive check is in `tests/lease_model`.

use super::*;
use crate::model::loss::{Doubt, FenceRung, LossAccount};
use crate::model::{Epoch, Lsn, Member, Position, SyncSet, Timestamp, VoterSet};

fn member(n: u8) -> Member {
    Member::new(format!("n{n}").as_str(), "a")
}
fn set() -> VoterSet {
    VoterSet { version: 1, members: (1..=3).map(member).collect() }
}
fn sync(of: &[u8], k: usize) -> SyncSet {
    SyncSet { members: of.iter().map(|n| member(*n)).collect(), k }
}
fn terms() -> Terms {
    Terms { duration: Span(100), grace: Span(10) }
}
fn at(lsn: u64) -> Local {
    let cut = Cut::At(Position { timeline: 1, lsn: Lsn(lsn) });
    Local { not_writable: true, cut, unproved_line: false }
}
fn voter(n: u8) -> Voter {
    let mut v = Voter::restore(VoterRecord::new(member(n)), terms(), Timestamp(0));
    assert!(v.install(set()).reply.is_ok());
    v
}
fn claim(epoch: u64, by: u8, s: SyncSet) -> ClaimRequest {
    ClaimRequest {
        voters: set(),
        epoch: Epoch(epoch),
        candidate: member(by),
        duration: Span(100),
        sync: s.into(),
        plan: None,
        approvals: vec![],
        released: vec![],
        process: 0,
    }
}
fn renew(epoch: u64, by: u8) -> Renew {
    Renew {
        voters_version: 1,
        next_version: None,
        epoch: Epoch(epoch),
        holder: member(by),
        round: 1,
        duration: Span(100),
        sync: sync(&[2, 3], 1).into(),
        promoted: None,
        system: None,
        process: 0,
        doubt: Doubt::default(),
    }
}

#[test]
fn grace_covers_kill_time_drift_and_slack() {
    for ms in [500, 1_000, 2_000, 10_000, 30_000] {
        let t = Terms::for_duration(Span::millis(ms));
        let needed = Terms::KILL_TIME.0 + Terms::TIMER_SLACK.0 + 2 * t.promise().0 / 1_000;
        assert!(t.grace.0 >= needed, "lease {ms} ms: grace {} < {needed}", t.grace.0);
    }
}

#[test]
fn a_promise_is_kept_until_it_runs_out() {
    let mut v = voter(2);
    assert!(v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0)).reply.is_ok());
    assert!(v.renew(Timestamp(50), &renew(1, 1)).reply.is_ok());
    let other = claim(2, 3, sync(&[1, 2], 1));
    let refused = v.claim(Timestamp(159), &other, at(0)).reply.unwrap_err();
    assert_eq!(refused, Refusal::Promised { to: Some(member(1)), left: Span(1) });
    assert!(v.claim(Timestamp(160), &other, at(0)).reply.is_ok());
}

#[test]
fn a_shorter_lease_does_not_shorten_a_promise_already_made() {
    let mut v = voter(2);
    let _ = v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0));
    let shorter = Renew { duration: Span(10), ..renew(1, 1) };
    assert!(v.renew(Timestamp(1), &shorter).reply.is_ok());
    assert_eq!(v.lease_until(), Timestamp(110), "the first promise was until 110");
}

/// Files differ while a longer lease is rolled out: the holder counts by the duration it was
/// promised, and so does the grace that covers its drift.
#[test]
fn the_grace_belongs_to_the_promised_duration_and_not_to_the_voters_file() {
    let long = Terms::for_duration(Span::secs(300));
    let mut v = voter(2);
    let first = ClaimRequest { duration: long.duration, ..claim(1, 1, sync(&[2, 3], 1)) };
    let record = v.claim(Timestamp(0), &first, at(0)).persist.unwrap();
    assert_eq!(v.lease_until(), Timestamp(0) + long.promise());
    let again = Voter::restore(record, terms(), Timestamp(7));
    assert_eq!(again.lease_until(), Timestamp(7) + long.promise());
}

#[test]
fn after_a_restart_the_longest_promise_is_presumed() {
    let mut v = voter(2);
    let record = v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0)).persist.unwrap();
    let again = Voter::restore(record.clone(), terms(), Timestamp(40));
    assert!(again.would_grant(Timestamp(149), &claim(2, 3, sync(&[1, 2], 1)), at(0)).is_err());
    assert!(again.would_grant(Timestamp(150), &claim(2, 3, sync(&[1, 2], 1)), at(0)).is_ok());
    // The holder itself is helped at once.
    let mut again = Voter::restore(record, terms(), Timestamp(40));
    assert!(again.renew(Timestamp(41), &renew(1, 1)).reply.is_ok());
}

#[test]
fn a_release_is_final() {
    let mut v = voter(2);
    let _ = v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0));
    let notice = ReleaseNotice {
        epoch: Epoch(1),
        holder: member(1),
        final_position: None,
        promoted: true,
        since: None,
        process: 0,
    };
    let said = v.release(Timestamp(0), &notice);
    assert!(said.persist.is_some() && said.reply);
    assert_eq!(
        v.renew(Timestamp(1), &renew(1, 1)).reply.unwrap_err(),
        Refusal::Released { epoch: Epoch(1) }
    );
    assert!(v.would_grant(Timestamp(1), &claim(2, 3, sync(&[1, 2], 1)), at(0)).is_ok());
}

#[test]
fn a_holder_climbs_above_a_higher_epoch_without_a_cut() {
    let mut v = voter(2);
    let _ = v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0));
    let uncut = Local { cut: Cut::Not, ..at(0) };
    assert!(v.claim(Timestamp(5), &claim(3, 1, sync(&[2, 3], 1)), uncut).reply.is_ok());
    // A stranger's claim would have needed the cut.
    let refused = v.claim(Timestamp(500), &claim(4, 3, sync(&[1, 2], 1)), uncut).reply.unwrap_err();
    assert_eq!(refused, Refusal::Cutting);
}

#[test]
fn the_old_holders_own_host_grants_only_when_it_cannot_write() {
    let mut v = voter(1);
    let _ = v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0));
    let running = Local { not_writable: false, ..at(0) };
    let refused =
        v.claim(Timestamp(500), &claim(2, 2, sync(&[1, 3], 1)), running).reply.unwrap_err();
    assert_eq!(refused, Refusal::NotStoppedHere);
}

#[test]
fn strangers_neither_get_nor_give() {
    let mut blank =
        Voter::restore(VoterRecord::new(Member::new("n2", "reinstalled")), terms(), Timestamp(0));
    assert!(matches!(blank.renew(Timestamp(1), &renew(1, 1)).reply, Err(Refusal::Stranger { .. })));
    assert!(
        matches!(blank.install(set()).reply, Err(Refusal::Stranger { .. })),
        "its incarnation is not in the set"
    );
    let other_version = Renew { voters_version: 2, ..renew(1, 1) };
    assert!(matches!(
        voter(2).renew(Timestamp(1), &other_version).reply,
        Err(Refusal::Stranger { .. })
    ));
}

#[test]
fn a_holder_counts_from_when_it_asked() {
    let mut h = Holder::new(member(1), Epoch(1), set(), sync(&[2, 3], 1).into(), terms(), 7);
    let first = h.renew(Timestamp(10), None, None, 0);
    let second = h.renew(Timestamp(20), None, None, 0);
    let ack = |n, round, duration| Ack {
        voter: member(n),
        holder: member(1),
        epoch: Epoch(1),
        round,
        duration: Span(duration),
        writes: 0,
    };
    h.ack(&ack(1, second.round, 100));
    assert_eq!(h.held_until(), None, "one of three is no majority");
    h.ack(&ack(2, first.round, 100));
    assert_eq!(h.held_until(), Some(Timestamp(110)));
    h.ack(&ack(3, second.round, 50));
    assert_eq!(h.held_until(), Some(Timestamp(110)), "a lesser promise counts for what it is");
    h.ack(&ack(3, second.round, 100));
    assert_eq!(h.held_until(), Some(Timestamp(120)));
    h.ack(&ack(2, 5, 100));
    assert_eq!(
        h.held_until(),
        Some(Timestamp(120)),
        "a round of an earlier process does not count"
    );
    let stranger = Ack { voter: Member::new("n2", "b"), ..ack(2, second.round, 100) };
    h.ack(&stranger);
    assert!(!h.holds(Timestamp(120)));
}

/// Two persons attest what they believe; whoever was promised to may hold the role all the same.
#[test]
fn an_override_waits_for_a_promise_that_runs() {
    let mut v = voter(2);
    assert!(v.renew(Timestamp(0), &renew(1, 1)).reply.is_ok());
    let left = VoterSet { version: 1 << 20, members: [2, 3].map(member).into_iter().collect() };
    let gone = [member(1)];
    let refused = v.remove_attested(Timestamp(1), &left, &gone, false).reply.unwrap_err();
    assert!(matches!(refused, Refusal::Promised { .. }), "{refused}");
    let over = v.lease_until();
    assert_eq!(v.remove_attested(over, &left, &gone, false).reply, Ok(()));
}

/// One alone takes in a second: it held the role by its own word, and the newcomer had promised
/// nothing. The change took the role from it.
#[test]
fn a_change_of_voters_never_takes_the_lease_from_its_holder() {
    let alone = VoterSet { version: 1, members: [member(1)].into_iter().collect() };
    let two = VoterSet { version: 2, members: [1, 2].map(member).into_iter().collect() };
    let mut h = Holder::new(member(1), Epoch(1), alone, sync(&[2], 0).into(), terms(), 7);
    h.granted(&member(1), Timestamp(0));
    h.begin_change(two.clone(), Timestamp(0));
    h.changed(&member(2));
    assert_eq!(h.due(Timestamp(2)), None, "it has the set and has promised nothing");
    assert_eq!(h.held_until(), Some(Timestamp(100)), "the set before counts alone");
    // The newcomer has no set but this one, and knows no holder.
    let mut new = Voter::restore(VoterRecord::new(member(2)), terms(), Timestamp(0));
    assert!(new.install(two.clone()).reply.is_ok());
    let mut round = |h: &mut Holder, now: u64| {
        let renew = h.renew(Timestamp(now), None, None, 0);
        let ack = new.renew(Timestamp(now), &renew).reply.expect("the set that it leads to");
        h.ack(&ack);
        h.ack(&Ack { voter: member(1), ..ack });
    };
    round(&mut h, 3);
    assert_eq!(h.due(Timestamp(54)), None, "it would last too short a time");
    assert_eq!(h.due(Timestamp(5)), Some(&two));
    assert!(!h.is_settled());
    h.take_force();
    assert_eq!((h.voters(), h.next_voters(), h.is_settled()), (&two, None, true));
    assert_eq!(h.held_until(), Some(Timestamp(103)));
}

/// What was promised before a change began says nothing of it: its voter may not know which
/// synchronous sets there are.
#[test]
fn promises_from_before_a_change_do_not_put_it_in_force() {
    let mut h = Holder::new(member(1), Epoch(1), set(), sync(&[2, 3], 1).into(), terms(), 7);
    let ack = |voter: u8, renew: &Renew| Ack {
        voter: member(voter),
        holder: member(1),
        epoch: Epoch(1),
        round: renew.round,
        duration: Span(100),
        writes: 0,
    };
    let before = h.renew(Timestamp(10), None, None, 0);
    (1..=3).for_each(|voter| h.ack(&ack(voter, &before)));
    h.begin_change(VoterSet { version: 9, ..set() }, Timestamp(11));
    (2..=3).for_each(|voter| h.changed(&member(voter)));
    assert_eq!(h.due(Timestamp(12)), None);
    let since = h.renew(Timestamp(13), None, None, 0);
    (1..=2).for_each(|voter| h.ack(&ack(voter, &since)));
    assert!(h.due(Timestamp(14)).is_some());
}

/// Who leaves votes for its holder until it has left.
#[test]
fn a_set_that_one_is_not_in_is_not_taken_from_anybody() {
    let mut v = voter(3);
    let without = VoterSet { version: 9, members: [1, 2].map(member).into_iter().collect() };
    assert!(v.hear_set(&without).persist.is_none());
    let version = set().override_version(Epoch(1));
    let overridden = VoterSet { version, ..without };
    assert!(v.renew(Timestamp(0), &renew(1, 1)).reply.is_ok());
    // Its power returned: it hears of it in its blackout, and grants nothing afterwards.
    let mut back = Voter::restore(v.record().clone(), terms(), Timestamp(500));
    assert!(back.lease_left(Timestamp(501)) > Span::ZERO);
    assert!(back.hear_set(&overridden).persist.is_some());
}

fn won_history() -> Vec<EpochSync> {
    vec![EpochSync {
        epoch: Epoch(1),
        holder: member(1),
        sync: sync(&[2, 3], 1).into(),
        won: true,
        promoted: true,
        doubt: Doubt::default(),
    }]
}
fn grant(n: u8, lsn: u64, history: Vec<EpochSync>) -> Grant {
    Grant {
        voter: member(n),
        epoch: Epoch(2),
        candidate: member(2),
        said: Testimony {
            position: Some(Position { timeline: 1, lsn: Lsn(lsn) }),
            history,
            ..Testimony::default()
        },
        writes: 0,
    }
}
/// Of a voter that cannot say where its log ends.
fn blind(n: u8, history: Vec<EpochSync>) -> Grant {
    let mut grant = grant(n, 0, history);
    grant.said.position = None;
    grant
}

#[test]
fn a_majority_without_the_sync_quorum_is_not_enough() {
    // n2 asks with k=1 of {n2,n3}: n1's host and n2 are a majority, but a commit could still be
    // confirmed by n3.
    let mut c = Claim::new(claim(2, 2, sync(&[1, 3], 1)), set(), Timestamp(0), false);
    c.grant(grant(2, 50, won_history()));
    c.grant(blind(1, won_history()));
    assert!(matches!(c.standing(&[], false), Standing::Unfenced { .. }));
    assert!(matches!(c.account().loss(), LossAccount::Unknown { .. }));
    c.grant(grant(3, 60, won_history()));
    let Standing::Won(win) = c.standing(&[], false) else {
        panic!("two of two synchronous standbys granted")
    };
    assert_eq!(win.fence, FenceRung::SyncFenced);
    assert_eq!(win.fetch, Some(("n3".into(), Position { timeline: 1, lsn: Lsn(60) })));
    assert!(matches!(win.loss, LossAccount::None { .. }));
}

#[test]
fn what_the_holder_doubts_is_not_proved_by_grants() {
    let doubted = |number, why: Option<&str>| {
        let mut history = won_history();
        history[0].doubt = Doubt {
            number,
            why: why.map(Into::into),
            own_log: true,
            excluded: vec!["etl".into()],
            loose: vec![],
        };
        history
    };
    // The newest word of it counts, whoever has it.
    let account = |on_2, on_3| {
        let mut c = Claim::new(claim(2, 2, sync(&[1, 3], 1)), set(), Timestamp(0), false);
        c.grant(grant(2, 50, on_2));
        c.grant(grant(3, 60, on_3));
        c.account().loss()
    };
    let unknown = account(doubted(3, Some("fsync = off")), won_history());
    assert!(unknown.reason().contains("fsync = off"), "{unknown}");
    assert!(matches!(unknown, LossAccount::Unknown { .. }));
    let over = account(doubted(3, Some("fsync = off")), doubted(4, None));
    let LossAccount::None { excluded, .. } = over else { panic!("{over}") };
    assert_eq!(excluded[0], "etl");
    // Commits that do not wait are not fenced by grants either.
    let fence = |history: Vec<EpochSync>, unknown_accepted: bool| {
        let mut c = Claim::new(claim(2, 2, sync(&[1, 3], 1)), set(), Timestamp(0), false);
        [2, 3].into_iter().for_each(|n| c.grant(grant(n, 50, history.clone())));
        match c.standing(&[], unknown_accepted) {
            Standing::Won(win) => win.fence_words(),
            Standing::Unfenced { why } => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(fence(doubted(3, Some("fsync = off")), false).contains("fsync = off"));
    assert!(fence(doubted(3, Some("fsync = off")), true).contains("lease"));
    assert_eq!(fence(doubted(3, None), false), "sync-fenced by grants, but for etl");
    // Nor by the holder's own log.
    let mut c = Claim::new(claim(2, 1, sync(&[2, 3], 1)), set(), Timestamp(0), true);
    for n in [1, 2] {
        let history = doubted(1, Some("fsync = off"));
        c.grant(Grant { candidate: member(1), ..grant(n, 50, history) });
    }
    assert!(matches!(c.account().loss(), LossAccount::Unknown { .. }));
}

#[test]
fn a_voter_keeps_the_newest_doubt_durably() {
    let mut v = voter(2);
    let _ = v.renew(Timestamp(0), &renew(1, 1));
    let doubt = Doubt { number: 1, why: Some("x".into()), ..Doubt::default() };
    let said = v.renew(Timestamp(1), &Renew { doubt: doubt.clone(), ..renew(1, 1) });
    assert_eq!(said.persist.unwrap().history[0].doubt, doubt);
    let again = v.renew(Timestamp(2), &Renew { doubt: doubt.clone(), ..renew(1, 1) });
    assert!(again.persist.is_none(), "nothing new");
    // A renewal that was late does not take it back.
    let _ = v.renew(Timestamp(3), &renew(1, 1));
    assert_eq!(v.record().history[0].doubt, doubt);
}

#[test]
fn a_clean_stop_gives_an_exact_account() {
    let end = |lsn| Some(Position { timeline: 1, lsn: Lsn(lsn) });
    let mut request = claim(2, 2, sync(&[1, 3], 1));
    request.released = vec![ReleaseNotice {
        epoch: Epoch(1),
        holder: member(1),
        final_position: end(100),
        promoted: true,
        since: None,
        process: 0,
    }];
    let mut c = Claim::new(request, set(), Timestamp(0), false);
    c.grant(grant(2, 100, won_history()));
    c.grant(blind(1, won_history()));
    let Standing::Won(win) = c.standing(&[], false) else { panic!("it was released") };
    assert_eq!(win.fence, FenceRung::Stopped);
    assert!(matches!(win.loss, LossAccount::None { .. }));
    c.grant(grant(2, 40, won_history()));
    assert!(matches!(c.account().loss(), LossAccount::AtMost { bytes: 60, .. }));
}

#[test]
fn an_epoch_that_may_have_been_won_must_be_fenced_too() {
    // n3 claimed epoch 2 and vanished; n1 had granted it. It may have won with n1 and itself.
    let mut history = won_history();
    history.push(EpochSync {
        epoch: Epoch(2),
        holder: member(3),
        sync: sync(&[1, 2], 1).into(),
        won: false,
        promoted: false,
        doubt: Doubt::default(),
    });
    let mut request = claim(3, 2, sync(&[1, 3], 1));
    request.released = vec![ReleaseNotice {
        epoch: Epoch(1),
        holder: member(1),
        final_position: None,
        promoted: true,
        since: None,
        process: 0,
    }];
    let mut c = Claim::new(request, set(), Timestamp(0), false);
    let g = |n, h: Vec<EpochSync>| Grant { epoch: Epoch(3), ..grant(n, 10, h) };
    c.grant(g(1, history));
    c.grant(g(2, won_history()));
    let Standing::Won(win) = c.standing(&[], false) else {
        panic!("both synchronous standbys of epoch 2 granted")
    };
    assert_eq!(win.fence, FenceRung::SyncFenced, "the worst of the two epochs");
    // Had neither of them granted epoch 2, it cannot have been won, and only epoch 1 counts.
    let mut c2 = Claim::new(c.request().clone(), set(), Timestamp(0), false);
    c2.grant(g(1, won_history()));
    c2.grant(g(2, won_history()));
    let Standing::Won(win) = c2.standing(&[], false) else { panic!() };
    assert_eq!(win.fence, FenceRung::Stopped);
}

#[test]
fn an_abandoned_claim_does_not_strand_the_living_holder() {
    // n3 claimed epoch 2, won nothing, and gave it up; this voter never voted in it and still
    // serves n1.
    let mut v = voter(2);
    let _ = v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0));
    let _ = v.release(
        Timestamp(0),
        &ReleaseNotice {
            epoch: Epoch(2),
            holder: member(3),
            final_position: None,
            promoted: true,
            since: None,
            process: 0,
        },
    );
    assert!(v.renew(Timestamp(1), &renew(1, 1)).reply.is_ok());
}

#[test]
fn a_release_outlives_an_abandoned_claim_behind_it() {
    // n1 released epoch 1; n3 claimed and abandoned epoch 2. Epoch 1's release still proves that n1
    // stopped.
    let mut v = voter(2);
    let _ = v.renew(Timestamp(0), &renew(1, 1));
    let notice = |epoch, by| ReleaseNotice {
        epoch: Epoch(epoch),
        holder: member(by),
        final_position: None,
        promoted: true,
        since: None,
        process: 0,
    };
    let _ = v.release(Timestamp(0), &notice(1, 1));
    assert!(v.claim(Timestamp(1), &claim(2, 3, sync(&[1, 2], 1)), at(0)).reply.is_ok());
    let _ = v.release(Timestamp(0), &notice(2, 3));
    let grant = v.claim(Timestamp(2), &claim(3, 2, sync(&[1, 3], 1)), at(0)).reply.unwrap();
    assert_eq!(grant.said.released, [notice(1, 1), notice(2, 3)]);
}

/// Epoch 1 was never seen stopped; epoch 2 was promoted over it, and its holder gave it back.
#[test]
fn a_fence_speaks_of_everybody_who_was_not_seen_stopped() {
    let mut history = won_history();
    let mut second = history[0].clone();
    (second.epoch, second.holder, second.promoted) = (Epoch(2), member(2), true);
    second.doubt.loose = vec![(member(1), FenceRung::SyncFenced)];
    history = vec![second];
    let request = ClaimRequest {
        released: vec![ReleaseNotice {
            epoch: Epoch(2),
            holder: member(2),
            final_position: None,
            promoted: true,
            since: None,
            process: 0,
        }],
        ..claim(3, 3, sync(&[1, 2], 1))
    };
    let win = |from_first: Option<bool>| {
        let mut c = Claim::new(request.clone(), set(), Timestamp(0), true);
        let of =
            |n| Grant { epoch: Epoch(3), candidate: member(3), ..grant(n, 50, history.clone()) };
        c.grant(of(2));
        c.grant(of(3));
        if let Some(not_writable) = from_first {
            let mut first = of(1);
            first.said.not_writable = not_writable;
            c.grant(first);
        }
        let Standing::Won(win) = c.standing(&[], false) else { panic!("released") };
        win
    };
    let unseen = win(None);
    assert_eq!((unseen.fence, unseen.last_fence), (FenceRung::SyncFenced, FenceRung::Stopped));
    assert_eq!(unseen.loose, [(member(1), FenceRung::SyncFenced)]);
    assert!(unseen.fence_words().contains("n1 was not seen stopped since"), "{unseen:?}");
    assert_eq!(win(Some(true)).fence, FenceRung::Stopped, "its own word ends it");
    assert_eq!(win(Some(false)).fence, FenceRung::SyncFenced);
}

/// A holder finds another volume under its database: what its renewals say is not the cluster's.
#[test]
fn a_holders_later_data_is_not_the_clusters() {
    let mut v = voter(2);
    let _ = v.renew(Timestamp(0), &Renew { system: Some(1), ..renew(1, 1) });
    let _ = v.renew(Timestamp(1), &Renew { system: Some(2), ..renew(1, 1) });
    assert_eq!(v.record().data.system, Some(1));
}

/// The former holder gave the role back without a clean stop, and grants: its own log is a proof.
#[test]
fn a_former_holder_that_grants_proves_its_epoch_by_its_own_log() {
    let mut request = claim(2, 2, sync(&[1, 3], 1));
    request.released = vec![ReleaseNotice {
        epoch: Epoch(1),
        holder: member(1),
        final_position: None,
        promoted: true,
        since: None,
        process: 0,
    }];
    let of = |former: Grant| {
        let mut c = Claim::new(request.clone(), set(), Timestamp(0), false);
        c.grant(grant(2, 10, won_history()));
        c.grant(former);
        let Standing::Won(win) = c.standing(&[], false) else { panic!() };
        win
    };
    let win = of(grant(1, 12, won_history()));
    assert!(matches!(win.loss, LossAccount::None { .. }), "{}", win.loss);
    assert_eq!(win.fetch.map(|(_, p)| p.lsn), Some(Lsn(12)));
    // Not where it cannot say where its log ends, nor against its own doubt.
    let win = of(blind(1, won_history()));
    assert!(matches!(win.loss, LossAccount::Unknown { .. }), "{}", win.loss);
    let doubted = |why: &str, own_log| {
        let mut history = won_history();
        history[0].doubt =
            Doubt { number: 1, why: Some(why.into()), own_log, excluded: vec![], loose: vec![] };
        history
    };
    let win = of(grant(1, 12, doubted("fsync was off", true)));
    assert!(matches!(win.loss, LossAccount::Unknown { .. }), "{}", win.loss);
    // One of its standbys alone leaves what it flushed before it acknowledged.
    let alone = doubted("synchronous_standby_names was ''", false);
    let win = of(grant(1, 12, alone.clone()));
    assert!(matches!(win.loss, LossAccount::None { .. }), "{}", win.loss);
    let win = of(blind(1, alone));
    assert!(matches!(win.loss, LossAccount::Unknown { .. }), "{}", win.loss);
}

/// A winner is gone before anybody heard that it was promoted, and a survivor streamed its line:
/// that epoch was written in, so it closes the ones before.
#[test]
fn a_received_line_closes_what_was_before_its_epoch() {
    let mut history = won_history();
    history.push(EpochSync {
        epoch: Epoch(2),
        holder: member(3),
        sync: sync(&[1, 2], 1).into(),
        won: false,
        promoted: false,
        doubt: Doubt::default(),
    });
    let set = VoterSet { version: 1, members: (1..=4).map(member).collect() };
    let request = ClaimRequest { voters: set.clone(), ..claim(3, 2, sync(&[1, 3], 1)) };
    let on = |timeline, unproved_line| {
        let mut c = Claim::new(request.clone(), set.clone(), Timestamp(0), false);
        for (voter, line) in [(2, timeline), (4, 1), (1, 1)] {
            let position = Some(Position { timeline: line, lsn: Lsn(10) });
            let history = if voter == 4 { won_history() } else { history.clone() };
            let mut grant = Grant { epoch: Epoch(3), ..grant(voter, 10, history) };
            (grant.said.position, grant.said.unproved_line) = (position, unproved_line);
            c.grant(grant);
        }
        c.account().loss()
    };
    let LossAccount::None { proof, .. } = on(2, false) else { panic!("{}", on(2, false)) };
    assert!(proof.contains("2 synchronous standbys"), "{proof}");
    assert!(matches!(on(2, true), LossAccount::Unknown { .. }), "{}", on(2, true));
}

/// Its line is newer than the candidate's, and one of its standbys has a part of it: that part was
/// fetched and called all of its log.
#[test]
fn under_a_doubt_the_holders_own_log_counts_to_its_end() {
    let doubt = Doubt {
        number: 1,
        why: Some("synchronous_standby_names was ''".into()),
        own_log: false,
        excluded: vec![],
        loose: vec![],
    };
    let of = |doubt: Doubt, others: &[(u8, u64)]| {
        let held = EpochSync { epoch: Epoch(2), doubt, ..won_history().remove(0) };
        let mut c = Claim::new(claim(3, 2, sync(&[1, 3], 1)), set(), Timestamp(0), false);
        for (voter, line, lsn) in
            std::iter::once((2, 1, 50)).chain(others.iter().map(|(n, lsn)| (*n, 2, *lsn)))
        {
            let mut grant = Grant { epoch: Epoch(3), ..grant(voter, lsn, vec![held.clone()]) };
            grant.said.position = Some(Position { timeline: line, lsn: Lsn(lsn) });
            c.grant(grant);
        }
        (c.account().loss(), c.fetch())
    };
    let (loss, fetch) = of(doubt.clone(), &[(1, 100), (3, 60)]);
    assert!(matches!(loss, LossAccount::None { .. }), "{loss}");
    assert_eq!(fetch.map(|(_, p)| p.lsn), Some(Lsn(100)), "from the holder itself");
    let (loss, _) = of(doubt, &[(3, 60)]);
    assert!(matches!(loss, LossAccount::Unknown { .. }), "{loss}");
    // Without a doubt what it alone has was never acknowledged.
    let (loss, fetch) = of(Doubt::default(), &[(1, 100), (3, 60)]);
    assert!(matches!(loss, LossAccount::None { .. }), "{loss}");
    assert_eq!(fetch.map(|(_, p)| p.lsn), Some(Lsn(60)));
}

/// A stopped server was started by hand, and a standby that was not told followed it.
#[test]
fn log_beyond_a_final_position_makes_it_none() {
    let mut request = claim(2, 2, sync(&[1, 3], 1));
    request.released = vec![ReleaseNotice {
        epoch: Epoch(1),
        holder: member(1),
        final_position: Some(Position { timeline: 1, lsn: Lsn(1_000) }),
        promoted: true,
        since: None,
        process: 0,
    }];
    let of = |lsn| {
        let mut c = Claim::new(request.clone(), set(), Timestamp(0), false);
        c.grant(grant(2, lsn, won_history()));
        c.grant(blind(1, won_history()));
        c.account().loss()
    };
    assert!(matches!(of(1_120), LossAccount::None { .. }), "the checkpoint itself: {}", of(1_120));
    assert!(matches!(of(9_000), LossAccount::Unknown { .. }), "{}", of(9_000));
}

/// Of 12,000 claims that were never won every list kept every one, in every record, hello and
/// claim.
#[test]
fn a_hundred_thousand_claims_that_were_never_won_leave_nothing_behind() {
    let mut voters: Vec<Voter> = (1..=3).map(voter).collect();
    for v in &mut voters {
        assert!(v.claim(Timestamp(0), &claim(1, 1, sync(&[2, 3], 1)), at(0)).reply.is_ok());
        let promoted = Some(crate::model::TimelineHistory { timeline: 1, left: vec![] });
        assert!(v.renew(Timestamp(1), &Renew { promoted, ..renew(1, 1) }).reply.is_ok());
        let end = ReleaseNotice {
            epoch: Epoch(1),
            holder: member(1),
            final_position: None,
            promoted: true,
            since: None,
            process: 0,
        };
        let _ = v.release(Timestamp(2), &end);
    }
    for epoch in 2..100_000_u64 {
        let now = Timestamp(epoch * 1_000);
        let by = u8::try_from(epoch % 2 + 2).unwrap();
        let claimed = voters[usize::from(by) - 1].begin_claim(Epoch(epoch));
        assert_eq!(claimed.claimed, Some(Epoch(epoch)));
        // One voter never hears of it, and another never hears that it was given back.
        for (n, v) in
            voters.iter_mut().enumerate().filter(|(n, _)| !(*n as u64 + epoch).is_multiple_of(3))
        {
            let granted = v.claim(now, &claim(epoch, by, sync(&[1, 2], 1)), at(0)).reply;
            assert!(granted.is_ok(), "voter {n} in epoch {epoch}: {granted:?}");
        }
        let own = voters[usize::from(by) - 1].record();
        let notice = ReleaseNotice {
            epoch: Epoch(epoch),
            holder: member(by),
            final_position: None,
            promoted: false,
            since: Some(own.written_last()),
            process: 0,
        };
        assert_eq!(notice.since, Some(Epoch(1)), "the last that was written in");
        for (n, v) in voters.iter_mut().enumerate() {
            if n + 1 == usize::from(by) || (n as u64 + epoch) % 3 < 2 {
                let _ = v.release(now, &notice);
            }
        }
    }
    for v in &voters {
        let record = v.record();
        assert!(record.history.len() <= 5, "{:?}", record.history);
        assert!(record.released.len() <= 5, "{:?}", record.released);
        assert!(record.released_by(Epoch(777), &member(3)).is_some(), "it stays given back");
        assert!(
            record.last_won().is_some_and(|w| w.epoch == Epoch(1)),
            "and the last win is known"
        );
    }
    assert!(voters[2].record().given_back() >= Epoch(99_990), "no number is used again");
}

/// A release covers nothing that somebody saw won, nor what its holder wrote in.
#[test]
fn a_release_covers_no_epoch_that_may_have_been_written_in() {
    let mut v = voter(2);
    assert!(v.claim(Timestamp(0), &claim(2, 1, sync(&[2, 3], 1)), at(0)).reply.is_ok());
    assert!(v.renew(Timestamp(1), &renew(2, 1)).reply.is_ok());
    let notice = |since| ReleaseNotice {
        epoch: Epoch(4),
        holder: member(1),
        final_position: None,
        promoted: false,
        since: Some(Epoch(since)),
        process: 0,
    };
    let _ = v.release(Timestamp(2), &notice(0));
    assert!(v.record().released_by(Epoch(2), &member(1)).is_none(), "it was seen won");
    assert!(v.record().last_won().is_some());
    let mut other = voter(3);
    assert!(other.claim(Timestamp(0), &claim(2, 1, sync(&[2, 3], 1)), at(0)).reply.is_ok());
    let _ = other.release(Timestamp(2), &notice(2));
    assert!(other.record().released_by(Epoch(2), &member(1)).is_none(), "its holder wrote in it");
    assert!(other.record().released_by(Epoch(3), &member(1)).is_some());
}
