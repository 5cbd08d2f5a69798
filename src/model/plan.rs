//! A plan: one object that is shown, approved and executed. Its digest is SHA-256 over its
//! canonical JSON; execution refuses when the world is no longer the one the plan was made for.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::loss::{FenceRung, LossAccount};
use super::share::{Conflicts, ShareChange, Shares};
use super::{ClusterId, Digest, Epoch, Member, NodeId, Span, WallTime};

/// Why the write role moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanKind {
    /// Planned; the source is alive.
    Switchover,
    /// The source is gone.
    Failover,
    /// Planned; back to where the role is preferred.
    Failback,
    /// Nobody holds the role; who held it last takes it back.
    Resume,
}

impl PlanKind {
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            PlanKind::Switchover => "switchover",
            PlanKind::Failover => "failover",
            PlanKind::Failback => "failback",
            PlanKind::Resume => "resume",
        }
    }
    /// The source is alive and is stopped cleanly.
    pub fn is_planned(self) -> bool {
        matches!(self, PlanKind::Switchover | PlanKind::Failback)
    }
}

/// What a plan is wished for. The same from every window, on its whole way to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// To which node; `None`: the best.
    #[serde(default)]
    pub to: Option<NodeId>,
    /// Without these nodes: the role is not to stay there, or their shares go to the others.
    #[serde(default)]
    pub away: Vec<NodeId>,
    /// Why, for the audit.
    #[serde(default)]
    pub reason: String,
    /// Accept that nobody can say what is lost.
    #[serde(default)]
    pub accept_unknown_loss: bool,
    /// Back to where the role is preferred.
    #[serde(default)]
    pub failback: bool,
    /// Who held the role last takes it back.
    #[serde(default)]
    pub resume: bool,
}

impl Proposal {
    /// What is asked for, for records.
    pub fn words(&self) -> String {
        let mut words = match (&self.to, self.resume, self.failback) {
            (_, true, _) => "a plan for the former holder to take the role back".to_owned(),
            (_, _, true) => "a plan to move the role back".to_owned(),
            (Some(to), ..) => format!("a plan to move the role to {to}"),
            (None, ..) => "a plan".to_owned(),
        };
        if !self.away.is_empty() {
            let away: Vec<&str> = self.away.iter().map(NodeId::as_str).collect();
            words.push_str(&format!(" without {}", away.join(", ")));
        }
        if self.accept_unknown_loss {
            words.push_str(", with an unknown loss accepted");
        }
        words
    }

    /// As it is typed on the command line.
    pub fn command(&self) -> String {
        let mut words = "quorate plan".to_owned();
        if self.resume {
            words.push_str(" --resume");
        }
        if self.failback {
            words.push_str(" --failback");
        }
        if let Some(to) = &self.to {
            words.push_str(&format!(" --to {to}"));
        }
        for away in &self.away {
            words.push_str(&format!(" --away {away}"));
        }
        if self.accept_unknown_loss {
            words.push_str(" --accept-unknown-loss");
        }
        words
    }
}

/// The world a plan was made for, and what it does. Immutable once made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Unique among this cluster's plans, so that two equal plans have two digests.
    pub number: u64,
    /// Which cluster.
    pub cluster: ClusterId,
    /// What kind.
    pub kind: PlanKind,
    /// The epoch it was made in; a newer one makes it void.
    pub epoch: Epoch,
    /// Who holds the write role in that epoch, and is demoted.
    pub from: Option<Member>,
    /// Who is to hold it.
    pub to: Member,
    /// Made when.
    pub made: WallTime,
    /// On whose request: a person's identity, or `policy NAME`.
    pub requested_by: String,
    /// Why, in words.
    pub reason: String,
    /// The least fence it accepts.
    pub least_fence: FenceRung,
    /// The loss it expects, from what was known when it was made.
    pub loss: LossAccount,
    /// The loss it tolerates; the candidate recomputes the account and refuses beyond it.
    pub max_loss_bytes: u64,
    /// Whether an unknown loss was accepted by a person.
    pub accept_unknown_loss: bool,
    /// How long all of it may take.
    pub budget: Span,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Every node through every check.
    pub candidates: Vec<Candidate>,
    /// What the policy says of any move, held against what was measured.
    #[serde(default)]
    pub constraints: Vec<Check>,
    /// Who and what notices, in words.
    #[serde(default)]
    pub blast_radius: Vec<String>,
    /// How it is undone, in words.
    #[serde(default)]
    pub way_back: String,
    /// Transfers of data under an exception, to be recorded with the move.
    #[serde(default)]
    pub transfers: Vec<String>,
    /// How the shares change, where several nodes accept writes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ShareChange>,
    /// Units of load that nobody carries afterwards: those clients are refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shed: u64,
    /// How writes that meet are settled, and what that may lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Conflicts>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(units: &u64) -> bool {
    *units == 0
}

#[cfg(test)]
impl Plan {
    /// A switchover from one to the other in that epoch, that costs nothing and promises nothing.
    pub(crate) fn sample(epoch: Epoch, from: Member, to: Member) -> Self {
        Self {
            number: 1,
            cluster: "c".into(),
            kind: PlanKind::Switchover,
            epoch,
            from: Some(from),
            to,
            made: WallTime(0),
            requested_by: "policy p".into(),
            reason: String::new(),
            least_fence: FenceRung::SyncFenced,
            loss: LossAccount::Unknown { why: String::new() },
            max_loss_bytes: 0,
            accept_unknown_loss: false,
            budget: Span::secs(60),
            steps: vec![],
            candidates: vec![],
            constraints: vec![],
            blast_radius: vec![],
            way_back: String::new(),
            transfers: vec![],
            shares: vec![],
            shed: 0,
            conflicts: None,
        }
    }
}

impl Plan {
    /// SHA-256 over the canonical JSON.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }
    /// Its digest, and the canonical JSON that this is the SHA-256 of, as evidence: whoever has the
    /// text can check it.
    pub fn sealed(&self) -> (Digest, serde_json::Value) {
        // As above: it serialises without failing.
        let text = serde_json::to_string(self).unwrap_or_default();
        let digest = Digest::new(hex::encode(Sha256::digest(&text)));
        let evidence = [("plan".to_owned(), serde_json::Value::String(text))].into_iter().collect();
        (digest, serde_json::Value::Object(evidence))
    }
    /// The plan behind such evidence.
    pub fn from_evidence(data: &serde_json::Value) -> Option<Self> {
        serde_json::from_str(data.get("plan")?.as_str()?).ok()
    }
    /// The shares it sets, in the epoch after the one it was made in.
    pub fn sets(&self) -> Shares {
        let of = self.shares.iter().map(|s| (s.node.clone(), s.after)).collect();
        Shares { epoch: self.epoch.next(), plan: Some(self.digest()), of }
    }
    /// From whom to whom, with that arrow; of a resume only who takes its role back.
    pub fn nodes(&self, arrow: &str) -> String {
        let from = self.demoted().map_or("nobody", NodeId::as_str);
        match self.kind {
            PlanKind::Resume => from.to_owned(),
            _ => format!("{from} {arrow} {}", self.to.node),
        }
    }
    /// The node that is demoted, whose name a person types to confirm.
    pub fn demoted(&self) -> Option<&NodeId> {
        self.from.as_ref().map(|m| &m.node)
    }
}

/// SHA-256 of a value's canonical JSON: keys in the order of the type's fields, no spaces.
pub fn digest_of(value: &impl Serialize) -> Digest {
    // Model types serialise without failing: their map keys are strings and they hold no foreign
    // types.
    let json = serde_json::to_vec(value).unwrap_or_default();
    Digest::new(hex::encode(Sha256::digest(json)))
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub kind: StepKind,
    /// Where.
    pub node: NodeId,
    /// What is done, in words.
    pub action: String,
    /// What must hold before it.
    pub precondition: String,
    /// What proves it was done.
    pub verification: String,
    /// What undoes it, or why nothing has to.
    pub compensation: String,
    /// How long it may take.
    pub budget: Span,
}

/// How the plane signs what a policy asks for. No person may be called so.
const POLICY: &str = "policy ";

/// The requester of what a policy asks for.
pub fn by_policy(policy_id: &str) -> String {
    format!("{POLICY}{policy_id}")
}

/// Whether that requester is a policy.
pub fn is_policy(requester: &str) -> bool {
    requester.starts_with(POLICY)
}

impl Plan {
    /// Whether a policy asked for it, and no person.
    pub fn is_by_policy(&self) -> bool {
        is_policy(&self.requested_by)
    }
}

/// Kinds of steps, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Arm the candidate with the plan.
    Arm,
    /// Give every node its new share of the traffic.
    Shift,
    /// Make the former holder unable to acknowledge.
    Fence,
    /// Win the epoch.
    Claim,
    /// Promote.
    Promote,
    /// Point the others at the new primary.
    Follow,
    /// Let a node that has no share any more finish, until everything it accepted is elsewhere.
    Drain,
    /// See that everybody who serves stays within its capacity.
    Keep,
    /// Verify, with a real write.
    Verify,
}

impl StepKind {
    /// The word for screens.
    pub fn word(self) -> &'static str {
        match self {
            StepKind::Arm => "arm",
            StepKind::Shift => "shift",
            StepKind::Fence => "fence",
            StepKind::Claim => "claim",
            StepKind::Promote => "promote",
            StepKind::Follow => "follow",
            StepKind::Drain => "drain",
            StepKind::Keep => "keep",
            StepKind::Verify => "verify",
        }
    }
}

/// One node and all checks it went through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// Whether every check passed.
    pub eligible: bool,
    /// 1 for the chosen one, and so on; 0 if not eligible.
    pub rank: u32,
    /// Each check with its measured value and limit.
    pub checks: Vec<Check>,
}

/// A word that is usually one of the program's own.
pub type Word = std::borrow::Cow<'static, str>;

/// A named check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: Word,
    /// Whether it passed.
    pub passed: bool,
    /// The measured value.
    pub value: Word,
    /// The limit it was held against.
    pub limit: Word,
    /// Where the value comes from: `report`, `policy`, `verdicts`, …
    #[serde(default)]
    pub source: Word,
    /// How old it is, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Span>,
    /// What would change the outcome; empty when it passed.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub would_change: Word,
}

/// A signature over a plan's digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Approval {
    /// The plan.
    pub plan: Digest,
    /// Who approved.
    pub by: String,
    /// Why, in words.
    pub reason: String,
    /// Unique, so that an approval cannot be used twice.
    pub nonce: String,
    /// Good until then.
    pub expires: WallTime,
    /// Ed25519 over the canonical JSON of the fields above, in hex.
    pub signature: String,
}
