//! A cluster that somebody made with PostgreSQL's own programs, with rows in it, is adopted while
//! a client writes; it fails over, and the former primary comes back.

use std::path::{Path, PathBuf};

use quorate::lab::{Options, What};
use quorate::model::view::ClusterState;

use crate::fencing::comes_true;
use crate::{Cluster, NODES, nothing_lost, quick};

impl Cluster {
    fn port(&self, node: &str) -> u16 {
        self.lab.as_ref().unwrap().postgres_ports()[node]
    }
    /// Starts the server in the node's folder as its owner would: with nothing of quorate's.
    fn start_plain(&self, node: &str) {
        let (data, socket) = (self.dir(node).join("data"), self.dir(node).join("socket"));
        let options = format!("-p {} -k {}", self.port(node), socket.display());
        let log = self.dir(node).join("plain.log");
        let (data, log) = (data.display().to_string(), log.display().to_string());
        let done =
            self.postgres("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "start"]);
        assert!(done.contains("started"), "{done}");
    }
    /// `quorate adopt` on the host of `node`, as the agent's user.
    fn adopt(&self, node: &str, more: &[&str]) -> (String, Option<i32>) {
        self.on_host(node, "adopt", &[&["--output", "table"], more].concat())
    }
    /// A folder of whom its parent belongs to.
    pub(crate) fn own_folder(&self, path: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::create_dir_all(path).unwrap();
        let owner = std::fs::metadata(path.parent().unwrap()).unwrap();
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    fn pid_of(&self, node: &str) -> Option<u32> {
        quorate::agent::host::postmaster(&self.dir(node).join("data"))
    }
}

/// Three plain servers: a primary with rows, and two standbys that stream from it.
fn plain() -> Cluster {
    let cluster = Cluster::start(Options { agents: false, ..quick() });
    for node in NODES {
        cluster.own_folder(&cluster.dir(node).join("socket"));
    }
    let data = |node: &str| -> PathBuf { cluster.dir(node).join("data") };
    let first = data("node-1").display().to_string();
    cluster.postgres("initdb", &["-D", &first, "-U", "postgres", "--auth=trust", "--no-sync"]);
    cluster.start_plain("node-1");
    cluster
        .ok("node-1", "create table mine (i int); insert into mine select generate_series(1, 500)");
    for node in ["node-2", "node-3"] {
        let from = format!("host=127.0.0.1 port={} user=postgres", cluster.port("node-1"));
        let to = data(node).display().to_string();
        cluster
            .postgres("pg_basebackup", &["-d", &from, "-D", &to, "-R", "-c", "fast", "--no-sync"]);
        // What -R writes may be of a newer libpq than the one that the unpacked server finds.
        let line = format!("primary_conninfo = '{from}'\n");
        cluster.append(node, "data/postgresql.auto.conf", &line);
        cluster.start_plain(node);
    }
    cluster.client_sees("both stream", 20, || {
        let count = "select count(*) from pg_stat_replication where state = 'streaming'";
        cluster.ok("node-1", count) == ["2"]
    });
    cluster
}

#[test]
fn a_running_cluster_is_adopted_and_fails_over() {
    let mut cluster = plain();
    let (said, code) = cluster.adopt("node-1", &["--begin", "node-1"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("missing: the agent of node-2 has to run"), "{said}");

    // Agents that are started beside them touch nothing.
    for node in NODES {
        cluster.lab().start_agent(node).unwrap();
    }
    cluster.until("it is told that nothing is owned", 30, |v| {
        v.state == ClusterState::Unknown && v.why.contains("node-1 is not owned yet")
    });
    // Its owner restarts it: it is still its owner's.
    let data = cluster.dir("node-1").join("data").display().to_string();
    cluster.postgres("pg_ctl", &["-D", &data, "-m", "fast", "stop"]);
    cluster.start_plain("node-1");
    let before = NODES.map(|node| cluster.pid_of(node).unwrap());
    let view = cluster.until("it is told that nothing is owned", 30, |v| {
        v.state == ClusterState::Unknown && v.why.contains("node-1 is not owned yet")
    });
    assert_eq!(view.primary, None);
    comes_true("nothing is missing", 20, || cluster.adopt("node-1", &[]).1 == Some(0));
    assert!(cluster.adopt("node-2", &[]).0.contains("begins on the primary's host"));
    let (said, code) = cluster.adopt("node-1", &["--begin", "node-2"]);
    assert_eq!(code, Some(2), "{said}");
    let still = NODES.map(|node| cluster.pid_of(node).unwrap());
    assert_eq!(still, before, "a server was touched before anybody said so");
    cluster.ok("node-1", "insert into mine select generate_series(501, 600)");

    let load = cluster.load();
    let (said, code) = cluster.adopt("node-1", &["--begin", "node-1"]);
    println!("{said}");
    assert_eq!(code, Some(0), "{said}");
    let owned = cluster.calm();
    assert_eq!(owned.primary.as_ref().unwrap().as_str(), "node-1");
    load.reach(200);
    cluster.lab().kill("node-1", What::Postgres).unwrap();
    let moved = cluster.until("another node takes the role", 60, |v| {
        v.epoch > owned.epoch && v.primary.as_ref().is_some_and(|p| p.as_str() != "node-1")
    });
    load.reach(200);
    let report = load.end(&cluster);
    nothing_lost(&report);
    println!("longest time without a write: {} ms", report.longest_outage_ms);
    cluster.calm();
    assert_eq!(cluster.count(moved.primary.unwrap().as_str(), "mine"), 600);
    // The former primary is back as a standby of the same history.
    comes_true("node-1 has it all", 30, || cluster.count("node-1", "mine") == 600);
}

/// Somebody promoted a standby meanwhile: nothing is founded against it.
#[test]
fn nothing_is_founded_while_another_server_takes_writes() {
    let mut cluster = plain();
    for node in NODES {
        cluster.lab().start_agent(node).unwrap();
    }
    comes_true("nothing is missing", 30, || cluster.adopt("node-1", &[]).1 == Some(0));
    let data = |node: &str| cluster.dir(node).join("data").display().to_string();
    cluster.postgres("pg_ctl", &["-D", &data("node-2"), "promote"]);
    cluster.ok("node-2", "insert into mine values (0)");
    let (said, code) = cluster.adopt("node-2", &[]);
    assert!(code == Some(3) && said.contains("it is a primary"), "{said}");
    // Begun all the same, it would be founded otherwise.
    std::fs::write(cluster.file("node-1", "state/begun"), "").unwrap();
    cluster.postgres("pg_ctl", &["-D", &data("node-1"), "-m", "fast", "stop"]);
    // Longer than the founding took above, on the same machine.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(8);
    while std::time::Instant::now() < end {
        assert!(cluster.ask("node-1", "create temp table t (i int)").is_err());
        cluster.ok("node-2", "insert into mine values (0)");
    }
}
