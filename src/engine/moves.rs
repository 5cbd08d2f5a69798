//! Does the write role have to move? Because its holder failed, because it is too unwell to keep
//! it, because it belongs elsewhere; and what is said when it should and cannot.

use super::decision::{Making, RuleId};
use super::{
    Engine, Fallen, GATHER_MAX, Pending, RETRY_AFTER, RETRY_PLANNED, candidates, detector, health,
    plans, remember, rules,
};
use crate::model::constraints::DecisionClass;
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::plan::{self, Plan, PlanKind, Proposal};
use crate::model::record::shape;
use crate::model::topology::Strategy;
use crate::model::view::{ClusterState, Phase, Verdict};
use crate::model::{Digest, NodeId, Span};

/// A waiting plan is not held against a report that is a moment late, nor against a score that
/// crosses its limit and comes back: only what has been otherwise for so long.
const MOVED_FOR: Span = Span::secs(3);

/// A server that starts is waited for so long before a person is asked.
pub(super) const COMES_BACK_MAX: Span = Span::secs(60);

/// So often the former holder's agent has tried in vain to take the role back before a person is
/// asked.
const RECLAIMS: u64 = 3;

/// Why the plane would move something by itself although nobody failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Its holder is unwell.
    Graceful,
    /// It belongs elsewhere.
    Failback,
    /// The shares themselves are wrong: they differ, or refuse what could be carried.
    Settle,
}

impl Engine {
    /// No run: does the write role have to move?
    pub(super) fn consider(&mut self, making: &mut Making) {
        let Some(primary) = self.subject() else { return };
        self.drop_moved(making);
        if self.are_shares_apart() && self.durable.pending.is_none() && self.now >= self.planned_at
        {
            self.move_by_itself(
                making,
                rules::SHARES_APART,
                Why::Settle,
                "agents keep different shares",
            );
            if self.durable.run.is_some() {
                return;
            }
        }
        if self.refuses_needlessly()
            && self.durable.pending.is_none()
            && self.now >= self.planned_at
        {
            self.move_by_itself(
                making,
                rules::LOAD_REFUSED,
                Why::Settle,
                "load is refused that somebody could carry",
            );
            if self.durable.run.is_some() {
                return;
            }
        }
        let verdict = self.nodes[&primary].verdict;
        match verdict {
            Verdict::Failed => self.consider_failed(making, &primary),
            Verdict::Suspect => {
                if self.durable.phase == Phase::Steady {
                    self.enter(
                        making,
                        rules::SUSPECTING,
                        Phase::Suspecting,
                        format!("{primary} is silent"),
                    );
                }
            }
            // It is heard, and says itself that it does not hold the role: nothing is as before.
            Verdict::Healthy | Verdict::Degraded if !self.serves(&primary) => {
                if self.is_done_asking() {
                    self.consider_failed(making, &primary);
                }
            }
            Verdict::Healthy | Verdict::Degraded => {
                self.gathering_since = None;
                if self.durable.pending.as_ref().is_some_and(|p| p.plan.kind == PlanKind::Failover)
                {
                    let plan = self.durable.pending.as_ref().map(|p| &p.plan);
                    let whom = plan.and_then(|p| p.demoted()).unwrap_or(&primary).clone();
                    self.drop_pending("is void", &format!("{whom} is heard again"));
                    self.enter(
                        making,
                        rules::WORLD_MOVED,
                        Phase::Steady,
                        format!("{whom} is heard again; the failover plan is void"),
                    );
                }
                match self.durable.phase {
                    Phase::Suspecting | Phase::Deciding => {
                        self.enter(
                            making,
                            rules::HEARD_AGAIN,
                            Phase::Steady,
                            format!("{primary} holds the role again; nothing moved"),
                        );
                    }
                    Phase::AwaitingApproval
                        if self
                            .durable
                            .pending
                            .as_ref()
                            .is_some_and(|p| p.plan.epoch != self.durable.epoch) =>
                    {
                        self.drop_pending("is void", "its epoch is over");
                        self.enter(
                            making,
                            rules::WORLD_MOVED,
                            Phase::Steady,
                            "the plan's epoch is over; it is void".into(),
                        );
                    }
                    Phase::Stabilising
                        if self.now.since(self.durable.phase_since) >= self.policy.stabilise =>
                    {
                        self.enter(making, rules::STABLE, Phase::Steady, "stable".into());
                    }
                    Phase::Steady if self.durable.pending.is_none() => {
                        self.consider_wellness(making, &primary)
                    }
                    Phase::NeedsPerson | Phase::Aborted | Phase::RolledBack
                        if self.now.since(self.durable.phase_since) >= self.policy.stabilise =>
                    {
                        self.enter(
                            making,
                            rules::STABLE,
                            Phase::Steady,
                            "the role is held again".into(),
                        );
                    }
                    _ => {}
                }
            }
            Verdict::Unknown => {}
        }
        self.expire_pending(making);
    }

    /// Whoever is back without the role asks its voters whether it still holds it; not for longer
    /// than its promise lasts.
    pub(super) fn is_done_asking(&self) -> bool {
        let asks_since = self.last_writable.max(self.epoch_since).max(self.started);
        self.now.since(asks_since) > self.cluster.lease
    }

    /// It holds the role by its own word, or several share it.
    fn serves(&self, node: &NodeId) -> bool {
        self.shares_traffic()
            || self.nodes[node].report.as_ref().is_some_and(|r| r.holding.is_some())
    }

    /// Whose failure matters: the holder of the role; where several accept writes, the worst of
    /// them.
    pub(super) fn subject(&self) -> Option<NodeId> {
        if self.shares_traffic() { self.most_unwell() } else { self.primary() }
    }

    /// Whether the role, or a share, belongs elsewhere than where it is.
    fn is_away_from_home(&self, primary: &NodeId) -> Option<NodeId> {
        if self.shares_traffic() {
            let lacking = |n: &&crate::model::topology::Node| {
                n.share > self.units(&n.node_id) && !self.durable.drained.contains(&n.node_id)
            };
            return self.cluster.data_nodes().find(lacking).map(|n| n.node_id.clone());
        }
        self.preferred().filter(|home| home != primary && !self.durable.drained.contains(home))
    }

    /// A plan of the plane's own that waits for a person, and for which the world has moved, would
    /// only be refused: it gives way to a new one. A person's own waits for that person, unless who
    /// it would stop cleanly has failed.
    fn drop_moved(&mut self, making: &mut Making) {
        let failed = |n: &NodeId| self.nodes.get(n).is_some_and(|m| m.verdict == Verdict::Failed);
        let ours = |p: &Pending| p.plan.is_by_policy();
        let pointless =
            |p: &Pending| p.plan.kind.is_planned() && p.plan.demoted().is_some_and(failed);
        let Some(pending) = self.durable.pending.clone().filter(|p| ours(p) || pointless(p)) else {
            self.moved_since = None;
            return;
        };
        let moved = self.moved(&pending.plan);
        if moved.is_empty() {
            self.moved_since = None;
            return;
        }
        let since = *self.moved_since.get_or_insert(self.now);
        let over = pending.plan.epoch != self.durable.epoch;
        if !over && self.now.since(since) < MOVED_FOR {
            return;
        }
        self.moved_since = None;
        self.durable.pending = None;
        let why = moved.join("; ");
        let instead = ours(&pending)
            .then(|| self.draft(&plans::Wish::by_policy(&pending.plan.requested_by, "")).ok())
            .flatten();
        self.say_of_plan(match instead {
            Some(new) => format!("plan changed: {}, because {why}; review it again", {
                changed(&pending.plan, &new)
            }),
            None => format!("plan {} is void, because {why}", pending.digest.short()),
        });
        let text =
            format!("plan {} waited for a person, and is void: {why}", pending.digest.short());
        let phase = if self.durable.phase == Phase::AwaitingApproval {
            Phase::Deciding
        } else {
            self.durable.phase
        };
        self.enter(making, rules::WORLD_MOVED, phase, text);
        self.retry_at = self.now;
    }

    /// The role is held and nothing moves: is the primary too unwell to keep it, or does the role
    /// belong elsewhere?
    fn consider_wellness(&mut self, making: &mut Making, primary: &NodeId) {
        if self.nodes[primary].detector.silence(self.now) == detector::Silence::Unknown {
            // Too few samples to call it unwell.
            return;
        }
        let score = health::usual_score(&self.nodes[primary], &self.policy, self.now);
        let classes = &self.policy.constraints.decision;
        let class = health::decide(self.low_since.is_some(), score, classes);
        if class == DecisionClass::None {
            self.low_since = None;
        }
        let by_itself = self.policy.strategy != Strategy::Manual;
        let home = self
            .is_away_from_home(primary)
            .filter(|_| self.policy.constraints.failback.automatic && by_itself);
        if class != DecisionClass::None {
            let since = *self.low_since.get_or_insert(self.now);
            let patience = if class == DecisionClass::Immediate {
                Span::ZERO
            } else {
                self.policy.constraints.decision.graceful_after
            };
            if self.now.since(since) >= patience && self.now >= self.planned_at {
                let reason = format!(
                    "{primary}'s health score has been low for {}, usually {}",
                    self.now.since(since),
                    candidates::milli(score)
                );
                self.move_by_itself(making, rules::GRACEFUL, Why::Graceful, &reason);
            }
        } else if let Some(home) =
            home.filter(|home| self.failback_check(home).is_ok() && self.now >= self.planned_at)
        {
            self.move_by_itself(
                making,
                rules::FAILS_BACK,
                Why::Failback,
                &format!("{home} is where it belongs, and is well"),
            );
        }
    }

    /// A planned move that no person asked for; under a manual policy the plan waits.
    fn move_by_itself(&mut self, making: &mut Making, rule: RuleId, why: Why, reason: &str) {
        self.planned_at = self.now + RETRY_PLANNED;
        let requested = plan::by_policy(&self.policy.policy_id);
        let (failback, settle) = (why == Why::Failback, why == Why::Settle);
        let mut wish = plans::Wish::by_policy(&requested, reason);
        (wish.what.failback, wish.settle) = (failback, settle);
        match self.make_plan(&wish) {
            Ok(plan) => {
                self.refusal.clear();
                let (digest, data) = plan.sealed();
                let text = format!("{reason}: plan {}: {}", digest.short(), plans::summary(&plan));
                self.note(making, rule, "plane", "plan", text, data);
                if self.policy.strategy == Strategy::Manual {
                    self.wait_for_a_person(plan, digest);
                    self.set_phase(Phase::AwaitingApproval);
                } else {
                    self.begin(making, plan, vec![], None);
                }
            }
            Err(refusal) => {
                if is_news(&refusal.why, &self.refusal) {
                    let data = serde_json::to_value(&refusal.checks).unwrap_or_default();
                    let text = format!("{reason}, but nothing is done: {}", refusal.why);
                    self.note(making, rules::NO_GOOD_TARGET, "plane", "refusal", text, data);
                    self.refusal = refusal.why;
                }
            }
        }
    }

    fn consider_failed(&mut self, making: &mut Making, primary: &NodeId) {
        // Known before this plane stood still: nothing moves on that before it could be contradicted.
        if !self.is_released() && self.nodes[primary].knows_no_better(self.now, self.started) {
            return;
        }
        if matches!(self.durable.phase, Phase::Steady | Phase::Suspecting | Phase::Stabilising) {
            let why = self.nodes[primary].why.clone();
            (self.gathering_since, self.failed_at) = (Some(self.now), Some(self.now));
            let at = self.wall;
            remember(&mut self.durable.fallen, Fallen { at, node: primary.clone() });
            let rule = if self.is_released() { rules::GAVE_BACK } else { rules::FAILED };
            let text = if self.nodes[primary].verdict == Verdict::Failed {
                format!("{primary} failed: {why}")
            } else {
                format!("{primary} is back without the role, and does not take it: {why}")
            };
            self.enter(making, rule, Phase::Deciding, text);
        }
        let decides = matches!(self.durable.phase, Phase::Deciding)
            || (matches!(
                self.durable.phase,
                Phase::Aborted | Phase::NeedsPerson | Phase::RolledBack
            ) && self.durable.pending.is_none());
        if !decides || self.now < self.retry_at || self.still_gathering() {
            return;
        }
        let requested = plan::by_policy(&self.policy.policy_id);
        let reason = self.nodes[primary].why.clone();
        let mut made = self.make_plan(&plans::Wish::by_policy(&requested, &reason));
        if made.is_err() && self.policy.strategy == Strategy::Manual {
            // Nobody else can: who held the role may be back.
            let mut wish = plans::Wish::by_policy(&requested, &reason);
            wish.what.resume = true;
            made = self.make_plan(&wish).or(made);
        }
        match made {
            Ok(plan) => {
                self.refusal.clear();
                let (digest, data) = plan.sealed();
                let summary = plans::summary(&plan);
                if self.policy.strategy == Strategy::Manual {
                    self.note(
                        making,
                        rules::PLAN_WAITS,
                        "plane",
                        "plan",
                        format!("plan {}: {summary}; waits for a person", digest.short()),
                        data,
                    );
                    self.wait_for_a_person(plan, digest);
                    self.set_phase(Phase::AwaitingApproval);
                } else {
                    self.note(
                        making,
                        rules::PLAN_RUNS,
                        "plane",
                        "plan",
                        format!("plan {}: {summary}", digest.short()),
                        data,
                    );
                    self.begin(making, plan, vec![], None);
                }
            }
            Err(refusal) => {
                self.retry_at = self.now + RETRY_AFTER;
                // A changing age is no news.
                let news = is_news(&refusal.why, &self.refusal);
                self.refusal = refusal.why;
                if news {
                    let data = serde_json::to_value(&refusal.checks).unwrap_or_default();
                    let text = format!("nothing is done: {}", self.refusal);
                    self.note(making, refusal.rule, "plane", "refusal", text, data);
                }
                let waits = match self.comes_back() {
                    Some(_) => Phase::Deciding,
                    None => Phase::NeedsPerson,
                };
                self.set_phase(waits);
            }
        }
    }

    /// A node with data that may end the outage by itself before long, and what it does: nobody is
    /// asked to accept a loss meanwhile, nor kept from it. What takes longer is no longer waited for.
    pub(super) fn comes_back(&self) -> Option<(NodeId, String)> {
        // Whoever comes back ends nothing without a quorum.
        let too_few = self.reachable_voters() < self.quorum();
        if too_few || self.said().any(|r| r.holding.is_some()) {
            return None;
        }
        let failed = self.failed_at.unwrap_or(self.durable.phase_since);
        let lately = |node: &NodeId, most: Span| {
            let back = self.nodes.get(node).and_then(|m| m.back_since);
            self.now.since(back.map_or(failed, |back| back.max(failed))) < most
        };
        // One that cannot start says so (a setback), and one whose data does not count helps nobody.
        let starts = |r: &&NodeReport| {
            // Its agent has only begun to look, or its server starts.
            matches!(r.resource.state, ResourceState::Unknown | ResourceState::Starting)
                && r.resource.setback.is_none()
                && r.data_fault.is_none()
                && r.vote.votes
                && lately(&r.member.node, COMES_BACK_MAX)
        };
        if let Some(report) = self.said().find(starts) {
            let node = &report.member.node;
            return Some((node.clone(), self.nodes[node].why.clone()));
        }
        let holder = &self.durable.holder.as_ref()?.node;
        let every = self.policy.reclaim_after;
        let tries = self.policy.strategy != Strategy::Manual
            && lately(holder, Span(every.0.saturating_mul(RECLAIMS)));
        let resume = Proposal { resume: true, ..Proposal::default() };
        let could = || {
            let plan = self.draft(&plans::Wish::of("a person", resume.clone())).ok();
            plan.is_some_and(|plan| plan.to.node == *holder)
        };
        (tries && could()).then(|| {
            (holder.clone(), format!("its agent tries to take the role back every {every}"))
        })
    }

    /// After a release the others cut themselves off and say where their log ends; that is worth a
    /// moment.
    fn still_gathering(&self) -> bool {
        let Some(since) = self.gathering_since else { return false };
        if self.shares_traffic() {
            // Nodes that fall together are one plan.
            let suspect =
                |n: &NodeId| self.units(n) > 0 && self.nodes[n].verdict == Verdict::Suspect;
            return self.now.since(since) < super::sharing::GATHER_MAX
                && self.nodes.keys().any(suspect);
        }
        if self.now.since(since) >= GATHER_MAX || !self.is_released() {
            return false;
        }
        let primary = self.primary();
        self.cluster.data_nodes().filter(|n| Some(&n.node_id) != primary.as_ref()).any(|n| {
            let mind = &self.nodes[&n.node_id];
            let reachable = mind.verdict <= Verdict::Degraded
                && mind.age(self.now).is_some_and(|age| age < Span::secs(1));
            let certain = mind.report.as_ref().is_some_and(|r| {
                !r.vote.releases.is_empty() && r.resource.receiving_from.is_none()
            });
            reachable && !certain
        })
    }

    /// What became of a plan that waited, for whoever reads its page or its gate.
    pub(super) fn say_of_plan(&mut self, news: String) {
        self.plan_news = Some((news, self.now));
    }

    /// What was said of an earlier plan is not this one's, unless it says that it took its place.
    fn wait_for_a_person(&mut self, plan: Plan, digest: Digest) {
        let now = self.now;
        self.plan_news = self.plan_news.take().filter(|(_, at)| now.since(*at) < MOVED_FOR);
        self.durable.pending = Some(Pending { plan, digest, since: now });
    }

    /// The plan that waits is no more.
    pub(super) fn drop_pending(&mut self, word: &str, because: &str) {
        if let Some(pending) = self.durable.pending.take() {
            self.say_of_plan(format!("plan {} {word}: {because}", pending.digest.short()));
        }
    }

    fn expire_pending(&mut self, making: &mut Making) {
        let Some(pending) = &self.durable.pending else { return };
        if self.now.since(pending.since) >= self.policy.approval_timeout {
            let text = format!(
                "plan {} was not approved within {}",
                pending.digest.short(),
                self.policy.approval_timeout
            );
            self.say_of_plan(format!("{text}, and expired; ask for a new one"));
            self.durable.pending = None;
            // Nobody is waited for where clients can write.
            let well = matches!(self.state, ClusterState::Healthy | ClusterState::Degraded);
            let phase = if well { Phase::Steady } else { Phase::NeedsPerson };
            self.enter(making, rules::APPROVAL_TIMEOUT, phase, text);
            self.retry_at = self.now + self.policy.approval_timeout;
        }
    }
}

/// What matters about a new plan to whoever read the old one.
fn changed(old: &Plan, new: &Plan) -> String {
    let loss = |p: &Plan| format!("loss {}", p.loss.short());
    let steps = |p: &Plan| p.steps.iter().map(|s| s.kind.word()).collect::<Vec<_>>().join(", ");
    let parts = [
        (old.kind.word().to_owned(), new.kind.word().to_owned()),
        (old.to.node.as_str().to_owned(), new.to.node.as_str().to_owned()),
        (loss(old), loss(new)),
        (steps(old), steps(new)),
    ];
    let parts = parts.into_iter().filter(|(then, now)| then != now);
    let words: Vec<String> = parts.map(|(then, now)| format!("{then} → {now}")).collect();
    if words.is_empty() { plans::summary(new) } else { words.join(", ") }
}

/// Another refusal, whatever was measured and in whichever order the nodes come.
fn is_news(why: &str, before: &str) -> bool {
    let words = |text| {
        let mut words = shape(text);
        words.sort_unstable();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    words(why) != words(before)
}
