//! What windows draw: the whole picture of one cluster, as plain data. The plane makes it from its
//! engine; an agent makes a smaller one from what it knows, and says so.

use serde::{Deserialize, Serialize};

use super::loss::LossAccount;
use super::observation::NodeReport;
use super::outlook::{Answer, Outlook};
use super::plan::{Candidate, Plan, Proposal, StepKind};
use super::record::{ChainVerdict, ChainedRecord};
use super::topology::{Role, Strategy};
use super::{ClusterId, Digest, Epoch, Member, NodeId, Span, WallTime};

/// What a quorum concludes about a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not enough evidence yet.
    #[default]
    Unknown,
    /// Works.
    Healthy,
    /// Works, with something wrong.
    Degraded,
    /// Silent or contradictory; not concluded.
    Suspect,
    /// Concluded by a quorum, or by its own clean word.
    Failed,
}

impl Verdict {
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            Verdict::Healthy => "healthy",
            Verdict::Degraded => "degraded",
            Verdict::Suspect => "suspect",
            Verdict::Failed => "failed",
        }
    }
}

/// The state of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// Not known yet.
    #[default]
    Unknown,
    /// A primary, all nodes healthy, commits confirmed as configured.
    Healthy,
    /// Writable, with less than it should have.
    Degraded,
    /// No quorum or no primary: read-only.
    Critical,
}

impl ClusterState {
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            ClusterState::Unknown => "UNKNOWN",
            ClusterState::Healthy => "HEALTHY",
            ClusterState::Degraded => "DEGRADED",
            ClusterState::Critical => "CRITICAL",
        }
    }
}

/// Where a move of the write role stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing moves.
    #[default]
    Steady,
    /// The primary is silent; not concluded.
    Suspecting,
    /// It failed; evidence for a target is gathered.
    Deciding,
    /// A plan waits for a person.
    AwaitingApproval,
    /// The candidate is armed and claims when the voters would grant.
    Claiming,
    /// The former holder is being stopped.
    Fencing,
    /// The candidate has won and promotes.
    Promoting,
    /// The others are pointed at the new primary.
    Routing,
    /// Proved by a real write.
    Verifying,
    /// Done; checks are heightened.
    Stabilising,
    /// Given up before anything changed.
    Aborted,
    /// Undone; the former holder has the role again.
    RolledBack,
    /// Stopped; a person must choose.
    NeedsPerson,
}

impl Phase {
    /// All phases of a move in the order in which they happen, without the exits.
    pub const LADDER: [Phase; 10] = [
        Phase::Steady,
        Phase::Suspecting,
        Phase::Deciding,
        Phase::AwaitingApproval,
        Phase::Fencing,
        Phase::Claiming,
        Phase::Promoting,
        Phase::Routing,
        Phase::Verifying,
        Phase::Stabilising,
    ];
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Steady => "steady",
            Phase::Suspecting => "suspecting",
            Phase::Deciding => "deciding",
            Phase::AwaitingApproval => "awaiting approval",
            Phase::Claiming => "claiming",
            Phase::Fencing => "fencing",
            Phase::Promoting => "promoting",
            Phase::Routing => "routing",
            Phase::Verifying => "verifying",
            Phase::Stabilising => "stabilising",
            Phase::Aborted => "aborted",
            Phase::RolledBack => "rolled back",
            Phase::NeedsPerson => "needs a person",
        }
    }
}

/// A phase with its owner and its clock. Ages are as of the view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseView {
    /// Which.
    pub phase: Phase,
    /// Who has to act.
    pub owner: Owner,
    /// How long it has lasted.
    pub age: Span,
    /// How long until its deadline; `None` where it has none.
    pub deadline: Option<Span>,
    /// What happens at the deadline, in words.
    pub at_deadline: String,
    /// Ways out, the best first.
    pub ways_out: Vec<WayOut>,
}

/// A way out of a state that is not healthy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WayOut {
    /// What is done.
    pub act: Act,
    /// What that is, and why, in one sentence.
    pub text: String,
    /// What acknowledged data it would lose, where it moves the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossAccount>,
    /// What else it needs, in words; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub needs: String,
}

/// Who has to act now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Nobody: nothing moves.
    #[default]
    Nobody,
    /// A plane would, and none is heard.
    NoPlane,
    /// A person.
    Person,
    /// The agents that watch each other.
    Observers,
    /// The plane.
    Plane,
    /// A node, with a step of a run.
    Node(NodeId),
    /// In words of a plane that is older than this.
    #[serde(untagged)]
    Words(String),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Owner::Nobody => "nobody",
            Owner::NoPlane => "nobody: no plane",
            Owner::Person => "a person",
            Owner::Observers => "the observers",
            Owner::Plane => "plane",
            Owner::Node(node) => node.as_str(),
            Owner::Words(words) => words,
        })
    }
}

/// What a person does, or sees happen. Orders among these would be taken now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Ask for this plan, then confirm it.
    Propose(Proposal),
    /// Confirm the plan that waits.
    Execute {
        /// Which.
        plan: Digest,
        /// The name that is typed.
        demoted: NodeId,
    },
    /// Drop the plan that waits.
    Dismiss {
        /// Which.
        plan: Digest,
    },
    /// Say that what happened is known: cooldown, rate and crash loops count anew.
    Acknowledge,
    /// Readmit a node that was reinstalled.
    Readmit {
        /// Which.
        node: NodeId,
    },
    /// A drained node is one like the others again.
    Undrain {
        /// Which.
        node: NodeId,
    },
    /// Remove voters that two persons attest to be powered off.
    Override {
        /// Which.
        remove: Vec<Member>,
    },
    /// Two persons sign that what this node has is the cluster's history.
    History {
        /// Which.
        member: Member,
        /// The system identifier found there.
        system: u64,
        /// The newest timeline of its log.
        timeline: u32,
    },
    /// Start the hosts, or the agents, or mend the network between them and here.
    Start {
        /// Which.
        nodes: Vec<NodeId>,
    },
    /// Mend what the text names, on a node or in a file.
    Mend {
        /// On which node; `None`: in the policy.
        node: Option<NodeId>,
    },
    /// Nothing: it ends by itself, at the phase's deadline at the latest.
    Wait,
}

impl Act {
    /// The command that does it; `None` where a hand does.
    pub fn command(&self) -> Option<String> {
        let names = |members: &[Member]| {
            members.iter().map(|m| m.node.as_str()).collect::<Vec<_>>().join(",")
        };
        Some(match self {
            Act::Propose(what) => what.command(),
            Act::Execute { plan, demoted } => {
                format!("quorate execute {} --confirm {demoted}", plan.short())
            }
            Act::Dismiss { plan } => format!("quorate dismiss {}", plan.short()),
            Act::Acknowledge => "quorate acknowledge --reason 'WHAT WAS FOUND'".into(),
            Act::Readmit { node } => format!("quorate node readmit {node}"),
            Act::Undrain { node } => format!("quorate node undrain {node}"),
            Act::Override { remove } => format!(
                "quorate node override --remove {} --attest 'HOW' --sign order.json",
                names(remove)
            ),
            Act::History { member, .. } => {
                format!("quorate node history {} --attest 'HOW' --sign order.json", member.node)
            }
            Act::Start { .. } | Act::Mend { .. } | Act::Wait => return None,
        })
    }
}

impl std::fmt::Display for WayOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        if let Some(loss) = &self.loss {
            write!(f, "; loss {loss}")?;
        }
        if !self.needs.is_empty() {
            write!(f, "; needs {}", self.needs)?;
        }
        self.act.command().map_or(Ok(()), |command| write!(f, ": {command}"))
    }
}

/// One node on a screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Which node.
    pub node: NodeId,
    /// What it was declared to be.
    pub declared: Role,
    /// What it is now.
    pub role: Role,
    /// Region and site.
    pub place: String,
    /// The conclusion.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
    /// φ × 1000 of the plane's own detector.
    pub phi_milli: u64,
    /// Age of the last heartbeat.
    pub heartbeat_age: Option<Span>,
    /// Which observers see it: (observer, sees it).
    pub votes: Vec<(NodeId, bool)>,
    /// Who sees that its host answers, and that no agent listens there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<NodeId>,
    /// Its last report.
    pub report: Option<NodeReport>,
    /// Log of the primary that is not flushed here, in bytes; `None` where unknown.
    pub lag_bytes: Option<u64>,
    /// Log of the primary that readers here do not see yet, in bytes; `None` where unknown.
    #[serde(default)]
    pub replay_lag_bytes: Option<u64>,
    /// Lag in time; `None` where unknown.
    pub lag: Option<Span>,
    /// The last lags in bytes, oldest first; `None` is a gap.
    pub lag_history: Vec<Option<u64>>,
    /// The usual time between two of its heartbeats.
    #[serde(default)]
    pub interval: Option<Span>,
    /// How well it is, as far as the viewer judges.
    #[serde(default)]
    pub health: Option<HealthView>,
    /// Units of the load it is to carry, where several nodes accept writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u64>,
    /// Units that it can carry, there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Its host is to be stopped: it is no target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Drained>,
}

/// That a node's host is to be stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Who said so.
    pub by: String,
    /// When, by the plane's wall clock.
    pub at: WallTime,
    /// Why.
    pub reason: String,
}

/// A node's health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthView {
    /// 0 to 1000.
    pub score: u64,
    /// What it is made of.
    pub parts: Vec<HealthPart>,
    /// The layered checks' latencies.
    pub layers: Vec<LayerView>,
}

/// One part of a health score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthPart {
    /// Its name.
    pub name: String,
    /// 0 to 1000.
    pub milli: u64,
}

/// Latencies of one layer, over the last minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerView {
    /// `live`, `ready` or `deep`.
    pub name: String,
    /// Half are within this.
    pub p50: Span,
    /// 95 of 100.
    pub p95: Span,
    /// 99 of 100.
    pub p99: Span,
    /// The limit.
    pub limit: Span,
}

/// A step while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Which.
    pub kind: StepKind,
    /// Where.
    pub node: NodeId,
    /// What is done.
    pub action: String,
    /// Where it stands.
    pub state: StepState,
    /// How long it has run or took.
    pub took: Option<Span>,
    /// How long it may take.
    pub budget: Span,
    /// What was found, in words.
    pub found: String,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// Running.
    Running,
    /// Done, with its verification.
    Done,
    /// Failed its verification or its budget.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl StepState {
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            StepState::Waiting => "waiting",
            StepState::Running => "running",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Unknown => "unknown",
        }
    }
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The role moved and a real write proved it.
    Verified,
    /// The role moved; the proof is missing.
    Unproved,
    /// Nothing moved.
    Aborted,
    /// It was undone: the former holder has the role.
    RolledBack,
    /// Nobody knows; a person must look.
    Unknown,
}

impl Outcome {
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Verified => "verified",
            Outcome::Unproved => "done, not proved",
            Outcome::Aborted => "aborted",
            Outcome::RolledBack => "rolled back",
            Outcome::Unknown => "unknown",
        }
    }
}

/// A plan being carried out, or the last one that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// The plan's digest.
    pub plan: Digest,
    /// The plan.
    pub body: Plan,
    /// Its steps.
    pub steps: Vec<StepView>,
    /// How long it has run, or took.
    pub age: Span,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// From the last sign of the old primary to the proof on the new one.
    pub rto: Option<Span>,
    /// What that time is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// What was lost.
    pub rpo: Option<LossAccount>,
    /// What fenced the former holder.
    pub fence: Option<super::loss::FenceRung>,
    /// The parts of the verification: name, held, what was found.
    pub verification: Vec<(String, bool, String)>,
    /// How sure the verification is, 0 to 100.
    #[serde(default)]
    pub confidence: u64,
}

/// A move's time in its parts: each has its own owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// From the last sign of the old primary to the conclusion that it failed; none of a planned
    /// move.
    pub detect: Span,
    /// From there, or from the plan, until the word was given: by the policy, or by a person.
    pub decide: Span,
    /// What the machine took then.
    pub act: Span,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "detect {}, decide {}, act {}", self.detect, self.decide, self.act)
    }
}

/// The word for a confidence.
pub fn band(confidence: u64) -> &'static str {
    match confidence {
        95.. => "very_high",
        80.. => "high",
        60.. => "medium",
        _ => "low",
    }
}

/// Who made a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// The plane, of what every agent told it.
    Plane,
    /// An agent, of what it and its peers know: no plane is heard.
    Agent(NodeId),
    /// In words of a program that is older than this.
    #[serde(untagged)]
    Words(String),
}

impl std::fmt::Display for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Maker::Plane => f.write_str("plane"),
            Maker::Agent(node) => write!(f, "agent {node} (no plane)"),
            Maker::Words(words) => f.write_str(words),
        }
    }
}

/// The whole picture of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// `PROD`, `LAB`, …: a word on every screen.
    pub environment: String,
    /// Whether its databases are simulated.
    pub simulated: bool,
    /// Who made this view.
    pub source: Maker,
    /// When it was made.
    pub made: WallTime,
    /// Its state, and why.
    pub state: ClusterState,
    /// Why, in words.
    pub why: String,
    /// Where a move stands.
    pub phase: PhaseView,
    /// The epoch.
    pub epoch: Epoch,
    /// Who holds the write role.
    pub primary: Option<NodeId>,
    /// Who held it last, also where nobody does now.
    #[serde(default)]
    pub last_primary: Option<NodeId>,
    /// Voters whose promise binds them to the holder now.
    pub votes: usize,
    /// Voters in all.
    pub voters: usize,
    /// Votes needed.
    pub quorum: usize,
    /// Who decides.
    pub strategy: Option<Strategy>,
    /// The loss limit in bytes: the line lag is drawn against.
    pub rpo_bytes: u64,
    /// The time limit.
    pub rto: Span,
    /// The nodes.
    pub nodes: Vec<NodeView>,
    /// The plan that waits, if one does.
    pub plan: Option<Plan>,
    /// The run, or the last one.
    pub run: Option<RunView>,
    /// What would happen.
    pub outlook: Outlook,
    /// The newest records, newest last.
    pub records: Vec<ChainedRecord>,
    /// How many records there are.
    pub record_count: u64,
    /// Whether the chain verified when it was last checked.
    pub chain: ChainVerdict,
}

/// Why it is as it is: the verdict table for now, what holds the plane back, who is nearest to
/// being eligible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which cluster.
    pub cluster: ClusterId,
    /// As of when.
    pub made: WallTime,
    /// What happens, or why nothing does.
    pub answer: Answer,
    /// Its state, and why.
    pub state: ClusterState,
    /// Why, in words.
    pub why: String,
    /// Where a move stands.
    pub phase: PhaseView,
    /// Every node with its verdict, its reason and its votes.
    pub nodes: Vec<NodeView>,
    /// What the policy says of a move now.
    pub constraints: Vec<super::plan::Check>,
    /// Every node through every check.
    pub candidates: Vec<Candidate>,
    /// The node that fails the fewest checks, when none is eligible.
    pub nearest: Option<NodeId>,
    /// What an unplanned move would lose now.
    pub loss: Option<LossAccount>,
    /// What was decided lately, refusals among it.
    pub recent: Vec<ChainedRecord>,
}
