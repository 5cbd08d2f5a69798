//! What one input caused, and the type that keeps effects in until their records are durable.

use serde::{Deserialize, Serialize};

use crate::model::command::Command;
use crate::model::plan::digest_of;
use crate::model::record::Record;
use crate::model::{ClusterId, Digest, Epoch, NodeId, Timestamp, WallTime};

/// The number of a rule in the table.
pub type RuleId = u16;

/// What the plane is asked to do. Levels, not edges: sent twice they do no harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// An order to an agent.
    Command {
        /// To whom.
        node: NodeId,
        /// What.
        command: Box<Command>,
    },
}

/// More than one decision ever needs: an override goes to every voter that is left.
pub const EFFECTS_PER_DECISION_MAX: usize = 64;

/// Proof that the records of one decision are durable. The store's receipt is the only one.
pub trait Durable {
    /// The moment of the decision that was made durable.
    fn at(&self) -> Timestamp;
}

/// What one input caused.
#[derive(Debug)]
#[must_use = "make the records durable, then release the effects"]
pub struct Decision {
    at: Timestamp,
    cause: &'static str,
    records: Vec<Record>,
    effects: Vec<Effect>,
}

impl Decision {
    /// When.
    pub fn at(&self) -> Timestamp {
        self.at
    }
    /// By what kind of input.
    pub fn cause(&self) -> &'static str {
        self.cause
    }
    /// Facts to make durable.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
    /// SHA-256 over its records and effects.
    pub fn digest(&self) -> Digest {
        digest_of(&(&self.records, &self.effects))
    }
    /// Whether anything has to be durable or done.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.effects.is_empty()
    }
    /// The effects, against the proof for exactly this decision.
    pub fn release(self, proof: &impl Durable) -> Vec<Effect> {
        assert_eq!(proof.at(), self.at, "a receipt releases the decision it was given for");
        self.effects
    }
}

/// A decision while it is made.
#[derive(Debug)]
pub(super) struct Making {
    wall: WallTime,
    decision: Decision,
}

impl Making {
    pub(super) fn new(at: Timestamp, wall: WallTime, cause: &'static str) -> Self {
        Self { wall, decision: Decision { at, cause, records: vec![], effects: vec![] } }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site, and each is a column of a record"
    )]
    pub(super) fn record(
        &mut self,
        cluster: &ClusterId,
        epoch: Epoch,
        rule: RuleId,
        actor: &str,
        kind: &str,
        text: String,
        data: serde_json::Value,
    ) {
        self.decision.records.push(Record {
            cluster: cluster.clone(),
            at: self.decision.at,
            wall: self.wall,
            epoch,
            rule,
            actor: actor.to_owned(),
            kind: kind.to_owned(),
            text,
            data,
        });
    }

    pub(super) fn command(&mut self, node: NodeId, command: Command) {
        self.decision.effects.push(Effect::Command { node, command: Box::new(command) });
    }

    pub(super) fn done(self) -> Decision {
        assert!(self.decision.effects.len() <= EFFECTS_PER_DECISION_MAX, "effects are bounded");
        assert!(
            self.decision.effects.is_empty() || !self.decision.records.is_empty(),
            "effects imply records"
        );
        self.decision
    }
}
