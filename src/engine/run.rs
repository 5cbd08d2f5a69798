//! Carrying a plan out: which step is due, whether its verification holds, and what to do when it
//! does not. Everything is read from the agents' reports, so that a plane that starts again in the
//! middle goes on where the world is.

use super::decision::Making;
use super::{Engine, Moved, RETRY_AFTER, Run, rules};
use crate::model::command::{Command, Order};
use crate::model::observation::{ArmedStage, NodeReport, ResourceState, WriteProof};
use crate::model::plan::{Approval, Plan, PlanKind, StepKind};
use crate::model::planted::{Bug, planted};
use crate::model::view::{Outcome, Phase, RunView, StepState, StepView, Times, Verdict};
use crate::model::{NodeId, Span, Timestamp};

/// After so many orders that an agent refused in a row a person is asked, and it is tried again
/// after longer and longer pauses.
const REFUSED_MAX: u32 = 3;

/// A command that shows no effect is sent again after this.
const RESEND: Span = Span::millis(300);

pub(super) enum Standing {
    Done(String),
    Running(String),
    Failed(String),
}

impl Engine {
    /// `waited`: since when the plan was there to be read.
    pub(super) fn begin(
        &mut self,
        making: &mut Making,
        plan: Plan,
        approvals: Vec<Approval>,
        waited: Option<Timestamp>,
    ) {
        let steps = plan
            .steps
            .iter()
            .map(|s| StepView {
                kind: s.kind,
                node: s.node.clone(),
                action: s.action.clone(),
                state: StepState::Waiting,
                took: None,
                budget: s.budget,
                found: String::new(),
            })
            .collect();
        let heard = |from: &crate::model::Member| {
            self.nodes.get(&from.node).and_then(|m| m.stuck_since.or(m.heard))
        };
        let outage_from = match &plan.from {
            _ if plan.kind.is_planned() => self.now,
            Some(from) if !plan.shares.is_empty() => heard(from).unwrap_or(self.now),
            _ => self.last_writable,
        };
        let (digest, now) = (plan.digest(), self.now);
        let other = self.durable.pending.take().filter(|p| p.digest != digest);
        let known_from = match (plan.kind.is_planned(), self.failed_at) {
            (true, _) => waited,
            // A plane that was started since knows of the failure no later than of the plan.
            (false, failed) => failed.filter(|at| *at >= outage_from).or(waited),
        };
        self.moved_since = None;
        self.plan_news = None;
        if let Some(other) = other {
            self.say_of_plan(format!(
                "plan {} is void: plan {} began instead: {}",
                other.digest.short(),
                digest.short(),
                super::plans::summary(&plan)
            ));
        }
        self.gathering_since = None;
        self.durable.run = Some(Run {
            plan,
            digest,
            approvals,
            steps,
            step_since: now,
            since: now,
            outage_from,
            known_from: known_from.unwrap_or(now),
            attempts: 0,
            sent: Timestamp(0),
        });
        self.set_phase(phase_of(
            self.durable
                .run
                .as_ref()
                .and_then(|r| r.steps.first())
                .map_or(StepKind::Arm, |s| s.kind),
        ));
        self.advance(making);
    }

    /// As many steps as are verified, then the order for the one that is due.
    pub(super) fn advance(&mut self, making: &mut Making) {
        while let Some(mut run) = self.durable.run.take() {
            if let Some((rule, outcome, why)) = self.over(&run) {
                self.end(making, run, rule, outcome, why);
                return;
            }
            let Some(index) = run.steps.iter().position(|s| s.state != StepState::Done) else {
                self.conclude(making, run);
                return;
            };
            let kind = run.steps[index].kind;
            let standing = self.standing(&run, kind);
            let age = self.now.since(run.step_since);
            let step = &mut run.steps[index];
            match standing {
                Standing::Done(found) => {
                    (step.state, step.took, step.found) =
                        (StepState::Done, Some(age), found.clone());
                    let text = format!("{} {}: {found} ({age})", kind.word(), step.node);
                    (run.step_since, run.attempts, run.sent) = (self.now, 0, Timestamp(0));
                    self.durable.run = Some(run);
                    self.note(
                        making,
                        rules::STEP_DONE,
                        "plane",
                        "step",
                        text,
                        serde_json::Value::Null,
                    );
                    if let Some(next) = self
                        .durable
                        .run
                        .as_ref()
                        .and_then(|r| r.steps.get(index + 1))
                        .map(|s| s.kind)
                    {
                        self.set_phase(phase_of(next));
                    }
                }
                Standing::Failed(why) => {
                    (step.state, step.took, step.found) =
                        (StepState::Failed, Some(age), why.clone());
                    let (rule, outcome) = match kind {
                        _ if !run.plan.shares.is_empty() && kind > StepKind::Shift => {
                            (rules::STEP_LATE, Outcome::Unproved)
                        }
                        _ if kind <= StepKind::Claim
                            && (self.durable.epoch <= run.plan.epoch
                                || !run.plan.shares.is_empty()) =>
                        {
                            (rules::ABANDONED, Outcome::Aborted)
                        }
                        _ if kind >= StepKind::Follow => (rules::STEP_LATE, Outcome::Unproved),
                        _ => (rules::STEP_LATE, Outcome::Unknown),
                    };
                    self.end(making, run, rule, outcome, why);
                    return;
                }
                Standing::Running(found) if age > step.budget => {
                    (step.state, step.took, step.found) =
                        (StepState::Failed, Some(age), found.clone());
                    let why = format!(
                        "{} {} took longer than {}: {found}",
                        kind.word(),
                        step.node,
                        step.budget
                    );
                    let shifted = !run.plan.shares.is_empty() && kind > StepKind::Shift;
                    let outcome = if kind >= StepKind::Follow || shifted {
                        Outcome::Unproved
                    } else {
                        Outcome::Unknown
                    };
                    self.end(making, run, rules::STEP_LATE, outcome, why);
                    return;
                }
                Standing::Running(found) => {
                    (step.state, step.took, step.found) = (StepState::Running, Some(age), found);
                    self.set_phase(phase_of(kind));
                    self.order(making, &mut run, kind);
                    self.durable.run = Some(run);
                    return;
                }
            }
        }
    }

    /// A candidate that still waits with a plan of this plane that has ended would act on it later:
    /// it is told to forget it, again and again until its report shows that it has. Another plane's
    /// candidate is left alone: two planes that disarm each other's would keep the cluster without
    /// a primary for as long as both live.
    pub(super) fn disarm(&mut self, making: &mut Making) {
        if self.now.since(self.disarmed) < RESEND {
            return;
        }
        let left = self.nodes.iter().find_map(|(node, mind)| {
            let armed = mind.report.as_ref()?.armed.as_ref()?;
            // One that is not heard is told when it is heard again.
            let heard = mind.age(self.now).is_some_and(|age| age <= super::candidates::FRESH);
            (heard
                && armed.stage == ArmedStage::Waiting
                && self.durable.ended.contains(&armed.plan))
            .then(|| (node.clone(), armed.plan.clone()))
        });
        let Some((node, plan)) = left else { return };
        self.disarmed = self.now;
        let id =
            format!("{}/{}/disarm/{}", self.cluster.cluster_id, self.durable.epoch, plan.short());
        let text = format!("order {id} to {node}: that plan does not run");
        self.note(making, rules::DISARMED, "plane", "command", text, serde_json::Value::Null);
        making.command(node, Command { id, order: Order::Disarm { plan } });
    }

    /// The order that a step needs, unless it was sent a moment ago.
    fn order(&mut self, making: &mut Making, run: &mut Run, kind: StepKind) {
        if run.sent.0 > 0 && self.now.since(run.sent) < RESEND {
            return;
        }
        if !run.plan.shares.is_empty() {
            run.attempts += 1;
            run.sent = self.now;
            self.share_orders(making, run, kind);
            return;
        }
        let plan = Box::new(run.plan.clone());
        let approvals = run.approvals.clone();
        let (node, order) = match (kind, run.plan.kind, &run.plan.from) {
            (StepKind::Arm, _, _) => (run.plan.to.node.clone(), Order::Arm { plan, approvals }),
            (StepKind::Fence, PlanKind::Switchover | PlanKind::Failback, Some(from)) => {
                (from.node.clone(), Order::Demote { plan, approvals })
            }
            // A candidate whose agent started again has forgotten its plan.
            (StepKind::Fence | StepKind::Claim, _, _) if self.armed(run).is_none() => {
                (run.plan.to.node.clone(), Order::Arm { plan, approvals })
            }
            (StepKind::Verify, _, _) => (run.plan.to.node.clone(), Order::Prove),
            _ => return,
        };
        run.attempts += 1;
        run.sent = self.now;
        let id = format!(
            "{}/{}/{}/{}/{}",
            run.plan.cluster,
            run.plan.epoch,
            run.plan.number,
            kind.word(),
            run.attempts
        );
        let text = format!("order {id} to {node}");
        self.note(
            making,
            rules::COMMANDED,
            "plane",
            "command",
            text,
            serde_json::json!({"plan": run.digest.as_str()}),
        );
        making.command(node, Command { id, order });
    }

    fn report(&self, node: &NodeId) -> Option<&NodeReport> {
        self.nodes.get(node).and_then(|m| m.report.as_ref())
    }

    /// How far the candidate says it is with this plan.
    fn armed(&self, run: &Run) -> Option<&crate::model::observation::ArmedFacts> {
        self.report(&run.plan.to.node)
            .and_then(|r| r.armed.as_ref())
            .filter(|a| a.plan == run.digest)
    }

    /// The candidate holds a newer epoch than the plan's.
    fn won(&self, run: &Run) -> Option<&NodeReport> {
        let report = self.report(&run.plan.to.node)?;
        let newer = report.holding.as_ref().is_some_and(|h| h.epoch > run.plan.epoch);
        (newer && report.member == run.plan.to).then_some(report)
    }

    /// The run is over whatever its steps say: the former holder or somebody else holds a newer
    /// epoch.
    fn over(&self, run: &Run) -> Option<(u16, Outcome, String)> {
        if !run.plan.shares.is_empty() {
            return self.share_run_over(run);
        }
        let holder = self.durable.holder.as_ref()?;
        if self.durable.epoch <= run.plan.epoch || *holder == run.plan.to {
            return None;
        }
        if Some(holder) == run.plan.from.as_ref() {
            let why = format!("{} took the role back in epoch {}", holder.node, self.durable.epoch);
            return Some((rules::ROLLED_BACK, Outcome::RolledBack, why));
        }
        Some((
            rules::OVERTAKEN,
            Outcome::Aborted,
            format!("{} won epoch {}", holder.node, self.durable.epoch),
        ))
    }

    fn standing(&self, run: &Run, kind: StepKind) -> Standing {
        if !run.plan.shares.is_empty() {
            return self.share_standing(run, kind);
        }
        let to = &run.plan.to.node;
        let armed = self.armed(run);
        let gave_up = armed.filter(|a| a.stage == ArmedStage::Abandoned && self.won(run).is_none());
        if let Some(armed) = gave_up {
            return Standing::Failed(format!("{to} gave up: {}", armed.why));
        }
        // What it said last is its last word: nothing more comes of it.
        let mind = &self.nodes[to];
        // One that takes its role back has failed by its own word, until it has won.
        let resumes = run.plan.kind == PlanKind::Resume && self.speaks(to);
        if mind.verdict == Verdict::Failed && mind.report.is_some() && !resumes {
            return Standing::Failed(format!("{to} failed: {}", mind.why));
        }
        match kind {
            StepKind::Arm => match (armed, self.won(run)) {
                (Some(_), _) | (_, Some(_)) => Standing::Done("armed".into()),
                (None, None) => Standing::Running("waits for its agent".into()),
            },
            StepKind::Shift | StepKind::Drain | StepKind::Keep => {
                Standing::Done("not part of such a plan".into())
            }
            StepKind::Fence => self.fence_standing(run),
            StepKind::Claim => match (self.won(run), armed) {
                (Some(report), armed) => {
                    let epoch = report.vote.epoch;
                    let fence = armed.and_then(|a| a.fence).map_or("not reported", |f| f.words());
                    Standing::Done(format!("won epoch {epoch}; fence: {fence}"))
                }
                (None, Some(armed)) => Standing::Running(armed.why.clone()),
                (None, None) => Standing::Running("the candidate does not report this plan".into()),
            },
            StepKind::Promote => match self.won(run) {
                Some(r)
                    if r.resource.state == ResourceState::Primary
                        && u64::from(r.resource.position.timeline) > run.plan.epoch.0 =>
                {
                    Standing::Done(format!(
                        "accepts writes on timeline {}",
                        r.resource.position.timeline
                    ))
                }
                Some(r) => Standing::Running(r.resource.state.word().into()),
                None => Standing::Running("waits for word".into()),
            },
            StepKind::Follow => match self.won(run) {
                Some(r) => {
                    let streaming: Vec<&str> = r
                        .resource
                        .standbys
                        .iter()
                        .filter(|s| s.streams())
                        .map(|s| s.node.as_str())
                        .collect();
                    if streaming.len() >= self.cluster.synchronous_standbys {
                        Standing::Done(if streaming.is_empty() {
                            "nobody has to".into()
                        } else {
                            format!("{} stream", streaming.join(", "))
                        })
                    } else {
                        Standing::Running(format!(
                            "{} of {} stream",
                            streaming.len(),
                            self.cluster.synchronous_standbys
                        ))
                    }
                }
                None => Standing::Running("waits for word".into()),
            },
            StepKind::Verify => match self.won(run) {
                Some(r) => match self.proof_of(run, r) {
                    Some(proof) => Standing::Done(proof_words(r, proof.took)),
                    None => Standing::Running(match &r.resource.unproved {
                        Some(unproved) => format!("the write was refused: {}", unproved.why),
                        None => "waits for the write".into(),
                    }),
                },
                None => Standing::Running("waits for word".into()),
            },
        }
    }

    fn fence_standing(&self, run: &Run) -> Standing {
        let from = run.plan.from.as_ref();
        let released = from.is_some_and(|from| self.released(run.plan.epoch, from));
        if let Some(report) = self.won(run) {
            let fence =
                self.armed(run).and_then(|a| a.fence).map_or("by the grants", |f| f.words());
            return Standing::Done(format!("{fence} (epoch {} is won)", report.vote.epoch));
        }
        if released {
            let stop =
                from.and_then(|m| self.report(&m.node)).and_then(|r| match &r.resource.state {
                    ResourceState::Stopped(evidence) => Some(evidence),
                    _ => None,
                });
            return Standing::Done(stop.map_or("it gave the role back".to_owned(), |e| {
                let end = e.final_position.map_or(String::new(), |p| format!(", log ends at {p}"));
                format!("stopped ({}), no process remains{end}", e.how)
            }));
        }
        match (run.plan.kind, self.armed(run)) {
            (PlanKind::Failover | PlanKind::Resume, Some(armed)) => {
                Standing::Running(armed.why.clone())
            }
            (PlanKind::Failover | PlanKind::Resume, None) => {
                Standing::Running("the candidate is not armed".into())
            }
            (PlanKind::Switchover | PlanKind::Failback, _) => {
                let word = from
                    .and_then(|m| self.report(&m.node))
                    .map_or(String::new(), |r| r.activity.clone());
                Standing::Running(if word.is_empty() { "waits for its agent".into() } else { word })
            }
        }
    }

    pub(super) fn command_refused(
        &mut self,
        making: &mut Making,
        node: &NodeId,
        id: &str,
        why: &str,
    ) {
        let text = format!("{node} refused {id}: {why}");
        self.note(making, rules::REFUSED, node.as_str(), "refusal", text, serde_json::Value::Null);
        // It answered: orders do reach it.
        if let Some(mind) = self.nodes.get_mut(node) {
            mind.ordered_since = None;
        }
        let Some(run) = self.durable.run.take() else { return };
        let due = run.steps.iter().find(|s| s.state != StepState::Done).map(|s| s.kind);
        let nothing_changed = due.is_some_and(|kind| kind <= StepKind::Fence)
            && self.won(&run).is_none()
            && !self.share_run_began(&run);
        let nothing_changed =
            nothing_changed && (!run.plan.kind.is_planned() || !self.is_released());
        let ours = id
            .starts_with(&format!("{}/{}/{}/", run.plan.cluster, run.plan.epoch, run.plan.number));
        if ours && nothing_changed {
            let by_policy = run.approvals.is_empty();
            let why = format!("{node} refused: {why}");
            self.end(making, run, rules::ABANDONED, Outcome::Aborted, why.clone());
            self.refused_in_a_row = if by_policy { self.refused_in_a_row + 1 } else { 0 };
            // The same order would be refused again: an agent may have another policy.
            if self.refused_in_a_row >= REFUSED_MAX {
                let pauses = 1 << self.refused_in_a_row.min(6);
                self.retry_at = self.now + Span(RETRY_AFTER.0 * pauses);
                let text = format!("{why} ({} times in a row)", self.refused_in_a_row);
                self.enter(making, rules::ABANDONED, Phase::NeedsPerson, text);
            }
        } else {
            self.durable.run = Some(run);
        }
    }

    /// Every step is verified: the parts of the proof, and the end.
    pub(super) fn conclude(&mut self, making: &mut Making, run: Run) {
        if !run.plan.shares.is_empty() {
            let took = self.share_took(&run);
            let parts = self.share_proof(&run, self.share_acted(&run));
            let loss = Some(run.plan.loss.clone());
            self.prove_run(making, run, took, loss, parts);
            return;
        }
        let Some(report) = self.won(&run).cloned() else {
            let why = "the new primary is not heard any more".to_owned();
            self.end(making, run, rules::UNPROVED, Outcome::Unproved, why);
            return;
        };
        let took = self.now.since(run.outage_from);
        let acted = self.now.since(run.since);
        let age = self.nodes[&run.plan.to.node].age(self.now).unwrap_or(Span::ZERO);
        let promises = report.holding.as_ref().map_or(0, |h| h.promised_by.len());
        let loss = self.armed(&run).and_then(|a| a.loss.clone());
        let timeline = u64::from(report.resource.position.timeline);
        let won = self.armed(&run).and_then(|a| a.epoch);
        let mut parts = vec![
            (
                "consistency".to_owned(),
                Some(timeline) == won.map(|e| e.0),
                format!("epoch {} was won and writes timeline {timeline}", won.map_or(0, |e| e.0)),
            ),
            (
                "quorum".to_owned(),
                promises >= self.quorum(),
                format!("{promises} voters promised, {} needed", self.quorum()),
            ),
            ("freshness".to_owned(), age < Span::secs(1), format!("its report is {age} old")),
            (
                "policy".to_owned(),
                acted <= self.policy.max_failover_time,
                format!("acted in {acted} against {}", self.policy.max_failover_time),
            ),
        ];
        if let Some(loss) = &loss {
            parts.push(("loss".to_owned(), loss.within(run.plan.max_loss_bytes), loss.short()));
        } else {
            parts.push(("loss".to_owned(), false, "the candidate's account is not known".into()));
        }
        if let Some(proof) = self.proof_of(&run, &report) {
            parts.push(("write".to_owned(), true, proof_words(&report, proof.took)));
        }
        self.prove_run(making, run, took, loss, parts);
    }

    /// The end of a run whose steps are all verified: proved, if every part held.
    fn prove_run(
        &mut self,
        making: &mut Making,
        run: Run,
        took: Span,
        loss: Option<crate::model::loss::LossAccount>,
        parts: Vec<(String, bool, String)>,
    ) {
        let all = parts.iter().all(|(_, held, _)| *held);
        let confidence = confidence(&parts);
        let all = all
            && (run.plan.kind != PlanKind::Failback
                || confidence >= self.policy.constraints.failback.verified_at_least);
        let (rule, outcome) = if all {
            (rules::VERIFIED, Outcome::Verified)
        } else {
            (rules::UNPROVED, Outcome::Unproved)
        };
        let why = parts
            .iter()
            .map(|(n, held, f)| format!("{n} {}: {f}", if *held { "✓" } else { "✗" }))
            .collect::<Vec<_>>()
            .join("; ");
        let why =
            format!("confidence {confidence} ({}): {why}", crate::model::view::band(confidence));
        self.outages.push_back(took);
        if self.outages.len() > 16 {
            self.outages.pop_front();
        }
        self.finish_run(making, run, rule, outcome, why, Some(took), loss, parts);
    }

    /// Whether the present state holds together: the same parts as at the end of a run, and a real
    /// write where one was proved in this epoch.
    pub fn verify(&self) -> (Vec<(String, bool, String)>, u64) {
        let mut parts: Vec<(String, bool, String)> = vec![];
        let mut part =
            |name: &str, held: bool, found: String| parts.push((name.to_owned(), held, found));
        if self.shares_traffic() {
            return self.verify_shares();
        }
        let report = self
            .primary()
            .and_then(|p| self.nodes.get(&p))
            .and_then(|m| m.report.as_ref().zip(m.age(self.now)));
        let Some((report, age)) = report.filter(|(r, _)| r.holding.is_some()) else {
            part("quorum", false, "no node that is heard holds the write role".into());
            return (parts, 0);
        };
        let timeline = u64::from(report.resource.position.timeline);
        let epoch = self.durable.epoch.0;
        let writes = report.resource.state == ResourceState::Primary;
        // A holder that climbed keeps its timeline.
        part(
            "consistency",
            writes && timeline <= epoch,
            format!("epoch {epoch} is held and timeline {timeline} is written"),
        );
        let promises = report.holding.as_ref().map_or(0, |h| h.promised_by.len());
        part(
            "quorum",
            promises >= self.quorum(),
            format!("{promises} voters promised, {} needed", self.quorum()),
        );
        part("freshness", age < Span::secs(1), format!("its report is {age} old"));
        let holder = self.durable.holder.as_ref();
        let failing: Vec<String> = holder
            .map_or(vec![], |h| {
                self.constraints(
                    h,
                    PlanKind::Failover,
                    self.policy.strategy != crate::model::topology::Strategy::Manual,
                )
            })
            .iter()
            .filter(|c| !c.passed)
            .map(|c| c.name.to_string())
            .chain(
                holder
                    .and_then(|h| self.cluster.node(&h.node))
                    .and_then(|n| self.residency(n).0)
                    .filter(|c| !c.passed)
                    .map(|c| format!("residency: {} (allowed: {})", c.value, c.limit)),
            )
            .collect();
        part(
            "policy",
            failing.is_empty(),
            if failing.is_empty() { "every constraint holds".into() } else { failing.join(", ") },
        );
        let loss = self.durable.last_run.as_ref().and_then(|r| r.rpo.as_ref());
        let held = loss.is_none_or(|l| l.within(self.policy.max_loss_bytes));
        match (report.holding.as_ref().and_then(|h| h.doubt.why.as_ref()), loss) {
            (Some(why), _) => {
                part("loss", false, format!("a move now would lose: unknown: {why}"));
            }
            (None, Some(loss)) => {
                let run = self.durable.last_run.as_ref().map_or("", |r| r.plan.short());
                part("loss", held, format!("{} (the move of plan {run})", loss.short()));
            }
            (None, None) => part("loss", held, "no move in this plane's memory".into()),
        }
        let asked = &self.verify_asked;
        let counts = |p: &&WriteProof| p.asked == *asked || planted(Bug::AnyProof);
        let proof = report.resource.proof.as_ref().filter(counts);
        match (proof, &report.resource.unproved) {
            (Some(proof), _) if !asked.is_empty() => part(
                "write",
                true,
                format!("{} (at {})", proof_words(report, proof.took), proof.at.rfc3339()),
            ),
            (_, Some(unproved)) if unproved.asked == *asked => part(
                "write",
                false,
                format!("refused at {}: {}", unproved.at.rfc3339(), unproved.why),
            ),
            _ if asked.is_empty() => part("write", false, "none was asked for".into()),
            _ => part("write", false, "the one that was asked for has not come back".into()),
        }
        let confidence = confidence(&parts);
        (parts, confidence)
    }

    /// The parts of its time until now.
    pub(super) fn times(&self, run: &Run) -> Times {
        let known = run.known_from.max(run.outage_from.min(run.since)).min(run.since);
        Times {
            detect: known.since(run.outage_from),
            decide: run.since.since(known),
            act: if run.plan.shares.is_empty() {
                self.now.since(run.since)
            } else {
                self.share_acted(run)
            },
        }
    }

    fn end(&mut self, making: &mut Making, run: Run, rule: u16, outcome: Outcome, why: String) {
        self.finish_run(making, run, rule, outcome, why, None, None, vec![]);
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of a run's end")]
    fn finish_run(
        &mut self,
        making: &mut Making,
        run: Run,
        rule: u16,
        outcome: Outcome,
        why: String,
        rto: Option<Span>,
        rpo: Option<crate::model::loss::LossAccount>,
        verification: Vec<(String, bool, String)>,
    ) {
        super::remember(&mut self.durable.ended, run.digest.clone());
        let fence = self.armed(&run).and_then(|a| a.fence);
        let took = self.now.since(run.since);
        let times = rto.map(|_| self.times(&run));
        let measured = rto.zip(times).map_or(String::new(), |(t, times)| {
            format!(
                "; RTO {t} ({times}), RPO {}",
                rpo.as_ref().map_or("unknown".into(), |r| r.short())
            )
        });
        let text = format!(
            "plan {} {}: {}{measured}; {why}",
            run.digest.short(),
            run.plan.kind.word(),
            outcome.word()
        );
        let data = serde_json::json!({"plan": run.digest.as_str(), "rto_ms": rto.map(Span::as_millis), "times": times, "fence": fence, "steps": run.steps});
        self.note(making, rule, "plane", "outcome", text, data);
        // A move that was undone has cost an outage too.
        let began =
            run.steps.iter().any(|s| s.kind == StepKind::Fence && s.state == StepState::Done)
                || self.share_run_began(&run);
        self.note_drained(&run, outcome);
        if outcome == Outcome::Verified
            || outcome == Outcome::Unproved
            || (began && run.plan.kind.is_planned())
        {
            let by_itself = run.approvals.is_empty();
            let from = run.plan.demoted().cloned();
            super::remember(
                &mut self.durable.moves,
                Moved { at: self.wall, from, to: run.plan.to.node.clone(), by_itself },
            );
        }
        if outcome == Outcome::Aborted {
            self.note_refusal(&run);
        }
        if matches!(outcome, Outcome::Aborted | Outcome::Unknown) {
            super::remember(&mut self.given_up, (run.plan.epoch, run.plan.to.node.clone()));
        }
        let confidence = confidence(&verification);
        self.durable.last_run = Some(RunView {
            plan: run.digest,
            body: run.plan,
            steps: run.steps,
            age: took,
            outcome: Some(outcome),
            rto,
            times,
            rpo,
            fence,
            verification,
            confidence,
        });
        self.durable.run = None;
        if outcome != Outcome::Aborted {
            self.refused_in_a_row = 0;
        }
        self.retry_at = self.now + RETRY_AFTER;
        self.set_phase(match outcome {
            Outcome::Verified => Phase::Stabilising,
            Outcome::Unproved | Outcome::Unknown => Phase::NeedsPerson,
            Outcome::Aborted => Phase::Aborted,
            Outcome::RolledBack => Phase::RolledBack,
        });
        self.durable.phase_since = self.now;
    }
}

/// 0 to 100: the weights of the parts that held. A real write is worth most, and what was not
/// looked at counts as not held.
pub fn confidence(parts: &[(String, bool, String)]) -> u64 {
    let weight = |name: &str| match name {
        "write" => 30,
        "consistency" => 20,
        "quorum" => 20,
        "loss" | "capacity" => 15,
        "freshness" => 10,
        "policy" => 5,
        _ => 0,
    };
    parts.iter().filter(|(_, held, _)| *held).map(|(name, ..)| weight(name)).sum()
}

/// A simulated database holds no data, so nothing is claimed of a write there.
impl Engine {
    /// The write that this run asked for; another's proves nothing to it.
    fn proof_of<'a>(&self, run: &Run, report: &'a NodeReport) -> Option<&'a WriteProof> {
        report.resource.proof.as_ref().filter(|p| p.epoch > run.plan.epoch && self.asked_by(run, p))
    }

    pub(super) fn asked_by(&self, run: &Run, proof: &WriteProof) -> bool {
        let plan = &run.plan;
        let step = StepKind::Verify.word();
        proof
            .asked
            .strip_prefix(&format!("{}/{}/{}/{step}/", plan.cluster, plan.epoch, plan.number))
            .is_some()
    }
}

fn proof_words(report: &NodeReport, took: Span) -> String {
    if report.resource.is_simulated() {
        return "simulated: nothing was written".into();
    }
    format!("a real write was committed and read back in {took}")
}

fn phase_of(kind: StepKind) -> Phase {
    match kind {
        StepKind::Arm | StepKind::Claim => Phase::Claiming,
        StepKind::Fence => Phase::Fencing,
        StepKind::Promote => Phase::Promoting,
        StepKind::Shift | StepKind::Drain | StepKind::Keep | StepKind::Follow => Phase::Routing,
        StepKind::Verify => Phase::Verifying,
    }
}
