//! Who speaks as a holder: one agent process at a time.
//!
//! A copied host or volume makes two processes with one (node, incarnation), and both may believe
//! that the lease is theirs. A restart makes a new process too, but the old one is never heard
//! again. So a process that is heard *after* another took its place shows that there are two; then
//! neither counts until only one of them was heard for as long as a promise lasts.

use crate::model::{Member, Span, Timestamp};

/// Processes heard of one holder, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Speakers {
    of: Option<Member>,
    heard: Vec<(u64, Timestamp)>,
    twice: bool,
}

/// More copies than this of one host are no more than "several".
const MAX: usize = 16;

impl Speakers {
    /// A message of `process` in the name of `who`. False: it does not count. A process of 0 is not
    /// told apart.
    pub(super) fn hear(
        &mut self,
        now: Timestamp,
        who: &Member,
        process: u64,
        patience: Span,
    ) -> bool {
        if process == 0 {
            return true;
        }
        if self.of.as_ref() != Some(who) {
            *self = Self { of: Some(who.clone()), heard: vec![(process, now)], twice: false };
            return true;
        }
        if self.twice {
            self.heard.retain(|(p, at)| *p == process || now.since(*at) < patience);
        }
        match self.heard.iter().position(|(p, _)| *p == process) {
            None => {
                // Whoever was heard long ago, and speaks again, is a newcomer beside the last.
                if self.heard.len() == MAX {
                    self.heard.retain(|(_, at)| now.since(*at) < patience);
                }
                if self.heard.len() == MAX {
                    self.heard.remove(0);
                    self.twice = true;
                }
                self.heard.push((process, now));
            }
            Some(at) => {
                self.heard[at].1 = now;
                self.twice |= at + 1 < self.heard.len();
            }
        }
        if self.heard.len() == 1 {
            self.twice = false;
        }
        !self.twice
    }

    /// Whether that process is the one that was heard last, or nobody knows.
    pub(super) fn is_last(&self, who: &Member, process: u64) -> bool {
        process == 0
            || self.of.as_ref() != Some(who)
            || self.heard.last().is_none_or(|(last, _)| *last == process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(speakers: &mut Speakers, at: u64, process: u64) -> bool {
        speakers.hear(Timestamp(at), &Member::new("n1", "a"), process, Span(100))
    }

    #[test]
    fn a_restart_is_not_two() {
        let mut s = Speakers::default();
        assert!(said(&mut s, 0, 7) && said(&mut s, 10, 7));
        assert!(said(&mut s, 20, 8) && said(&mut s, 30, 8));
        assert!(s.is_last(&Member::new("n1", "a"), 8) && !s.is_last(&Member::new("n1", "a"), 7));
    }

    #[test]
    fn many_that_take_turns_are_not_forgotten() {
        let mut s = Speakers::default();
        let turns = (0..60).map(|i| said(&mut s, i, 7 + i % 20));
        assert!(!turns.last().unwrap());
    }

    #[test]
    fn of_two_neither_counts_until_one_is_gone() {
        let mut s = Speakers::default();
        assert!(said(&mut s, 0, 7) && said(&mut s, 10, 8));
        assert!(!said(&mut s, 20, 7), "the first speaks again");
        assert!(!said(&mut s, 30, 8), "and now neither counts");
        assert!(!said(&mut s, 110, 8), "the other was heard a moment ago");
        assert!(said(&mut s, 130, 8), "it is gone");
        assert!(said(&mut s, 140, 8));
    }
}
