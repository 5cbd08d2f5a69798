//! The documents that travel: between agents, between agent and plane, and from a person's window.

use serde::{Deserialize, Serialize};

use crate::lease::{Ack, Answer, ClaimRequest, Grant, Refusal, ReleaseNotice, Renew};
use crate::model::command::{Command, CommandReply};
use crate::model::observation::NodeReport;
use crate::model::plan::{Approval, Plan};
use crate::model::record::ChainedRecord;
use crate::model::view::ClusterView;
use crate::model::{Digest, Member, NodeId, VoterSet};

/// From one agent to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerMessage {
    /// Promise me another lease.
    Renew(Renew),
    /// Would you grant?
    Ask(ClaimRequest),
    /// Grant me an epoch.
    Claim(ClaimRequest),
    /// I gave an epoch back.
    Release(ReleaseNotice),
    /// Who are you, and is your resource running?
    Hello,
    /// The first voter set.
    Install(VoterSet),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerReply {
    /// Promised.
    Ack(Ack),
    /// Not, and why.
    Refused {
        /// Who refuses.
        by: Member,
        /// Why.
        why: Refusal,
    },
    /// What a claim would get.
    Answer(Answer),
    /// Granted.
    Grant(Grant),
    /// Noted.
    Noted,
    /// Who I am.
    Hello(Hello),
}

/// Who an agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Its identity.
    pub member: Member,
    /// The version of its voter set; 0 when none is installed.
    pub voters_version: u64,
    /// Whether its resource runs.
    pub resource_runs: bool,
    /// Releases it knows of.
    pub releases: Vec<ReleaseNotice>,
    /// Its last report, for a picture without a plane.
    pub report: Option<Box<NodeReport>>,
}

/// From an agent to its plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromAgent {
    /// What it sees.
    Report(Box<NodeReport>),
    /// What became of a command.
    Reply(CommandReply),
}

/// From a plane to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// Do this.
    Command(Command),
}

/// A person's request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallRequest {
    /// The picture, once.
    View,
    /// Make a plan; nothing is done.
    Propose {
        /// To which node; `None`: the best candidate.
        to: Option<NodeId>,
        /// Why, in the person's words.
        reason: String,
        /// Accept an unknown loss.
        accept_unknown_loss: bool,
    },
    /// Execute a plan that was shown.
    Execute {
        /// The plan that was shown.
        plan: Digest,
        /// The name of the demoted node, as the person typed it.
        demoted: String,
        /// The person's signature.
        approval: Approval,
    },
    /// Drop a plan that waits.
    Dismiss {
        /// Which.
        plan: Digest,
        /// Why.
        reason: String,
    },
    /// Records of the audit.
    Audit {
        /// From this number on.
        first: u64,
        /// At most so many.
        limit: usize,
    },
}

/// The answer: done, or refused and by which check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallReply {
    /// The picture.
    View(Box<ClusterView>),
    /// The plan.
    Plan {
        /// It.
        plan: Box<Plan>,
        /// Its digest.
        digest: Digest,
    },
    /// Accepted; follow it by watching.
    Accepted {
        /// The plan that runs.
        plan: Digest,
    },
    /// Refused, and why.
    Refused {
        /// Which check.
        check: String,
        /// Why, and what would change it.
        why: String,
    },
    /// Records.
    Audit {
        /// In order.
        records: Vec<ChainedRecord>,
        /// Whether the whole chain verifies, in words.
        chain: String,
    },
}
