//! Each node's lag as this console saw it, second by second for ten minutes. A second in which
//! nothing came is a gap, and stays one.

use std::collections::VecDeque;

use crate::model::Timestamp;

/// So many seconds are kept.
pub const SECONDS: usize = 600;
/// A calm plane sends once a second, give or take: fewer missing ones are no gap.
const JITTER: u64 = 3;
const SECOND: u64 = 1_000_000_000;

/// One node's.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    last: Option<u64>,
    samples: VecDeque<Option<u64>>,
}

impl Lag {
    /// What came before this console looked, two samples a second; the newest is of now.
    pub fn begin(before: &[Option<u64>], now: Timestamp) -> Self {
        let per_second = before.rchunks(2).rev().map(|two| two.iter().flatten().max().copied());
        Self { last: (!before.is_empty()).then_some(now.0 / SECOND), samples: per_second.collect() }
    }

    /// What a picture says, in bytes; `None`: it is not known.
    pub fn note(&mut self, now: Timestamp, bytes: Option<u64>) {
        let second = now.0 / SECOND;
        let missing = self.last.map_or(1, |last| second.saturating_sub(last));
        let newest = self.samples.back().copied().flatten();
        if missing == 0 {
            // Of several in one second the worst.
            if let Some(back) = self.samples.back_mut() {
                *back = (*back).max(bytes);
            }
            return;
        }
        let between = newest.filter(|_| missing <= JITTER);
        let skipped = usize::try_from(missing - 1).unwrap_or(SECONDS).min(SECONDS);
        self.samples.extend(std::iter::repeat_n(between, skipped));
        self.samples.push_back(bytes);
        let over = self.samples.len().saturating_sub(SECONDS);
        self.samples.drain(..over);
        self.last = Some(second);
    }

    /// Seconds ago and bytes, oldest first, as they were `since` seconds before the newest.
    pub fn samples(&self, since: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let count = self.samples.len().saturating_sub(since);
        let known = self.samples.iter().take(count).enumerate();
        known.filter_map(move |(i, bytes)| Some((count - 1 - i, (*bytes)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp(second * SECOND + 1)
    }

    #[test]
    fn a_gap_stays_a_gap_and_a_late_picture_is_none() {
        let mut lag = Lag::begin(&[Some(1), Some(5), None, Some(2), None, None], at(100));
        assert_eq!(lag.samples(0).collect::<Vec<_>>(), [(2, 5), (1, 2)]);
        lag.note(at(100), Some(7));
        lag.note(at(102), Some(9));
        assert_eq!(lag.samples(0).collect::<Vec<_>>(), [(4, 5), (3, 2), (2, 7), (1, 7), (0, 9)]);
        lag.note(at(112), Some(1));
        let seen: Vec<_> = lag.samples(0).collect();
        assert_eq!(seen[5..], [(0, 1)], "ten seconds of silence");
        assert_eq!(seen[4], (10, 9));
        assert_eq!(lag.samples(10).last(), Some((0, 9)), "as it was then");
        lag.note(at(100_000), None);
        assert_eq!(lag.samples(0).count(), 0);
        assert!(lag.samples.len() <= SECONDS);
    }
}
