//! The holder's side of the lease: which rounds it sent when, what was promised, and so until when
//! it may acknowledge.
//!
//! It counts from the moment it *asked*; voters count from the moment they *answered*. Clocks are
//! never compared, so only their drift matters, and the grace covers it.

use std::collections::{BTreeMap, BTreeSet};

use super::Terms;
use super::message::{Ack, Renew};
use crate::model::loss::{Doubt, FenceRung, Suspicion};
use crate::model::planted::{Bug, planted};
use crate::model::{
    Epoch, Member, NodeId, Span, SyncSet, SyncStage, TimelineHistory, Timestamp, VoterSet,
};

/// Rounds remembered while their answers are outstanding.
pub const ROUNDS_MAX: usize = 64;

/// A holder that has won its epoch (or is finding out, after a restart, whether it still holds it).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    me: Member,
    epoch: Epoch,
    voters: VoterSet,
    /// A change under way, and who has the new set durably.
    next: Option<(VoterSet, BTreeSet<Member>)>,
    sync: SyncStage,
    doubt: Doubt,
    /// The first round that carried this stage, and who acknowledged one.
    stage: (u64, BTreeSet<Member>),
    terms: Terms,
    round: u64,
    sent: BTreeMap<u64, Timestamp>,
    promised: BTreeMap<Member, Timestamp>,
}

impl Holder {
    /// A holder of `epoch`. `first_round` is one that no earlier process of this node used, so that
    /// late answers to an earlier process do not count.
    pub fn new(
        me: Member,
        epoch: Epoch,
        voters: VoterSet,
        sync: SyncStage,
        terms: Terms,
        first_round: u64,
    ) -> Self {
        Self {
            me,
            epoch,
            voters,
            next: None,
            sync,
            doubt: Doubt::default(),
            stage: (first_round, BTreeSet::new()),
            terms,
            round: first_round,
            sent: BTreeMap::new(),
            promised: BTreeMap::new(),
        }
    }

    /// The epoch held.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// Its synchronous sets.
    pub fn sync(&self) -> &SyncStage {
        &self.sync
    }
    /// The set that the database uses, or is to use.
    pub fn sync_set(&self) -> SyncSet {
        self.sync.sets.last().cloned().unwrap_or_default()
    }

    /// What is said against the account of its writes; true when that is news.
    pub fn doubts(&mut self, found: Option<&Suspicion>, excluded: &[String]) -> bool {
        let why = found.map(|f| f.why.as_str());
        let own_log = found.is_some_and(|f| f.own_log);
        let same = self.doubt.why.as_deref() == why && self.doubt.own_log == own_log;
        let known = same && self.doubt.excluded == excluded;
        if known || planted(Bug::DoubtForgotten) {
            return false;
        }
        self.doubt = Doubt {
            number: self.doubt.number + 1,
            why: why.map(ToOwned::to_owned),
            own_log,
            excluded: excluded.to_vec(),
            loose: std::mem::take(&mut self.doubt.loose),
        };
        true
    }
    /// Who held the role before and was not seen stopped when this epoch was won.
    pub fn keep_loose(&mut self, loose: Vec<(Member, FenceRung)>) {
        if self.doubt.loose != loose {
            (self.doubt.loose, self.doubt.number) = (loose, self.doubt.number + 1);
        }
    }
    /// What this holder said against it before, in this epoch or the one that it takes back.
    pub fn keep_doubt(&mut self, doubt: Doubt) {
        self.doubt = doubt;
    }
    /// What is said against the account of its writes.
    pub fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    /// Begins a stage of a change of the synchronous set.
    pub fn begin_stage(&mut self, sets: Vec<SyncSet>) {
        self.sync = SyncStage { number: self.sync.number + 1, sets };
        self.stage = (self.round + 1, BTreeSet::new());
    }
    /// Whether a majority of the voters has the present stage, durably.
    pub fn stage_is_durable(&self) -> bool {
        self.has_majorities(&self.stage.1)
    }

    /// Begins a change of the voter set, by one voter.
    pub fn begin_change(&mut self, set: VoterSet) {
        self.next = Some((set, BTreeSet::new()));
    }
    /// The set that a change under way leads to.
    pub fn next_voters(&self) -> Option<&VoterSet> {
        self.next.as_ref().map(|(set, _)| set)
    }
    /// A voter has the new set, durably. True when the set is in force by that.
    pub fn changed(&mut self, voter: &Member, now: Timestamp) -> bool {
        let Some((_, have)) = &mut self.next else { return false };
        have.insert(voter.clone());
        self.take_force(now)
    }
    /// The new set is in force when a majority of both sets has it and a majority of it promises:
    /// no change takes the lease from its holder. Until then the set before counts alone. Two sets
    /// that differ by one voter have no two majorities without a voter in both (Ongaro's thesis,
    /// 4.1), so whoever claims by the new set meets a promise made for the old one.
    fn take_force(&mut self, now: Timestamp) -> bool {
        let Some((set, have)) = &self.next else { return false };
        let majority =
            |of: &VoterSet| have.iter().filter(|m| of.contains(m)).count() >= of.majority();
        let promised = self.promised_until(set).is_some_and(|until| now < until);
        if !majority(&self.voters) || !majority(set) || !promised {
            return false;
        }
        let set = set.clone();
        self.promised.retain(|m, _| set.contains(m));
        (self.voters, self.next) = (set, None);
        true
    }
    fn has_majorities(&self, who: &BTreeSet<Member>) -> bool {
        let majority =
            |of: &VoterSet| who.iter().filter(|m| of.contains(m)).count() >= of.majority();
        majority(&self.voters) && self.next.as_ref().is_none_or(|(set, _)| majority(set))
    }
    fn counts(&self, voter: &Member) -> bool {
        self.voters.contains(voter)
            || self.next.as_ref().is_some_and(|(set, _)| set.contains(voter))
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
    /// `process` names the agent process, `system` its data.
    pub fn renew(
        &mut self,
        now: Timestamp,
        promoted: Option<TimelineHistory>,
        system: Option<u64>,
        process: u64,
    ) -> Renew {
        self.round += 1;
        self.sent.insert(self.round, now);
        while self.sent.len() > ROUNDS_MAX {
            self.sent.pop_first();
        }
        Renew {
            voters_version: self.voters.version,
            next_version: self.next.as_ref().map(|(set, _)| set.version),
            epoch: self.epoch,
            holder: self.me.clone(),
            round: self.round,
            duration: self.terms.duration,
            sync: self.sync.clone(),
            promoted,
            system,
            process,
            doubt: self.doubt.clone(),
        }
    }

    /// When a round was sent, while its answers are outstanding.
    pub fn sent(&self, round: u64) -> Option<Timestamp> {
        self.sent.get(&round).copied()
    }

    /// An answer. Counts only for this epoch and incarnation, from a voter of this set, for a round
    /// still remembered; the promise reaches from when that round was *sent* for the lesser of what
    /// was asked and what was promised. True when a changed voter set is in force by it.
    pub fn ack(&mut self, ack: &Ack, now: Timestamp) -> bool {
        if ack.epoch != self.epoch || ack.holder != self.me || !self.counts(&ack.voter) {
            return false;
        }
        if let Some(sent) = self.sent.get(&ack.round) {
            let until = *sent + Span(ack.duration.0.min(self.terms.duration.0));
            self.note(&ack.voter, until);
        }
        if ack.round >= self.stage.0 {
            self.stage.1.insert(ack.voter.clone());
        }
        self.take_force(now)
    }

    fn note(&mut self, voter: &Member, until: Timestamp) {
        let slot = self.promised.entry(voter.clone()).or_insert(until);
        *slot = (*slot).max(until);
    }

    /// Until when it may acknowledge writes: the M-th newest promise. `None` while fewer than a
    /// majority ever promised.
    pub fn held_until(&self) -> Option<Timestamp> {
        self.promised_until(&self.voters)
    }
    fn promised_until(&self, set: &VoterSet) -> Option<Timestamp> {
        let of_set = self.promised.iter().filter(|(m, _)| set.contains(m));
        let mut ends: Vec<Timestamp> = of_set.map(|(_, until)| *until).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(set.majority() - 1).copied()
    }

    /// Whether it may acknowledge at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.held_until().is_some_and(|until| now < until)
    }

    /// Whether this voter's promise reaches beyond `now`.
    pub fn is_promised_by(&self, voter: &Member, now: Timestamp) -> bool {
        self.promised.get(voter).is_some_and(|until| now < *until)
    }

    /// Voters whose promise reaches beyond `now`.
    pub fn promised_by(&self, now: Timestamp) -> Vec<NodeId> {
        self.promised
            .iter()
            .filter(|(_, until)| now < **until)
            .map(|(m, _)| m.node.clone())
            .collect()
    }
}
