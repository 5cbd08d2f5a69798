//! A database as far as failover knows one: a log with timelines, commits that wait for standbys, a
//! replication stream, promotion, rewind. A write is its number.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{LogPrint, Lsn, Position, Span, TimelineHistory, Timestamp};

/// One record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it ends.
    pub(super) end: Lsn,
    /// On which timeline it was written.
    pub(super) timeline: u32,
    /// The client's number; 0 for the database's own.
    pub(super) write: u64,
}

/// Log that travels from an upstream to a standby.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// Where it begins.
    pub(super) start: Lsn,
    /// What it holds.
    pub(super) entries: Vec<Entry>,
    /// The sender's history, when the receiver does not have it yet.
    pub(super) history: Option<TimelineHistory>,
}

/// A commit that is not confirmed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) end: Lsn,
    pub(super) write: u64,
}

/// What an upstream knows of one connected standby.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// Sent up to here.
    pub(super) sent: Lsn,
    /// Confirmed as flushed up to here.
    pub(super) flushed: Lsn,
    /// Last word from it.
    pub(super) heard: Timestamp,
    /// Names this connection; words of an earlier one do not count.
    pub(super) connection: u64,
    /// The timeline it was told of.
    pub(super) told: u32,
}

/// Where a standby receives from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver {
    pub(super) from: usize,
    pub(super) connection: u64,
    /// It tries one connection after the other, and nobody else does: whoever follows anew ends the
    /// tries of before.
    pub(super) tries: u64,
    pub(super) streaming: bool,
    pub(super) heard: Timestamp,
}

/// The server and its data directory.
#[derive(Clone, Debug)]
pub(super) struct Database {
    /// Its data directory was filled.
    pub(super) has_data: bool,
    /// Processes exist.
    pub(super) running: bool,
    /// Accepts writes.
    pub(super) primary: bool,
    /// A stop was asked for: sessions are gone, the end of the log is being sent.
    pub(super) stopping: bool,
    /// Processes exist and answer nothing.
    pub(super) hung: bool,
    /// Its timeline and the branches behind it.
    pub(super) history: TimelineHistory,
    /// The end of its log.
    pub(super) end: Lsn,
    /// On disk up to here.
    pub(super) flushed: Lsn,
    pub(super) log: Vec<Entry>,
    pub(super) receiver: Option<Receiver>,
    pub(super) senders: BTreeMap<usize, Sender>,
    /// Who confirms commits, and how many must.
    pub(super) sync: (Vec<usize>, usize),
    pub(super) waiting: VecDeque<Waiting>,
    /// Commits whose wait was cancelled.
    pub(super) cancelled: u32,
    /// Sessions that commit without waiting.
    pub(super) asynchronous: bool,
    /// How many times it was started: names its connections.
    pub(super) starts: u64,
    /// Which cluster's data it is.
    pub(super) system: u64,
    /// Rewinds and clones that made the data another.
    pub(super) rebuilt: u64,
    /// It is marked to start as a standby.
    pub(super) is_standby: bool,
    /// A person, not the agent, made it writable.
    pub(super) by_hand: bool,
    /// Its directory was moved away under it: no path leads to its processes.
    pub(super) unlinked: bool,
    pub(super) wrong: Wrong,
}

/// Settings that a person has changed under the agent, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    /// `synchronous_commit = off`.
    pub(super) commit: Option<Timestamp>,
    /// `synchronous_standby_names = ''`.
    pub(super) names: Option<Timestamp>,
    /// `fsync = off`.
    pub(super) fsync: Option<Timestamp>,
}

impl Wrong {
    /// Commits are confirmed without their standbys, since then.
    pub(super) fn does_not_wait(&self) -> Option<Timestamp> {
        [self.commit, self.names].into_iter().flatten().min()
    }
}

/// The system identifier of every cluster that is simulated.
pub(super) const SYSTEM: u64 = 7_300_000_000_000_000_001;
/// Bytes of log of one write.
pub(super) const WRITE_BYTES: u64 = 128;

impl Database {
    pub(super) fn empty() -> Self {
        Self {
            has_data: false,
            running: false,
            primary: false,
            stopping: false,
            hung: false,
            history: TimelineHistory { timeline: 1, left: vec![] },
            end: Lsn(0),
            flushed: Lsn(0),
            log: vec![],
            receiver: None,
            senders: BTreeMap::new(),
            sync: (vec![], 0),
            waiting: VecDeque::new(),
            cancelled: 0,
            asynchronous: false,
            starts: 0,
            system: SYSTEM,
            rebuilt: 0,
            is_standby: true,
            by_hand: false,
            unlinked: false,
            wrong: Wrong::default(),
        }
    }

    pub(super) fn position(&self) -> Position {
        Position { timeline: self.history.timeline, lsn: self.end }
    }

    /// Every process is gone. What was written stays in the page cache; what was not confirmed
    /// never will be.
    pub(super) fn kill(&mut self) {
        self.running = false;
        self.primary = false;
        self.stopping = false;
        self.hung = false;
        self.receiver = None;
        self.senders.clear();
        self.waiting.clear();
        self.cancelled = 0;
        self.by_hand = false;
    }

    /// The host lost its power: what was not on disk is gone.
    pub(super) fn lose_power(&mut self, durable: Lsn) {
        self.kill();
        self.cut_log(durable.min(self.flushed));
    }

    /// Its log ends here now, as after a rewind or a loss of power.
    pub(super) fn cut_log(&mut self, end: Lsn) {
        let keep = self.log.partition_point(|e| e.end <= end);
        self.log.truncate(keep);
        self.end = self.log.last().map_or(end, |e| e.end).min(end);
        self.flushed = self.flushed.min(self.end);
    }

    /// Starts as a standby of nobody.
    pub(super) fn start(&mut self) {
        self.kill();
        self.starts += 1;
        self.running = true;
        self.is_standby = true;
    }

    /// A write is in the log, not on disk yet.
    pub(super) fn append(&mut self, write: u64) -> Lsn {
        self.end = Lsn(self.end.0 + WRITE_BYTES);
        self.log.push(Entry { end: self.end, timeline: self.history.timeline, write });
        self.end
    }

    /// What the log says just before a place.
    pub(super) fn print(&self, at: Lsn) -> Option<LogPrint> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let before = self.log.partition_point(|e| e.end <= at);
        let last = self.log.get(before.checked_sub(1)?)?;
        let mut hasher = DefaultHasher::new();
        let page = self.log.get(before.saturating_sub(64)..before)?;
        page.iter().for_each(|e| (e.end, e.write).hash(&mut hasher));
        let at = Position { timeline: last.timeline, lsn: at };
        Some(LogPrint { at, hash: hasher.finish() })
    }

    /// The log on disk from `start` on.
    pub(super) fn since(&self, start: Lsn) -> Vec<Entry> {
        let (first, last) = (
            self.log.partition_point(|e| e.end <= start),
            self.log.partition_point(|e| e.end <= self.flushed),
        );
        self.log.get(first..last).map(<[Entry]>::to_vec).unwrap_or_default()
    }

    /// Takes log from its upstream. False when it does not continue what is here.
    pub(super) fn receive(&mut self, chunk: &Chunk) -> bool {
        if chunk.start > self.end {
            return false;
        }
        if let Some(history) = &chunk.history {
            self.history.clone_from(history);
        }
        for entry in chunk.entries.iter().filter(|e| e.end > self.end).copied().collect::<Vec<_>>()
        {
            self.log.push(entry);
            self.end = entry.end;
        }
        true
    }

    /// Commits that are confirmed now.
    pub(super) fn confirmed(&mut self) -> Vec<Waiting> {
        let mut done = vec![];
        while let Some(first) = self.waiting.front().copied() {
            let (members, k) = &self.sync;
            let have = members
                .iter()
                .filter(|m| self.senders.get(m).is_some_and(|s| s.flushed >= first.end))
                .count();
            let waits = have < *k && !self.asynchronous && self.wrong.does_not_wait().is_none();
            if first.end > self.flushed || waits {
                break;
            }
            self.waiting.pop_front();
            done.push(first);
        }
        done
    }

    /// Promotes to the timeline of that number.
    pub(super) fn promote(&mut self, timeline: u32) {
        self.receiver = None;
        let old = self.history.timeline;
        self.history.left.push((old, self.end));
        self.history.timeline = timeline;
        self.primary = true;
        self.is_standby = false;
        // The end-of-recovery record is the first of the new timeline.
        self.append(0);
        self.flushed = self.end;
    }

    /// Whether it has that write at that place.
    pub(super) fn has(&self, end: Lsn, write: u64) -> bool {
        self.log.binary_search_by(|e| e.end.cmp(&end)).is_ok_and(|i| self.log[i].write == write)
    }

    /// Where a log like this leaves another history; `None` when the two share nothing.
    pub(super) fn fork_from(&self, other: &TimelineHistory) -> Option<Lsn> {
        let mine = std::iter::once((self.history.timeline, self.end))
            .chain(self.history.left.iter().rev().copied());
        for (timeline, end) in mine {
            if timeline == other.timeline {
                return Some(end);
            }
            if let Some(left) = other.left_at(timeline) {
                return Some(left.min(end));
            }
        }
        None
    }
}

/// How fast a disk is, and what is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// Typical time of a flush.
    pub(super) flush: Span,
    /// Nothing can be written.
    pub(super) full: bool,
    /// Says "flushed" and keeps it in memory: what came since is gone when the power is.
    pub(super) lies: bool,
    /// Data that is read back is not what was written.
    pub(super) corrupt: bool,
    /// Writing and flushing fail (EIO); what was written stays readable until memory runs short.
    pub(super) broken: bool,
}
