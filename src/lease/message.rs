//! What voters, holders and claimants say to each other.

use serde::{Deserialize, Serialize};

use crate::model::loss::Doubt;
use crate::model::plan::Approval;
use crate::model::testimony::{EpochSync, ReleaseNotice, Testimony};
use crate::model::{Digest, Epoch, Member, NodeId, Span, SyncStage, TimelineHistory, VoterSet};

/// From a holder that has won: promise me another lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Renew {
    /// The version of the voter set it counts with.
    pub voters_version: u64,
    /// The version of the set that a change under way leads to: who has that one promises too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_version: Option<u64>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Itself.
    pub holder: Member,
    /// Echoed in the answer; the holder remembers when it sent each round.
    pub round: u64,
    /// D, which the voter promises (plus its grace).
    pub duration: Span,
    /// The synchronous sets that may be in force in this epoch.
    pub sync: SyncStage,
    /// The history of the holder's log, once its promotion is done.
    pub promoted: Option<TimelineHistory>,
    /// The system identifier of the holder's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<u64>,
    /// Names the holder's agent process: two that speak in turn are two. 0: not known.
    #[serde(default)]
    pub process: u64,
    /// What the holder says against the account of its writes.
    #[serde(default)]
    pub doubt: Doubt,
}

impl Renew {
    /// Only a winner renews: what a voter keeps of it.
    pub fn won(&self) -> EpochSync {
        EpochSync {
            epoch: self.epoch,
            holder: self.holder.clone(),
            sync: self.sync.clone(),
            won: true,
            promoted: self.promoted.is_some(),
            doubt: self.doubt.clone(),
        }
    }
}

/// From a holder: this is the voter set from now on. One voter more or less than before; in force
/// for the holder once a majority of both sets has it, durably, and a majority of it promises.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoterChange {
    /// In which epoch.
    pub epoch: Epoch,
    /// By whom.
    pub holder: Member,
    /// The new set.
    pub set: VoterSet,
}

/// From a voter: promised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ack {
    /// Who promises.
    pub voter: Member,
    /// To whom; an ack for another incarnation does not count.
    pub holder: Member,
    /// In which epoch.
    pub epoch: Epoch,
    /// Which round is answered.
    pub round: u64,
    /// The D that was promised.
    pub duration: Span,
    /// How often its store was written: one that says less than before was restored.
    #[serde(default)]
    pub writes: u64,
}

/// Ask for, or claim, an epoch. Asking binds nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The voter set the claimant counts with. A voter whose set is newer refuses; one whose set is
    /// older takes this one.
    pub voters: VoterSet,
    /// The epoch to win.
    pub epoch: Epoch,
    /// Who wants it.
    pub candidate: Member,
    /// D.
    pub duration: Span,
    /// The synchronous sets of the new epoch; durable at a majority before any server uses them.
    pub sync: SyncStage,
    /// The plan behind the claim; `None` for a holder's own reclaim or climb.
    pub plan: Option<Digest>,
    /// Signatures over that plan.
    pub approvals: Vec<Approval>,
    /// Releases that the claimant has seen: final, so they may be passed on.
    pub released: Vec<ReleaseNotice>,
    /// Names the claimant's agent process; 0: not known.
    #[serde(default)]
    pub process: u64,
}

/// A voter's answer to an ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// Who answers.
    pub voter: Member,
    /// The highest epoch it knows.
    pub epoch: Epoch,
    /// For whom.
    pub holder: Option<Member>,
    /// `None`: it would grant now. Otherwise why not, and for how long.
    pub refusal: Option<Refusal>,
    /// What it would say with its grant.
    #[serde(default)]
    pub said: Testimony,
}

/// A voter's grant: durable, and a promise to have stopped helping the old holder in every way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Who grants.
    pub voter: Member,
    /// What.
    pub epoch: Epoch,
    /// To whom.
    pub candidate: Member,
    /// What it knows: the end of its log was read after it was cut off from its upstream.
    pub said: Testimony,
    /// How often its store was written: one that says less than before was restored.
    #[serde(default)]
    pub writes: u64,
}

/// Why a voter does not grant or promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "refusal")]
pub enum Refusal {
    /// It has no voter set, or another version, or one of the two is not in it.
    Stranger {
        /// What does not match.
        why: String,
    },
    /// It knows a newer or equal epoch.
    NewerEpoch {
        /// Which.
        epoch: Epoch,
        /// For whom it voted there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<Member>,
    },
    /// Its promise to another holder still binds it.
    Promised {
        /// To whom; `None` in the blackout after a restart.
        to: Option<Member>,
        /// For how much longer.
        left: Span,
    },
    /// That epoch was released; it is never renewed.
    Released {
        /// Which.
        epoch: Epoch,
    },
    /// The old holder's database on this host is not stopped.
    NotStoppedHere,
    /// The claim lacks a valid approval.
    NotApproved {
        /// Which.
        why: String,
    },
    /// Its log is still being received; it is cutting it off. Ask again.
    Cutting,
    /// Two processes speak with one identity: neither counts until one of them is gone.
    Twice {
        /// Whose.
        who: NodeId,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Stranger { why } => write!(f, "stranger: {why}"),
            Refusal::NewerEpoch { epoch, .. } => write!(f, "knows epoch {epoch}"),
            Refusal::Promised { to: Some(to), left } => {
                write!(f, "promised to {} for another {left}", to.node)
            }
            Refusal::Promised { to: None, left } => {
                write!(f, "restarted, may be promised for another {left}")
            }
            Refusal::Released { epoch } => write!(f, "epoch {epoch} was released"),
            Refusal::NotStoppedHere => write!(f, "the old primary's database here is not stopped"),
            Refusal::NotApproved { why } => write!(f, "not approved: {why}"),
            Refusal::Cutting => write!(f, "cutting off its upstream"),
            Refusal::Twice { who } => write!(
                f,
                "two agents speak as {who}: neither counts until one of them is stopped (a copied \
                 host or volume?)"
            ),
        }
    }
}
