//! What a voter keeps and says of epochs: the evidence that fences and loss accounts rest on, the
//! same in a grant, in an answer and in a report.

use serde::{Deserialize, Serialize};

use super::loss::Doubt;
use super::{Epoch, Member, Position, SyncStage};

/// The synchronous set of an epoch that was, or may have been, won.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpochSync {
    /// The epoch.
    pub epoch: Epoch,
    /// Who claimed it.
    pub holder: Member,
    /// Its synchronous sets.
    pub sync: SyncStage,
    /// Whether somebody is known to have won it, and so may have written in it.
    pub won: bool,
    /// Whether its winner is known to have written in it: everything before it is closed then.
    pub promoted: bool,
    /// What its holder says against the account of its writes.
    #[serde(default)]
    pub doubt: Doubt,
}

/// From a holder (or a claimant that gave up): final. It is never renewed again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseNotice {
    /// What is released.
    pub epoch: Epoch,
    /// By whom.
    pub holder: Member,
    /// The end of its log when that is known for certain (a clean stop).
    pub final_position: Option<Position>,
    /// Whether its database may have accepted a write in that epoch.
    pub promoted: bool,
    /// Nothing was written in any of its epochs after this one, up to the one that is released: all
    /// those are given back too, so that none of them has to be kept. `None`: it says nothing of
    /// others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Epoch>,
    /// Names the agent process that says so; 0: not known.
    #[serde(default)]
    pub process: u64,
}

impl ReleaseNotice {
    /// An older epoch of that holder is given back with this one: it was never written in.
    pub fn covers(&self, epoch: Epoch, holder: &Member) -> bool {
        let after = |since: Epoch| since < epoch && epoch < self.epoch;
        self.holder == *holder && !self.promoted && self.since.is_some_and(after)
    }
}

/// What one voter says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Testimony {
    /// The end of its log; `None` for a witness, and wherever that is not certain.
    pub position: Option<Position>,
    /// The synchronous sets of every epoch that may have been won, as far as it knows.
    pub history: Vec<EpochSync>,
    /// Epochs whose holder said that it stopped, as far as it has that word.
    pub released: Vec<ReleaseNotice>,
    /// Its log is on a line that may have been won, and nothing there proves that the winner wrote
    /// it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproved_line: bool,
    /// Two persons signed whose data is the history, and nothing was written in a later epoch since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history_signed: bool,
    /// No process of a database that could accept writes remains there.
    #[serde(default)]
    pub not_writable: bool,
}
