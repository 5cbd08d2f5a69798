//! The loss account: what acknowledged data a move would lose or did lose, and what fenced the
//! former holder. Nothing here says "none" without naming the proof.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Member, NodeId, Span};

/// Evidence that a former holder cannot acknowledge a write, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceRung {
    /// No process of it remains; its agent said so and gave the role back.
    Stopped,
    /// Its host was powered off, and somebody attested it.
    PoweredOff,
    /// Enough of its synchronous set granted: no commit can gather its confirmations.
    SyncFenced,
    /// Its watchdog's deadline has passed.
    WatchdogPassed,
    /// Its lease has run out at a majority; a host paused as a whole may still acknowledge later.
    LeaseExpired,
}

impl FenceRung {
    /// The words for screens.
    pub fn words(self) -> &'static str {
        match self {
            FenceRung::Stopped => "stopped",
            FenceRung::PoweredOff => "powered off (attested)",
            FenceRung::SyncFenced => "sync-fenced by grants",
            FenceRung::WatchdogPassed => "watchdog deadline passed",
            FenceRung::LeaseExpired => "lease run out at a majority",
        }
    }
}

/// What the holder's own server gives reason to doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suspicion {
    /// Why nobody can say what was acknowledged without being safe.
    pub why: String,
    /// Its own log may lack it too: a commit was acknowledged before it was flushed here. Otherwise
    /// only the standbys' word counts for nothing, and what the holder has is all there is.
    pub own_log: bool,
}

/// What a holder says against the account of its own writes; the newest number counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Doubt {
    /// Rises with every change.
    #[serde(default)]
    pub number: u64,
    /// Why nobody can say what was acknowledged without being safe; `None`: somebody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// It is about the holder's own log too ([`Suspicion::own_log`]).
    #[serde(default = "yes")]
    pub own_log: bool,
    /// Whose commits wait for nobody, as the policy lists them: outside the account, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<String>,
    /// Who held the role before and was not seen stopped since, and what fences it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loose: Vec<(Member, FenceRung)>,
}

/// What an older record said was about everything.
fn yes() -> bool {
    true
}

/// What acknowledged data is lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "account")]
pub enum LossAccount {
    /// Nothing, proved.
    None {
        /// The proof, in words, with the names it rests on.
        proof: String,
        /// The nodes it rests on.
        by: Vec<NodeId>,
        /// What the proof does not speak of, in words; each counted where it can be.
        excluded: Vec<String>,
    },
    /// At most this much.
    AtMost {
        /// Bytes of log.
        bytes: u64,
        /// How old the oldest of them can be.
        span: Option<Span>,
        /// What the bound rests on.
        proof: String,
    },
    /// Nobody can say, and why.
    Unknown {
        /// Why.
        why: String,
    },
}

impl LossAccount {
    /// What a proof that nothing is lost does not speak of.
    pub fn excluded(&self) -> &[String] {
        match self {
            LossAccount::None { excluded, .. } => excluded,
            LossAccount::AtMost { .. } | LossAccount::Unknown { .. } => &[],
        }
    }

    /// Whether a limit of `bytes` covers this account; an unknown loss is covered by nothing.
    pub fn within(&self, bytes: u64) -> bool {
        match self {
            LossAccount::None { .. } => true,
            LossAccount::AtMost { bytes: n, .. } => *n <= bytes,
            LossAccount::Unknown { .. } => false,
        }
    }
    /// One word and a number: `none`, `≤ 128 B`, `unknown`.
    pub fn short(&self) -> String {
        match self {
            LossAccount::None { .. } => "none (proved)".into(),
            LossAccount::AtMost { bytes, span, .. } => match span {
                Some(span) => format!("at most {bytes} B, {span}"),
                None => format!("at most {bytes} B"),
            },
            LossAccount::Unknown { .. } => "unknown".into(),
        }
    }
    /// The reason behind the word.
    pub fn reason(&self) -> &str {
        match self {
            LossAccount::None { proof, .. } | LossAccount::AtMost { proof, .. } => proof,
            LossAccount::Unknown { why } => why,
        }
    }
}

impl fmt::Display for LossAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.short(), self.reason())
    }
}
