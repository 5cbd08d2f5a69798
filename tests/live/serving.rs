//! Whether a standby could serve, seen before anything dies; and what keeps it from serving is
//! ended where it has to serve, and nowhere else.

use quorate::engine::PersonOrder;
use quorate::lab::What;
use quorate::lab::measure::{Event, is_calm};
use quorate::model::plan::Proposal;
use quorate::model::view::{ClusterState, ClusterView};
use quorate::wire::message::{CallReply, CallRequest};

use crate::{Cluster, NODES, nothing_lost, quick};

/// A client's session that stays as it is until it is ended.
struct Session(std::thread::JoinHandle<String>);

impl Session {
    /// Reads the table in a transaction, and stays in it.
    fn reading(cluster: &mut Cluster, node: &str, table: &str) -> Self {
        let port = cluster.lab().postgres_ports()[node];
        let sql = format!("BEGIN; SELECT count(*) FROM {table}; SELECT pg_sleep(600)");
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut config = tokio_postgres::Config::new();
                config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
                config.application_name("reporting");
                let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let ended = client.batch_execute(&sql).await;
                ended.err().map_or("it ended by itself".into(), |e| e.to_string())
            })
        });
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        cluster.until_sql(node, sleeps, "1");
        Self(thread)
    }
}

impl Cluster {
    fn set_everywhere(&mut self, setting: &str) {
        for node in NODES {
            let sql = format!("ALTER SYSTEM SET {setting}");
            self.sql(node, &[&sql, "SELECT pg_reload_conf()"]).unwrap();
        }
    }
    pub fn others(&self) -> (String, [String; 2]) {
        let primary = self.primary();
        let others: Vec<String> =
            NODES.iter().filter(|n| **n != primary).map(|n| (*n).to_owned()).collect();
        (primary, others.try_into().unwrap())
    }
    /// Why no plan is made for a move to `node`; `None`: one would be.
    fn refusal(&self, node: &str) -> Option<String> {
        let wish =
            Proposal { to: Some(node.into()), reason: "tried".into(), ..Proposal::default() };
        let order = CallRequest::Order(PersonOrder::Propose(wish));
        match self.runtime.block_on(self.client.call(&order)) {
            Ok(CallReply::Plan { .. }) => None,
            other => Some(format!("{other:?}")),
        }
    }
    fn is_found(&self, words: &str) -> bool {
        let view = self.until("the picture", 10, |_| true);
        found(&view).iter().any(|f| f.contains(words))
    }
}

fn found(view: &ClusterView) -> Vec<String> {
    let reports = view.nodes.iter().filter_map(|n| n.report.as_ref());
    reports.flat_map(|r| &r.resource.found).map(|f| format!("{}: {}", f.what, f.done)).collect()
}

/// One transaction on the standbys decided how long the outage was.
#[test]
fn a_reporting_query_does_not_hold_up_a_failover() {
    let mut cluster = Cluster::start(quick());
    let (primary, others) = cluster.others();
    cluster.set_everywhere("max_standby_streaming_delay = -1");
    cluster.sql(&primary, &["CREATE TABLE e AS SELECT 1 AS n"]).unwrap();
    for node in &others {
        cluster.until_sql(node, "SELECT count(*) FROM e", "1");
    }
    let sessions: Vec<Session> =
        others.iter().map(|node| Session::reading(&mut cluster, node, "e")).collect();
    cluster.sql(&primary, &["DROP TABLE e"]).unwrap();
    let view = cluster.until("what holds replay up is said", 60, |v| {
        v.state == ClusterState::Degraded && v.why.contains("you could not fail over")
    });
    for node in &others {
        let why = cluster.why_of(&view, node);
        assert!(why.contains("reporting") && why.contains("pg_terminate_backend"), "{why}");
        let refused = cluster.refusal(node).unwrap();
        assert!(refused.contains("replays"), "{refused}");
    }
    cluster.lab().kill(&primary, What::Postgres).unwrap();
    cluster.until("moved, and everybody well", 90, |v| {
        is_calm(v) && v.primary.as_ref().is_some_and(|p| p.as_str() != primary)
    });
    for session in sessions {
        let ended = session.0.join().unwrap();
        assert!(ended != "it ended by itself", "{ended}");
    }
    assert!(cluster.is_found("held replay up"));
    cluster.calm();
}

/// Twelve of twelve checks held, and the promoted server ended and did not start again.
#[test]
fn a_standby_with_lower_settings_than_the_primarys_gets_what_the_log_demands() {
    let mut cluster = Cluster::start(quick());
    let (primary, [first, second]) = cluster.others();
    let config = cluster.file(&first, "data/postgresql.conf");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(config, format!("{text}\nmax_connections = 300\n")).unwrap();
    cluster.lab().kill(&first, What::Postgres).unwrap();
    cluster.until_sql(&first, "SHOW max_connections", "300");
    cluster.calm();
    cluster.runs(&["switchover", "--to", &first, "--confirm", &primary]);
    for node in [&primary, &second] {
        cluster.until_sql(node, "SHOW max_connections", "300");
    }
    cluster.calm();
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
}

/// Both paused: said before it is needed; a planned move is refused, a failover is not.
#[test]
fn a_paused_replay_is_said_and_costs_no_failover() {
    let mut cluster = Cluster::start(quick());
    let (primary, others) = cluster.others();
    cluster.sql(&others[0], &["SELECT pg_wal_replay_pause()"]).unwrap();
    let view = cluster.until("the pause is said", 30, |v| v.state == ClusterState::Degraded);
    let why = cluster.why_of(&view, &others[0]);
    assert!(why.contains("pg_wal_replay_resume"), "{why}");
    assert!(!view.why.contains("you could not"), "{}", view.why);
    cluster.sql(&others[1], &["SELECT pg_wal_replay_pause()"]).unwrap();
    cluster.until("nobody could serve", 30, |v| v.why.contains("you could not fail over"));
    let (code, said, _) = cluster.quorate(&["status", "--check"]);
    assert!(code == 6 && said.contains("you could not fail over"), "{code} {said}");
    assert!(cluster.refusal(&others[0]).unwrap().contains("replays"));
    cluster.lab().kill(&primary, What::Postgres).unwrap();
    // Commits wait for the other one: there too the pause ends.
    cluster.until("moved, and everybody well", 90, |v| {
        is_calm(v) && v.primary.as_ref().is_some_and(|p| p.as_str() != primary)
    });
    assert!(cluster.is_found("replay was paused"));
}

/// A move to a standby that refuses writes ends an outage by another.
#[test]
fn a_database_that_refuses_writes_is_said_as_primary_and_as_candidate() {
    let mut cluster = Cluster::start(quick());
    let (primary, others) = cluster.others();
    let set = |cluster: &mut Cluster, node: &str, to: &str| {
        let change = format!("ALTER SYSTEM SET default_transaction_read_only = {to}");
        let own = "SET default_transaction_read_only = off";
        cluster.sql(node, &[own, &change, "SELECT pg_reload_conf()"]).unwrap();
    };
    set(&mut cluster, &others[0], "on");
    let view = cluster.until("the standby's setting is said", 30, |v| {
        v.state == ClusterState::Degraded
            && v.nodes.iter().any(|n| n.why.contains("promoted, it would take no writes"))
    });
    assert!(cluster.why_of(&view, &others[0]).contains("ALTER SYSTEM RESET"));
    assert!(cluster.refusal(&others[0]).unwrap().contains("writes"));
    set(&mut cluster, &primary, "on");
    cluster.until("nobody can write", 30, |v| {
        v.state == ClusterState::Critical && v.why.contains("clients' writes are refused")
    });
    set(&mut cluster, &primary, "off");
    set(&mut cluster, &others[0], "off");
    cluster.calm();
    // The same for everybody, and for one database, in whatever spelling the server takes.
    let own = "SET default_transaction_read_only = off";
    for (to, reset, state, words) in [
        (
            "ALTER ROLE ALL SET default_transaction_read_only = yes",
            "ALTER ROLE ALL RESET default_transaction_read_only",
            ClusterState::Critical,
            "clients' writes are refused",
        ),
        (
            "ALTER DATABASE postgres SET default_transaction_read_only = t",
            "ALTER DATABASE postgres RESET default_transaction_read_only",
            ClusterState::Degraded,
            "database postgres is read only",
        ),
    ] {
        cluster.sql(&primary, &[own, to]).unwrap();
        cluster.until(words, 30, |v| v.state == state && v.why.contains(words));
        cluster.sql(&primary, &[own, reset]).unwrap();
        cluster.calm();
    }
    nothing_lost(&cluster.once(Event::Switchover));
}

/// The role moved to a node from which nobody could replicate, and writes stood.
#[test]
fn a_node_that_refuses_replication_is_no_target_of_a_planned_move() {
    let mut cluster = Cluster::start(quick());
    let (_, others) = cluster.others();
    let rules = |node: &str| cluster.file(node, "data/pg_hba.conf");
    let files = others.clone().map(|n| rules(&n));
    let before = files.clone().map(|f| std::fs::read_to_string(f).unwrap());
    for (node, file) in others.iter().zip(&files) {
        std::fs::write(file, "local all all trust\nhost all all 127.0.0.1/32 trust\n").unwrap();
        cluster.sql(node, &["SELECT pg_reload_conf()"]).unwrap();
    }
    let view = cluster.until("it is said", 120, |v| v.why.contains("no pg_hba.conf entry"));
    assert_eq!(view.state, ClusterState::Degraded, "{}", view.why);
    for node in &others {
        let refused = cluster.refusal(node).unwrap();
        assert!(refused.contains("followed"), "{refused}");
    }
    for (node, (file, text)) in others.iter().zip(files.iter().zip(&before)) {
        std::fs::write(file, text).unwrap();
        cluster.sql(node, &["SELECT pg_reload_conf()"]).unwrap();
    }
    cluster.calm();
    nothing_lost(&cluster.once(Event::Switchover));
}

/// A stop waited 15 s for an archiver that had nothing to do with what a standby needs.
#[test]
fn a_hanging_archive_command_does_not_hold_up_a_switchover() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    for node in NODES {
        let config = cluster.file(node, "data/postgresql.conf");
        let text = std::fs::read_to_string(&config).unwrap();
        let lines = "archive_mode = on\narchive_command = 'sleep 100000'\n";
        std::fs::write(config, format!("{text}\n{lines}")).unwrap();
        cluster.lab().kill(node, What::Postgres).unwrap();
        cluster.until("well again", 90, is_calm);
        cluster.until_sql(node, "SHOW archive_mode", "on");
    }
    let (primary, _) = cluster.others();
    cluster.sql(&primary, &["CREATE TABLE f (n int)", "SELECT pg_switch_wal()"]).unwrap();
    let archives = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'archiver'";
    cluster.until_sql(&primary, archives, "1");
    nothing_lost(&cluster.once(Event::Switchover));
    assert!(cluster.is_found("archive_command hung at the stop"));
    cluster.calm();
    // One that fails is said where log piles up.
    let (primary, _) = cluster.others();
    let fails = "ALTER SYSTEM SET archive_command = 'false'";
    cluster.sql(&primary, &[fails, "SELECT pg_reload_conf()", "SELECT pg_switch_wal()"]).unwrap();
    let archiver = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'archiver'";
    let archiver: u32 = cluster.ok(&primary, archiver)[0].parse().unwrap();
    for hung in quorate::agent::host::processes::children(archiver) {
        quorate::agent::host::signal(hung, rustix::process::Signal::KILL);
    }
    cluster.until("it is said that the archive takes nothing", 90, |v| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == primary).unwrap();
        node.why.contains("its archive takes no log")
    });
}

/// A backup tool's slot stayed on the demoted node and held its log there, without a word.
#[test]
fn a_slot_that_nobody_uses_is_named_where_it_is() {
    let mut cluster = Cluster::start(quick());
    let (primary, [standby, _]) = cluster.others();
    let slot = "SELECT pg_create_physical_replication_slot('backup', true)";
    cluster.sql(&primary, &[slot, "CREATE TABLE f (n int)"]).unwrap();
    for n in 0..6 {
        let insert = format!("INSERT INTO f VALUES ({n})");
        cluster.sql(&primary, &[&insert, "SELECT pg_switch_wal()"]).unwrap();
    }
    let says = |v: &ClusterView, node: &str| {
        v.nodes.iter().any(|n| n.node.as_str() == node && n.why.contains("slot backup holds"))
    };
    cluster.until("the slot is named", 60, |v| says(v, &primary));
    let plan = cluster.runs(&["plan", "--to", &standby, "--reason", "what is lost?"]);
    assert!(plan.contains("replication slots that") && plan.contains("backup"), "{plan}");
    cluster.runs(&["switchover", "--to", &standby, "--confirm", &primary]);
    cluster.until("it is named on the demoted node", 60, |v| is_calm(v) && says(v, &primary));
    cluster.sql(&primary, &["SELECT pg_drop_replication_slot('backup')"]).unwrap();
    cluster.until("it is not named any more", 60, |v| !says(v, &primary));
}
