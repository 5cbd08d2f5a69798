//! quorate: failover for replicated databases.
//!
//! See → decide → record → act. A room uses only rooms that stand above it in this list (`tests/tidy.rs` keeps it so).

/// Words: the nouns every room shares.
pub mod model;
/// Words: the users' files, validated.
pub mod config;
/// Decides who may write: voter, holder and claim, pure.
pub mod lease;
/// Decides for one cluster: detector, quorum, states, plans, verification; pure.
pub mod engine;
/// Decides who may approve, with signatures.
pub mod access;
/// Records what happened in a hash chain.
pub mod audit;
/// Records survive here: SQLite, or memory.
pub mod store;
/// The wire: envelopes, TLS, feeds.
pub mod wire;
/// Acts on a node: votes, probes, drives the resource.
pub mod agent;
/// Acts as the control plane: watches, decides, directs.
pub mod plane;
/// A real cluster on this machine, to try and to test.
pub mod lab;
/// The console: model, update, view.
pub mod console;
/// The command line.
pub mod cli;
