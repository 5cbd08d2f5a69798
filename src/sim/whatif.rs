//! From the picture of a living cluster to a simulated one in the same state: who holds the role,
//! who is down, how fast heartbeats come, how far messages travel, how long disks and promotions
//! take. Standbys begin without lag.

use super::run::Stand;
use super::scenario::Scenario;
use super::world::{Conditions, World};
use super::{Fault, Whom};
use crate::model::topology::{Cluster, Policy, Role};
use crate::model::view::{ClusterView, NodeView, Verdict};
use crate::model::{NodeId, Span};

/// A message takes at least so long; less cannot be measured through a probe.
const DELAY_LEAST: Span = Span(50_000);

/// What was measured, where it was; the defaults elsewhere.
pub fn conditions(cluster: &Cluster, view: &ClusterView) -> Conditions {
    let plain = Conditions::default();
    let heartbeat = view.nodes.iter().filter_map(|n| n.interval).min().unwrap_or(plain.heartbeat);
    let region = |node: &NodeId| cluster.node(node).map(|n| n.region.as_str());
    let trips = view.nodes.iter().filter_map(|n| n.report.as_ref()).flat_map(|r| {
        r.peers
            .iter()
            .filter_map(move |p| Some((region(&r.member.node) == region(&p.node), p.round_trip?)))
    });
    let (mut near, mut far) = (vec![], vec![]);
    for (same, trip) in trips {
        (if same { &mut near } else { &mut far }).push(Span(trip.0 / 2).max(DELAY_LEAST));
    }
    let median = |mut list: Vec<Span>, plain: Span| {
        list.sort_unstable();
        list.get(list.len() / 2).copied().unwrap_or(plain)
    };
    let deep = |n: &NodeView| {
        let layer = n.health.as_ref()?.layers.iter().find(|l| l.name == "deep")?;
        Some((n.node.clone(), layer.p50))
    };
    let promoted = view
        .run
        .as_ref()
        .and_then(|r| r.steps.iter().find(|s| s.kind == crate::model::plan::StepKind::Promote))
        .and_then(|s| s.took);
    let promotion = promoted
        .filter(|t| *t > Span::ZERO)
        .map_or(plain.promotion, |t| (Span(t.0 / 2), Span(t.0 * 3 / 2)));
    // A standby confirms as late as the primary measures it, whatever it is that keeps it.
    let mut flush: std::collections::BTreeMap<NodeId, Span> =
        view.nodes.iter().filter_map(deep).collect();
    let primary = view
        .nodes
        .iter()
        .find(|n| Some(&n.node) == view.primary.as_ref())
        .and_then(|n| n.report.as_ref());
    for standby in primary.iter().flat_map(|r| &r.resource.standbys) {
        if let Some(lag) = standby.lag {
            let known = flush.entry(standby.node.clone()).or_default();
            *known = (*known).max(lag);
        }
    }
    Conditions {
        heartbeat,
        flush,
        delay_near: median(near, plain.delay_near),
        delay_far: median(far, plain.delay_far),
        promotion,
        begins: view.made,
        ..plain
    }
}

/// A simulated cluster in the state of this picture.
pub fn stand(cluster: &Cluster, policy: &Policy, view: &ClusterView) -> Stand {
    let conditions = conditions(cluster, view);
    let index =
        view.primary.as_ref().and_then(|p| cluster.nodes.iter().position(|n| n.node_id == *p));
    let index =
        index.or_else(|| cluster.nodes.iter().position(|n| n.role == Role::Primary)).unwrap_or(0);
    let mut world = World::formed_under(cluster, policy, &conditions, 1, index, view.epoch);
    for node in
        view.nodes.iter().filter(|n| n.verdict == Verdict::Failed || n.heartbeat_age.is_none())
    {
        world.inject(&Fault::PowerOff(vec![Whom::Node(node.node.clone())]));
    }
    Stand::from(world, false)
}

fn scenario(name: &str, fault: Fault) -> Scenario {
    Scenario {
        name: name.into(),
        story: String::new(),
        run_for: None,
        person_confirms_after: None,
        needs: vec![],
        events: vec![(Span::ZERO, fault)],
        expect: vec![],
        waived: vec![],
    }
}

/// The primary's database is killed.
pub fn process_dies() -> Scenario {
    scenario("if the primary died now", Fault::KillDatabase(vec![Whom::Primary]))
}

/// Its whole host loses its power.
pub fn host_dies() -> Scenario {
    scenario("if the primary's host died now", Fault::PowerOff(vec![Whom::Primary]))
}
