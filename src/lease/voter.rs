//! One voter: what it has promised, and what it may still promise.
//!
//! The rules that make two holders impossible live here: a promise is kept (`lease_until` never
//! moves back for the same holder), a grant needs every older promise to have run out, been
//! released, or belong to the claimant itself, and after a restart the longest promise ever made is
//! presumed to be running.

use serde::{Deserialize, Serialize};

use super::Terms;
use super::message::{Ack, Answer, ClaimRequest, Grant, Refusal, Renew, VoterChange};
use super::speakers::Speakers;
use crate::model::loss::Doubt;
use crate::model::planted::{Bug, planted};
use crate::model::share::Shares;
use crate::model::testimony::{EpochSync, ReleaseNotice, Testimony};
use crate::model::{DataMark, Epoch, Member, Position, Span, TimelineHistory, Timestamp, VoterSet};

/// What a voter keeps: durable, fsynced before any reply that rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoterRecord {
    /// Itself.
    pub me: Member,
    /// Who votes; `None` until a first set was installed.
    pub voters: Option<VoterSet>,
    /// The highest epoch it voted in.
    pub epoch: Epoch,
    /// For whom.
    pub holder: Option<Member>,
    /// Releases it has seen of the epochs in its history; each is final.
    pub released: Vec<ReleaseNotice>,
    /// Longest D it ever promised.
    pub promised_max: Span,
    /// Epochs since (and with) the last one known to be won.
    pub history: Vec<EpochSync>,
    /// Whose power-off two persons attested when they were removed by override, until they vote
    /// again.
    #[serde(default)]
    pub attested: Vec<Member>,
    /// The override that made this set accepted that what the removed acknowledged cannot be known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown_accepted: bool,
    /// The newest shares it was given, where several nodes accept writes and nobody votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// The epoch it claims, or claimed and has not given back: on record before the claim is said.
    /// It is no vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Epoch>,
    /// The epoch it hands over for a person's plan: on record before its database is stopped. Whom
    /// nobody succeeds takes it back, whatever became of the process that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handing: Option<Epoch>,
    /// Which data it answers for.
    #[serde(default)]
    pub data: DataMark,
    /// Two persons signed whose data is the history, and no later epoch was written in since: what
    /// was acknowledged before and is not in it nobody can know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history_signed: bool,
    /// How often this record was written; it never falls unless the store was restored.
    #[serde(default)]
    pub writes: u64,
    /// The same of its peers, as far as it has heard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<(Member, u64)>,
}

impl VoterRecord {
    /// An empty record: a stranger to every cluster.
    pub fn new(me: Member) -> Self {
        Self {
            me,
            voters: None,
            epoch: Epoch(0),
            holder: None,
            released: Vec::new(),
            promised_max: Span::ZERO,
            history: Vec::new(),
            attested: vec![],
            unknown_accepted: false,
            shares: None,
            claimed: None,
            handing: None,
            data: DataMark::default(),
            history_signed: false,
            writes: 0,
            known: vec![],
        }
    }
    /// How often a peer's store was written, as far as was heard.
    pub fn known_writes(&self, peer: &Member) -> u64 {
        self.known.iter().find(|(m, _)| m == peer).map_or(0, |(_, n)| *n)
    }
    /// Remembers it; the most that was heard counts. True when it is news.
    pub fn know_writes(&mut self, peer: &Member, writes: u64) -> bool {
        match self.known.iter_mut().find(|(m, _)| m.node == peer.node) {
            Some((m, n)) if m == peer => {
                let news = writes > *n;
                *n = writes.max(*n);
                news
            }
            Some(other) => {
                *other = (peer.clone(), writes);
                true
            }
            None => {
                self.known.push((peer.clone(), writes));
                self.known.sort();
                true
            }
        }
    }
    /// Whether the epoch it voted in was released by the holder it voted for.
    pub fn is_released(&self) -> bool {
        self.release().is_some()
    }
    /// That release.
    pub fn release(&self) -> Option<&ReleaseNotice> {
        self.holder.as_ref().and_then(|holder| self.released_by(self.epoch, holder))
    }
    /// The word with which its holder gave that epoch back.
    pub fn released_by(&self, epoch: Epoch, holder: &Member) -> Option<&ReleaseNotice> {
        let exact = self.released.iter().find(|r| r.epoch == epoch && r.holder == *holder);
        // What was seen won needs its own word.
        let won = || self.history.iter().any(|h| h.won && h.epoch == epoch && h.holder == *holder);
        let covering = || self.released.iter().find(|r| r.covers(epoch, holder) && !won());
        exact.or_else(covering)
    }
    /// The last epoch in which this node may have written, as far as it matters: later ones of its
    /// own are given back with any that it gives back.
    pub fn written_last(&self) -> Epoch {
        let unwritten = |h: &EpochSync| {
            let exact = |r: &&ReleaseNotice| r.epoch == h.epoch && r.holder == h.holder;
            self.released.iter().find(exact).is_some_and(|r| !r.promoted)
        };
        let written = |h: &&EpochSync| h.promoted || h.holder == self.me && h.won && !unwritten(h);
        self.history.iter().filter(written).map(|h| h.epoch).max().unwrap_or_default()
    }
    /// The highest epoch that it gave back: numbers are not used again.
    pub fn given_back(&self) -> Epoch {
        let own = self.released.iter().filter(|r| r.holder == self.me);
        own.map(|r| r.epoch).max().unwrap_or_default()
    }
    /// Whether the epoch it voted in is known to have been won by the one it voted for.
    pub fn is_won(&self) -> bool {
        self.history
            .iter()
            .any(|h| h.epoch == self.epoch && Some(&h.holder) == self.holder.as_ref() && h.won)
    }
    /// The last entry known to be won.
    pub fn last_won(&self) -> Option<&EpochSync> {
        self.history.iter().rev().find(|h| h.won)
    }
    /// The line that a winner is known to have opened: it said so, or it is this node.
    pub fn won_line(&self) -> Option<&TimelineHistory> {
        let said = |epoch| self.history.iter().any(|h| h.promoted && h.epoch == epoch);
        let opened = |line: &&TimelineHistory| {
            let epoch = Epoch(line.timeline.into());
            said(epoch) || self.is_opened_by(&self.me, epoch)
        };
        self.data.line.as_ref().filter(opened)
    }
    /// That member won that epoch: a line of its number is its own.
    pub fn is_opened_by(&self, member: &Member, epoch: Epoch) -> bool {
        self.history.iter().any(|h| h.epoch == epoch && h.won && h.holder == *member)
    }
    /// Another set. Whoever is a member again was seen alive: what was attested of it is over.
    fn set_voters(&mut self, set: &VoterSet) {
        self.unknown_accepted &= self.voters.as_ref() == Some(set);
        self.voters = Some(set.clone());
        self.attested.retain(|gone| set.on(&gone.node).is_none());
    }
    fn see_release(&mut self, notice: &ReleaseNotice) -> bool {
        let old = self.history.iter().any(|h| h.promoted && notice.epoch < h.epoch);
        if old || self.released_by(notice.epoch, &notice.holder).is_some() {
            return false;
        }
        self.released.push(notice.clone());
        self.released.sort();
        self.compact(notice);
        true
    }
    /// What a release covers is kept no longer: a claim that was never won leaves nothing behind.
    fn compact(&mut self, notice: &ReleaseNotice) {
        let unwritten: Vec<Epoch> = self
            .released
            .iter()
            .filter(|r| !r.promoted && r.holder == notice.holder)
            .map(|r| r.epoch)
            .collect();
        self.history.retain(|h| {
            !(notice.covers(h.epoch, &h.holder) && (!h.won || unwritten.contains(&h.epoch)))
        });
        let left = |r: &ReleaseNotice| {
            self.history.iter().any(|h| h.epoch == r.epoch && h.holder == r.holder)
        };
        let kept: Vec<ReleaseNotice> = self
            .released
            .iter()
            .filter(|r| r.promoted || !notice.covers(r.epoch, &r.holder) || left(r))
            .cloned()
            .collect();
        self.released = kept;
    }
    fn see_epoch(&mut self, entry: EpochSync) {
        self.history.retain(|h| {
            (h.epoch, &h.holder) != (entry.epoch, &entry.holder)
                && !(entry.promoted && h.epoch < entry.epoch)
        });
        self.history.push(entry);
        self.history.sort();
        if let Some(closed) = self.history.iter().rev().find(|h| h.promoted).map(|h| h.epoch) {
            self.released.retain(|r| r.epoch >= closed);
        }
    }
}

/// What only the host knows at the moment of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// No process of a database that could accept writes remains here.
    pub not_writable: bool,
    /// Whether its log is cut off from its upstream.
    pub cut: Cut,
    /// Its log is on a line that may have been won, which nothing here proves.
    pub unproved_line: bool,
}

/// Whether a node could still help its old holder by receiving its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// It may still receive.
    Not,
    /// Cut durably, and then its log ended here.
    At(Position),
    /// Nothing runs here that could receive (a witness, a stopped database), and where its log ends
    /// is not known.
    Nothing,
}

impl Cut {
    fn position(self) -> Option<Position> {
        match self {
            Cut::At(position) => Some(position),
            Cut::Not | Cut::Nothing => None,
        }
    }
}

/// A voter: its durable record and its running promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    record: VoterRecord,
    terms: Terms,
    lease_until: Timestamp,
    /// Set after a restart: the promise may be to anybody.
    presumed: bool,
    speakers: Speakers,
}

/// A grant is made in two steps: the record must be durable before the grant is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "make the record durable, then say it"]
pub struct Said<T> {
    /// What to make durable first; `None` when nothing changed.
    pub persist: Option<VoterRecord>,
    /// What may be said then.
    pub reply: T,
}

impl Voter {
    /// A voter that starts with `record`, read from disk at `now`. If it ever promised anything,
    /// that promise is presumed to run for its whole length from now (the blackout).
    pub fn restore(record: VoterRecord, terms: Terms, now: Timestamp) -> Self {
        let presumed =
            record.promised_max > Span::ZERO && !record.is_released() && !planted(Bug::NoBlackout);
        let lease_until = if presumed {
            now + record.promised_max + terms.grace_for(record.promised_max)
        } else {
            now
        };
        Self { record, terms, lease_until, presumed, speakers: Speakers::default() }
    }

    /// The durable part.
    pub fn record(&self) -> &VoterRecord {
        &self.record
    }
    /// How much longer its promise binds it.
    pub fn lease_left(&self, now: Timestamp) -> Span {
        if self.record.is_released() { Span::ZERO } else { now.until(self.lease_until) }
    }
    /// When its promise runs out.
    pub fn lease_until(&self) -> Timestamp {
        self.lease_until
    }

    /// Keeps shares that are newer than what it has; what is to be durable.
    pub fn keep_shares(&mut self, shares: Shares) -> VoterRecord {
        self.record.shares = Some(shares);
        self.record.clone()
    }

    /// Installs the first voter set. Refused when one is installed already (changes go another
    /// way), or when this incarnation is not in it.
    pub fn install(&mut self, set: VoterSet) -> Said<Result<(), Refusal>> {
        if self.record.voters.as_ref() == Some(&set) {
            return Said { persist: None, reply: Ok(()) };
        }
        if let Some(have) = &self.record.voters {
            return refuse(Refusal::Stranger {
                why: format!("voter set version {} is installed here already", have.version),
            });
        }
        if !set.contains(&self.record.me) {
            return refuse(Refusal::Stranger {
                why: format!("the proposed voter set does not contain {:?}", self.record.me),
            });
        }
        self.record.set_voters(&set);
        Said { persist: Some(self.record.clone()), reply: Ok(()) }
    }

    /// The holder changes the voter set. Taken from this voter's own holder, or from the winner of
    /// a newer epoch that it is free to adopt; a node without a set takes one that it is in.
    pub fn change(&mut self, now: Timestamp, change: &VoterChange) -> Said<Result<(), Refusal>> {
        let Some(have) = &self.record.voters else { return self.install(change.set.clone()) };
        if *have == change.set {
            return Said { persist: None, reply: Ok(()) };
        }
        let own = change.epoch == self.record.epoch
            && self.record.holder.as_ref() == Some(&change.holder);
        let newer = change.epoch > self.record.epoch;
        if self.record.released_by(change.epoch, &change.holder).is_some() {
            return refuse(Refusal::Released { epoch: change.epoch });
        }
        if !own && !newer {
            return refuse(self.knows_newer());
        }
        if newer && let Err(refusal) = self.free_for(now, &change.holder) {
            return refuse(refusal);
        }
        if change.set.version <= have.version {
            return refuse(Refusal::Stranger {
                why: format!("voter set version {} is installed here already", have.version),
            });
        }
        self.record.set_voters(&change.set);
        Said { persist: Some(self.record.clone()), reply: Ok(()) }
    }

    /// Two persons signed that these voters are removed, and attested that their hosts are powered
    /// off. The only change without a holder. `unknown_accepted`: they also accepted that nobody
    /// can know what the removed acknowledged. The caller has checked the signatures. Not while a
    /// promise to somebody else runs: whoever it was made to may hold the role, whatever is attested.
    pub fn remove_attested(
        &mut self,
        now: Timestamp,
        left: &VoterSet,
        gone: &[Member],
        unknown_accepted: bool,
    ) -> Said<Result<(), Refusal>> {
        let stranger = |why: String| refuse(Refusal::Stranger { why });
        let Some(have) = &self.record.voters else {
            return stranger("there is no voter set here".into());
        };
        // A peer may have said the set before the order came; the persons' word is in the order
        // alone.
        if have != left && have.version >= left.version {
            return stranger(format!(
                "the override makes voter set version {}, here is {} already",
                left.version, have.version
            ));
        }
        if !left.contains(&self.record.me) {
            return stranger("this node is not in the set that the override leaves".into());
        }
        if let Some(dropped) = have.members.iter().find(|m| !left.contains(m) && !gone.contains(m))
        {
            return stranger(format!(
                "{} would stop voting, and nobody attests that it is powered off",
                dropped.node
            ));
        }
        let me = self.record.me.clone();
        if let Err(promised) = self.free_for(now, &me) {
            return refuse(promised);
        }
        let before = self.record.clone();
        self.record.set_voters(left);
        self.record.attested.extend(gone.iter().cloned());
        self.record.attested.sort();
        self.record.attested.dedup();
        self.record.unknown_accepted = unknown_accepted;
        Said { persist: (self.record != before).then(|| self.record.clone()), reply: Ok(()) }
    }

    /// Renew: promised to its own holder, or adopted when the epoch is newer (only a winner renews)
    /// and no promise to another holder runs.
    pub fn renew(&mut self, now: Timestamp, renew: &Renew) -> Said<Result<Ack, Refusal>> {
        let own =
            renew.epoch == self.record.epoch && self.record.holder.as_ref() == Some(&renew.holder);
        // While its own holder changes the set, versions may differ.
        let mine = self.record.voters.as_ref().map_or(0, |v| v.version);
        let next = renew.next_version == Some(mine);
        let version = if own || next { mine } else { renew.voters_version };
        if let Err(refusal) = self.knows(version, &renew.holder) {
            return refuse(refusal);
        }
        if self.record.released_by(renew.epoch, &renew.holder).is_some() {
            return refuse(Refusal::Released { epoch: renew.epoch });
        }
        let newer = renew.epoch > self.record.epoch;
        if !own && !newer {
            return refuse(self.knows_newer());
        }
        if newer && let Err(refusal) = self.free_for(now, &renew.holder) {
            return refuse(refusal);
        }
        let patience = self.terms.promise();
        if !self.speakers.hear(now, &renew.holder, renew.process, patience) {
            return refuse(Refusal::Twice { who: renew.holder.node.clone() });
        }
        let before = self.record.clone();
        // A winner's data is the cluster's: a majority granted to it. What it finds later in its
        // place is not.
        if newer || self.record.data.system.is_none() {
            self.record.data.system = renew.system.or(self.record.data.system);
        }
        if let Some(line) = &renew.promoted {
            // What two persons accepted, they accepted of what was before.
            self.record.unknown_accepted &= !self.record.history_signed;
            (self.record.history_signed, self.record.data.pardoned) = (false, false);
            self.record.data.line = Some(line.clone());
            if renew.holder == self.record.me {
                self.record.data.own = Some(line.timeline);
            }
        }
        self.record.epoch = renew.epoch;
        self.record.holder = Some(renew.holder.clone());
        self.record.promised_max = self.record.promised_max.max(renew.duration);
        // Only a promotion closes what was before: an epoch that was won and never written in
        // proves nothing of it.
        let promoted = renew.promoted.is_some();
        let known = self.record.history.iter().any(|h| {
            h.epoch == renew.epoch
                && h.holder == renew.holder
                && h.won
                && h.promoted >= promoted
                && h.sync.number >= renew.sync.number
                && h.doubt.number >= renew.doubt.number
        });
        if !known {
            self.record.see_epoch(renew.won());
        }
        self.promise(now, renew.duration, newer);
        let ack = Ack {
            voter: self.record.me.clone(),
            holder: renew.holder.clone(),
            epoch: renew.epoch,
            round: renew.round,
            duration: renew.duration,
            writes: self.record.writes,
        };
        Said { persist: (self.record != before).then(|| self.record.clone()), reply: Ok(ack) }
    }

    /// Ask: what a claim would get. Changes nothing.
    pub fn ask(&self, now: Timestamp, claim: &ClaimRequest, local: Local) -> Answer {
        Answer {
            voter: self.record.me.clone(),
            epoch: self.record.epoch,
            holder: self.record.holder.clone(),
            refusal: self.would_grant(now, claim, local).err(),
            said: self.testimony(claim.epoch, local),
        }
    }

    /// What it knows of epochs before that one, and of the log here.
    fn testimony(&self, before: Epoch, local: Local) -> Testimony {
        let history = self.record.history.iter().filter(|h| h.epoch < before);
        Testimony {
            position: local.cut.position(),
            history: history.cloned().collect(),
            released: self.record.released.clone(),
            unproved_line: local.unproved_line,
            history_signed: self.record.history_signed,
            not_writable: local.not_writable,
        }
    }

    fn knows_newer(&self) -> Refusal {
        Refusal::NewerEpoch { epoch: self.record.epoch, of: self.record.holder.clone() }
    }

    /// Whether a claim would be granted now, apart from the cut.
    pub fn would_grant(
        &self,
        now: Timestamp,
        claim: &ClaimRequest,
        local: Local,
    ) -> Result<(), Refusal> {
        self.takes(&claim.voters, &claim.candidate)?;
        if let Some(floor) = claim.voters.override_floor().filter(|floor| claim.epoch <= *floor) {
            return Err(Refusal::NewerEpoch { epoch: floor, of: None });
        }
        let again = claim.epoch == self.record.epoch
            && self.record.holder.as_ref() == Some(&claim.candidate)
            && self.speakers.is_last(&claim.candidate, claim.process);
        if claim.epoch <= self.record.epoch && !again {
            return Err(self.knows_newer());
        }
        if self.record.released_by(claim.epoch, &claim.candidate).is_some() {
            return Err(Refusal::Released { epoch: claim.epoch });
        }
        let released_now = claim.released.iter().any(|r| {
            r.epoch == self.record.epoch
                && Some(&r.holder) == self.record.holder.as_ref()
                && self.is_credible(now, r)
        });
        if !released_now {
            self.free_for(now, &claim.candidate)?;
        }
        let old_holder_here =
            self.record.holder.as_ref().is_some_and(|h| h.node == self.record.me.node);
        if old_holder_here && claim.candidate.node != self.record.me.node && !local.not_writable {
            return Err(Refusal::NotStoppedHere);
        }
        Ok(())
    }

    /// Claim: the grant is a promise to stop helping the old holder, so it needs the cut first. The
    /// caller cuts on [`Refusal::Cutting`] and asks again. A holder that climbs keeps its replicas:
    /// nothing is cut for it.
    pub fn claim(
        &mut self,
        now: Timestamp,
        claim: &ClaimRequest,
        local: Local,
    ) -> Said<Result<Grant, Refusal>> {
        if let Err(refusal) = self.would_grant(now, claim, local) {
            return refuse(refusal);
        }
        if !self.speakers.hear(now, &claim.candidate, claim.process, self.terms.promise()) {
            return refuse(Refusal::Twice { who: claim.candidate.node.clone() });
        }
        let climb = self.is_holder(now, &claim.candidate);
        if local.cut == Cut::Not && !climb && !planted(Bug::NoCut) {
            return refuse(Refusal::Cutting);
        }
        let before = self.record.clone();
        let again = claim.epoch == self.record.epoch;
        for notice in &claim.released {
            if self.is_credible(now, notice) {
                self.record.see_release(notice);
            }
        }
        // At least as new as this voter's own: whoever has a newer one would have refused.
        self.record.set_voters(&claim.voters);
        self.record.epoch = claim.epoch;
        self.record.holder = Some(claim.candidate.clone());
        self.record.promised_max = self.record.promised_max.max(claim.duration);
        if !again {
            self.record.see_epoch(EpochSync {
                epoch: claim.epoch,
                holder: claim.candidate.clone(),
                sync: claim.sync.clone(),
                won: false,
                promoted: false,
                doubt: Doubt::default(),
            });
        }
        self.promise(now, claim.duration, !climb && !again);
        let grant = Grant {
            voter: self.record.me.clone(),
            epoch: claim.epoch,
            candidate: claim.candidate.clone(),
            said: self.testimony(claim.epoch, local),
            writes: self.record.writes,
        };
        Said { persist: (self.record != before).then(|| self.record.clone()), reply: Ok(grant) }
    }

    /// Release: final, durable first. True if it ended this voter's own promise.
    /// One that another process says than the one that renews counts once the promise has run out:
    /// it may be a copy of the holder's host that finds nothing running.
    pub fn release(&mut self, now: Timestamp, notice: &ReleaseNotice) -> Said<bool> {
        let mine = notice.holder == self.record.me && self.record.claimed == Some(notice.epoch);
        if mine {
            self.record.claimed = None;
        }
        let news = self.is_credible(now, notice) && self.record.see_release(notice);
        Said {
            persist: (news || mine).then(|| self.record.clone()),
            reply: news && self.record.is_released(),
        }
    }

    fn is_credible(&self, now: Timestamp, notice: &ReleaseNotice) -> bool {
        let running = self.record.epoch == notice.epoch
            && self.record.holder.as_ref() == Some(&notice.holder)
            && now < self.lease_until;
        !running || self.speakers.is_last(&notice.holder, notice.process)
    }

    /// How far the log here is flushed, and on which data; never falls but by a rebuild.
    pub fn note_data(&mut self, mark: DataMark) -> VoterRecord {
        self.record.data = mark;
        self.record.clone()
    }

    /// It is about to claim this epoch; the record must be durable before anybody is asked.
    pub fn begin_claim(&mut self, epoch: Epoch) -> VoterRecord {
        self.record.claimed = Some(epoch);
        self.record.clone()
    }

    /// It is about to stop for a planned move; the record must be durable before it does.
    pub fn begin_hand_over(&mut self, epoch: Epoch) -> VoterRecord {
        self.record.handing = Some(epoch);
        self.record.clone()
    }

    /// It holds on: nothing is handed over. None where nothing was.
    pub fn end_hand_over(&mut self) -> Option<VoterRecord> {
        self.record.handing.take().map(|_| self.record.clone())
    }

    /// Two persons signed whose data is the history; an unknown loss is accepted with it.
    pub fn take_history(&mut self, mark: DataMark) -> VoterRecord {
        self.record.data = mark;
        self.record.history_signed = true;
        self.record.unknown_accepted = true;
        self.record.clone()
    }

    /// How often a peer's store was written. True when it is news; not worth a write of its own.
    pub fn know_writes(&mut self, peer: &Member, writes: u64) -> bool {
        self.record.know_writes(peer, writes)
    }

    /// The record is about to be written.
    pub fn count_write(&mut self) -> VoterRecord {
        self.record.writes += 1;
        self.record.clone()
    }

    /// What another voter knows to be won. It binds nobody; it keeps a former holder from taking
    /// itself for the last.
    pub fn learn(&mut self, history: &[EpochSync]) -> Said<()> {
        let before = self.record.clone();
        for entry in history.iter().filter(|e| e.won && !planted(Bug::ReclaimsAtAnyLoss)) {
            let closed = self.record.history.iter().any(|h| h.promoted && h.epoch > entry.epoch);
            let known = self.record.history.iter().any(|h| {
                h.epoch == entry.epoch
                    && h.holder == entry.holder
                    && h.won
                    && h.promoted >= entry.promoted
            });
            if !closed && !known {
                self.record.see_epoch(entry.clone());
            }
        }
        Said { persist: (self.record != before).then(|| self.record.clone()), reply: () }
    }

    /// The line that the winner of an epoch opened, from whoever heard it say so. A line that has
    /// that number and those branches is the winner's from then on, whoever brought it here.
    pub fn learn_line(&mut self, line: &TimelineHistory) -> Said<()> {
        let known = self.record.data.line.as_ref().is_some_and(|l| l.timeline >= line.timeline);
        // What two persons signed stands until a winner wrote after it.
        let news = !known && !self.record.history_signed;
        if news {
            self.record.data.line = Some(line.clone());
        }
        Said { persist: news.then(|| self.record.clone()), reply: () }
    }

    /// The claimant on this node has won: it may be resumed after a restart, and older history is
    /// closed.
    /// `opens`: its promotion will begin a line of that number.
    pub fn mark_won(&mut self, epoch: Epoch, opens: bool) -> Said<()> {
        let before = self.record.clone();
        if opens {
            self.record.data.own = u32::try_from(epoch.0).ok();
        }
        if let Some(entry) = self
            .record
            .history
            .iter()
            .find(|h| h.epoch == epoch && h.holder == self.record.me)
            .cloned()
        {
            self.record.see_epoch(EpochSync { won: true, ..entry });
            self.record.claimed = None;
        }
        Said { persist: (self.record != before).then(|| self.record.clone()), reply: () }
    }

    /// Whether `holder` holds this voter's running promise.
    pub fn is_holder(&self, now: Timestamp, holder: &Member) -> bool {
        self.record.holder.as_ref() == Some(holder)
            && !self.record.is_released()
            && (now < self.lease_until)
    }

    fn free_for(&self, now: Timestamp, candidate: &Member) -> Result<(), Refusal> {
        if self.record.is_released() || now >= self.lease_until {
            return Ok(());
        }
        // After a restart the running promise may be to a holder this record never wrote down a
        // renewal for; it still was made to the recorded holder, because grants and adoptions are
        // durable first.
        if self.record.holder.as_ref() == Some(candidate) {
            return Ok(());
        }
        let to = if self.presumed { None } else { self.record.holder.clone() };
        Err(Refusal::Promised { to, left: now.until(self.lease_until) })
    }

    fn promise(&mut self, now: Timestamp, duration: Span, to_another: bool) {
        let until = now + duration + self.terms.grace_for(duration);
        self.lease_until = if to_another { until } else { self.lease_until.max(until) };
        self.presumed = false;
    }

    /// Whether a claimant's set can be counted with here: not older than this voter's, and both are
    /// in it. A set that a majority of the one before has cannot be bypassed: every majority of the
    /// older one has a voter that refuses.
    fn takes(&self, set: &VoterSet, candidate: &Member) -> Result<(), Refusal> {
        let stranger = |why: String| Err(Refusal::Stranger { why });
        match &self.record.voters {
            None => return stranger(format!("{} has no voter set yet", self.record.me.node)),
            Some(mine) if mine.version > set.version => {
                return stranger(format!(
                    "voter set version {} against {} here",
                    set.version, mine.version
                ));
            }
            Some(_) => {}
        }
        match [&self.record.me, candidate].into_iter().find(|m| !set.contains(m)) {
            Some(missing) => stranger(format!("{missing:?} is not in the voter set")),
            None => Ok(()),
        }
    }

    /// A newer set than its own, heard from anybody: taken by whoever does not hold the role. Sets
    /// are only ever made by a holder or an override, and the newest one that exists is what the
    /// next claim has to carry. A node without a set takes one that it is in: it was down when it
    /// was readmitted.
    ///
    /// A set that it is not in is taken from its holder only, which says it once it is in force;
    /// before that this voter's promises still count. One that an override left is taken from
    /// anybody and at once: a removed voter whose power returned is a stranger before its blackout
    /// ends, and may grant nothing. What was promised is kept all the same.
    pub fn hear_set(&mut self, set: &VoterSet) -> Said<()> {
        let within = set.contains(&self.record.me);
        let newer = self.record.voters.as_ref().map_or(within, |mine| {
            let overrides = |of: &VoterSet| VoterSet::overrides_of(of.version);
            mine.version < set.version && (within || overrides(set) > overrides(mine))
        });
        if newer {
            self.record.set_voters(set);
        }
        Said { persist: newer.then(|| self.record.clone()), reply: () }
    }

    fn knows(&self, version: u64, other: &Member) -> Result<(), Refusal> {
        let stranger = |why: String| Err(Refusal::Stranger { why });
        let Some(set) = &self.record.voters else {
            return stranger(format!("{} has no voter set yet", self.record.me.node));
        };
        if set.version != version {
            return stranger(format!("voter set version {version} against {} here", set.version));
        }
        if !set.contains(&self.record.me) {
            return stranger(format!("{:?} is not in the voter set", self.record.me));
        }
        if !set.contains(other) {
            return stranger(format!("{other:?} is not in the voter set"));
        }
        Ok(())
    }
}

fn refuse<T>(refusal: Refusal) -> Said<Result<T, Refusal>> {
    Said { persist: None, reply: Err(refusal) }
}
