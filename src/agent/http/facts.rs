//! What routers are told of a node, as its agent's loop left it.

use std::sync::Arc;

use crate::agent::machine::{Goal, Machine};
use crate::config::AgentConfig;
use crate::lease::Holder;
use crate::model::observation::{NodeReport, ResourceFacts, ResourceState};
use crate::model::{Epoch, NodeId, Position, Span, Timestamp};

/// What one node is, as its agent's loop left it.
#[derive(Clone, Debug, Default)]
pub struct RouterFacts {
    /// Which node.
    pub node: Arc<str>,
    /// Of which cluster.
    pub cluster: Arc<str>,
    /// When the loop turned last.
    pub at: Timestamp,
    /// It turns at least so often, or it stands still.
    pub turns_within: Span,
    /// When its database was looked at last.
    pub looked: Timestamp,
    /// The newest epoch that its voter knows.
    pub epoch: Epoch,
    /// Until when it may acknowledge writes; `None`: it may not, or is to stop.
    pub held_until: Option<Timestamp>,
    /// Its database was writable at the last look.
    pub writable: bool,
    /// Its database is a standby.
    pub standby: bool,
    /// What its database does, in a word.
    pub state: &'static str,
    /// Whose log it receives.
    pub follows: Option<NodeId>,
    /// Commits may wait for it: it is in every synchronous set in force, and receives.
    pub synchronous: bool,
    /// Up to where it replayed.
    pub replayed: Position,
    /// Where the holder of the newest epoch was, and when it said so.
    pub ahead: Option<(Position, Timestamp)>,
}

impl RouterFacts {
    /// Of a node of which nothing is known yet.
    pub(in crate::agent) fn new(config: &AgentConfig) -> Self {
        Self {
            node: config.node.node_id.as_str().into(),
            cluster: config.cluster.cluster_id.as_str().into(),
            turns_within: Span::secs(5).max(Span(config.heartbeat.0 * 3)),
            ..Self::default()
        }
    }

    /// A peer says what it is: the holder's word on where it is is kept.
    pub(in crate::agent) fn hear(&mut self, now: Timestamp, report: &NodeReport) {
        if report.holding.as_ref().is_some_and(|h| h.epoch >= self.epoch) {
            self.ahead = Some((report.resource.position, now));
        }
    }

    /// The loop turned.
    pub(in crate::agent) fn turned(
        &mut self,
        now: Timestamp,
        machine: &Machine,
        found: &ResourceFacts,
    ) {
        let record = machine.record();
        self.at = now;
        self.epoch = record.epoch;
        // From the moment that it is to stop nobody is sent here any more.
        let may_write = matches!(machine.goal(), Goal::Primary { .. });
        let held = machine.tenure().held(now).filter(|_| may_write);
        self.held_until = held.and_then(Holder::held_until);
        self.writable = found.state == ResourceState::Primary;
        self.standby = found.state == ResourceState::Standby;
        self.state = found.state.word();
        self.follows.clone_from(&found.receiving_from);
        self.synchronous = record.last_won().is_some_and(|won| {
            let waits = |set: &crate::model::SyncSet| set.k > 0 && set.members.contains(&record.me);
            let sets = &won.sync.sets;
            self.follows.as_ref() == Some(&won.holder.node)
                && !sets.is_empty()
                && sets.iter().all(waits)
        });
        self.replayed = Position { lsn: found.replayed, ..found.position };
    }
}
