//! Traffic shares, for clusters in which several nodes accept writes (active-active, hybrid). A
//! share is in units of capacity; what the shares sum to is the cluster's demand as people declared
//! it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, Epoch, NodeId};

/// Who accepts writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// One node, under a lease.
    #[default]
    ActivePassive,
    /// Every node with a share.
    ActiveActive,
    /// The nodes with a share; the others are promoted only when those cannot carry the load.
    Hybrid,
}

impl Pattern {
    /// The word for screens and files.
    pub fn word(self) -> &'static str {
        match self {
            Pattern::ActivePassive => "active_passive",
            Pattern::ActiveActive => "active_active",
            Pattern::Hybrid => "hybrid",
        }
    }
    /// Several nodes accept writes.
    pub fn has_several_writers(self) -> bool {
        self != Pattern::ActivePassive
    }
}

/// What becomes of two writes to the same key on two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictPolicy {
    /// The one with the later clock stays, the other is gone.
    #[default]
    LastWriteWins,
}

impl ConflictPolicy {
    /// The word for screens and files.
    pub fn word(self) -> &'static str {
        match self {
            ConflictPolicy::LastWriteWins => "last_write_wins",
        }
    }
}

/// Who carries how much, as one plan set it. Epochs of such a cluster number these; an agent takes
/// only a newer one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shares {
    /// Its number; 0 is what the cluster file declares.
    pub epoch: Epoch,
    /// The plan that set it; `None` for the declared one.
    pub plan: Option<Digest>,
    /// Units of every node with data.
    pub of: BTreeMap<NodeId, u64>,
}

/// How one node's share changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareChange {
    /// Which node.
    pub node: NodeId,
    /// Units now.
    pub before: u64,
    /// Units afterwards.
    pub after: u64,
    /// Units it can carry.
    pub capacity: u64,
}

/// What a change of shares can do to writes that meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicts {
    /// How they are settled.
    pub policy: ConflictPolicy,
    /// What that may lose here, in words.
    pub may_lose: String,
}
