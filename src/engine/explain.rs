//! Why: the same tables that decide, for people who ask.

use super::Engine;
use crate::model::plan::Candidate;
use crate::model::view::{Explanation, Phase, Verdict};

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

    pub(super) fn answer(&self, failed: bool, candidates: &[Candidate]) -> String {
        let Some(primary) = self.subject() else {
            return "no node ever held the write role here".into();
        };
        if let Some(run) = &self.durable.run {
            let step = run.steps.iter().find(|s| s.state != crate::model::view::StepState::Done);
            return format!(
                "plan {} runs: {}",
                run.digest.short(),
                step.map_or("verified".into(), |s| format!(
                    "{} on {}: {}",
                    s.kind.word(),
                    s.node,
                    s.found
                ))
            );
        }
        if let Some(pending) = &self.durable.pending {
            return format!(
                "plan {} waits for a person: {}",
                pending.digest.short(),
                super::plans::summary(&pending.plan)
            );
        }
        let mind = &self.nodes[&primary];
        match (self.durable.phase, mind.verdict) {
            (_, _) if self.is_stuck() || failed && self.reachable_voters() < self.quorum() => {
                format!(
                    "nobody may hold the role: {} of {} voters in reach, {} needed; {primary} \
                     held it last",
                    self.reachable_voters(),
                    self.voters(),
                    self.quorum()
                )
            }
            (_, _) if failed && !self.refusal.is_empty() => {
                format!("{primary} failed, and nothing is done: {}", self.refusal)
            }
            (_, Verdict::Failed) => format!("{primary} failed ({}): a target is sought", mind.why),
            (_, Verdict::Suspect) => {
                format!("{primary} is suspect, nobody concluded that it failed: {}", mind.why)
            }
            (_, Verdict::Unknown) => format!("{primary} was not heard yet: unknown is not failed"),
            (Phase::Steady | Phase::Stabilising, _) => {
                let ready = candidates.iter().filter(|c| c.eligible).count();
                if self.shares_traffic() {
                    return format!("nothing moves: {}; {}", self.pattern_words(), self.state_why);
                }
                // That a node is healthy is no answer to commits that wait.
                if self.state >= crate::model::view::ClusterState::Degraded {
                    return format!(
                        "nothing moves, and all is not well: {}; {primary} holds the role, and \
                            {ready} nodes could take it",
                        self.state_why
                    );
                }
                format!(
                    "nothing moves because {primary} holds the role and is {}; {ready} nodes \
                        could take it",
                    mind.verdict.word()
                )
            }
            (phase, _) => format!(
                "{}: {}",
                phase.word(),
                if self.refusal.is_empty() { "it passes by itself" } else { &self.refusal }
            ),
        }
    }
}
