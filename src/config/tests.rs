//! Bad files, each with the message a person gets.

use std::path::Path;

use super::{cluster, policy};

const CLUSTER: &str = "\
cluster_id: prod-cluster
name: Production Cluster
quorum_size: 2
regions: [region-1, region-2]
nodes:
  - node_id: node-1
    hostname: 10.0.1.10
    role: primary
    region: region-1
    site: site-a
    status: healthy
    priority: 100
    capacity: 100.0
  - node_id: node-2
    hostname: 10.0.1.11
    role: secondary
    region: region-1
    site: site-b
  - node_id: node-3
    hostname: 10.0.1.12
    role: secondary
    region: region-2
    site: site-c
";
const POLICY: &str = "\
policy_id: auto-failover-policy
name: Automatic Failover Policy
strategy: automatic
max_failover_time_s: 60
require_quorum: true
region_priority: [region-1, region-2]
site_priority: [site-a, site-b, site-c]
min_healthy_nodes: 2
";

fn cluster_error(from: &str, to: &str) -> String {
    assert!(CLUSTER.contains(from), "{from:?} is not in the example");
    cluster::parse(Path::new("cluster.yaml"), &CLUSTER.replacen(from, to, 1))
        .unwrap_err()
        .to_string()
}
fn policy_error(from: &str, to: &str) -> String {
    let good = cluster::parse(Path::new("cluster.yaml"), CLUSTER).unwrap();
    policy::parse(Path::new("policy.yaml"), &POLICY.replacen(from, to, 1), &good)
        .unwrap_err()
        .to_string()
}

#[test]
fn the_documented_files_load() {
    let c = cluster::parse(Path::new("cluster.yaml"), CLUSTER).unwrap();
    assert_eq!((c.quorum_size, c.synchronous_standbys, c.nodes.len()), (2, 1, 3));
    let p = policy::parse(Path::new("policy.yaml"), POLICY, &c).unwrap();
    assert_eq!(p.min_healthy_nodes, 2);
    let without = CLUSTER.replacen("quorum_size: 2\n", "", 1);
    assert_eq!(
        cluster::parse(Path::new("c"), &without).unwrap().quorum_size,
        2,
        "default floor(N/2)+1"
    );
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_word() {
    let text = cluster_error("hostname: 10.0.1.11", "hostnam: 10.0.1.11");
    assert!(text.starts_with("cluster.yaml:15:5: "), "{text}");
    assert!(text.contains("did you mean \"hostname\"?"), "{text}");
    let text = policy_error("require_quorum", "require_qorum");
    assert!(
        text.starts_with("policy.yaml:5:1: ") && text.contains("did you mean \"require_quorum\"?"),
        "{text}"
    );
}

#[test]
fn a_wrong_word_names_the_valid_ones() {
    let text = cluster_error("role: primary", "role: primery");
    assert!(
        text.starts_with("cluster.yaml:8:11: ") && text.contains("did you mean \"primary\"?"),
        "{text}"
    );
    let text = policy_error("strategy: automatic", "strategy: automatik");
    assert!(
        text.starts_with("policy.yaml:3:11: ") && text.contains("did you mean \"automatic\"?"),
        "{text}"
    );
    let text = cluster_error("region: region-2", "region: region-3");
    assert!(text.starts_with("cluster.yaml:22:13: ") && text.contains("did you mean"), "{text}");
}

#[test]
fn two_primaries_are_refused() {
    let text = cluster_error("role: secondary", "role: primary");
    assert!(
        text.starts_with(
            "cluster.yaml:16:11: node-2 is a second primary; node-1 on line 8 is one already"
        ),
        "{text}"
    );
}

#[test]
fn a_quorum_below_the_majority_is_refused() {
    let text = cluster_error("quorum_size: 2", "quorum_size: 1");
    assert!(
        text.starts_with(
            "cluster.yaml:3:14: quorum_size 1 is refused: with 3 nodes it is at least 2"
        ),
        "{text}"
    );
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    let text = cluster_error("priority: 100", "priority: high");
    assert!(text.starts_with("cluster.yaml:12:15: "), "{text}");
}

#[test]
fn a_node_used_twice_is_refused() {
    let text = cluster_error("node_id: node-3", "node_id: node-2");
    assert!(text.contains("node_id \"node-2\" is used twice"), "{text}");
}

/// The same nodes, the first two of them writing side by side.
fn sharing(pattern: &str) -> String {
    let text = CLUSTER.replacen("nodes:", &format!("pattern: {pattern}\nnodes:"), 1);
    let text = text.replacen("capacity: 100.0", "share: 60\n    capacity: 100.0", 1);
    text.replacen("role: secondary", "role: primary\n    share: 40", 1)
}

#[test]
fn shares_belong_to_the_primaries_of_a_cluster_with_several() {
    let parse =
        |text: &str| cluster::parse(Path::new("cluster.yaml"), text).map_err(|e| e.to_string());
    let hybrid = parse(&sharing("hybrid")).unwrap();
    let shares = hybrid.declared_shares().unwrap();
    assert_eq!(shares.of.values().copied().collect::<Vec<_>>(), [60, 40, 0]);
    assert_eq!(hybrid.synchronous_standbys, 0, "they copy to each other afterwards");
    let why = parse(&sharing("active_active")).unwrap_err();
    assert!(why.contains("node-3 is a secondary of an active_active cluster"), "{why}");
    let why = parse(&sharing("active_passive")).unwrap_err();
    assert!(
        why.starts_with("cluster.yaml:14:12: node-1 has a share, and only a cluster with pattern"),
        "{why}"
    );
    let why = parse(&sharing("hybrid").replacen("share: 60", "share: 101", 1)).unwrap_err();
    assert!(why.contains("share 101 of node-1: expected 1 to its capacity, 100"), "{why}");
    let why = parse(&sharing("hybrid").replacen("    share: 40\n", "", 1)).unwrap_err();
    assert!(
        why.contains("node-2 is a primary of this hybrid cluster: say which share it carries"),
        "{why}"
    );
    let why = parse(&sharing("hybrid").replacen(
        "quorum_size: 2",
        "quorum_size: 2\nsynchronous_standbys: 1",
        1,
    ))
    .unwrap_err();
    assert!(why.contains("synchronous_standbys 1"), "{why}");
    let why = parse(&sharing("hybird")).unwrap_err();
    assert!(why.contains("did you mean \"hybrid\"?"), "{why}");
}

#[test]
fn agents_do_not_start_on_a_cluster_that_they_cannot_drive() {
    let cluster = cluster::parse(Path::new("cluster.yaml"), &sharing("hybrid")).unwrap();
    let why = cluster::driven(Path::new("cluster.yaml"), &cluster).unwrap_err().to_string();
    assert!(why.contains("planned and rehearsed"), "{why}");
}

#[test]
fn numbers_have_limits_and_no_units() {
    for wrong in ["30s", "-1", "1.5", "18446744073709551615"] {
        let refused =
            policy_error("max_failover_time_s: 60", &format!("max_failover_time_s: {wrong}"));
        assert!(refused.contains("is not a whole number from 0 to 2678400"), "{refused}");
        assert!(refused.starts_with("policy.yaml:"), "{refused}");
    }
}

/// What the package brings as examples is what a first cluster is written from.
#[test]
fn the_packaged_examples_load() {
    let folder = Path::new("packaging/examples");
    let agent = super::AgentConfig::read(&folder.join("agent.yaml")).unwrap();
    let plane = super::PlaneConfig::read(&folder.join("plane.yaml")).unwrap();
    assert_eq!(agent.plane.as_deref(), Some("10.0.0.9:7430"));
    let identity = super::Identity::read(folder).unwrap();
    assert_eq!(Some(&identity.plane), agent.plane.as_ref());
    let all: Vec<_> = plane.cluster.nodes.iter().map(|n| &n.node_id).collect();
    assert_eq!(all, identity.agents.keys().collect::<Vec<_>>());
    for node in all {
        let node_may = [super::allowlist::Permission::Node];
        assert!(plane.allowlist.allows(node.as_str(), &node_may), "{node}");
    }
}
