//! Who sees a node: the plane by its heartbeats, every other agent by its own probes, and every
//! replica by the log it still receives. A replica that receives is a witness that its primary
//! lives, whatever else is silent.

use std::collections::BTreeMap;

use super::detector::Silence;
use super::mind::NodeMind;
use crate::model::topology::Cluster;
use crate::model::{NodeId, Span, Timestamp};

/// A probe's answer older than this, or than two and a half of the observer's own heartbeats (one
/// goes out with each), says nothing about now.
const PROBE_STALE: Span = Span::millis(700);
/// Log older than this says nothing about now.
const LOG_STALE: Span = Span::millis(1_500);
/// An observer whose own report is older than this has no vote.
const OBSERVER_STALE: Span = Span::millis(1_500);

impl super::Engine {
    /// Who finds that the host of `node` answers and no agent listens there, by a fresh word.
    pub(super) fn closed_to(&self, node: &NodeId) -> Vec<NodeId> {
        let says = |mind: &NodeMind| {
            let fresh = mind.age(self.now).is_some_and(|age| age <= OBSERVER_STALE);
            fresh
                && mind
                    .report
                    .as_ref()
                    .is_some_and(|r| r.peers.iter().any(|p| p.node == *node && p.closed))
        };
        self.nodes.iter().filter(|(_, mind)| says(mind)).map(|(n, _)| n.clone()).collect()
    }
}

/// The votes about `node`: (observer, sees it). Observers without fresh word have no vote.
pub(super) fn votes(
    cluster: &Cluster,
    nodes: &BTreeMap<NodeId, NodeMind>,
    node: &NodeId,
    now: Timestamp,
) -> Vec<(NodeId, bool)> {
    let own = &nodes[node];
    let plane_sees = match own.detector.silence(now) {
        Silence::None => true,
        Silence::Unknown => own.age(now).is_some_and(|age| age < OBSERVER_STALE),
        Silence::Suspect | Silence::Failed => false,
    };
    let mut votes = vec![(NodeId::new("plane"), plane_sees)];
    for observer in cluster.nodes.iter().filter(|n| n.node_id != *node) {
        let mind = &nodes[&observer.node_id];
        let Some((report, age)) = mind.report.as_ref().zip(mind.age(now)) else { continue };
        if age > OBSERVER_STALE.max(Span(mind.detector.interval().unwrap_or_default().0 * 3)) {
            continue;
        }
        // What it said has aged since.
        let fresh = |then: Option<Span>, limit: Span| then.is_some_and(|t| t + age < limit);
        let probe = report.peers.iter().find(|p| p.node == *node);
        let pace = mind.detector.interval().unwrap_or_default();
        let stale = PROBE_STALE.max(Span(pace.0 * 5 / 2));
        let answers = probe.is_some_and(|p| fresh(p.answered, stale));
        let receives = report.resource.receiving_from.as_ref() == Some(node)
            && fresh(report.resource.upstream_age, LOG_STALE);
        votes.push((observer.node_id.clone(), answers || receives));
    }
    votes
}
