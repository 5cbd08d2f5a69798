//! The in-memory twin, for tests and simulations.

use std::collections::BTreeMap;

use super::{Batch, Receipt, Store, StoreError};
use crate::audit;
use crate::model::record::ChainedRecord;

/// Forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct Memory {
    records: Vec<ChainedRecord>,
    journal: Vec<String>,
    documents: BTreeMap<String, String>,
}

impl Store for Memory {
    fn append(&mut self, batch: &Batch<'_>) -> Result<Receipt, StoreError> {
        for record in batch.records {
            let previous = self.records.last().map_or(audit::GENESIS, |r| &r.hash);
            let sealed = audit::seal(self.records.len() as u64 + 1, previous, record.clone());
            self.records.push(sealed);
        }
        self.journal.extend(batch.journal.iter().cloned());
        for (name, contents) in batch.documents {
            self.documents.insert((*name).to_owned(), contents.clone());
        }
        Ok(Receipt { at: batch.at })
    }
    fn document(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.documents.get(name).cloned())
    }
    fn records(&self, first: u64, limit: usize) -> Result<Vec<ChainedRecord>, StoreError> {
        Ok(self.records.iter().filter(|r| r.number >= first).take(limit).cloned().collect())
    }
    fn record_count(&self) -> Result<u64, StoreError> {
        Ok(self.records.len() as u64)
    }
    fn journal(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.journal.clone())
    }
}
