//! What would happen next, and what if: values only. Sentences are made of them where they are shown.

use serde::{Deserialize, Serialize};

use super::loss::LossAccount;
use super::plan::{Candidate, Check, StepKind};
use super::share::Pattern;
use super::view::{Phase, Verdict};
use super::{Digest, NodeId, Span, WallTime};

/// "What would happen if".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// What happens next by itself, when, and how to stop it.
    pub next: Next,
    /// What would happen if the primary died now.
    pub if_primary_died: IfDied,
    /// What became of the plan that waited before: replaced, and by what and why, or expired.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan_news: String,
    /// The candidate table for now.
    pub candidates: Vec<Candidate>,
    /// Nothing ends this by itself although nobody was asked yet: too few observers are left.
    #[serde(default)]
    pub stuck: bool,
    /// What happens, or why nothing does.
    #[serde(default)]
    pub answer: Answer,
    /// What the policy says of a move now.
    #[serde(default)]
    pub constraints: Vec<Check>,
    /// What the simulator made of "if the primary died now"; `None` where nobody asked it yet.
    #[serde(default)]
    pub forecast: Option<ForecastView>,
}

/// What happens next by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// No node ever held the role here.
    #[default]
    FirstPrimary,
    /// Nothing, while this holds.
    Nothing,
    /// It is judged now whether anything begins.
    Judged {
        /// Whether the policy lets it begin without a person.
        by_itself: bool,
    },
    /// Nothing: too few are in reach to conclude that it failed.
    Stuck {
        /// Who is suspected.
        primary: NodeId,
        /// Who can be asked.
        count: Count,
    },
    /// The observers conclude, or they do not.
    Suspected {
        /// Whether a failover follows without a person.
        by_itself: bool,
    },
    /// A plan is made from the best candidate.
    Decided,
    /// A plan waits for a person.
    Waits {
        /// Whether a failover would begin all the same if the primary failed.
        by_itself: bool,
        /// When it expires.
        left: Option<Span>,
    },
    /// Nothing, while a plan waits that is no failover.
    Pending {
        /// When it expires.
        left: Span,
    },
    /// A person decides.
    Person {
        /// When a new plan is made without one.
        retry: Option<Span>,
    },
    /// A move is looked for again and again.
    Sought {
        /// How often.
        every: Span,
        /// Why none is made.
        why: String,
    },
    /// Back to steady.
    Stabilises,
    /// A new plan, if it is still failed.
    Afresh,
    /// The run goes on, also without the plane.
    Runs,
    /// No plane is heard: nobody fails over.
    NoPlane {
        /// Whether somebody holds the role.
        held: bool,
    },
    /// Words of a plane that is older than this.
    #[serde(untagged)]
    Words(String),
}

/// How many voters can be asked, of how many, and how many are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// In reach.
    pub reachable: usize,
    /// In all.
    pub voters: usize,
    /// Needed.
    pub needed: usize,
}

/// What would happen if the primary died now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IfDied {
    /// It was judged.
    Judged(Box<Death>),
    /// Words of a plane that is older than this.
    Words(String),
    /// Nobody said.
    #[default]
    NotSaid,
}

/// The death of a primary, foreseen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Death {
    /// Whose.
    pub node: NodeId,
    /// It has failed already.
    pub failed: bool,
    /// What follows.
    pub then: Then,
    /// With its whole host nobody could be promoted: too few voters would be left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fatal_host: Option<Count>,
}

/// What follows the death of a primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// No plane is heard: nobody is promoted.
    NoPlane {
        /// Whether its agent takes the role back by itself when it can.
        takes_back: bool,
    },
    /// Others take its share of the traffic.
    Shared {
        /// Who takes more.
        gains: Vec<Gain>,
        /// Units that nobody can carry.
        shed: u64,
    },
    /// Too few voters are in reach.
    NoQuorum {
        /// How many.
        count: Count,
    },
    /// Nobody is eligible.
    NobodyEligible {
        /// Each, with the names of the checks that it fails.
        failing: Vec<(NodeId, Vec<String>)>,
    },
    /// The policy holds it back.
    HeldBack {
        /// By this.
        check: Box<Check>,
    },
    /// The loss would be more than the policy tolerates.
    TooMuch {
        /// The loss.
        loss: LossAccount,
        /// In bytes.
        limit: u64,
    },
    /// Somebody is promoted.
    Promotes {
        /// Who.
        to: NodeId,
        /// Only after a person's word.
        asks: bool,
        /// What has to be ended or lifted before.
        held_up: String,
        /// What would be lost.
        loss: LossAccount,
        /// The last outage that was measured here.
        measured: Option<Span>,
        /// The longest that its promises still bind after the loss of its host.
        bound: Span,
    },
}

/// Who takes more of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gain {
    /// Who.
    pub node: NodeId,
    /// Units before.
    pub before: u64,
    /// Units afterwards.
    pub after: u64,
    /// It accepts writes only then.
    pub promoted: bool,
}

/// What happens, or why nothing does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nobody said.
    #[default]
    NotSaid,
    /// No node ever held the role here.
    NeverHeld,
    /// A plan runs.
    Runs {
        /// Which.
        plan: Digest,
        /// The step it is at, on which node, and what was found; `None` when all are done.
        step: Option<(StepKind, NodeId, String)>,
    },
    /// A plan waits for a person.
    Waits {
        /// Which.
        plan: Digest,
        /// The move, in words.
        what: String,
    },
    /// Too few voters are in reach for anybody to hold the role.
    NobodyMay {
        /// Who held it last.
        last: NodeId,
        /// How many.
        count: Count,
    },
    /// It failed, and nothing is done.
    Refused {
        /// Who failed.
        primary: NodeId,
        /// Why nothing is done.
        why: String,
    },
    /// It failed.
    Failed {
        /// Who.
        primary: NodeId,
        /// By what.
        why: String,
    },
    /// It is suspected.
    Suspect {
        /// Who.
        primary: NodeId,
        /// By what.
        why: String,
    },
    /// It was not heard yet.
    NotHeard {
        /// Who.
        primary: NodeId,
    },
    /// Several nodes accept writes, and nothing moves.
    Shared {
        /// Who accepts writes.
        pattern: Pattern,
        /// The reason of the state.
        why: String,
    },
    /// Nothing moves, and all is not well.
    NotWell {
        /// Who holds the role.
        primary: NodeId,
        /// The reason of the state.
        why: String,
        /// How many could take it.
        ready: usize,
    },
    /// Nothing moves: it holds the role.
    Well {
        /// Who.
        primary: NodeId,
        /// What is thought of it.
        verdict: Verdict,
        /// How many could take it.
        ready: usize,
    },
    /// In between.
    Passes {
        /// Where.
        phase: Phase,
        /// What was refused last; empty where nothing was.
        why: String,
    },
    /// Words of a plane that is older than this.
    #[serde(untagged)]
    Words(String),
}

/// What many simulated runs from the present state came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastView {
    /// When it was made.
    pub made: WallTime,
    /// How many runs.
    pub runs: u64,
    /// Half of them were without writes for at most so long.
    pub outage_p50: Span,
    /// 95 of 100.
    pub outage_p95: Span,
    /// 99 of 100.
    #[serde(default)]
    pub outage_p99: Span,
    /// The longest.
    pub outage_max: Span,
    /// The same for the loss of its whole host: half of the runs.
    pub host_p50: Span,
    /// 95 of 100 of them.
    pub host_p95: Span,
    /// 99 of 100.
    #[serde(default)]
    pub host_p99: Span,
    /// Runs in which acknowledged writes were lost.
    pub losing: u64,
    /// The most acknowledged writes that were lost in one of them.
    #[serde(default)]
    pub lost_max: u64,
    /// Runs that ended read-only.
    pub read_only: u64,
    /// The same for the loss of its whole host.
    #[serde(default)]
    pub host_read_only: u64,
    /// The seed of the worst run.
    #[serde(default)]
    pub worst_seed: u64,
}
