//! quorate: failover for replicated databases.
//!
//! See → decide → record → act. A room uses only rooms that stand above it in this list
//! (`tests/tidy.rs` keeps it so).

/// Decides who may approve, with signatures.
pub mod access;
/// Acts on a node: votes, probes, drives the resource.
pub mod agent;
/// Records what happened in a hash chain.
pub mod audit;
/// The command line; the only room that knows all others.
pub mod cli;
/// Words: the users' files, validated.
pub mod config;
/// The console: model, update, view.
pub mod console;
/// Decides for one cluster: detector, votes, states, candidates, plans, runs; pure.
pub mod engine;
/// A real cluster on this machine, to try, test and drill on.
pub mod lab;
/// Decides who may write: voter, holder and claim; pure.
pub mod lease;
/// Words: the nouns every room shares.
pub mod model;
/// Says a view in words: clauses with ranks, the same for every window.
pub mod picture;
/// Acts as the control plane: watches, decides, directs.
pub mod plane;
/// A world on a virtual clock that runs the production code, to rehearse and to prove.
pub mod sim;
/// Records survive here: SQLite, or memory.
pub mod store;
/// The wire: envelopes, TLS, feeds; no other room sees protobuf.
pub mod wire;
