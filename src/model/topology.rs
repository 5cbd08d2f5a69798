//! What people declare: the cluster, its nodes and the policy. Already validated (see `config`).

use serde::{Deserialize, Serialize};

use super::share::{ConflictPolicy, Pattern, Shares};
use super::{ClusterId, Epoch, NodeId, Span};

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Holds the write role, or is meant to at the start.
    Primary,
    /// Holds a copy and may become primary.
    Secondary,
    /// Votes, holds no data.
    Witness,
}

impl Role {
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Secondary => "secondary",
            Role::Witness => "witness",
        }
    }
}

/// A first belief about a node, replaced by evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclaredStatus {
    /// Believed to work.
    Healthy,
    /// Believed to work badly.
    Degraded,
    /// Believed not to work.
    Failed,
    /// Nothing is believed.
    #[default]
    Unknown,
}

/// One node as declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub node_id: NodeId,
    /// Host name or address of the machine.
    pub hostname: String,
    /// What it is for.
    pub role: Role,
    /// Region, one of the cluster's.
    pub region: String,
    /// Site within the region.
    pub site: String,
    /// First belief.
    pub status: DeclaredStatus,
    /// Higher is preferred as a target.
    pub priority: i64,
    /// What it can carry, in units of load; 100 where nobody measured.
    pub capacity: f64,
    /// Units of the load it is meant to carry, where several nodes accept writes; 0 stands by.
    #[serde(default)]
    pub share: u64,
    /// `host:port` of the agent.
    pub agent_address: String,
    /// TCP port of its PostgreSQL.
    pub postgres_port: u16,
}

/// A cluster as declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub cluster_id: ClusterId,
    /// Its name for people.
    pub name: String,
    /// What kind of place this is; shown as a word on every screen.
    pub environment: String,
    /// Votes needed for a verdict; at least floor(N/2)+1.
    pub quorum_size: usize,
    /// Regions in use.
    pub regions: Vec<String>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// How many standbys confirm a commit before it is acknowledged; 0 is asynchronous.
    pub synchronous_standbys: usize,
    /// Who accepts writes.
    #[serde(default)]
    pub pattern: Pattern,
    /// What becomes of writes that meet, where several nodes accept them.
    #[serde(default)]
    pub conflicts: ConflictPolicy,
    /// D: how long a lease lasts.
    pub lease: Span,
    /// What kinds of data it holds, for the rules on where they may be.
    #[serde(default)]
    pub data_classes: Vec<String>,
}

impl Cluster {
    /// The declaration of `node`.
    pub fn node(&self, node: &NodeId) -> Option<&Node> {
        self.nodes.iter().find(|n| n.node_id == *node)
    }
    /// The shares that the file declares, where several nodes accept writes.
    pub fn declared_shares(&self) -> Option<Shares> {
        let of = self.data_nodes().map(|n| (n.node_id.clone(), n.share)).collect();
        self.pattern.has_several_writers().then_some(Shares { epoch: Epoch(0), plan: None, of })
    }
    /// Nodes that hold data.
    pub fn data_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.role != Role::Witness)
    }
}

/// Who decides that the write role moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The plane, when every check passes.
    Automatic,
    /// A person, always.
    Manual,
    /// The plane, and only on the verdict of a quorum of observers, even for a clean "it stopped".
    QuorumBased,
}

impl Strategy {
    /// The word for screens and files.
    pub fn word(self) -> &'static str {
        match self {
            Strategy::Automatic => "automatic",
            Strategy::Manual => "manual",
            Strategy::QuorumBased => "quorum_based",
        }
    }
}

/// How silence is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Detection {
    /// Phi accrual (Hayashibara et al. 2004): thresholds in thousandths of φ.
    Phi {
        /// Suspect at this φ × 1000.
        suspect_milli: u64,
        /// Failed at this φ × 1000.
        failed_milli: u64,
        /// A floor under the estimated deviation.
        min_deviation: Span,
        /// Added to the mean: a pause that is always forgiven.
        acceptable_pause: Span,
    },
    /// Counting missed intervals.
    Counting {
        /// Expected time between heartbeats.
        interval: Span,
        /// Grace after the interval before a heartbeat counts as missed.
        timeout: Span,
        /// Misses in a row that make a node failed; the first makes it suspect.
        failure_threshold: u32,
        /// Arrivals in a row that make it healthy again.
        recovery_threshold: u32,
        /// Heartbeats may be so many hundredths of the interval late without being missed.
        jitter_percent: u64,
    },
}

impl Default for Detection {
    fn default() -> Self {
        Detection::Phi {
            suspect_milli: 8_000,
            failed_milli: 16_000,
            min_deviation: Span::millis(50),
            acceptable_pause: Span::millis(300),
        }
    }
}

/// What people allow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Its id.
    pub policy_id: String,
    /// Its name for people.
    pub name: String,
    /// Who decides.
    pub strategy: Strategy,
    /// RTO: how long a failover may take, end to end.
    pub max_failover_time: Span,
    /// Whether a verdict needs a quorum of observers.
    pub require_quorum: bool,
    /// Preferred regions, best first.
    pub region_priority: Vec<String>,
    /// Preferred sites, best first.
    pub site_priority: Vec<String>,
    /// Nodes that must be healthy for the plane to act by itself.
    pub min_healthy_nodes: usize,
    /// RPO: acknowledged bytes a failover may lose without a person saying so.
    pub max_loss_bytes: u64,
    /// The lag beyond which a secondary is not a target, in bytes.
    pub max_lag_bytes: u64,
    /// How silence is judged.
    pub detection: Detection,
    /// How long after a planned release without a successor, or after a crash under an automatic
    /// strategy, the former holder may take the role back.
    pub reclaim_after: Span,
    /// How long the plane waits for a person before a plan expires.
    pub approval_timeout: Span,
    /// How long checks are heightened after a move.
    pub stabilise: Span,
    /// What is forbidden, limited and preferred.
    #[serde(default)]
    pub constraints: super::constraints::Constraints,
    /// Whose commits may be acknowledged before a standby has them.
    #[serde(default)]
    pub unsynchronised: Unsynchronised,
}

/// Roles and databases whose commits need not wait for a standby: they are outside the loss
/// account, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsynchronised {
    /// Roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Databases.
    #[serde(default)]
    pub databases: Vec<String>,
}
