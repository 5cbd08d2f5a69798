//! Planned stops of a host: a drained node keeps its vote and its copy and is no target, so that
//! its host can be stopped; what is left must be enough without it.

use super::constraints::check;
use super::decision::Making;
use super::{Engine, rules};
use crate::model::NodeId;
use crate::model::command::{Command, Order};
use crate::model::observation::StandbyFacts;
use crate::model::plan::{Candidate, Check};
use crate::model::view::Drained;

/// The check's name.
pub(super) const DRAINED: &str = "drained";

impl Engine {
    /// That the node is no target while it is drained.
    pub(super) fn drained_check(&self, node: &NodeId) -> Option<Check> {
        let drained = self.durable.draining.get(node)?;
        let value = format!("by {} since {}: {}", drained.by, drained.at.clock(), drained.reason);
        let mend = format!("quorate node undrain {node}");
        Some(check(DRAINED, false, value, "no", mend))
    }

    /// What is said of the node, and that it is drained.
    pub(super) fn with_draining(&self, node: &NodeId, why: &str) -> String {
        let Some(drained) = self.durable.draining.get(node) else { return why.to_owned() };
        let Drained { by, at, reason } = drained;
        let said = format!("drained by {by} since {}: {reason}", at.clock());
        if why.is_empty() { said } else { format!("{said}; {why}") }
    }

    /// Whether the host of this node could be stopped: the role is elsewhere, and the others are
    /// enough to vote and to confirm commits.
    ///
    /// # Errors
    /// The check that failed, and why in words.
    pub fn would_drain(&self, node: &NodeId, drain: bool) -> Result<(), (String, String)> {
        let refuse = |check: &str, why: String| Err((check.to_owned(), why));
        if self.cluster.node(node).is_none() {
            return refuse("cluster file", format!("{node} is not declared in the cluster file"));
        }
        if !drain {
            return match self.durable.draining.get(node) {
                Some(_) => Ok(()),
                None => refuse(DRAINED, format!("{node} is not drained")),
            };
        }
        if let Some(run) = &self.durable.run {
            return refuse("one run at a time", format!("plan {} runs", run.digest.short()));
        }
        if self.shares_traffic() {
            let why = "several nodes accept writes here: move its share away with quorate evacuate";
            return refuse("several writers", why.into());
        }
        let Some(primary) = self.primary() else {
            return refuse("holder", "no node that is heard holds the write role".into());
        };
        if primary == *node {
            let why =
                format!("{node} holds the write role: a switchover moves it first; then drain it");
            return refuse("role", why);
        }
        // One that took the role all the same is not away.
        let gone = |n: &NodeId| n == node || self.durable.draining.contains_key(n) && *n != primary;
        let (version, voters) = self.voter_set();
        let left = self.said().filter(|r| {
            let votes = r.vote.votes && r.vote.voters_version == version;
            votes && self.in_reach(&r.member.node) && !gone(&r.member.node)
        });
        let (left, quorum) = (left.count(), self.quorum());
        if left < quorum {
            return refuse(
                "quorum",
                format!("{left} of {voters} voters would be in reach, and {quorum} are needed"),
            );
        }
        let report = self.said().find(|r| r.member.node == primary);
        let Some((report, holding)) = report.and_then(|r| Some((r, r.holding.as_ref()?))) else {
            return refuse("holder", format!("{primary} is not heard as the holder"));
        };
        let confirms = |n: &NodeId| {
            let streams = |s: &StandbyFacts| s.node == *n && s.streams();
            report.resource.standbys.iter().any(streams) && !gone(n)
        };
        let confirming = holding.sync.members.iter().filter(|m| confirms(&m.node)).count();
        if confirming < holding.sync.k {
            return refuse(
                "synchronous standbys",
                format!(
                    "commits wait for {} standbys, and {confirming} that stream would be left: \
                     they would wait until {node} is back; lower synchronous_standbys first, or \
                     mend the others",
                    holding.sync.k
                ),
            );
        }
        Ok(())
    }

    /// A person's order to drain a node, or that it is back.
    pub(super) fn drain(
        &mut self,
        making: &mut Making,
        who: &str,
        node: NodeId,
        why: Option<String>,
    ) {
        if let Err((check, why)) = self.would_drain(&node, why.is_some()) {
            self.refusal = format!("{check}: {why}");
            return;
        }
        let (rule, what) = match &why {
            Some(why) => (rules::DRAINED, format!("drains {node}: {why}")),
            None => (rules::UNDRAINED, format!("{node} is drained no more")),
        };
        match why {
            Some(reason) => {
                let drained = Drained { by: who.to_owned(), at: self.wall, reason };
                self.durable.draining.insert(node.clone(), drained);
            }
            None => _ = self.durable.draining.remove(&node),
        }
        let primary = self.primary();
        let other = |c: &Candidate| c.eligible && !self.durable.draining.contains_key(&c.node);
        let alone = !self.candidates(primary.as_ref()).iter().any(other);
        let warns = if rule == rules::DRAINED && alone {
            "; nobody else could take the role while it is away"
        } else {
            ""
        };
        let text = format!("{who}: {what}{warns}");
        self.note(making, rule, who, node.as_str(), text, serde_json::Value::Null);
    }

    /// A person's order to restart a standby's server: where its host could be stopped.
    pub(super) fn restart(&mut self, making: &mut Making, who: &str, node: NodeId, reason: &str) {
        if let Err((check, why)) = self.would_drain(&node, true) {
            self.refusal = format!("{check}: {why}");
            return;
        }
        let text = format!("{who} has the server of {node} restarted: {reason}");
        let nothing = serde_json::Value::Null;
        self.note(making, rules::RESTARTED, who, "command", text, nothing);
        let (cluster, epoch) = (&self.cluster.cluster_id, self.durable.epoch);
        let id = format!("{cluster}/{epoch}/restart/{}", self.now.0);
        making.command(node, Command { id, order: Order::Restart });
    }
}
