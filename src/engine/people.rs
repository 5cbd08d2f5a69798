//! What people order, and how the world's word comes in. A refusal is an answer with the check that failed.

use super::decision::Making;
use super::input::PersonOrder;
use super::plans::Wish;
use super::{Engine, Pending, rules};
use crate::model::command::{Command, Order};
use crate::model::observation::NodeReport;
use crate::model::plan::Plan;
use crate::model::view::{Phase, Verdict};
use crate::model::{Digest, Member, NodeId};

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
        let moved = self.moved(&pending.plan);
        if !moved.is_empty() {
            return refuse("world moved", moved.join("; "));
        }
        let name = pending.plan.demoted().map(NodeId::as_str);
        if name != Some(demoted) {
            return refuse("typed name", format!("{demoted:?} is not the node that this plan demotes"));
        }
        Ok(())
    }

    /// What is no longer as it was when the plan was made, as "then → now".
    pub(super) fn moved(&self, plan: &Plan) -> Vec<String> {
        let mut moved = vec![];
        if plan.epoch != self.durable.epoch {
            moved.push(format!("epoch {} → {}", plan.epoch, self.durable.epoch));
        }
        if plan.from != self.durable.holder {
            let name = |m: Option<&Member>| m.map_or("nobody".to_owned(), |m| m.node.as_str().to_owned());
            moved.push(format!("holder {} → {}", name(plan.from.as_ref()), name(self.durable.holder.as_ref())));
        }
        if let Some(from) = &plan.from {
            let kind_holds = (self.nodes.get(&from.node).is_some_and(|m| m.verdict == Verdict::Failed)) != plan.kind.is_planned();
            if !kind_holds {
                let verdict = self.nodes.get(&from.node).map_or("unknown", |m| m.verdict.word());
                moved.push(format!("{} is {verdict}, and the plan is a {}", from.node, plan.kind.word()));
            }
        }
        let now = self.candidates(plan.demoted());
        match now.iter().find(|c| c.node == plan.to.node) {
            Some(c) if c.eligible => {}
            Some(c) => {
                for check in c.checks.iter().filter(|k| !k.passed) {
                    let then = plan.candidates.iter().find(|p| p.node == c.node);
                    let then =
                        then.and_then(|p| p.checks.iter().find(|k| k.name == check.name)).map_or("not checked", |k| k.value.as_str());
                    moved.push(format!("{}: {} {then} → {} (limit {})", c.node, check.name, check.value, check.limit));
                }
            }
            None => moved.push(format!("{} is no node of this cluster any more", plan.to.node)),
        }
        let member = self.nodes.get(&plan.to.node).and_then(|m| m.report.as_ref()).map(|r| &r.member);
        if member.is_some_and(|m| *m != plan.to) {
            moved.push(format!("{} was reinstalled", plan.to.node));
        }
        moved
    }

    pub(super) fn person(&mut self, making: &mut Making, who: &str, order: PersonOrder) {
        match order {
            PersonOrder::Propose { to, reason, accept_unknown_loss, failback } => {
                if self.durable.run.is_some() {
                    self.refusal = "a plan runs; one at a time".into();
                    return;
                }
                let wish = Wish { to: to.as_ref(), failback, requested_by: who, reason: &reason, accept_unknown_loss };
                match self.make_plan(&wish) {
                    Ok(plan) => {
                        self.refusal.clear();
                        let digest = plan.digest();
                        let text = format!("{who} asks for plan {}: {}", digest.short(), super::plans::summary(&plan));
                        let data = serde_json::to_value(&plan).unwrap_or_default();
                        self.note(making, rules::PROPOSED, who, "plan", text, data);
                        self.durable.pending = Some(Pending { plan, digest, since: self.now });
                    }
                    Err(refusal) => self.refusal = refusal.why,
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
            PersonOrder::Verify { reason } => {
                let Some(primary) = self.primary() else {
                    "no node ever held the write role".clone_into(&mut self.refusal);
                    return;
                };
                let id = format!("{}/{}/verify/{}", self.cluster.cluster_id, self.durable.epoch, self.now.0);
                let text = format!("{who} wants a real write on {primary} read back: {reason}");
                self.note(making, rules::VERIFY_ASKED, who, "command", text, serde_json::Value::Null);
                making.command(primary, Command { id, order: Order::Prove });
            }
            PersonOrder::Acknowledge { reason } => {
                self.durable.acknowledged = self.wall;
                self.note(making, rules::ACKNOWLEDGED, who, "acknowledgement", format!("{who}: {reason}"), serde_json::Value::Null);
                self.retry_at = self.now;
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
