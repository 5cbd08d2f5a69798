//! What an acknowledged write may have come to, by what voters say: one account, for the plane that
//! forecasts it from reports and for the candidate that computes it from grants.

use std::collections::BTreeMap;

use crate::model::loss::LossAccount;
use crate::model::testimony::{EpochSync, ReleaseNotice, Testimony};
use crate::model::{Epoch, Member, NodeId, Position, SyncSet, VoterSet};

/// What no proof that rests on standbys speaks of.
pub const UNSYNCHRONISED: &str = "commits whose wait was cancelled (warning 01000), local and \
    asynchronous commits";

/// What no account speaks of: it is not in the log.
pub const UNLOGGED: &str = "unlogged tables (no standby has them, a crash empties them)";

/// A final position is where the last checkpoint's record begins; whoever received it ends behind
/// that record (`CheckPoint` of 88 bytes, and headers), in bytes.
const CHECKPOINT_RECORD_MAX: u64 = 256;

/// The evidence behind one account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    voters: VoterSet,
    candidate: Member,
    /// The candidate has a database: what it acknowledged in an epoch that nobody closed since, it
    /// has.
    has_data: bool,
    /// What each voter says that granted, or could.
    said: BTreeMap<Member, Testimony>,
    /// What is known of epochs from elsewhere: it is nobody's grant.
    known: Vec<EpochSync>,
    /// Releases that are known from elsewhere: each is final.
    released: Vec<ReleaseNotice>,
    /// Nobody was asked yet: what they say is what their grants would.
    forecast: bool,
}

impl Account {
    /// Of a candidate that counts grants.
    pub fn new(
        voters: VoterSet,
        candidate: Member,
        has_data: bool,
        released: Vec<ReleaseNotice>,
    ) -> Self {
        let (said, known) = (BTreeMap::new(), vec![]);
        Self { voters, candidate, has_data, said, known, released, forecast: false }
    }

    /// Of a candidate that nobody was asked to grant yet; `known` of epochs, also by those who
    /// cannot be asked.
    pub fn forecast(
        voters: VoterSet,
        candidate: Member,
        has_data: bool,
        known: Vec<EpochSync>,
    ) -> Self {
        Self { known, forecast: true, ..Self::new(voters, candidate, has_data, vec![]) }
    }

    /// What a voter says. Whoever does not vote is not counted.
    pub fn hear(&mut self, voter: Member, said: Testimony) {
        if self.voters.contains(&voter) {
            self.said.insert(voter, said);
        }
    }

    /// Who votes.
    pub fn voters(&self) -> &VoterSet {
        &self.voters
    }

    /// What each voter said.
    pub fn said(&self) -> &BTreeMap<Member, Testimony> {
        &self.said
    }

    fn entries(&self) -> impl Iterator<Item = &EpochSync> {
        self.said.values().flat_map(|said| &said.history).chain(&self.known)
    }

    /// Epochs that were or may have been won and whose holder could still acknowledge: those from
    /// the last known win on, without the ones whose holder said it stopped, without the claimant's
    /// own (it knows what it does), and without those that cannot have reached a majority.
    pub(super) fn open_epochs(&self) -> Vec<EpochSync> {
        let seen = self.seen();
        let written = |e: &&EpochSync| e.promoted || self.has_its_line(e.epoch);
        let closed = seen.iter().filter(written).map(|e| e.epoch).max();
        seen.into_iter().filter(|e| closed.is_none_or(|c| e.epoch >= c)).collect()
    }

    /// Every epoch that any granter keeps and that may have been won, also where a later one is
    /// known to have been written in.
    pub(super) fn seen(&self) -> Vec<EpochSync> {
        let mut seen: BTreeMap<(Epoch, Member), EpochSync> = BTreeMap::new();
        for entry in self.entries() {
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
        let unheard = self.voters.members.len() - self.said.len();
        seen.into_values()
            .filter(|e| {
                let voted = |said: &&Testimony| {
                    said.history.iter().any(|h| h.epoch == e.epoch && h.holder == e.holder)
                };
                e.won
                    || self.has_its_line(e.epoch)
                    || self.said.values().filter(voted).count() + unheard >= self.voters.majority()
            })
            .collect()
    }

    /// A granter received the line that this epoch's winner opened: it was written in, whether or
    /// not anybody heard its winner say so.
    fn has_its_line(&self, epoch: Epoch) -> bool {
        let line = |g: &Testimony| g.position.is_some_and(|p| u64::from(p.timeline) == epoch.0);
        self.said.values().any(|g| !g.unproved_line && line(g))
    }

    pub(super) fn released(&self, entry: &EpochSync) -> Option<&ReleaseNotice> {
        let heard = self.said.values().flat_map(|said| &said.released);
        let all = || heard.clone().chain(&self.released);
        // What somebody saw won needs its own word.
        let covering = || all().find(|r| !entry.won && r.covers(entry.epoch, &entry.holder));
        all().find(|r| r.epoch == entry.epoch && r.holder == entry.holder).or_else(covering)
    }

    /// Members of the epoch's synchronous set that granted and know where their log ends: one that
    /// does not could hold an acknowledged write that nobody sees.
    fn sync_grants<'a>(&'a self, set: &'a SyncSet) -> impl Iterator<Item = &'a Member> {
        self.said
            .iter()
            .filter(|(voter, said)| set.members.contains(voter) && said.position.is_some())
            .map(|(voter, _)| voter)
    }

    /// Every set that may be in force is fenced.
    pub(super) fn is_sync_fenced(&self, entry: &EpochSync) -> bool {
        let fenced = |set: &SyncSet| {
            set.fence_needs().is_some_and(|needs| self.sync_grants(set).count() >= needs)
        };
        !entry.sync.sets.is_empty() && entry.sync.sets.iter().all(fenced)
    }

    /// The set that is furthest from being fenced: what it needs and what it has.
    pub(super) fn lacking(&self, entry: &EpochSync) -> Option<(usize, usize)> {
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
    pub(super) fn is_incomplete(&self) -> bool {
        let closed = self.entries().filter(|e| e.promoted).map(|e| e.epoch).max();
        self.voters
            .override_floor()
            .is_some_and(|floor| closed.is_none_or(|closed| closed <= floor))
    }

    pub(super) fn best(&self) -> Option<(NodeId, Position)> {
        self.sources().map(|(node, p)| (node.clone(), p)).max_by_key(|(_, p)| *p)
    }

    /// Granters whose log may count. A former holder that went its own way does not, once its
    /// standbys' grants show that what only it has was never acknowledged: no log from before could
    /// be continued by it. Under a doubt they show nothing.
    fn sources(&self) -> impl Iterator<Item = (&NodeId, Position)> {
        let own = self.own_position();
        let open = self.open_epochs();
        self.said.iter().filter_map(move |(voter, said)| {
            let position = said.position?;
            let alone = open.iter().any(|e| {
                let shown = e.doubt.why.is_none() && self.is_sync_fenced(e);
                e.holder == *voter && e.holder != self.candidate && shown
            });
            let ahead = own.is_some_and(|own| position.timeline > own.timeline);
            (!(alone && ahead)).then_some((&voter.node, position))
        })
    }

    /// The loss account (DESIGN §4), from what voters say alone: the worst over every epoch that may
    /// have been written in.
    pub fn loss(&self) -> LossAccount {
        let (said, needed) = (self.said.len(), self.voters.majority());
        if said < needed {
            let all = self.voters.members.len();
            let why = format!("{said} of {all} voters {}, {needed} are needed", self.verb());
            return LossAccount::Unknown { why };
        }
        if self.is_incomplete() {
            let why = "voters were removed by override: what only they knew of later epochs and \
                of writes in them is missing"
                .into();
            return LossAccount::Unknown { why };
        }
        if self.said.values().any(|g| g.history_signed) {
            let why = "two persons signed whose data is the history: what was acknowledged before \
                and is not in it cannot be known"
                .into();
            return LossAccount::Unknown { why };
        }
        let reached = self.best().map(|(_, p)| p.timeline);
        let unproved = |(_, said): &(&Member, &Testimony)| {
            said.unproved_line && said.position.is_some_and(|p| Some(p.timeline) == reached)
        };
        if let Some((voter, _)) = self.said.iter().find(unproved) {
            let why = format!(
                "{} has log of timeline {}, which may be that of an epoch that was won; nothing \
                 proves that its winner wrote it",
                voter.node,
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
        if entry.holder == self.candidate {
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
            let excluded = excluded(entry, &[UNLOGGED]);
            return Some(doubted_here(entry).unwrap_or_else(|| LossAccount::None {
                proof,
                by: vec![holder.clone()],
                excluded,
            }));
        }
        let reached = self.best().map(|(_, p)| p);
        // Log beyond a final position was written by a server that somebody started since.
        let beyond = |end: &Position| {
            let after = |p: Position| {
                p.timeline == end.timeline && p.lsn.bytes_since(end.lsn) > CHECKPOINT_RECORD_MAX
            };
            self.said.values().filter_map(|said| said.position).any(after)
        };
        let end = release.and_then(|r| r.final_position).filter(|end| !beyond(end));
        if let Some((end, reached)) = end.zip(reached) {
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
                    excluded: vec![UNLOGGED.into()],
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
        let own = self.said.get(&entry.holder).and_then(|g| g.position);
        let has_all = |(own, reached): (Position, Position)| {
            own.timeline == reached.timeline && own.lsn <= reached.lsn
        };
        if own.zip(reached).is_some_and(has_all) {
            return Some(doubted_here(entry).unwrap_or_else(|| LossAccount::None {
                proof: format!(
                    "{holder} itself {}, and the candidate has all of its log, flushed before it \
                        acknowledged",
                    self.verb()
                ),
                by: vec![holder.clone()],
                excluded: excluded(entry, &[UNLOGGED]),
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
                    "{count} of {needs} synchronous standbys of {holder} {}; an acknowledged write \
                        may be on the others only",
                    self.verb()
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
        let by: Vec<NodeId> = self.sync_grants(&set).map(|voter| voter.node.clone()).collect();
        let names: Vec<_> = by.iter().map(NodeId::as_str).collect();
        LossAccount::None {
            proof: format!(
                "every acknowledged write is on {} of {} synchronous standbys; {} {}, and \
                    the candidate has all that they have",
                set.k,
                set.members.len(),
                list(&names),
                self.verb()
            ),
            by,
            excluded: excluded(entry, &[UNSYNCHRONISED, UNLOGGED]),
        }
    }

    /// The end of the claimant's own log, by its own grant.
    pub fn own_position(&self) -> Option<Position> {
        self.said.get(&self.candidate).and_then(|g| g.position)
    }

    fn verb(&self) -> &'static str {
        if self.forecast { "can grant" } else { "granted" }
    }
}

/// What the account of that epoch does not speak of.
fn excluded(entry: &EpochSync, besides: &[&str]) -> Vec<String> {
    entry.doubt.excluded.iter().cloned().chain(besides.iter().map(|b| (*b).to_owned())).collect()
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

pub(super) fn list(names: &[&str]) -> String {
    if names.is_empty() { "nobody yet".into() } else { names.join(", ") }
}
