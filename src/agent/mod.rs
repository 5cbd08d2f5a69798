//! The agent: the process on a node; a voter, a prober, and the only thing that touches a resource.
//!
//! `machine` is pure and decides: vote, hold, claim, release, what the resource shall be. `runtime`
//! turns its effects into the world and the world into its inputs. `adapter` drives one engine
//! each. `guard` is a tiny process that kills the resource when nobody told it in time that the
//! lease was extended.

pub mod adapter;
pub mod beside;
pub mod copies;
mod deadline;
pub mod fence;
pub mod guard;
pub mod host;
pub mod http;
pub mod keeper;
pub mod machine;
pub mod ours;
pub mod peers;
pub mod record;
pub mod rooms;
pub mod runtime;
pub mod server;
