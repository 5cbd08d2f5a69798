//! How far a server's write-ahead log reaches. Positions compare as (timeline, LSN), never by LSN
//! alone: a timeline is written in the epoch whose number it carries, so the later timeline is the
//! later history.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte position in the write-ahead log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from `other` up to here; zero if `other` is further.
    pub fn bytes_since(self, other: Lsn) -> u64 {
        self.0.saturating_sub(other.0)
    }
}
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF))
    }
}
impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text was not of the form `16/B374D848`.
#[derive(Debug, thiserror::Error)]
#[error("not a log position: {0:?} (expected the form 16/B374D848)")]
pub struct BadLsn(String);

impl FromStr for Lsn {
    type Err = BadLsn;
    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let parse = || {
            let (high, low) = text.trim().split_once('/')?;
            let high = u32::from_str_radix(high, 16).ok()?;
            let low = u32::from_str_radix(low, 16).ok()?;
            Some(Lsn(u64::from(high) << 32 | u64::from(low)))
        };
        parse().ok_or_else(|| BadLsn(text.to_owned()))
    }
}

/// A place in history: which timeline, and how far along it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The timeline; compared first.
    pub timeline: u32,
    /// The byte position on it.
    pub lsn: Lsn,
}
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.timeline, self.lsn))
    }
}
impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The branches that led to a timeline: (timeline, where it was left), oldest first, and the
/// timeline itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimelineHistory {
    /// The newest timeline.
    pub timeline: u32,
    /// Its ancestors and where each was left.
    pub left: Vec<(u32, Lsn)>,
}

impl TimelineHistory {
    /// Whether a log that ends at `position` can follow this history without losing anything.
    pub fn continues(&self, position: Position) -> bool {
        position.timeline == self.timeline
            || self.left.iter().any(|(t, at)| *t == position.timeline && position.lsn <= *at)
    }
    /// Where a log on `timeline` leaves this history; `None` when that timeline is no ancestor.
    pub fn left_at(&self, timeline: u32) -> Option<Lsn> {
        self.left.iter().find(|(t, _)| *t == timeline).map(|(_, at)| *at)
    }
    /// Reads a PostgreSQL `.history` file.
    pub fn parse(timeline: u32, text: &str) -> Self {
        let mut left: Vec<(u32, Lsn)> = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let mut words = line.split_whitespace();
            if let (Some(Ok(tli)), Some(Ok(lsn))) =
                (words.next().map(str::parse), words.next().map(str::parse))
            {
                left.push((tli, lsn));
            }
        }
        Self { timeline, left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["0/0", "0/3000148", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for bad in ["", "16", "16/", "x/1", "1/100000000"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_timeline_is_later_history_even_at_a_lower_lsn() {
        let old = Position { timeline: 2, lsn: Lsn(900) };
        let new = Position { timeline: 3, lsn: Lsn(100) };
        assert!(new > old);
    }

    #[test]
    fn a_history_tells_who_can_follow() {
        let text = "# a comment\n1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tno \
            recovery target specified\n";
        let h = TimelineHistory::parse(4, text);
        let at = |timeline, lsn| Position { timeline, lsn: Lsn(lsn) };
        assert!(
            h.continues(at(4, 0x9000000))
                && h.continues(at(2, 0x5000000))
                && h.continues(at(1, 0x2000000))
        );
        assert!(!h.continues(at(2, 0x5000001)), "past the switch point");
        assert!(!h.continues(at(3, 0x1000000)), "a timeline that never was");
        assert_eq!(h.left_at(2), Some(Lsn(0x5000000)));
    }
}
