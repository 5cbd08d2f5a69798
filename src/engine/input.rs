//! Everything the world may tell an engine. Plain data: the plane journals it, and the journal
//! replays.

use serde::{Deserialize, Serialize};

use super::refused::RefusedRequest;
use crate::model::command::{CommandReply, HistoryOrder, OverrideOrder, VoterOrder};
use crate::model::observation::{Certificate, NodeReport};
use crate::model::plan::{Approval, Proposal};
use crate::model::{Digest, NodeId};

/// One fact with its source. Stale, duplicate and reordered ones are normal: an older report than
/// the newest of the same agent process is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// An agent's report.
    Report(Box<NodeReport>),
    /// What became of a command.
    Reply {
        /// Whose.
        node: NodeId,
        /// What.
        reply: CommandReply,
    },
    /// A person's order; their identity was checked at the door.
    Person {
        /// Who.
        who: String,
        /// What.
        order: PersonOrder,
    },
    /// What the fleet's guard concludes: why automatic action pauses; empty: it goes on.
    Fleet(String),
    /// A request was refused: at the door, or by a check before it got here.
    Refused(RefusedRequest),
    /// How much longer the plane's own certificates are good.
    Certificates(Vec<Certificate>),
    /// Time passed.
    Wakeup,
}

impl Input {
    /// Its kind, for records.
    pub fn cause(&self) -> &'static str {
        match self {
            Input::Report(_) => "report",
            Input::Reply { .. } => "reply",
            Input::Person { .. } => "person",
            Input::Fleet(_) => "fleet",
            Input::Refused(_) => "refused",
            Input::Certificates(_) => "certificates",
            Input::Wakeup => "time",
        }
    }
}

impl PersonOrder {
    /// In words, for records.
    pub fn words(&self) -> String {
        match self {
            PersonOrder::Propose(what) => what.words(),
            PersonOrder::Execute { plan, .. } => format!("the execution of plan {}", plan.short()),
            PersonOrder::Verify { .. } => "a verification".into(),
            PersonOrder::Voters { order, .. } => order.words(),
            PersonOrder::Override { order, .. } => order.words(),
            PersonOrder::History { order, .. } => order.words(),
            PersonOrder::Acknowledge { .. } => "an acknowledgement".into(),
            PersonOrder::Drain { node, reason: Some(_) } => format!("the draining of {node}"),
            PersonOrder::Drain { node, reason: None } => format!("the end of {node}'s draining"),
            PersonOrder::Restart { node, .. } => format!("the restart of {node}'s server"),
            PersonOrder::Dismiss { plan, .. } => format!("the end of plan {}", plan.short()),
        }
    }
}

/// What a person may order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonOrder {
    /// Make a plan.
    Propose(Proposal),
    /// Execute a plan that was shown.
    Execute {
        /// Which.
        plan: Digest,
        /// The demoted node's name as typed.
        demoted: String,
        /// Their signature, checked at the door and again by the agents.
        approval: Approval,
    },
    /// Commit a real write on the primary and read it back, to verify the present state.
    Verify {
        /// Why.
        reason: String,
    },
    /// Change who votes: one node comes, goes, or is readmitted.
    Voters {
        /// What.
        order: VoterOrder,
        /// Their signature over it.
        approval: Approval,
    },
    /// Remove voters that are attested to be powered off.
    Override {
        /// What.
        order: OverrideOrder,
        /// The signatures of two persons.
        approvals: Vec<Approval>,
    },
    /// What a node has is the cluster's history, whatever the voters' marks say.
    History {
        /// What.
        order: HistoryOrder,
        /// The signatures of two persons.
        approvals: Vec<Approval>,
    },
    /// What happened is known: cooldown, rate and crash loops count anew.
    Acknowledge {
        /// Why.
        reason: String,
    },
    /// A node's host is to be stopped, and it is no target meanwhile; without a reason: it is back.
    Drain {
        /// Which.
        node: NodeId,
        /// Why; `None`: not any more.
        reason: Option<String>,
    },
    /// The server of a standby stops cleanly and starts again, with the settings of its files.
    Restart {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Drop a plan that waits.
    Dismiss {
        /// Which.
        plan: Digest,
        /// Why.
        reason: String,
    },
}
