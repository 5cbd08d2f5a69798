//! Making a plan: the conditions for any move, the target, the steps with their budgets, the loss
//! account before the button.

use super::decision::RuleId;
use super::stalemate::REFUSALS;
use super::{Engine, rules};
use crate::model::loss::FenceRung;
use crate::model::plan::{self, Candidate, Check, Plan, PlanKind, Proposal, Step, StepKind};
use crate::model::topology::Strategy;
use crate::model::view::Verdict;
use crate::model::{Member, NodeId, Span};

/// A plan that is wished for.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    pub(super) what: Proposal,
    /// The same shares for everybody, whatever they are.
    pub(super) settle: bool,
    pub(super) requested_by: &'a str,
}

impl<'a> Wish<'a> {
    /// A person's.
    pub(super) fn of(requested_by: &'a str, what: Proposal) -> Self {
        Self { what, settle: false, requested_by }
    }

    /// The plane's own.
    pub(super) fn by_policy(requested_by: &'a str, reason: &str) -> Self {
        Self::of(requested_by, Proposal { reason: reason.to_owned(), ..Proposal::default() })
    }
}

/// Why there is no plan.
#[derive(Clone, Debug)]
pub(super) struct NoPlan {
    /// By which rule.
    pub(super) rule: RuleId,
    /// In words.
    pub(super) why: String,
    /// The checks behind it.
    pub(super) checks: Vec<Check>,
    /// It is only that nobody accepted the loss.
    pub(super) for_its_loss: bool,
}

impl NoPlan {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { rule: rules::NO_CANDIDATE, why: why.into(), checks: vec![], for_its_loss: false }
    }
}

impl Engine {
    /// A plan for a move of the role, numbered.
    ///
    /// # Errors
    /// The check that failed, in words with what would change it, and the rule behind it.
    pub(super) fn make_plan(&mut self, wish: &Wish<'_>) -> Result<Plan, NoPlan> {
        let plan = self.draft(wish)?;
        self.durable.plans = plan.number;
        Ok(plan)
    }

    /// The plan that would be made now; nothing changes.
    ///
    /// # Errors
    /// As [`Engine::make_plan`].
    pub(super) fn draft(&self, wish: &Wish<'_>) -> Result<Plan, NoPlan> {
        let what = &wish.what;
        if self.shares_traffic() {
            return self.draft_shares(wish);
        }
        if let Some(away) = what.away.iter().find(|away| self.primary().as_ref() != Some(away)) {
            return Err(NoPlan::new(format!(
                "{away} does not hold the write role: there is nothing to move away from it"
            )));
        }
        let from = self
            .durable
            .holder
            .clone()
            .ok_or_else(|| NoPlan::new("no node ever held the write role"))?;
        if !self.nodes.contains_key(&from.node) {
            let why = format!("{} held the role last and is not in the cluster file", from.node);
            return Err(NoPlan::new(why));
        }
        let kind = self.kind_of(wish, &from)?;
        let constraints = self.permitted(wish, &from, kind)?;
        let overruled = |c: &Check| what.accept_unknown_loss && c.name == REFUSALS;
        let table = match kind {
            PlanKind::Resume => self.resume_table(&from),
            PlanKind::Failover => self.targets(&from.node, overruled),
            PlanKind::Switchover | PlanKind::Failback => {
                self.candidates_unless(Some(&from.node), overruled)
            }
        };
        let home =
            if what.failback && what.to.is_none() { Some(self.home(&from.node)?) } else { None };
        let own = (kind == PlanKind::Resume).then_some(&from.node);
        let chosen =
            choose(&table, own.or(home.as_ref()).or(what.to.as_ref())).map_err(NoPlan::new)?;
        if kind == PlanKind::Failback {
            self.failback_check(&chosen).map_err(NoPlan::new)?;
        }
        let member = self.nodes[&chosen].report.as_ref().map(|r| r.member.clone());
        let member = member.ok_or_else(|| NoPlan::new("the candidate was never heard"))?;
        let loss = self.expected_loss(&from, &member, kind);
        if !what.accept_unknown_loss && !loss.within(self.policy.max_loss_bytes) {
            let why = format!(
                "the loss would be {} and the policy allows {} B ({}); a person may accept an \
                    unknown loss",
                loss.short(),
                self.policy.max_loss_bytes,
                loss.reason()
            );
            return Err(NoPlan { for_its_loss: true, ..NoPlan::new(why) });
        }
        let transfers = self.cluster.node(&chosen).map_or(vec![], |n| self.residency(n).1);
        Ok(Plan {
            number: self.durable.plans + 1,
            cluster: self.cluster.cluster_id.clone(),
            kind,
            epoch: self.durable.epoch,
            steps: self.steps(kind, &from.node, &chosen),
            blast_radius: self.blast_radius(kind, &from.node, &chosen),
            way_back: way_back(kind, &from.node, &chosen),
            from: Some(from),
            to: member,
            made: self.wall,
            requested_by: wish.requested_by.to_owned(),
            reason: what.reason.clone(),
            least_fence: FenceRung::SyncFenced,
            loss,
            max_loss_bytes: self.policy.max_loss_bytes,
            accept_unknown_loss: what.accept_unknown_loss,
            budget: self.policy.max_failover_time,
            candidates: table,
            constraints,
            transfers,
            shares: vec![],
            shed: 0,
            conflicts: None,
        })
    }

    /// What kind of move answers the wish: by what is known of who held the role last.
    fn kind_of(&self, wish: &Wish<'_>, from: &Member) -> Result<PlanKind, NoPlan> {
        let what = &wish.what;
        if what.resume && what.to.as_ref().is_some_and(|to| *to != from.node) {
            return Err(NoPlan::new(format!(
                "only {} held the role last and can take it back",
                from.node
            )));
        }
        if what.resume || what.to.as_ref() == Some(&from.node) {
            return Ok(PlanKind::Resume);
        }
        let mind = &self.nodes[&from.node];
        let holds = mind.report.as_ref().is_some_and(|r| r.holding.is_some());
        match mind.verdict {
            Verdict::Failed => Ok(PlanKind::Failover),
            // It speaks, and says itself that it does not hold the role: a person need not wait.
            _ if !holds
                && self.speaks(&from.node)
                && (!plan::is_policy(wish.requested_by) || self.is_done_asking()) =>
            {
                Ok(PlanKind::Failover)
            }
            _ if !holds => Err(NoPlan::new(format!(
                "{} neither holds a confirmed lease nor is it known to have failed: wait for a \
                    verdict",
                from.node
            ))),
            _ if what.failback => Ok(PlanKind::Failback),
            _ => Ok(PlanKind::Switchover),
        }
    }

    /// The policy's constraints on such a plan, all passed.
    ///
    /// # Errors
    /// The first that did not, with what would change it.
    pub(super) fn permitted(
        &self,
        wish: &Wish<'_>,
        from: &Member,
        kind: PlanKind,
    ) -> Result<Vec<Check>, NoPlan> {
        let by_policy =
            plan::is_policy(wish.requested_by) && self.policy.strategy != Strategy::Manual;
        let constraints = self.constraints(from, kind, by_policy);
        if let Some(first) = constraints.iter().find(|c| !c.passed) {
            let why = format!(
                "{}: {} (limit: {}); what would change it: {}",
                first.name, first.value, first.limit, first.would_change
            );
            return Err(NoPlan { rule: rules::HELD_BACK, checks: constraints, ..NoPlan::new(why) });
        }
        Ok(constraints)
    }

    /// Where the role belongs by the policy's own order, whoever holds it now.
    fn home(&self, from: &NodeId) -> Result<NodeId, NoPlan> {
        match self.preferred() {
            Some(home) if home == *from => {
                Err(NoPlan::new(format!("{from} is where the role belongs already")))
            }
            Some(home) => Ok(home),
            None => Err(NoPlan::new("no node holds data")),
        }
    }

    /// The node with data that regions, sites, priorities and capacity put first.
    pub(super) fn preferred(&self) -> Option<NodeId> {
        self.cluster
            .data_nodes()
            .min_by(|a, b| self.preference(a, b).then_with(|| a.node_id.cmp(&b.node_id)))
            .map(|n| n.node_id.clone())
    }

    /// The source of a failback has been well for long enough.
    pub(super) fn failback_check(&self, to: &NodeId) -> Result<(), String> {
        let failback = &self.policy.constraints.failback;
        let least = super::candidates::milli(failback.score_at_least);
        match self.nodes[to].well_since.map(|since| self.now.since(since)) {
            Some(well) if well >= failback.healthy_for => Ok(()),
            Some(well) => Err(format!(
                "{to} has been well (score ≥ {least}) for {well}, the policy wants {}: {} more; a \
                 switchover there need not wait",
                failback.healthy_for,
                Span(failback.healthy_for.0 - well.0)
            )),
            None => Err(format!(
                "{to} is not well: healthy with a score of at least {least} is wanted for {}",
                failback.healthy_for
            )),
        }
    }

    /// Logical consumers lose their place with a slot that the successor has not.
    fn slots_lost(&self, from: &NodeId, to: &NodeId) -> Option<String> {
        let of = |node: &NodeId| self.nodes[node].report.as_ref()?.resource.serving.as_ref();
        let has = |name: &String| of(to).is_some_and(|s| s.slots.iter().any(|t| t.name == *name));
        let lost: Vec<&str> =
            of(from)?.slots.iter().filter(|s| !has(&s.name)).map(|s| s.name.as_str()).collect();
        (!lost.is_empty()).then(|| {
            format!(
                "replication slots that {to} has not: {}: what receives by them has to be set up \
                 anew there; drop them on {from} afterwards, or they keep log",
                lost.join(", ")
            )
        })
    }

    fn blast_radius(&self, kind: PlanKind, from: &NodeId, to: &NodeId) -> Vec<String> {
        let sessions = self.nodes[from].report.as_ref().map(|r| r.resource.sessions);
        let mut words = vec![match (kind.is_planned(), sessions) {
            (true, Some(0)) => {
                format!("no client is on {from}; whoever comes connects to {to}")
            }
            (true, Some(1)) => {
                format!("1 client session on {from} ends; it connects again to {to}")
            }
            (true, Some(n)) => {
                format!("{n} client sessions on {from} end; they connect again to {to}")
            }
            (true, None) => format!("client sessions on {from} end; they connect again to {to}"),
            (false, _) => format!("no client can write now; they connect again to {to}"),
        }];
        let followers: Vec<&str> = self
            .cluster
            .data_nodes()
            .map(|n| &n.node_id)
            .filter(|n| *n != from && *n != to)
            .map(NodeId::as_str)
            .collect();
        if !followers.is_empty() {
            words.push(format!(
                "{} {} {to} afterwards; readers there go on",
                followers.join(", "),
                if followers.len() == 1 { "follows" } else { "follow" }
            ));
        }
        words.extend(self.slots_lost(from, to));
        let place =
            |node: &NodeId| self.cluster.node(node).map_or(String::new(), |n| n.region.clone());
        let (here, there) = (place(from), place(to));
        if here != there {
            words.push(format!(
                "writes move from region {here} to {there}: every commit of \
                clients in {here} pays that distance"
            ));
        }
        let (old, new) = (
            self.cluster.node(from).map_or(0.0, |n| n.capacity),
            self.cluster.node(to).map_or(0.0, |n| n.capacity),
        );
        if new < old {
            words.push(format!("{to} has {new:.0} of {old:.0} units of capacity"));
        }
        words
    }

    fn steps(&self, kind: PlanKind, from: &NodeId, to: &NodeId) -> Vec<Step> {
        let lease = self.cluster.lease;
        let step = |kind,
                    node: &NodeId,
                    action: &str,
                    precondition: &str,
                    verification: &str,
                    compensation: &str,
                    budget| Step {
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
            PlanKind::Switchover | PlanKind::Failback => (
                format!("checkpoint, stop {from} cleanly, give epoch {} back", self.durable.epoch),
                "no process of it remains; its final position is known; the release is durable at a voter",
                format!(
                    "{from} takes the role back after {} if nobody won",
                    self.policy.reclaim_after
                ),
                Span::secs(30),
            ),
            PlanKind::Failover | PlanKind::Resume => (
                format!(
                    "wait until {from} cannot acknowledge: its own word, or its lease has run out and its synchronous standbys granted"
                ),
                "stopped, or sync-fenced by grants",
                "nothing was changed".to_owned(),
                claim_budget,
            ),
        };
        let mut steps = vec![
            step(
                StepKind::Arm,
                to,
                &format!("arm {to} with this plan"),
                "it is eligible",
                "its agent says it is armed",
                "disarm",
                Span::secs(3),
            ),
            step(
                StepKind::Fence,
                from,
                &fence_action,
                "the candidate is armed",
                fence_check,
                &fence_undo,
                fence_budget,
            ),
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
        ];
        // Who takes its own role back has nobody to fence.
        steps.retain(|s| kind != PlanKind::Resume || s.kind != StepKind::Fence);
        steps
    }
}

fn choose(table: &[Candidate], to: Option<&NodeId>) -> Result<NodeId, String> {
    let failing = |c: &Candidate| {
        let failed: Vec<String> = c
            .checks
            .iter()
            .filter(|k| !k.passed)
            .map(|k| format!("{} is {} (limit {})", k.name, k.value, k.limit))
            .collect();
        format!("{}: {}", c.node, failed.join(", "))
    };
    match to {
        Some(node) => match table.iter().find(|c| c.node == *node) {
            None => {
                Err(format!("{node} is not a node of this cluster that the role could move to"))
            }
            Some(c) if c.eligible => Ok(c.node.clone()),
            Some(c) => Err(format!("not eligible: {}", failing(c))),
        },
        None => match table.iter().find(|c| c.rank == 1) {
            Some(c) => Ok(c.node.clone()),
            None => Err(format!(
                "no safe candidate: {}",
                table.iter().map(failing).collect::<Vec<_>>().join("; ")
            )),
        },
    }
}

fn way_back(kind: PlanKind, from: &NodeId, to: &NodeId) -> String {
    if kind == PlanKind::Resume {
        format!("a switchover from {to}, or a failover, as plans of their own")
    } else if kind.is_planned() {
        format!(
            "a switchover to {from} once it follows {to}; before {to} has won, {from} takes the role back by itself"
        )
    } else {
        format!(
            "{from} rejoins as a standby of {to} when it is back; after that a failback, as a plan of its own"
        )
    }
}

/// A plan in one line.
pub fn summary(plan: &Plan) -> String {
    let from = plan.from.as_ref().map_or("nobody", |m| m.node.as_str());
    if !plan.shares.is_empty() {
        let shed =
            if plan.shed > 0 { format!(", {} units refused", plan.shed) } else { String::new() };
        return format!(
            "{} away from {from}: {}{shed}, loss {}",
            plan.kind.word(),
            super::sharing::words(&plan.shares),
            plan.loss.short()
        );
    }
    if plan.kind == PlanKind::Resume {
        return format!("resume: {from} takes the role back, loss {}", plan.loss.short());
    }
    format!("{} {}, loss {}", plan.kind.word(), plan.nodes("→"), plan.loss.short())
}
