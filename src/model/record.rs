//! A fact for the audit: what happened, by which rule, on what evidence, by whose authority.

use serde::{Deserialize, Serialize};

use super::{ClusterId, Epoch, Timestamp, WallTime};

/// One fact. The store gives it its place in the hash chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The decider's clock.
    pub at: Timestamp,
    /// Wall clock, for people.
    pub wall: WallTime,
    /// The epoch known at that moment.
    pub epoch: Epoch,
    /// The rule that fired; 0 where no rule of the table did.
    pub rule: u16,
    /// Who caused it: `plane`, a person's identity, a node.
    pub actor: String,
    /// One short word for what kind of fact: `verdict`, `phase`, `plan`, `command`, `approval`, …
    pub kind: String,
    /// The sentence people read.
    pub text: String,
    /// The evidence, as data.
    pub data: serde_json::Value,
}

/// A record in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainedRecord {
    /// Its number, from 1 without gaps.
    pub number: u64,
    /// SHA-256 of the previous record's canonical form, or 64 zeros.
    pub previous: String,
    /// SHA-256 over number, previous and record.
    pub hash: String,
    /// The fact.
    pub record: Record,
}
