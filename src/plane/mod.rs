//! The control plane: watches, decides, plans, asks for approval, directs. It proposes; it never
//! owns the write role.
//!
//! `runtime` is the loop: one input, one decision, made durable, then released. `server` is the
//! door: identities are checked there. It may die at any moment: what was decided is in the store,
//! what is under way is in the agents.

pub mod runtime;
mod server;
mod whatif;
