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

/// A change of the voter set under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Change {
    set: VoterSet,
    since: Timestamp,
    /// The first round that was sent since.
    from: u64,
    /// Who has the new set, durably.
    have: BTreeSet<Member>,
    /// What was promised in those rounds.
    promised: BTreeMap<Member, Timestamp>,
}

/// A holder that has won its epoch (or is finding out, after a restart, whether it still holds it).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    me: Member,
    epoch: Epoch,
    voters: VoterSet,
    next: Option<Change>,
    /// A set of its own making is in force.
    settled: bool,
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
            settled: false,
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
    pub fn begin_change(&mut self, set: VoterSet, now: Timestamp) {
        let (from, since) = (self.round + 1, now);
        self.next =
            Some(Change { set, since, from, have: BTreeSet::new(), promised: BTreeMap::new() });
    }
    /// The set that a change under way leads to.
    pub fn next_voters(&self) -> Option<&VoterSet> {
        self.next.as_ref().map(|next| &next.set)
    }
    /// Since when a change is under way.
    pub fn changing_since(&self) -> Option<Timestamp> {
        self.next.as_ref().map(|next| next.since)
    }
    /// A set of this holder's own making is in force since it began to count: no set that another
    /// holder began, and that never came into force, gathers a majority any more. Before that
    /// nothing is changed (the error of single-server changes in Raft: Ongaro, raft-dev, 2015).
    pub fn is_settled(&self) -> bool {
        self.settled
    }
    /// A voter has the new set, durably.
    pub fn changed(&mut self, voter: &Member) {
        if let Some(next) = &mut self.next {
            next.have.insert(voter.clone());
        }
    }
    /// The new set, once it may come into force: with this node's own voter, which takes it last, a
    /// majority of both sets has it, and a majority of it promises for half a lease and more, having
    /// heard since the change began which synchronous sets there are. So no change takes the lease
    /// from its holder, and one that is cut short leaves it with the set before. Until then that
    /// one counts alone: two sets that differ by one voter have no two majorities without a voter
    /// in both (Ongaro's thesis, 4.1), so whoever claims by the new one meets a promise made for
    /// the old.
    pub fn due(&self, now: Timestamp) -> Option<&VoterSet> {
        let next = self.next.as_ref()?;
        let has = |m: &&Member| **m == self.me || next.have.contains(m);
        let majority = |of: &VoterSet| of.members.iter().filter(has).count() >= of.majority();
        let until = promised_until(&next.promised, &next.set)?;
        let lasts = now + Span(self.terms.duration.0 / 2) < until;
        (majority(&self.voters) && majority(&next.set) && lasts).then_some(&next.set)
    }
    /// This node's own voter has the new set too: it counts from now on.
    pub fn take_force(&mut self) {
        let Some(Change { set, .. }) = self.next.take() else { return };
        self.promised.retain(|m, _| set.contains(m));
        (self.voters, self.settled) = (set, true);
    }
    fn has_majorities(&self, who: &BTreeSet<Member>) -> bool {
        let majority =
            |of: &VoterSet| who.iter().filter(|m| of.contains(m)).count() >= of.majority();
        majority(&self.voters) && self.next_voters().is_none_or(majority)
    }
    fn counts(&self, voter: &Member) -> bool {
        self.voters.contains(voter) || self.next_voters().is_some_and(|set| set.contains(voter))
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
            next_version: self.next_voters().map(|set| set.version),
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
    /// was asked and what was promised.
    pub fn ack(&mut self, ack: &Ack) {
        if ack.epoch != self.epoch || ack.holder != self.me || !self.counts(&ack.voter) {
            return;
        }
        if let Some(sent) = self.sent.get(&ack.round) {
            let until = *sent + Span(ack.duration.0.min(self.terms.duration.0));
            self.note(&ack.voter, until);
            if let Some(next) = self.next.as_mut().filter(|next| ack.round >= next.from) {
                let slot = next.promised.entry(ack.voter.clone()).or_insert(until);
                *slot = (*slot).max(until);
            }
        }
        if ack.round >= self.stage.0 {
            self.stage.1.insert(ack.voter.clone());
        }
    }

    fn note(&mut self, voter: &Member, until: Timestamp) {
        let slot = self.promised.entry(voter.clone()).or_insert(until);
        *slot = (*slot).max(until);
    }

    /// Until when it may acknowledge writes: the M-th newest promise. `None` while fewer than a
    /// majority ever promised.
    pub fn held_until(&self) -> Option<Timestamp> {
        promised_until(&self.promised, &self.voters)
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

/// The end of the M-th newest promise of that set.
fn promised_until(promised: &BTreeMap<Member, Timestamp>, set: &VoterSet) -> Option<Timestamp> {
    let of_set = promised.iter().filter(|(m, _)| set.contains(m));
    let mut ends: Vec<Timestamp> = of_set.map(|(_, until)| *until).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    ends.get(set.majority() - 1).copied()
}
