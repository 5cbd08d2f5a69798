//! A node that took the role back alone, was granted it, and gave it up for what it would lose,
//! would do so again on the same evidence: every attempt uses an epoch up and changes nothing. After
//! a few equal refusals it only asks, until some voter says what it did not say then.

use std::collections::BTreeMap;

use super::Machine;
use crate::lease::{Account, Answer, Testimony};
use crate::model::Member;
use crate::model::record::shape;

/// Equal refusals before it claims no more.
const EQUAL_MAX: u32 = 3;

/// Refusals on the same evidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalemate {
    /// The version of the voter set, and whether persons accepted an unknown loss with it.
    accepted: (u64, bool),
    /// What each voter said with its grant.
    said: BTreeMap<Member, Testimony>,
    count: u32,
    why: String,
}

impl Machine {
    /// It was granted an epoch and gave it up.
    pub(super) fn note_refusal(&mut self, account: &Account, why: &str) {
        let said = account.said().iter().map(|(m, said)| (m.clone(), self.without_own(said)));
        let (accepted, said) = (self.accepted(), said.collect());
        let known = &self.stalemate;
        let equal = known.accepted == accepted && known.said == said;
        let again = equal && shape(&known.why) == shape(why);
        let count = if again { known.count + 1 } else { 1 };
        self.stalemate = Stalemate { accepted, said, count, why: why.to_owned() };
    }

    /// Why it does not claim although its peers would grant; `None`: it may.
    pub(super) fn refused_often(&self, answers: &BTreeMap<Member, Answer>) -> Option<String> {
        let known = &self.stalemate;
        let news = |(voter, answer): (&Member, &Answer)| {
            known.said.get(voter) != Some(&self.without_own(&answer.said))
        };
        let grants = answers.iter().filter(|(_, a)| a.refusal.as_ref().is_none_or(super::fine));
        let same = known.accepted == self.accepted() && !grants.into_iter().any(news);
        (known.count >= EQUAL_MAX && same).then(|| {
            format!(
                "won and gave up {} times for the same reason: {}; it claims again when a voter is \
                    heard that knows more, or when a person decides",
                known.count, known.why
            )
        })
    }

    fn accepted(&self) -> (u64, bool) {
        let record = self.voter.record();
        (record.voters.as_ref().map_or(0, |v| v.version), record.unknown_accepted)
    }

    /// Without what its own attempts left behind there.
    fn without_own(&self, said: &Testimony) -> Testimony {
        let mut said = said.clone();
        let me = &self.setup.me;
        said.history.retain(|h| h.holder != *me || h.won);
        said.released.retain(|r| r.holder != *me || r.promoted);
        said
    }
}
