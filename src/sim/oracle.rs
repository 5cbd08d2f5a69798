//! What must never happen, checked against what clients were told. The oracle sees the whole world;
//! nobody in it sees the oracle.

use std::collections::BTreeMap;

use serde::Serialize;

use super::database::Database;
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::{Epoch, Lsn, Member, Span, Timestamp};

/// A write that a client was told is safe.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    write: u64,
    end: Lsn,
    /// Outside of every account, and named beside it: a cancelled wait, a session of its own mind.
    named: bool,
    lost: bool,
}

/// A database tells a client that its write is safe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack<'a> {
    pub(super) who: &'a str,
    pub(super) timeline: u32,
    pub(super) end: Lsn,
    pub(super) write: u64,
    /// Commits wait for standbys, as far as its client knows.
    pub(super) waited: bool,
    /// Nobody promised anything of it.
    pub(super) named: bool,
    /// It is in the log of the newest primary: one that was replicated in time may be confirmed
    /// late.
    pub(super) kept: bool,
    /// Nothing on its host could have ended its database in time.
    pub(super) loose: bool,
}

/// The newest promotion.
#[derive(Clone, Debug, Default)]
pub(super) struct Newest {
    pub(super) timeline: u32,
    pub(super) who: String,
    /// What was said to fence its predecessors.
    pub(super) fence: Option<FenceRung>,
    /// Bytes of acknowledged writes that it lacks.
    pub(super) missing: u64,
}

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// When, in simulated nanoseconds.
    pub at: Timestamp,
    /// Which law.
    pub law: &'static str,
    /// What was seen.
    pub seen: String,
}

/// Watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    acknowledged: Vec<Acknowledged>,
    newest: Newest,
    /// The highest epoch that each voter spoke of.
    spoke: BTreeMap<Member, Epoch>,
    writers: BTreeMap<u32, String>,
    last_ack: Timestamp,
    gap: Span,
    watching_since: Timestamp,
    pub(super) violations: Vec<Violation>,
    /// Lies told to it: with a disk that lies, or a power cut under one, the guarantees do not hold
    /// and are not checked.
    pub(super) forgiven: bool,
    pub(super) lost: Vec<u64>,
    /// Writes that several writers accepted, and those of them that met another they had not seen.
    shared: usize,
    pub(super) met: usize,
}

impl Oracle {
    pub(super) fn broken(&mut self, at: Timestamp, law: &'static str, seen: String) {
        if !self.forgiven && self.violations.len() < 8 {
            self.violations.push(Violation { at, law, seen });
        }
    }

    /// One writer at a time, for every acknowledgement. Of a writer whose lease merely ran out the
    /// fence says that it may still accept; of one that is sync-fenced, that it may where its
    /// commits do not wait. Both only where nothing on its host could stop it.
    pub(super) fn acked(&mut self, now: Timestamp, ack: &Ack<'_>) {
        let late = ack.timeline < self.newest.timeline && !ack.kept;
        let told = ack.loose
            && match self.newest.fence {
                Some(FenceRung::LeaseExpired) => true,
                Some(FenceRung::SyncFenced | FenceRung::WatchdogPassed) => !ack.waited,
                Some(FenceRung::Stopped | FenceRung::PoweredOff) | None => false,
            };
        if late && !told && !ack.named {
            let seen = format!(
                "{} acknowledged write {} on timeline {} after {} was promoted on {}",
                ack.who, ack.write, ack.timeline, self.newest.who, self.newest.timeline
            );
            self.broken(now, "one writer at a time", seen);
        }
        let gap = now.since(self.last_ack.max(self.watching_since));
        if self.watching_since > Timestamp(0) && gap > self.gap {
            self.gap = gap;
        }
        self.last_ack = now;
        if late {
            self.lost.push(ack.write);
        }
        let (write, end, named) = (ack.write, ack.end, ack.named);
        self.acknowledged.push(Acknowledged { write, end, named, lost: late });
    }

    /// A voter speaks of an epoch: it must never know less afterwards.
    pub(super) fn spoke(&mut self, voter: &Member, epoch: Epoch) {
        let slot = self.spoke.entry(voter.clone()).or_insert(epoch);
        *slot = (*slot).max(epoch);
    }

    /// A voter's process starts with what its store has.
    pub(super) fn remembers(&mut self, now: Timestamp, voter: &Member, epoch: Epoch) {
        let said = self.spoke.get(voter).copied().unwrap_or(Epoch(0));
        if epoch < said {
            let seen = format!("{} spoke of epoch {said} and knows {epoch} now", voter.node);
            self.broken(now, "epochs only rise", seen);
        }
    }

    pub(super) fn newest(&self) -> &Newest {
        &self.newest
    }

    /// A database writes its log.
    pub(super) fn wrote(&mut self, now: Timestamp, who: &str, timeline: u32) {
        match self.writers.get(&timeline) {
            None => _ = self.writers.insert(timeline, who.to_owned()),
            Some(writer) if writer == who => {}
            Some(writer) => {
                let seen = format!("{who} and {writer} both wrote timeline {timeline}");
                self.broken(now, "one writer of a timeline", seen);
            }
        }
    }

    /// An agent counts itself as holder while another's right had not ended.
    pub(super) fn overlap(&mut self, now: Timestamp, seen: String) {
        self.broken(now, "one lease at a time", seen);
    }

    /// A voter's epoch went down.
    pub(super) fn epoch_fell(&mut self, now: Timestamp, seen: String) {
        self.broken(now, "epochs only rise", seen);
    }

    /// A database was promoted; `account` and `fence` are what was said before, `None` where its
    /// own log was all there is.
    pub(super) fn promoted(
        &mut self,
        now: Timestamp,
        who: &str,
        db: &Database,
        account: Option<&LossAccount>,
        fence: Option<FenceRung>,
    ) {
        let mut missing = vec![];
        for ack in self.acknowledged.iter_mut().filter(|a| !a.lost) {
            if !db.has(ack.end, ack.write) {
                ack.lost = true;
                self.lost.push(ack.write);
                if !ack.named {
                    missing.push(*ack);
                }
            }
        }
        let bytes = missing.len() as u64 * super::database::WRITE_BYTES;
        let covered = match account {
            Some(LossAccount::Unknown { .. }) => true,
            Some(LossAccount::AtMost { bytes: most, .. }) => bytes <= *most,
            Some(LossAccount::None { .. }) | None => missing.is_empty(),
        };
        if !covered {
            let said = account.map_or("its own log".to_owned(), LossAccount::short);
            let first = missing.first().map_or(0, |a| a.write);
            let seen = format!(
                "{who} was promoted without {} acknowledged writes (first {first}); the account \
                    said {said}",
                missing.len()
            );
            self.broken(now, "no acknowledged write is lost that the account did not name", seen);
        }
        if db.history.timeline >= self.newest.timeline {
            self.newest = Newest {
                timeline: db.history.timeline,
                who: who.to_owned(),
                fence,
                missing: bytes,
            };
        }
    }

    /// What was acknowledged and is not in there is outside of every account.
    pub(super) fn excuse(&mut self, db: &Database) {
        for ack in self.acknowledged.iter_mut().filter(|a| !db.has(a.end, a.write)) {
            ack.named = true;
        }
    }

    /// At the end: what is not in the log that clients read.
    pub(super) fn settle(&mut self, now: Timestamp, who: &str, db: &Database) {
        let missing: Vec<u64> = self
            .acknowledged
            .iter()
            .filter(|a| !a.lost && !a.named && !db.has(a.end, a.write))
            .map(|a| a.write)
            .collect();
        if !missing.is_empty() {
            let seen = format!(
                "{} acknowledged writes are not on {who} (first {})",
                missing.len(),
                missing[0]
            );
            self.broken(now, "no acknowledged write is lost that the account did not name", seen);
        }
    }

    /// One of several writers accepted a write; `meets`: another node has one to the same key that
    /// it has not seen.
    pub(super) fn took(&mut self, now: Timestamp, meets: bool) {
        let gap = now.since(self.last_ack.max(self.watching_since));
        if self.watching_since > Timestamp(0) && gap > self.gap {
            self.gap = gap;
        }
        self.last_ack = now;
        self.shared += 1;
        self.met += usize::from(meets);
    }

    /// A node was drained, and not everybody has what it accepted.
    pub(super) fn left_behind(&mut self, now: Timestamp, seen: String) {
        self.broken(now, "a drained node leaves nothing behind", seen);
    }

    /// The cluster did not become writable again.
    pub(super) fn stuck(&mut self, now: Timestamp, seen: String) {
        self.broken(now, "healed means writable", seen);
    }

    /// From here on the longest time without an acknowledgement is measured.
    pub(super) fn watch(&mut self, now: Timestamp) {
        self.watching_since = now;
        self.gap = Span::ZERO;
    }

    /// The longest time without an acknowledgement, up to now.
    pub(super) fn longest_gap(&self, now: Timestamp) -> Span {
        self.gap.max(now.since(self.last_ack.max(self.watching_since)))
    }
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len() + self.shared
    }
    pub(super) fn last_ack(&self) -> Timestamp {
        self.last_ack
    }
}
