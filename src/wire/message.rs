//! The documents that travel: between agents, between agent and plane, and from a person's window.

use serde::{Deserialize, Serialize};

use crate::engine::PersonOrder;
use crate::lease::{
    Ack, Answer, ClaimRequest, EpochSync, Grant, Refusal, ReleaseNotice, Renew, VoterChange,
    VoterRecord,
};
use crate::model::command::{Command, CommandReply};
use crate::model::observation::NodeReport;
use crate::model::plan::Plan;
use crate::model::record::{ChainVerdict, ChainedRecord};
use crate::model::share::Shares;
use crate::model::view::{ClusterView, Explanation};
use crate::model::{Digest, Member, Span, TimelineHistory, VoterSet};

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
    /// The voter set from now on.
    Change(VoterChange),
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
    /// That voter has that version, durably.
    Changed {
        /// Who.
        voter: Member,
        /// Which.
        version: u64,
    },
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
    /// That set.
    #[serde(default)]
    pub voters: Option<VoterSet>,
    /// The last epoch that it knows to be won.
    #[serde(default)]
    pub won: Option<EpochSync>,
    /// The newest line whose winner said that it opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<TimelineHistory>,
    /// Whether its resource runs.
    pub resource_runs: bool,
    /// Releases it knows of.
    pub releases: Vec<ReleaseNotice>,
    /// The shares it keeps, where several nodes accept writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// How often its store was written.
    #[serde(default)]
    pub writes: u64,
    /// The same of its peers, as far as it has heard: a restored store is found out by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<(Member, u64)>,
    /// A server that is not owned takes writes here, and another node is to found the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contests: bool,
    /// Its last report, for a picture without a plane.
    pub report: Option<Box<NodeReport>>,
}

impl Hello {
    /// Says only what this record says, which is durable.
    pub fn rest_on(&mut self, record: &VoterRecord) {
        self.voters_version = record.voters.as_ref().map_or(0, |set| set.version);
        self.voters.clone_from(&record.voters);
        self.won = record.last_won().cloned();
        self.line = record.won_line().cloned();
        self.releases.clone_from(&record.released);
        self.shares.clone_from(&record.shares);
        // What was read after a failed flush may be gone with the next restart.
        self.writes = 0;
        self.known.clear();
    }
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
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to one plane")]
pub enum CallRequest {
    /// The picture, once.
    View,
    /// A person's order: make a plan, execute or drop one, acknowledge what happened.
    Order(PersonOrder),
    /// Why is it as it is, and why did nothing happen?
    Why {
        /// How far to look back.
        within: Span,
    },
    /// Would this plan be executed now?
    DryRun {
        /// Which; its first characters are enough.
        plan: String,
    },
    /// Verify the present state.
    Verify,
    /// Records of the audit.
    Audit {
        /// From this number on.
        first: u64,
        /// At most so many.
        limit: usize,
    },
}

impl CallRequest {
    /// In words, for records.
    pub fn words(&self) -> String {
        match self {
            CallRequest::View => "the picture".into(),
            CallRequest::Order(order) => order.words(),
            CallRequest::Why { .. } => "an explanation".into(),
            CallRequest::DryRun { .. } => "a dry run".into(),
            CallRequest::Verify => "a look at the verification".into(),
            CallRequest::Audit { .. } => "records of the audit".into(),
        }
    }
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
    /// Why.
    Why(Box<Explanation>),
    /// The parts of a verification: name, held, what was found; and the confidence, 0 to 100.
    Verified {
        /// The parts.
        parts: Vec<(String, bool, String)>,
        /// 0 to 100.
        confidence: u64,
    },
    /// Accepted; follow it by watching.
    Accepted {
        /// The plan that runs, or was dropped; empty where the order was about no plan.
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
        /// Whether the whole chain verifies.
        chain: ChainVerdict,
    },
}
