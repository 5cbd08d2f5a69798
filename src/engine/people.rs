//! What people order, and how the world's word comes in. A refusal is an answer with the check that
//! failed.

use super::decision::Making;
use super::input::PersonOrder;
use super::plans::Wish;
use super::{Engine, Pending, rules};
use crate::model::command::{Command, HistoryOrder, Order, OverrideOrder, VoterOrder};
use crate::model::observation::NodeReport;
use crate::model::plan::{Check, Plan, PlanKind};
use crate::model::view::{Phase, Verdict};
use crate::model::{Digest, Member, NodeId};

/// After a stall of the plane reports come for so long that were sent before.
const BACKLOG: crate::model::Span = crate::model::Span::millis(400);

impl Engine {
    pub(super) fn hear(&mut self, report: NodeReport) -> bool {
        let node = report.member.node.clone();
        let primary_end = self
            .primary()
            .and_then(|p| self.nodes.get(&p))
            .and_then(|m| m.report.as_ref())
            .map(|r| r.resource.position);
        let is_data = self.is_data(&node);
        let now = self.now;
        let Some(mind) = self.nodes.get_mut(&node) else { return false };
        // What waited while this plane stood still is no word about now.
        let waited = self.stalled && now.since(self.started) < BACKLOG;
        let news = mind.hear((!waited).then_some(now), report);
        let position = mind.report.as_ref().map(|r| r.resource.position);
        let lag = primary_end
            .zip(position)
            .filter(|(end, p)| is_data && end.timeline == p.timeline)
            .map(|(end, p)| end.lsn.bytes_since(p.lsn));
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
            return refuse(
                "plan",
                format!(
                    "no plan {} waits here; it was dropped, executed or replaced. Ask for a new \
                        one",
                    plan.short()
                ),
            );
        };
        let moved = self.moved(&pending.plan);
        if !moved.is_empty() {
            return refuse("world moved", moved.join("; "));
        }
        let name = pending.plan.demoted().map(NodeId::as_str);
        if name != Some(demoted) {
            return refuse(
                "typed name",
                format!("{demoted:?} is not the node that this plan demotes"),
            );
        }
        Ok(())
    }

    /// Whether a change of the voter set would be taken, before it goes in.
    ///
    /// # Errors
    /// The check that failed, and why in words.
    pub fn would_change_voters(&self, order: &VoterOrder) -> Result<(), (String, String)> {
        let refuse = |check: &str, why: String| Err((check.to_owned(), why));
        if let Some(run) = &self.durable.run {
            return refuse("one run at a time", format!("plan {} runs", run.digest.short()));
        }
        let holder = self
            .primary()
            .and_then(|p| self.nodes.get(&p))
            .and_then(|m| m.report.as_ref())
            .filter(|r| r.holding.is_some());
        let Some(report) = holder else {
            return refuse(
                "holder",
                "no node that is heard holds the write role; with too few voters left there is only an override".into(),
            );
        };
        if report.vote.voters_version != order.from_version {
            return refuse(
                "world moved",
                format!(
                    "it was made for voter set version {}, now it is {}",
                    order.from_version, report.vote.voters_version
                ),
            );
        }
        if let (None, Some(add)) = (&order.remove, &order.add)
            && !report.vote.members.contains(add)
        {
            let voters = report.vote.members.len() + 1;
            let promised = report.holding.as_ref().map_or(0, |h| h.promised_by.len());
            let majority = voters / 2 + 1;
            // One alone can promise no more than one; who comes answers, or waits.
            if promised < majority && voters > 2 {
                return refuse(
                    "promises",
                    format!(
                        "{majority} of the {voters} voters that there would be have to promise, \
                         and {promised} do: remove or readmit one that is gone first"
                    ),
                );
            }
        }
        for member in [&order.remove, &order.add].into_iter().flatten() {
            if self.cluster.node(&member.node).is_none() {
                return refuse(
                    "cluster file",
                    format!("{} is not declared in the cluster file", member.node),
                );
            }
        }
        Ok(())
    }

    /// Whether it would be passed on that a node's data is the history: only without a holder, while
    /// no node's data is the cluster's by the marks.
    ///
    /// # Errors
    /// The check that failed, and why in words.
    pub fn would_take_history(&self, order: &HistoryOrder) -> Result<(), (String, String)> {
        let refuse = |check: &str, why: String| Err((check.to_owned(), why));
        let reports = || self.nodes.values().filter_map(|m| m.report.as_ref());
        if let Some(holder) = reports().find(|r| r.holding.is_some()) {
            let why =
                format!("{} holds the write role: its data is the history", holder.member.node);
            return refuse("holder", why);
        }
        let fresh = |m: &&super::mind::NodeMind| {
            m.age(self.now).is_some_and(|a| a < crate::model::Span::secs(2))
        };
        let mut heard = self.nodes.values().filter(fresh).filter_map(|m| m.report.as_ref());
        if let Some(sound) = heard
            .clone()
            .find(|r| r.data.system.is_some() && r.data_fault.is_none() && r.member != order.member)
        {
            let why = format!(
                "{} has the cluster's data, as far as it once had it: move the role there",
                sound.member.node
            );
            return refuse("data", why);
        }
        match heard.find(|r| r.member == order.member) {
            Some(r) if r.data.system == Some(order.system) => Ok(()),
            Some(r) => refuse(
                "data",
                format!(
                    "{} has system {:?} now, not {}",
                    r.member.node, r.data.system, order.system
                ),
            ),
            None => refuse("heard", format!("{} is not heard", order.member.node)),
        }
    }

    /// Whether no lease runs that a voter which is heard has promised: until then voters refuse to
    /// hear whose data is the history.
    ///
    /// # Errors
    /// The check that failed, and why in words.
    pub fn no_lease_runs(&self) -> Result<(), (String, String)> {
        let left = |m: &super::mind::NodeMind| {
            let vote = &m.report.as_ref().filter(|r| !r.vote.released)?.vote;
            vote.lease_left.0.checked_sub(m.age(self.now)?.0).filter(|left| *left > 0)
        };
        let Some(left) = self.nodes.values().filter_map(left).max() else { return Ok(()) };
        let why = format!(
            "a lease was promised that runs for {} more: until then a node may hold the role; the \
             same order is good after that",
            crate::model::Span(left)
        );
        Err(("lease".into(), why))
    }

    /// Whether an override would be passed on: only without a holder, and never for a node that is
    /// heard.
    ///
    /// # Errors
    /// The check that failed, and why in words.
    pub fn would_override(&self, order: &OverrideOrder) -> Result<(), (String, String)> {
        let refuse = |check: &str, why: String| Err((check.to_owned(), why));
        let holds = self.nodes.values().any(|m| {
            m.verdict <= Verdict::Degraded && m.report.as_ref().is_some_and(|r| r.holding.is_some())
        });
        if holds {
            return refuse("holder", "a node holds the write role: change the voter set the ordinary way (`quorate node remove`)".into());
        }
        // Whoever was reinstalled speaks under its name and is another.
        let is = |m: &Member, mind: &super::mind::NodeMind| {
            mind.report.as_ref().is_none_or(|r| r.member == *m)
        };
        let heard = |m: &&Member| {
            self.nodes.get(&m.node).is_some_and(|n| {
                is(m, n) && n.age(self.now).is_some_and(|a| a < crate::model::Span::secs(10))
            })
        };
        if let Some(alive) = order.remove.iter().find(heard) {
            return refuse(
                "attestation",
                format!("{} was heard within the last 10 s: it is not powered off", alive.node),
            );
        }
        let fresh = self
            .nodes
            .values()
            .filter(|m| m.age(self.now).is_some_and(|a| a < crate::model::Span::secs(2)));
        for report in fresh.filter_map(|m| m.report.as_ref()) {
            let lately = |age: crate::model::Span| age < crate::model::Span::secs(5);
            let named = |node: &NodeId| {
                let removed = order.remove.iter().find(|r| r.node == *node);
                removed.is_some_and(|r| self.nodes.get(node).is_none_or(|n| is(r, n)))
            };
            if let Some(seen) =
                report.peers.iter().find(|p| named(&p.node) && p.answered.is_some_and(lately))
            {
                let why = format!(
                    "{} answered {} within the last 5 s: it is not powered off",
                    seen.node, report.member.node
                );
                return refuse("attestation", why);
            }
        }
        self.no_lease_runs()
    }

    /// What is no longer as it was when the plan was made, as "then → now".
    pub(super) fn moved(&self, plan: &Plan) -> Vec<String> {
        let mut moved = vec![];
        if plan.epoch != self.durable.epoch {
            moved.push(format!("epoch {} → {}", plan.epoch, self.durable.epoch));
        }
        if plan.shares.is_empty() && plan.from != self.durable.holder {
            let name =
                |m: Option<&Member>| m.map_or("nobody".to_owned(), |m| m.node.as_str().to_owned());
            moved.push(format!(
                "holder {} → {}",
                name(plan.from.as_ref()),
                name(self.durable.holder.as_ref())
            ));
        }
        // What was proved may not be any more: whom it rested on is gone, or was reinstalled.
        if let Some(from) = plan.from.as_ref().filter(|_| {
            plan.shares.is_empty() && !plan.kind.is_planned() && !plan.accept_unknown_loss
        }) {
            let loss = self.expected_loss(from, &plan.to, plan.kind);
            if !loss.within(plan.max_loss_bytes) {
                moved.push(format!("loss {} → {loss}", plan.loss.short()));
            }
        }
        if let Some(from) = plan.from.as_ref().filter(|_| plan.kind == PlanKind::Resume) {
            let failing = self.resume_checks(from).into_iter().filter(|c| !c.passed);
            moved.extend(failing.map(|c| format!("{}: {} {}", from.node, c.name, c.value)));
            return moved;
        }
        if let Some(from) = &plan.from {
            // One that speaks and does not hold the role is as gone as one that failed.
            let gone = |m: &super::mind::NodeMind| {
                m.verdict == Verdict::Failed
                    || plan.shares.is_empty()
                        && self.speaks(&from.node)
                        && m.report.as_ref().is_some_and(|r| r.holding.is_none())
            };
            let kind_holds = self.nodes.get(&from.node).is_some_and(gone) != plan.kind.is_planned();
            if !kind_holds {
                let verdict = self.nodes.get(&from.node).map_or("unknown", |m| m.verdict.word());
                moved.push(format!(
                    "{} is {verdict}, and the plan is a {}",
                    from.node,
                    plan.kind.word()
                ));
            }
        }
        if !plan.shares.is_empty() {
            moved.extend(self.carriers_moved(plan));
            return moved;
        }
        let overruled = |c: &Check| {
            plan.accept_unknown_loss && c.name == super::stalemate::REFUSALS
                || !plan.kind.is_planned() && super::candidates::yields_to_an_outage(c)
                || c.name == super::constraints::CRASH_LOOP
        };
        let now = self.candidates_unless(plan.demoted(), overruled);
        match now.iter().find(|c| c.node == plan.to.node) {
            Some(c) if c.eligible => {}
            Some(c) => {
                for check in c.checks.iter().filter(|k| !k.passed && !overruled(k)) {
                    let then = plan.candidates.iter().find(|p| p.node == c.node);
                    let then = then
                        .and_then(|p| p.checks.iter().find(|k| k.name == check.name))
                        .map_or("not checked", |k| &*k.value);
                    moved.push(format!(
                        "{}: {} {then} → {} (limit {})",
                        c.node, check.name, check.value, check.limit
                    ));
                }
            }
            None => moved.push(format!("{} is no node of this cluster any more", plan.to.node)),
        }
        let member =
            self.nodes.get(&plan.to.node).and_then(|m| m.report.as_ref()).map(|r| &r.member);
        if member.is_some_and(|m| *m != plan.to) {
            moved.push(format!("{} was reinstalled", plan.to.node));
        }
        moved
    }

    pub(super) fn person(&mut self, making: &mut Making, who: &str, order: PersonOrder) {
        match order {
            PersonOrder::Propose(what) => {
                if self.durable.run.is_some() {
                    self.refusal = "a plan runs; one at a time".into();
                    return;
                }
                let wish = Wish::of(who, what);
                match self.make_plan(&wish) {
                    Ok(plan) => {
                        self.refusal.clear();
                        let (digest, data) = plan.sealed();
                        let text = format!(
                            "{who} asks for plan {}: {}",
                            digest.short(),
                            super::plans::summary(&plan)
                        );
                        let before = self.durable.pending.as_ref().map(|p| p.digest.short());
                        self.plan_news = None;
                        if let Some(before) = before {
                            let now = digest.short();
                            self.say_of_plan(format!(
                                "plan {before} gave way to plan {now}, which {who} asked for; \
                                 review it"
                            ));
                        }
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
                self.begin(making, pending.plan, vec![approval], Some(pending.since));
            }
            PersonOrder::Verify { reason } if self.shares_traffic() => {
                self.verify_everywhere(making, who, &reason)
            }
            PersonOrder::Verify { reason } => {
                let Some(primary) = self.primary() else {
                    "no node ever held the write role".clone_into(&mut self.refusal);
                    return;
                };
                let id = format!(
                    "{}/{}/verify/{}",
                    self.cluster.cluster_id, self.durable.epoch, self.now.0
                );
                self.verify_asked.clone_from(&id);
                let text = format!("{who} wants a real write on {primary} read back: {reason}");
                self.note(
                    making,
                    rules::VERIFY_ASKED,
                    who,
                    "command",
                    text,
                    serde_json::Value::Null,
                );
                making.command(primary, Command { id, order: Order::Prove });
            }
            PersonOrder::Voters { order, approval } => {
                let Some(primary) = self.primary() else { return };
                let id = format!(
                    "{}/{}/voters/{}",
                    self.cluster.cluster_id, self.durable.epoch, order.from_version
                );
                let text = format!("{who}: {}: {}", order.words(), order.reason);
                let data = serde_json::json!({"order": order, "approval": approval});
                self.note(making, rules::VOTERS_CHANGE, who, "voters", text, data);
                making.command(
                    primary,
                    Command { id, order: Order::Voters { order, approvals: vec![approval] } },
                );
            }
            PersonOrder::Override { order, approvals } => {
                let by: Vec<&str> = approvals.iter().map(|a| a.by.as_str()).collect();
                let text = format!("OVERRIDE by {}: {}", by.join(" and "), order.words());
                let data = serde_json::json!({"order": order, "approvals": approvals});
                self.note(making, rules::OVERRIDDEN, who, "override", text, data);
                let gone = |n: &NodeId| order.remove.iter().any(|m| m.node == *n);
                for node in self.nodes.keys().filter(|n| !gone(n)) {
                    let id = format!(
                        "{}/{}/override/{}/{node}",
                        self.cluster.cluster_id, self.durable.epoch, order.left.version
                    );
                    let order =
                        Order::Override { order: order.clone(), approvals: approvals.clone() };
                    making.command(node.clone(), Command { id, order });
                }
            }
            PersonOrder::History { order, approvals } => {
                let by: Vec<&str> = approvals.iter().map(|a| a.by.as_str()).collect();
                let text = format!("HISTORY by {}: {}", by.join(" and "), order.words());
                let data = serde_json::json!({"order": order, "approvals": approvals});
                self.note(making, rules::HISTORY, who, "history", text, data);
                for node in self.nodes.keys() {
                    let id = format!(
                        "{}/{}/history/{}/{node}",
                        self.cluster.cluster_id, self.durable.epoch, order.system
                    );
                    let order =
                        Order::History { order: order.clone(), approvals: approvals.clone() };
                    making.command(node.clone(), Command { id, order });
                }
            }
            PersonOrder::Acknowledge { reason } => {
                self.durable.acknowledged = self.wall;
                self.note(
                    making,
                    rules::ACKNOWLEDGED,
                    who,
                    "acknowledgement",
                    format!("{who}: {reason}"),
                    serde_json::Value::Null,
                );
                self.retry_at = self.now;
            }
            PersonOrder::Restart { node, reason } => self.restart(making, who, node, &reason),
            PersonOrder::Drain { node, reason } => self.drain(making, who, node, reason),
            PersonOrder::Dismiss { plan, reason } => {
                if self.durable.pending.as_ref().is_some_and(|p| p.digest == plan) {
                    self.drop_pending("was dropped", &format!("by {who}"));
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
