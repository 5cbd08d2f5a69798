//! Whether a standby could serve as a primary, and whether others could replicate from it: what its
//! agent saw and tried, before anything dies.

use serde::{Deserialize, Serialize};

use super::{NodeId, Span};

/// What a database's agent knows of serving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// What keeps this standby from replaying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// The peers' databases, as a replication connection from here was tried last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reaches: Vec<Reach>,
    /// Replication slots in this database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// The user's archive takes nothing, by the server's own count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveFails>,
    /// What in its configuration files keeps the server from taking up any change at a reload;
    /// empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unreadable: String,
    /// The version of the programs that a start would run, which may have been replaced under the
    /// server. Empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub installed: String,
}

/// `archive_command` or the archive library failed at its last try, and log is kept until it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFails {
    /// Which file.
    pub file: String,
    /// When, before now, by the server's clock.
    pub age: Span,
    /// How often since the server's statistics were reset.
    pub times: u64,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// For a logical consumer; a promoted standby does not have it.
    pub logical: bool,
    /// Somebody receives by it now.
    pub active: bool,
    /// Log that is kept for it, in bytes.
    pub holds: u64,
    /// Standbys keep a copy of it (PostgreSQL 17 and newer, `sync_replication_slots`).
    pub carried: bool,
}

impl Slot {
    /// Nobody receives by it, and log is kept for it.
    pub fn is_left(&self) -> bool {
        !self.active && !self.carried && self.holds >= LEFT_MIN
    }
}

/// A slot that holds less is of no account: a segment is kept anyway.
const LEFT_MIN: u64 = 64 << 20;

/// Replay does not go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// By what.
    pub by: String,
    /// For how long.
    pub lasts: Span,
    /// What makes it go on.
    pub mend: String,
    /// A promotion ends the server instead of ending this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fatal: bool,
}

/// A replication connection, with the credentials that a standby here would use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// To whose database.
    pub node: NodeId,
    /// When it was tried, before now.
    pub age: Span,
    /// Why it was not let in, in the server's or the client's words; empty: it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
}
