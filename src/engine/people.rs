//! What people order, and how the world's word comes in. A refusal is an answer with the check that failed.

use super::decision::Making;
use super::input::PersonOrder;
use super::{Engine, Pending, rules};
use crate::model::observation::NodeReport;
use crate::model::view::Phase;
use crate::model::{Digest, NodeId};

impl Engine {
    pub(super) fn hear(&mut self, report: NodeReport) -> bool {
        let node = report.member.node.clone();
        let primary_end = self.primary().and_then(|p| self.nodes.get(&p)).and_then(|m| m.report.as_ref()).map(|r| r.resource.position);
        let is_data = self.is_data(&node);
        let now = self.now;
        let Some(mind) = self.nodes.get_mut(&node) else { return false };
        let news = mind.hear(now, report);
        let position = mind.report.as_ref().map(|r| r.resource.position);
        let lag =
            primary_end.zip(position).filter(|(end, p)| is_data && end.timeline == p.timeline).map(|(end, p)| end.lsn.bytes_since(p.lsn));
        mind.remember_lag(now, lag);
        news
    }

    /// Whether an order would be taken, before it goes in: the answer a person gets at once.
    ///
    /// # Errors
    /// The check that failed, and why in words.
    pub fn would_execute(&self, plan: &Digest, demoted: &str) -> Result<(), (String, String)> {
        let refuse = |check: &str, why: String| Err((check.to_owned(), why));
        if let Some(run) = &self.durable.run {
            return refuse("one run at a time", format!("plan {} runs", run.digest.short()));
        }
        let Some(pending) = self.durable.pending.as_ref().filter(|p| p.digest == *plan) else {
            return refuse("plan", format!("no plan {} waits here; it was dropped, executed or replaced. Ask for a new one", plan.short()));
        };
        if pending.plan.epoch != self.durable.epoch || pending.plan.from != self.durable.holder {
            return refuse("world moved", format!("the plan was made in epoch {}, now it is {}", pending.plan.epoch, self.durable.epoch));
        }
        let name = pending.plan.demoted().map(NodeId::as_str);
        if name != Some(demoted) {
            return refuse("typed name", format!("{demoted:?} is not the node that this plan demotes"));
        }
        let table = self.candidates(pending.plan.demoted());
        let target = table.iter().find(|c| c.node == pending.plan.to.node);
        match target {
            Some(c) if c.eligible => Ok(()),
            Some(c) => {
                let failed: Vec<String> = c.checks.iter().filter(|k| !k.passed).map(|k| format!("{} is {}", k.name, k.value)).collect();
                refuse("candidate", format!("{} is no longer eligible: {}", c.node, failed.join(", ")))
            }
            None => refuse("candidate", "the target is gone".into()),
        }
    }

    pub(super) fn person(&mut self, making: &mut Making, who: &str, order: PersonOrder) {
        match order {
            PersonOrder::Propose { to, reason, accept_unknown_loss } => {
                if self.durable.run.is_some() {
                    self.refusal = "a plan runs; one at a time".into();
                    return;
                }
                match self.make_plan(to.as_ref(), who, &reason, accept_unknown_loss) {
                    Ok(plan) => {
                        self.refusal.clear();
                        let digest = plan.digest();
                        let text = format!("{who} asks for plan {}: {}", digest.short(), super::plans::summary(&plan));
                        let data = serde_json::to_value(&plan).unwrap_or_default();
                        self.note(making, rules::PROPOSED, who, "plan", text, data);
                        self.durable.pending = Some(Pending { plan, digest, since: self.now });
                    }
                    Err(why) => self.refusal = why,
                }
            }
            PersonOrder::Execute { plan, demoted, approval } => {
                if let Err((_, why)) = self.would_execute(&plan, &demoted) {
                    self.refusal = why;
                    return;
                }
                let Some(pending) = self.durable.pending.take() else { return };
                let text = format!("{who} confirmed plan {}: {}", plan.short(), approval.reason);
                let data = serde_json::to_value(&approval).unwrap_or_default();
                self.note(making, rules::EXECUTED, who, "approval", text, data);
                self.begin(making, pending.plan, vec![approval]);
            }
            PersonOrder::Dismiss { plan, reason } => {
                if self.durable.pending.as_ref().is_some_and(|p| p.digest == plan) {
                    self.durable.pending = None;
                    self.note(
                        making,
                        rules::DISMISSED,
                        who,
                        "plan",
                        format!("{who} dropped plan {}: {reason}", plan.short()),
                        serde_json::Value::Null,
                    );
                    if self.durable.phase == Phase::AwaitingApproval {
                        self.set_phase(Phase::NeedsPerson);
                        self.retry_at = self.now + self.policy.approval_timeout;
                    }
                }
            }
        }
    }

    /// Why the last order or attempt was refused.
    pub fn refusal(&self) -> &str {
        &self.refusal
    }
}
