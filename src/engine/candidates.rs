//! Who could take the role: every node through every check, each with its measured value, its limit and what would change
//! it; the survivors in order. The whole table is kept, shown and audited.

use super::Engine;
use crate::model::observation::ResourceState;
use crate::model::plan::{Candidate, Check};
use crate::model::topology::{Node, Role};
use crate::model::view::Verdict;
use crate::model::{NodeId, Position, Span};

/// A report older than this says too little to choose a node by.
pub const FRESH: Span = Span::secs(2);
/// A target has at least this much free disk, in bytes.
pub const DISK_FREE_MIN: u64 = 64 << 20;

impl Engine {
    /// The furthest log that is known on any node but `from`.
    pub(super) fn furthest(&self, from: Option<&NodeId>) -> Option<Position> {
        self.cluster
            .data_nodes()
            .filter(|n| Some(&n.node_id) != from)
            .filter_map(|n| self.nodes[&n.node_id].report.as_ref())
            .filter(|r| !matches!(r.resource.state, ResourceState::Stopped(_)))
            .map(|r| r.resource.position)
            .max()
    }

    /// The table for a move away from `from`.
    pub(super) fn candidates(&self, from: Option<&NodeId>) -> Vec<Candidate> {
        let furthest = self.furthest(from);
        let mut table: Vec<(Candidate, Option<&Node>)> = self
            .cluster
            .nodes
            .iter()
            .filter(|n| Some(&n.node_id) != from)
            .map(|node| {
                let checks = self.checks(node, furthest);
                let eligible = checks.iter().all(|c| c.passed);
                (Candidate { node: node.node_id.clone(), eligible, rank: 0, checks }, Some(node))
            })
            .collect();
        let place = |list: &[String], word: &str| list.iter().position(|w| w == word).unwrap_or(list.len());
        table.sort_by(|(a, node_a), (b, node_b)| {
            let key = |node: Option<&Node>| {
                node.map(|n| (place(&self.policy.region_priority, &n.region), place(&self.policy.site_priority, &n.site), -n.priority))
            };
            let capacity = |node: Option<&Node>| node.map_or(0.0, |n| n.capacity);
            let position = |c: &Candidate| self.nodes[&c.node].report.as_ref().map(|r| r.resource.position);
            b.eligible
                .cmp(&a.eligible)
                .then_with(|| key(*node_a).cmp(&key(*node_b)))
                .then_with(|| capacity(*node_b).total_cmp(&capacity(*node_a)))
                .then_with(|| position(b).cmp(&position(a)))
                .then_with(|| a.node.cmp(&b.node))
        });
        let mut rank = 0;
        for (candidate, _) in &mut table {
            if candidate.eligible {
                rank += 1;
                candidate.rank = rank;
            }
        }
        table.into_iter().map(|(candidate, _)| candidate).collect()
    }

    fn checks(&self, node: &Node, furthest: Option<Position>) -> Vec<Check> {
        let mind = &self.nodes[&node.node_id];
        let report = mind.report.as_ref();
        let check = |name: &str, passed: bool, value: String, limit: &str, would_change: &str| Check {
            name: name.to_owned(),
            passed,
            value,
            limit: limit.to_owned(),
            would_change: if passed { String::new() } else { would_change.to_owned() },
        };
        let age = mind.age(self.now);
        let mut checks = vec![
            check(
                "holds data",
                node.role != Role::Witness,
                if node.role == Role::Witness { "no" } else { "yes" }.to_owned(),
                "yes",
                "a witness never holds data",
            ),
            check(
                "heard",
                age.is_some_and(|a| a <= FRESH),
                age.map_or("never".to_owned(), |a| if a <= FRESH { "within 2 s".to_owned() } else { format!("{a} ago") }),
                "within 2 s",
                "its agent reports again",
            ),
            check(
                "verdict",
                matches!(mind.verdict, Verdict::Healthy | Verdict::Degraded),
                mind.verdict.word().to_owned(),
                "healthy or degraded",
                "its verdict recovers",
            ),
        ];
        let Some(report) = report.filter(|_| node.role != Role::Witness) else { return checks };
        let resource = &report.resource;
        checks.push(check(
            "standby runs",
            resource.state == ResourceState::Standby,
            resource.state.word().to_owned(),
            "standby",
            "its database runs as a standby",
        ));
        checks.push(check(
            "votes",
            report.vote.voters_version > 0,
            format!("voter set version {}", report.vote.voters_version),
            "a voter of this cluster",
            "it is admitted to the voter set",
        ));
        let same_line = furthest.is_none_or(|f| f.timeline == resource.position.timeline);
        checks.push(check(
            "timeline",
            same_line,
            resource.position.timeline.to_string(),
            &furthest.map_or("any".to_owned(), |f| f.timeline.to_string()),
            "it follows the newest timeline",
        ));
        let lag = furthest.map_or(0, |f| f.lsn.bytes_since(resource.position.lsn));
        checks.push(check(
            "lag",
            lag <= self.policy.max_lag_bytes,
            format!("{lag} B"),
            &format!("{} B", self.policy.max_lag_bytes),
            "it catches up",
        ));
        checks.push(check(
            "disk",
            resource.disk_free >= DISK_FREE_MIN || resource.disk_total == 0,
            format!("{} MiB free", resource.disk_free >> 20),
            &format!("{} MiB free", DISK_FREE_MIN >> 20),
            "space is freed",
        ));
        checks
    }
}
