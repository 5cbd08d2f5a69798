//! What the guarded settings in force say against the account, and how far the synchronous set has
//! confirmed. Pure.

use super::doubt::{Scope, Wrong};
use super::receivers::{Connection, is_name};
use super::settings::{FLUSHING, WAITING};
use super::sql::{OwnSetting, PrimaryLook};
use crate::model::observation::StandbyFacts;
use crate::model::topology::Unsynchronised;
use crate::model::{Lsn, SyncSet};

/// The n-th furthest position of the set; nothing while fewer are connected.
pub(super) fn nth(
    sync: &SyncSet,
    standbys: &[StandbyFacts],
    n: usize,
    of: fn(&StandbyFacts) -> Lsn,
) -> Lsn {
    let mut reached: Vec<Lsn> = sync
        .members
        .iter()
        .filter_map(|m| standbys.iter().filter(|s| s.node == m.node).map(of).min())
        .collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    n.checked_sub(1).and_then(|at| reached.get(at)).copied().unwrap_or_default()
}

/// How far enough of the set have flushed that any claim's grants include one that has it: as many
/// as a claim needs, and as a commit waits for.
pub(super) fn confirmed(sync: &SyncSet, standbys: &[StandbyFacts], own: Lsn) -> Lsn {
    if sync.k == 0 {
        return own;
    }
    let enough = sync.k.max(sync.members.len() + 1 - sync.k.min(sync.members.len()));
    nth(sync, standbys, enough, |s| s.flushed)
}

/// A connection that confirmed commits under a member's name, and that is not that member's.
pub(super) fn strange(connection: &Connection) -> Wrong {
    let what = format!(
        "a receiver from {} answers under the name {}, and that node's agent does not say that it \
         is its own: its word may have confirmed a commit; mend: end it, or give it another \
         application_name; where that agent is down, start it",
        connection.place, connection.name
    );
    Wrong { what, scope: Scope::Transactions, own_log: false }
}

/// Whether such commits are what the account takes them for, where `k` standbys confirm them.
fn is_fine(synchronous_commit: &str, k: usize) -> bool {
    let fine = if k > 0 { WAITING } else { FLUSHING };
    fine.contains(&synchronous_commit)
}

/// What roles, databases and subscriptions have for themselves, against the account; and those that
/// the policy lists, whose commits are outside it.
pub(super) fn own_settings(
    found: &[OwnSetting],
    k: usize,
    listed: &Unsynchronised,
) -> (Vec<Wrong>, Vec<String>) {
    let (mut wrong, mut excluded) = (vec![], vec![]);
    for own in found.iter().filter(|own| !is_fine(&own.value, k)) {
        if own.is_listed(listed) {
            excluded.push(format!(
                "commits of {} (synchronous_commit = {}, listed in the policy)",
                own.whose(),
                own.value
            ));
            continue;
        }
        // A subscription's worker takes its value up between two transactions, and confirms to its
        // publisher what is flushed here.
        let by_session = own.subscription.is_none();
        let what = format!(
            "synchronous_commit = {} for {} (mend: {}): its commits are acknowledged before a \
             standby has them",
            own.value,
            own.whose(),
            own.mend()
        );
        wrong.push(Wrong {
            what,
            scope: if by_session { Scope::Sessions } else { Scope::Transactions },
            own_log: by_session && !FLUSHING.contains(&own.value.as_str()),
        });
    }
    (wrong, excluded)
}

/// What the guarded settings in force say against the account, and whose commits are outside it.
pub(super) fn guarded(
    look: &PrimaryLook,
    sync: &SyncSet,
    listed: &Unsynchronised,
    agent: &(String, String),
) -> (Vec<Wrong>, Vec<String>) {
    let (mut wrong, mut excluded) = (vec![], vec![]);
    let fine = |value: &str| is_fine(value, sync.k);
    let [fsync, pages, commits] = &look.guarded.server;
    for (name, value) in [("fsync", fsync), ("full_page_writes", pages)] {
        if value != "on" {
            let what = format!(
                "{name} = {value} is in force: this server was not started by its agent; mend: a \
                 switchover, then restart it through the agent"
            );
            wrong.push(Wrong { what, scope: Scope::Transactions, own_log: true });
        }
    }
    let mine = |own: &OwnSetting| {
        own.subscription.is_none()
            && own.role.as_ref().is_none_or(|r| *r == agent.0)
            && own.database.as_ref().is_none_or(|d| *d == agent.1)
    };
    if !fine(commits) && !look.guarded.own.iter().any(mine) {
        let what = format!(
            "synchronous_commit = {commits} is in force in the server: commits are acknowledged \
             before a standby has them; mend: ALTER SYSTEM RESET synchronous_commit, take it out \
             of the configuration files, and reload"
        );
        let own_log = !FLUSHING.contains(&commits.as_str());
        wrong.push(Wrong { what, scope: Scope::Transactions, own_log });
    }
    let (own, listed_ones) = own_settings(&look.guarded.own, sync.k, listed);
    wrong.extend(own);
    excluded.extend(listed_ones);
    for name in look
        .guarded
        .twice
        .iter()
        .filter(|n| sync.members.iter().any(|m| is_name(m.node.as_str(), n)))
    {
        let what = format!(
            "two receivers answer under the name {name}: one is not that node, and its word may \
             have confirmed a commit; mend: end it, and give it another application_name"
        );
        wrong.push(Wrong { what, scope: Scope::Transactions, own_log: false });
    }
    (wrong, excluded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::STREAMING;
    use crate::model::{Member, NodeId};

    fn set(k: usize) -> SyncSet {
        let members = ["a", "b", "c", "d"].iter().map(|n| Member::new(*n, "")).collect();
        SyncSet { members, k }
    }
    fn standbys(flushed: &[(&str, u64)]) -> Vec<StandbyFacts> {
        flushed
            .iter()
            .map(|(node, lsn)| StandbyFacts {
                node: NodeId::new(*node),
                state: STREAMING.into(),
                sync_state: "quorum".into(),
                sent: Lsn(*lsn),
                flushed: Lsn(*lsn),
                replayed: Lsn(*lsn),
                lag_bytes: 0,
                lag: None,
            })
            .collect()
    }

    #[test]
    fn confirmed_is_what_any_claim_would_find() {
        let seen = standbys(&[("a", 40), ("b", 30), ("c", 20), ("tool", 99), ("d", 10)]);
        assert_eq!(confirmed(&set(1), &seen, Lsn(50)), Lsn(10), "4 − 1 + 1 of 4");
        assert_eq!(confirmed(&set(3), &seen, Lsn(50)), Lsn(20), "a commit waits for 3");
        assert_eq!(confirmed(&set(0), &seen, Lsn(50)), Lsn(50));
        assert_eq!(confirmed(&set(1), &seen[..2], Lsn(50)), Lsn(0), "too few are connected");
        let double = standbys(&[("a", 40), ("a", 5)]);
        assert_eq!(nth(&set(1), &double, 1, |s| s.flushed), Lsn(5), "of two names the lesser");
    }

    #[test]
    fn a_listed_role_is_excluded_by_name_and_another_is_wrong() {
        let own = |role: Option<&str>, database: Option<&str>| OwnSetting {
            subscription: None,
            role: role.map(Into::into),
            database: database.map(Into::into),
            value: "off".into(),
        };
        let on = || "on".to_owned();
        let mut look = PrimaryLook::default();
        look.guarded.server = [on(), on(), on()];
        look.guarded.own = vec![own(Some("etl"), None), own(Some("app"), Some("logs"))];
        let listed = Unsynchronised { roles: vec!["etl".into()], databases: vec!["logs".into()] };
        let agent = ("postgres".to_owned(), "postgres".to_owned());
        let (wrong, excluded) = guarded(&look, &set(1), &listed, &agent);
        assert!(wrong.is_empty() && excluded.len() == 2, "{wrong:?} {excluded:?}");
        assert!(excluded[0].contains("role etl"), "{excluded:?}");
        let (wrong, excluded) = guarded(&look, &set(1), &Unsynchronised::default(), &agent);
        assert!(excluded.is_empty());
        assert!(
            wrong[0].what.contains("ALTER ROLE \"etl\" RESET synchronous_commit")
                && wrong[1].what.contains("IN DATABASE \"logs\""),
            "{wrong:?}"
        );
        look.guarded.own.clear();
        look.guarded.server = [on(), on(), "local".into()];
        assert_eq!(guarded(&look, &set(1), &listed, &agent).0.len(), 1);
        assert!(guarded(&look, &set(0), &listed, &agent).0.is_empty(), "nobody is waited for");
        look.guarded.server = ["off".into(), on(), on()];
        look.guarded.twice = vec!["a".into(), "tool".into()];
        assert_eq!(guarded(&look, &set(1), &listed, &agent).0.len(), 2);
    }
}
