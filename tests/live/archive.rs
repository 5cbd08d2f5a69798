//! The user's archive: slow, out of reach, or with somebody else's log in it, it neither stops a
//! cluster from coming back nor decides where a log ends. And: nothing is rebuilt for what anybody
//! writes into a log.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use quorate::lab::measure::{Event, is_calm};
use quorate::lab::{Options, What};
use quorate::lease::VoterRecord;
use quorate::model::Epoch;
use quorate::store::{Batch, Sqlite, Store as _};

use crate::{Cluster, NODES, nothing_lost, quick};

/// A gigabyte of log is written within a lease, on a slow disk too.
fn patient() -> Options {
    Options { lease_ms: 5_000, ..quick() }
}

impl Cluster {
    /// An archive in the lab's folder, with these settings on every node.
    fn archive(&mut self, restore: &str) -> PathBuf {
        let archive = self.folder.path().join("lab/archive");
        std::fs::create_dir(&archive).unwrap();
        std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o777)).unwrap();
        let folder = archive.display();
        let restore = restore.replace("ARCHIVE", &folder.to_string());
        for node in NODES {
            let lines = format!(
                "archive_mode = on\narchive_command = 'cp %p {folder}/%f.new && mv {folder}/%f.new \
                 {folder}/%f'\nrestore_command = '{restore}'\n"
            );
            self.set(node, &lines);
        }
        self.restart_hosts();
        archive
    }
    fn set(&mut self, node: &str, lines: &str) {
        self.calm();
        let path = self.file(node, "data/postgresql.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n{lines}\n")).unwrap();
    }
    fn restart_hosts(&mut self) {
        let before = self.calm();
        for node in NODES {
            self.lab().kill(node, What::Host).unwrap();
        }
        for node in NODES {
            self.lab().heal(node).unwrap();
        }
        self.until("writable again without a person", 90, |v| is_calm(v) && v.epoch > before.epoch);
    }
    /// Log that the primary writes and, with the next checkpoints, removes.
    fn much_log(&mut self, primary: &str) {
        self.sql(primary, &["CREATE TABLE IF NOT EXISTS filler (n int)"]).unwrap();
        for n in 0..70 {
            let insert = format!("INSERT INTO filler VALUES ({n})");
            self.sql(primary, &[&insert, "SELECT pg_switch_wal()"]).unwrap();
        }
        self.sql(primary, &["CHECKPOINT", "CHECKPOINT"]).unwrap();
    }
    fn standby(&self) -> (String, String) {
        let primary = self.primary();
        let standby = NODES.iter().rfind(|n| **n != primary).unwrap();
        (primary, (*standby).to_owned())
    }
    /// A file that a clone would not have.
    fn mark(&self, node: &str) -> PathBuf {
        let mark = self.file(node, "data/not_cloned");
        std::fs::write(&mark, "").unwrap();
        mark
    }
}

#[test]
fn a_slow_archive_stops_nobody() {
    let mut cluster = Cluster::start(quick());
    let archive = cluster.archive("sleep 0.2; cp ARCHIVE/%f %p");
    cluster.restart_hosts();
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
    // Somebody promoted a copy by hand, elsewhere, with the same archive: its line is nobody's.
    for timeline in 4..40 {
        let name = archive.join(format!("{timeline:08X}.history"));
        if !name.exists() {
            std::fs::write(name, "1\t0/2000000\tpromoted by hand\n").unwrap();
        }
    }
    cluster.restart_hosts();
    nothing_lost(&cluster.once(Event::Host));
    cluster.calm();
}

/// Two hundred epochs that were claimed and never won: the next promotion fills as many timeline
/// numbers, and every start asks the archive for each that it does not know.
#[test]
fn two_hundred_empty_epochs_and_a_slow_archive_stop_nobody() {
    let mut cluster = Cluster::start(quick());
    cluster.archive("sleep 0.2; cp ARCHIVE/%f %p");
    let before = cluster.calm();
    for node in NODES {
        cluster.lab().kill(node, What::Host).unwrap();
    }
    for node in NODES {
        let path = cluster.file(node, "state/agent.sqlite");
        let mut store = Sqlite::open_alone(&path).unwrap();
        let text = store.document("voter").unwrap().unwrap();
        let mut record: VoterRecord = serde_json::from_str(&text).unwrap();
        record.epoch = Epoch(record.epoch.0 + 200);
        let text = serde_json::to_string(&record).unwrap();
        store.append(&Batch { documents: &[("voter", text)], ..Batch::default() }).unwrap();
    }
    for node in NODES {
        cluster.lab().heal(node).unwrap();
    }
    cluster.until("writable again without a person, 200 epochs later", 60, |v| {
        is_calm(v) && v.epoch.0 > before.epoch.0 + 200
    });
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
    cluster.restart_hosts();
}

#[test]
fn an_archive_out_of_reach_stops_nobody() {
    let mut cluster = Cluster::start(quick());
    cluster.archive("sleep 100000");
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
    cluster.restart_hosts();
}

#[test]
fn log_that_the_primary_removed_comes_from_the_archive() {
    let mut cluster = Cluster::start(patient());
    let archive = cluster.archive("cp ARCHIVE/%f %p");
    let (primary, standby) = cluster.standby();
    cluster.lab().kill(&standby, What::Host).unwrap();
    let mark = cluster.mark(&standby);
    cluster.much_log(&primary);
    // A foreign line, as newer than ours as can be.
    std::fs::write(archive.join("000000FF.history"), "1\t0/2000000\tby hand\n").unwrap();
    cluster.until_sql(
        &primary,
        "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 33554432) \
         FROM pg_stat_archiver",
        "t",
    );
    cluster.lab().heal(&standby).unwrap();
    cluster.until_sql(&standby, "SELECT count(*) FROM filler", "70");
    assert!(mark.exists(), "it was cloned although the archive had everything");
    cluster.calm();
    cluster.until_sql(&standby, "SELECT current_setting('restore_command')", "");
}

#[test]
fn log_that_nobody_has_is_cloned_whatever_is_logged_where() {
    let mut cluster = Cluster::start(patient());
    for node in NODES {
        cluster.set(node, "logging_collector = on\nlc_messages = 'C'");
    }
    cluster.restart_hosts();
    let (primary, standby) = cluster.standby();
    cluster.lab().kill(&standby, What::Host).unwrap();
    let mark = cluster.mark(&standby);
    cluster.much_log(&primary);
    cluster.lab().heal(&standby).unwrap();
    cluster.until_sql(&standby, "SELECT count(*) FROM filler", "70");
    assert!(!mark.exists(), "it caught up without the log");
    cluster.calm();

    // A wait that is cancelled is counted, though the collector has the log.
    for node in NODES.iter().filter(|n| **n != primary) {
        cluster.lab().freeze(node, What::Postgres, true).unwrap();
    }
    let port = cluster.lab().postgres_ports()[&primary];
    let waits = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("INSERT INTO filler VALUES (1000)").await.unwrap();
        });
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND \
        application_name NOT IN ('quorate', 'ledger')";
    cluster.until_sql(&primary, waiting, "1");
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
        AND application_name <> 'ledger'";
    cluster.sql(&primary, &[cancel]).unwrap();
    waits.join().unwrap();
    for node in NODES {
        cluster.lab().freeze(node, What::Postgres, false).unwrap();
    }
    cluster.until("the cancelled wait to be counted", 30, |v| {
        v.nodes
            .iter()
            .filter_map(|n| n.report.as_ref())
            .any(|r| r.resource.unsynchronised_sessions.is_some_and(|n| n > 0))
    });
}

/// Anybody could write, before authentication, what made a standby destroy its good copy.
#[test]
fn nothing_is_rebuilt_for_a_phrase_in_a_log() {
    let mut cluster = Cluster::start(patient());
    let primary = cluster.primary();
    let phrases = ["has already been removed", "could not receive timeline history file"];
    let mut marks = vec![];
    for node in NODES.iter().filter(|n| **n != primary) {
        marks.push(cluster.mark(node));
        for phrase in phrases {
            let sql = format!("SELECT 'item 17 {phrase}'::int");
            assert!(cluster.sql(node, &[&sql]).is_err());
            assert!(cluster.sql_as(node, &format!("nobody {phrase}"), &["SELECT 1"]).is_err());
        }
        let text = std::fs::read_to_string(cluster.file(node, "data.log")).unwrap();
        assert!(text.contains(phrases[0]), "the phrase is not in the log");
        // A restarted agent once read its server's log from the first byte.
        cluster.lab().kill(node, What::Agent).unwrap();
        cluster.lab().heal(node).unwrap();
    }
    nothing_lost(&cluster.once(Event::Host));
    cluster.calm();
    assert!(marks.iter().all(|m| m.exists()), "a good copy was given up: {marks:?}");
}

/// The checkpoint before a rewind was asked for over a connection that knew no password.
#[test]
fn a_diverged_former_primary_comes_back_where_passwords_are_asked_for() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    cluster.sql(&primary, &["ALTER ROLE postgres PASSWORD 'secret'"]).unwrap();
    let passfile = cluster.folder.path().join("lab/passfile");
    std::fs::write(&passfile, "*:*:*:postgres:secret\n").unwrap();
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
    if let Some(user) = quorate::lab::User::unprivileged() {
        std::os::unix::fs::chown(&passfile, Some(user.uid), Some(user.gid)).unwrap();
    }
    cluster.calm();
    for node in NODES {
        let config = cluster.file(node, "agent.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        let line = format!("  data_dir: data\n  replication_passfile: {}\n", passfile.display());
        std::fs::write(config, text.replacen("  data_dir: data\n", &line, 1)).unwrap();
        let rules = "local all all trust\nhost all app 127.0.0.1/32 trust\n\
            host all all 127.0.0.1/32 scram-sha-256\n\
            host replication all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(cluster.file(node, "data/pg_hba.conf"), rules).unwrap();
    }
    // The rules are read with the next start; until then anybody may connect.
    cluster.sql(&primary, &["CREATE ROLE app LOGIN SUPERUSER"]).unwrap();
    cluster.restart_hosts();
    let primary = cluster.primary();
    // Log that nobody receives: the walsenders stand still, the primary crashes.
    let senders = cluster
        .sql_as(&primary, "app", &["SELECT string_agg(pid::text, ' ') FROM pg_stat_replication"])
        .unwrap();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.arg("-STOP").args(senders.split(' ')).status().unwrap().success());
    let diverge =
        ["SET synchronous_commit = local", "CREATE TABLE h AS SELECT generate_series(1, 50000)"];
    cluster.sql_as(&primary, "app", &diverge).unwrap();
    cluster.lab().kill(&primary, What::Postgres).unwrap();
    let mut kill = std::process::Command::new("kill");
    let _ = kill.arg("-KILL").args(senders.split(' ')).status();
    cluster.until("the role moved and everybody is well", 90, |v| {
        is_calm(v) && v.primary.as_ref().is_some_and(|p| p.as_str() != primary)
    });
}
