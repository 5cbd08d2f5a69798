//! Who speaks as a node: one agent process at a time, unless a copy of its host or volume runs.
//!
//! A restart makes a new process and the old one is never heard again; a report of it that was
//! under way may still arrive late. Two that keep taking turns are two.

use serde::{Deserialize, Serialize};

use crate::model::observation::NodeReport;
use crate::model::{Span, Timestamp};

/// So many returns of a process that another had taken the place of, each soon after the last.
const RETURNS: u32 = 3;
/// Two are two until one was silent for so long.
const PATIENCE: Span = Span::secs(4);

/// More than this are no more than several.
const MOST: usize = 16;

/// The processes that were heard as one node, by their agents' numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Voices {
    /// Heard within the patience, the newest last.
    heard: Vec<(u64, Timestamp)>,
    returns: u32,
    returned: Timestamp,
}

impl Voices {
    /// A report came, whether it is taken or not.
    pub(super) fn hear(&mut self, now: Timestamp, process: u64) {
        if let Some((last, at)) = self.heard.last_mut()
            && *last == process
        {
            *at = now;
            return;
        }
        self.heard.retain(|(_, at)| now.since(*at) <= PATIENCE);
        if let Some(at) = self.heard.iter().position(|(p, _)| *p == process) {
            self.heard.remove(at);
            let soon = now.since(self.returned) <= PATIENCE;
            self.returns = if soon { self.returns.saturating_add(1) } else { 1 };
            self.returned = now;
        } else if self.heard.len() == MOST {
            self.heard.remove(0);
        }
        self.heard.push((process, now));
    }

    /// Two processes report as this node.
    pub(super) fn are_two(&self, now: Timestamp) -> bool {
        self.returns >= RETURNS && now.since(self.returned) <= PATIENCE
    }

    /// Whether `report` is to be believed where `have` was until now, last heard `age` ago: of two
    /// it is the one that holds the role, else the one that was believed before, while it speaks.
    pub(super) fn believes(
        &self,
        now: Timestamp,
        have: &NodeReport,
        age: Option<Span>,
        report: &NodeReport,
    ) -> bool {
        !self.are_two(now)
            || have.process == report.process
            || age.is_none_or(|age| age > PATIENCE)
            || (report.holding.is_some() && have.holding.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(heard: &[(u64, u64)]) -> (Voices, Timestamp) {
        let mut voices = Voices::default();
        for (second, process) in heard {
            voices.hear(Timestamp(Span::secs(*second).0), *process);
        }
        (voices, Timestamp(Span::secs(heard.last().unwrap().0).0))
    }

    #[test]
    fn two_that_take_turns_are_two_and_restarts_are_not() {
        let (voices, now) = after(&[(1, 7), (2, 8), (3, 7), (4, 8), (5, 7)]);
        assert!(voices.are_two(now));
        assert!(!voices.are_two(now + Span::secs(5)), "one of them was silent");
        let (voices, now) = after(&[(1, 7), (2, 8), (3, 9), (4, 10), (5, 11), (6, 12)]);
        assert!(!voices.are_two(now), "a loop of restarts");
        let (voices, now) = after(&[(1, 7), (2, 8), (2, 7), (2, 8), (3, 8), (9, 8)]);
        assert!(!voices.are_two(now), "a late word of the one before");
        let (voices, now) = after(&[(1, 7), (12, 8), (23, 7), (34, 8), (45, 7), (56, 8)]);
        assert!(!voices.are_two(now), "each return long after the last");
        let rounds: Vec<(u64, u64)> = (0..12).map(|i| (1 + i / 4, 7 + i % 3)).collect();
        let (voices, now) = after(&rounds);
        assert!(voices.are_two(now), "three that take turns are no restarts");
    }
}
