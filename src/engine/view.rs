//! The picture for people, drawn anew after every input.

use super::{Engine, JUDGE_INTERVAL, Pending, sharing};
use crate::model::observation::ResourceState;
use crate::model::outlook::{Count, Death, IfDied, Next, Outlook, Then};
use crate::model::plan::{Candidate, PlanKind};
use crate::model::record::ChainVerdict;
use crate::model::topology::{Cluster, Policy, Role, Strategy};
use crate::model::view::{
    ClusterState, ClusterView, Maker, NodeView, Owner, Phase, PhaseView, RunView, StepState,
    Verdict,
};
use crate::model::{Epoch, NodeId, Span, WallTime};

/// Observers have spoken within this, or they will not by themselves.
const STUCK_AFTER: Span = Span::secs(4);

pub(super) fn blank(cluster: &Cluster, policy: &Policy, made: WallTime) -> ClusterView {
    ClusterView {
        cluster: cluster.cluster_id.clone(),
        name: cluster.name.clone(),
        environment: cluster.environment.clone(),
        simulated: false,
        source: Maker::Plane,
        made,
        state: ClusterState::Unknown,
        why: String::new(),
        phase: PhaseView::default(),
        epoch: Epoch(0),
        primary: None,
        last_primary: None,
        votes: 0,
        voters: cluster.nodes.len(),
        quorum: cluster.quorum_size,
        strategy: Some(policy.strategy),
        rpo_bytes: policy.max_lag_bytes,
        rto: policy.max_failover_time,
        nodes: vec![],
        plan: None,
        run: None,
        outlook: Outlook::default(),
        records: vec![],
        record_count: 0,
        chain: ChainVerdict::NotChecked,
    }
}

impl Engine {
    pub(super) fn draw(&self) -> ClusterView {
        let mut view = blank(&self.cluster, &self.policy, self.wall);
        let primary = self.primary();
        view.simulated = self
            .nodes
            .values()
            .filter_map(|m| m.report.as_ref())
            .any(|r| r.resource.is_simulated());
        (view.state, view.why) = (self.state, self.state_why.clone());
        view.epoch = self.durable.epoch;
        let promise = crate::lease::Terms::for_duration(self.cluster.lease).promise();
        let holding = primary
            .as_ref()
            .and_then(|p| self.nodes.get(p))
            .and_then(|m| m.report.as_ref())
            .filter(|r| r.holding.is_some())
            // By its last word it would hold the role for ever.
            .filter(|r| self.nodes[&r.member.node].age(self.now).is_some_and(|a| a <= promise));
        view.last_primary = self.durable.holder.as_ref().map(|h| h.node.clone());
        view.primary = holding.map(|r| r.member.node.clone());
        view.quorum = self.quorum();
        view.voters = holding.map_or(view.voters, |r| r.vote.voters.max(1));
        view.votes = holding.and_then(|r| r.holding.as_ref()).map_or(0, |h| h.promised_by.len());
        view.nodes = self.cluster.nodes.iter().map(|n| self.draw_node(n)).collect();
        view.plan = self.durable.pending.as_ref().map(|p| p.plan.clone());
        view.run = self.draw_run();
        view.phase = self.draw_phase();
        view.outlook = self.outlook();
        view
    }

    fn draw_node(&self, node: &crate::model::topology::Node) -> NodeView {
        let mind = &self.nodes[&node.node_id];
        // What a silent node said last is no word about now.
        let heard = mind.age(self.now).is_some_and(|age| age < Span::secs(2));
        let is_primary = if self.shares_traffic() {
            self.accepts(&node.node_id).is_some()
        } else {
            heard && mind.report.as_ref().is_some_and(|r| r.holding.is_some())
        };
        let role = match node.role {
            Role::Witness => Role::Witness,
            _ if is_primary => Role::Primary,
            Role::Primary | Role::Secondary => Role::Secondary,
        };
        // Of a database that does not answer nobody knows how far it is.
        let state = mind.report.as_ref().map(|r| &r.resource.state);
        let answers = matches!(state, Some(ResourceState::Standby | ResourceState::Primary));
        let follows = answers && role == Role::Secondary;
        let seen = self.primary().and_then(|p| self.nodes.get(&p)).and_then(|m| m.report.as_ref());
        let replay_lag = seen.zip(mind.report.as_ref()).and_then(|(p, r)| r.replay_lag_behind(p));
        let lag = seen
            .and_then(|r| r.resource.standbys.iter().find(|s| s.node == node.node_id))
            .and_then(|s| s.lag);
        NodeView {
            node: node.node_id.clone(),
            declared: node.role,
            role,
            place: format!("{}/{}", node.region, node.site),
            verdict: mind.verdict,
            why: self.with_draining(&node.node_id, &mind.why),
            phi_milli: mind.phi_milli(self.now),
            heartbeat_age: mind.age(self.now),
            votes: super::quorum::votes(&self.cluster, &self.nodes, &node.node_id, self.now),
            closed: self.closed_to(&node.node_id),
            report: mind.report.clone(),
            lag_bytes: mind.lags.back().copied().flatten().filter(|_| heard && follows),
            replay_lag_bytes: replay_lag.filter(|_| heard && follows),
            lag: lag.filter(|_| role == Role::Secondary),
            lag_history: mind.lags.iter().copied().collect(),
            interval: mind.detector.interval(),
            health: Some(super::health::view(mind, &self.policy, self.now)),
            share: self.shares_traffic().then(|| self.units(&node.node_id)),
            capacity: self.shares_traffic().then(|| sharing::units_of(node)),
            drained: self.durable.draining.get(&node.node_id).cloned(),
        }
    }

    fn draw_run(&self) -> Option<RunView> {
        let Some(run) = &self.durable.run else { return self.durable.last_run.clone() };
        let mut steps = run.steps.clone();
        for step in steps.iter_mut().filter(|s| s.state == StepState::Running) {
            step.took = Some(self.now.since(run.step_since));
        }
        let armed = self
            .nodes
            .get(&run.plan.to.node)
            .and_then(|m| m.report.as_ref())
            .and_then(|r| r.armed.as_ref());
        let armed = armed.filter(|a| a.plan == run.digest);
        Some(RunView {
            plan: run.digest.clone(),
            body: run.plan.clone(),
            steps,
            age: self.now.since(run.since),
            outcome: None,
            rto: None,
            times: Some(self.times(run)),
            rpo: armed.and_then(|a| a.loss.clone()),
            fence: armed.and_then(|a| a.fence),
            verification: vec![],
            confidence: 0,
        })
    }

    fn draw_phase(&self) -> PhaseView {
        let phase = self.durable.phase;
        let age = self.now.since(self.durable.phase_since);
        let left = |limit: Span| Some(Span(limit.0.saturating_sub(age.0)));
        let step = self
            .durable
            .run
            .as_ref()
            .and_then(|r| r.steps.iter().find(|s| s.state != StepState::Done).map(|s| (r, s)));
        let (owner, deadline, at_deadline) = match (phase, step) {
            (_, Some((run, step))) => {
                let spent = self.now.since(run.step_since);
                (
                    Owner::Node(step.node.clone()),
                    Some(Span(step.budget.0.saturating_sub(spent.0))),
                    "the plan stops and a person decides",
                )
            }
            (Phase::Steady, None) => (Owner::Nobody, None, ""),
            (Phase::AwaitingApproval, None) => (
                Owner::Person,
                self.durable.pending.as_ref().map(|p| {
                    Span(self.policy.approval_timeout.0.saturating_sub(self.now.since(p.since).0))
                }),
                "the plan is dropped",
            ),
            (Phase::Suspecting, None) if self.is_stuck() => (Owner::Person, None, ""),
            (Phase::Suspecting, None) => (Owner::Observers, None, ""),
            (Phase::Stabilising | Phase::Aborted | Phase::RolledBack, None) => {
                (Owner::Plane, left(self.policy.stabilise), "back to steady if the role is held")
            }
            (Phase::NeedsPerson, None) => (Owner::Person, None, ""),
            (Phase::Deciding, None) => {
                (Owner::Plane, Some(self.now.until(self.retry_at)), "a target is sought again")
            }
            // Phases of a run, whose run has just ended: the next judgement leaves them.
            (
                Phase::Claiming
                | Phase::Fencing
                | Phase::Promoting
                | Phase::Routing
                | Phase::Verifying,
                None,
            ) => (Owner::Plane, Some(super::JUDGE_INTERVAL), "the run's outcome"),
        };
        let (at_deadline, ways_out) = (at_deadline.to_owned(), self.ways_out());
        PhaseView { phase, owner, age, deadline, at_deadline, ways_out }
    }

    /// The primary is silent for a while, and too few are left to conclude that it failed.
    pub(super) fn is_stuck(&self) -> bool {
        let too_few = self.reachable_voters() < self.quorum();
        self.durable.phase == Phase::Suspecting
            && too_few
            && self.now.since(self.durable.phase_since) >= STUCK_AFTER
    }

    /// What became of a plan lately.
    fn plan_news(&self) -> String {
        let news = self.plan_news.as_ref();
        let fresh = news.filter(|(_, at)| self.now.since(*at) < self.policy.approval_timeout);
        fresh.map_or(String::new(), |(news, _)| news.clone())
    }

    fn outlook(&self) -> Outlook {
        let Some(primary) = self.subject() else { return Outlook::default() };
        let candidates = self.targets(&primary, |_| false);
        let failed = self.has_failed(&primary);
        let holds = self.nodes.get(&primary).and_then(|m| m.report.as_ref());
        let holds = holds.is_some_and(|r| r.holding.is_some());
        let then = self.then(&primary, &candidates);
        // Simulated from a cluster that serves and could fail over: of another it says nothing.
        let foreseen = !failed
            && holds
            && matches!(&then, Then::Promotes { held_up, .. } if held_up.is_empty());
        let left = self.reachable_voters().saturating_sub(1);
        let fatal =
            matches!(then, Then::Promotes { .. } | Then::TooMuch { .. }) && left < self.quorum();
        let member = self.nodes.get(&primary).and_then(|m| m.report.as_ref()).map(|r| &r.member);
        let holder = self.durable.holder.as_ref();
        let constraints = holder.or(member.filter(|_| self.shares_traffic())).map_or(vec![], |h| {
            let kind = if failed { PlanKind::Failover } else { PlanKind::Switchover };
            self.constraints(h, kind, self.policy.strategy != Strategy::Manual)
        });
        Outlook {
            next: self.next_by_itself(&primary),
            plan_news: self.plan_news(),
            answer: self.answer(failed, &candidates),
            stuck: self.is_stuck(),
            constraints,
            forecast: self.forecast.clone().filter(|_| foreseen),
            if_primary_died: IfDied::Judged(Box::new(Death {
                node: primary,
                failed,
                then,
                fatal_host: fatal.then(|| Count { reachable: left, ..self.count() }),
            })),
            candidates,
        }
    }

    pub(super) fn count(&self) -> Count {
        Count { reachable: self.reachable_voters(), voters: self.voters(), needed: self.quorum() }
    }

    fn has_failed(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|m| m.verdict == Verdict::Failed)
    }

    fn next_by_itself(&self, primary: &NodeId) -> Next {
        let by_itself = self.policy.strategy != Strategy::Manual;
        let pending = self.durable.pending.as_ref();
        let timeout = self.policy.approval_timeout.0;
        let expires = |p: &Pending| Span(timeout.saturating_sub(self.now.since(p.since).0));
        match self.durable.phase {
            Phase::Steady if pending.is_none() => {
                if self.state >= ClusterState::Critical || self.has_failed(primary) {
                    Next::Judged { by_itself }
                } else {
                    Next::Nothing
                }
            }
            Phase::Suspecting if self.is_stuck() => {
                Next::Stuck { primary: primary.clone(), count: self.count() }
            }
            Phase::Suspecting => Next::Suspected { by_itself },
            Phase::Deciding => Next::Decided,
            Phase::AwaitingApproval => Next::Waits { by_itself, left: pending.map(expires) },
            _ if let Some(pending) = pending => Next::Pending { left: expires(pending) },
            Phase::NeedsPerson if self.refusal.is_empty() => {
                let left = self.retry_at.since(self.now);
                let retry = self.has_failed(primary) && left > Span::ZERO;
                Next::Person { retry: retry.then_some(left) }
            }
            Phase::NeedsPerson => {
                Next::Sought { every: super::RETRY_AFTER, why: self.refusal.clone() }
            }
            Phase::Stabilising => Next::Stabilises,
            Phase::Aborted | Phase::RolledBack => Next::Afresh,
            _ => Next::Runs,
        }
    }

    /// What follows if this primary dies now.
    fn then(&self, primary: &NodeId, candidates: &[Candidate]) -> Then {
        if self.shares_traffic() {
            return self.shared_without(primary);
        }
        let best = candidates.iter().find(|c| c.rank == 1);
        let (Some(best), Some(holder)) = (best, self.durable.holder.as_ref()) else {
            let names = |c: &Candidate| {
                c.checks.iter().filter(|k| !k.passed).map(|k| k.name.to_string()).collect()
            };
            let failing = candidates.iter().map(|c| (c.node.clone(), names(c))).collect();
            return Then::NobodyEligible { failing };
        };
        if self.reachable_voters() < self.quorum() {
            return Then::NoQuorum { count: self.count() };
        }
        let by_itself = self.policy.strategy != Strategy::Manual;
        let mut checks = self.constraints(holder, PlanKind::Failover, by_itself).into_iter();
        if let Some(check) = checks.find(|c| !c.passed) {
            return Then::HeldBack { check: Box::new(check) };
        }
        let loss = self.loss_of_failure(holder, candidates);
        if by_itself && !loss.within(self.policy.max_loss_bytes) {
            return Then::TooMuch { loss, limit: self.policy.max_loss_bytes };
        }
        let held_up = self.no_failover_now(primary).map(|_| {
            best.checks.iter().find(|k| !k.passed).map_or("something", |k| &*k.value).to_owned()
        });
        Then::Promotes {
            to: best.node.clone(),
            asks: !by_itself,
            held_up: held_up.unwrap_or_default(),
            loss,
            measured: self.outages.back().copied(),
            bound: crate::lease::Terms::for_duration(self.cluster.lease).promise(),
        }
    }

    /// Whether anything in the picture ages faster than people see: then it is worth drawing again
    /// soon.
    pub fn is_busy(&self) -> bool {
        self.durable.run.is_some()
            || !matches!(self.durable.phase, Phase::Steady)
            || self.nodes.values().any(|m| {
                m.verdict != Verdict::Healthy
                    && !matches!(
                        m.report.as_ref().map(|r| &r.resource.state),
                        Some(ResourceState::None)
                    )
            })
            || self.judge_at.since(self.now) > JUDGE_INTERVAL
    }
}
