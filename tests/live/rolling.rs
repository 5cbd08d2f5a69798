//! A new minor version of PostgreSQL goes through a cluster while clients write.

use std::path::{Path, PathBuf};

use quorate::lab::Options;
use quorate::model::view::ClusterView;

use crate::{Cluster, NODES, nothing_lost, quick};

/// A folder with PostgreSQL's programs whose `postgres` says of itself what the test wants.
fn programs(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let real = quick().postgres.map_or_else(
        || quorate::agent::adapter::postgres::Programs::find(None).unwrap().path("postgres"),
        |folder| folder.join("postgres"),
    );
    let real = real.canonicalize().unwrap();
    for program in std::fs::read_dir(real.parent().unwrap()).unwrap() {
        let program = program.unwrap();
        std::os::unix::fs::symlink(program.path(), folder.join(program.file_name())).unwrap();
    }
    let own = folder.join("postgres");
    std::fs::remove_file(&own).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && [ -e {0}/said ] && exec cat {0}/said\nexec {1} \"$@\"\n",
        folder.display(),
        real.display()
    );
    std::fs::write(&own, script).unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_owned()
}

/// Packages are replaced under servers that run: which run an older version is seen, and one command
/// restarts them, standbys first, with one planned move.
#[test]
fn a_minor_version_goes_through_the_cluster() {
    let folder = tempfile::Builder::new().prefix("qp-").tempdir_in("/tmp").unwrap();
    let postgres = Some(programs(folder.path()));
    let mut cluster = Cluster::start(Options { postgres, ..quick() });
    let primary = cluster.calm().primary.unwrap().as_str().to_owned();
    let said = cluster.runs(&["node", "restart", "--outdated"]);
    assert!(said.contains("runs the version that is installed"), "{said}");
    let view = cluster.calm();
    let of = |v: &ClusterView, n: &str| {
        v.nodes.iter().find(|m| m.node.as_str() == n).and_then(|m| m.report.clone()).unwrap()
    };
    let runs = of(&view, &primary).resource.version;
    let next = format!("{}.99", runs.split('.').next().unwrap());
    std::fs::write(folder.path().join("said"), format!("postgres (PostgreSQL) {next}\n")).unwrap();
    let all_know = |v: &ClusterView| {
        NODES.iter().all(|n| of(v, n).resource.serving.is_some_and(|s| s.installed == next))
    };
    cluster.until("every agent sees what is installed", 90, all_know);
    let words = format!("{runs} runs and {next} is installed");
    cluster.until("it is said of each", 20, |v| v.nodes.iter().all(|n| n.why.contains(&words)));
    // Whoever confirms another name has read another picture.
    let other = NODES.iter().find(|n| **n != primary).unwrap();
    let (code, _, err) = cluster.quorate(&["node", "restart", "--outdated", "--confirm", other]);
    assert!(code == 3 && err.contains(&format!("the primary is {primary}")), "{err}");
    let before = cluster.calm();
    let load = cluster.load();
    let said = cluster.runs(&["node", "restart", "--outdated", "--confirm", &primary]);
    let report = load.end(&cluster);
    nothing_lost(&report);
    assert!(said.lines().next().unwrap().contains(&format!("→ {next}")), "{said}");
    let after = cluster.calm();
    // What was done, in which order, by the record.
    let done: Vec<String> = after
        .records
        .iter()
        .filter(|r| matches!(r.record.rule, 507 | 401))
        .map(|r| r.record.text.clone())
        .collect();
    assert_eq!(done.len(), 4, "{done:#?}");
    assert!(done[2].contains("confirmed") && done[3].contains(&primary), "{done:#?}");
    assert_ne!(after.primary.as_ref().unwrap().as_str(), primary);
    for node in NODES {
        assert_ne!(of(&after, node).pids.postmaster, of(&before, node).pids.postmaster, "{node}");
    }
}

/// As docs/operating.md says it: stopped, its program replaced, started within the lease. Guard and
/// database go on, the role stays, and no client notices.
#[test]
fn an_agents_program_is_replaced_without_a_move() {
    let mut cluster = Cluster::start(Options { lease_ms: 8_000, ..quick() });
    let before = cluster.calm();
    let program = cluster.file(".", "quorate");
    let load = cluster.load();
    for node in NODES {
        let of = |v: &ClusterView| {
            let found = v.nodes.iter().find(|m| m.node.as_str() == node);
            found.and_then(|m| m.report.as_ref()).map(|r| (r.pids.agent, r.pids.postmaster))
        };
        let (agent, postmaster) = of(&cluster.calm()).unwrap();
        let mut stop = std::process::Command::new("kill");
        assert!(stop.args(["-TERM", &agent.to_string()]).status().unwrap().success());
        let gone = || !Path::new(&format!("/proc/{agent}/cmdline")).exists();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !gone() {
            assert!(std::time::Instant::now() < end, "the agent of {node} does not end");
            std::thread::yield_now();
        }
        // Another file by the same name: what runs keeps the old one.
        let next = program.with_extension("new");
        std::fs::copy(&program, &next).unwrap();
        std::fs::rename(&next, &program).unwrap();
        cluster.lab().start_agent(node).unwrap();
        cluster.until("another agent beside the same server", 60, |v| {
            of(v).is_some_and(|(a, p)| a != agent && p == postmaster)
        });
    }
    load.reach(200);
    let report = load.end(&cluster);
    assert_eq!((report.lost, report.failed, report.unknown), (0, 0, 0), "{report:?}");
    let after = cluster.calm();
    assert_eq!((after.epoch, after.primary), (before.epoch, before.primary));
}
