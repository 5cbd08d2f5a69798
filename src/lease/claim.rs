//! One attempt to win an epoch: counts grants, judges whether the former holder is fenced, and what
//! would be lost.

use std::collections::BTreeMap;

use super::account::{Account, list};
use super::message::{ClaimRequest, Grant};
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::testimony::EpochSync;
use crate::model::{Epoch, Member, NodeId, Position, Timestamp, VoterSet};

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    request: ClaimRequest,
    sent: Timestamp,
    account: Account,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not enough grants yet.
    Waiting {
        /// What is missing, in words.
        why: String,
    },
    /// A majority granted, but nothing proves that the former holder cannot acknowledge; promotion
    /// needs evidence from elsewhere or an approved unknown loss.
    Unfenced {
        /// What is missing, in words.
        why: String,
    },
    /// Won.
    Won(Win),
}

/// What winning rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Win {
    /// The best evidence that nobody who held the role before can acknowledge.
    pub fence: FenceRung,
    /// The same of the last holder alone; who held it before was judged when its successor won.
    pub last_fence: FenceRung,
    /// Who held the role before and was not seen stopped since.
    pub loose: Vec<(Member, FenceRung)>,
    /// Whose commits a fence by grants does not hold up: the policy lets them wait for nobody.
    pub not_fenced: Vec<String>,
    /// A voter that has more log than the claimant, and up to where.
    pub fetch: Option<(NodeId, Position)>,
    /// What would be lost once that is fetched.
    pub loss: LossAccount,
}

/// So many former holders are remembered at most.
const LOOSE_MAX: usize = 16;

impl Win {
    /// The fence, and whom it is about where that is not the last holder.
    pub fn fence_words(&self) -> String {
        let but = match &self.not_fenced[..] {
            [] => String::new(),
            names => format!(", but for {}", names.join(", ")),
        };
        let fence = format!("{}{but}", self.fence.words());
        if self.fence == self.last_fence {
            return fence;
        }
        let who: Vec<_> = self.loose.iter().map(|(m, _)| m.node.as_str()).collect();
        let last = self.last_fence.words();
        format!("{fence} ({} was not seen stopped since; the last holder: {last})", list(&who))
    }
}

impl Claim {
    /// A claim whose request was first sent at `sent`; `has_data`: the claimant has a database.
    pub fn new(request: ClaimRequest, voters: VoterSet, sent: Timestamp, has_data: bool) -> Self {
        let released = request.released.clone();
        let account = Account::new(voters, request.candidate.clone(), has_data, released);
        Self { request, sent, account }
    }

    /// What is sent.
    pub fn request(&self) -> &ClaimRequest {
        &self.request
    }
    /// Who votes on it.
    pub fn voters(&self) -> &VoterSet {
        self.account.voters()
    }
    /// When it was first sent: the claimant's lease counts from here.
    pub fn sent(&self) -> Timestamp {
        self.sent
    }
    /// Who granted.
    pub fn granted_by(&self) -> impl Iterator<Item = &Member> {
        self.account.said().keys()
    }

    /// A grant arrived. Counts only for this epoch and candidate, from a voter of this set.
    pub fn grant(&mut self, grant: Grant) {
        let ours = grant.epoch == self.request.epoch && grant.candidate == self.request.candidate;
        if ours {
            self.account.hear(grant.voter, grant.said);
        }
    }

    /// Somebody else who may have written in an epoch above the one that the claimant holds.
    pub fn overtakes(&self, held: Epoch) -> Option<Member> {
        let unwritten = |e: &EpochSync| self.account.released(e).is_some_and(|r| !r.promoted);
        let others = |e: &EpochSync| e.epoch > held && e.holder != self.request.candidate;
        let newer = self.account.open_epochs().into_iter().find(|e| others(e) && !unwritten(e));
        newer.map(|e| e.holder)
    }

    /// Where it stands. `attested` are voters whose power-off was attested; `accept_lease_only`
    /// says that the plan accepts a lease that merely ran out (and so an unknown loss).
    pub fn standing(&self, attested: &[Member], accept_lease_only: bool) -> Standing {
        let majority = self.voters().majority();
        if self.account.said().len() < majority {
            let by: Vec<_> = self.account.said().keys().map(|m| m.node.as_str()).collect();
            let why = format!("{} of {majority} grants needed ({})", by.len(), list(&by));
            return Standing::Waiting { why };
        }
        // Whoever held the role unheard is fenced by no more than the word of those who saw it
        // without power.
        let mut worst =
            if self.account.is_incomplete() { FenceRung::PoweredOff } else { FenceRung::Stopped };
        for entry in self.account.open_epochs() {
            let rung = if entry.holder == self.request.candidate
                || self.account.released(&entry).is_some()
            {
                FenceRung::Stopped
            } else if attested.contains(&entry.holder) {
                FenceRung::PoweredOff
            } else {
                self.by_grants(&entry)
            };
            if rung == FenceRung::LeaseExpired && !accept_lease_only {
                let doubted = || match &entry.doubt.why {
                    Some(why) => format!("its commits may wait for no standby: {why}"),
                    None => "its commits wait for no standby".to_owned(),
                };
                let needs = self.account.lacking(&entry).map_or_else(doubted, |(have, needs)| {
                    format!("{have} of {needs} of its synchronous standbys granted")
                });
                let why = format!(
                    "nothing proves that {} (epoch {}) cannot acknowledge: {needs}",
                    entry.holder.node, entry.epoch
                );
                return Standing::Unfenced { why };
            }
            worst = worst.max(rung);
        }
        let loose = self.loose(attested);
        let fence = loose.iter().map(|(_, rung)| *rung).fold(worst, Ord::max);
        let (fetch, loss) = (self.fetch(), self.account.loss());
        let fences = fence == FenceRung::SyncFenced;
        let not_fenced = if fences { self.not_fenced() } else { vec![] };
        Standing::Won(Win { fence, last_fence: worst, loose, not_fenced, fetch, loss })
    }

    /// What grants alone say of a holder: cut off, its commits wait for ever, unless they waited for
    /// nobody.
    fn by_grants(&self, entry: &EpochSync) -> FenceRung {
        if self.account.is_sync_fenced(entry) && entry.doubt.why.is_none() {
            FenceRung::SyncFenced
        } else {
            FenceRung::LeaseExpired
        }
    }

    /// Whose commits do not wait for standbys, by the policy, in epochs that grants fence.
    fn not_fenced(&self) -> Vec<String> {
        let open = self.account.open_epochs();
        let by_grants = open.iter().filter(|e| self.account.released(e).is_none());
        let mut names: Vec<String> =
            by_grants.flat_map(|entry| entry.doubt.excluded.iter().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Former holders that nobody saw stopped, also of epochs that a later promotion closed: each
    /// holder says whom it left behind. A grant from there, with nothing writable, ends it.
    fn loose(&self, attested: &[Member]) -> Vec<(Member, FenceRung)> {
        let stopped = |m: &Member| {
            *m == self.request.candidate
                || attested.contains(m)
                || self.account.said().get(m).is_some_and(|g| g.not_writable)
        };
        let mut loose = BTreeMap::new();
        for entry in self.account.seen() {
            for (member, rung) in &entry.doubt.loose {
                loose.insert(member.clone(), *rung);
            }
            if self.account.released(&entry).is_none() {
                loose.insert(entry.holder.clone(), self.by_grants(&entry));
            } else {
                loose.remove(&entry.holder);
            }
        }
        let left = loose.into_iter().filter(|(member, _)| !stopped(member));
        left.take(LOOSE_MAX).collect()
    }

    /// Who has more than the claimant.
    pub(super) fn fetch(&self) -> Option<(NodeId, Position)> {
        let own = self.own_position();
        self.account.best().filter(|(node, best)| {
            *node != self.request.candidate.node && own.is_some_and(|own| own < *best)
        })
    }

    /// What its grants say.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The end of the claimant's own log, by its own grant.
    pub fn own_position(&self) -> Option<Position> {
        self.account.own_position()
    }
}
