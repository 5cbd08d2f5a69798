//! Who answers under a member's name. A server counts a connection as a synchronous standby by its
//! application name alone, so each one has to be spoken for: by that member's own agent, asked after
//! the connection was first seen. Pure.

use std::collections::BTreeMap;

use super::super::{Receiver, Words};
use crate::model::{Span, SyncSet, Timestamp};

/// A connection that nobody has spoken for by then is not its member's. Its agent may need so long:
/// a receiver that was refused before has to last a second to be one.
pub(super) const SPOKEN_MAX: Span = Span::secs(3);
/// The same where its agent says that it was told to receive from here and cannot look into it now:
/// a database that starts streams before it lets its agent in.
const STARTS_MAX: Span = Span::secs(60);
/// Pause between two questions.
const ASK_INTERVAL: Span = Span::millis(250);

/// A connection that receives log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its process here, and when that began: process ids are used again.
    pub id: (i32, i64),
    /// Its application name.
    pub name: String,
    /// From where.
    pub place: String,
    /// It has everything, and said so a moment ago: what it says confirms commits.
    pub confirms: bool,
}

#[derive(Debug)]
struct Seen {
    connection: Connection,
    first: Timestamp,
    /// Since when nobody speaks for it.
    unspoken: Option<Timestamp>,
}

/// All connections that may confirm commits, and who spoke for them.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    seen: BTreeMap<(i32, i64), Seen>,
    asked: Timestamp,
}

impl Receivers {
    /// One look at a primary whose commits wait for `sync`. The connections that confirmed commits
    /// under a member's name and are not that member's, also when they are gone by now.
    pub(super) fn see(
        &mut self,
        now: Timestamp,
        sync: &SyncSet,
        found: &[Connection],
        words: &Words,
    ) -> Vec<Connection> {
        if sync.k == 0 {
            self.seen.clear();
            return vec![];
        }
        let named =
            |c: &&Connection| sync.members.iter().any(|m| is_name(m.node.as_str(), &c.name));
        for connection in found.iter().filter(named) {
            let seen = self.seen.entry(connection.id).or_insert_with(|| Seen {
                connection: connection.clone(),
                first: now,
                unspoken: Some(now),
            });
            seen.connection.confirms |= connection.confirms;
        }
        let mut strange = vec![];
        self.seen.retain(|id, seen| {
            let here = found.iter().any(|c| c.id == *id);
            if !named(&&seen.connection) {
                return false;
            }
            let word = words.iter().find(|(node, _)| is_name(node.as_str(), &seen.connection.name));
            match word {
                Some((_, (asked, Receiver::Here))) if *asked >= seen.first => {
                    seen.unspoken = None;
                }
                // Of one that is gone it says nothing.
                Some((_, (asked, Receiver::Not))) if here && *asked >= seen.first => {
                    seen.unspoken.get_or_insert(now);
                }
                // What was said before it came is not said of it; who is not heard says nothing.
                _ => {}
            }
            let perhaps = here
                && word.is_some_and(|(_, (asked, word))| {
                    *word == Receiver::Perhaps
                        && *asked >= seen.first
                        && now.since(*asked) < SPOKEN_MAX
                });
            let limit = if perhaps { STARTS_MAX } else { SPOKEN_MAX };
            let is_strange = seen.connection.confirms
                && seen.unspoken.is_some_and(|since| now.since(since) >= limit);
            if is_strange {
                strange.push(seen.connection.clone());
            }
            here || seen.connection.confirms && seen.unspoken.is_some() && !is_strange
        });
        strange
    }

    /// Whose agents have to be asked now.
    pub(super) fn whom_to_ask(
        &mut self,
        now: Timestamp,
        sync: &SyncSet,
    ) -> Vec<crate::model::NodeId> {
        let unspoken = |name: &str| {
            self.seen.values().any(|s| s.unspoken.is_some() && is_name(name, &s.connection.name))
        };
        let due = now.since(self.asked) >= ASK_INTERVAL;
        let nodes = sync.members.iter().map(|m| m.node.clone()).filter(|n| unspoken(n.as_str()));
        let nodes: Vec<_> = nodes.filter(|_| due).collect();
        if !nodes.is_empty() {
            self.asked = now;
        }
        nodes
    }
}

/// The server compares names without regard to case (`syncrep.c`, `SyncRepGetStandbyPriority`).
pub(super) fn is_name(node: &str, name: &str) -> bool {
    node.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Member, NodeId};

    fn at(ms: u64) -> Timestamp {
        Timestamp(Span::millis(ms).0)
    }
    fn set(k: usize) -> SyncSet {
        SyncSet { members: ["a", "b"].iter().map(|n| Member::new(*n, "")).collect(), k }
    }
    fn connection(pid: i32, name: &str) -> Connection {
        Connection { id: (pid, 0), name: name.into(), place: "10.0.0.9".into(), confirms: true }
    }
    fn says(asked: u64, word: Receiver) -> Words {
        [(NodeId::new("a"), (at(asked), word))].into_iter().collect()
    }

    #[test]
    fn one_that_its_member_speaks_for_is_its_own_and_stays_so_in_silence() {
        let mut receivers = Receivers::default();
        let own = [connection(1, "a")];
        assert!(receivers.see(at(0), &set(1), &own, &Words::new()).is_empty());
        assert_eq!(receivers.whom_to_ask(at(300), &set(1)), [NodeId::new("a")]);
        assert!(receivers.whom_to_ask(at(400), &set(1)).is_empty(), "not at every look");
        for word in [Receiver::Here, Receiver::Perhaps] {
            assert!(receivers.see(at(400), &set(1), &own, &says(300, word)).is_empty());
        }
        let hangs = receivers.see(at(80_000), &set(1), &own, &says(79_000, Receiver::Perhaps));
        assert!(hangs.is_empty(), "once spoken for");
        assert!(receivers.whom_to_ask(at(900), &set(1)).is_empty());
        let silent = receivers.see(at(90_000), &set(1), &own, &says(300, Receiver::Here));
        assert!(silent.is_empty(), "a member whose hellos are cut goes on streaming");
    }

    #[test]
    fn one_whose_member_starts_is_given_time_and_not_for_ever() {
        let mut receivers = Receivers::default();
        let own = [connection(1, "a")];
        for ms in [0, 5_000, 59_000] {
            let found = receivers.see(at(ms), &set(1), &own, &says(ms, Receiver::Perhaps));
            assert!(found.is_empty(), "{ms}");
        }
        let found = receivers.see(at(61_000), &set(1), &own, &says(60_500, Receiver::Perhaps));
        assert_eq!(found, own, "it streams, and its database never lets its agent in");
    }

    #[test]
    fn one_that_nobody_speaks_for_is_strange_and_so_is_one_that_is_gone_by_then() {
        for word in [Words::new(), says(500, Receiver::Here), says(1_200, Receiver::Not)] {
            let mut receivers = Receivers::default();
            let found = [connection(1, "A"), connection(2, "tool")];
            assert!(receivers.see(at(1_000), &set(1), &found, &word).is_empty());
            assert!(receivers.see(at(1_300), &set(1), &found, &word).is_empty());
            let strange = receivers.see(at(4_500), &set(1), &found, &word);
            assert_eq!(strange, [connection(1, "A")], "{word:?}");
            let mut receivers = Receivers::default();
            receivers.see(at(1_000), &set(1), &found, &word);
            receivers.see(at(1_300), &set(1), &[], &word);
            assert_eq!(receivers.see(at(4_500), &set(1), &[], &word), [connection(1, "A")]);
            assert!(receivers.see(at(9_000), &set(1), &[], &word).is_empty(), "said once");
        }
    }

    #[test]
    fn a_word_of_before_counts_for_nothing_and_one_that_is_taken_back_ends() {
        let mut receivers = Receivers::default();
        let own = [connection(1, "a")];
        receivers.see(at(0), &set(1), &own, &says(0, Receiver::Here));
        assert!(receivers.see(at(9_000), &set(1), &own, &says(0, Receiver::Here)).is_empty());
        // It ended, and the next one under that name is somebody else's.
        let other = [connection(2, "a")];
        receivers.see(at(9_100), &set(1), &other, &says(9_050, Receiver::Here));
        let strange = receivers.see(at(12_200), &set(1), &other, &says(9_050, Receiver::Here));
        assert_eq!(strange, other);
        let mut receivers = Receivers::default();
        receivers.see(at(0), &set(1), &own, &says(0, Receiver::Here));
        receivers.see(at(100), &set(1), &own, &says(100, Receiver::Not));
        assert_eq!(receivers.see(at(3_100), &set(1), &own, &says(100, Receiver::Not)), own);
    }

    #[test]
    fn what_cannot_confirm_a_commit_is_no_concern() {
        let mut receivers = Receivers::default();
        let behind = [Connection { confirms: false, ..connection(1, "a") }];
        receivers.see(at(0), &set(1), &behind, &Words::new());
        assert!(receivers.see(at(9_000), &set(1), &behind, &Words::new()).is_empty());
        receivers.see(at(0), &set(0), &[connection(1, "a")], &Words::new());
        let nobody_waits = receivers.see(at(9_000), &set(0), &[connection(1, "a")], &Words::new());
        assert!(nobody_waits.is_empty());
    }
}
