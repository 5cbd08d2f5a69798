//! What settings do to the account: where they were wrong for a while, or for some sessions, it says
//! *unknown* until that is over. Every setting from every source is in `sources`.

use quorate::agent::adapter::postgres::settings;
use quorate::lab::What;
use quorate::lab::measure::Event;
use quorate::model::loss::LossAccount;
use quorate::model::view::{ClusterState, ClusterView};
use quorate::wire::message::{CallReply, CallRequest};
use tokio_postgres::NoTls;

use crate::sources::{check_fixed, major};
use crate::{Cluster, nothing_lost, quick};

impl Cluster {
    /// Runs statements on a node's database, one transaction each; the last column of the last row.
    pub fn sql(&mut self, node: &str, statements: &[&str]) -> Result<String, String> {
        self.sql_as(node, "postgres", statements)
    }
    pub fn sql_as(&mut self, node: &str, user: &str, all: &[&str]) -> Result<String, String> {
        let port = self.lab().postgres_ports()[node];
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user(user).dbname("postgres");
        config.connect_timeout(std::time::Duration::from_secs(3));
        let words = |e: tokio_postgres::Error| {
            e.as_db_error().map_or_else(|| e.to_string(), |d| d.message().to_owned())
        };
        self.runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.map_err(words)?;
            tokio::spawn(connection);
            let mut last = String::new();
            for sql in all {
                for message in client.simple_query(sql).await.map_err(words)? {
                    if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                        last = row.get(row.len() - 1).unwrap_or_default().to_owned();
                    }
                }
            }
            Ok(last)
        })
    }
    /// Until a query on a node answers so.
    pub fn until_sql(&mut self, node: &str, sql: &str, wanted: &str) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            let found = self.sql(node, &[sql]);
            if found.as_deref() == Ok(wanted) {
                return;
            }
            assert!(std::time::Instant::now() < end, "{node}: {sql} is {found:?}, not {wanted:?}");
            std::thread::yield_now();
        }
    }
    pub fn primary(&self) -> String {
        self.calm().primary.unwrap().as_str().to_owned()
    }
    /// What an unplanned move would lose now, by the plane's word.
    pub fn account(&self) -> LossAccount {
        let said = self
            .runtime
            .block_on(self.client.call(&CallRequest::Why { within: quorate::model::Span::secs(1) }))
            .unwrap();
        let CallReply::Why(explained) = said else { panic!("{said:?}") };
        explained.loss.unwrap()
    }
    pub fn file(&self, node: &str, name: &str) -> std::path::PathBuf {
        self.folder.path().join("lab").join(node).join(name)
    }
    pub fn append(&self, node: &str, name: &str, lines: &str) {
        use std::io::Write as _;
        let path = self.file(node, name);
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{lines}").unwrap();
    }
}

pub fn doubt(view: &ClusterView) -> Option<String> {
    let holding = view.nodes.iter().filter_map(|n| n.report.as_ref()?.holding.as_ref());
    holding.filter_map(|h| h.doubt.why.clone()).next()
}

/// `ALTER SYSTEM SET synchronous_commit = off` lost 546 acknowledged rows under "none (proved)".
#[test]
fn commits_wait_whatever_alter_system_says() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let change = "ALTER SYSTEM SET synchronous_commit = off";
    cluster.sql(&primary, &[change, "SELECT pg_reload_conf()"]).unwrap();
    nothing_lost(&cluster.once(Event::Host));
    cluster.calm();
}

#[test]
fn commits_of_a_role_that_the_policy_lists_are_outside_the_account() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    cluster.sql(&primary, &["CREATE ROLE etl LOGIN"]).unwrap();
    let policy = cluster.folder.path().join("lab/policy.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("{text}unsynchronised: {{roles: [etl]}}\n")).unwrap();
    for node in ["node-1", "node-2", "node-3"] {
        cluster.lab().kill(node, What::Agent).unwrap();
        cluster.lab().heal(node).unwrap();
    }
    let primary = cluster.primary();
    cluster.sql(&primary, &["ALTER ROLE etl SET synchronous_commit = off"]).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match cluster.account() {
            LossAccount::None { excluded, .. }
                if excluded.iter().any(|e| e.contains("commits of role etl")) =>
            {
                break;
            }
            other => assert!(std::time::Instant::now() < end, "{other:?}"),
        }
    }
    assert_eq!(doubt(&cluster.calm()), None);
}

/// A pool of readers logs in on the standbys; its role's value is taken back, and then one of them
/// becomes primary: those sessions write now, and wait for nobody.
#[test]
fn sessions_of_a_standby_keep_what_they_were_begun_under() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let set = "ALTER ROLE app SET synchronous_commit = off";
    cluster.sql(&primary, &["CREATE ROLE app LOGIN", set]).unwrap();
    let standbys: Vec<&str> =
        ["node-1", "node-2", "node-3"].into_iter().filter(|n| *n != primary).collect();
    let role = "SELECT count(*) FROM pg_db_role_setting";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pool: Vec<tokio_postgres::Client> = standbys
        .iter()
        .map(|node| {
            cluster.until_sql(node, role, "1");
            let mut config = tokio_postgres::Config::new();
            let port = cluster.lab().postgres_ports()[*node];
            config.host("127.0.0.1").port(port).user("app").dbname("postgres");
            let (client, connection) = runtime.block_on(config.connect(NoTls)).unwrap();
            runtime.spawn(connection);
            client
        })
        .collect();
    cluster.until("the doubt", 20, |v| doubt(v).is_some());
    for node in &standbys {
        // Kept before it is acted on, and seen there at the next look.
        let kept = cluster.file(node, "state/standing.json");
        cluster.client_sees("the standby to see it", 20, || {
            std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("role app"))
        });
    }
    cluster.sql(&primary, &["ALTER ROLE app RESET synchronous_commit"]).unwrap();
    for node in standbys {
        cluster.until_sql(node, role, "0");
    }
    cluster.until("the doubt to end", 30, |v| doubt(v).is_none());
    cluster.move_away(&primary);
    let seen = cluster.until("the pool's doubt", 20, |v| doubt(v).is_some());
    assert!(doubt(&seen).unwrap().contains("for role app"), "{:?}", doubt(&seen));
    drop(pool);
    cluster.until("the doubt to end", 30, |v| doubt(v).is_none());
}

/// A connection that could replicate takes SQL as any session does, and keeps what it was begun
/// under.
#[test]
fn a_session_that_could_replicate_keeps_what_it_was_begun_under() {
    use std::io::Write as _;
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let set = "ALTER ROLE app SET synchronous_commit = off";
    cluster.sql(&primary, &["CREATE ROLE app LOGIN REPLICATION", set]).unwrap();
    cluster.until("the doubt", 20, |v| doubt(v).is_some());
    let port = cluster.lab().postgres_ports()[&primary];
    let place = format!("host=127.0.0.1 port={port} user=app dbname=postgres replication=database");
    let mut session = std::process::Command::new(cluster.program("psql"))
        .args(["-X", "-q", &place])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    session.stdin.as_mut().unwrap().write_all(b"select 1;\n").unwrap();
    let begun = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    cluster.until_sql(&primary, begun, "1");
    cluster.sql(&primary, &["ALTER ROLE app RESET synchronous_commit"]).unwrap();
    // Its marks say that looks go on.
    let writes = |v: &ClusterView| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == primary);
        node.and_then(|n| n.report.as_ref()).map_or(0, |r| r.vote.writes)
    };
    let first = writes(&cluster.until("the picture", 10, |_| true));
    cluster.until("its store to be written on", 60, |v| {
        assert!(doubt(v).is_some(), "the session of before is there still");
        writes(v) > first + 3
    });
    session.kill().unwrap();
    session.wait().unwrap();
    cluster.until("the doubt to end", 30, |v| doubt(v).is_none());
}

/// PostgreSQL takes up no change at all at a reload while one name in its files is unknown to it:
/// neither a cut nor another upstream.
#[test]
fn a_file_that_keeps_every_reload_from_working_is_named_before_it_matters() {
    let cluster = Cluster::start(quick());
    cluster.calm();
    let standby = if cluster.primary() == "node-3" { "node-2" } else { "node-3" };
    let file = cluster.file(standby, "data/postgresql.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    cluster.append(standby, "data/postgresql.conf", "max_conections = 300");
    let seen = cluster.until("it to be said", 30, |v| v.state == ClusterState::Degraded);
    let said = seen.nodes.iter().find(|n| n.node.as_str() == standby).unwrap().why.clone();
    assert!(said.contains("postgresql.conf:") && said.contains("max_conections"), "{said}");
    std::fs::write(file, before).unwrap();
    cluster.calm();
}

/// A doubt is durable at the voters: the candidate that moves the role says *unknown*, or
/// everything is there.
#[test]
fn a_failover_out_of_a_doubt_never_says_none() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    cluster
        .sql(
            &primary,
            &[
                "CREATE ROLE etl LOGIN SUPERUSER",
                "CREATE TABLE acked (n int)",
                "ALTER ROLE etl SET synchronous_commit = off",
            ],
        )
        .unwrap();
    cluster.until("the doubt", 20, |v| doubt(v).is_some());
    // Nothing reaches the standbys any more; the role's commits are acknowledged all the same.
    let port = cluster.lab().postgres_ports()[&primary];
    let senders = cluster
        .sql(&primary, &["SELECT string_agg(pid::text, ' ') FROM pg_stat_replication"])
        .unwrap();
    let stop = |how: &str| {
        let mut kill = std::process::Command::new("kill");
        assert!(kill.arg(how).args(senders.split(' ')).status().unwrap().success(), "{port}");
    };
    stop("-STOP");
    cluster
        .sql_as(&primary, "etl", &["INSERT INTO acked SELECT generate_series(1, 1000)"])
        .unwrap();
    cluster.lab().kill(&primary, What::Host).unwrap();
    let seen = cluster.until("the role to be refused or moved", 60, |v| {
        v.state == quorate::model::view::ClusterState::Critical
            || v.primary.as_ref().is_some_and(|p| p.as_str() != primary)
    });
    // Once its last word is old nobody is called the primary.
    let elsewhere = seen.primary.filter(|p| p.as_str() != primary);
    assert_eq!(elsewhere, None, "the policy allows no unknown loss");
    let account = cluster.account();
    assert!(
        matches!(&account, LossAccount::Unknown { why } if why.contains("role etl")),
        "{account}"
    );
}

/// `synchronous_standby_names = ''` by hand and a network that stands still: what is acknowledged
/// before the setting is put right is on the primary alone.
#[test]
fn commits_that_waited_for_nobody_are_not_called_proved() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    cluster.sql(&primary, &["CREATE TABLE acked (n int)"]).unwrap();
    cluster.calm();
    let senders = cluster
        .sql(&primary, &["SELECT string_agg(pid::text, ' ') FROM pg_stat_replication"])
        .unwrap();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.arg("-STOP").args(senders.split(' ')).status().unwrap().success());
    // One after the other, until one of them waits.
    let port = cluster.lab().postgres_ports()[&primary];
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
            let (client, connection) = config.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            let set = "ALTER SYSTEM SET synchronous_standby_names = ''";
            client.batch_execute(set).await.unwrap();
            client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
            let mut acknowledged = 0;
            while client
                .batch_execute(&format!("INSERT INTO acked VALUES ({acknowledged})"))
                .await
                .is_ok()
            {
                acknowledged += 1;
            }
            acknowledged
        })
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND \
        query LIKE 'INSERT INTO acked%'";
    cluster.until_sql(&primary, waiting, "1");
    cluster.until("the doubt", 20, |v| doubt(v).is_some());
    cluster.lab().kill(&primary, What::Host).unwrap();
    let acknowledged: u64 = client.join().unwrap();
    assert!(acknowledged > 0, "every commit waited: nothing was tried");
    let seen = cluster.until("the role to be refused or moved", 60, |v| {
        v.state == ClusterState::Critical
            || v.primary.as_ref().is_some_and(|p| p.as_str() != primary)
    });
    // Once its last word is old nobody is called the primary.
    let elsewhere = seen.primary.filter(|p| p.as_str() != primary);
    assert_eq!(elsewhere, None, "the policy allows no unknown loss");
    let account = cluster.account();
    assert!(matches!(&account, LossAccount::Unknown { .. }), "{account}");
    // Its host returns: everything is there, and nobody had to decide.
    cluster.lab().heal(&primary).unwrap();
    let primary = cluster.primary();
    let there = format!("SELECT count(*) FROM acked WHERE n < {acknowledged}");
    cluster.until_sql(&primary, &there, &acknowledged.to_string());
}

/// Whatever calls itself by a node's name confirms commits in its place.
#[test]
fn a_second_receiver_under_a_nodes_name_is_a_doubt() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let standby = if primary == "node-3" { "node-2" } else { "node-3" };
    let port = cluster.lab().postgres_ports()[&primary];
    let folder = cluster.folder.path().join("received");
    std::fs::create_dir(&folder).unwrap();
    let mut receiver = std::process::Command::new(cluster.program("pg_receivewal"))
        .arg("--synchronous")
        .arg("--directory")
        .arg(&folder)
        .arg("--dbname")
        .arg(format!("host=127.0.0.1 port={port} user=postgres application_name={standby}"))
        .spawn()
        .unwrap();
    let doubted = cluster.until("the doubt", 30, |v| doubt(v).is_some());
    let account = cluster.account();
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    assert!(doubt(&doubted).unwrap().contains(standby), "{:?}", doubt(&doubted));
    assert!(matches!(&account, LossAccount::Unknown { why } if why.contains(standby)), "{account}");
    cluster.until("the doubt to end", 60, |v| doubt(v).is_none());
    assert!(matches!(cluster.account(), LossAccount::None { .. }), "{}", cluster.account());
}

#[test]
fn doctor_prints_the_table_with_what_it_found() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    cluster.append(&primary, "data/postgresql.conf", "fsync = off");
    cluster
        .sql(
            &primary,
            &[
                "CREATE ROLE etl LOGIN",
                "ALTER ROLE etl SET synchronous_commit = off",
                "SELECT pg_create_physical_replication_slot('backup', true)",
            ],
        )
        .unwrap();
    let config = cluster.file(&primary, "agent.yaml");
    let doctor = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["doctor", "--output", "json", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: Vec<serde_json::Value> = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), found)
    };
    let (code, found) = doctor();
    let row = |name: &str| {
        found.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("no {name}: {found:#?}"))
    };
    for setting in settings::known(major()).filter(|s| !s.name.contains('(')) {
        assert_ne!(row(setting.name)["verdict"], "wrong", "{:#}", row(setting.name));
    }
    assert_eq!(row("fsync")["verdict"], "mind", "{:#}", row("fsync"));
    assert!(row("fsync")["advice"].as_str().unwrap().contains("postgresql.conf:"));
    assert_eq!(row("backup")["verdict"], "mind");
    let etl = row("synchronous_commit, role etl");
    assert!(etl["verdict"] == "wrong" && etl["advice"].as_str().unwrap().contains("RESET"));
    assert!(row("own certificate")["found"].as_str().unwrap().ends_with("days left"));
    assert_eq!(code, Some(7), "a promise does not hold");
    cluster.sql(&primary, &["ALTER ROLE etl RESET synchronous_commit"]).unwrap();
    assert_eq!(doctor().0, Some(6), "something wants minding");
}

/// Debian's packages put the configuration elsewhere; a file of one line was written in its place.
#[test]
fn configuration_outside_the_data_directory_stays_the_owners() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    let node = "node-3";
    cluster.lab().kill(node, What::Host).unwrap();
    let (etc, data) = (cluster.file(node, "etc"), cluster.file(node, "data"));
    std::fs::create_dir(&etc).unwrap();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        std::fs::rename(data.join(name), etc.join(name)).unwrap();
    }
    let lines = format!(
        "hba_file = '{0}/pg_hba.conf'\nident_file = '{0}/pg_ident.conf'\n\
         data_directory = '/nowhere'\nwork_mem = '7MB'",
        etc.display()
    );
    cluster.append(node, "etc/postgresql.conf", &lines);
    cluster.lab().heal(node).unwrap();
    cluster.until("the reason", 60, |v| {
        v.nodes
            .iter()
            .filter_map(|n| n.report.as_ref())
            .any(|r| r.resource.trouble.contains("set postgres.config_file"))
    });
    assert!(!data.join("postgresql.conf").exists(), "a file was made up");
    let config = cluster.file(node, "agent.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let key = "  data_dir: data\n  config_file: etc/postgresql.conf\n";
    std::fs::write(&config, text.replacen("  data_dir: data\n", key, 1)).unwrap();
    cluster.lab().kill(node, What::Agent).unwrap();
    cluster.lab().heal(node).unwrap();
    cluster.until_sql(node, "SELECT current_setting('work_mem')", "7MB");
    cluster.calm();
    check_fixed(&mut cluster, node, "with its configuration elsewhere");
}
