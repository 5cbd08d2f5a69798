//! SQLite, embedded. Write-ahead log with `synchronous=FULL`: one fsync a commit, and a commit is
//! durable when it returns. Records are write-once by trigger, so that no later version of this
//! program can rewrite them by mistake.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::{Batch, Receipt, Store, StoreError};
use crate::audit;
use crate::model::record::ChainedRecord;

/// One process alone: no file that is shared with others has to be made, so that it can be read
/// where there is no room. Its log is kept short.
const ALONE: &str = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA wal_autocheckpoint=64;";

const SCHEMA: &str = "
    PRAGMA journal_mode=WAL;
    PRAGMA synchronous=FULL;
    PRAGMA busy_timeout=2000;
    CREATE TABLE IF NOT EXISTS record (number INTEGER PRIMARY KEY, hash TEXT NOT NULL, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS document (name TEXT PRIMARY KEY, body TEXT NOT NULL);
    CREATE TRIGGER IF NOT EXISTS record_is_final BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'records are never rewritten'); END;
";

/// Journal entries kept; the oldest go first. About an hour of a five-node cluster at four reports
/// a second.
pub const JOURNAL_MAX: i64 = 100_000;

/// A store in one file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    place: String,
    /// What is said to every connection first.
    first: &'static str,
    last: (u64, String),
}

impl Sqlite {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened or is not ours.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, "")
    }

    /// Opens the file for this process alone, or makes it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened, is not ours, or another process has it.
    pub fn open_alone(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, ALONE)
    }

    fn open_with(path: &Path, first: &'static str) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let failed = |source| StoreError::of(place.clone(), "be opened", source);
        let connection = Connection::open(path).map_err(failed)?;
        connection
            .execute_batch(first)
            .and_then(|()| connection.execute_batch(SCHEMA))
            .map_err(failed)?;
        let last = connection
            .query_row("SELECT number, hash FROM record ORDER BY number DESC LIMIT 1", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get(1)?))
            })
            .optional()
            .map_err(failed)?
            .map_or((0, audit::GENESIS.to_owned()), |(number, hash)| {
                (u64::try_from(number).unwrap_or(0), hash)
            });
        Ok(Self { connection, place, first, last })
    }

    /// Writes everything to a new file, fsynced, which then takes the place of the present one:
    /// nothing that an earlier process could not write is left to the page cache.
    ///
    /// # Errors
    /// [`StoreError`]; then the present file is still in its place.
    pub fn rewrite(&mut self) -> Result<(), StoreError> {
        let path = PathBuf::from(&self.place);
        let beside = |end: &str| PathBuf::from(format!("{}{end}", self.place));
        let (next, log) = (beside("-next"), beside("-wal"));
        let doing = "be written whole to a new file";
        let io = |e: std::io::Error| StoreError::of_io(self.place.clone(), doing, &e);
        let made = remove_if_there(&next).map_err(io).and_then(|()| {
            self.connection
                .execute("VACUUM INTO ?1", [next.display().to_string()])
                .map_err(self.failed(doing))?;
            File::open(&next).and_then(|file| file.sync_all()).map_err(io)
        });
        if let Err(error) = made {
            // It may lie there half; the next try removes it too.
            let _ = std::fs::remove_file(&next);
            return Err(error);
        }
        // Closing moves the log into the file. A log that stays would be taken for the new file's.
        let none = Connection::open_in_memory().map_err(self.failed(doing))?;
        let closed = std::mem::replace(&mut self.connection, none).close();
        let closed = closed.map_err(|(_, error)| self.failed(doing)(error)).and_then(|()| {
            if std::fs::metadata(&log).map_or(0, |m| m.len()) > 0 {
                return Err(io(std::io::Error::other("its log could not be moved into it")));
            }
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::rename(&next, &path).and_then(|()| File::open(folder)?.sync_all()).map_err(io)
        });
        *self = Self::open_with(&path, self.first)?;
        closed
    }

    fn failed(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let place = self.place.clone();
        move |source| StoreError::of(place.clone(), doing, source)
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn write(
    connection: &mut Connection,
    batch: &Batch<'_>,
    mut last: (u64, String),
) -> rusqlite::Result<(u64, String)> {
    let transaction = connection.transaction()?;
    for record in batch.records {
        let sealed = audit::seal(last.0 + 1, &last.1, record.clone());
        let body = serde_json::to_string(&sealed)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        let number = i64::try_from(sealed.number)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        transaction
            .prepare_cached("INSERT INTO record (number, hash, body) VALUES (?1, ?2, ?3)")?
            .execute(params![number, sealed.hash, body])?;
        last = (sealed.number, sealed.hash);
    }
    for entry in batch.journal {
        transaction.prepare_cached("INSERT INTO journal (body) VALUES (?1)")?.execute([entry])?;
        let id = transaction.last_insert_rowid();
        if id % 1_000 == 0 {
            transaction.execute("DELETE FROM journal WHERE id <= ?1", [id - JOURNAL_MAX])?;
        }
    }
    for (name, contents) in batch.documents {
        transaction
            .prepare_cached(
                "INSERT INTO document (name, body) VALUES (?1, ?2) ON CONFLICT (name) \
                DO UPDATE SET body = excluded.body",
            )?
            .execute(params![name, contents])?;
    }
    transaction.commit()?;
    Ok(last)
}

impl Store for Sqlite {
    fn append(&mut self, batch: &Batch<'_>) -> Result<Receipt, StoreError> {
        let failed = self.failed("make a decision durable");
        self.last = write(&mut self.connection, batch, self.last.clone()).map_err(failed)?;
        Ok(Receipt { at: batch.at })
    }

    fn document(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM document WHERE name = ?1")
            .map_err(self.failed("be read"))?;
        statement.query_row([name], |row| row.get(0)).optional().map_err(self.failed("be read"))
    }

    fn records(&self, first: u64, limit: usize) -> Result<Vec<ChainedRecord>, StoreError> {
        let failed = self.failed("be read");
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM record WHERE number >= ?1 ORDER BY number LIMIT ?2")
            .map_err(&failed)?;
        let bounds =
            [i64::try_from(first).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)];
        let rows = statement.query_map(bounds, |row| row.get::<_, String>(0)).map_err(&failed)?;
        rows.map(|row| {
            let body = row.map_err(&failed)?;
            serde_json::from_str(&body).map_err(|e| StoreError::Damaged {
                place: self.place.clone(),
                what: "a record",
                why: e.to_string(),
            })
        })
        .collect()
    }

    fn record_count(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .query_row("SELECT COUNT(*) FROM record", [], |row| row.get(0))
            .map_err(self.failed("be read"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    fn journal(&self) -> Result<Vec<String>, StoreError> {
        let failed = self.failed("be read");
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM journal ORDER BY id")
            .map_err(&failed)?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }
}
