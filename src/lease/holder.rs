//! The holder's side of the lease: which rounds it sent when, what was promised, and so until when it may acknowledge.
//!
//! It counts from the moment it *asked*; voters count from the moment they *answered*. Clocks are never compared, so
//! only their drift matters, and the grace covers it.

use std::collections::BTreeMap;

use super::Terms;
use super::message::{Ack, Renew};
use crate::model::{Epoch, Member, NodeId, Span, SyncSet, TimelineHistory, Timestamp, VoterSet};

/// Rounds remembered while their answers are outstanding.
pub const ROUNDS_MAX: usize = 64;

/// A holder that has won its epoch (or is finding out, after a restart, whether it still holds it).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    me: Member,
    epoch: Epoch,
    voters: VoterSet,
    sync: SyncSet,
    terms: Terms,
    round: u64,
    sent: BTreeMap<u64, Timestamp>,
    promised: BTreeMap<Member, Timestamp>,
}

impl Holder {
    /// A holder of `epoch`. `first_round` is one that no earlier process of this node used, so that late answers to an
    /// earlier process do not count.
    pub fn new(me: Member, epoch: Epoch, voters: VoterSet, sync: SyncSet, terms: Terms, first_round: u64) -> Self {
        Self { me, epoch, voters, sync, terms, round: first_round, sent: BTreeMap::new(), promised: BTreeMap::new() }
    }

    /// The epoch held.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// Its synchronous set.
    pub fn sync(&self) -> &SyncSet {
        &self.sync
    }
    /// Who votes.
    pub fn voters(&self) -> &VoterSet {
        &self.voters
    }

    /// A grant counts as a promise from the moment its claim was sent.
    pub fn granted(&mut self, voter: &Member, claim_sent: Timestamp) {
        self.note(voter, claim_sent + self.terms.duration);
    }

    /// The next renewal, to be sent to every voter, this node's own included.
    pub fn renew(&mut self, now: Timestamp, promoted: Option<TimelineHistory>) -> Renew {
        self.round += 1;
        self.sent.insert(self.round, now);
        while self.sent.len() > ROUNDS_MAX {
            self.sent.pop_first();
        }
        Renew {
            voters_version: self.voters.version,
            epoch: self.epoch,
            holder: self.me.clone(),
            round: self.round,
            duration: self.terms.duration,
            sync: self.sync.clone(),
            promoted,
        }
    }

    /// An answer. Counts only for this epoch and incarnation, from a voter of this set, for a round still remembered;
    /// the promise reaches from when that round was *sent* for the lesser of what was asked and what was promised.
    pub fn ack(&mut self, ack: &Ack) {
        if ack.epoch != self.epoch || ack.holder != self.me || !self.voters.contains(&ack.voter) {
            return;
        }
        if let Some(sent) = self.sent.get(&ack.round) {
            let until = *sent + Span(ack.duration.0.min(self.terms.duration.0));
            self.note(&ack.voter, until);
        }
    }

    fn note(&mut self, voter: &Member, until: Timestamp) {
        let slot = self.promised.entry(voter.clone()).or_insert(until);
        *slot = (*slot).max(until);
    }

    /// Until when it may acknowledge writes: the M-th newest promise. `None` while fewer than a majority ever promised.
    pub fn held_until(&self) -> Option<Timestamp> {
        let mut ends: Vec<Timestamp> = self.promised.values().copied().collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(self.voters.majority() - 1).copied()
    }

    /// Whether it may acknowledge at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.held_until().is_some_and(|until| now < until)
    }

    /// Voters whose promise reaches beyond `now`.
    pub fn promised_by(&self, now: Timestamp) -> Vec<NodeId> {
        self.promised.iter().filter(|(_, until)| now < **until).map(|(m, _)| m.node.clone()).collect()
    }
}
