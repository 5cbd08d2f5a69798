//! Databases as people lay them out: a data directory that is a mount in a folder of somebody else,
//! its log elsewhere, tablespaces, settings of one node's own. They are rebuilt where they are.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::lab::measure::is_calm;
use quorate::lab::{Options, What};

use crate::data::as_user;
use crate::{Cluster, NODES, nothing_lost, quick};

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

/// As the user that the lab runs as.
fn run_as_user(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    as_user(&mut command);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

/// A folder that is mounted on itself, until the test ends.
struct Mounted(PathBuf);

impl Mounted {
    fn at(folder: &Path) -> Self {
        let text = folder.to_str().unwrap();
        run("mount", &["--bind", text, text]);
        Self(folder.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

impl Cluster {
    fn standbys(&self) -> (String, Vec<String>) {
        let primary = self.primary();
        let others = NODES.iter().filter(|n| **n != primary).map(|n| (*n).to_owned()).collect();
        (primary, others)
    }
    /// What is found so is cloned.
    fn make_stray(&self, node: &str) {
        run_as_user("touch", &[self.file(node, "data/quorate.stray").to_str().unwrap()]);
    }
    /// Its database ends and is not started again, while its agent goes on.
    fn keep_down(&mut self, node: &str) {
        let config = self.file(node, "data/postgresql.conf");
        std::fs::rename(&config, config.with_extension("away")).unwrap();
        self.lab().kill(node, What::Postgres).unwrap();
        self.until("its reason", 30, |v| {
            self_of(v, node).is_some_and(|r| r.resource.trouble.contains("there is no"))
        });
    }
    fn let_up(&self, node: &str) {
        let config = self.file(node, "data/postgresql.conf");
        std::fs::rename(config.with_extension("away"), config).unwrap();
    }
}

fn self_of<'a>(
    view: &'a quorate::model::view::ClusterView,
    node: &str,
) -> Option<&'a quorate::model::observation::NodeReport> {
    view.nodes.iter().find(|n| n.node.as_str() == node).and_then(|n| n.report.as_ref())
}

/// A mount point cannot be renamed, and nothing can be made beside it.
#[test]
fn a_mounted_data_directory_with_its_log_elsewhere_is_rebuilt_where_it_is() {
    let mut cluster = Cluster::start(quick());
    let (primary, others) = cluster.standbys();
    cluster.sql(&primary, &["CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n"]).unwrap();
    let node = others[0].clone();
    cluster.lab().kill(&node, What::Host).unwrap();
    let (data, wal) = (cluster.file(&node, "data"), cluster.file(&node, "wal"));
    run_as_user("mv", &[data.join("pg_wal").to_str().unwrap(), wal.to_str().unwrap()]);
    run_as_user("ln", &["-s", wal.to_str().unwrap(), data.join("pg_wal").to_str().unwrap()]);
    let line = "work_mem = '7MB'\n";
    let config = data.join("postgresql.conf");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}{line}")).unwrap();
    cluster.make_stray(&node);
    let _mounted = Mounted::at(&data);
    let place = data.parent().unwrap();
    run("chown", &["root", place.to_str().unwrap()]);
    let ids = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino())).unwrap();
    let before = (ids(&data), ids(&wal));
    cluster.lab().heal(&node).unwrap();
    cluster.until_sql(&node, "SELECT count(*) FROM kept", "1000");
    cluster.calm();
    assert!(!data.join("quorate.stray").exists(), "it was not cloned");
    assert_eq!((ids(&data), ids(&wal)), before);
    assert_eq!(std::fs::read_link(data.join("pg_wal")).unwrap(), wal);
    let log = std::fs::read_dir(&wal).unwrap().flatten().filter(|e| e.file_name().len() == 24);
    assert!(log.count() > 0, "its log went elsewhere");
    assert_eq!(cluster.sql(&node, &["SHOW work_mem"]).unwrap(), "7MB", "its own setting is gone");
    for leftover in ["quorate.cloning", "quorate.old"] {
        assert!(!data.join(leftover).exists() && !wal.join(leftover).exists(), "{leftover}");
    }
    nothing_lost(&cluster.once(quorate::lab::measure::Event::Kill));
    cluster.calm();
}

/// A tablespace outside made every try to clone fail, and each try cost the primary a checkpoint.
/// On one host it must not be shared with the upstream either.
#[test]
fn a_node_with_a_tablespace_is_cloned_again_and_rewound() {
    let mut cluster = Cluster::start(Options { synchronous_standbys: 0, ..quick() });
    let (primary, others) = cluster.standbys();
    for node in &others {
        cluster.keep_down(node);
    }
    let space = cluster.folder.path().join("lab/space");
    run("mkdir", &[space.to_str().unwrap()]);
    if let Some(user) = quorate::lab::User::unprivileged() {
        std::os::unix::fs::chown(&space, Some(user.uid), Some(user.gid)).unwrap();
    }
    let create = format!("CREATE TABLESPACE outside LOCATION '{}'", space.display());
    let fill = "CREATE TABLE kept TABLESPACE outside AS SELECT generate_series(1, 1000) AS n";
    cluster.sql(&primary, &[&create, fill]).unwrap();
    // The second time each has a tablespace of its own already.
    for time in 1..=2 {
        for node in &others {
            if time == 2 {
                cluster.calm();
                cluster.keep_down(node);
            }
            cluster.make_stray(node);
            cluster.let_up(node);
        }
        for node in &others {
            cluster.until_sql(node, "SELECT count(*) FROM kept", "1000");
        }
        cluster.calm();
    }
    let mut places: Vec<_> = NODES
        .iter()
        .flat_map(|n| std::fs::read_dir(cluster.file(n, "data/pg_tblspc")).unwrap().flatten())
        .map(|link| std::fs::read_link(link.path()).unwrap())
        .collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 3, "each node has its own: {places:?}");
    // The former primary is rewound, or cloned, with its tablespace where it was.
    let before = cluster.calm().epoch;
    cluster.lab().kill(&primary, What::Postgres).unwrap();
    cluster.until("a new epoch, and everybody well", 90, |v| is_calm(v) && v.epoch > before);
    let now = cluster.primary();
    cluster.sql(&now, &["INSERT INTO kept VALUES (1001)"]).unwrap();
    for node in NODES {
        cluster.until_sql(node, "SELECT count(*) FROM kept", "1001");
    }
}
