//! Whose data a node has: another cluster's, an older copy, a line that somebody promoted by hand.
//! What was acknowledged is counted by a client of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::lab::{Options, What};
use quorate::model::loss::LossAccount;
use quorate::model::view::ClusterView;

use crate::{Cluster, NODES, free_port, quick};

/// Where PostgreSQL's programs are: those that the labs of these tests run.
pub fn programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("QUORATE_TEST_POSTGRES") {
        return Some(named.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders = versions.flatten().map(|version| version.path().join("bin"));
    folders.find(|folder| folder.join("pg_ctl").exists())
}

impl Cluster {
    pub fn dir(&self, node: &str) -> PathBuf {
        self.folder.path().join("lab").join(node)
    }
    /// One statement on one node, as any client; the rows' first columns, or what the server said.
    pub fn ask(&self, node: &str, statement: &str) -> Result<Vec<String>, String> {
        let port = self.lab.as_ref().unwrap().postgres_ports()[node];
        self.runtime.block_on(async move {
            let words = |e: tokio_postgres::Error| {
                e.as_db_error().map_or_else(|| e.to_string(), |d| d.message().to_owned())
            };
            let settings = format!(
                "host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=3 \
                 application_name=a_client"
            );
            let (client, connection) =
                tokio_postgres::connect(&settings, tokio_postgres::NoTls).await.map_err(words)?;
            tokio::spawn(connection);
            let answer = client.simple_query(statement);
            let patience = std::time::Duration::from_secs(20);
            let rows = match tokio::time::timeout(patience, answer).await {
                Ok(rows) => rows.map_err(words)?,
                Err(_) => return Err("no answer in 20 s".into()),
            };
            let first = |m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
                _ => None,
            };
            Ok(rows.into_iter().filter_map(first).collect())
        })
    }
    pub fn ok(&self, node: &str, statement: &str) -> Vec<String> {
        self.ask(node, statement).unwrap_or_else(|e| panic!("{node}: {statement}: {e}"))
    }
    /// Waits for something that a client sees.
    pub fn client_sees(&self, what: &str, seconds: u64, holds: impl Fn() -> bool) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
        while !holds() {
            assert!(std::time::Instant::now() < until, "not seen: {what}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    /// The node on which a write is acknowledged.
    pub fn writer(&self, seconds: u64) -> String {
        let found = std::cell::RefCell::new(String::new());
        self.client_sees("a node that takes writes", seconds, || {
            let nodes = ["node-1", "node-2", "node-3"];
            let takes = |n: &&&str| {
                let write = "create temp table if not exists w(i int); insert into w values (1); \
                             select pg_current_xact_id()";
                self.ask(n, write).is_ok()
            };
            let node = nodes.iter().find(takes);
            *found.borrow_mut() = node.map_or(String::new(), |n| (*n).to_owned());
            node.is_some()
        });
        found.into_inner()
    }
    /// Rows of `table` on `node`.
    pub fn count(&self, node: &str, table: &str) -> u64 {
        self.ok(node, &format!("select count(*) from {table}"))[0].parse().unwrap()
    }
    /// A program of PostgreSQL, as the user that the lab's servers run as.
    pub fn postgres(&self, program: &str, arguments: &[&str]) -> String {
        let (done, said) = self.postgres_tries(program, arguments);
        assert!(done, "{program} {arguments:?}: {said}");
        said
    }
    /// Where a program of PostgreSQL is.
    pub fn program(&self, program: &str) -> PathBuf {
        programs().map_or_else(|| program.into(), |folder| folder.join(program))
    }
    /// The same, where it may fail.
    pub fn postgres_tries(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(self.program(program));
        command.args(arguments).env("LC_ALL", "C").env("HOME", "/tmp").current_dir("/tmp");
        as_user(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }
    /// Copies a folder as the lab's user.
    pub fn copy(&self, from: &Path, to: &Path) {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success(), "cp {} {}", from.display(), to.display());
    }
    /// What the plane says of `node`, with its report's own words.
    pub fn why_of(&self, view: &ClusterView, node: &str) -> String {
        let found = view.nodes.iter().find(|n| n.node.as_str() == node);
        found.map_or(String::new(), |n| {
            let said = n
                .report
                .as_ref()
                .map(|r| format!("{} {:?} {}", r.resource.trouble, r.data_fault, r.complaint));
            format!("{:?}: {} {}", n.verdict, n.why, said.unwrap_or_default())
        })
    }
}

pub fn as_user(command: &mut Command) {
    if let Some(user) = quorate::lab::User::unprivileged() {
        std::os::unix::process::CommandExt::uid(command, user.uid);
        std::os::unix::process::CommandExt::gid(command, user.gid);
    }
}

/// No account of a move after that picture claims that nothing was lost.
fn nobody_said_none(view: &ClusterView, before: &ClusterView) {
    let armed = |v: &ClusterView| -> Vec<_> {
        let reports = v.nodes.iter().filter_map(|n| n.report.clone());
        reports.filter_map(|r| Some((r.member.node, r.armed?))).collect()
    };
    let old: Vec<_> = armed(before).into_iter().map(|(_, a)| a.plan).collect();
    for (node, armed) in armed(view).into_iter().filter(|(_, a)| !old.contains(&a.plan)) {
        if let Some(LossAccount::None { proof, .. }) = armed.loss {
            panic!("{node} said none (proved): {proof}");
        }
    }
}

fn primary(view: &ClusterView) -> String {
    view.primary.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A database of another cluster, of a higher timeline, in the folder of a node that is down.
fn put_foreign(cluster: &Cluster, node: &str) {
    let data = cluster.dir(node).join("data");
    let kept = cluster.dir(node).join("data-before");
    std::fs::rename(&data, &kept).unwrap();
    let at = data.display().to_string();
    cluster.postgres("initdb", &["-D", &at, "-U", "postgres", "--data-checksums", "--auth=trust"]);
    cluster.postgres("pg_resetwal", &["-D", &at, "-l", "000000090000000A00000001"]);
    std::fs::write(data.join("theirs"), "of another cluster").unwrap();
}

#[test]
fn another_clusters_data_is_neither_deleted_nor_promoted() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    cluster
        .ok("node-1", "create table real(i int); insert into real select generate_series(1,500)");

    // The primary lives: the foreign database stays where it is, and the screen says what it is.
    cluster.lab().kill("node-3", What::Host).unwrap();
    put_foreign(&cluster, "node-3");
    cluster.lab().heal("node-3").unwrap();
    cluster.until("it is said that node-3 has another cluster's data", 30, |v| {
        v.nodes.iter().any(|n| {
            n.node.as_str() == "node-3"
                && n.report.as_ref().is_some_and(|r| {
                    r.resource.trouble.contains("another cluster's data")
                        && matches!(
                            r.data_fault,
                            Some(quorate::model::DataFault::AnotherSystem { .. })
                        )
                })
        })
    });
    assert!(cluster.dir("node-3").join("data/theirs").exists(), "it was deleted");

    // The primary's host dies: the other standby has everything, and 1 of 2 of the set is no proof.
    cluster.lab().kill("node-1", What::Host).unwrap();
    let view = cluster.until("the primary is known to have failed", 30, |v| {
        v.nodes.iter().any(|n| {
            n.node.as_str() == "node-1" && n.verdict == quorate::model::view::Verdict::Failed
        })
    });
    assert_ne!(primary(&view), "node-3");
    // Its host comes back: the role moves or is taken back, with everything.
    cluster.lab().heal("node-1").unwrap();
    let writer = cluster.writer(60);
    assert_ne!(writer, "node-3");
    assert_eq!(cluster.count(&writer, "real"), 500);
    assert!(cluster.dir("node-3").join("data/theirs").exists(), "it was deleted");

    // Moved away by a person, the node is cloned.
    cluster.lab().kill("node-3", What::Host).unwrap();
    std::fs::rename(cluster.dir("node-3").join("data"), cluster.dir("node-3").join("foreign"))
        .unwrap();
    cluster.lab().heal("node-3").unwrap();
    cluster.calm();
}

#[test]
fn an_older_copy_of_the_data_has_no_position() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm_at("node-1");
    // A backup of node-3.
    cluster.lab().kill("node-3", What::Host).unwrap();
    let (data, backup) = (cluster.dir("node-3").join("data"), cluster.dir("node-3").join("backup"));
    cluster.copy(&data, &backup);
    cluster.lab().heal("node-3").unwrap();
    cluster.calm();
    // node-2 is frozen: what is acknowledged now is on node-1 and node-3 alone.
    cluster.lab().freeze("node-2", What::Postgres, true).unwrap();
    cluster
        .ok("node-1", "create table real(i int); insert into real select generate_series(1,500)");
    // Its mark follows within a second or so; its report says how far it is.
    let end: quorate::model::Lsn =
        cluster.ok("node-1", "select pg_current_wal_flush_lsn()")[0].parse().unwrap();
    cluster.until("node-3's mark", 30, |v| {
        v.nodes.iter().any(|n| {
            n.node.as_str() == "node-3"
                && n.report.as_ref().and_then(|r| r.mark).is_some_and(|m| m.lsn >= end)
        })
    });
    cluster.lab().kill("node-3", What::Host).unwrap();
    cluster.lab().kill("node-1", What::Host).unwrap();
    std::fs::rename(&data, cluster.dir("node-3").join("data-after")).unwrap();
    std::fs::rename(&backup, &data).unwrap();
    cluster.lab().heal("node-2").unwrap();
    cluster.lab().heal("node-3").unwrap();
    let view = cluster.until("node-3 says that its copy is older", 40, |v| {
        v.nodes.iter().any(|n| {
            n.node.as_str() == "node-3"
                && n.report.as_ref().is_some_and(|r| {
                    matches!(r.data_fault, Some(quorate::model::DataFault::Below { .. }))
                })
        })
    });
    nobody_said_none(&view, &before);
    // Whoever holds the role in the end has the rows.
    cluster.lab().heal("node-1").unwrap();
    let view = cluster.calm();
    assert_eq!(cluster.count(&primary(&view), "real"), 500, "{}", cluster.why_of(&view, "node-3"));
}

/// An older copy of the primary's data that somebody ran by hand until its log was longer, on the
/// same line: it was promoted under "none (proved)", and its log was fetched behind that of the
/// others.
#[test]
fn a_copy_that_was_run_by_hand_on_the_same_line_is_another_history() {
    let cluster = with_a_copy_run_by_hand(200_000);
    cluster.until("what was found", 20, |v| {
        v.nodes.iter().any(|n| {
            let found = n.report.iter().flat_map(|r| &r.resource.found);
            found.into_iter().any(|f| f.what.contains("is not the one that this node had"))
        })
    });
}

/// One whose log is still shorter: the receiver wrote the upstream's log over the place that would
/// have told, and what the copy had replayed stayed.
#[test]
fn a_shorter_copy_that_was_run_by_hand_is_cloned_before_it_streams() {
    with_a_copy_run_by_hand(20);
}

fn with_a_copy_run_by_hand(rows: u32) -> Cluster {
    let mut cluster = Cluster::start(quick());
    let former = primary(&cluster.calm());
    let former = former.as_str();
    cluster.ok(former, "create table e as select generate_series(1,100)");
    let port = cluster.lab().postgres_ports()[former].to_string();
    let copies = cluster.folder.path().join("lab/copies");
    cluster.own_folder(&copies);
    let copy = copies.join("data");
    let folder = copy.display().to_string();
    let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-c", "fast", "-D", &folder];
    cluster.postgres("pg_basebackup", &from);
    // Its mark passes what the copy has.
    let mark = |v: &ClusterView| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == former);
        node.and_then(|n| n.report.as_ref()?.mark)
    };
    for round in 0..4 {
        let insert = format!(
            "insert into e select generate_series({round} * 100 + 101, {round} * 100 + 200)"
        );
        let before = mark(&cluster.until("a mark", 10, |v| mark(v).is_some()));
        cluster.ok(former, &insert);
        // Longer than what is done to a copy with few rows.
        cluster.ok(former, "select pg_logical_emit_message(true, 'x', repeat('y', 200000))");
        cluster.until("its mark to follow", 30, |v| mark(v) > before);
    }
    cluster.lab().kill_plane().unwrap();
    for node in NODES {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    let by_hand = free_port();
    let line =
        format!("-p {by_hand} -c unix_socket_directories={folder} -c synchronous_standby_names=");
    let log = format!("{folder}/by-hand.log");
    cluster.postgres("pg_ctl", &["-D", &folder, "-l", &log, "-o", &line, "-w", "start"]);
    let place = format!("host=127.0.0.1 port={by_hand} user=postgres dbname=postgres");
    let theirs = format!("create table foreign_rows as select generate_series(1,{rows})");
    cluster.postgres("psql", &[&place, "-c", &theirs]);
    cluster.postgres("pg_ctl", &["-D", &folder, "-m", "fast", "-w", "stop"]);
    let data = cluster.dir(former).join("data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&copy, &data).unwrap();
    for node in NODES {
        cluster.lab().heal(node).unwrap();
    }
    cluster.lab().start_plane().unwrap();
    let view = cluster.calm();
    assert_ne!(primary(&view), former);
    for node in NODES {
        cluster.client_sees("every acknowledged row", 20, || cluster.count(node, "e") == 500);
        assert!(cluster.ask(node, "table foreign_rows").is_err(), "{node}");
    }
    cluster
}

/// What a standby has flushed it has confirmed, replayed or not: a snapshot of its volume from before
/// won the role and "none (proved)" without it.
#[test]
fn a_snapshot_of_a_standby_whose_replay_was_paused_is_an_older_copy() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    cluster.laws.as_ref().unwrap().without_client();
    cluster.ok("node-1", "create table e as select 1 as generate_series");
    cluster.client_sees("the table", 20, || cluster.ask("node-3", "table e").is_ok());
    cluster.ok("node-3", "checkpoint");
    cluster.ok("node-3", "select pg_wal_replay_pause()");
    let (data, snapshot) =
        (cluster.dir("node-3").join("data"), cluster.dir("node-3").join("before"));
    cluster.copy(&data, &snapshot);
    cluster.lab().kill("node-2", What::Host).unwrap();
    cluster.ok("node-1", "insert into e select generate_series(2,501)");
    let end: u64 = {
        let lsn = "select pg_current_wal_flush_lsn() - '0/0'::pg_lsn";
        cluster.ok("node-1", lsn)[0].parse().unwrap()
    };
    cluster.until("its mark to have all that it confirmed", 30, |v| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == "node-3");
        node.and_then(|n| n.report.as_ref()?.mark).is_some_and(|mark| mark.lsn.0 >= end)
    });
    for node in ["node-1", "node-3"] {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&snapshot, &data).unwrap();
    let _ = std::fs::remove_file(data.join("postmaster.pid"));
    for node in ["node-3", "node-2"] {
        cluster.lab().heal(node).unwrap();
    }
    cluster.until("what is wrong with it", 60, |v| {
        cluster.why_of(v, "node-3").contains("an older copy")
    });
    cluster.lab().heal("node-1").unwrap();
    cluster.calm();
    for node in NODES {
        cluster.client_sees("every acknowledged row", 30, || cluster.count(node, "e") == 501);
    }
}

#[test]
fn a_standby_promoted_by_hand_is_stopped_and_its_line_counts_for_nothing() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    cluster.ok("node-3", "select pg_promote(false)");
    cluster.until("what was found is in the audit", 20, |v| {
        v.nodes.iter().any(|n| {
            n.report.as_ref().is_some_and(|r| {
                r.resource.found.iter().any(|f| f.what.contains("without a lease"))
            })
        })
    });
    // It was rewound or cloned by itself, its log kept.
    cluster.calm();
    assert_eq!(cluster.ok("node-3", "select pg_is_in_recovery()"), ["t"]);
    assert!(cluster.dir("node-3").join("state/forks").exists());

    // Again, with the agent down, and writes that node-2 confirmed meanwhile.
    cluster.lab().kill("node-3", What::Agent).unwrap();
    cluster.ok("node-3", "select pg_promote(true)");
    cluster.ok(
        "node-3",
        "set synchronous_commit=local; create table theirs as select generate_series(1,9)",
    );
    cluster
        .ok("node-1", "create table acked(i int); insert into acked select generate_series(1,555)");
    cluster.lab().kill("node-1", What::Host).unwrap();
    cluster.lab().heal("node-3").unwrap();
    cluster.client_sees("node-3's database is no primary any more", 30, || {
        cluster.ask("node-3", "select pg_is_in_recovery()").is_ok_and(|r| r == ["t"])
            || cluster.ask("node-3", "select 1").is_err()
    });
    cluster.lab().heal("node-1").unwrap();
    let view = cluster.calm();
    assert_ne!(primary(&view), "node-3");
    assert_eq!(cluster.count(&primary(&view), "acked"), 555);
    assert!(cluster.ask("node-3", "select * from theirs").is_err(), "the stray line lives on");
    assert_eq!(cluster.count("node-3", "acked"), 555);
    what_was_given_up_can_be_looked_up(&cluster, "node-3");
}

/// Its last checkpoint is still the one that it wrote as the holder: a checkpoint of the new line
/// comes minutes after a promotion.
#[test]
fn a_former_holder_promoted_by_hand_is_found_out_though_its_checkpoint_is_its_own() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    cluster.runs(&["switchover", "--to", "node-2", "--confirm", "node-1"]);
    cluster.calm();
    cluster.lab().kill("node-1", What::Agent).unwrap();
    cluster.ok("node-1", "select pg_promote(true)");
    cluster.ok(
        "node-1",
        "set synchronous_commit=local; create table theirs as select generate_series(1,999)",
    );
    let data = cluster.dir("node-1").join("data").display().to_string();
    cluster.postgres("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
    // The next holder's line gets the number that this one has.
    cluster.runs(&["switchover", "--to", "node-3", "--confirm", "node-2"]);
    cluster.ok("node-3", "create table acked as select generate_series(1,55)");
    cluster.lab().heal("node-1").unwrap();
    cluster.until("node-1 says what was done to it", 30, |v| {
        v.nodes.iter().filter_map(|n| n.report.as_ref()).any(|r| {
            r.member.node.as_str() == "node-1"
                && r.resource.found.iter().any(|f| f.what.contains("not by this node as holder"))
        })
    });
    cluster.calm();
    assert_eq!(cluster.count("node-1", "acked"), 55);
    assert!(cluster.ask("node-1", "select * from theirs").is_err(), "the stray line lives on");
}

fn what_was_given_up_can_be_looked_up(cluster: &Cluster, node: &str) {
    let json = |command: &str, more: &[&str]| -> serde_json::Value {
        let (said, code) = cluster.on_host(node, command, &[more, &["--output", "json"]].concat());
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(&said).unwrap()
    };
    let forks = json("fork list", &[]);
    let names: Vec<&str> =
        forks.as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let commits =
        |name: &&&str| !json("fork show", &[**name])["commits"].as_array().unwrap().is_empty();
    let written = names.iter().find(commits).unwrap();
    let (said, code) = cluster.on_host(node, "fork show", &[written, "--output", "table"]);
    assert!(code == Some(0) && said.contains("transactions committed"), "{said}");
    let (said, _) = cluster.on_host(node, "fork prune", &["--older-than-days", "1"]);
    assert!(said.contains("nothing to remove"), "{said}");
    let (said, code) = cluster.on_host(node, "fork prune", &[written]);
    assert!(code == Some(0) && said.contains("removed"), "{said}");
    assert_eq!(json("fork list", &[]).as_array().unwrap().len(), names.len() - 1);
}

#[test]
fn asynchronous_a_stray_does_not_acknowledge_beside_the_primary() {
    let cluster = Cluster::start(Options { synchronous_standbys: 0, ..quick() });
    cluster.calm_at("node-1");
    cluster.ok("node-1", "create table e(i int)");
    cluster.client_sees("the table on node-3", 10, || cluster.ask("node-3", "table e").is_ok());
    cluster.ok("node-3", "select pg_promote(false)");
    cluster.until("it was found and stopped", 20, |v| {
        v.nodes.iter().any(|n| n.report.as_ref().is_some_and(|r| !r.resource.found.is_empty()))
    });
    assert!(cluster.ask("node-3", "insert into e values (1)").is_err());
    cluster.ok("node-1", "insert into e values (2)");
    cluster.calm();
    assert_eq!(cluster.count("node-3", "e"), cluster.count("node-1", "e"));
}

#[test]
fn a_restored_store_makes_a_stranger() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm_at("node-1");
    let member = |v: &ClusterView| {
        v.nodes
            .iter()
            .find(|n| n.node.as_str() == "node-3")
            .and_then(|n| n.report.as_ref())
            .map(|r| r.member.clone())
    };
    let former = member(&before);
    cluster.lab().kill("node-3", What::Host).unwrap();
    let (node, backup) = (cluster.dir("node-3"), cluster.folder.path().join("backup"));
    cluster.copy(&node, &backup);
    cluster.lab().heal("node-3").unwrap();
    cluster.calm();
    // Its store is written on, and its peers hear of it.
    cluster.ok("node-1", "create table e as select generate_series(1,1000)");
    let writes = |v: &ClusterView| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == "node-3");
        node.and_then(|n| n.report.as_ref()).map_or(0, |r| r.vote.writes)
    };
    let first = writes(&cluster.calm());
    cluster.until("its store was written again and again", 60, |v| writes(v) > first + 5);
    // State and data are restored together.
    cluster.lab().kill("node-3", What::Host).unwrap();
    std::fs::remove_dir_all(&node).unwrap();
    std::fs::rename(&backup, &node).unwrap();
    cluster.lab().heal("node-3").unwrap();
    cluster.until("node-3 is a stranger", 40, |v| member(v).is_some() && member(v) != former);
}

#[test]
fn asynchronous_a_server_restarted_by_hand_does_not_write_without_a_lease() {
    let cluster = Cluster::start(Options { synchronous_standbys: 0, ..quick() });
    cluster.calm_at("node-1");
    cluster.ok("node-1", "create table e(i int primary key)");
    let (data, log) =
        (cluster.dir("node-1").join("data"), cluster.dir("node-1").join("by-hand.log"));
    let (data, log) = (data.display().to_string(), log.display().to_string());
    cluster.postgres("pg_ctl", &["-D", &data, "-m", "fast", "-w", "stop"]);
    cluster.until("node-1 says that it is stopped", 20, |v| {
        v.nodes.iter().any(|n| {
            n.node.as_str() == "node-1"
                && n.report.as_ref().is_some_and(|r| r.resource.state.word() == "stopped")
        })
    });
    // With the options of before, as a unit would: a restart of a stopped server is a start. It may
    // find that the agent has ended what it started.
    let by_hand = cluster.postgres_tries("pg_ctl", &["-D", &data, "-l", &log, "-w", "restart"]);
    println!("{by_hand:?}: {}", std::fs::read_to_string(&log).unwrap_or_default());
    // Either nothing answers, or it is a server of the agent's: what is acknowledged stays.
    let mut acknowledged = vec![];
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut number = 0;
    while acknowledged.len() < 20 {
        assert!(std::time::Instant::now() < until, "no writes any more");
        number += 1;
        for node in ["node-1", "node-2", "node-3"] {
            let insert = format!("insert into e values ({number}) on conflict do nothing");
            if cluster.ask(node, &insert).is_ok() {
                acknowledged.push(number);
                break;
            }
        }
    }
    let view = cluster.until("what was found is on record", 20, |v| {
        v.nodes.iter().any(|n| {
            n.report
                .as_ref()
                .is_some_and(|r| r.resource.found.iter().any(|f| f.what.contains("somebody else")))
        })
    });
    drop(view);
    let view = cluster.calm();
    let kept = cluster.ok(&primary(&view), "select i from e");
    for number in &acknowledged {
        assert!(kept.contains(&number.to_string()), "{number} was acknowledged and is gone");
    }
}

#[test]
fn a_standby_restarted_by_hand_is_a_server_of_the_agents_again() {
    let cluster = Cluster::start(quick());
    cluster.calm();
    let (data, log) =
        (cluster.dir("node-3").join("data"), cluster.dir("node-3").join("by-hand.log"));
    let (data, log) = (data.display().to_string(), log.display().to_string());
    // Its agent starts it again as well, and may be the first.
    let restart = ["-D", &data, "-l", &log, "-m", "fast", "-w", "restart"];
    let by_hand = (0..10).any(|_| {
        cluster.calm();
        cluster.postgres_tries("pg_ctl", &restart).0
    });
    assert!(by_hand, "its agent was always the first");
    cluster.calm();
    // The agent's own file says which server runs.
    let record = std::fs::read_to_string(cluster.dir("node-3").join("state/server.json")).unwrap();
    let pid = std::fs::read_to_string(cluster.dir("node-3").join("data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap();
    assert!(record.contains(&format!("\"pid\":{pid}")), "{record} {pid}");
}

#[test]
fn every_node_was_restored_and_two_persons_sign_whose_data_is_the_history() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    let writer = cluster.writer(60);
    cluster.ok(&writer, "create table e as select generate_series(1,100)");
    // A backup of the primary, taken while everything is stopped; then the cluster goes on.
    let nodes = ["node-1", "node-2", "node-3"];
    for node in nodes {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    let backup = cluster.folder.path().join("backup");
    cluster.copy(&cluster.dir(&writer).join("data"), &backup);
    for node in nodes {
        cluster.lab().heal(node).unwrap();
    }
    cluster.calm();
    let writer = cluster.writer(60);
    cluster.ok(&writer, "insert into e select generate_series(1,5000)");
    let end: quorate::model::Lsn =
        cluster.ok(&writer, "select pg_current_wal_flush_lsn()")[0].parse().unwrap();
    let marked = |v: &ClusterView| {
        v.nodes.iter().all(|n| n.report.as_ref().and_then(|r| r.mark).is_some_and(|m| m.lsn >= end))
    };
    let before = cluster.until("every node's mark", 60, marked);
    // All three get the backup.
    for node in nodes {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    for node in nodes {
        let data = cluster.dir(node).join("data");
        std::fs::rename(&data, cluster.dir(node).join("data-after")).unwrap();
        cluster.copy(&backup, &data);
    }
    for node in nodes {
        cluster.lab().heal(node).unwrap();
    }
    // An older copy; of a primary, so that it also looks like one that somebody opened.
    let view = cluster.until("no node has a position", 60, |v| {
        v.nodes.iter().all(|n| n.report.as_ref().is_some_and(|r| r.data_fault.is_some()))
    });
    nobody_said_none(&view, &before);
    // Nothing moves by itself; two persons say what it is.
    let order = cluster.folder.path().join("history.json").display().to_string();
    let words = "restored from the backup of this morning";
    cluster.runs(&["node", "history", &writer, "--attest", words, "--sign", &order]);
    let (code, _, said) = cluster.quorate(&["node", "history", "--with", &order]);
    assert_eq!(code, 3, "one person is not two: {said}");
    // While a promised lease may run it is refused, and the same order is good after that.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while let (code @ 1.., _, said) =
        cluster.quorate_as("second", &["node", "history", "--with", &order])
    {
        assert!(code == 3 && said.contains("a lease was promised"), "{code}: {said}");
        assert!(std::time::Instant::now() < until, "{said}");
    }
    let holder = cluster.writer(90);
    assert_eq!(holder, writer);
    assert_eq!(cluster.count(&holder, "e"), 100);
}

/// `pg_resetwal` on the former holder: its log ends furthest, on its own line, above its mark, and
/// what was in it is gone.
#[test]
fn a_log_that_was_begun_anew_has_no_position() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm();
    let writer = cluster.writer(60);
    cluster.ok(&writer, "create table real(i int)");
    cluster.ok(&writer, "insert into real select generate_series(1,500)");
    let nodes = ["node-1", "node-2", "node-3"];
    for node in nodes {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    let data = cluster.dir(&writer).join("data");
    std::fs::remove_file(data.join("postmaster.pid")).unwrap();
    cluster.postgres("pg_resetwal", &["-f", "-D", &data.display().to_string()]);
    for node in nodes {
        cluster.lab().heal(node).unwrap();
    }
    let view = cluster.until("it has no position, and why", 60, |v| {
        v.nodes.iter().filter_map(|n| n.report.as_ref()).any(|r| {
            r.member.node.as_str() == writer
                && matches!(r.data_fault, Some(quorate::model::DataFault::Stray { .. }))
                && r.resource.found.iter().any(|f| f.what.contains("pg_resetwal"))
        })
    });
    nobody_said_none(&view, &before);
}

/// A copy of the data that somebody runs on the same host is a second writer.
#[test]
fn a_copy_that_takes_writes_elsewhere_is_said_and_not_touched() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    let node = if cluster.writer(60) == "node-3" { "node-2" } else { "node-3" };
    cluster.lab().kill(node, What::Host).unwrap();
    let copy = cluster.folder.path().join("copy");
    cluster.copy(&cluster.dir(node).join("data"), &copy);
    cluster.lab().heal(node).unwrap();
    cluster.calm();
    for name in ["postmaster.pid", "standby.signal"] {
        let _ = std::fs::remove_file(copy.join(name));
    }
    let data = copy.display().to_string();
    let log = format!("{data}/by-hand.log");
    let port = free_port();
    let line = format!("-p {port} -c unix_socket_directories={data}");
    cluster.postgres("pg_ctl", &["-D", &data, "-l", &log, "-o", &line, "-w", "start"]);
    let seen = cluster.until("the copy", 30, |v| {
        v.state == quorate::model::view::ClusterState::Degraded
            && cluster.why_of(v, node).contains("takes writes on a copy")
    });
    assert!(cluster.why_of(&seen, node).contains(&format!("port {port}")));
    cluster.postgres("pg_ctl", &["-D", &data, "-m", "fast", "-w", "stop"]);
    cluster.calm();
}
