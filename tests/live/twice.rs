//! Two hosts with one identity: a copy of a whole host runs beside the original. Whoever of the two
//! gets the role, and whether anybody does: nothing that either acknowledged is lost.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate::agent::host;
use quorate::lab::{Options, What, measure};
use quorate::model::view::ClusterState;
use rustix::process::Signal;

use crate::{Cluster, NODES, free_port, quick};

/// The copied host, with a process table of its own, as another machine has.
struct Copied(Child, PathBuf);

impl Copied {
    fn start(config: &Path) -> Self {
        let path = config.with_file_name("copy.log");
        let log = std::fs::File::create(&path).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        if rustix::process::geteuid().is_root() {
            use std::os::unix::fs::MetadataExt as _;
            let owner = std::fs::metadata(config.with_file_name("data")).unwrap();
            command.arg(format!("--setuid={}", owner.uid()));
            command.arg(format!("--setgid={}", owner.gid()));
        } else {
            command.arg("--map-current-user");
        }
        command.arg(env!("CARGO_BIN_EXE_quorate")).arg("agent").arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().expect("unshare runs (Debian package: util-linux)"), path)
    }
    /// Waits until its log has those words.
    fn says(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let said = std::fs::read_to_string(&self.1).unwrap();
            if said.contains(words) {
                return;
            }
            assert!(Instant::now() < end, "the copy does not say {words:?}: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // A change of user ends unshare's own care for its child, the first process in there.
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        for child in std::fs::read_to_string(children).unwrap().split_whitespace() {
            host::signal(child.parse().unwrap(), Signal::KILL);
        }
        self.0.wait().unwrap();
        println!("the copy: {}", std::fs::read_to_string(&self.1).unwrap());
    }
}

/// One write as a client that came to that port, whoever is there.
fn writes(cluster: &Cluster, port: u16, row: &str) -> bool {
    cluster.runtime.block_on(async {
        let settings = format!(
            "host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=1 \
             application_name=a_client"
        );
        let write = async {
            let (client, connection) =
                tokio_postgres::connect(&settings, tokio_postgres::NoTls).await.ok()?;
            tokio::spawn(connection);
            let insert = format!("insert into twice values ('{row}')");
            client.simple_query(&insert).await.ok()
        };
        let patience = Duration::from_millis(500);
        tokio::time::timeout(patience, write).await.ok().flatten().is_some()
    })
}

impl Cluster {
    /// Copies node-1's host as its disk is now. Its PostgreSQL's port, and the agent's file.
    fn copy_host(&mut self) -> (u16, PathBuf) {
        let copy = self.folder.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        let (theirs, ours) = (self.lab().postgres_ports()["node-1"], free_port());
        for file in ["cluster.yaml", "policy.yaml", "allowlist.yaml", "node-1"] {
            self.copy(&self.folder.path().join("lab").join(file), &copy.join(file));
        }
        let edit = |file: &Path, change: &dyn Fn(&str) -> String| {
            let text = std::fs::read_to_string(file).unwrap();
            let text: String = text.lines().map(|l| change(l) + "\n").collect();
            std::fs::write(file, text).unwrap();
        };
        let port = |l: &str| l.replace(&format!(" {theirs}"), &format!(" {ours}"));
        edit(&copy.join("cluster.yaml"), &port);
        let config = copy.join("node-1/agent.yaml");
        edit(&config, &|l| match l.split_once(": 127.0.0.1:") {
            Some((key @ ("listen" | "http"), _)) => format!("{key}: 127.0.0.1:{}", free_port()),
            _ => l.to_owned(),
        });
        (ours, config)
    }
}

/// Both start from one record, at one moment: neither may count, and a person has a way out.
#[test]
fn a_primarys_host_that_comes_back_twice_costs_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    cluster.ok("node-1", "create table twice(row text primary key)");
    // Without a plane nobody moves the role meanwhile: it is node-1's to take back.
    cluster.lab().kill_plane().unwrap();
    cluster.lab().kill("node-1", What::Host).unwrap();
    let (ours, config) = cluster.copy_host();
    let second = Copied::start(&config);
    cluster.lab().heal("node-1").unwrap();
    second.says("agent started");
    cluster.lab().start_plane().unwrap();
    let ports = cluster.lab().postgres_ports().clone();
    let mut acknowledged = vec![];
    for round in 0..12 {
        for port in NODES.map(|n| ports[n]).into_iter().chain([ours]) {
            let row = format!("{round} at {port}");
            if writes(&cluster, port, &row) {
                acknowledged.push(row);
            }
        }
    }
    println!("acknowledged: {acknowledged:?}");
    drop(second);
    let view = cluster.until("a primary, or a way to one", 60, |v| {
        measure::is_calm(v) || !v.phase.ways_out.is_empty()
    });
    if !measure::is_calm(&view) {
        cluster.take_the_way_shown();
    }
    let view = cluster.calm();
    let kept = cluster.ok(view.primary.unwrap().as_str(), "select row from twice");
    for row in &acknowledged {
        assert!(kept.contains(row), "{row} was acknowledged and is gone");
    }
}

/// A snapshot of the primary's host is started somewhere while the original goes on: it acknowledges
/// nothing, and the original keeps the role.
#[test]
fn asynchronous_a_snapshot_of_the_primarys_host_acknowledges_nothing() {
    let mut cluster = Cluster::start(Options { synchronous_standbys: 0, ..quick() });
    let before = cluster.calm_at("node-1");
    cluster.ok("node-1", "create table twice(row text primary key)");
    cluster.ok("node-1", "checkpoint");
    let (ours, config) = cluster.copy_host();
    let _ = std::fs::remove_file(config.with_file_name("data").join("postmaster.pid"));
    let load = cluster.load();
    load.reach(200);
    let second = Copied::start(&config);
    second.says("agent started");
    second.says("was restored from an older copy");
    let seen = cluster.until("that there are two", 30, |v| {
        v.state == ClusterState::Degraded && cluster.why_of(v, "node-1").contains("two agents")
    });
    assert_eq!(seen.primary, before.primary, "{seen:?}");
    for round in 0..20 {
        assert!(!writes(&cluster, ours, &format!("{round}")), "the copy took a write");
    }
    load.reach(200);
    drop(second);
    let report = load.end(&cluster);
    assert_eq!((report.lost, report.overlaps), (0, 0), "{report:?}");
    assert_eq!(cluster.calm().primary, before.primary);
}
