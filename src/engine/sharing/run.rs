//! Carrying a plan for other shares out: what proves each step, what is ordered, and the proof at
//! the end.

use super::super::decision::Making;
use super::super::run::Standing;
use super::super::{Run, rules};
use super::KEEP_FOR;
use crate::engine::{Engine, Verdict};
use crate::model::command::{Command, Order};
use crate::model::observation::{NodeReport, WriteProof};
use crate::model::plan::{Plan, PlanKind, StepKind};
use crate::model::share::{ShareChange, Shares};
use crate::model::view::Outcome;
use crate::model::{NodeId, Span};

impl Engine {
    /// Agents that keep these shares.
    fn keepers(&self, shares: &Shares) -> impl Iterator<Item = &NodeId> {
        let keeps = |r: &NodeReport| r.shares.as_ref() == Some(shares);
        self.nodes.iter().filter(move |(_, m)| m.report.as_ref().is_some_and(keeps)).map(|(n, _)| n)
    }

    /// The run is over whatever its steps say: newer shares are in force, or others of the same
    /// number.
    pub(in crate::engine) fn share_run_over(&self, run: &Run) -> Option<(u16, Outcome, String)> {
        let in_force = self.durable.shares.as_ref()?;
        let ours = in_force.epoch <= run.plan.epoch || in_force.plan.as_ref() == Some(&run.digest);
        (!ours).then(|| {
            (
                rules::OVERTAKEN,
                Outcome::Aborted,
                format!("another plan set the shares of epoch {}", in_force.epoch),
            )
        })
    }

    pub(in crate::engine) fn share_standing(&self, run: &Run, kind: StepKind) -> Standing {
        let sets = run.plan.sets();
        let after = |units: &dyn Fn(&&ShareChange) -> bool| {
            run.plan.shares.iter().filter(units).collect::<Vec<_>>()
        };
        // Whoever falls meanwhile needs a plan of its own, and no step will ever hold.
        let counts = |s: &&ShareChange| s.after > 0 || (kind == StepKind::Drain && s.before > 0);
        let fell = after(&|s| {
            kind > StepKind::Shift && counts(s) && self.nodes[&s.node].verdict == Verdict::Failed
        });
        if let Some(fell) = fell.first() {
            return Standing::Failed(format!(
                "{} failed meanwhile: {}",
                fell.node, self.nodes[&fell.node].why
            ));
        }
        match kind {
            StepKind::Shift => {
                let keepers: Vec<&NodeId> = self.keepers(&sets).collect();
                let (have, of) = (keepers.len(), self.nodes.len());
                let reachable = |n: &NodeId| self.in_reach(n) && self.deaf_for(n).is_none();
                let missing: Vec<&str> = after(&|s| {
                    s.before != s.after && reachable(&s.node) && !keepers.contains(&&s.node)
                })
                .iter()
                .map(|s| s.node.as_str())
                .collect();
                if have >= self.quorum() && missing.is_empty() {
                    Standing::Done(format!(
                        "{have} of {of} agents keep the shares of epoch {}",
                        sets.epoch
                    ))
                } else {
                    let wait = if missing.is_empty() {
                        String::new()
                    } else {
                        format!("; waits for {}", missing.join(", "))
                    };
                    Standing::Running(format!(
                        "{have} of {of} agents keep the shares of epoch {}{wait}",
                        sets.epoch
                    ))
                }
            }
            StepKind::Promote => {
                let late: Vec<&str> =
                    after(&|s| s.before == 0 && s.after > 0 && self.accepts(&s.node).is_none())
                        .iter()
                        .map(|s| s.node.as_str())
                        .collect();
                if late.is_empty() {
                    Standing::Done("accepts writes".into())
                } else {
                    Standing::Running(format!("waits for {}", late.join(", ")))
                }
            }
            StepKind::Drain => {
                self.drained(&after(&|s| s.before > 0 && s.after == 0), &after(&|s| s.after > 0))
            }
            StepKind::Keep => {
                let mut found = vec![];
                for s in after(&|s| s.after > 0) {
                    let Some(report) =
                        self.nodes[&s.node].report.as_ref().filter(|_| self.in_reach(&s.node))
                    else {
                        return Standing::Running(format!("{} is not heard", s.node));
                    };
                    match report.resource.load {
                        Some(load) if load > s.capacity => {
                            return Standing::Running(format!(
                                "{} carries {load} units and can carry {}",
                                s.node, s.capacity
                            ));
                        }
                        Some(load) => found.push(format!("{} {load} of {}", s.node, s.capacity)),
                        None => found.push(format!(
                            "{} {} of {} by its share (load not measured)",
                            s.node, s.after, s.capacity
                        )),
                    }
                }
                let found = found.join(", ");
                if self.now.since(run.step_since) < KEEP_FOR {
                    Standing::Running(found)
                } else {
                    Standing::Done(found)
                }
            }
            StepKind::Verify => {
                let serving = after(&|s| s.after > 0);
                let proved = |s: &&&ShareChange| {
                    let proof =
                        self.nodes[&s.node].report.as_ref().and_then(|r| r.resource.proof.as_ref());
                    proof.is_some_and(|p| p.epoch >= sets.epoch && self.asked_by(run, p))
                };
                let missing: Vec<&str> =
                    serving.iter().filter(|s| !proved(s)).map(|s| s.node.as_str()).collect();
                if missing.is_empty() {
                    Standing::Done(self.proved_words(&serving))
                } else {
                    Standing::Running(format!("waits for {}", missing.join(", ")))
                }
            }
            StepKind::Arm | StepKind::Fence | StepKind::Claim | StepKind::Follow => {
                Standing::Done("not part of such a plan".into())
            }
        }
    }

    fn proved_words(&self, serving: &[&ShareChange]) -> String {
        let simulated = |s: &&&ShareChange| {
            self.nodes[&s.node].report.as_ref().is_some_and(|r| r.resource.is_simulated())
        };
        if serving.iter().any(|s| simulated(&s)) {
            return "simulated: nothing was written".into();
        }
        format!("a real write was committed and read back on each of {} nodes", serving.len())
    }

    fn drained(&self, leaving: &[&ShareChange], serving: &[&ShareChange]) -> Standing {
        for s in leaving {
            let Some(report) =
                self.nodes[&s.node].report.as_ref().filter(|_| self.in_reach(&s.node))
            else {
                return Standing::Running(format!("{} is not heard", s.node));
            };
            if report.resource.sessions > 0
                || report.resource.state == crate::model::observation::ResourceState::Primary
            {
                return Standing::Running(format!(
                    "{}: {} sessions",
                    s.node, report.resource.sessions
                ));
            }
            for other in serving {
                // Nobody knows what one has that is not heard: nothing is said of everybody then.
                if !self.in_reach(&other.node) {
                    return Standing::Running(format!("{} is not heard", other.node));
                }
                match report.resource.standbys.iter().find(|c| c.node == other.node) {
                    Some(copy) if copy.lag_bytes == 0 => {}
                    Some(copy) => {
                        return Standing::Running(format!(
                            "{} lacks {} B of {}",
                            other.node, copy.lag_bytes, s.node
                        ));
                    }
                    None => {
                        return Standing::Running(format!(
                            "{} does not copy from {}",
                            other.node, s.node
                        ));
                    }
                }
            }
        }
        Standing::Done("no session is left and every node that serves has everything".into())
    }

    /// The orders that a step needs.
    pub(in crate::engine) fn share_orders(
        &mut self,
        making: &mut Making,
        run: &Run,
        kind: StepKind,
    ) {
        let sets = run.plan.sets();
        let (plan, approvals) = (&run.plan, &run.approvals);
        let keepers: Vec<&NodeId> = self.keepers(&sets).collect();
        let to: Vec<(NodeId, Order)> = match kind {
            StepKind::Verify => plan
                .shares
                .iter()
                .filter(|s| s.after > 0)
                .map(|s| (s.node.clone(), Order::Prove))
                .collect(),
            // Whoever is away takes them from its peers when it is back.
            StepKind::Shift => {
                let order =
                    || Order::Shift { plan: Box::new(plan.clone()), approvals: approvals.clone() };
                self.nodes
                    .keys()
                    .filter(|n| !keepers.contains(n) && self.in_reach(n))
                    .map(|n| (n.clone(), order()))
                    .collect()
            }
            _ => vec![],
        };
        if to.is_empty() {
            return;
        }
        let names: Vec<&str> = to.iter().map(|(n, _)| n.as_str()).collect();
        let id = format!(
            "{}/{}/{}/{}/{}",
            plan.cluster,
            plan.epoch,
            plan.number,
            kind.word(),
            run.attempts
        );
        let text = format!("order {id} to {}", names.join(", "));
        self.note(
            making,
            rules::COMMANDED,
            "plane",
            "command",
            text,
            serde_json::json!({"plan": run.digest.as_str()}),
        );
        for (node, order) in to {
            if let Some(mind) = self.nodes.get_mut(&node).filter(|_| kind == StepKind::Shift) {
                mind.ordered_since = mind.ordered_since.or(Some(self.now));
            }
            making.command(node, Command { id: id.clone(), order });
        }
    }

    /// Nodes that were to take more and cannot any more, as "then → now".
    pub(in crate::engine) fn carriers_moved(&self, plan: &Plan) -> Vec<String> {
        let away = plan
            .demoted()
            .filter(|from| plan.shares.iter().all(|s| s.node != **from || s.after < s.before));
        let now = self.candidates(away);
        let gains = |c: &&crate::model::plan::Candidate| {
            plan.shares.iter().any(|s| s.node == c.node && s.after > s.before)
        };
        let mut moved = vec![];
        for candidate in now.iter().filter(gains).filter(|c| !c.eligible) {
            let failed = candidate.checks.iter().filter(|k| !k.passed);
            moved.extend(
                failed.map(|k| format!("{} of {}: passed → {}", k.name, candidate.node, k.value)),
            );
        }
        moved
    }

    /// Somebody keeps what this run sets: it cannot be called off any more.
    pub(in crate::engine) fn share_run_began(&self, run: &Run) -> bool {
        !run.plan.shares.is_empty() && self.keepers(&run.plan.sets()).next().is_some()
    }

    /// What a person moved away from stays so until a failback, whatever the policy would do by
    /// itself.
    pub(in crate::engine) fn note_drained(&mut self, run: &Run, outcome: Outcome) {
        let held = matches!(outcome, Outcome::Verified | Outcome::Unproved);
        match run.plan.kind {
            PlanKind::Switchover if held && !run.approvals.is_empty() => {
                if run.plan.shares.is_empty() {
                    self.durable.drained = run.plan.demoted().cloned().into_iter().collect();
                }
                let left = run.plan.shares.iter().filter(|s| s.before > 0 && s.after == 0);
                self.durable.drained.extend(left.map(|s| s.node.clone()));
            }
            PlanKind::Failback if held => self.durable.drained.clear(),
            // Where the role is by failure is no person's wish.
            PlanKind::Failover | PlanKind::Resume if held && run.plan.shares.is_empty() => {
                self.durable.drained.clear()
            }
            _ => {}
        }
    }

    /// A person wants a real write on every node that serves.
    pub(in crate::engine) fn verify_everywhere(
        &mut self,
        making: &mut Making,
        who: &str,
        reason: &str,
    ) {
        let shares = self.shares();
        let serving: Vec<NodeId> =
            shares.of.keys().filter(|n| self.accepts(n).is_some()).cloned().collect();
        let names: Vec<&str> = serving.iter().map(NodeId::as_str).collect();
        let text = format!("{who} wants real writes on {} read back: {reason}", names.join(", "));
        self.note(making, rules::VERIFY_ASKED, who, "command", text, serde_json::Value::Null);
        let id =
            format!("{}/{}/verify/{}", self.cluster.cluster_id, self.durable.epoch, self.now.0);
        self.verify_asked.clone_from(&id);
        for node in serving {
            making.command(node, Command { id: id.clone(), order: Order::Prove });
        }
    }

    /// Whether the shares in force hold together now.
    pub(in crate::engine) fn verify_shares(&self) -> (Vec<(String, bool, String)>, u64) {
        let shares = self.shares();
        let serving: Vec<&NodeId> =
            shares.of.iter().filter(|(_, units)| **units > 0).map(|(n, _)| n).collect();
        let accepting: Vec<&NodeReport> = serving.iter().filter_map(|n| self.accepts(n)).collect();
        let keep = self.keepers(&shares).count();
        let (demand, carried) =
            (self.demand(), accepting.iter().map(|r| self.units(&r.member.node)).sum::<u64>());
        let proved = accepting
            .iter()
            .filter(|r| {
                let asked = |p: &WriteProof| p.asked == self.verify_asked;
                r.resource.proof.as_ref().is_some_and(|p| p.epoch >= shares.epoch && asked(p))
            })
            .count();
        let of = serving.len();
        let mut parts: Vec<(String, bool, String)> = vec![];
        let mut part =
            |name: &str, held: bool, found: String| parts.push((name.to_owned(), held, found));
        part(
            "consistency",
            accepting.len() == of,
            format!("{} of {of} nodes with a share accept writes", accepting.len()),
        );
        part(
            "quorum",
            keep >= self.quorum(),
            format!(
                "{keep} agents keep the shares of epoch {}, {} needed",
                shares.epoch,
                self.quorum()
            ),
        );
        let oldest =
            serving.iter().filter_map(|n| self.nodes.get(*n).and_then(|m| m.age(self.now))).max();
        let found =
            oldest.map_or("no report yet".to_owned(), |o| format!("the oldest report is {o} old"));
        part("freshness", oldest.is_some_and(|o| o < Span::secs(1)), found);
        part("capacity", carried >= demand, format!("{carried} of {demand} units are carried"));
        part(
            "policy",
            self.is_as_declared(),
            if self.is_as_declared() { "shares as declared" } else { "other shares than declared" }
                .into(),
        );
        part("conflicts", true, format!("writes that meet: {}", self.cluster.conflicts.word()));
        part(
            "write",
            proved == of && of > 0,
            format!("{proved} of {of} nodes had a write read back under these shares"),
        );
        let confidence = super::super::run::confidence(&parts);
        (parts, confidence)
    }

    /// From the last word of who failed until the others had and served its share; looking after
    /// them takes longer.
    pub(in crate::engine) fn share_took(&self, run: &Run) -> Span {
        run.since.since(run.outage_from) + self.share_acted(run)
    }

    /// What serving it took, once the word was given.
    pub(in crate::engine) fn share_acted(&self, run: &Run) -> Span {
        let shifting =
            run.steps.iter().filter(|s| matches!(s.kind, StepKind::Shift | StepKind::Promote));
        Span(shifting.filter_map(|s| s.took).map(|t| t.0).sum())
    }

    /// The parts of the proof at the end of a run.
    pub(in crate::engine) fn share_proof(
        &self,
        run: &Run,
        acted: Span,
    ) -> Vec<(String, bool, String)> {
        let sets = run.plan.sets();
        let serving: Vec<&ShareChange> = run.plan.shares.iter().filter(|s| s.after > 0).collect();
        let keep = self.keepers(&sets).count();
        let oldest = serving
            .iter()
            .filter_map(|s| self.nodes[&s.node].age(self.now))
            .max()
            .unwrap_or(Span::ZERO);
        let accepting = serving.iter().filter(|s| self.accepts(&s.node).is_some()).count();
        let planned = run.plan.kind.is_planned();
        let mut parts = vec![
            (
                "consistency".to_owned(),
                accepting == serving.len(),
                format!("{accepting} of {} nodes with a share accept writes", serving.len()),
            ),
            (
                "quorum".to_owned(),
                keep >= self.quorum(),
                format!("{keep} agents keep the shares, {} needed", self.quorum()),
            ),
            (
                "freshness".to_owned(),
                oldest < Span::secs(1),
                format!("the oldest report is {oldest} old"),
            ),
            (
                "policy".to_owned(),
                acted <= self.policy.max_failover_time,
                format!("acted in {acted} against {}", self.policy.max_failover_time),
            ),
            ("write".to_owned(), true, self.proved_words(&serving)),
        ];
        let loss = if planned {
            run.plan.loss.short()
        } else {
            format!("{}; {} holds", run.plan.loss.short(), self.cluster.conflicts.word())
        };
        // What a dead node had not copied is not lost by the shift: the cluster's conflict policy
        // accepts that it waits.
        parts.push(("conflicts".to_owned(), true, loss));
        let shed = run.plan.shed;
        parts.push((
            "capacity".to_owned(),
            shed == 0,
            if shed == 0 {
                "all of the load is carried".into()
            } else {
                format!("{shed} units are refused")
            },
        ));
        parts
    }
}
