//! What survives: records in their hash chain, the journal of inputs, and small named documents (a
//! voter's record, an engine's snapshot). SQLite is the embedded default; the in-memory twin passes
//! the same conformance suite.
//!
//! One append makes a whole decision durable and returns the receipt that releases its effects.

mod memory;
mod sqlite;

#[cfg(test)]
mod conformance;

pub use memory::Memory;
pub use sqlite::Sqlite;

use crate::audit::{Broken, Verifier};
use crate::engine::Durable;
use crate::model::Timestamp;
use crate::model::record::{ChainedRecord, Record};

/// Why the store did not keep something. Nothing was released.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no: locked, not ours.
    #[error("the store at {place} could not {doing}: {source}")]
    Database {
        /// Which file.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: rusqlite::Error,
    },
    /// There is no room. What was there before is intact.
    #[error("the store at {place} could not {doing}: there is no room ({source})")]
    Full {
        /// Which file.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The disk failed, or the file is damaged: what is read back now may be in memory only.
    #[error(
        "the store at {place} could not {doing}: {source}. What is read back from this disk now \
         may never have reached it, so this process ends; its service manager starts it again, and \
         an agent then writes its store whole to a new file before it votes. Look after the disk \
         (dmesg)"
    )]
    Broken {
        /// Which file.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: rusqlite::Error,
    },
    /// What was read is not what was written.
    #[error("the store at {place} holds something unreadable as {what}: {why}")]
    Damaged {
        /// Which file.
        place: String,
        /// What it should have been.
        what: &'static str,
        /// Why it is not.
        why: String,
    },
}

impl StoreError {
    /// What SQLite said, by what it means: no room, a disk that failed, or anything else.
    fn of(place: String, doing: &'static str, source: rusqlite::Error) -> Self {
        use rusqlite::ffi::{self, ErrorCode};
        match source.sqlite_error().map(|e| (e.code, e.extended_code)) {
            Some((ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE)) => {
                Self::Full { place, doing, source }
            }
            Some((
                ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase,
                _,
            )) => Self::Broken { place, doing, source },
            _ => Self::Database { place, doing, source },
        }
    }

    /// The same for a file.
    fn of_io(place: String, doing: &'static str, error: &std::io::Error) -> Self {
        use rusqlite::ffi;
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ffi::SQLITE_FULL,
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => ffi::SQLITE_PERM,
            _ => ffi::SQLITE_IOERR,
        };
        let text = Some(error.to_string());
        Self::of(place, doing, rusqlite::Error::SqliteFailure(ffi::Error::new(code), text))
    }

    /// The disk failed: nothing that this process reads back can be trusted.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }
}

/// One decision's worth of durability.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// The decision's moment.
    pub at: Timestamp,
    /// Facts for the audit.
    pub records: &'a [Record],
    /// Inputs since the last batch, this decision's own last; for replay.
    pub journal: &'a [String],
    /// Documents to replace: (name, contents).
    pub documents: &'a [(&'a str, String)],
}

/// Proof that a batch is durable. Only a store can make one.
#[derive(Debug)]
pub struct Receipt {
    at: Timestamp,
}

impl Durable for Receipt {
    fn at(&self) -> Timestamp {
        self.at
    }
}

/// A place where things survive.
pub trait Store: Send {
    /// Makes a batch durable, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was kept.
    fn append(&mut self, batch: &Batch<'_>) -> Result<Receipt, StoreError>;

    /// A document by name.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn document(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Records from `first` on, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn records(&self, first: u64, limit: usize) -> Result<Vec<ChainedRecord>, StoreError>;

    /// How many records there are.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn record_count(&self) -> Result<u64, StoreError>;

    /// Journal entries, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn journal(&self) -> Result<Vec<String>, StoreError>;
}

/// Reads the whole chain and checks it. `Ok` is the number of records.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub fn verify(store: &dyn Store) -> Result<Result<u64, Broken>, StoreError> {
    const PAGE: usize = 1_000;
    let mut verifier = Verifier::default();
    loop {
        let page = store.records(verifier.so_far().0 + 1, PAGE)?;
        if page.is_empty() {
            return Ok(Ok(verifier.so_far().0));
        }
        for record in &page {
            if let Err(broken) = verifier.check(record) {
                return Ok(Err(broken));
            }
        }
    }
}
