//! The lab: a real cluster on this machine in one folder, to try, test and drill on. Every process
//! is the real program; traffic between nodes goes through a proxy that can be cut.
//!
//! Deliberately absent: any way to reach into an agent or a plane that production does not have.

mod certificates;
mod client;
mod floor;
mod layout;
pub mod load;
pub mod measure;
pub mod net;
mod process;
mod world;

pub use client::Target;
pub use layout::{Options, User};
pub use world::{Lab, LabError, NodeState, State, What};
