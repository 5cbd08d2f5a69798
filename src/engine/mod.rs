//! One cluster's brain.

pub mod picture;

use crate::model::Timestamp;

/// Proof that the records of one decision are durable. The store's receipt is the only one.
pub trait Durable {
    /// The moment of the decision that was made durable.
    fn at(&self) -> Timestamp;
}
