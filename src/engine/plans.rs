//! Making a plan: the conditions for any move, the target, the steps with their budgets, the loss account before the
//! button.

use super::Engine;
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::observation::ResourceState;
use crate::model::plan::{Candidate, Plan, PlanKind, Step, StepKind};
use crate::model::view::Verdict;
use crate::model::{Member, NodeId, Span};

impl Engine {
    /// A plan for a move of the role, to `to` or to the best candidate.
    ///
    /// # Errors
    /// In words: the check that failed and what would change it.
    pub(super) fn make_plan(
        &mut self,
        to: Option<&NodeId>,
        requested_by: &str,
        reason: &str,
        accept_unknown: bool,
    ) -> Result<Plan, String> {
        let from = self.durable.holder.clone().ok_or("no node ever held the write role")?;
        let kind = if self.nodes[&from.node].verdict == Verdict::Failed { PlanKind::Failover } else { PlanKind::Switchover };
        let source = self.nodes[&from.node].report.as_ref();
        if kind == PlanKind::Switchover && source.is_none_or(|r| r.holding.is_none()) {
            return Err(format!("{} neither holds a confirmed lease nor is it known to have failed: wait for a verdict", from.node));
        }
        let table = self.candidates(Some(&from.node));
        let chosen = choose(&table, to)?;
        let member = self.nodes[&chosen].report.as_ref().map(|r| r.member.clone()).ok_or("the candidate was never heard")?;
        let by_policy = requested_by.starts_with("policy ");
        self.conditions(&from.node, by_policy)?;
        let loss = self.expected_loss(&from, kind);
        if !accept_unknown && !loss.within(self.policy.max_loss_bytes) {
            return Err(format!(
                "the loss would be {} and the policy allows {} B ({}); a person may accept an unknown loss",
                loss.short(),
                self.policy.max_loss_bytes,
                loss.reason()
            ));
        }
        self.durable.plans += 1;
        Ok(Plan {
            number: self.durable.plans,
            cluster: self.cluster.cluster_id.clone(),
            kind,
            epoch: self.durable.epoch,
            steps: self.steps(kind, &from.node, &chosen),
            from: Some(from),
            to: member,
            made: self.wall,
            requested_by: requested_by.to_owned(),
            reason: reason.to_owned(),
            least_fence: FenceRung::SyncFenced,
            loss,
            max_loss_bytes: self.policy.max_loss_bytes,
            accept_unknown_loss: accept_unknown,
            budget: self.policy.max_failover_time,
            candidates: table,
        })
    }

    /// Conditions for any move: enough voters in reach to win, and what the policy asks for.
    fn conditions(&self, from: &NodeId, by_policy: bool) -> Result<(), String> {
        let reachable: Vec<&NodeId> = self
            .nodes
            .iter()
            .filter(|(_, m)| {
                m.age(self.now).is_some_and(|a| a < Span::secs(2)) && m.report.as_ref().is_some_and(|r| r.vote.voters_version > 0)
            })
            .map(|(n, _)| n)
            .collect();
        if reachable.len() < self.cluster.quorum_size {
            return Err(format!(
                "quorum: {} of {} voters are in reach, {} are needed to win an epoch; bring one back",
                reachable.len(),
                self.cluster.nodes.len(),
                self.cluster.quorum_size
            ));
        }
        let well = self.nodes.iter().filter(|(n, m)| *n != from && matches!(m.verdict, Verdict::Healthy | Verdict::Degraded)).count();
        if by_policy && well < self.policy.min_healthy_nodes.min(self.cluster.nodes.len() - 1) {
            return Err(format!(
                "min_healthy_nodes: {well} nodes besides {from} are well, the policy wants {}",
                self.policy.min_healthy_nodes
            ));
        }
        Ok(())
    }

    /// What is known before the move. The candidate computes it again from the grants and refuses beyond the limit.
    pub(super) fn expected_loss(&self, from: &Member, kind: PlanKind) -> LossAccount {
        let k = self.cluster.synchronous_standbys;
        let source = self.nodes[&from.node].report.as_ref();
        let cancelled = source.map_or(0, |r| r.resource.unsynchronised_sessions);
        let excluded = if cancelled > 0 {
            vec![
                format!("{cancelled} commits whose wait for a standby was cancelled (warning 01000)"),
                "local and asynchronous commits".into(),
            ]
        } else {
            vec!["commits whose wait was cancelled (none seen), local and asynchronous commits".into()]
        };
        if kind == PlanKind::Switchover {
            return LossAccount::None {
                proof: format!("{} is stopped cleanly first, and its last byte must be on the candidate", from.node),
                by: vec![from.node.clone()],
                excluded: vec![],
            };
        }
        let members: Vec<NodeId> = self.cluster.data_nodes().map(|n| n.node_id.clone()).filter(|n| *n != from.node).collect();
        let reachable: Vec<NodeId> = members
            .iter()
            .filter(|n| {
                let mind = &self.nodes[*n];
                mind.verdict <= Verdict::Degraded
                    && mind.age(self.now).is_some_and(|a| a < Span::secs(2))
                    && mind.report.as_ref().is_some_and(|r| r.resource.state == ResourceState::Standby)
            })
            .cloned()
            .collect();
        if k > 0 && reachable.len() > members.len() - k {
            let names: Vec<&str> = reachable.iter().map(NodeId::as_str).collect();
            return LossAccount::None {
                proof: format!(
                    "every acknowledged write is on {k} of {} synchronous standbys; {} are in reach and at least one of them has it",
                    members.len(),
                    names.join(", ")
                ),
                by: reachable,
                excluded,
            };
        }
        let stopped = source.and_then(|r| match &r.resource.state {
            ResourceState::Stopped(evidence) => evidence.final_position,
            _ => None,
        });
        match (stopped, self.furthest(Some(&from.node))) {
            (Some(end), Some(reached)) if end.timeline == reached.timeline => LossAccount::AtMost {
                bytes: end.lsn.bytes_since(reached.lsn),
                span: None,
                proof: format!("{} stopped at {end}, the furthest log elsewhere ends at {reached}", from.node),
            },
            _ if k == 0 => LossAccount::Unknown {
                why: format!("{} acknowledged without waiting for a standby, and where its log ends is not known", from.node),
            },
            _ => LossAccount::Unknown {
                why: format!(
                    "{} of {} synchronous standbys are in reach; an acknowledged write may be only on the others",
                    reachable.len(),
                    members.len()
                ),
            },
        }
    }

    fn steps(&self, kind: PlanKind, from: &NodeId, to: &NodeId) -> Vec<Step> {
        let lease = self.cluster.lease;
        let step = |kind, node: &NodeId, action: &str, precondition: &str, verification: &str, compensation: &str, budget| Step {
            kind,
            node: node.clone(),
            action: action.into(),
            precondition: precondition.into(),
            verification: verification.into(),
            compensation: compensation.into(),
            budget,
        };
        let claim_budget = Span(lease.0 * 2 + Span::secs(5).0);
        let (fence_action, fence_check, fence_undo, fence_budget) = match kind {
            PlanKind::Switchover => (
                format!("checkpoint, stop {from} cleanly, give epoch {} back", self.durable.epoch),
                "no process of it remains; its final position is known; the release is durable at a voter",
                format!("{from} takes the role back after {} if nobody won", self.policy.reclaim_after),
                Span::secs(30),
            ),
            PlanKind::Failover => (
                format!(
                    "wait until {from} cannot acknowledge: its own word, or its lease has run out and its synchronous standbys granted"
                ),
                "stopped, or sync-fenced by grants",
                "nothing was changed".to_owned(),
                claim_budget,
            ),
        };
        vec![
            step(
                StepKind::Arm,
                to,
                &format!("arm {to} with this plan"),
                "it is eligible",
                "its agent says it is armed",
                "disarm",
                Span::secs(3),
            ),
            step(StepKind::Fence, from, &fence_action, "the candidate is armed", fence_check, &fence_undo, fence_budget),
            step(
                StepKind::Claim,
                to,
                "win the next epoch from a majority of voters, and fetch log that a granter has and it lacks",
                "the voters' promise to the old holder has ended",
                "a majority granted, durably; the loss account is within the plan",
                "the epoch is abandoned and released",
                claim_budget,
            ),
            step(
                StepKind::Promote,
                to,
                "load the epoch's synchronous set, promote to the timeline of the epoch's number",
                "won, and a guard runs",
                "it accepts writes on that timeline under its lease",
                "its database is stopped, the epoch released; the next best candidate is tried",
                Span::secs(30),
            ),
            step(
                StepKind::Follow,
                to,
                "the other nodes follow the new primary",
                "it is promoted",
                "as many standbys stream as commits wait for",
                "none: a standby that cannot follow is rebuilt by its agent",
                Span::secs(30),
            ),
            step(
                StepKind::Verify,
                to,
                "commit a real write and read it back",
                "commits can be confirmed",
                "it was read back; lease, timeline and freshness hold",
                "none: the role has moved; a person decides what is missing",
                Span::secs(15),
            ),
        ]
    }
}

fn choose(table: &[Candidate], to: Option<&NodeId>) -> Result<NodeId, String> {
    let failing = |c: &Candidate| {
        let failed: Vec<String> =
            c.checks.iter().filter(|k| !k.passed).map(|k| format!("{} is {} (limit {})", k.name, k.value, k.limit)).collect();
        format!("{}: {}", c.node, failed.join(", "))
    };
    match to {
        Some(node) => match table.iter().find(|c| c.node == *node) {
            None => Err(format!("{node} is not a node of this cluster that the role could move to")),
            Some(c) if c.eligible => Ok(c.node.clone()),
            Some(c) => Err(format!("not eligible: {}", failing(c))),
        },
        None => match table.iter().find(|c| c.rank == 1) {
            Some(c) => Ok(c.node.clone()),
            None => Err(format!("no safe candidate: {}", table.iter().map(failing).collect::<Vec<_>>().join("; "))),
        },
    }
}

/// A plan in one line.
pub fn summary(plan: &Plan) -> String {
    let from = plan.from.as_ref().map_or("nobody", |m| m.node.as_str());
    format!("{} {from} → {}, loss {}", plan.kind.word(), plan.to.node, plan.loss.short())
}
