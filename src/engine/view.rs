//! The picture for people, drawn anew after every input.

use super::{Engine, JUDGE_INTERVAL, sharing};
use crate::model::observation::ResourceState;
use crate::model::plan::PlanKind;
use crate::model::topology::{Cluster, Policy, Role, Strategy};
use crate::model::view::{
    ClusterState, ClusterView, NodeView, Outlook, Phase, PhaseView, RunView, StepState, Verdict,
};
use crate::model::{Epoch, Span, WallTime};

/// Observers have spoken within this, or they will not by themselves.
const STUCK_AFTER: Span = Span::secs(4);

pub(super) fn blank(cluster: &Cluster, policy: &Policy, made: WallTime) -> ClusterView {
    ClusterView {
        cluster: cluster.cluster_id.clone(),
        name: cluster.name.clone(),
        environment: cluster.environment.clone(),
        simulated: false,
        source: "plane".into(),
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
        chain: String::new(),
    }
}

impl Engine {
    pub(super) fn draw(&self) -> ClusterView {
        let mut view = blank(&self.cluster, &self.policy, self.wall);
        let primary = self.primary();
        view.simulated =
            self.nodes.values().filter_map(|m| m.report.as_ref()).any(|r| r.resource.kind == "sim");
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
                    step.node.as_str().to_owned(),
                    Some(Span(step.budget.0.saturating_sub(spent.0))),
                    "the plan stops and a person decides",
                )
            }
            (Phase::Steady, None) => ("nobody".to_owned(), None, ""),
            (Phase::AwaitingApproval, None) => (
                "a person".to_owned(),
                self.durable.pending.as_ref().map(|p| {
                    Span(self.policy.approval_timeout.0.saturating_sub(self.now.since(p.since).0))
                }),
                "the plan is dropped",
            ),
            (Phase::Suspecting, None) if self.is_stuck() => ("a person".to_owned(), None, ""),
            (Phase::Suspecting, None) => ("the observers".to_owned(), None, ""),
            (Phase::Stabilising | Phase::Aborted | Phase::RolledBack, None) => (
                "plane".to_owned(),
                left(self.policy.stabilise),
                "back to steady if the role is held",
            ),
            (Phase::NeedsPerson, None) => ("a person".to_owned(), None, ""),
            (Phase::Deciding, None) => (
                "plane".to_owned(),
                Some(self.now.until(self.retry_at)),
                "a target is sought again",
            ),
            // Phases of a run, whose run has just ended: the next judgement leaves them.
            (
                Phase::Claiming
                | Phase::Fencing
                | Phase::Promoting
                | Phase::Routing
                | Phase::Verifying,
                None,
            ) => ("plane".to_owned(), Some(super::JUDGE_INTERVAL), "the run's outcome"),
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
        let Some(primary) = self.subject() else {
            return Outlook { next: "waits for a first primary".into(), ..Outlook::default() };
        };
        let candidates = self.targets(&primary, |_| false);
        let best = candidates.iter().find(|c| c.rank == 1);
        let next = match self.durable.phase {
            Phase::Steady if self.durable.pending.is_none() => {
                let failed = self.nodes.get(&primary).is_some_and(|m| m.verdict == Verdict::Failed);
                let critical = self.state >= ClusterState::Critical || failed;
                match (critical, self.policy.strategy) {
                    (false, _) => "nothing moves by itself while this holds".to_owned(),
                    (true, Strategy::Manual) => "what can be done is judged now".to_owned(),
                    (true, Strategy::Automatic | Strategy::QuorumBased) => {
                        "it is judged now whether a failover begins".to_owned()
                    }
                }
            }
            Phase::Suspecting if self.is_stuck() => format!(
                "nothing by itself: {} of {} voters are in reach, and {} are needed to conclude \
                 that {primary} failed",
                self.reachable_voters(),
                self.voters(),
                self.quorum()
            ),
            Phase::Suspecting => {
                let what = match self.policy.strategy {
                    Strategy::Manual => "a plan for a person is made",
                    Strategy::Automatic | Strategy::QuorumBased => "a failover begins",
                };
                format!("{what} when a quorum of observers concludes that it failed")
            }
            Phase::Deciding => "a plan is made from the best candidate".to_owned(),
            Phase::AwaitingApproval => {
                let left = self.durable.pending.as_ref().map(|p| {
                    Span(self.policy.approval_timeout.0.saturating_sub(self.now.since(p.since).0))
                });
                let fails = match self.policy.strategy {
                    Strategy::Manual => "",
                    Strategy::Automatic | Strategy::QuorumBased => {
                        " (if the primary fails, a failover begins)"
                    }
                };
                left.map_or("nothing by itself".to_owned(), |left| {
                    format!(
                        "nothing, until a person executes or dismisses the plan{fails}; it expires \
                            in {left}"
                    )
                })
            }
            _ if let Some(pending) = &self.durable.pending => {
                let waited = self.now.since(pending.since).0;
                let left = Span(self.policy.approval_timeout.0.saturating_sub(waited));
                format!("nothing by itself while a plan waits for a person; it expires in {left}")
            }
            Phase::NeedsPerson if self.refusal.is_empty() => {
                let left = Span(self.retry_at.0.saturating_sub(self.now.0));
                let failed = self.nodes.get(&primary).is_some_and(|m| m.verdict == Verdict::Failed);
                if failed && left > Span::ZERO {
                    format!("a person decides; by itself a new plan is made in {left}")
                } else {
                    "nothing; a person decides".to_owned()
                }
            }
            Phase::NeedsPerson => format!(
                "a move is looked for every {RETRY_AFTER} while: {}",
                self.refusal,
                RETRY_AFTER = super::RETRY_AFTER
            ),
            Phase::Stabilising => "back to steady".to_owned(),
            Phase::Aborted | Phase::RolledBack => {
                "a new plan, if the primary is still failed".to_owned()
            }
            _ => "the run goes on by itself, also without this plane".to_owned(),
        };
        let holder = self.durable.holder.as_ref();
        let failed = self.nodes.get(&primary).is_some_and(|m| m.verdict == Verdict::Failed);
        let if_died =
            if failed { format!("{primary} has failed") } else { format!("if {primary} died now") };
        let holds = self.nodes.get(&primary).and_then(|m| m.report.as_ref());
        let holds = holds.is_some_and(|r| r.holding.is_some());
        let mut foreseen = false;
        let if_primary_died = match (best, holder) {
            _ if self.shares_traffic() => self.if_it_died(&primary),
            (Some(_), Some(_)) if self.reachable_voters() < self.quorum() => format!(
                "{if_died} → nobody could promote: {} of {} voters needed are in reach",
                self.reachable_voters(),
                self.quorum()
            ),
            (Some(best), Some(holder)) => {
                let loss = self.loss_of_failure(holder, &candidates);
                let by_itself = self.policy.strategy != Strategy::Manual;
                let held_back = self
                    .constraints(holder, PlanKind::Failover, by_itself)
                    .into_iter()
                    .find(|c| !c.passed);
                let left = self.reachable_voters().saturating_sub(1);
                let host = if left < self.quorum() {
                    format!(
                        " · with its whole host nobody could: {left} of {} voters needed would be \
                            left",
                        self.quorum()
                    )
                } else {
                    String::new()
                };
                let who = if self.policy.strategy == Strategy::Manual {
                    "after a person's word "
                } else {
                    ""
                };
                let measured = self
                    .outages
                    .back()
                    .map_or(String::new(), |last| format!("; last measured {last}"));
                let rto = match &self.forecast {
                    Some(f) if f.read_only == 0 => {
                        let age = Span::millis(u64::try_from(self.wall.0 - f.made.0).unwrap_or(0));
                        let lost = if f.losing > 0 {
                            format!(", {} runs lose up to {} writes", f.losing, f.lost_max)
                        } else {
                            String::new()
                        };
                        let host = match f.host_read_only {
                            0 => format!("whole host ≈ {}", f.host_p50),
                            n => format!("whole host: {n} of {} runs end read-only", f.runs / 2),
                        };
                        format!(
                            "RTO ≈ {} (p95 {}, p99 {}), {host}{lost} ({} runs, simulated {age} \
                                ago{measured})",
                            f.outage_p50, f.outage_p95, f.outage_p99, f.runs
                        )
                    }
                    Some(_) if self.policy.strategy == Strategy::Manual => {
                        format!("it stays read-only until a person acts{measured}")
                    }
                    Some(f) => format!(
                        "{} of {} simulated runs end read-only{measured}",
                        f.read_only,
                        f.runs / 2
                    ),
                    None => {
                        let bound = crate::lease::Terms::for_duration(self.cluster.lease).promise();
                        format!(
                            "RTO not simulated yet{measured}; up to {bound} more if its whole \
                                host is lost"
                        )
                    }
                };
                match held_back {
                    Some(check) => format!(
                        "{if_died} → nothing by itself: {}: {}; what would change it: {}",
                        check.name, check.value, check.would_change
                    ),
                    None if by_itself && !loss.within(self.policy.max_loss_bytes) => format!(
                        "{if_died} → nothing by itself, as things are: the loss would be {} and the \
                            policy tolerates {} B; a person may accept it{host}",
                        loss.short(),
                        self.policy.max_loss_bytes
                    ),
                    None if self.no_failover_now(&primary).is_some() => format!(
                        "{if_died} → {who}{} promotes, once what holds it up is ended or lifted \
                         ({}) · loss {}{host}",
                        best.node,
                        best.checks.iter().find(|k| !k.passed).map_or("", |k| &*k.value),
                        loss.short()
                    ),
                    None => {
                        foreseen = !failed && holds;
                        format!(
                            "{if_died} → {who}{} promotes · loss {} · {rto}{host}",
                            best.node,
                            loss.short()
                        )
                    }
                }
            }
            _ => {
                let why: Vec<String> = candidates
                    .iter()
                    .map(|c| {
                        let failed: Vec<&str> =
                            c.checks.iter().filter(|k| !k.passed).map(|k| &*k.name).collect();
                        format!("{} ({})", c.node, failed.join(", "))
                    })
                    .collect();
                format!("{if_died} → nobody could promote: {}", why.join("; "))
            }
        };
        let answer = self.answer(failed, &candidates);
        let member = self.nodes.get(&primary).and_then(|m| m.report.as_ref()).map(|r| &r.member);
        let constraints = holder.or(member.filter(|_| self.shares_traffic())).map_or(vec![], |h| {
            let kind = if failed { PlanKind::Failover } else { PlanKind::Switchover };
            self.constraints(h, kind, self.policy.strategy != Strategy::Manual)
        });
        Outlook {
            next,
            plan_news: self.plan_news(),
            if_primary_died,
            candidates,
            answer,
            stuck: self.is_stuck(),
            constraints,
            // Simulated from a cluster that serves and could fail over: of another it says nothing.
            forecast: self.forecast.clone().filter(|_| foreseen),
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
