//! Planned stops: a host is drained and stopped while clients write; a standby's server is restarted
//! for a setting that wants a start.

use quorate::lab::What;
use quorate::model::view::ClusterState;

use crate::{Cluster, quick};

#[test]
fn a_drained_host_is_stopped_and_comes_back() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    cluster.calm();
    let mut standbys = ["node-1", "node-2", "node-3"].into_iter().filter(|n| *n != primary);
    let (first, second) = (standbys.next().unwrap(), standbys.next().unwrap());
    let (code, _, err) = cluster.quorate(&["node", "drain", &primary]);
    assert!(code == 3 && err.contains("a switchover moves it first"), "{err}");
    let said = cluster.runs(&["node", "drain", first, "--reason", "a new kernel"]);
    assert!(
        said.contains("operator: drains") && said.contains("its host may be stopped"),
        "{said}"
    );
    let (code, _, err) = cluster.quorate(&["node", "drain", second]);
    assert!(code == 3 && err.contains("quorum"), "{err}");

    let load = cluster.load();
    cluster.lab().kill(first, What::Host).unwrap();
    load.reach(200);
    cluster.lab().heal(first).unwrap();
    let report = load.end(&cluster);
    assert_eq!((report.lost, report.failed), (0, 0), "{report:?}");
    // The plane remembers it, whoever restarts what.
    cluster.lab().kill_plane().unwrap();
    cluster.lab().start_plane().unwrap();
    let drained = |v: &quorate::model::view::ClusterView| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == first).unwrap();
        node.drained.as_ref().is_some_and(|d| d.by == "operator" && d.reason == "a new kernel")
    };
    cluster.until("it is drained still", 30, drained);
    // A failover goes elsewhere.
    let before = cluster.calm().epoch;
    cluster.lab().kill(&primary, What::Postgres).unwrap();
    let moved = cluster.until("the other one takes the role", 60, |v| v.epoch > before);
    assert_eq!(moved.primary.unwrap().as_str(), second);
    cluster.runs(&["node", "undrain", first]);
    let (code, _, err) = cluster.quorate(&["node", "undrain", first]);
    assert!(code == 3 && err.contains("is not drained"), "{err}");
    cluster.until("it is drained no more", 30, |v| !drained(v));
}

#[test]
fn a_standbys_server_is_restarted_with_the_settings_of_its_files() {
    let cluster = Cluster::start(quick());
    let primary = cluster.calm().primary.unwrap().as_str().to_owned();
    let standby = if primary == "node-3" { "node-2" } else { "node-3" };
    cluster.append(standby, "data/postgresql.conf", "\nshared_buffers = '48MB'\n");
    assert_ne!(cluster.ok(standby, "show shared_buffers"), ["48MB"]);
    let said = cluster.runs(&["node", "restart", standby, "--reason", "more memory"]);
    assert!(said.contains("follows again"), "{said}");
    assert_eq!(cluster.ok(standby, "show shared_buffers"), ["48MB"]);
    // One that hangs takes up no signal but the last.
    let file = std::fs::read_to_string(cluster.file(standby, "data/postmaster.pid")).unwrap();
    let mut stop = std::process::Command::new("kill");
    assert!(stop.args(["-STOP", file.lines().next().unwrap()]).status().unwrap().success());
    let said = cluster.runs(&["node", "restart", standby, "--reason", "it hangs"]);
    assert!(said.contains("follows again"), "{said}");
    let (code, _, err) = cluster.quorate(&["node", "restart", &primary]);
    assert!(code == 3 && err.contains("holds the write role"), "{err}");
    cluster.calm();
}

/// A proof that waited for a standby kept its agent from looking: it gave the role up, although the
/// database wrote, and said that commits were confirmed.
#[test]
fn a_verification_while_commits_wait_costs_nothing() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let epoch = cluster.calm().epoch;
    let standbys: Vec<&str> =
        ["node-1", "node-2", "node-3"].into_iter().filter(|n| *n != primary).collect();
    for node in &standbys {
        let receivers = "SELECT pid FROM pg_stat_wal_receiver";
        let receiver = cluster.sql(node, &[receivers]).unwrap();
        // Nothing is confirmed any more, and nobody fails.
        let mut stop = std::process::Command::new("kill");
        assert!(stop.args(["-STOP", &receiver]).status().unwrap().success());
    }
    let asked = cluster.quorate(&["verify"]);
    assert_ne!(asked.0, 0, "{asked:?}");
    let view = cluster.until("it is said", 60, |v| v.state == ClusterState::Critical);
    assert_eq!((view.epoch, view.primary.unwrap().as_str()), (epoch, primary.as_str()));
    let report = view.nodes.iter().find(|n| n.node.as_str() == primary).unwrap().report.clone();
    assert!(!report.unwrap().complaint.contains("lease"), "it goes on renewing");
    for node in standbys {
        cluster.lab().kill(node, What::Postgres).unwrap();
    }
    let view = cluster.calm();
    assert_eq!(view.epoch, epoch, "the role never moved");
}
