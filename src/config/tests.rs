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
    cluster::parse(Path::new("cluster.yaml"), &CLUSTER.replacen(from, to, 1)).unwrap_err().to_string()
}
fn policy_error(from: &str, to: &str) -> String {
    let good = cluster::parse(Path::new("cluster.yaml"), CLUSTER).unwrap();
    policy::parse(Path::new("policy.yaml"), &POLICY.replacen(from, to, 1), &good).unwrap_err().to_string()
}

#[test]
fn the_documented_files_load() {
    let c = cluster::parse(Path::new("cluster.yaml"), CLUSTER).unwrap();
    assert_eq!((c.quorum_size, c.synchronous_standbys, c.nodes.len()), (2, 1, 3));
    let p = policy::parse(Path::new("policy.yaml"), POLICY, &c).unwrap();
    assert_eq!(p.min_healthy_nodes, 2);
    let without = CLUSTER.replacen("quorum_size: 2\n", "", 1);
    assert_eq!(cluster::parse(Path::new("c"), &without).unwrap().quorum_size, 2, "default floor(N/2)+1");
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_word() {
    let text = cluster_error("hostname: 10.0.1.11", "hostnam: 10.0.1.11");
    assert!(text.starts_with("cluster.yaml:15:5: "), "{text}");
    assert!(text.contains("did you mean \"hostname\"?"), "{text}");
    let text = policy_error("require_quorum", "require_qorum");
    assert!(text.starts_with("policy.yaml:5:1: ") && text.contains("did you mean \"require_quorum\"?"), "{text}");
}

#[test]
fn a_wrong_word_names_the_valid_ones() {
    let text = cluster_error("role: primary", "role: primery");
    assert!(text.starts_with("cluster.yaml:8:11: ") && text.contains("did you mean \"primary\"?"), "{text}");
    let text = policy_error("strategy: automatic", "strategy: automatik");
    assert!(text.starts_with("policy.yaml:3:11: ") && text.contains("did you mean \"automatic\"?"), "{text}");
    let text = cluster_error("region: region-2", "region: region-3");
    assert!(text.starts_with("cluster.yaml:22:13: ") && text.contains("did you mean"), "{text}");
}

#[test]
fn two_primaries_are_refused() {
    let text = cluster_error("role: secondary", "role: primary");
    assert!(text.starts_with("cluster.yaml:16:11: node-2 is a second primary; node-1 on line 8 is one already"), "{text}");
}

#[test]
fn a_quorum_below_the_majority_is_refused() {
    let text = cluster_error("quorum_size: 2", "quorum_size: 1");
    assert!(text.starts_with("cluster.yaml:3:14: quorum_size 1 is refused: with 3 nodes it is at least 2"), "{text}");
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
