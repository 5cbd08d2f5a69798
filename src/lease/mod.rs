//! Who may write: voter, holder and claim, as pure state machines (DESIGN §4).
//!
//! What goes in is a message or a moment; what comes out is what must be durable, and only then
//! what may be said. The runtime keeps that order; nothing here knows a clock, a socket or a disk.
//!
//! *Voter*: grants, renews and releases; its record is durable before any reply. *Holder*: counts
//! its voters' promises and so knows until when it may acknowledge. *Claim*: one attempt to win an
//! epoch. *Account*: what that would lose, by what voters say.
//!
//! The voter set changes by one voter at a time, by the holder, under a majority of both sets
//! ([`crate::lease::Voter::change`]); the synchronous set changes jointly
//! ([`crate::model::SyncStage`]); an override removes voters that two persons attested as powered
//! off ([`crate::lease::Voter::remove_attested`]).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod account;
pub mod claim;
pub mod holder;
pub mod message;
mod speakers;
pub mod voter;

#[cfg(test)]
mod tests;

pub use account::Account;
pub use claim::{Claim, Standing};
pub use holder::Holder;
pub use message::{Ack, Answer, ClaimRequest, Grant, Refusal, Renew, VoterChange};
pub use voter::{Cut, Local, Voter, VoterRecord};

use crate::model::Span;
pub use crate::model::testimony::{EpochSync, ReleaseNotice, Testimony};

/// D and G: how long a lease lasts for its holder, and how much longer a voter keeps its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// D: the holder counts this from the moment it asked.
    pub duration: Span,
    /// G: the voter adds this, from the moment it answered.
    pub grace: Span,
}

impl Terms {
    /// The holder begins to kill this long before its lease ends, so that the last process is gone
    /// by then.
    pub const KILL_TIME: Span = Span::millis(200);
    /// Bound on how late a timer fires on a loaded machine.
    pub const TIMER_SLACK: Span = Span::millis(50);
    /// ρ: bound on the drift of two clocks against each other, in parts per thousand.
    pub const DRIFT_PER_MILLE: u64 = 1;

    /// Terms for a lease of `duration`: G ≥ kill time + 2ρ(D+G) + timer slack (DESIGN §4), solved
    /// for G and rounded up.
    pub fn for_duration(duration: Span) -> Terms {
        let fixed = Self::KILL_TIME.0 + Self::TIMER_SLACK.0;
        let numerator = fixed * 1_000 + 2 * Self::DRIFT_PER_MILLE * duration.0;
        let grace = numerator.div_ceil(1_000 - 2 * Self::DRIFT_PER_MILLE);
        Terms { duration, grace: Span(grace) }
    }

    /// G for a lease that was promised with another duration than this voter's own file has: the
    /// holder counts by what was promised. Its own G is enough for a shorter one.
    pub fn grace_for(self, promised: Span) -> Span {
        if promised <= self.duration { self.grace } else { Self::for_duration(promised).grace }
    }

    /// D+G.
    pub fn promise(self) -> Span {
        self.duration + self.grace
    }
}
