//! The picture an agent can give when there is no plane: what it and its peers report, with ages,
//! and no conclusions beyond what the voters' own promises prove.

use super::ways::{list, mend, way};
use crate::model::observation::{NodeReport, ResourceFacts, ResourceState};
use crate::model::outlook::{Death, IfDied, Next, Outlook, Then};
use crate::model::record::ChainVerdict;
use crate::model::topology::{Cluster, Policy, Role, Strategy};
use crate::model::view::{
    Act, ClusterState, ClusterView, Maker, NodeView, Owner, PhaseView, Verdict, WayOut,
};
use crate::model::{Epoch, NodeId, Span, WallTime};

/// A report and how old it is.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The report.
    pub report: NodeReport,
    /// Its age.
    pub age: Span,
}

/// Reports older than this say nothing about now.
pub const STALE: Span = Span::secs(3);

/// An agent's picture of its cluster.
pub fn from_agents(
    cluster: &Cluster,
    policy: &Policy,
    me: &NodeId,
    heard: &[Heard],
    made: WallTime,
) -> ClusterView {
    let fresh =
        |node: &NodeId| heard.iter().find(|h| h.report.member.node == *node && h.age < STALE);
    let holder = heard
        .iter()
        .filter(|h| h.age < STALE)
        .filter_map(|h| h.report.holding.as_ref().map(|l| (l.epoch, &h.report)))
        .max_by_key(|(e, _)| *e);
    let primary = holder.map(|(_, report)| report);
    let end = primary.map(|p| p.resource.position);
    let nodes = cluster
        .nodes
        .iter()
        .map(|node| {
            let any = heard.iter().find(|h| h.report.member.node == node.node_id);
            let report = any.map(|h| h.report.clone());
            let is_primary = primary.is_some_and(|p| p.member.node == node.node_id);
            let role = match node.role {
                Role::Witness => Role::Witness,
                _ if is_primary => Role::Primary,
                Role::Primary | Role::Secondary => Role::Secondary,
            };
            let (verdict, why) = match (fresh(&node.node_id), any) {
                (Some(h), _) => own_word(&h.report),
                (None, Some(h)) => (
                    Verdict::Unknown,
                    format!("last heard {} ago; an agent concludes nothing", h.age),
                ),
                (None, None) => (Verdict::Unknown, "never heard".into()),
            };
            let lag = end.zip(report.as_ref()).filter(|_| !is_primary).and_then(|(end, r)| {
                (r.resource.position.timeline == end.timeline)
                    .then(|| end.lsn.bytes_since(r.resource.position.lsn))
            });
            NodeView {
                node: node.node_id.clone(),
                declared: node.role,
                role,
                place: format!("{}/{}", node.region, node.site),
                verdict,
                why,
                phi_milli: 0,
                heartbeat_age: any.map(|h| h.age),
                votes: vec![],
                closed: vec![],
                lag_bytes: lag.filter(|_| node.role != Role::Witness),
                replay_lag_bytes: primary
                    .zip(report.as_ref())
                    .and_then(|(p, r)| r.replay_lag_behind(p))
                    .filter(|_| role == Role::Secondary),
                lag: None,
                lag_history: vec![],
                interval: None,
                health: None,
                share: report
                    .as_ref()
                    .and_then(|r| r.shares.as_ref())
                    .and_then(|s| s.of.get(&node.node_id).copied()),
                capacity: None,
                drained: None,
                report,
            }
        })
        .collect();
    let epoch = heard.iter().map(|h| h.report.vote.epoch).max().unwrap_or(Epoch(0));
    let state = if primary.is_some() { ClusterState::Degraded } else { ClusterState::Unknown };
    let why = match primary {
        Some(p) => format!(
            "{} holds the write lease; there is no plane, so nothing fails over by itself",
            p.member.node
        ),
        None => "no agent in reach holds the write lease; there is no plane".to_owned(),
    };
    ClusterView {
        cluster: cluster.cluster_id.clone(),
        name: cluster.name.clone(),
        environment: cluster.environment.clone(),
        simulated: heard.iter().any(|h| h.report.resource.is_simulated()),
        source: Maker::Agent(me.clone()),
        made,
        state,
        why,
        phase: PhaseView {
            owner: Owner::NoPlane,
            ways_out: ways_out(primary, heard, cluster, policy.strategy),
            ..PhaseView::default()
        },
        epoch,
        primary: primary.map(|p| p.member.node.clone()),
        last_primary: last_holder(heard),
        votes: primary.and_then(|p| p.holding.as_ref()).map_or(0, |h| h.promised_by.len()),
        voters: cluster.nodes.len(),
        quorum: cluster.quorum_size,
        strategy: Some(policy.strategy),
        rpo_bytes: policy.max_loss_bytes.max(policy.max_lag_bytes),
        rto: policy.max_failover_time,
        nodes,
        plan: None,
        run: None,
        outlook: Outlook {
            next: Next::NoPlane { held: primary.is_some() },
            if_primary_died: primary
                .map(|p| p.member.node.clone())
                .or_else(|| last_holder(heard))
                .map_or(IfDied::NotSaid, |node| {
                    let takes_back = policy.strategy != Strategy::Manual;
                    IfDied::Judged(Box::new(Death {
                        node,
                        failed: primary.is_none(),
                        then: Then::NoPlane { takes_back },
                        fatal_host: None,
                    }))
                }),
            ..Outlook::default()
        },
        records: vec![],
        record_count: 0,
        chain: ChainVerdict::Elsewhere,
    }
}

/// By the newest epoch that a voter saw won.
fn last_holder(heard: &[Heard]) -> Option<NodeId> {
    let votes = heard.iter().map(|h| &h.report.vote).filter(|v| v.won);
    let newest = votes.max_by_key(|v| v.epoch)?;
    newest.holder.as_ref().map(|h| h.node.clone())
}

/// What hands can do where no plane takes an order.
fn ways_out(
    primary: Option<&NodeReport>,
    heard: &[Heard],
    cluster: &Cluster,
    strategy: Strategy,
) -> Vec<WayOut> {
    let mut ways = vec![mend(
        None,
        "start the plane on its host (systemctl start quorate-plane), or mend the network to it: \
         only a plane fails over, and takes a person's order",
    )];
    if primary.is_some() {
        return ways;
    }
    let speaks = |n: &NodeId| heard.iter().any(|h| h.report.member.node == *n && h.age < STALE);
    let all = cluster.nodes.iter().map(|n| &n.node_id);
    let nodes: Vec<NodeId> = all.filter(|n| !speaks(n)).cloned().collect();
    if !nodes.is_empty() {
        let then = match strategy {
            Strategy::Manual => "a plane asks a person then who takes the role",
            Strategy::Automatic | Strategy::QuorumBased => {
                "who held the role last tries to take it back by itself once a majority of voters \
                 is in reach"
            }
        };
        let text = format!(
            "start the host or the agent of {}, or mend the network to it: {then}",
            list(&nodes)
        );
        ways.push(way(Act::Start { nodes }, text));
    }
    ways
}

/// What a node's own report says of it.
pub fn own_word(report: &NodeReport) -> (Verdict, String) {
    let resource = &report.resource;
    if !report.beside.is_empty() {
        let why = format!("its PostgreSQL is not owned yet ({})", report.beside);
        return (Verdict::Degraded, why);
    }
    if let Some(fault) = &report.data_fault
        && !matches!(resource.state, ResourceState::Stopped(_))
    {
        return (Verdict::Degraded, fault.to_string());
    }
    let unreadable = resource.serving.as_ref().map(|s| &s.unreadable).filter(|u| !u.is_empty());
    let unreadable = unreadable.cloned();
    let held = held(resource);
    match &resource.state {
        ResourceState::Stopped(evidence) if evidence.is_of_nothing() => {
            (Verdict::Degraded, "empty, never copied".into())
        }
        ResourceState::Stopped(evidence) => {
            (Verdict::Failed, format!("its database is stopped ({})", evidence.how))
        }
        ResourceState::Hung => {
            (Verdict::Suspect, format!("its database hangs: {}", resource.trouble))
        }
        ResourceState::Unknown => (Verdict::Unknown, "not looked at yet".into()),
        ResourceState::Starting | ResourceState::Rebuilding => {
            let now = or(&resource.trouble, resource.state.word());
            let failed = resource.setback.as_ref().map(|s| &s.what).filter(|what| **what != now);
            let why = failed.map_or(now.clone(), |what| format!("{now}; before that: {what}"));
            (Verdict::Degraded, why)
        }
        ResourceState::Standby | ResourceState::Primary if report.shares.is_some() => {
            (Verdict::Healthy, String::new())
        }
        ResourceState::Standby | ResourceState::Primary if !report.copies.is_empty() => {
            (Verdict::Degraded, report.copies.join("; "))
        }
        ResourceState::Standby | ResourceState::Primary if unreadable.is_some() => {
            let why = format!(
                "its server takes up no change of a setting, so it can be neither cut off nor given \
                 another upstream: {}; mend that line, then reload",
                unreadable.unwrap_or_default()
            );
            (Verdict::Degraded, why)
        }
        ResourceState::Standby if held.is_some() => (Verdict::Degraded, held.unwrap_or_default()),
        ResourceState::Standby if resource.blocked.is_some() => {
            let why = resource.blocked.as_ref().map_or(String::new(), ToString::to_string);
            (Verdict::Degraded, format!("promoted, it would take no writes: {why}"))
        }
        ResourceState::Standby if resource.receiving_from.is_none() => {
            (Verdict::Degraded, or(&resource.trouble, "receives from nobody"))
        }
        ResourceState::Primary if report.holding.is_none() => {
            (Verdict::Degraded, "primary without a confirmed lease".into())
        }
        ResourceState::Standby | ResourceState::Primary | ResourceState::None
            if report.cannot_save() =>
        {
            (Verdict::Degraded, report.complaint.clone())
        }
        ResourceState::Standby | ResourceState::Primary if !resource.refuses.is_empty() => {
            let why = format!("it runs, and turns new clients away: {}", resource.refuses);
            (Verdict::Degraded, why)
        }
        ResourceState::Standby | ResourceState::Primary | ResourceState::None => {
            (Verdict::Healthy, to_be_seen_to(resource))
        }
    }
}

/// What a healthy node has to say all the same: an archive that takes nothing, and slots by which
/// nobody receives, keep log until the disk is full; its programs were replaced.
fn to_be_seen_to(resource: &ResourceFacts) -> String {
    let archive = resource.serving.iter().filter_map(|s| s.archive.as_ref()).map(|fails| {
        format!(
            "its archive takes no log ({} failures, the last at {}): log is kept here until the \
             disk is full; the server's log says why",
            fails.times, fails.file
        )
    });
    let slots = resource.serving.iter().flat_map(|s| &s.slots).filter(|s| s.is_left());
    let slots = slots.map(|s| {
        format!(
            "slot {0} holds {1} MiB of log here and nobody receives by it; if nobody will: SELECT \
             pg_drop_replication_slot('{0}')",
            s.name,
            s.holds >> 20
        )
    });
    let version = &resource.version;
    let replaced = resource
        .serving
        .iter()
        .filter(|s| !s.installed.is_empty() && !version.is_empty() && s.installed != *version);
    let replaced = replaced.map(|s| {
        format!(
            "PostgreSQL {version} runs and {} is installed: it comes with the next restart (quorate \
             node restart)",
            s.installed
        )
    });
    archive.chain(slots).chain(replaced).collect::<Vec<_>>().join("; ")
}

/// Why its replay does not go on.
fn held(resource: &ResourceFacts) -> Option<String> {
    let held = resource.serving.as_ref()?.held.as_ref()?;
    let (by, lasts, mend) = (&held.by, held.lasts, &held.mend);
    Some(format!("its replay is held up for {lasts} by {by}; mend: {mend}"))
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text.to_owned() }
}
