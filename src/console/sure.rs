//! The question before a node's vote is taken away: what the rest can bear then, and the node's
//! name, typed.

use super::confirm::{READ_FIRST, READ_FOR};
use crate::model::view::ClusterView;
use crate::model::{NodeId, Timestamp};

/// The question while it is open.
#[derive(Clone, Debug)]
pub struct Sure {
    /// Whose vote it is.
    pub node: NodeId,
    /// In the person's words.
    pub reason: String,
    /// Voters now.
    pub voters: usize,
    /// What was typed.
    pub typed: String,
    /// What the person should know about the last key.
    pub hint: String,
    opened: Timestamp,
}

impl Sure {
    /// Asks about a node of that picture.
    pub fn ask(view: &ClusterView, node: NodeId, reason: String, now: Timestamp) -> Self {
        let (typed, hint) = (String::new(), String::new());
        Self { node, reason, voters: view.voters, typed, hint, opened: now }
    }

    /// What may fail before and after, with a majority left (of an even number no more than of the
    /// odd one below it).
    pub fn may_fail(&self) -> (usize, usize) {
        (self.voters.saturating_sub(1) / 2, self.voters.saturating_sub(2) / 2)
    }

    /// Enter was pressed: whether the name stands there, by somebody who can have read the question.
    ///
    /// # Errors
    /// In words, with nothing asked for.
    pub fn enter(&mut self, now: Timestamp) -> Result<(), String> {
        if self.typed != self.node.as_str() {
            let typed = std::mem::take(&mut self.typed);
            return Err(format!("{typed:?} is not {}", self.node));
        }
        if now < self.opened + READ_FOR {
            return Err(READ_FIRST.into());
        }
        Ok(())
    }
}
