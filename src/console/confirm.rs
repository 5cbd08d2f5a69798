//! The gate before an execution: the person types the name of the node that is demoted. Arming
//! binds to cluster, epoch and plan digest, never to a cursor; when any of it changes, or the data
//! grows stale, the field closes and the gate says what changed.

use crate::model::plan::Plan;
use crate::model::view::ClusterView;
use crate::model::{ClusterId, Digest, Epoch, NodeId, Span, Timestamp};
use crate::picture::number;

/// Data older than this cannot fire anything.
pub const STALE: Span = Span::secs(3);
/// Nobody reads a gate faster.
pub const READ_FOR: Span = Span::secs(1);
/// Said of an Enter that came sooner.
pub const READ_FIRST: &str = "read it first: it was opened less than a second ago";
/// Typed before the name where the loss is unknown.
const UNKNOWN: &str = "unknown";

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

/// What is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The word `unknown`: the loss is accepted by name too.
    Loss,
    /// The name of the node that loses the role.
    Name,
}

/// The gate while it is open.
#[derive(Clone, Debug)]
pub struct Confirm {
    cluster: ClusterId,
    epoch: Epoch,
    digest: Digest,
    demoted: NodeId,
    opened: Timestamp,
    /// The plan in question.
    pub plan: Plan,
    /// Which word is typed now.
    pub field: Field,
    /// What was typed.
    pub typed: String,
    /// What the person should know about the last key.
    pub hint: String,
    /// What changed: the field is closed for good.
    pub broken: Option<Broken>,
}

/// Which part of the arming no longer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// `cluster`, `epoch`, `plan` or `picture`.
    pub part: &'static str,
    /// Before → after, in words.
    pub why: String,
}

/// What Enter came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// Nothing typed, or nothing can be: cancelled.
    Cancelled,
    /// Another word.
    Wrong(String),
    /// The loss was accepted by its word; the name comes next.
    Next,
    /// The name.
    Proof(TypedProof),
}

impl Confirm {
    /// Opens the gate for the plan that waits in `view`.
    ///
    /// # Errors
    /// In words, when there is none or it demotes nobody.
    pub fn open(view: &ClusterView, now: Timestamp) -> Result<Self, String> {
        let plan = view.plan.clone().ok_or("no plan waits; :switchover NODE makes one")?;
        let demoted = plan.demoted().cloned().ok_or("the plan demotes nobody")?;
        let unknown = matches!(plan.loss, crate::model::loss::LossAccount::Unknown { .. });
        Ok(Self {
            cluster: view.cluster.clone(),
            epoch: view.epoch,
            digest: plan.digest(),
            demoted,
            opened: now,
            plan,
            field: if unknown { Field::Loss } else { Field::Name },
            typed: String::new(),
            hint: String::new(),
            broken: None,
        })
    }

    /// What no longer holds, if something does not.
    pub fn broken_by(&self, view: &ClusterView, age: Span) -> Option<Broken> {
        let broken = |part, why| Some(Broken { part, why });
        if age > STALE {
            return broken("picture", format!("the picture is {} old", number::since(age)));
        }
        if view.cluster != self.cluster {
            return broken("cluster", format!("{} → {}", self.cluster, view.cluster));
        }
        if view.epoch != self.epoch {
            return broken("epoch", format!("epoch {} → {}", self.epoch, view.epoch));
        }
        match &view.plan {
            None => {
                let why = match view.outlook.plan_news.as_str() {
                    "" => String::new(),
                    news => format!(": {news}"),
                };
                broken("plan", format!("plan {} is gone{why}", self.digest.short()))
            }
            Some(plan) if *plan == self.plan => None,
            Some(plan) => {
                let (before, after) = (&self.plan.to.node, &plan.to.node);
                let moved = if before == after {
                    format!("the plan changed: {} → {}", self.digest.short(), plan.digest().short())
                } else {
                    format!("the plan changed: {before} → {after}")
                };
                let because = match view.outlook.plan_news.as_str() {
                    "" => String::new(),
                    news => format!(", because {news}"),
                };
                broken("plan", format!("{moved}{because}; it is another plan, read it again"))
            }
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
    /// The epoch it is armed on.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// The cluster it is armed on.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }
    /// What has to be typed now.
    pub fn wanted(&self) -> &str {
        match self.field {
            Field::Loss => UNKNOWN,
            Field::Name => self.demoted.as_str(),
        }
    }
    /// When it will have been open for as long as reading takes.
    pub fn ready_at(&self) -> Timestamp {
        self.opened + READ_FOR
    }
    /// How many letters of the word match so far, of how many.
    pub fn matching(&self) -> (usize, usize) {
        let wanted = self.wanted();
        let same = self.typed.chars().zip(wanted.chars()).take_while(|(a, b)| a == b).count();
        (same, wanted.chars().count())
    }

    /// Enter was pressed.
    pub fn enter(&mut self, now: Timestamp) -> Entered {
        if self.broken.is_some() || self.typed.is_empty() {
            return Entered::Cancelled;
        }
        if self.typed != self.wanted() {
            let why = match self.field {
                Field::Loss => format!("{:?} is not the word {UNKNOWN}", self.typed),
                Field::Name if self.typed == self.plan.to.node.as_str() => {
                    format!("{} is the one that gets the role", self.typed)
                }
                Field::Name => format!("{:?} is not the node that loses the role", self.typed),
            };
            return Entered::Wrong(why);
        }
        if self.field == Field::Loss {
            self.field = Field::Name;
            self.typed.clear();
            return Entered::Next;
        }
        if now < self.ready_at() {
            return Entered::Wrong(READ_FIRST.into());
        }
        Entered::Proof(TypedProof { plan: self.digest.clone(), demoted: self.demoted.clone() })
    }
}
