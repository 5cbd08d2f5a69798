//! Orders from the plane to agents, and what became of them.

use serde::{Deserialize, Serialize};

use super::Digest;
use super::plan::{Approval, Plan};

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
    /// Forget a plan that was not begun.
    Disarm {
        /// Which.
        plan: Digest,
    },
    /// Commit a real write and read it back, as primary.
    Prove,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandReply {
    /// Which command.
    pub id: String,
    /// Taken up, or refused and why.
    pub outcome: Result<(), String>,
}
