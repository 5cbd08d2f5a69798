//! One attempt to win an epoch: counts grants, judges whether the former holder is fenced, and what
//! would be lost.

use std::collections::BTreeMap;

use super::message::{ClaimRequest, Grant, ReleaseNotice};
use super::voter::EpochSync;
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::{Epoch, Member, NodeId, Position, SyncSet, Timestamp, VoterSet};

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    request: ClaimRequest,
    voters: VoterSet,
    sent: Timestamp,
    grants: BTreeMap<Member, Grant>,
    /// The claimant has a database: what it acknowledged in an epoch that nobody closed since, it
    /// has.
    has_data: bool,
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
        let fence = self.fence.words();
        if self.fence == self.last_fence {
            return fence.to_owned();
        }
        let who: Vec<_> = self.loose.iter().map(|(m, _)| m.node.as_str()).collect();
        let last = self.last_fence.words();
        format!("{fence} ({} was not seen stopped since; the last holder: {last})", list(&who))
    }
}

impl Claim {
    /// A claim whose request was first sent at `sent`.
    pub fn new(request: ClaimRequest, voters: VoterSet, sent: Timestamp, has_data: bool) -> Self {
        Self { request, voters, sent, grants: BTreeMap::new(), has_data }
    }

    /// What is sent.
    pub fn request(&self) -> &ClaimRequest {
        &self.request
    }
    /// Who votes on it.
    pub fn voters(&self) -> &VoterSet {
        &self.voters
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

    /// Epochs that were or may have been won and whose holder could still acknowledge: those from
    /// the last known win on, without the ones whose holder said it stopped, without the claimant's
    /// own (it knows what it does), and without those that cannot have reached a majority.
    fn open_epochs(&self) -> Vec<EpochSync> {
        let seen = self.seen();
        let written = |e: &&EpochSync| e.promoted || self.has_its_line(e.epoch);
        let closed = seen.iter().filter(written).map(|e| e.epoch).max();
        seen.into_iter().filter(|e| closed.is_none_or(|c| e.epoch >= c)).collect()
    }

    /// Every epoch that any granter keeps and that may have been won, also where a later one is
    /// known to have been written in.
    fn seen(&self) -> Vec<EpochSync> {
        let mut seen: BTreeMap<(Epoch, Member), EpochSync> = BTreeMap::new();
        for entry in self.grants.values().flat_map(|g| &g.history) {
            let slot =
                seen.entry((entry.epoch, entry.holder.clone())).or_insert_with(|| entry.clone());
            slot.won |= entry.won;
            slot.promoted |= entry.promoted;
            // The newest stage that any granter knows: each was durable at a majority before the
            // next was used.
            if entry.sync.number > slot.sync.number {
                slot.sync = entry.sync.clone();
            }
            if entry.doubt.number > slot.doubt.number {
                slot.doubt = entry.doubt.clone();
            }
        }
        let unheard = self.voters.members.len() - self.grants.len();
        seen.into_values()
            .filter(|e| {
                let voted = |g: &&Grant| {
                    g.history.iter().any(|h| h.epoch == e.epoch && h.holder == e.holder)
                };
                e.won
                    || self.has_its_line(e.epoch)
                    || self.grants.values().filter(voted).count() + unheard
                        >= self.voters.majority()
            })
            .collect()
    }

    /// Somebody else who may have written in an epoch above the one that the claimant holds.
    pub fn overtakes(&self, held: Epoch) -> Option<Member> {
        let unwritten = |e: &EpochSync| self.released(e).is_some_and(|r| !r.promoted);
        let others = |e: &EpochSync| e.epoch > held && e.holder != self.request.candidate;
        let newer = self.open_epochs().into_iter().find(|e| others(e) && !unwritten(e));
        newer.map(|e| e.holder)
    }

    /// A granter received the line that this epoch's winner opened: it was written in, whether or
    /// not anybody heard its winner say so.
    fn has_its_line(&self, epoch: Epoch) -> bool {
        let line = |g: &Grant| g.position.is_some_and(|p| u64::from(p.timeline) == epoch.0);
        self.grants.values().any(|g| !g.unproved_line && line(g))
    }

    fn released(&self, entry: &EpochSync) -> Option<&ReleaseNotice> {
        let from_grants = self.grants.values().flat_map(|g| &g.released);
        let all = || from_grants.clone().chain(&self.request.released);
        // What somebody saw won needs its own word.
        let covering = || all().find(|r| !entry.won && r.covers(entry.epoch, &entry.holder));
        all().find(|r| r.epoch == entry.epoch && r.holder == entry.holder).or_else(covering)
    }

    /// Members of the epoch's synchronous set that granted and know where their log ends: one that
    /// does not could hold an acknowledged write that nobody sees.
    fn sync_grants<'a>(&'a self, set: &'a SyncSet) -> impl Iterator<Item = &'a Grant> {
        self.grants.values().filter(|g| set.members.contains(&g.voter) && g.position.is_some())
    }

    /// Every set that may be in force is fenced.
    fn is_sync_fenced(&self, entry: &EpochSync) -> bool {
        let fenced = |set: &SyncSet| {
            set.fence_needs().is_some_and(|needs| self.sync_grants(set).count() >= needs)
        };
        !entry.sync.sets.is_empty() && entry.sync.sets.iter().all(fenced)
    }

    /// The set that is furthest from being fenced: what it needs and what it has.
    fn lacking(&self, entry: &EpochSync) -> Option<(usize, usize)> {
        let open = |set: &&SyncSet| {
            set.fence_needs().is_none_or(|needs| self.sync_grants(set).count() < needs)
        };
        entry
            .sync
            .sets
            .iter()
            .find(open)
            .and_then(|set| Some((self.sync_grants(set).count(), set.fence_needs()?)))
    }

    /// An override removed voters, and no promotion since closed what only they may know.
    fn is_incomplete(&self) -> bool {
        let closed = self
            .grants
            .values()
            .flat_map(|g| &g.history)
            .filter(|e| e.promoted)
            .map(|e| e.epoch)
            .max();
        self.voters
            .override_floor()
            .is_some_and(|floor| closed.is_none_or(|closed| closed <= floor))
    }

    /// Where it stands. `attested` are voters whose power-off was attested; `accept_lease_only`
    /// says that the plan accepts a lease that merely ran out (and so an unknown loss).
    pub fn standing(&self, attested: &[Member], accept_lease_only: bool) -> Standing {
        let majority = self.voters.majority();
        if self.grants.len() < majority {
            let by: Vec<_> = self.grants.keys().map(|m| m.node.as_str()).collect();
            let why =
                format!("{} of {} grants needed ({})", self.grants.len(), majority, list(&by));
            return Standing::Waiting { why };
        }
        // Whoever held the role unheard is fenced by no more than the word of those who saw it
        // without power.
        let mut worst =
            if self.is_incomplete() { FenceRung::PoweredOff } else { FenceRung::Stopped };
        for entry in self.open_epochs() {
            let rung = if entry.holder == self.request.candidate || self.released(&entry).is_some()
            {
                FenceRung::Stopped
            } else if attested.contains(&entry.holder) {
                FenceRung::PoweredOff
            } else if self.is_sync_fenced(&entry) {
                FenceRung::SyncFenced
            } else {
                FenceRung::LeaseExpired
            };
            if rung == FenceRung::LeaseExpired && !accept_lease_only {
                let needs = self.lacking(&entry).map_or_else(
                    || "its commits wait for no standby".to_owned(),
                    |(have, needs)| {
                        format!("{have} of {needs} of its synchronous standbys granted")
                    },
                );
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
        let (fetch, loss) = (self.fetch(), self.loss());
        Standing::Won(Win { fence, last_fence: worst, loose, fetch, loss })
    }

    /// Former holders that nobody saw stopped, also of epochs that a later promotion closed: each
    /// holder says whom it left behind. A grant from there, with nothing writable, ends it.
    fn loose(&self, attested: &[Member]) -> Vec<(Member, FenceRung)> {
        let stopped = |m: &Member| {
            *m == self.request.candidate
                || attested.contains(m)
                || self.grants.get(m).is_some_and(|g| g.not_writable)
        };
        let mut loose = BTreeMap::new();
        for entry in self.seen() {
            for (member, rung) in &entry.doubt.loose {
                loose.insert(member.clone(), *rung);
            }
            if self.released(&entry).is_none() {
                let fenced = self.is_sync_fenced(&entry);
                let rung = if fenced { FenceRung::SyncFenced } else { FenceRung::LeaseExpired };
                loose.insert(entry.holder.clone(), rung);
            } else {
                loose.remove(&entry.holder);
            }
        }
        let left = loose.into_iter().filter(|(member, _)| !stopped(member));
        left.take(LOOSE_MAX).collect()
    }

    fn best(&self) -> Option<(NodeId, Position)> {
        self.sources().map(|(node, p)| (node.clone(), p)).max_by_key(|(_, p)| *p)
    }

    /// Granters whose log may count. A former holder that went its own way does not, once its
    /// standbys' grants show that what only it has was never acknowledged: no log from before could
    /// be continued by it.
    fn sources(&self) -> impl Iterator<Item = (&NodeId, Position)> {
        let own = self.own_position();
        let open = self.open_epochs();
        self.grants.values().filter_map(move |g| {
            let position = g.position?;
            let alone = open.iter().any(|e| {
                e.holder == g.voter && e.holder != self.request.candidate && self.is_sync_fenced(e)
            });
            let ahead = own.is_some_and(|own| position.timeline > own.timeline);
            (!(alone && ahead)).then_some((&g.voter.node, position))
        })
    }

    /// Who has more than the claimant.
    fn fetch(&self) -> Option<(NodeId, Position)> {
        let own = self.own_position();
        self.best().filter(|(node, best)| {
            *node != self.request.candidate.node && own.is_some_and(|own| own < *best)
        })
    }

    /// The loss account (DESIGN §4), from the grants alone: the worst over every epoch that may
    /// have been written in.
    pub fn loss(&self) -> LossAccount {
        if self.is_incomplete() {
            let why = "voters were removed by override: what only they knew of later epochs and \
                of writes in them is missing"
                .into();
            return LossAccount::Unknown { why };
        }
        if self.grants.values().any(|g| g.history_signed) {
            let why = "two persons signed whose data is the history: what was acknowledged before \
                and is not in it cannot be known"
                .into();
            return LossAccount::Unknown { why };
        }
        let reached = self.best().map(|(_, p)| p.timeline);
        let unproved =
            |g: &&Grant| g.unproved_line && g.position.is_some_and(|p| Some(p.timeline) == reached);
        if let Some(grant) = self.grants.values().find(unproved) {
            let why = format!(
                "{} has log of timeline {}, which may be that of an epoch that was won; nothing \
                 proves that its winner wrote it",
                grant.voter.node,
                reached.unwrap_or_default()
            );
            return LossAccount::Unknown { why };
        }
        self.known_loss()
    }

    /// The same over what those who granted know, whoever was removed by override.
    pub fn known_loss(&self) -> LossAccount {
        let accounts = self.open_epochs().into_iter().filter_map(|entry| self.loss_of(&entry));
        let weight = |account: &LossAccount| match account {
            LossAccount::None { .. } => (0, 0),
            LossAccount::AtMost { bytes, .. } => (1, *bytes),
            LossAccount::Unknown { .. } => (2, 0),
        };
        accounts.max_by_key(weight).unwrap_or_else(|| LossAccount::None {
            proof: "no epoch was written in before this one, so nothing was acknowledged".into(),
            by: vec![],
            excluded: vec![],
        })
    }

    /// The account of one epoch; `None` when nothing can have been acknowledged in it.
    fn loss_of(&self, entry: &EpochSync) -> Option<LossAccount> {
        let release = self.released(entry);
        if release.is_some_and(|r| !r.promoted) {
            return None;
        }
        let holder = &entry.holder.node;
        if entry.holder == self.request.candidate {
            let proof = format!(
                "{holder} held the role in epoch {} and has its own log, flushed before it \
                    acknowledged",
                entry.epoch
            );
            if !self.has_data {
                return Some(LossAccount::Unknown {
                    why: format!("{holder} held the role before and no longer has that database"),
                });
            }
            let excluded = entry.doubt.excluded.clone();
            return Some(doubted_here(entry).unwrap_or_else(|| LossAccount::None {
                proof,
                by: vec![holder.clone()],
                excluded,
            }));
        }
        let reached = self.best().map(|(_, p)| p);
        if let Some((end, reached)) = release.and_then(|r| r.final_position).zip(reached) {
            let missing = end.lsn.bytes_since(reached.lsn);
            // A clean stop ends the log with a checkpoint that every connected standby receives
            // before it stops.
            let fenced =
                self.is_sync_fenced(entry) && (reached.timeline != end.timeline || missing > 0);
            if fenced {
                return Some(self.none_by_grants(entry));
            }
            return Some(if reached.timeline == end.timeline && missing == 0 {
                LossAccount::None {
                    proof: format!("{holder} stopped cleanly at {end} and that is here"),
                    by: vec![holder.clone()],
                    excluded: vec![],
                }
            } else if reached.timeline == end.timeline {
                LossAccount::AtMost {
                    bytes: missing,
                    span: None,
                    proof: format!("{holder} stopped at {end}, here is {reached}"),
                }
            } else {
                LossAccount::Unknown {
                    why: format!(
                        "{holder} stopped at {end}, here is {reached} on another timeline"
                    ),
                }
            });
        }
        let fenced = self.is_sync_fenced(entry);
        if fenced && entry.doubt.why.is_none() {
            return Some(self.none_by_grants(entry));
        }
        // What it acknowledged it had flushed before, and whoever has less fetches it.
        let own = self.grants.get(&entry.holder).and_then(|g| g.position);
        if own.zip(reached).is_some_and(|(own, reached)| own.timeline == reached.timeline) {
            return Some(doubted_here(entry).unwrap_or_else(|| LossAccount::None {
                proof: format!(
                    "{holder} itself granted, and the candidate has all of its log, flushed before \
                     it acknowledged"
                ),
                by: vec![holder.clone()],
                excluded: entry.doubt.excluded.clone(),
            }));
        }
        if fenced {
            return Some(self.none_by_grants(entry));
        }
        let why = match self.lacking(entry) {
            None => format!(
                "{holder} acknowledged without waiting for a standby, and its final position is \
                    not known"
            ),
            Some((count, needs)) => {
                format!(
                    "{count} of {needs} synchronous standbys of {holder} granted; an acknowledged \
                        write may be on the others only"
                )
            }
        };
        Some(LossAccount::Unknown { why })
    }

    fn none_by_grants(&self, entry: &EpochSync) -> LossAccount {
        if let Some(unknown) = doubted(entry) {
            return unknown;
        }
        let set = entry.sync.sets.last().cloned().unwrap_or_default();
        let by: Vec<NodeId> = self.sync_grants(&set).map(|g| g.voter.node.clone()).collect();
        let names: Vec<_> = by.iter().map(NodeId::as_str).collect();
        LossAccount::None {
            proof: format!(
                "every acknowledged write is on {} of {} synchronous standbys; {} granted, and \
                    the candidate has all that they have",
                set.k,
                set.members.len(),
                list(&names)
            ),
            by,
            excluded: entry
                .doubt
                .excluded
                .iter()
                .cloned()
                .chain([
                    "commits whose wait was cancelled (warning 01000), local and asynchronous \
                        commits"
                        .into(),
                ])
                .collect(),
        }
    }

    /// The end of the claimant's own log, by its own grant.
    pub fn own_position(&self) -> Option<Position> {
        self.grants.get(&self.request.candidate).and_then(|g| g.position)
    }
}

/// The holder said itself that what it acknowledged may not be where the account would have it.
fn doubted(entry: &EpochSync) -> Option<LossAccount> {
    let why = entry.doubt.why.as_ref()?;
    let why = format!("{} said in epoch {}: {why}", entry.holder.node, entry.epoch);
    Some(LossAccount::Unknown { why })
}

/// The same of what is in its own log.
fn doubted_here(entry: &EpochSync) -> Option<LossAccount> {
    doubted(entry).filter(|_| entry.doubt.own_log)
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nobody yet".into() } else { names.join(", ") }
}
