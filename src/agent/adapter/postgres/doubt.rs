//! When the account of this primary's writes is not to be trusted: from the first look that finds a
//! wrong setting on, until nothing that ran under it is left and what it wrote is where the account
//! says. Pure: fed with every look at a primary, told by its own clock.

use serde::{Deserialize, Serialize};

use crate::model::loss::Suspicion;
use crate::model::{Epoch, Lsn, Span};

/// What may go on under a wrong value after it was corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Transactions that were begun before: a reload reaches every session between two of them.
    Transactions,
    /// Sessions that were begun before: a role's or database's value is read at their start.
    Sessions,
}

/// Something that makes an acknowledged write less than the account says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Setting, value, source, and the command that mends it.
    pub what: String,
    /// What goes on under it.
    pub scope: Scope,
    /// A commit is acknowledged before this server's own log has it.
    pub own_log: bool,
}

/// One look at a primary, as far as doubt goes.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The server's clock, in microseconds.
    pub now: i64,
    /// What is wrong now.
    pub wrong: Vec<Wrong>,
    /// Start of the oldest session that is not the agent's.
    pub oldest_session: Option<i64>,
    /// Start of the oldest transaction.
    pub oldest_transaction: Option<i64>,
    /// The latest start of any of them. Later than `now` where the clock was set back.
    pub newest: Option<i64>,
    /// Where the log ends, written or not.
    pub end: Lsn,
    /// Up to here enough members of the synchronous set have flushed.
    pub confirmed: Lsn,
}

/// A reload has reached the checkpointer, which tells committing backends whether anybody is waited
/// for, by then.
const RELOADED: Span = Span::secs(1);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    None,
    /// Something is wrong now.
    Wrong,
    /// Corrected then, by the server's clock, or after the start of everything that ran then;
    /// older sessions or transactions may still run.
    Leaving { corrected: i64 },
    /// They are gone; what they wrote ends here, and has to be flushed by enough.
    Flushing { end: Lsn },
}

/// The doubt of one primary in one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// In which epoch.
    pub epoch: Epoch,
    state: State,
    scope: Option<Scope>,
    #[serde(default)]
    own_log: bool,
    what: Vec<String>,
}

impl Doubt {
    /// None yet, in this epoch.
    pub fn none(epoch: Epoch) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Why the account is unknown; `None`: it is not.
    pub fn why(&self) -> Option<String> {
        let what = self.what.join("; ");
        Some(match self.state {
            State::None => return None,
            State::Wrong => what,
            State::Leaving { .. } => {
                let left = match self.scope {
                    Some(Scope::Sessions) => "sessions",
                    Some(Scope::Transactions) | None => "transactions",
                };
                format!("corrected, and {left} older than that still run; before: {what}")
            }
            State::Flushing { end } => {
                format!(
                    "corrected, and not everything up to {end} is on its standbys yet; before: \
                     {what}"
                )
            }
        })
    }

    /// The same, and whether it is about the log here too.
    pub fn suspicion(&self) -> Option<Suspicion> {
        self.why().map(|why| Suspicion { why, own_log: self.own_log })
    }

    /// A later epoch on the same log: what was acknowledged before may still be here only.
    pub fn go_on(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        if self.state == State::None {
            *self = Self::none(epoch);
        }
    }

    /// A standby that is promoted keeps its sessions, and what they were begun under.
    pub fn inherit(&mut self, standing: &Doubt) {
        if standing.state == State::None {
            return;
        }
        if self.state == State::None {
            *self = Self { epoch: self.epoch, ..standing.clone() };
            return;
        }
        self.what.extend(
            standing.what.iter().filter(|w| !self.what.contains(w)).cloned().collect::<Vec<_>>(),
        );
        self.scope = self.scope.max(standing.scope);
        self.own_log |= standing.own_log;
        // Corrected with the next look, and so at the latest moment of the two.
        self.state = State::Wrong;
    }

    /// One look. True when what is to be said of it changed.
    pub fn see(&mut self, sight: &Sight) -> bool {
        let before = self.suspicion();
        self.step(sight);
        self.suspicion() != before
    }

    fn step(&mut self, sight: &Sight) {
        if !sight.wrong.is_empty() {
            if matches!(self.state, State::None) {
                self.what.clear();
                (self.scope, self.own_log) = (None, false);
            }
            self.state = State::Wrong;
            for wrong in &sight.wrong {
                if !self.what.contains(&wrong.what) {
                    self.what.push(wrong.what.clone());
                }
                self.scope = self.scope.max(Some(wrong.scope));
                self.own_log |= wrong.own_log;
            }
            return;
        }
        if self.state == State::Wrong {
            let reload = i64::try_from(RELOADED.0 / 1_000).unwrap_or(0);
            let last = sight.now.max(sight.newest.unwrap_or(sight.now));
            self.state = State::Leaving { corrected: last + reload };
        }
        if let State::Leaving { corrected } = self.state {
            let oldest = match self.scope {
                Some(Scope::Sessions) => sight.oldest_session.min_some(sight.oldest_transaction),
                Some(Scope::Transactions) | None => sight.oldest_transaction,
            };
            if sight.now < corrected || oldest.is_some_and(|start| start < corrected) {
                return;
            }
            self.state = State::Flushing { end: sight.end };
            return;
        }
        if let State::Flushing { end } = self.state
            && sight.confirmed >= end
        {
            *self = Self::none(self.epoch);
        }
    }
}

trait MinSome {
    fn min_some(self, other: Self) -> Self;
}
impl MinSome for Option<i64> {
    /// The lesser of two; one alone if the other is not there.
    fn min_some(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) => one,
            (None, one) => one,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(now: i64) -> Sight {
        Sight { now: now * SECOND, end: Lsn(100), confirmed: Lsn(100), ..Sight::default() }
    }
    fn wrong(scope: Scope) -> Vec<Wrong> {
        vec![Wrong { what: "synchronous_commit=off".into(), scope, own_log: true }]
    }

    #[test]
    fn a_wrong_look_begins_it_and_a_right_one_does_not_end_it() {
        let mut doubt = Doubt::none(Epoch(3));
        assert!(!doubt.see(&at(1)) && doubt.why().is_none());
        assert!(doubt.see(&Sight { wrong: wrong(Scope::Transactions), ..at(2) }));
        assert_eq!(doubt.why().unwrap(), "synchronous_commit=off");
        doubt.see(&at(3));
        assert!(doubt.why().unwrap().contains("transactions older than that still run"));
    }

    #[test]
    fn a_promoted_standby_doubts_for_its_sessions_and_no_longer() {
        let standing = |corrected: bool| {
            let mut standing = Doubt::default();
            let old = Some(SECOND);
            standing.see(&Sight { wrong: wrong(Scope::Sessions), oldest_session: old, ..at(2) });
            if corrected {
                standing.see(&Sight { oldest_session: old, ..at(4) });
            }
            standing
        };
        for (corrected, newer) in [(false, 8), (true, 6)] {
            let mut doubt = Doubt::none(Epoch(7));
            doubt.inherit(&standing(corrected));
            assert!(doubt.why().is_some() && doubt.epoch == Epoch(7));
            doubt.see(&Sight { oldest_session: Some(SECOND), ..at(6) });
            assert!(doubt.why().unwrap().contains("sessions older than that still run"));
            for now in [9, 10] {
                doubt.see(&Sight { oldest_session: Some(newer * SECOND), ..at(now) });
            }
            assert_eq!(doubt.why(), None, "corrected before the promotion: {corrected}");
        }
        let mut doubt = Doubt::none(Epoch(7));
        doubt.inherit(&Doubt::default());
        assert_eq!(doubt.why(), None);
        doubt.see(&Sight { wrong: wrong(Scope::Transactions), ..at(2) });
        doubt.inherit(&standing(true));
        doubt.see(&at(3));
        assert!(doubt.why().unwrap().contains("sessions"), "the wider of the two");
    }

    #[test]
    fn it_ends_when_older_sessions_are_gone_and_the_log_as_read_then_is_flushed() {
        let mut doubt = Doubt::none(Epoch(3));
        doubt.see(&Sight { wrong: wrong(Scope::Sessions), ..at(2) });
        let old = Some(SECOND);
        doubt.see(&Sight { oldest_session: old, ..at(3) });
        doubt.see(&Sight { oldest_session: old, ..at(900) });
        assert!(doubt.why().unwrap().contains("sessions older"), "{doubt:?}");
        doubt.see(&Sight { oldest_session: Some(5 * SECOND), confirmed: Lsn(99), ..at(901) });
        // The log goes on; what counts is its end as read then.
        let later = Sight { end: Lsn(500), confirmed: Lsn(99), ..at(902) };
        doubt.see(&later);
        assert!(doubt.why().unwrap().contains("0/64"), "{doubt:?}");
        assert!(doubt.see(&Sight { confirmed: Lsn(100), ..later }));
        assert_eq!(doubt, Doubt::none(Epoch(3)));
    }

    /// The clock was set back between a session's start and the correction: it seemed to be younger.
    #[test]
    fn a_clock_that_is_set_back_makes_no_session_younger() {
        let mut doubt = Doubt::none(Epoch(3));
        let old = Some(100 * SECOND);
        let beside = |now| Sight { oldest_session: old, newest: old, ..at(now) };
        doubt.see(&Sight { wrong: wrong(Scope::Sessions), ..beside(100) });
        for now in [50, 55, 99, 101, 130] {
            doubt.see(&beside(now));
        }
        assert!(doubt.why().unwrap().contains("sessions older than that"), "{doubt:?}");
        for now in [131, 132] {
            doubt.see(&Sight { oldest_session: Some(102 * SECOND), ..at(now) });
        }
        assert_eq!(doubt.why(), None);
    }

    #[test]
    fn a_session_without_a_transaction_does_not_hold_a_reloaded_setting_up() {
        let mut doubt = Doubt::none(Epoch(1));
        doubt.see(&Sight { wrong: wrong(Scope::Transactions), ..at(2) });
        let idle = |now| Sight { oldest_session: Some(0), ..at(now) };
        doubt.see(&idle(3));
        doubt.see(&Sight { oldest_transaction: Some(2 * SECOND), ..idle(9) });
        assert!(doubt.why().is_some());
        doubt.see(&idle(10));
        doubt.see(&idle(11));
        assert_eq!(doubt.why(), None);
    }

    #[test]
    fn the_same_wrong_again_begins_it_again() {
        let mut doubt = Doubt::none(Epoch(1));
        doubt.see(&Sight { wrong: wrong(Scope::Transactions), ..at(2) });
        doubt.see(&at(3));
        doubt.see(&at(9));
        doubt.see(&Sight { wrong: wrong(Scope::Sessions), ..at(9) });
        assert_eq!(doubt.why().unwrap(), "synchronous_commit=off");
        doubt.see(&Sight { oldest_session: Some(9 * SECOND), ..at(10) });
        assert!(doubt.why().unwrap().contains("sessions older"), "the wider scope counts");
    }
}
