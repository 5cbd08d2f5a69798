//! One attempt to win an epoch: counts grants, judges whether the former holder is fenced, and what would be lost.

use std::collections::BTreeMap;

use super::message::{ClaimRequest, Grant, ReleaseNotice};
use super::voter::EpochSync;
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::{Epoch, Member, NodeId, Position, Timestamp, VoterSet};

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    request: ClaimRequest,
    voters: VoterSet,
    sent: Timestamp,
    grants: BTreeMap<Member, Grant>,
    /// The claimant held the role last and still has its data: what it acknowledged, it has.
    incumbent: bool,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not enough grants yet.
    Waiting {
        /// What is missing, in words.
        why: String,
    },
    /// A majority granted, but nothing proves that the former holder cannot acknowledge; promotion needs evidence from
    /// elsewhere or an approved unknown loss.
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
    /// The best evidence that the former holder cannot acknowledge.
    pub fence: FenceRung,
    /// A voter that has more log than the claimant, and up to where.
    pub fetch: Option<(NodeId, Position)>,
    /// What would be lost once that is fetched.
    pub loss: LossAccount,
}

impl Claim {
    /// A claim whose request was first sent at `sent`.
    pub fn new(request: ClaimRequest, voters: VoterSet, sent: Timestamp, incumbent: bool) -> Self {
        Self { request, voters, sent, grants: BTreeMap::new(), incumbent }
    }

    /// What is sent.
    pub fn request(&self) -> &ClaimRequest {
        &self.request
    }
    /// When it was first sent: the claimant's lease counts from here.
    pub fn sent(&self) -> Timestamp {
        self.sent
    }
    /// Who granted.
    pub fn granted_by(&self) -> impl Iterator<Item = &Member> {
        self.grants.keys()
    }

    /// A grant arrived. Counts only for this epoch and candidate, from a voter of this set.
    pub fn grant(&mut self, grant: Grant) {
        let ours = grant.epoch == self.request.epoch && grant.candidate == self.request.candidate;
        if ours && self.voters.contains(&grant.voter) {
            self.grants.insert(grant.voter.clone(), grant);
        }
    }

    /// Epochs that were or may have been won and whose holder could still acknowledge: those from the last known win
    /// on, without the ones whose holder said it stopped, without the claimant's own (it knows what it does), and
    /// without those that cannot have reached a majority.
    fn open_epochs(&self) -> Vec<EpochSync> {
        let mut seen: BTreeMap<Epoch, EpochSync> = BTreeMap::new();
        for entry in self.grants.values().flat_map(|g| &g.history) {
            let slot = seen.entry(entry.epoch).or_insert_with(|| entry.clone());
            slot.won |= entry.won;
        }
        let last_won = seen.values().filter(|e| e.won).map(|e| e.epoch).max();
        let unheard = self.voters.members.len() - self.grants.len();
        seen.into_values()
            .filter(|e| last_won.is_none_or(|w| e.epoch >= w))
            .filter(|e| {
                let granted = self.grants.values().filter(|g| g.history.iter().any(|h| h.epoch == e.epoch)).count();
                e.won || granted + unheard >= self.voters.majority()
            })
            .collect()
    }

    fn released(&self, entry: &EpochSync) -> Option<&ReleaseNotice> {
        let from_grants = self.grants.values().flat_map(|g| &g.released);
        from_grants.chain(&self.request.released).find(|r| r.epoch == entry.epoch && r.holder == entry.holder)
    }

    /// Members of the epoch's synchronous set that granted and know where their log ends: one that does not could hold
    /// an acknowledged write that nobody sees.
    fn sync_grants<'a>(&'a self, entry: &'a EpochSync) -> impl Iterator<Item = &'a Grant> {
        self.grants.values().filter(|g| entry.sync.members.contains(&g.voter) && g.position.is_some())
    }

    fn is_sync_fenced(&self, entry: &EpochSync) -> bool {
        entry.sync.fence_needs().is_some_and(|needs| self.sync_grants(entry).count() >= needs)
    }

    /// Where it stands. `attested` are nodes whose power-off was attested; `accept_lease_only` says that the plan
    /// accepts a lease that merely ran out (and so an unknown loss).
    pub fn standing(&self, attested: &[NodeId], accept_lease_only: bool) -> Standing {
        let majority = self.voters.majority();
        if self.grants.len() < majority {
            let by: Vec<_> = self.grants.keys().map(|m| m.node.as_str()).collect();
            let why = format!("{} of {} grants needed ({})", self.grants.len(), majority, list(&by));
            return Standing::Waiting { why };
        }
        let mut worst = FenceRung::Stopped;
        for entry in self.open_epochs() {
            let rung = if entry.holder == self.request.candidate || self.released(&entry).is_some() {
                FenceRung::Stopped
            } else if attested.contains(&entry.holder.node) {
                FenceRung::PoweredOff
            } else if self.is_sync_fenced(&entry) {
                FenceRung::SyncFenced
            } else {
                FenceRung::LeaseExpired
            };
            if rung == FenceRung::LeaseExpired && !accept_lease_only {
                let needs = entry.sync.fence_needs().map_or_else(
                    || "its commits wait for no standby".to_owned(),
                    |n| format!("{} of {} of its synchronous standbys granted", self.sync_grants(&entry).count(), n),
                );
                let why = format!("nothing proves that {} (epoch {}) cannot acknowledge: {needs}", entry.holder.node, entry.epoch);
                return Standing::Unfenced { why };
            }
            worst = worst.max(rung);
        }
        Standing::Won(Win { fence: worst, fetch: self.fetch(), loss: self.loss() })
    }

    fn own_position(&self) -> Option<Position> {
        self.grants.get(&self.request.candidate).and_then(|g| g.position)
    }

    fn best(&self) -> Option<(NodeId, Position)> {
        self.grants.values().filter_map(|g| Some((g.voter.node.clone(), g.position?))).max_by_key(|(_, p)| *p)
    }

    /// Who has more than the claimant. A former holder does not count as a source: what only it has was never
    /// acknowledged, or is in the account.
    fn fetch(&self) -> Option<(NodeId, Position)> {
        let own = self.own_position();
        self.best().filter(|(node, best)| *node != self.request.candidate.node && own.is_some_and(|own| own < *best))
    }

    /// The loss account (DESIGN §4), from the grants alone.
    pub fn loss(&self) -> LossAccount {
        let open = self.open_epochs();
        let Some(last) = open.iter().filter(|e| e.won).max_by_key(|e| e.epoch).or_else(|| open.iter().max_by_key(|e| e.epoch)) else {
            return LossAccount::None {
                proof: "no epoch was won before this one, so nothing was acknowledged".into(),
                by: vec![],
                excluded: vec![],
            };
        };
        if self.incumbent && last.holder == self.request.candidate {
            return LossAccount::None {
                proof: format!("{} held the role last and has its own log, flushed before it acknowledged", last.holder.node),
                by: vec![last.holder.node.clone()],
                excluded: vec![],
            };
        }
        let reached = self.best().map(|(_, p)| p);
        if let (Some(end), Some(reached)) = (self.released(last).and_then(|r| r.final_position), reached) {
            let missing = end.lsn.bytes_since(reached.lsn);
            // A clean stop ends the log with a checkpoint that every connected standby receives before it stops.
            return if reached.timeline == end.timeline && missing == 0 {
                LossAccount::None {
                    proof: format!("{} stopped cleanly at {end} and that is here", last.holder.node),
                    by: vec![last.holder.node.clone()],
                    excluded: vec![],
                }
            } else if reached.timeline == end.timeline {
                LossAccount::AtMost {
                    bytes: missing,
                    span: None,
                    proof: format!("{} stopped at {end}, here is {reached}", last.holder.node),
                }
            } else {
                LossAccount::Unknown { why: format!("{} stopped at {end}, here is {reached} on another timeline", last.holder.node) }
            };
        }
        if self.is_sync_fenced(last) {
            let by: Vec<NodeId> = self.sync_grants(last).map(|g| g.voter.node.clone()).collect();
            let names: Vec<_> = by.iter().map(NodeId::as_str).collect();
            return LossAccount::None {
                proof: format!(
                    "every acknowledged write is on {} of {} synchronous standbys; {} granted, and the candidate has all that they have",
                    last.sync.k,
                    last.sync.members.len(),
                    list(&names)
                ),
                by,
                excluded: vec!["commits whose wait was cancelled (warning 01000), local and asynchronous commits".into()],
            };
        }
        let why = match last.sync.fence_needs() {
            None => format!("{} acknowledged without waiting for a standby, and its final position is not known", last.holder.node),
            Some(needs) => format!(
                "{} of {needs} synchronous standbys granted; an acknowledged write may be on the others only",
                self.sync_grants(last).count()
            ),
        };
        LossAccount::Unknown { why }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nobody yet".into() } else { names.join(", ") }
}
