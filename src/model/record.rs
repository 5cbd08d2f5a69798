//! A fact for the audit: what happened, by which rule, on what evidence, by whose authority.

use serde::{Deserialize, Serialize};

use super::{ClusterId, Epoch, Timestamp, WallTime};

/// One fact. The store gives it its place in the hash chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The decider's clock.
    pub at: Timestamp,
    /// Wall clock, for people.
    pub wall: WallTime,
    /// The epoch known at that moment.
    pub epoch: Epoch,
    /// The rule that fired; 0 where no rule of the table did.
    pub rule: u16,
    /// Who caused it: `plane`, a person's identity, a node.
    pub actor: String,
    /// One short word for what kind of fact: `verdict`, `phase`, `plan`, `command`, `approval`, …
    pub kind: String,
    /// The sentence people read.
    pub text: String,
    /// The evidence, as data.
    pub data: serde_json::Value,
}

/// A record in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainedRecord {
    /// Its number, from 1 without gaps.
    pub number: u64,
    /// SHA-256 of the previous record's canonical form, or 64 zeros.
    pub previous: String,
    /// SHA-256 over number, previous and record.
    pub hash: String,
    /// The fact.
    pub record: Record,
}

/// Words that follow a measured number.
const UNITS: &[&str] =
    &["ns", "µs", "ms", "s", "min", "h", "d", "B", "kB", "KiB", "MiB", "GiB", "MB"];

/// What a sentence says apart from what was measured: numbers with their units and the digests of
/// plans are left out, names with numbers in them stay.
pub fn shape(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = vec![];
    let mut after_number = false;
    for word in text.split_whitespace() {
        let core = word.trim_matches(|c: char| !c.is_alphanumeric());
        let number = core.starts_with(|c: char| c.is_ascii_digit());
        let digest = core.len() == 8
            && words.last() == Some(&"plan")
            && core.chars().all(|c| c.is_ascii_hexdigit());
        let unit = after_number && UNITS.contains(&core);
        if !(number || digest || unit) {
            words.push(word);
        }
        after_number = number || unit;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::shape;

    #[test]
    fn what_is_measured_is_no_part_of_the_shape_and_names_are() {
        assert_eq!(
            shape("node-2: silent for 1.3 s; 5 of 5 do not see it"),
            shape("node-2: silent for 1 min 02 s; 3 of 4 do not see it")
        );
        assert_ne!(
            shape("failover node-1 → node-2, loss none"),
            shape("failover node-1 → node-3, loss none")
        );
        assert_eq!(shape("plan 7dfac458: failover"), shape("plan beefbeef: failover"));
        assert_ne!(shape("failover a → b"), shape("failover b → a"));
    }
}

/// What a check of the whole chain came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainVerdict {
    /// Nobody checked it yet.
    #[default]
    NotChecked,
    /// The audit is kept by a plane, and none is heard.
    Elsewhere,
    /// Every record follows the one before it, from the first to this one.
    Verified {
        /// Its number.
        to: u64,
    },
    /// It does not.
    Broken {
        /// Where and how.
        how: String,
    },
    /// The store could not be read.
    Unreadable {
        /// Its words.
        why: String,
    },
    /// Words of a plane that is older than this.
    #[serde(untagged)]
    Words(String),
}

impl ChainVerdict {
    /// Whether it is known to be whole.
    pub fn holds(&self) -> bool {
        match self {
            Self::Verified { .. } => true,
            // An older plane said so, or that it breaks.
            Self::Words(words) => words.contains("verif") && !words.contains("not verified"),
            Self::NotChecked | Self::Elsewhere | Self::Broken { .. } | Self::Unreadable { .. } => {
                false
            }
        }
    }
    /// Whether it is known to be broken.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Words(words) => words.contains("breaks"),
            _ => false,
        }
    }
}

impl std::fmt::Display for ChainVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotChecked => f.write_str("not verified yet"),
            Self::Elsewhere => f.write_str("the audit is the plane's"),
            Self::Verified { to } => write!(f, "verified to record {to}"),
            Self::Broken { how } | Self::Words(how) => f.write_str(how),
            Self::Unreadable { why } => write!(f, "not verified: {why}"),
        }
    }
}
