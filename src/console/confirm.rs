//! The gate before an execution: the person types the name of the node that is demoted. Arming
//! binds to cluster, epoch and plan digest, never to a cursor; when any of it changes, or the data
//! grows stale, it disarms and says what changed.

use crate::model::plan::Plan;
use crate::model::view::ClusterView;
use crate::model::{ClusterId, Digest, Epoch, NodeId, Span};

/// Data older than this cannot fire anything.
pub const STALE: Span = Span::secs(3);

/// Proof that somebody read the plan and typed the name. Only [`Confirm::enter`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct TypedProof {
    plan: Digest,
    demoted: NodeId,
}

impl TypedProof {
    /// The plan that was read.
    pub fn plan(&self) -> &Digest {
        &self.plan
    }
    /// The name that was typed.
    pub fn demoted(&self) -> &NodeId {
        &self.demoted
    }
}

/// The gate while it is open.
#[derive(Clone, Debug)]
pub struct Confirm {
    cluster: ClusterId,
    epoch: Epoch,
    digest: Digest,
    demoted: NodeId,
    /// The plan in question.
    pub plan: Plan,
    /// What was typed.
    pub typed: String,
    /// What the person should know about the last key.
    pub hint: String,
}

/// What Enter came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// Nothing typed: cancelled.
    Cancelled,
    /// Another name.
    Wrong,
    /// The name.
    Proof(TypedProof),
}

impl Confirm {
    /// Opens the gate for the plan that waits in `view`.
    ///
    /// # Errors
    /// In words, when there is none or it demotes nobody.
    pub fn open(view: &ClusterView) -> Result<Self, String> {
        let plan = view.plan.clone().ok_or("no plan waits; ask for one with :switchover")?;
        let demoted = plan.demoted().cloned().ok_or("the plan demotes nobody")?;
        Ok(Self {
            cluster: view.cluster.clone(),
            epoch: view.epoch,
            digest: plan.digest(),
            demoted,
            plan,
            typed: String::new(),
            hint: String::new(),
        })
    }

    /// Why the gate has to close, if it has to.
    pub fn broken_by(&self, view: &ClusterView, age: Span) -> Option<String> {
        if age > STALE {
            return Some(format!("the picture is {age} old"));
        }
        if view.cluster != self.cluster {
            return Some(format!("this is cluster {} now", view.cluster));
        }
        if view.epoch != self.epoch {
            return Some(format!("the epoch is {} now, it was {}", view.epoch, self.epoch));
        }
        match &view.plan {
            None => Some("the plan is gone".into()),
            Some(plan) if *plan == self.plan => None,
            Some(plan) => Some(format!("another plan waits now ({})", plan.digest().short())),
        }
    }

    /// The name to type.
    pub fn demoted(&self) -> &NodeId {
        &self.demoted
    }
    /// The plan's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Enter was pressed.
    pub fn enter(&self) -> Entered {
        if self.typed.is_empty() {
            Entered::Cancelled
        } else if self.typed == self.demoted.as_str() {
            Entered::Proof(TypedProof { plan: self.digest.clone(), demoted: self.demoted.clone() })
        } else {
            Entered::Wrong
        }
    }
}
