//! Changes of who votes and confirms do not leave commits waiting for one that is gone.

use super::tests::{at, holding, member, writable};
use super::*;
use crate::model::command::VoterOrder;
use crate::wire::message::{Hello, PeerReply};

fn hello(of: Member) -> PeerReply {
    PeerReply::Hello(Hello {
        member: of,
        voters_version: 1,
        voters: None,
        won: None,
        line: None,
        resource_runs: true,
        releases: vec![],
        shares: None,
        writes: 0,
        known: vec![],
        contests: false,
        report: None,
    })
}

fn order(remove: &str, add: Option<Member>) -> VoterOrder {
    VoterOrder {
        cluster: "c".into(),
        from_version: 1,
        remove: Some(member(remove)),
        add,
        reason: String::new(),
    }
}

/// n3 would be the last that confirms, and it is gone: the change began, and every commit waited.
#[test]
fn who_confirms_is_not_removed_where_nobody_would_be_left_to() {
    let mut machine = holding();
    let refused = machine.wish(at(10), order("n2", None)).unwrap_err();
    assert!(refused.contains("too few of those that would be left answer"), "{refused}");
    let _ = machine.reply(at(11), &"n3".into(), hello(member("n3")));
    assert_eq!(machine.wish(at(12), order("n2", None)), Ok(()));
}

/// Both standbys were reinstalled: each waited for the other, and nothing was ever written.
#[test]
fn a_replacement_comes_first_where_nobody_else_is_left_to_confirm() {
    let changes = |n3: Member| {
        let mut machine = holding();
        if let Tenure::Holding { holder, .. } = &mut machine.tenure {
            // Its promise outlives it.
            holder.granted(&member("n3"), at(9));
        }
        let new = Member::new("n2", "b");
        let _ = machine.reply(at(10), &"n2".into(), hello(new.clone()));
        let _ = machine.reply(at(11), &"n3".into(), hello(n3));
        machine.wish(at(12), order("n2", Some(new))).unwrap();
        let turn = machine.observed(at(13), writable(&machine));
        let Tenure::Holding { holder, .. } = machine.tenure() else { panic!("{turn:?}") };
        (holder.next_voters().is_some(), holder.sync().sets.len())
    };
    assert_eq!(changes(member("n3")), (false, 2), "who is gone confirms no more, and then votes");
    assert_eq!(changes(Member::new("n3", "b")), (true, 1), "nobody is left: the votes first");
}

#[test]
fn a_change_that_nobody_is_left_to_confirm_gives_way_to_the_next() {
    let mut machine = holding();
    let _ = machine.reply(at(11), &"n3".into(), hello(member("n3")));
    machine.wish(at(12), order("n2", None)).unwrap();
    drop(machine.observed(at(13), writable(&machine)));
    let other = || order("n3", Some(Member::new("n3", "b")));
    let busy = machine.wish(at(14), other()).unwrap_err();
    assert!(busy.contains("another change is under way"), "{busy}");
    // n3 is heard no more.
    assert_eq!(machine.wish(at(4_000), other()), Ok(()));
}

/// With n3 gone, three of four would have to promise: a change that would never be in force would
/// keep every other from beginning.
#[test]
fn a_voter_is_not_added_where_the_change_would_never_be_in_force() {
    let mut machine = holding();
    machine.setup.nodes.insert("n4".into());
    let add = || VoterOrder { remove: None, ..order("n3", Some(member("n4"))) };
    let refused = machine.wish(at(11), add()).unwrap_err();
    assert!(refused.contains("3 of the 4 voters") && refused.contains("2 do"), "{refused}");
    let _ = machine.reply(at(12), &"n4".into(), hello(member("n4")));
    machine.wish(at(13), add()).unwrap();
    let turn = machine.observed(at(14), writable(&machine));
    let Tenure::Holding { holder, .. } = machine.tenure() else { panic!("{turn:?}") };
    assert!(holder.next_voters().is_some() && holder.holds(at(15)));
    // What another holder may have begun is closed first.
    assert_eq!(holder.next_voters().unwrap().members, holder.voters().members);
}
