//! Which data a position belongs to (DESIGN §4, "what evidence is evidence of").
//!
//! A log position says how far, not of what. A voter keeps a mark of the data it answers for: the
//! system identifier, the line that a winner told it of, and how far the log was flushed. Data that
//! is another's, went its own way, or ends before the mark has no position.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::planted::{Bug, planted};
use super::{Epoch, Lsn, Position, TimelineHistory};

/// What a log says just before a place: two logs of one length are not one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogPrint {
    /// A record boundary.
    pub at: Position,
    /// Hash of the log before it, as far back as the adapter of that database looks.
    pub hash: u64,
}

/// The data a voter answers for; durable in its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataMark {
    /// The system identifier of the cluster's database; `None` until a winner was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<u64>,
    /// The history of the newest line that a winner is known to have written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<TimelineHistory>,
    /// The log here was flushed up to this record boundary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Position>,
    /// What the log here said at a place at or before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub print: Option<LogPrint>,
    /// Two persons signed that what is here is the history, and no later epoch was written in since:
    /// it counts, though it was opened without a lease.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pardoned: bool,
    /// The newest line that this node wrote itself, or won the right to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<u32>,
}

/// What is found on the disk of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataFound {
    /// The system identifier in its control file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<u64>,
    /// The history of the newest timeline that its log has a segment of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<TimelineHistory>,
    /// It was found writable without a lease, and no rewind or clone came since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stray: bool,
    /// A record boundary up to which the log is flushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flushed: Option<Position>,
    /// What the log says, at or before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub print: Option<LogPrint>,
    /// Clones and rewinds completed by this process: each makes the data another.
    #[serde(default)]
    pub rebuilt: u64,
}

/// Why data has no position. Nothing of it is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum DataFault {
    /// A database of another cluster.
    AnotherSystem {
        /// Its identifier.
        found: u64,
        /// The cluster's.
        expected: u64,
    },
    /// It was writable without a lease.
    Stray {
        /// On which timeline.
        timeline: u32,
    },
    /// Its line was never won by anybody.
    ForeignLine {
        /// That line.
        found: u32,
        /// The line of the newest epoch known to be written in.
        accepted: u32,
    },
    /// Its log ends before what this node once confirmed: an older copy.
    Below {
        /// Where it ends.
        found: Position,
        /// Where it once reached.
        mark: Position,
    },
}

impl fmt::Display for DataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataFault::AnotherSystem { found, expected } => write!(
                f,
                "another cluster's data (system identifier {found}, this cluster's is {expected}); \
                 nothing of it is touched: move it away, and the node is cloned"
            ),
            DataFault::Stray { timeline } => write!(
                f,
                "its database was writable without a lease, on timeline {timeline}: what it has is \
                 another history until it is rewound or cloned"
            ),
            DataFault::ForeignLine { found, accepted } => write!(
                f,
                "its log is on timeline {found}, which no winner of an epoch wrote; the cluster's \
                 is {accepted}"
            ),
            DataFault::Below { found, mark } => write!(
                f,
                "its log ends at {found}, but this node once had it up to {mark}: an older copy"
            ),
        }
    }
}

/// A page of log begins with a header of 24 or 40 bytes (PostgreSQL, `xlog_internal.h`); a place
/// within it and the page's begin are the same place.
fn normal(position: Position) -> Position {
    const PAGE: u64 = 8_192;
    const HEADER_MAX: u64 = 40;
    let into = position.lsn.0 % PAGE;
    let lsn = if into <= HEADER_MAX { Lsn(position.lsn.0 - into) } else { position.lsn };
    Position { lsn, ..position }
}

impl DataMark {
    /// Why what was found has no position; `None`: it counts. `position` is where the log ends, when
    /// that is certain; `may_be_won` says of an epoch whether this voter knows somebody who may have
    /// won it.
    pub fn fault(
        &self,
        found: &DataFound,
        position: Option<Position>,
        may_be_won: impl Fn(Epoch) -> bool,
    ) -> Option<DataFault> {
        if let (Some(found), Some(expected)) = (found.system, self.system)
            && found != expected
            && !planted(Bug::NoMark)
        {
            return Some(DataFault::AnotherSystem { found, expected });
        }
        if found.stray && !self.pardoned && !planted(Bug::AnyLine) {
            let timeline = found.line.as_ref().map_or(0, |l| l.timeline);
            return Some(DataFault::Stray { timeline });
        }
        if let (Some(line), Some(accepted)) = (&found.line, &self.line)
            && !accepts(accepted, line)
            && !may_be_won(Epoch(u64::from(line.timeline)))
            && !planted(Bug::AnyLine)
        {
            return Some(DataFault::ForeignLine {
                found: line.timeline,
                accepted: accepted.timeline,
            });
        }
        if let (Some(position), Some(mark)) = (position, self.high)
            && normal(position) < normal(mark)
            && !planted(Bug::NoMark)
        {
            return Some(DataFault::Below { found: position, mark });
        }
        None
    }

    /// Whether the line that was found is that of the newest epoch written in, or an ancestor.
    pub fn accepts(&self, found: &TimelineHistory) -> bool {
        self.line.as_ref().is_none_or(|accepted| accepts(accepted, found))
    }
}

/// The same line or an ancestor of it, with the same branches behind it.
fn accepts(accepted: &TimelineHistory, found: &TimelineHistory) -> bool {
    let known = found.timeline == accepted.timeline || accepted.left_at(found.timeline).is_some();
    known && found.left.iter().all(|(t, at)| accepted.left_at(*t) == Some(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(timeline: u32, left: &[(u32, u64)]) -> TimelineHistory {
        TimelineHistory { timeline, left: left.iter().map(|(t, at)| (*t, Lsn(*at))).collect() }
    }
    fn at(timeline: u32, lsn: u64) -> Position {
        Position { timeline, lsn: Lsn(lsn) }
    }
    fn mark() -> DataMark {
        DataMark {
            system: Some(7),
            line: Some(line(4, &[(1, 100), (2, 200)])),
            high: Some(at(4, 30_000)),
            print: None,
            own: None,
            pardoned: false,
        }
    }
    fn found(history: TimelineHistory) -> DataFound {
        DataFound { system: Some(7), line: Some(history), ..DataFound::default() }
    }
    fn never(_: Epoch) -> bool {
        false
    }

    #[test]
    fn the_own_line_and_its_ancestors_count() {
        let own = found(line(4, &[(1, 100), (2, 200)]));
        assert_eq!(mark().fault(&own, Some(at(4, 30_000)), never), None);
        let older = DataMark { high: None, ..mark() };
        assert_eq!(older.fault(&found(line(2, &[(1, 100)])), Some(at(2, 150)), never), None);
        assert_eq!(DataMark::default().fault(&own, None, never), None, "a founder has no mark");
    }

    #[test]
    fn another_history_does_not() {
        let foreign = DataFound { system: Some(8), ..found(line(4, &[(1, 100), (2, 200)])) };
        let fault = mark().fault(&foreign, None, never);
        assert_eq!(fault, Some(DataFault::AnotherSystem { found: 8, expected: 7 }));
        // The same number, left elsewhere: promoted by hand.
        for other in [line(4, &[(1, 100), (2, 250)]), line(3, &[(2, 200)]), line(5, &[(4, 999)])] {
            let timeline = other.timeline;
            assert_eq!(
                mark().fault(&found(other), None, never),
                Some(DataFault::ForeignLine { found: timeline, accepted: 4 })
            );
        }
        let stray = DataFound { stray: true, ..found(line(4, &[(1, 100), (2, 200)])) };
        assert_eq!(mark().fault(&stray, None, never), Some(DataFault::Stray { timeline: 4 }));
    }

    #[test]
    fn a_line_that_may_have_been_won_is_not_dismissed() {
        let newer = found(line(6, &[(1, 100), (2, 200), (4, 40_000)]));
        assert_eq!(mark().fault(&newer, Some(at(6, 50_000)), |e| e == Epoch(6)), None);
        assert!(mark().fault(&newer, Some(at(6, 50_000)), never).is_some());
    }

    #[test]
    fn an_older_copy_is_below_the_mark() {
        let own = found(line(4, &[(1, 100), (2, 200)]));
        let fault = mark().fault(&own, Some(at(4, 29_000)), never);
        assert_eq!(fault, Some(DataFault::Below { found: at(4, 29_000), mark: at(4, 30_000) }));
        // The end of a page and the first place after the next page's header are one place.
        let edge = DataMark { high: Some(at(4, 8_192 * 4 + 24)), ..mark() };
        assert_eq!(edge.fault(&own, Some(at(4, 8_192 * 4)), never), None);
    }
}
