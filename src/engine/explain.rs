//! Why: the same tables that decide, for people who ask.

use super::Engine;
use crate::model::outlook::Answer;
use crate::model::plan::Candidate;
use crate::model::view::{ClusterState, Explanation, Phase, StepState, Verdict};

impl Engine {
    /// Why it is as it is now. Records of the past are the store's and are added by the caller.
    pub fn explain(&self) -> Explanation {
        let view = self.view();
        let holder = self.durable.holder.as_ref();
        let (constraints, candidates) =
            (view.outlook.constraints.clone(), view.outlook.candidates.clone());
        let failing = |c: &&Candidate| c.checks.iter().filter(|k| !k.passed).count();
        let nearest = candidates
            .iter()
            .filter(|c| !c.eligible)
            .min_by_key(failing)
            .filter(|_| candidates.iter().all(|c| !c.eligible));
        Explanation {
            cluster: self.cluster.cluster_id.clone(),
            made: self.wall,
            answer: view.outlook.answer.clone(),
            state: view.state,
            why: view.why.clone(),
            phase: view.phase.clone(),
            nodes: view.nodes.clone(),
            nearest: nearest.map(|c| c.node.clone()),
            loss: holder.map(|h| self.loss_of_failure(h, &candidates)),
            constraints,
            candidates,
            recent: vec![],
        }
    }

    pub(super) fn answer(&self, failed: bool, candidates: &[Candidate]) -> Answer {
        let Some(primary) = self.subject() else { return Answer::NeverHeld };
        if let Some(run) = &self.durable.run {
            let step = run.steps.iter().find(|s| s.state != StepState::Done);
            return Answer::Runs {
                plan: run.digest.clone(),
                step: step.map(|s| (s.kind, s.node.clone(), s.found.clone())),
            };
        }
        if let Some(pending) = &self.durable.pending {
            let what = super::plans::summary(&pending.plan);
            return Answer::Waits { plan: pending.digest.clone(), what };
        }
        let mind = &self.nodes[&primary];
        let ready = candidates.iter().filter(|c| c.eligible).count();
        match (self.durable.phase, mind.verdict) {
            (_, _) if self.is_stuck() || failed && self.reachable_voters() < self.quorum() => {
                Answer::NobodyMay { last: primary, count: self.count() }
            }
            (_, _) if failed && !self.refusal.is_empty() => {
                Answer::Refused { primary, why: self.refusal.clone() }
            }
            (_, Verdict::Failed) => Answer::Failed { why: mind.why.clone(), primary },
            (_, Verdict::Suspect) => Answer::Suspect { why: mind.why.clone(), primary },
            (_, Verdict::Unknown) => Answer::NotHeard { primary },
            (Phase::Steady | Phase::Stabilising, _) if self.shares_traffic() => {
                Answer::Shared { pattern: self.cluster.pattern, why: self.state_why.clone() }
            }
            // That a node is healthy is no answer to commits that wait.
            (Phase::Steady | Phase::Stabilising, _) if self.state >= ClusterState::Degraded => {
                Answer::NotWell { primary, why: self.state_why.clone(), ready }
            }
            (Phase::Steady | Phase::Stabilising, verdict) => {
                Answer::Well { primary, verdict, ready }
            }
            (phase, _) => Answer::Passes { phase, why: self.refusal.clone() },
        }
    }
}
