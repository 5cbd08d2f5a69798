//! A candidate that won the votes of everybody in reach, and refused the role for what it would
//! lose or for how the former holder is fenced, would do so again: every attempt uses an epoch up
//! and changes nothing. After a few equal refusals it claims no more until the evidence changes, or
//! a person accepts what cannot be proved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::constraints::check;
use super::{Engine, Run, candidates};
use crate::model::observation::ArmedStage;
use crate::model::plan::Check;
use crate::model::record::shape;
use crate::model::view::Verdict;
use crate::model::{NodeId, Span, Timestamp};

/// Equal refusals before nobody tries again.
const EQUAL_MAX: u32 = 3;
/// A voter that is heard and did not grant is not counted on for so long.
const WITHHELD_FOR: Span = Span::secs(30);

/// Refusals on the same evidence.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stalemate {
    /// What was known when they were made.
    evidence: Vec<String>,
    /// How often each candidate refused, and why.
    refusals: BTreeMap<NodeId, (u32, String)>,
}

impl Engine {
    /// The facts that an account and a fence rest on, without what an attempt itself changes.
    fn evidence(&self) -> Vec<String> {
        let reach = |age: Option<Span>| age.is_some_and(|age| age <= candidates::FRESH);
        let of = |(node, mind): (&NodeId, &super::mind::NodeMind)| {
            let heard = mind.verdict <= Verdict::Degraded && reach(mind.age(self.now));
            let Some(report) = mind.report.as_ref().filter(|_| heard) else {
                return format!("{node}: not in reach");
            };
            let peers: Vec<&str> = report
                .peers
                .iter()
                .filter(|p| reach(p.answered))
                .map(|p| p.node.as_str())
                .collect();
            format!(
                "{:?} {} line {} {:?} {} {} voters {} {} sees {}",
                report.member,
                report.resource.state.word(),
                report.resource.position.timeline,
                report.data_fault,
                report.vote.unproved_line,
                report.vote.history_signed,
                report.vote.voters_version,
                report.vote.votes,
                peers.join(" ")
            )
        };
        let mut evidence: Vec<String> = self.nodes.iter().map(of).collect();
        evidence.push(format!("acknowledged {}", self.durable.acknowledged.0));
        evidence
    }

    /// A run ended because its candidate gave up.
    pub(super) fn note_refusal(&mut self, run: &Run) {
        let to = &run.plan.to.node;
        let armed = self.nodes.get(to).and_then(|m| m.report.as_ref()?.armed.clone());
        let Some(armed) =
            armed.filter(|a| a.plan == run.digest && a.stage == ArmedStage::Abandoned)
        else {
            return;
        };
        if armed.loss.is_none() {
            return;
        }
        // One more grant could have made the difference: whoever is heard and gave none, time and
        // again, is not counted on for a while, and then it is tried again.
        let withheld = |(node, mind): (&NodeId, &super::mind::NodeMind)| {
            let votes = mind.report.as_ref().is_some_and(|r| r.vote.votes);
            let heard = mind.age(self.now).is_some_and(|age| age <= candidates::FRESH);
            (votes && heard && !armed.granted.contains(node)).then(|| node.clone())
        };
        let missing: Vec<NodeId> = self.nodes.iter().filter_map(withheld).collect();
        self.withheld.retain(|node, _| missing.contains(node));
        for node in &missing {
            let (count, at) = self.withheld.entry(node.clone()).or_insert((0, self.now));
            let in_a_row = self.now.since(*at) < WITHHELD_FOR;
            (*count, *at) = (if in_a_row { *count + 1 } else { 1 }, self.now);
        }
        if !missing.is_empty() {
            return;
        }
        let evidence = self.evidence();
        if evidence != self.stalemate.evidence {
            self.stalemate = Stalemate { evidence, refusals: BTreeMap::new() };
        }
        let known = self.stalemate.refusals.entry(to.clone()).or_default();
        let equal = shape(&known.1) == shape(&armed.why);
        *known = (if equal { known.0 + 1 } else { 1 }, armed.why);
    }

    /// It was asked for its grant, lately and time and again, and gave none.
    pub(super) fn withholds(&self, node: &NodeId) -> bool {
        let lately = |at: Timestamp| self.now.since(at) < WITHHELD_FOR;
        self.withheld.get(node).is_some_and(|(count, at)| *count >= EQUAL_MAX && lately(*at))
    }

    /// It has refused often enough on this evidence.
    pub(super) fn refusals_check(&self, node: &NodeId) -> Option<Check> {
        let (count, why) = self.stalemate.refusals.get(node)?;
        let again = *count < EQUAL_MAX || self.evidence() != self.stalemate.evidence;
        Some(check(
            REFUSALS,
            again,
            format!("won and refused {count} times for the same reason: {why}"),
            format!("fewer than {EQUAL_MAX} on the same evidence"),
            "a node that knows more is heard again, or a person accepts an unknown loss",
        ))
    }
}

/// The check's name; a person who accepts what cannot be proved overrules it.
pub(super) const REFUSALS: &str = "refusals";
