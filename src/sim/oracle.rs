//! What must never happen, checked against what clients were told. The oracle sees the whole world;
//! nobody in it sees the oracle.

use std::collections::BTreeMap;

use serde::Serialize;

use super::database::Database;
use crate::model::loss::LossAccount;
use crate::model::{Lsn, Span, Timestamp};

/// A write that a client was told is safe.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    write: u64,
    end: Lsn,
    /// Whether it waited for standbys: one that did not is outside every account.
    waited: bool,
    lost: bool,
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
    /// The highest timeline that ever acknowledged, and who.
    newest: (u32, String),
    writers: BTreeMap<u32, String>,
    last_ack: Timestamp,
    gap: Span,
    watching_since: Timestamp,
    pub(super) violations: Vec<Violation>,
    /// Lies told to it: with a disk that lies, or a power cut under one, the guarantees do not hold
    /// and are not checked.
    pub(super) forgiven: bool,
    /// With no synchronous standby a host that was paused as a whole may acknowledge afterwards:
    /// the screens say so.
    asynchronous: bool,
    pub(super) lost: Vec<u64>,
    /// Writes that several writers accepted, and those of them that met another they had not seen.
    shared: usize,
    pub(super) met: usize,
}

impl Oracle {
    pub(super) fn new(asynchronous: bool) -> Self {
        Self { asynchronous, ..Self::default() }
    }

    fn broken(&mut self, at: Timestamp, law: &'static str, seen: String) {
        if !self.forgiven && self.violations.len() < 8 {
            self.violations.push(Violation { at, law, seen });
        }
    }

    /// A database tells a client that its write is safe.
    /// `kept`: it is in the log of the newest primary. One that was replicated in time may be
    /// confirmed late.
    #[expect(clippy::too_many_arguments, reason = "the columns of an acknowledgement")]
    pub(super) fn acked(
        &mut self,
        now: Timestamp,
        who: &str,
        timeline: u32,
        end: Lsn,
        write: u64,
        waited: bool,
        kept: bool,
    ) {
        // A commit whose wait was cancelled is outside of every guarantee, and is counted.
        if timeline < self.newest.0 && waited && !kept {
            let seen = format!(
                "{who} acknowledged write {write} on timeline {timeline} after {} had on {}",
                self.newest.1, self.newest.0
            );
            self.broken(now, "one writer at a time", seen);
        }
        if timeline >= self.newest.0 && waited {
            self.newest = (timeline, who.to_owned());
        }
        let gap = now.since(self.last_ack.max(self.watching_since));
        if self.watching_since > Timestamp(0) && gap > self.gap {
            self.gap = gap;
        }
        self.last_ack = now;
        self.acknowledged.push(Acknowledged { write, end, waited, lost: false });
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

    /// A database was promoted; `account` is what was said before, `None` where its own log was all
    /// there is.
    pub(super) fn promoted(
        &mut self,
        now: Timestamp,
        who: &str,
        db: &Database,
        account: Option<&LossAccount>,
    ) {
        let mut missing = vec![];
        for ack in self.acknowledged.iter_mut().filter(|a| !a.lost) {
            if !db.has(ack.end, ack.write) {
                ack.lost = true;
                self.lost.push(ack.write);
                if ack.waited {
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
        // Without synchronous standbys a reclaim may lack what nobody else ever had.
        if !(covered || self.asynchronous && account.is_none()) {
            let said = account.map_or("its own log".to_owned(), LossAccount::short);
            let first = missing.first().map_or(0, |a| a.write);
            let seen = format!(
                "{who} was promoted without {} acknowledged writes (first {first}); the account \
                    said {said}",
                missing.len()
            );
            self.broken(now, "no acknowledged write is lost that the account did not name", seen);
        }
    }

    /// At the end: what is not in the log that clients read.
    pub(super) fn settle(&mut self, now: Timestamp, who: &str, db: &Database) {
        let missing: Vec<u64> = self
            .acknowledged
            .iter()
            .filter(|a| !a.lost && a.waited && !db.has(a.end, a.write))
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
