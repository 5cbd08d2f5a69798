//! Who votes, on real PostgreSQL: a node is removed, comes back with empty disks, is a stranger,
//! and is readmitted. And the commands that explain, verify and replay, against a plane that lives.

use std::process::Command;

use quorate::lab::measure::{self, Event};
use quorate::lab::{Options, What};
use quorate::model::view::ClusterView;

use crate::{Cluster, nothing_lost, quick};

impl Cluster {
    /// The program as a person runs it: exit code, output, errors.
    pub(crate) fn quorate(&self, arguments: &[&str]) -> (i32, String, String) {
        self.quorate_as("operator", arguments)
    }
    pub(crate) fn quorate_as(&self, person: &str, arguments: &[&str]) -> (i32, String, String) {
        let identity = self.lab.as_ref().unwrap().identity(person);
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(arguments)
            .env("QUORATE_IDENTITY", identity)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
    pub(crate) fn runs(&self, arguments: &[&str]) -> String {
        self.runs_as("operator", arguments)
    }
    pub(crate) fn runs_as(&self, person: &str, arguments: &[&str]) -> String {
        let (code, out, err) = self.quorate_as(person, arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }
}

fn voters(view: &ClusterView) -> usize {
    let holder = view.nodes.iter().filter_map(|n| n.report.as_ref()).find(|r| r.holding.is_some());
    holder.map_or(0, |r| r.vote.members.len())
}

#[test]
fn a_node_leaves_comes_back_reinstalled_and_is_readmitted() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    let (code, _, err) = cluster.quorate(&["node", "remove", "node-1"]);
    assert_eq!(code, 3, "the holder does not remove itself: {err}");
    cluster.runs(&["node", "remove", "node-3", "--reason", "new disks"]);
    cluster.until("two voters", 20, |v| voters(v) == 2);
    let member = |v: &ClusterView| {
        v.nodes
            .iter()
            .find(|n| n.node.as_str() == "node-3")
            .and_then(|n| n.report.as_ref())
            .map(|r| r.member.clone())
    };
    let former = member(&cluster.until("node-3 is heard", 10, |v| member(v).is_some()));
    // Two of two: its log is no longer needed, its vote neither; the host may go.
    cluster.lab().kill("node-3", What::Host).unwrap();
    for folder in ["data", "state"] {
        std::fs::remove_dir_all(cluster.folder.path().join("lab/node-3").join(folder)).unwrap();
    }
    cluster.lab().heal("node-3").unwrap();
    cluster
        .until("the reinstalled node is heard", 30, |v| member(v).is_some() && member(v) != former);
    cluster.runs(&["node", "add", "node-3"]);
    cluster.until("three voters, and it streams", 60, |v| voters(v) == 3 && measure::is_calm(v));
    // And it counts: with the primary gone, what it confirmed is proved.
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
}

#[test]
fn a_region_is_evacuated_by_a_plan_of_plans() {
    let cluster = Cluster::start(Options { regions: 3, ..quick() });
    let before = cluster.calm_at("node-1").primary.unwrap();
    let plan = cluster.runs(&[
        "evacuate",
        "--leave",
        "region-1",
        "--to",
        "region-3",
        "--dry-run",
        "--output",
        "table",
    ]);
    assert!(
        plan.contains("wave 1    lab") && plan.contains("node-1 → node-3 (region-3)"),
        "{plan}"
    );
    let (code, _, err) = cluster.quorate(&["evacuate", "--leave", "region-4", "--dry-run"]);
    assert!(code == 1 && err.contains("no cluster has a node in region \"region-4\""), "{err}");
    let (code, _, err) =
        cluster.quorate(&["evacuate", "--leave", "region-1", "--confirm", "region-2"]);
    assert!(code == 1 && err.contains("nothing was done"), "{err}");
    let done = cluster.runs(&[
        "evacuate",
        "--leave",
        "region-1",
        "--to",
        "region-3",
        "--confirm",
        "region-1",
        "--output",
        "table",
    ]);
    assert!(done.contains("lab                  moved"), "{done}");
    let after = cluster.calm();
    assert_eq!((before.as_str(), after.primary.unwrap().as_str()), ("node-1", "node-3"));
    let again =
        cluster.runs(&["evacuate", "--leave", "region-1", "--dry-run", "--output", "table"]);
    assert!(
        again.contains("stays     lab                  node-3 holds the role in region-3"),
        "{again}"
    );
}

#[test]
fn the_plane_explains_verifies_and_its_journal_replays() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
    let why = cluster.runs(&["why", "--output", "table"]);
    assert!(why.contains("nothing moves because"), "{why}");
    assert!(why.contains("rule 408"), "what was decided lately is there: {why}");
    let verified = cluster.runs(&["verify", "--output", "table"]);
    assert!(verified.contains("confidence 100 of 100 (very_high)"), "{verified}");
    cluster.until("the simulator's forecast", 60, |v| v.outlook.forecast.is_some());
    let plan = cluster.runs(&["plan", "--output", "table"]);
    assert!(plan.contains("way back"), "{plan}");
    let digest = plan.split_whitespace().nth(1).unwrap().to_owned();
    let dry = cluster.runs(&["execute", &digest, "--dry-run", "--output", "table"]);
    assert!(dry.contains("it would be executed now"), "{dry}");
    let journal = cluster.folder.path().join("lab/plane/state/plane.sqlite");

    let journal = journal.display().to_string();
    let (code, _, err) = cluster.quorate(&["replay", &journal, "--output", "table"]);
    assert!(code == 0 && err.contains("identical to the recorded ones"), "{err}");
    let policy = cluster.folder.path().join("manual.yaml");
    std::fs::write(&policy, "policy_id: manual\nname: Manual\nstrategy: manual\n").unwrap();
    let tested = cluster.runs(&[
        "backtest",
        &journal,
        "--policy",
        &policy.display().to_string(),
        "--output",
        "table",
    ]);
    assert!(
        tested.contains("not then") && tested.contains("only then"),
        "a manual policy would have waited: {tested}"
    );
}
