//! quorate: failover for replicated databases.
//!
//! See → decide → record → act. A room uses only rooms that stand above it in this list (`tests/tidy.rs` keeps it so).

/// Words: the nouns every room shares.
pub mod model;
/// Words: the users' files, validated.
pub mod config;
/// Decides who may write: voter, holder and claim, pure.
pub mod lease;
