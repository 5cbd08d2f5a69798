//! Identities: clusters, nodes and their incarnations, epochs, digests, and the sets that vote or
//! confirm commits.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text; configuration has already checked its form.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

text_id! {
    /// The unit that has one write role.
    ClusterId
}
text_id! {
    /// One host with one agent, for all time; never an address, which can be reused.
    NodeId
}
text_id! {
    /// A random id in a node's durable store: a node that was reinstalled has a new one and is a
    /// stranger.
    Incarnation
}
text_id! {
    /// SHA-256 of a canonical document, in lower-case hex.
    Digest
}

impl Digest {
    /// The first eight characters, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

/// The number of a cluster's write role. It only rises; every effect carries it, every receiver
/// refuses an older one. A promotion in epoch *n* writes PostgreSQL timeline *n*.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// A voter's identity: the node *and* the incarnation of its durable store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Which installation of it.
    pub incarnation: Incarnation,
}

impl Member {
    /// A member from its two parts.
    pub fn new(node: impl Into<NodeId>, incarnation: impl Into<Incarnation>) -> Self {
        Self { node: node.into(), incarnation: incarnation.into() }
    }
}
impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.incarnation.as_str();
        write!(f, "{}/{}", self.node, short.get(..4).unwrap_or(short))
    }
}
impl From<&Member> for NodeId {
    fn from(member: &Member) -> Self {
        member.node.clone()
    }
}

/// A set of members that is copied often and changed seldom: every report, promise and greeting
/// carries one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Members(Arc<BTreeSet<Member>>);

impl std::ops::Deref for Members {
    type Target = BTreeSet<Member>;
    fn deref(&self) -> &BTreeSet<Member> {
        &self.0
    }
}
impl std::ops::DerefMut for Members {
    fn deref_mut(&mut self) -> &mut BTreeSet<Member> {
        Arc::make_mut(&mut self.0)
    }
}
impl FromIterator<Member> for Members {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        Self(Arc::new(members.into_iter().collect()))
    }
}

/// Who votes. Versioned durable state: a message with another version does not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoterSet {
    /// Rises by one with every change.
    pub version: u64,
    /// The voters, witnesses included.
    pub members: Members,
}

/// Bits of a version that count the changes of one holder.
const VERSION_COUNT_BITS: u32 = 16;
/// Bits below the count of overrides.
const VERSION_EPOCH_BITS: u32 = 48;

/// The epoch whose holder made that version; of a set that an override left, its floor.
fn made_in(version: u64) -> u64 {
    (version & ((1 << VERSION_EPOCH_BITS) - 1)) >> VERSION_COUNT_BITS
}

/// Epochs that removed voters may have won or claimed without anybody else hearing of it. Each
/// costs the next primary a small file, so the gap is not larger than a long evening of claims.
const UNHEARD_EPOCHS: u64 = 200;

impl VoterSet {
    /// The version of the next set that the holder of `epoch` makes. Versions are ordered by
    /// overrides, then by the maker's epoch, then by its count: no two makers ever use the same
    /// one.
    pub fn next_version(&self, epoch: Epoch) -> u64 {
        let overrides = self.version >> VERSION_EPOCH_BITS;
        if made_in(self.version) >= epoch.0 {
            self.version + 1
        } else {
            overrides << VERSION_EPOCH_BITS | epoch.0 << VERSION_COUNT_BITS | 1
        }
    }
    /// The version of the set that an override leaves: above everything that any holder made.
    /// `newest` is the newest epoch that anybody is known to have voted in; those who are removed
    /// may have gone on unheard, so the floor is well above it.
    pub fn override_version(&self, newest: Epoch) -> u64 {
        let floor = newest.0.max(made_in(self.version)) + UNHEARD_EPOCHS;
        ((self.version >> VERSION_EPOCH_BITS) + 1) << VERSION_EPOCH_BITS
            | floor << VERSION_COUNT_BITS
    }
    /// For a set that an override left: no epoch up to this one may be claimed, for the removed
    /// voters may have won it; and until a later one was written in, nobody knows what was
    /// acknowledged. `None` for a set that a holder made.
    pub fn override_floor(&self) -> Option<Epoch> {
        Self::floor_of(self.version)
    }
    /// How many overrides came before that version.
    pub fn overrides_of(version: u64) -> u64 {
        version >> VERSION_EPOCH_BITS
    }
    /// The floor, from a version.
    pub fn floor_of(version: u64) -> Option<Epoch> {
        let by_override =
            version >> VERSION_EPOCH_BITS > 0 && version & ((1 << VERSION_COUNT_BITS) - 1) == 0;
        by_override.then(|| Epoch(made_in(version)))
    }
    /// floor(N/2)+1.
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }
    /// Whether this very incarnation votes.
    pub fn contains(&self, member: &Member) -> bool {
        self.members.contains(member)
    }
    /// The voter on `node`, if there is one.
    pub fn on(&self, node: &NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.node == *node)
    }
}

/// Synchronous commit: an acknowledged write is on the holder and on at least `k` of `members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SyncSet {
    /// S: the standbys that count.
    pub members: Members,
    /// How many of them confirm before a commit is acknowledged; 0 means asynchronous.
    pub k: usize,
}

impl SyncSet {
    /// |S|−k+1: how many members must have granted (and so stopped receiving) before no commit can gather `k`
    /// confirmations any more, and before the most advanced of them must hold every acknowledged
    /// write. `None` when commits wait for nobody: then no number of grants fences.
    pub fn fence_needs(&self) -> Option<usize> {
        (self.k > 0 && self.k <= self.members.len()).then(|| self.members.len() - self.k + 1)
    }
}

/// The synchronous sets that may be in force within one epoch. A change is joint: while two are
/// listed, whoever wants to prove that a holder cannot acknowledge satisfies both.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SyncStage {
    /// Rises with every step of a change; the highest that a majority of voters knows of is the
    /// truth.
    pub number: u64,
    /// One set, or the old and the new one.
    pub sets: Vec<SyncSet>,
}

impl From<SyncSet> for SyncStage {
    fn from(set: SyncSet) -> Self {
        Self { number: 0, sets: vec![set] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majority_is_more_than_half() {
        for (n, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)] {
            let members = (0..n).map(|i| Member::new(format!("n{i}").as_str(), "a")).collect();
            assert_eq!(VoterSet { version: 1, members }.majority(), majority, "{n} voters");
        }
    }

    #[test]
    fn a_sync_fence_needs_s_minus_k_plus_one() {
        for (s, k, needs) in
            [(2, 1, Some(2)), (2, 2, Some(1)), (3, 1, Some(3)), (3, 2, Some(2)), (2, 0, None)]
        {
            let members = (0..s).map(|i| Member::new(format!("n{i}").as_str(), "a")).collect();
            assert_eq!(SyncSet { members, k }.fence_needs(), needs, "|S|={s} k={k}");
        }
    }
}
