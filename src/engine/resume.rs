//! Who held the role last takes it back: when that is possible. It has its own log, flushed before
//! anything was acknowledged, so it loses nothing unless somebody may have won since.

use super::candidates::{FRESH, heard_check};
use super::constraints::check;
use super::{Engine, rooms};
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::plan::{Candidate, Check, Word};
use crate::model::{Member, NodeId};

impl Engine {
    /// It was heard lately, so what it says of itself is about now.
    pub(super) fn speaks(&self, node: &NodeId) -> bool {
        self.nodes.get(node).and_then(|m| m.age(self.now)).is_some_and(|age| age <= FRESH)
    }

    /// Reports that are about now.
    pub(super) fn said(&self) -> impl Iterator<Item = &NodeReport> {
        self.nodes
            .values()
            .filter(|m| m.age(self.now).is_some_and(|age| age <= FRESH))
            .filter_map(|m| m.report.as_ref())
    }

    /// The former holder first, through its own checks, then the others.
    pub(super) fn resume_table(&self, from: &Member) -> Vec<Candidate> {
        let checks = self.resume_checks(from);
        let eligible = checks.iter().all(|c| c.passed);
        let rank = u32::from(eligible);
        let mut table = vec![Candidate { node: from.node.clone(), eligible, rank, checks }];
        table.extend(self.candidates(Some(&from.node)).into_iter().map(|mut other| {
            other.rank += u32::from(other.eligible) * rank;
            other
        }));
        table
    }

    /// Whether the former holder could take the role back now.
    pub(super) fn resume_checks(&self, from: &Member) -> Vec<Check> {
        let mind = &self.nodes[&from.node];
        let age = mind.age(self.now);
        let holder = self.said().find(|r| r.holding.is_some());
        let mut checks = vec![
            check(
                "nobody holds the role",
                holder.is_none(),
                holder.map_or(Word::Borrowed("nobody who is heard"), |r| {
                    r.member.node.as_str().to_owned().into()
                }),
                "nobody",
                "a switchover moves it",
            ),
            heard_check(age, "its host and its agent run and reach this plane"),
        ];
        checks.push(self.promotion_check(&from.node));
        checks.extend(self.cluster.node(&from.node).and_then(|n| self.residency(n).0));
        let Some(report) = mind.report.as_ref() else { return checks };
        let mut measured = |mut check: Check| {
            (check.source, check.age) = ("report".into(), age);
            checks.push(check);
        };
        let same = report.member == *from;
        measured(check(
            "installation",
            same,
            if same { "the one that held the role" } else { "another: it was reinstalled" },
            "the one that held the role",
            "nothing: what it acknowledged is not here any more",
        ));
        let state = &report.resource.state;
        let here = report.data.system.is_some() && *state != ResourceState::Rebuilding;
        let data = match &report.data_fault {
            Some(fault) => fault.to_string(),
            None if here => "its own".into(),
            None => "none here".into(),
        };
        measured(check(
            "data",
            here && report.data_fault.is_none(),
            data,
            "what it had when it held the role",
            "its own data is put back",
        ));
        measured(check(
            "database",
            !matches!(state, ResourceState::Hung | ResourceState::Unknown),
            state.word(),
            "stopped, starting or standby",
            "its database answers, or is stopped",
        ));
        measured(check(
            "votes",
            report.vote.votes,
            if report.cannot_save() { "it cannot save what it promises" } else { "see voter set" },
            "a voter of this cluster",
            "its state folder takes its record again, or it is admitted",
        ));
        let least = self.policy.constraints.disk_free_min;
        let (free, wanted) = rooms::tightest(report, least);
        measured(check("disk", rooms::enough(report, least), free, wanted, "space is freed"));
        checks
    }
}
