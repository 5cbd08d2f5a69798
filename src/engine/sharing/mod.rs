//! Clusters in which several nodes accept writes (active-active, hybrid): who carries which share
//! of the traffic, and what is done when one cannot. There is no lease and no fence here; what two
//! nodes accept is settled by the conflict policy.

mod distribute;
mod plan;
mod run;

pub(super) use plan::words;

use super::detector::Silence;
use super::health;
use super::mind::NodeMind;
use super::{Engine, Verdict};
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::outlook::{Gain, Then};
use crate::model::share::{Pattern, Shares};
use crate::model::topology::Node;
use crate::model::view::ClusterState;
use crate::model::{NodeId, Span};

/// A plan for one node's share waits at most so long for the verdict about others that fell silent
/// with it.
pub(super) const GATHER_MAX: Span = Span::millis(800);
/// Whoever was away takes the shares in force from its peers within this; longer apart, and none
/// may be in force.
pub(super) const APART_MAX: Span = Span::secs(3);
/// Whoever speaks and took no shares, from the plane or from a peer, for so long after the first
/// order cannot be reached.
pub(super) const DEAF_AFTER: Span = Span::secs(5);
/// It is ordered again after this.
pub(super) const DEAF_RETRY: Span = Span::secs(60);
/// Load is looked at for so long after a change: the routers need a moment to follow, and it is
/// measured over seconds.
pub(super) const KEEP_FOR: Span = Span::secs(3);

/// What a node can carry, in whole units.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the configuration bounds it to 0 to 1e9"
)]
pub(super) fn units_of(node: &Node) -> u64 {
    node.capacity as u64
}

impl Engine {
    /// Several nodes accept writes.
    pub(super) fn shares_traffic(&self) -> bool {
        self.cluster.pattern.has_several_writers()
    }

    /// The shares in force, as far as this plane knows.
    pub(super) fn shares(&self) -> Shares {
        let none = || Shares {
            epoch: self.durable.epoch,
            plan: None,
            of: std::collections::BTreeMap::new(),
        };
        self.durable.shares.clone().or_else(|| self.cluster.declared_shares()).unwrap_or_else(none)
    }

    /// One node's part of them.
    pub(super) fn units(&self, node: &NodeId) -> u64 {
        match &self.durable.shares {
            Some(shares) => shares.of.get(node).copied().unwrap_or(0),
            None => self.cluster.node(node).map_or(0, |n| n.share),
        }
    }

    /// The load that people declared.
    pub(super) fn demand(&self) -> u64 {
        self.cluster.data_nodes().map(|n| n.share).sum()
    }

    /// Its agent is heard as usual, whatever its database does: an order should get there.
    pub(super) fn in_reach(&self, node: &NodeId) -> bool {
        let heard = |m: &NodeMind| {
            m.age(self.now).is_some_and(|a| a < Span::secs(2))
                && m.detector.silence(self.now) <= Silence::None
        };
        self.nodes.get(node).is_some_and(heard)
    }

    /// How long it has taken none of the shares that it was ordered to, once that is too long for a
    /// node that orders reach; and whether it is tried again now. Once a minute it is: perhaps its
    /// link is back, and nobody else is left to tell it.
    pub(super) fn deaf_for(&self, node: &NodeId) -> Option<(Span, bool)> {
        let since = self.nodes.get(node)?.ordered_since?;
        let deaf = Some(self.now.since(since)).filter(|behind| *behind >= DEAF_AFTER)?;
        Some((deaf, deaf.0 % DEAF_RETRY.0 >= DEAF_RETRY.0 - DEAF_AFTER.0))
    }

    /// A node that accepts writes now, by its own fresh word.
    pub(super) fn accepts(&self, node: &NodeId) -> Option<&NodeReport> {
        let mind = self.nodes.get(node)?;
        let fresh = mind.verdict <= Verdict::Degraded
            && mind.age(self.now).is_some_and(|age| age < Span::secs(2));
        mind.report.as_ref().filter(|r| fresh && r.resource.state == ResourceState::Primary)
    }

    /// The newest shares that any agent keeps; of several with one number, those that most keep.
    pub(super) fn judge_shares(&mut self) {
        let all = || {
            self.nodes.values().filter_map(|m| m.report.as_ref()).filter_map(|r| r.shares.as_ref())
        };
        let count = |shares: &Shares| all().filter(|s| *s == shares).count();
        let newest = all()
            .max_by_key(|s| (s.epoch, count(s), s.plan.as_ref().map(|d| d.as_str().to_owned())))
            .cloned();
        let Some(newest) = newest.filter(|s| s.epoch >= self.durable.epoch) else { return };
        if newest.epoch > self.durable.epoch {
            self.low_since = None;
            self.refusal.clear();
            self.given_up.clear();
        }
        self.durable.epoch = newest.epoch;
        self.started_calm |= newest
            .of
            .iter()
            .filter(|(_, units)| **units > 0)
            .all(|(node, _)| self.accepts(node).is_some());
        let same =
            |m: &NodeMind| m.report.as_ref().is_some_and(|r| r.shares.as_ref() == Some(&newest));
        let heard: Vec<NodeId> = self.nodes.keys().filter(|n| self.in_reach(n)).cloned().collect();
        for (node, mind) in &mut self.nodes {
            if same(mind) || !heard.contains(node) {
                mind.ordered_since = None;
            }
        }
        // Peers pass on what a majority keeps; what fewer keep only an order brings, also to one
        // that took none so far.
        let passed_on = heard.iter().filter(|n| same(&self.nodes[*n])).count() >= self.quorum();
        let given_up = |n: &NodeId| passed_on && self.deaf_for(n).is_some_and(|(_, again)| !again);
        let apart = heard.iter().any(|n| !same(&self.nodes[n]) && !given_up(n));
        self.apart_since = if apart { self.apart_since.or(Some(self.now)) } else { None };
        self.durable.shares = Some(newest);
    }

    /// Agents keep different shares, and have had the time to take what a majority keeps.
    pub(super) fn are_shares_apart(&self) -> bool {
        self.apart_since.is_some_and(|since| self.now.since(since) >= APART_MAX)
    }

    /// The node to worry about most among those with a share: failed before suspect before unwell.
    pub(super) fn most_unwell(&self) -> Option<NodeId> {
        let shares = self.shares();
        let worry = |node: &NodeId| {
            let mind = &self.nodes[node];
            let rank = match mind.verdict {
                Verdict::Failed => 0,
                Verdict::Suspect => 1,
                Verdict::Degraded | Verdict::Healthy => 2,
                Verdict::Unknown => 3,
            };
            (rank, health::score(mind, &self.policy, self.now), u64::MAX - self.units(node))
        };
        let serving =
            shares.of.iter().filter(|(node, units)| **units > 0 && self.nodes.contains_key(*node));
        serving.map(|(node, _)| node).min_by_key(|node| worry(node)).cloned()
    }

    /// Load is refused although others could carry it, and nobody with a share is in doubt.
    pub(super) fn refuses_needlessly(&self) -> bool {
        if !self.shares_traffic() || self.durable.shares.is_none() {
            return false;
        }
        let shares = self.shares();
        let carried: u64 = shares.of.values().sum();
        let settled = |n: &NodeId| {
            self.nodes
                .get(n)
                .is_some_and(|m| m.verdict <= Verdict::Degraded && m.verdict != Verdict::Unknown)
        };
        carried < self.demand()
            && shares.of.iter().filter(|(_, units)| **units > 0).all(|(n, _)| settled(n))
            && self.demand() - carried > self.without(&[]).shed
    }

    /// Everybody who has to is as declared.
    pub(super) fn is_as_declared(&self) -> bool {
        self.cluster.data_nodes().all(|n| self.units(&n.node_id) == n.share)
    }

    pub(super) fn conclude_sharing(&self) -> (ClusterState, String) {
        let shares = self.shares();
        let carried: u64 = shares
            .of
            .iter()
            .filter(|(node, _)| self.accepts(node).is_some())
            .map(|(_, units)| units)
            .sum();
        let demand = self.demand();
        if carried == 0 {
            return (ClusterState::Critical, "no node with a share accepts writes".into());
        }
        let mut wrong: Vec<String> = vec![];
        if carried < demand {
            wrong.push(format!("{carried} of {demand} units of the load are carried"));
        }
        let heard = self
            .nodes
            .values()
            .filter(|m| m.age(self.now).is_some_and(|a| a < Span::secs(2)))
            .count();
        if heard < self.quorum() {
            wrong.push(format!(
                "{heard} of {} agents are heard: shares cannot change",
                self.nodes.len()
            ));
        }
        let unwell = self.nodes.iter().filter(|(_, m)| m.verdict != Verdict::Healthy);
        wrong.extend(unwell.map(|(n, m)| format!("{n} {}", m.verdict.word())));
        if self.are_shares_apart() {
            wrong.push("agents keep different shares".into());
        }
        if wrong.is_empty() && !self.is_as_declared() {
            wrong.push(format!("shares of epoch {} are not the declared ones", shares.epoch));
        }
        if wrong.is_empty() {
            (
                ClusterState::Healthy,
                format!(
                    "every node is healthy and {demand} of {demand} units of the load are carried"
                ),
            )
        } else {
            (ClusterState::Degraded, wrong.join(", "))
        }
    }

    /// Who would carry what this node carries.
    pub(super) fn shared_without(&self, node: &NodeId) -> Then {
        let distribution = self.without(std::slice::from_ref(node));
        let before = self.shares();
        let gain = |(other, after): (&NodeId, &u64)| {
            let had = before.of.get(other).copied().unwrap_or(0);
            let promoted = had == 0 && self.cluster.pattern == Pattern::Hybrid;
            let gain = Gain { node: other.clone(), before: had, after: *after, promoted };
            (*after > had).then_some(gain)
        };
        Then::Shared {
            gains: distribution.of.iter().filter_map(gain).collect(),
            shed: distribution.shed,
        }
    }
}
