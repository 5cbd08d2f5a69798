//! A world to rehearse in: hosts, network, disks, databases, clients, agents and planes on a
//! virtual clock, from one seed.
//!
//! It runs the production code — the plane's `engine`, the agent's `machine`, the voters' `lease` —
//! and stands in only for what surrounds it. An oracle that nobody in the world sees checks what
//! clients were told.
//!
//! Not modelled: what a query costs, how long a backup takes, the order of writes within one flush.
//! Databases keep a log of numbered writes; times of disks, links and promotions are parameters
//! ([`crate::sim::Conditions`]).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod adapter;
pub mod chaos;
mod database;
mod exits;
mod fault;
pub mod fleet;
pub mod forecast;
mod guard;
mod hands;
mod host;
mod laws;
pub mod needs;
mod net;
mod node;
mod oracle;
mod plane;
mod queue;
mod random;
pub mod run;
pub mod scenario;
mod sharing;
pub mod sharing_day;
mod stream;
pub mod unattended;
pub mod whatif;
mod world;
mod written;

#[cfg(test)]
mod tests;

pub use exits::Walked;
pub use fault::{Fault, Membership, Whom};
pub use hands::{Replacement, Setting};
pub use oracle::Violation;
pub use run::{Outcome, Stand, run};
pub use scenario::Scenario;
pub use world::{Conditions, Fact, World};
