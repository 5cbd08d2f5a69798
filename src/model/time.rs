//! Time: a moment on one machine's suspend-aware clock, a length of time, and wall-clock time for
//! people.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Nanoseconds on one machine's suspend-aware clock. Never compared between machines.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// Whole milliseconds.
    pub const fn millis(ms: u64) -> Span {
        Span(ms * 1_000_000)
    }
    /// Whole seconds.
    pub const fn secs(s: u64) -> Span {
        Span(s * 1_000_000_000)
    }
    /// In milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
    /// As the standard library's type, for timers.
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }
}

impl From<std::time::Duration> for Span {
    fn from(d: std::time::Duration) -> Self {
        Span(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Timestamp {
    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
    /// How long until `later`; zero if it is past.
    pub fn until(self, later: Timestamp) -> Span {
        later.since(self)
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}
impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}
impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.as_millis();
        let text = if ms < 1_000 {
            format!("{ms} ms")
        } else if ms < 60_000 {
            format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
        } else if ms < 3_600_000 {
            format!("{} min {:02} s", ms / 60_000, ms / 1_000 % 60)
        } else {
            format!("{} h {:02} min", ms / 3_600_000, ms / 60_000 % 60)
        };
        f.pad(&text)
    }
}
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}.{:03}s", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1_000)
    }
}

/// Milliseconds since 1970 in UTC: for people and the audit, never compared in a decision.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// `03:07:12Z`.
    pub fn clock(self) -> String {
        self.format("%H:%M:%SZ")
    }
    /// `2026-11-21T03:07:12.345Z`.
    pub fn rfc3339(self) -> String {
        self.format("%Y-%m-%dT%H:%M:%S%.3fZ")
    }
    fn format(self, pattern: &str) -> String {
        chrono::DateTime::from_timestamp_millis(self.0)
            .map_or_else(|| "unknown".into(), |t| t.format(pattern).to_string())
    }
}
impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well_at_every_size() {
        let text = |ms| Span::millis(ms).to_string();
        assert_eq!(text(7), "7 ms");
        assert_eq!(text(1_250), "1.2 s");
        assert_eq!(text(61_000), "1 min 01 s");
        assert_eq!(text(3_725_000), "1 h 02 min");
    }

    #[test]
    fn the_past_is_zero_away() {
        assert_eq!(Timestamp(5).until(Timestamp(3)), Span::ZERO);
        assert_eq!(Timestamp(3) - Span(5), Timestamp(0));
    }
}
