//! Orders from the plane to agents, and what became of them.

use serde::{Deserialize, Serialize};

use super::plan::{Approval, Plan, digest_of};
use super::{ClusterId, Digest, Member, VoterSet};

/// An order to an agent. It can be sent twice without harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// `cluster/epoch/plan/step/attempt`.
    pub id: String,
    /// What.
    pub order: Order,
}

/// What an agent can be ordered to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Be the candidate of this plan: claim when the voters would grant, then promote.
    Arm {
        /// The plan.
        plan: Box<Plan>,
        /// Signatures over it.
        approvals: Vec<Approval>,
    },
    /// Give the write role back, as this plan says.
    Demote {
        /// The plan.
        plan: Box<Plan>,
        /// Signatures over it.
        approvals: Vec<Approval>,
    },
    /// Take the shares that this plan sets, where several nodes accept writes.
    Shift {
        /// The plan.
        plan: Box<Plan>,
        /// Signatures over it.
        approvals: Vec<Approval>,
    },
    /// Forget a plan that was not begun.
    Disarm {
        /// Which.
        plan: Digest,
    },
    /// Commit a real write and read it back, as primary.
    Prove,
    /// Stop the server of a standby cleanly and start it again, with the settings of its files.
    Restart,
    /// Change who votes and who confirms commits, as holder.
    Voters {
        /// What.
        order: VoterOrder,
        /// Signatures over its digest.
        approvals: Vec<Approval>,
    },
    /// Remove voters whose hosts are attested to be powered off; without a holder.
    Override {
        /// What.
        order: OverrideOrder,
        /// Signatures of two persons over its digest.
        approvals: Vec<Approval>,
    },
    /// What a node has is the cluster's history, whatever the voters' marks say; without a holder.
    History {
        /// What.
        order: HistoryOrder,
        /// Signatures of two persons over its digest.
        approvals: Vec<Approval>,
    },
}

/// One voter more, one less, or one for another (a reinstalled node for its former self).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterOrder {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The version of the voter set it was made for.
    pub from_version: u64,
    /// Who leaves.
    pub remove: Option<Member>,
    /// Who comes.
    pub add: Option<Member>,
    /// Why.
    pub reason: String,
}

impl VoterOrder {
    /// What is signed.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }
    /// In words.
    pub fn words(&self) -> String {
        match (&self.remove, &self.add) {
            (Some(old), Some(new)) if old.node == new.node => format!("readmit {}", new.node),
            (Some(old), Some(new)) => format!("replace {} by {}", old.node, new.node),
            (Some(old), None) => format!("remove {}", old.node),
            (None, Some(new)) => format!("add {}", new.node),
            (None, None) => "nothing".into(),
        }
    }
}

/// Voters that are removed because their hosts are powered off, as two persons attest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideOrder {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The voter set that is left.
    pub left: VoterSet,
    /// Who is powered off.
    pub remove: Vec<Member>,
    /// Nobody can know what those acknowledged that are gone: a former holder among those left may
    /// take the role back all the same. Otherwise somebody has to ask for a plan that accepts it.
    #[serde(default)]
    pub accept_unknown_loss: bool,
    /// Why, and how the power-off was made sure of.
    pub reason: String,
}

impl OverrideOrder {
    /// What is signed.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }
    /// In words.
    pub fn words(&self) -> String {
        let names: Vec<&str> = self.remove.iter().map(|m| m.node.as_str()).collect();
        let accepts = if self.accept_unknown_loss { "; an unknown loss is accepted" } else { "" };
        format!("{} removed as powered off (attested){accepts}: {}", names.join(", "), self.reason)
    }
}

/// Two persons sign that what a node has now is the cluster's history, where the marks of the voters
/// say otherwise: every node was restored from a backup, or upgraded into a new system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryOrder {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Whose data.
    pub member: Member,
    /// The system identifier that is found there.
    pub system: u64,
    /// The newest timeline of its log.
    pub timeline: u32,
    /// How they know, for the audit.
    pub reason: String,
}

impl HistoryOrder {
    /// What is signed.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }
    /// In words.
    pub fn words(&self) -> String {
        format!(
            "what {} has (system {}, timeline {}) is the history of {}: {}",
            self.member.node, self.system, self.timeline, self.cluster, self.reason
        )
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandReply {
    /// Which command.
    pub id: String,
    /// Taken up, or refused and why.
    pub outcome: Result<(), String>,
}
