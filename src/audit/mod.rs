//! The audit log: canonical records in a hash chain. Nothing is ever rewritten; a changed, missing
//! or reordered record breaks the chain at its number.
//!
//! A record's hash is SHA-256 over `number`, a newline, the previous hash, a newline, and the
//! record's canonical JSON.

use sha2::{Digest as _, Sha256};

use crate::model::record::{ChainedRecord, Record};

/// The previous hash of the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Puts `record` behind the one with `previous` hash.
pub fn seal(number: u64, previous: &str, record: Record) -> ChainedRecord {
    let hash = hash_of(number, previous, &record);
    ChainedRecord { number, previous: previous.to_owned(), hash, record }
}

fn hash_of(number: u64, previous: &str, record: &Record) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{number}\n{previous}\n"));
    // Records hold only strings, numbers and JSON values: they serialise without failing.
    hasher.update(serde_json::to_vec(record).unwrap_or_default());
    hex::encode(hasher.finalize())
}

/// Where a chain breaks, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chain breaks at record {number}: {how}")]
pub struct Broken {
    /// The first record that does not fit.
    pub number: u64,
    /// How.
    pub how: String,
}

/// A running verification: feed it every record in order, from the first.
#[derive(Clone, Debug)]
pub struct Verifier {
    next: u64,
    previous: String,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { next: 1, previous: GENESIS.to_owned() }
    }
}

impl Verifier {
    /// Begins in the middle: at record `number`, which follows the one with hash `previous`.
    pub fn behind(number: u64, previous: &str) -> Self {
        Self { next: number, previous: previous.to_owned() }
    }

    /// Checks the next record.
    ///
    /// # Errors
    /// [`Broken`] where its number, its link or its own hash does not fit.
    pub fn check(&mut self, record: &ChainedRecord) -> Result<(), Broken> {
        let broken = |how: String| Err(Broken { number: record.number, how });
        if record.number != self.next {
            return broken(format!("expected record {}", self.next));
        }
        if record.previous != self.previous {
            return broken("it does not follow the record before it".into());
        }
        if record.hash != hash_of(record.number, &record.previous, &record.record) {
            return broken("its contents do not match its hash".into());
        }
        self.next += 1;
        self.previous.clone_from(&record.hash);
        Ok(())
    }
    /// How many records fitted, and the hash of the last.
    pub fn so_far(&self) -> (u64, &str) {
        (self.next - 1, &self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Timestamp, WallTime};

    fn chain(n: u64) -> Vec<ChainedRecord> {
        let mut previous = GENESIS.to_owned();
        (1..=n)
            .map(|i| {
                let record = Record {
                    cluster: "c".into(),
                    at: Timestamp(i),
                    wall: WallTime(0),
                    epoch: Epoch(1),
                    rule: 101,
                    actor: "plane".into(),
                    kind: "phase".into(),
                    text: format!("record {i}"),
                    data: serde_json::json!({"n": i}),
                };
                let sealed = seal(i, &previous, record);
                previous.clone_from(&sealed.hash);
                sealed
            })
            .collect()
    }
    fn verify(records: &[ChainedRecord]) -> Result<(), Broken> {
        let mut verifier = Verifier::default();
        records.iter().try_for_each(|r| verifier.check(r))
    }

    #[test]
    fn an_untouched_chain_verifies() {
        assert_eq!(verify(&chain(5)), Ok(()));
    }

    #[test]
    fn every_kind_of_tampering_is_found_at_its_place() {
        let mut changed = chain(5);
        changed[2].record.text = "nothing happened".into();
        assert_eq!(verify(&changed).unwrap_err().number, 3);
        let mut missing = chain(5);
        missing.remove(1);
        assert_eq!(verify(&missing).unwrap_err().number, 3);
        let mut swapped = chain(5);
        swapped.swap(2, 3);
        assert_eq!(verify(&swapped).unwrap_err().number, 4);
        let mut resealed = chain(5);
        let record = Record { text: "nothing happened".into(), ..resealed[2].record.clone() };
        resealed[2] = seal(3, &resealed[1].hash.clone(), record);
        assert_eq!(
            verify(&resealed).unwrap_err().number,
            4,
            "the next record does not follow the forged one"
        );
    }
}
