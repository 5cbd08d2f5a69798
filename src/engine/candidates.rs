//! Who could take the role: every node through every check, each with its measured value, its limit
//! and what would change it; the survivors in order. The whole table is kept, shown and audited.

use std::cmp::{Ordering, Reverse};

use super::constraints::{CRASH_LOOP, check};
use super::draining::DRAINED;
use super::{Engine, rooms, serves};
use crate::model::observation::ResourceState;
use crate::model::plan::{Candidate, Check, Word};
use crate::model::topology::{Node, Role};
use crate::model::view::Verdict;
use crate::model::{NodeId, Position, Span};

/// Capacities in their total order.
#[derive(PartialEq)]
struct Capacity(f64);
impl Eq for Capacity {}
impl PartialOrd for Capacity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Capacity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The check that its database runs.
pub(super) const RUNS: &str = "standby runs";

/// It has no data, and never had.
pub(super) fn is_empty(state: &ResourceState) -> bool {
    matches!(state, ResourceState::Stopped(stop) if stop.is_of_nothing())
}

/// Bytes of log that a standby has caught up with before anybody would notice.
const NEAR: u64 = 1 << 20;

/// A report older than this says too little to choose a node by.
pub const FRESH: Span = Span::secs(2);

impl Engine {
    /// The furthest log that is known on any node but `from`.
    pub(super) fn furthest(&self, from: Option<&NodeId>) -> Option<Position> {
        self.cluster
            .data_nodes()
            .filter(|n| Some(&n.node_id) != from)
            .filter_map(|n| self.nodes[&n.node_id].report.as_ref())
            .filter(|r| !matches!(r.resource.state, ResourceState::Stopped(_)))
            .filter(|r| r.data_fault.is_none())
            .map(|r| r.resource.position)
            .max()
    }

    /// The table for a move away from `from`.
    pub(super) fn candidates(&self, from: Option<&NodeId>) -> Vec<Candidate> {
        self.candidates_unless(from, |_| false)
    }

    /// The table for a failover of `from`: a guard against restless targets must not be the outage,
    /// so with nobody else left the one that fell least often is taken.
    pub(super) fn targets(
        &self,
        from: &NodeId,
        overruled: impl Fn(&Check) -> bool,
    ) -> Vec<Candidate> {
        let table = self.candidates_unless(Some(from), &overruled);
        if table.iter().any(|c| c.eligible) {
            return table;
        }
        self.candidates_unless(Some(from), |c| overruled(c) || yields_to_an_outage(c))
    }

    /// The same, where some checks that fail are overruled.
    pub(super) fn candidates_unless(
        &self,
        from: Option<&NodeId>,
        overruled: impl Fn(&Check) -> bool,
    ) -> Vec<Candidate> {
        let furthest = self.furthest(from);
        let mut table: Vec<(Candidate, &Node)> = self
            .cluster
            .nodes
            .iter()
            .filter(|n| Some(&n.node_id) != from)
            .map(|node| {
                let checks = self.checks(node, from, furthest);
                let eligible = checks.iter().all(|c| c.passed || overruled(c));
                (Candidate { node: node.node_id.clone(), eligible, rank: 0, checks }, node)
            })
            .collect();
        // What the order is made of is looked up once for each, not once for each comparison.
        let place =
            |list: &[String], word: &str| list.iter().position(|w| w == word).unwrap_or(list.len());
        // While the log grows, reports of different moments make no order by a few bytes.
        let grows = self.said().any(|r| r.holding.is_some());
        let unit = if grows { NEAR } else { 1 };
        let place_in_log = |at: Position| {
            let behind = furthest.map_or(0, |end| end.lsn.bytes_since(at.lsn));
            (at.timeline, Reverse(behind / unit))
        };
        let key = |(candidate, node): &(Candidate, &Node)| {
            let report = self.nodes[&node.node_id].report.as_ref();
            let position = report.map(|r| place_in_log(r.resource.position));
            let first = if self.policy.constraints.data_first { position } else { None };
            let places = (
                place(&self.policy.region_priority, &node.region),
                place(&self.policy.site_priority, &node.site),
            );
            let before = (
                !candidate.eligible,
                self.fell_too_often(&node.node_id),
                self.gave_up(&node.node_id),
                self.promotion_rule(&node.node_id),
            );
            (
                before,
                Reverse(first),
                places,
                -node.priority,
                Reverse(Capacity(node.capacity)),
                Reverse(position),
                node.node_id.clone(),
            )
        };
        table.sort_by_cached_key(key);
        let mut rank = 0;
        for (candidate, _) in &mut table {
            if candidate.eligible {
                rank += 1;
                candidate.rank = rank;
            }
        }
        table.into_iter().map(|(candidate, _)| candidate).collect()
    }

    /// How often it gave up in this epoch.
    fn gave_up(&self, node: &NodeId) -> usize {
        self.given_up.iter().filter(|(epoch, n)| *epoch == self.durable.epoch && n == node).count()
    }

    /// By regions, sites, priority and capacity; less is preferred.
    pub(super) fn preference(&self, a: &Node, b: &Node) -> Ordering {
        let place =
            |list: &[String], word: &str| list.iter().position(|w| w == word).unwrap_or(list.len());
        let key = |n: &Node| {
            (
                place(&self.policy.region_priority, &n.region),
                place(&self.policy.site_priority, &n.site),
                -n.priority,
            )
        };
        key(a).cmp(&key(b)).then_with(|| b.capacity.total_cmp(&a.capacity))
    }

    fn checks(&self, node: &Node, from: Option<&NodeId>, furthest: Option<Position>) -> Vec<Check> {
        let mind = &self.nodes[&node.node_id];
        let report = mind.report.as_ref();
        let age = mind.age(self.now);
        let mut checks = vec![
            match (node.role, report.map(|r| &r.resource.state)) {
                (Role::Witness, _) => {
                    check("holds data", false, "no", "yes", "a witness never holds data")
                }
                (_, None | Some(ResourceState::Unknown)) => {
                    check("holds data", false, "unknown", "yes", "its agent looks at it")
                }
                (_, Some(state)) if is_empty(state) => check(
                    "holds data",
                    false,
                    "no: empty, never copied",
                    "yes",
                    "it is cloned from a primary",
                ),
                _ => check("holds data", true, "yes", "yes", ""),
            },
            heard_check(age, "its agent reports again"),
            check(
                "verdict",
                matches!(mind.verdict, Verdict::Healthy | Verdict::Degraded),
                mind.verdict.word(),
                "healthy or degraded",
                "its verdict recovers",
            ),
        ];
        checks.extend(self.drained_check(&node.node_id));
        checks.push(self.promotion_check(&node.node_id));
        checks.extend(self.residency(node).0);
        let Some(report) = report.filter(|_| node.role != Role::Witness) else { return checks };
        let resource = &report.resource;
        let mut measured = |mut check: Check| {
            (check.source, check.age) = ("report".into(), age);
            checks.push(check);
        };
        let shares = self.shares_traffic();
        let runs = resource.state == ResourceState::Standby
            || shares && resource.state == ResourceState::Primary;
        measured(check(
            RUNS,
            runs,
            resource.state.word(),
            if shares { "standby or primary" } else { "standby" },
            "its database runs as a standby",
        ));
        if let Some(fault) = &report.data_fault {
            measured(check(
                "data",
                false,
                fault.to_string(),
                "the cluster's, as far as this node once had it",
                "it is rewound or cloned from the primary",
            ));
        }
        if !shares {
            let word = match (report.vote.votes, report.cannot_save()) {
                (true, _) => "yes",
                (false, true) => "no: it cannot save what it promises",
                (false, false) => "no: it is not in the voter set",
            };
            measured(check(
                "votes",
                report.vote.votes,
                word,
                "yes",
                if report.cannot_save() {
                    "its state folder takes its record again"
                } else {
                    "it is readmitted"
                },
            ));
            let same_line = furthest.is_none_or(|f| f.timeline == resource.position.timeline);
            measured(check(
                "timeline",
                same_line,
                match resource.position.timeline {
                    0 => Word::Borrowed("unknown"),
                    timeline => timeline.to_string().into(),
                },
                furthest.map_or(Word::Borrowed("any"), |f| f.timeline.to_string().into()),
                "it follows the newest timeline",
            ));
        }
        // Where several write, each has a log of its own: how far the others' copies are is in
        // their reports.
        let behind = |node: &NodeId| {
            let copies = self
                .nodes
                .values()
                .filter_map(|m| m.report.as_ref())
                .flat_map(|r| &r.resource.standbys);
            copies.filter(|s| s.node == *node).map(|s| s.lag_bytes).max().unwrap_or(0)
        };
        let lag = if shares {
            behind(&node.node_id)
        } else {
            furthest.map_or(0, |f| f.lsn.bytes_since(resource.position.lsn))
        };
        let most = self.policy.max_lag_bytes;
        // Where it does not run, nobody knows how far it would come.
        let known = runs;
        measured(check(
            "lag",
            known && lag <= most,
            if known { format!("{lag} B").into() } else { Word::Borrowed("unknown") },
            format!("{most} B"),
            "it runs and catches up",
        ));
        if let Some(serving) = resource.serving.as_ref().filter(|_| !shares && runs) {
            measured(serves::replays(resource, serving));
        }
        if let Some(refuses) = serves::refuses_writes(resource).filter(|_| !shares) {
            measured(refuses);
        }
        let least = self.policy.constraints.disk_free_min;
        let (free, wanted) = rooms::tightest(report, least);
        measured(check("disk", rooms::enough(report, least), free, wanted, "space is freed"));
        let major = |version: &str| version.split(['.', ' ']).next().unwrap_or_default().to_owned();
        let of_source = from
            .and_then(|f| self.nodes.get(f))
            .and_then(|m| m.report.as_ref())
            .map(|r| major(&r.resource.version));
        let (mine, theirs) = (major(&resource.version), of_source.filter(|v| !v.is_empty()));
        measured(check(
            "version",
            theirs.as_ref().is_none_or(|t| *t == mine),
            if resource.version.is_empty() { "unknown".into() } else { resource.version.clone() },
            theirs.map_or(Word::Borrowed("any"), |t| format!("{t}, as the primary's").into()),
            "the same major version is installed",
        ));
        let (score, least) = (
            super::health::usual_score(mind, &self.policy, self.now),
            self.policy.constraints.decision.target_at_least,
        );
        measured(check(
            "health",
            super::health::is_fit(mind.fit, score, least),
            match (known, self.speaks(&node.node_id)) {
                (true, true) => milli(score).into(),
                (true, false) => Word::Borrowed("unknown: it is not heard"),
                (false, _) => Word::Borrowed("unknown: it does not run"),
            },
            milli(least),
            "its checks answer within their limits",
        ));
        checks.extend(self.followed_check(&node.node_id));
        checks.push(self.crash_loop_check(&node.node_id));
        checks.extend(self.refusals_check(&node.node_id));
        checks
    }
}

/// What keeps a planned move away, and is not worth an outage: with nobody else left it is
/// overruled.
pub(super) fn yields_to_an_outage(check: &Check) -> bool {
    [CRASH_LOOP, DRAINED, serves::REPLAYS, serves::WRITES, serves::FOLLOWED].contains(&&*check.name)
}

/// Whether a node's word is about now; `mends`: what would make it so.
pub(super) fn heard_check(age: Option<Span>, mends: &'static str) -> Check {
    let said = age.map_or(Word::Borrowed("never"), |a| {
        if a <= FRESH { "within 2 s".into() } else { format!("{a} ago").into() }
    });
    check("heard", age.is_some_and(|a| a <= FRESH), said, "within 2 s", mends)
}

/// A score for people: 0.85.
pub(super) fn milli(score: u64) -> String {
    format!("{}.{:02}", score / 1_000, score % 1_000 / 10)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{World, gave_back, report};
    use super::*;
    use crate::model::Lsn;
    use crate::model::topology::Strategy;

    /// The sentence about the next primary changed its name with every report.
    #[test]
    fn a_few_bytes_make_no_order_while_the_log_grows() {
        let mut world = World::calm(Strategy::Manual);
        let at = |node: &str, lsn: u64| {
            let mut r = if lsn == 0 { gave_back(node) } else { report(node) };
            r.resource.position.lsn = Lsn(lsn.max(100));
            r
        };
        let first = |world: &World| {
            let table = world.engine.candidates(Some(&"n1".into()));
            table.first().map(|c| c.node.clone())
        };
        world.hear(at("n3", 5_000));
        assert_eq!(first(&world), Some("n2".into()));
        world.hear(at("n3", 5_000 + 2 * NEAR));
        assert_eq!(first(&world), Some("n3".into()), "it has megabytes more");
        // Nothing is added to it any more: every byte counts.
        world.hear(at("n3", 5_000));
        world.hear(at("n1", 0));
        assert_eq!(first(&world), Some("n3".into()));
    }
}
