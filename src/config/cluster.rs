//! `cluster.yaml`.

use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Problem;
use crate::model::share::{ConflictPolicy, Pattern};
use crate::model::topology::{Cluster, DeclaredStatus, Node, Role};
use crate::model::{ClusterId, NodeId, Span};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster_id: Spanned<String>,
    name: String,
    #[serde(default = "environment")]
    environment: String,
    quorum_size: Option<Spanned<usize>>,
    regions: Vec<String>,
    nodes: Spanned<Vec<NodeEntry>>,
    #[serde(default)]
    synchronous_standbys: Option<Spanned<usize>>,
    #[serde(default)]
    lease_ms: Option<Spanned<u64>>,
    #[serde(default)]
    data_classes: Vec<String>,
    #[serde(default = "active_passive")]
    pattern: Spanned<Pattern>,
    #[serde(default)]
    conflicts: ConflictPolicy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    node_id: Spanned<String>,
    hostname: String,
    role: Spanned<Role>,
    region: Spanned<String>,
    #[serde(default)]
    site: String,
    #[serde(default)]
    status: DeclaredStatus,
    #[serde(default = "hundred")]
    priority: i64,
    #[serde(default = "hundred_f")]
    capacity: f64,
    #[serde(default)]
    share: Option<Spanned<u64>>,
    #[serde(default = "agent_port")]
    agent_port: u16,
    #[serde(default = "postgres_port")]
    postgres_port: u16,
}

fn environment() -> String {
    "PROD".into()
}
fn active_passive() -> Spanned<Pattern> {
    Spanned::new(
        Pattern::default(),
        serde_saphyr::Location::UNKNOWN,
        serde_saphyr::Location::UNKNOWN,
    )
}
fn hundred() -> i64 {
    100
}
fn hundred_f() -> f64 {
    100.0
}
fn agent_port() -> u16 {
    7420
}
fn postgres_port() -> u16 {
    5432
}

/// The most units of load that a node can be said to carry: sums of them stay exact.
const CAPACITY_MAX: f64 = 1e9;
/// The shortest lease that leaves time to renew and to kill.
pub const LEASE_MS_MIN: u64 = 1_000;
/// The longest lease; a host death costs at least this.
pub const LEASE_MS_MAX: u64 = 300_000;

/// Reads `cluster.yaml`.
///
/// # Errors
/// A [`Problem`] with file, line, column and the nearest valid word.
pub fn read(path: &Path) -> Result<Cluster, Problem> {
    check(path, super::read(path)?)
}

/// Parses the text of `cluster.yaml`; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, text: &str) -> Result<Cluster, Problem> {
    check(path, super::parse(path, text)?)
}

fn check(path: &Path, file: File) -> Result<Cluster, Problem> {
    id(path, &file.cluster_id, "cluster_id")?;
    check_shares(path, &file)?;
    let nodes = &file.nodes.value;
    let mut primary: Option<&NodeEntry> = None;
    for (i, node) in nodes.iter().enumerate() {
        id(path, &node.node_id, "node_id")?;
        if nodes[..i].iter().any(|n| n.node_id.value == node.node_id.value) {
            return Err(Problem::at(
                path,
                &node.node_id,
                format!("node_id {:?} is used twice", node.node_id.value),
            ));
        }
        if !file.regions.contains(&node.region.value) {
            let what =
                format!("region {:?} is not one of the cluster's regions", node.region.value);
            return Err(Problem::at(path, &node.region, what)
                .nearest(&node.region.value, file.regions.iter().map(String::as_str)));
        }
        if !(0.0..=CAPACITY_MAX).contains(&node.capacity) {
            let what = format!(
                "capacity {} of {}: expected units of load, 0 to {CAPACITY_MAX}",
                node.capacity, node.node_id.value
            );
            return Err(Problem::at(path, &node.node_id, what));
        }
        if node.role.value == Role::Primary && !file.pattern.value.has_several_writers() {
            if let Some(first) = primary {
                let what = format!(
                    "{} is a second primary; {} on line {} is one already. A cluster has one \
                        write role: make one of them secondary",
                    node.node_id.value,
                    first.node_id.value,
                    first.role.referenced.line()
                );
                return Err(Problem::at(path, &node.role, what));
            }
            primary = Some(node);
        }
    }
    if primary.is_none() && !file.pattern.value.has_several_writers() {
        return Err(Problem::at(
            path,
            &file.nodes,
            "no node has role: primary; name the node that starts with the write role",
        ));
    }
    let majority = nodes.len() / 2 + 1;
    if let Some(quorum) =
        file.quorum_size.as_ref().filter(|q| q.value < majority || q.value > nodes.len())
    {
        let what = format!(
            "quorum_size {} is refused: with {} nodes it is at least {majority} (a smaller one \
                lets two halves decide at once) and at most {}",
            quorum.value,
            nodes.len(),
            nodes.len()
        );
        return Err(Problem::at(path, quorum, what));
    }
    let standbys = nodes.iter().filter(|n| n.role.value == Role::Secondary).count();
    if let Some(k) = file.synchronous_standbys.as_ref().filter(|k| k.value > standbys) {
        return Err(Problem::at(
            path,
            k,
            format!(
                "synchronous_standbys {} with {standbys} secondaries: no commit could ever finish",
                k.value
            ),
        ));
    }
    let lease_ms = file.lease_ms.as_ref().map_or(5_000, |l| l.value);
    if let Some(lease) =
        file.lease_ms.as_ref().filter(|l| !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&l.value))
    {
        let what = format!("lease_ms {} is outside {LEASE_MS_MIN} to {LEASE_MS_MAX}", lease.value);
        return Err(Problem::at(path, lease, what));
    }
    Ok(Cluster {
        cluster_id: ClusterId::new(&file.cluster_id.value),
        name: file.name,
        environment: file.environment,
        quorum_size: file.quorum_size.map_or(majority, |q| q.value),
        regions: file.regions,
        nodes: file.nodes.value.into_iter().map(node).collect(),
        synchronous_standbys: match file.synchronous_standbys {
            Some(k) => k.value,
            None => usize::from(standbys > 0 && !file.pattern.value.has_several_writers()),
        },
        lease: Span::millis(lease_ms),
        data_classes: file.data_classes,
        pattern: file.pattern.value,
        conflicts: file.conflicts,
    })
}

/// Whether agents can drive such a cluster: their databases have one writer. The other patterns are
/// planned and rehearsed.
pub(super) fn driven(path: &Path, cluster: &Cluster) -> Result<(), Problem> {
    if cluster.pattern.has_several_writers() {
        let what = format!(
            "cluster {} has pattern {}, and agents drive databases with one writer. It can be \
                planned and rehearsed \
             (`quorate plan` and `quorate simulate` with --cluster), not run",
            cluster.cluster_id,
            cluster.pattern.word()
        );
        return Err(Problem::file(path, what));
    }
    Ok(())
}

/// Where several nodes accept writes, those are the ones with role primary, and each says which
/// share it carries.
fn check_shares(path: &Path, file: &File) -> Result<(), Problem> {
    let pattern = file.pattern.value;
    let word = pattern.word();
    let several = pattern.has_several_writers();
    for node in &file.nodes.value {
        let (name, role) = (&node.node_id.value, node.role.value);
        match &node.share {
            Some(share) if !several => {
                let what = format!(
                    "{name} has a share, and only a cluster with pattern: active_active or hybrid \
                        has shares"
                );
                return Err(Problem::at(path, share, what));
            }
            Some(share) if role != Role::Primary => {
                let what = format!(
                    "{name} has a share and role {}: the nodes with a share are the primaries",
                    role.word()
                );
                return Err(Problem::at(path, share, what));
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "a share beyond 2^52 units is beyond any capacity too"
            )]
            Some(share) if share.value == 0 || share.value as f64 > node.capacity => {
                let what = format!(
                    "share {} of {name}: expected 1 to its capacity, {}",
                    share.value, node.capacity
                );
                return Err(Problem::at(path, share, what));
            }
            None if several && role == Role::Primary => {
                return Err(Problem::at(
                    path,
                    &node.role,
                    format!(
                        "{name} is a primary of this {word} cluster: say which share it carries"
                    ),
                ));
            }
            None if pattern == Pattern::ActiveActive && role == Role::Secondary => {
                let what = format!(
                    "{name} is a secondary of an active_active cluster: give it a share, or use \
                        pattern: hybrid"
                );
                return Err(Problem::at(path, &node.role, what));
            }
            Some(_) | None => {}
        }
    }
    if !several {
        return Ok(());
    }
    let count = |role: Role| file.nodes.value.iter().filter(|n| n.role.value == role).count();
    if pattern == Pattern::ActiveActive && count(Role::Primary) < 2 {
        return Err(Problem::at(
            path,
            &file.pattern,
            "an active_active cluster has at least two primaries",
        ));
    }
    if pattern == Pattern::Hybrid && (count(Role::Primary) == 0 || count(Role::Secondary) == 0) {
        return Err(Problem::at(
            path,
            &file.pattern,
            "a hybrid cluster has primaries, which carry the load, and secondaries, which stand by",
        ));
    }
    if let Some(k) = file.synchronous_standbys.as_ref().filter(|k| k.value > 0) {
        let what = format!(
            "synchronous_standbys {}: in this {word} cluster the nodes copy to each other \
                afterwards",
            k.value
        );
        return Err(Problem::at(path, k, what));
    }
    Ok(())
}

fn node(entry: NodeEntry) -> Node {
    Node {
        node_id: NodeId::new(&entry.node_id.value),
        agent_address: format!("{}:{}", entry.hostname, entry.agent_port),
        hostname: entry.hostname,
        role: entry.role.value,
        region: entry.region.value,
        site: entry.site,
        status: entry.status,
        priority: entry.priority,
        capacity: entry.capacity,
        share: entry.share.map_or(0, |s| s.value),
        postgres_port: entry.postgres_port,
    }
}

fn id(path: &Path, value: &Spanned<String>, key: &str) -> Result<(), Problem> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if value.value.is_empty() || value.value.len() > 63 || !value.value.chars().all(fine) {
        let what =
            format!("{key} {:?}: expected 1 to 63 letters, digits, '-', '_' or '.'", value.value);
        return Err(Problem::at(path, value, what));
    }
    Ok(())
}
