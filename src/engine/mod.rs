//! One cluster's brain: what it hears goes in with the present moment, what it decides comes out as
//! one value.
//!
//! `handle` runs to the end: no callbacks, no clock, no randomness. Same state and same input give
//! the same decision, byte for byte. Effects leave a decision only against the receipt that its
//! records are durable.
//!
//! Deliberately absent: I/O, retries inside a call, other clusters.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod account;
pub mod candidates;
pub mod certificates;
mod constraints;
pub mod decision;
pub mod detector;
mod draining;
pub mod evacuation;
mod explain;
pub mod fleet;
mod health;
pub mod input;
pub mod journal;
mod judge;
mod mind;
mod moves;
mod people;
pub mod picture;
pub mod plans;
mod quorum;
mod refused;
mod resume;
mod rooms;
pub mod rules;
mod run;
mod serves;
mod sharing;
mod stalemate;
mod view;
mod voices;
mod ways;

#[cfg(test)]
mod account_tests;
#[cfg(test)]
mod tests;

pub use decision::{Decision, Durable, Effect, RuleId};
pub use input::{Input, PersonOrder};
pub use refused::{RefusedRequest, Strangers};
pub use run::confidence;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::loss::Doubt;
use crate::model::observation::Certificate;
use crate::model::outlook::ForecastView;
use crate::model::plan::{Approval, Plan};
use crate::model::share::Shares;
use crate::model::topology::{Cluster, Policy, Role};
use crate::model::view::{ClusterState, ClusterView, Drained, Phase, RunView, StepView, Verdict};
use crate::model::{Digest, Epoch, Member, NodeId, Span, SyncSet, Timestamp, WallTime};
use decision::Making;
use mind::NodeMind;
use stalemate::Stalemate;

/// How often silence is judged when something is amiss.
pub const JUDGE_INTERVAL: Span = Span::millis(50);
/// How often it is judged at least.
pub const JUDGE_INTERVAL_CALM: Span = Span::secs(1);
/// Facts are gathered at most so long before a target is chosen from what is there.
pub const GATHER_MAX: Span = Span::millis(60);
/// A plane that was not called for so long was stalled itself: it judges every 50 ms.
pub const STALL: Span = Span::secs(1);
/// A planned move that was not possible is tried again after this.
pub const RETRY_PLANNED: Span = Span::secs(10);
/// A failed attempt is followed by another after this.
pub const RETRY_AFTER: Span = Span::millis(500);

/// A plan that waits or runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The plan.
    pub plan: Plan,
    /// Its digest.
    pub digest: Digest,
    /// Since when it waits.
    pub since: Timestamp,
}

/// A plan being carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The plan.
    pub plan: Plan,
    /// Its digest.
    pub digest: Digest,
    /// Signatures over it.
    pub approvals: Vec<Approval>,
    /// Its steps.
    pub steps: Vec<StepView>,
    /// Since when the current step runs.
    pub step_since: Timestamp,
    /// Since when it runs.
    pub since: Timestamp,
    /// The last sign that the old primary took writes.
    pub outage_from: Timestamp,
    /// When it was concluded that it failed; of a planned move when its plan was made.
    #[serde(default)]
    pub known_from: Timestamp,
    /// Commands sent for the current step, and when the last was.
    pub attempts: u32,
    /// When the last command was sent.
    pub sent: Timestamp,
}

/// What must survive: written with every decision that has records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last decision's moment.
    pub at: Timestamp,
    /// The highest epoch known.
    pub epoch: Epoch,
    /// Its holder.
    pub holder: Option<Member>,
    /// Plans made so far.
    pub plans: u64,
    /// A plan that waits for a person.
    pub pending: Option<Pending>,
    /// A plan that runs.
    pub run: Option<Run>,
    /// The last run, for screens.
    pub last_run: Option<RunView>,
    /// Where a move stands.
    pub phase: Phase,
    /// When the stabilising phase began, if it is that.
    pub phase_since: Timestamp,
    /// Moves that were made, oldest first, at most [`REMEMBERED_MAX`].
    #[serde(default)]
    pub moves: Vec<Moved>,
    /// Failures of primaries, oldest first, at most as many.
    #[serde(default)]
    pub fallen: Vec<Fallen>,
    /// A person acknowledged what was before this.
    #[serde(default)]
    pub acknowledged: WallTime,
    /// This engine continues an earlier one.
    #[serde(default)]
    pub restarted: bool,
    /// The newest shares of the traffic, where several nodes accept writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// Plans of this plane that ran to their end, oldest first, at most [`REMEMBERED_MAX`].
    #[serde(default)]
    pub ended: Vec<Digest>,
    /// Nodes that a person moved the role or its share away from, until a failback.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drained: BTreeSet<NodeId>,
    /// Nodes whose hosts are to be stopped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub draining: BTreeMap<NodeId, Drained>,
    /// The newest difference of each node that is recorded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<NodeId, WallTime>,
    /// Strangers' requests that are not recorded yet.
    #[serde(default)]
    pub strangers: Strangers,
}

/// Moves and failures remembered for cooldown, rate and crash loops.
pub const REMEMBERED_MAX: usize = 64;

/// A move of the write role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// When.
    pub at: WallTime,
    /// From whom.
    pub from: Option<NodeId>,
    /// To whom.
    pub to: NodeId,
    /// Without a person's order.
    pub by_itself: bool,
}

/// A primary failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fallen {
    /// When.
    pub at: WallTime,
    /// Which.
    pub node: NodeId,
}

/// One cluster's brain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Engine {
    cluster: Cluster,
    policy: Policy,
    started: Timestamp,
    now: Timestamp,
    wall: WallTime,
    nodes: BTreeMap<NodeId, NodeMind>,
    durable: Snapshot,
    state: ClusterState,
    state_why: String,
    judge_at: Timestamp,
    retry_at: Timestamp,
    /// Since `started` this plane stood still, and had been running before.
    stalled: bool,
    /// Orders by the policy that agents refused, one after the other.
    refused_in_a_row: u32,
    /// A planned move by itself is not tried before.
    planned_at: Timestamp,
    gathering_since: Option<Timestamp>,
    /// When it was concluded that the primary failed.
    failed_at: Option<Timestamp>,
    last_writable: Timestamp,
    refusal: String,
    outages: VecDeque<Span>,
    disarmed: Timestamp,
    /// Since when the newest epoch is known.
    epoch_since: Timestamp,
    /// The primary has scored below the graceful class since then.
    low_since: Option<Timestamp>,
    /// The holder was seen to hold the role since the start.
    started_calm: bool,
    /// The synchronous set that the last holder said it used.
    last_sync: Option<SyncSet>,
    /// The command with which a person wanted the present state verified last.
    verify_asked: String,
    /// What the holder said last against the account of its writes.
    last_doubt: Doubt,
    /// Candidates that gave up, and in which epoch: the others are tried first.
    given_up: Vec<(Epoch, NodeId)>,
    /// Candidates that won and refused, again and again.
    stalemate: Stalemate,
    /// Who was asked for a grant and gave none: how often in a row, and when last.
    withheld: BTreeMap<NodeId, (u32, Timestamp)>,
    /// The world has not been the waiting plan's since then.
    moved_since: Option<Timestamp>,
    /// What became of the plan that waited before, for whoever read it.
    plan_news: Option<(String, Timestamp)>,
    /// Agents that are in reach keep different shares since then.
    apart_since: Option<Timestamp>,
    /// What the fleet's guard said last: why automatic action pauses, or nothing; `None` while no
    /// guard looks.
    fleet_pause: Option<String>,
    /// How much longer the plane's own certificates are good.
    #[serde(default)]
    own_certificates: Vec<Certificate>,
    /// What the simulator made of the present state.
    #[serde(skip)]
    forecast: Option<ForecastView>,
    /// Drawn when somebody looks.
    #[serde(skip)]
    view: OnceCell<ClusterView>,
}

impl Engine {
    /// A brain that knows nothing yet.
    pub fn new(cluster: Cluster, policy: Policy, now: Timestamp, wall: WallTime) -> Self {
        let durable = Snapshot {
            at: now,
            epoch: Epoch(0),
            holder: None,
            found: BTreeMap::new(),
            strangers: Strangers::default(),
            plans: 0,
            pending: None,
            run: None,
            last_run: None,
            phase: Phase::Steady,
            phase_since: now,
            moves: vec![],
            fallen: vec![],
            acknowledged: WallTime::default(),
            restarted: false,
            shares: None,
            drained: BTreeSet::new(),
            draining: BTreeMap::new(),
            ended: vec![],
        };
        Self::with(cluster, policy, durable, now, wall)
    }

    /// Continues from what was made durable; outstanding commands are sent again by the first
    /// judgement. Suspicions and detector windows are not restored: after a start a node is
    /// unknown, never failed, until there are samples.
    pub fn restore(
        cluster: Cluster,
        policy: Policy,
        snapshot: Snapshot,
        now: Timestamp,
        wall: WallTime,
    ) -> (Self, Decision) {
        // Another machine, or a reboot: the old clock says nothing. Deadlines start again.
        let mut durable = snapshot;
        durable.phase_since = now;
        durable.restarted = true;
        if let Some(run) = &mut durable.run {
            let ago = |t: Timestamp, at: Timestamp| now - at.since(t);
            (run.since, run.outage_from, run.known_from) = (
                ago(run.since, durable.at),
                ago(run.outage_from, durable.at),
                ago(run.known_from, durable.at),
            );
            (run.step_since, run.sent, run.attempts) = (now, Timestamp(0), 0);
        }
        if let Some(pending) = &mut durable.pending {
            pending.since = now;
        }
        durable.at = now;
        let mut engine = Self::with(cluster, policy, durable, now, wall);
        let mut making = Making::new(now, wall, "restart");
        let what = engine.durable.run.as_ref().map_or_else(
            || "the plane started again; nothing was under way".to_owned(),
            |run| format!("the plane started again and takes up plan {}", run.digest.short()),
        );
        engine.note(
            &mut making,
            rules::RESTORED,
            "plane",
            "restart",
            what,
            serde_json::Value::Null,
        );
        let decision = engine.finish(making);
        (engine, decision)
    }

    fn with(
        cluster: Cluster,
        policy: Policy,
        durable: Snapshot,
        now: Timestamp,
        wall: WallTime,
    ) -> Self {
        let nodes = cluster
            .nodes
            .iter()
            .map(|n| (n.node_id.clone(), NodeMind::new(&policy.detection)))
            .collect();
        Self {
            cluster,
            policy,
            started: now,
            now,
            wall,
            nodes,
            durable,
            state: ClusterState::Unknown,
            state_why: "no agent was heard yet".into(),
            judge_at: now,
            retry_at: now,
            refused_in_a_row: 0,
            stalled: false,
            planned_at: now,
            gathering_since: None,
            failed_at: None,
            last_writable: now,
            refusal: String::new(),
            outages: VecDeque::new(),
            disarmed: Timestamp(0),
            epoch_since: now,
            low_since: None,
            started_calm: false,
            last_sync: None,
            verify_asked: String::new(),
            last_doubt: Doubt::default(),
            given_up: vec![],
            stalemate: Stalemate::default(),
            withheld: BTreeMap::new(),
            moved_since: None,
            plan_news: None,
            apart_since: None,
            fleet_pause: None,
            own_certificates: vec![],
            forecast: None,
            view: OnceCell::new(),
        }
    }

    /// One input. `now` strictly rises.
    pub fn handle(&mut self, now: Timestamp, wall: WallTime, input: Input) -> Decision {
        assert!(now > self.now, "time strictly rises: {now:?} after {:?}", self.now);
        if now.since(self.now) > STALL {
            // This plane did not run for a while: that silence was its own.
            (self.started, self.stalled) = (now, true);
            self.nodes.values_mut().for_each(|mind| mind.detector.forgive(now));
        }
        self.now = now;
        self.wall = wall;
        self.view.take();
        let mut making = Making::new(now, wall, input.cause());
        // A heartbeat that says nothing new waits for the next judgement, unless something is under
        // way.
        let mut judge =
            now >= self.judge_at || self.durable.run.is_some() || self.gathering_since.is_some();
        match input {
            Input::Report(report) => judge |= self.hear(*report),
            Input::Reply { node, reply } => {
                if let Err(why) = &reply.outcome {
                    judge = true;
                    self.command_refused(&mut making, &node, &reply.id, why);
                }
            }
            Input::Person { who, order } => {
                judge = true;
                self.person(&mut making, &who, order);
            }
            Input::Fleet(why) => {
                judge = true;
                if self.fleet_pause.as_deref().unwrap_or_default() != why {
                    let text = if why.is_empty() {
                        "automatic action goes on".to_owned()
                    } else {
                        format!("automatic action pauses: {why}")
                    };
                    self.note(
                        &mut making,
                        rules::FLEET_PAUSED,
                        "plane",
                        "fleet",
                        text,
                        serde_json::Value::Null,
                    );
                }
                self.fleet_pause = Some(why);
            }
            Input::Refused(refused) => self.request_refused(&mut making, refused),
            Input::Certificates(found) => {
                judge = true;
                self.own_certificates = found;
            }
            Input::Wakeup => judge = true,
        }
        if judge {
            self.judge(&mut making);
            self.judge_at = self.judge_next();
        }
        self.finish(making)
    }

    /// While nothing moves and everybody is heard, silence is judged when the first heartbeat is
    /// overdue.
    fn judge_next(&self) -> Timestamp {
        let soon = self.now + JUDGE_INTERVAL;
        let calm = self.durable.phase == Phase::Steady
            && self.durable.run.is_none()
            && self.durable.pending.is_none();
        if !calm || self.now.since(self.started) < Span::secs(5) {
            return soon;
        }
        let due = self.nodes.values().map(|m| m.detector.due()).min().unwrap_or(soon);
        due.clamp(soon, self.now + JUDGE_INTERVAL_CALM)
    }

    /// From here on another policy holds.
    pub fn adopt(&mut self, policy: Policy) {
        for mind in self.nodes.values_mut() {
            mind.detector.adopt(policy.detection.clone());
        }
        self.policy = policy;
        self.view.take();
    }

    /// What the simulator makes of the present state; for people, no decision rests on it.
    pub fn show_forecast(&mut self, forecast: ForecastView) {
        self.forecast = Some(forecast);
        self.view.take();
    }

    /// When something will have to be decided without an input, at the earliest.
    pub fn next_wakeup(&self) -> (Timestamp, &'static str) {
        (self.judge_at, "judge silence and deadlines")
    }

    /// What a console draws.
    pub fn view(&self) -> &ClusterView {
        self.view.get_or_init(|| self.draw())
    }
    /// The cluster it decides for.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
    /// The policy it decides by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
    /// How many of its nodes are silent beyond what is usual, and how many there are.
    pub fn silent(&self, now: Timestamp) -> (usize, usize) {
        let silent = |m: &&NodeMind| {
            m.heard.is_some()
                && m.detector.due() < now
                && m.detector.silence(now) >= detector::Silence::Suspect
        };
        (self.nodes.values().filter(silent).count(), self.nodes.len())
    }
    /// What must survive.
    pub fn snapshot(&self) -> &Snapshot {
        &self.durable
    }

    fn enter(&mut self, making: &mut Making, rule: RuleId, phase: Phase, why: String) {
        let text = format!("{} → {}: {why}", self.durable.phase.word(), phase.word());
        self.note(making, rule, "plane", "phase", text, serde_json::Value::Null);
        self.set_phase(phase);
    }

    fn set_phase(&mut self, phase: Phase) {
        if self.durable.phase != phase {
            self.durable.phase = phase;
            self.durable.phase_since = self.now;
        }
    }

    fn note(
        &self,
        making: &mut Making,
        rule: RuleId,
        actor: &str,
        kind: &str,
        text: String,
        data: serde_json::Value,
    ) {
        making.record(&self.cluster.cluster_id, self.durable.epoch, rule, actor, kind, text, data);
    }

    fn finish(&mut self, making: Making) -> Decision {
        self.durable.at = self.now;
        making.done()
    }

    fn is_data(&self, node: &NodeId) -> bool {
        self.cluster.node(node).is_some_and(|n| n.role != Role::Witness)
    }
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    list.push(item);
    if list.len() > REMEMBERED_MAX {
        list.remove(0);
    }
}
