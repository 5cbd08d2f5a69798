//! What the voter must never forget, and its store. *Saved* is what a process that starts now would
//! read; what rests on anything newer is neither said nor done. A store without room is tried again
//! and again, and until it takes the record this agent has no vote; one whose disk failed ends the
//! process.

use std::path::PathBuf;

use super::host::{self, FolderId};
use super::runtime::StartError;
use crate::config::AgentConfig;
use crate::lease::VoterRecord;
use crate::model::{Incarnation, Member, NodeId};
use crate::store::{Batch, Sqlite, Store, StoreError};

const RECORD: &str = "voter";
const FILE: &str = "agent.sqlite";
/// With less room than this nothing is promised: the next record may not fit.
const RESERVE: u64 = 128 << 10;

/// The voter's record: saved, and what is not yet.
#[derive(Debug)]
pub struct Record {
    state_dir: PathBuf,
    store: Sqlite,
    /// The file that is open. One that was deleted or replaced takes every write, and no process
    /// that starts later reads it.
    file: Option<FolderId>,
    /// Its log, without which the file says what was true once.
    log: Option<FolderId>,
    saved: VoterRecord,
    newer: Option<VoterRecord>,
    /// The store was written whole to a new file since this process started.
    whole: bool,
    /// So little room is left that the next record may not fit.
    scant: bool,
    trouble: String,
}

impl Record {
    /// Opens the store, or makes it, and writes it whole to a new file: what an earlier process
    /// could not write may be in the page cache only. Where that fails there is no vote.
    ///
    /// # Errors
    /// When it cannot be read, or belongs to another node.
    pub fn open(config: &AgentConfig) -> Result<Self, StartError> {
        let path = config.state_dir.join(FILE);
        let mut store = Sqlite::open_alone(&path)?;
        let saved = load(&mut store, config)?;
        let mut record = Self {
            state_dir: config.state_dir.clone(),
            store,
            file: FolderId::of(&path).ok(),
            log: None,
            saved,
            newer: None,
            whole: false,
            scant: false,
            trouble: String::new(),
        };
        record.beat()?;
        Ok(record)
    }

    /// What a process that starts now would read.
    pub fn saved(&self) -> &VoterRecord {
        &self.saved
    }

    /// Everything is durable, and anything new will be, as far as is known: it may vote.
    pub fn is_saved(&self) -> bool {
        self.whole && self.newer.is_none() && self.trouble.is_empty() && !self.scant
    }

    /// Makes a record durable. Where there is no room it is kept for another try.
    ///
    /// # Errors
    /// [`StoreError`] when the disk failed: the process has to end.
    pub fn keep(&mut self, record: VoterRecord) -> Result<(), StoreError> {
        self.newer = Some(record);
        self.try_again()
    }

    /// Begins anew as a stranger; what the former identity promised is forgotten. Without randomness
    /// nothing changes.
    ///
    /// # Errors
    /// [`StoreError`] when the disk failed: the process has to end.
    pub fn renounce(&mut self, node: &NodeId) -> Result<VoterRecord, StoreError> {
        match stranger(node) {
            Ok(fresh) => {
                self.keep(fresh.clone())?;
                Ok(fresh)
            }
            Err(error) => {
                tracing::error!("no randomness: {error}");
                Ok(self.newer.clone().unwrap_or_else(|| self.saved.clone()))
            }
        }
    }

    /// The same again, where it failed; and another look at the room.
    ///
    /// # Errors
    /// [`StoreError`] when the disk failed: the process has to end.
    pub fn beat(&mut self) -> Result<(), StoreError> {
        let (free, total) = host::disk(&self.state_dir);
        self.scant = total > 0 && free < RESERVE;
        self.mind_file();
        if self.whole && self.newer.is_none() && self.trouble.is_empty() {
            return Ok(());
        }
        self.try_again()
    }

    /// What this process knows is all there is, and is written whole to a new file: nothing rests on
    /// one that is not there.
    fn mind_file(&mut self) {
        let found = FolderId::of(&self.state_dir.join(FILE)).ok();
        let log = self.found_log();
        if found.is_some() && found == self.file && (self.log.is_none() || log == self.log) {
            self.log = log;
            return;
        }
        if self.whole {
            tracing::error!(
                "the store in {} was deleted or replaced while this agent ran: it is written anew",
                self.state_dir.display()
            );
        }
        self.whole = false;
    }

    fn found_log(&self) -> Option<FolderId> {
        FolderId::of(&self.state_dir.join(format!("{FILE}-wal"))).ok()
    }

    fn try_again(&mut self) -> Result<(), StoreError> {
        let result = self.save();
        match &result {
            Ok(()) => self.trouble.clear(),
            Err(error) => {
                if self.trouble.is_empty() {
                    tracing::error!("{error}");
                }
                self.trouble = error.to_string();
            }
        }
        // Before it was written whole nothing rests on this disk: it has no vote, and goes on.
        result.or_else(|error| if error.is_broken() && self.whole { Err(error) } else { Ok(()) })
    }

    fn save(&mut self) -> Result<(), StoreError> {
        if !self.whole {
            self.store.rewrite()?;
            self.log = None;
            self.file = FolderId::of(&self.state_dir.join(FILE)).ok();
            self.whole = true;
        }
        let record = self.newer.as_ref().unwrap_or(&self.saved);
        keep(&mut self.store, record)?;
        if self.log.is_none() {
            self.log = self.found_log();
        }
        if let Some(newer) = self.newer.take() {
            self.saved = newer;
        }
        Ok(())
    }

    /// Why it has no vote, where, and what to do; empty when it has.
    pub fn complaint(&self, holds: bool) -> String {
        if self.is_saved() {
            return String::new();
        }
        let (free, total) = host::disk(&self.state_dir);
        let why = if self.trouble.is_empty() { "too little room is left" } else { &self.trouble };
        let move_it = if holds {
            ". It holds the role and asks to be moved: switch over to another node"
        } else {
            ""
        };
        format!(
            "no vote: what it would promise cannot be saved in {} ({} KiB of {} KiB free): {why}. \
             Make room there or mend the disk; it goes on by itself{move_it}",
            self.state_dir.display(),
            free >> 10,
            total >> 10,
        )
    }
}

fn load(store: &mut Sqlite, config: &AgentConfig) -> Result<VoterRecord, StartError> {
    if let Some(text) = store.document(RECORD)? {
        let record: VoterRecord = serde_json::from_str(&text).map_err(|e| {
            StartError::Other(format!(
                "the voter record in {} is unreadable: {e}",
                config.state_dir.display()
            ))
        })?;
        if record.me.node != config.node.node_id {
            let why = format!(
                "{} belongs to {}, this is {}",
                config.state_dir.display(),
                record.me.node,
                config.node.node_id
            );
            return Err(StartError::Other(why));
        }
        return Ok(record);
    }
    let record = stranger(&config.node.node_id)
        .map_err(|e| StartError::Other(format!("no randomness: {e}")))?;
    keep(store, &record)?;
    Ok(record)
}

/// An empty record with an identity that nobody ever had.
fn stranger(node: &NodeId) -> Result<VoterRecord, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let incarnation = Incarnation::new(hex::encode(random));
    Ok(VoterRecord::new(Member { node: node.clone(), incarnation }))
}

fn keep(store: &mut Sqlite, record: &VoterRecord) -> Result<(), StoreError> {
    // A voter record serialises without failing: strings, numbers and lists.
    let text = serde_json::to_string(record).unwrap_or_default();
    store.append(&Batch { documents: &[(RECORD, text)], ..Batch::default() }).map(|_| ())
}
