//! From a view to words: what a window says, as clauses with ranks, the same for the console and
//! the command line.
//!
//! `said` is text that no function can cut by letters: where room is short, whole clauses of low
//! rank go, and how many is said. `number` writes lengths of time and amounts. `band` answers, in
//! three or four lines, what is wrong, what happens next and when, and what it costs, with the
//! sentences of `outlook`; `ways` lists what a person may do. `rail` places the move of the write role; `summary` is a cluster in one
//! row, with its rank for attention.
//!
//! Deliberately absent: colours, keys, a terminal, and any conclusion of its own: what is not known
//! to the engine is not known here.

pub mod band;
pub mod number;
pub mod outlook;
pub mod rail;
mod said;
pub mod summary;
pub mod ways;

pub use said::{Gauge, Ink, Said, line_of, wrap_words};

/// What is said wherever simulated databases are shown: what they are, and what brings real ones.
pub const SIMULATED: &str = "simulated databases; real ones need: apt-get install postgresql";

#[cfg(test)]
mod tests;
