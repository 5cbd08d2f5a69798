//! The table that the agent uses, each setting of it from every source that it can have, on both
//! roles: either the right value is in force, or what is wrong is said, and the account is unknown.

use quorate::agent::adapter::postgres::settings::{self, Kind, READ_ONLY, Setting, Want};
use quorate::lab::What;
use quorate::lab::measure::Event;
use quorate::model::loss::LossAccount;
use quorate::model::view::ClusterState;
use quorate::wire::message::{CallReply, CallRequest};

use crate::settings::doubt;
use crate::{Cluster, NODES, nothing_lost, quick};

/// Of the programs that these tests run.
pub fn major() -> u32 {
    let postgres = crate::data::programs().expect("PostgreSQL").join("postgres");
    let said = std::process::Command::new(postgres).arg("--version").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse().ok()).expect("a version")
}

/// Where a server's own setting can come from while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `postgresql.conf`.
    File,
    /// A file that `postgresql.conf` includes.
    Included,
    /// ALTER SYSTEM.
    System,
    /// `postgresql.auto.conf`, by an editor: the last line of it.
    SystemByHand,
    /// ALTER SYSTEM RESET: takes the agent's own line away, and a file would win.
    SystemReset,
}

impl Source {
    const ALL: [Self; 5] =
        [Self::File, Self::Included, Self::System, Self::SystemByHand, Self::SystemReset];

    fn file(self) -> &'static str {
        match self {
            Self::File => "data/postgresql.conf",
            Self::Included => "data/conf.d/site.conf",
            Self::System | Self::SystemByHand | Self::SystemReset => "data/postgresql.auto.conf",
        }
    }

    /// Gives a setting that value there, and has the server read it.
    fn set(self, cluster: &mut Cluster, node: &str, name: &str, value: &str) {
        match self {
            Self::File | Self::Included | Self::SystemByHand => {
                cluster.append(node, self.file(), &format!("{name} = '{value}'"));
            }
            Self::System => alter(cluster, node, &format!("SET {name} = '{value}'")),
            Self::SystemReset => alter(cluster, node, &format!("RESET {name}")),
        }
        reload(cluster, node);
    }
}

const WRITABLE: &str = "SET default_transaction_read_only = off";

fn alter(cluster: &mut Cluster, node: &str, change: &str) {
    cluster.sql(node, &[WRITABLE, &format!("ALTER SYSTEM {change}")]).unwrap();
}

/// Until the server has read its files.
fn reload(cluster: &mut Cluster, node: &str) {
    let before = cluster.sql(node, &["SELECT pg_conf_load_time()"]).unwrap();
    cluster.sql(node, &["SELECT pg_reload_conf()"]).unwrap();
    let read = format!("SELECT (pg_conf_load_time() > '{before}')::text");
    cluster.until_sql(node, &read, "true");
}

/// Has `postgresql.conf` include a folder, as Debian's does.
fn include(cluster: &Cluster, node: &str) {
    std::fs::create_dir(cluster.file(node, "data/conf.d")).unwrap();
    cluster.append(node, Source::Included.file(), "");
    cluster.append(node, Source::File.file(), "include_dir 'conf.d'");
}

/// A value that must not come into force.
fn wrong_value(setting: &Setting) -> String {
    match (setting.name, setting.want) {
        ("recovery_target", _) => "immediate".into(),
        ("recovery_target_time", _) => "2020-01-01".into(),
        ("recovery_target_xid", _) => "3".into(),
        ("recovery_target_lsn", _) => "0/1".into(),
        ("recovery_target_timeline", _) => "current".into(),
        ("wal_level", _) => "minimal".into(),
        // Less is no value at all: the server does not start with it, whoever starts it.
        ("max_locks_per_transaction", _) => "10".into(),
        (_, Want::Is("on")) => "off".into(),
        (_, Want::Is("off")) => "on".into(),
        (_, Want::Is("")) => "/tmp/other".into(),
        (_, Want::Is(_)) => "30s".into(),
        (_, Want::OneOf(_)) => "off".into(),
        (_, Want::AtLeast(_)) => "1".into(),
        (_, Want::Port) => "1".into(),
        (_, Want::SocketDir | Want::DataDir) => "/nowhere".into(),
        ("primary_conninfo", Want::Ordered) => "host=192.0.2.1".into(),
        ("primary_slot_name", Want::Ordered) => "x".into(),
        ("synchronous_standby_names", Want::Ordered) => "".into(),
        ("restore_command", Want::Ordered) => "false".into(),
        (name, Want::Ordered) => panic!("no wrong value for {name} is known here"),
    }
}

fn fixed() -> Vec<&'static Setting> {
    settings::known(major()).filter(|s| s.kind == Kind::Fixed).collect()
}

pub fn check_fixed(cluster: &mut Cluster, node: &str, when: &str) {
    let config = quorate::config::AgentConfig::read(&cluster.file(node, "agent.yaml")).unwrap();
    let config = config.postgres.unwrap();
    for setting in fixed() {
        let sql = format!("SELECT setting FROM pg_settings WHERE name = '{}'", setting.name);
        let found = cluster.sql(node, &[&sql]).unwrap();
        assert!(
            setting.is_right(&config, &found),
            "{when}, {node}: {} is {found}, wanted {}",
            setting.name,
            setting.wanted(&config)
        );
    }
}

#[test]
fn no_source_beats_a_fixed_setting_on_either_role() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let nodes = NODES;
    let lines: Vec<String> =
        fixed().iter().map(|s| format!("{} = '{}'", s.name, wrong_value(s))).collect();
    for node in nodes {
        include(&cluster, node);
        for file in [Source::File, Source::Included].map(Source::file) {
            cluster.append(node, file, &lines.join("\n"));
        }
    }
    for node in nodes {
        cluster.sql(node, &["SELECT pg_reload_conf()"]).unwrap();
    }
    // ALTER SYSTEM refuses what cannot be; what it takes is written by hand as well.
    for node in nodes {
        let mut taken = vec![];
        for setting in fixed().into_iter().filter(|s| s.name != "data_directory") {
            let sql = format!("ALTER SYSTEM SET {} = '{}'", setting.name, wrong_value(setting));
            if cluster.sql(node, &[&sql]).is_ok() {
                taken.push(setting.name);
            }
        }
        assert!(taken.len() + 3 > fixed().len(), "{taken:?}");
        cluster.sql(node, &["SELECT pg_reload_conf()"]).unwrap();
    }
    for node in nodes {
        check_fixed(&mut cluster, node, "after a reload");
    }
    // And at a start, as standby and as primary.
    for node in nodes.iter().filter(|n| **n != primary) {
        cluster.lab().kill(node, What::Postgres).unwrap();
        cluster.until_sql(node, "SELECT status FROM pg_stat_wal_receiver", "streaming");
        check_fixed(&mut cluster, node, "after a restart as standby");
    }
    nothing_lost(&cluster.once(Event::Kill));
    cluster.calm();
    for node in nodes {
        check_fixed(&mut cluster, node, "after a failover");
    }
}

#[test]
fn a_moving_setting_is_put_right_whoever_changed_it_where() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    for node in NODES {
        include(&cluster, node);
        reload(&mut cluster, node);
        for setting in settings::known(major()).filter(|s| s.kind == Kind::Moving) {
            let name = setting.name;
            let sql = format!("SELECT setting FROM pg_settings WHERE name = '{name}'");
            let ordered = cluster.sql(node, &[&sql]).unwrap();
            for source in Source::ALL {
                println!("{node}: {name} by {source:?}");
                source.set(&mut cluster, node, name, &wrong_value(setting));
                cluster.until_sql(node, &sql, &ordered);
                // What wins over the agent's own line was in force for a moment.
                if name == "synchronous_standby_names"
                    && node == primary
                    && !matches!(source, Source::File | Source::Included)
                {
                    let seen = cluster.until("a doubt", 20, |v| {
                        doubt(v).is_some() && v.state == ClusterState::Degraded
                    });
                    assert!(doubt(&seen).unwrap().contains("synchronous_standby_names was \"\""));
                    assert!(matches!(cluster.account(), LossAccount::Unknown { .. }));
                    // It ends by itself: nothing older runs, and everything is flushed.
                    cluster.until("the doubt to end", 60, |v| doubt(v).is_none());
                }
            }
        }
    }
    cluster.calm();
    let proved = cluster.account();
    assert!(matches!(proved, LossAccount::None { .. }), "{proved}");
}

/// Where commits of a session can be told not to wait, what takes it back, and whom it names.
fn session_sources(setting: &Setting) -> Vec<(&'static str, &'static str, &'static str)> {
    match setting.name {
        "synchronous_commit (role, database)" => vec![
            (
                "ALTER ROLE etl SET synchronous_commit = off",
                "ALTER ROLE \"etl\" RESET synchronous_commit",
                "for role etl",
            ),
            (
                "ALTER DATABASE logs SET synchronous_commit = local",
                "ALTER DATABASE \"logs\" RESET synchronous_commit",
                "for database logs",
            ),
            (
                "ALTER ROLE etl IN DATABASE logs SET synchronous_commit = remote_write",
                "ALTER ROLE \"etl\" IN DATABASE \"logs\" RESET synchronous_commit",
                "for role etl in database logs",
            ),
            (
                "ALTER ROLE ALL SET synchronous_commit = off",
                "ALTER ROLE ALL RESET synchronous_commit",
                "for all roles",
            ),
        ],
        "synchronous_commit (subscription)" => vec![(
            "ALTER SUBSCRIPTION feed ENABLE",
            "ALTER SUBSCRIPTION \"feed\" SET (synchronous_commit = on)",
            "for subscription feed in database postgres",
        )],
        // Of the server; below.
        READ_ONLY => vec![],
        name => panic!("no input for {name} is known here"),
    }
}

/// Roles, databases and subscriptions have theirs from the primary, and only there can they be
/// changed.
#[test]
fn what_does_not_wait_is_named_with_what_mends_it() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let subscription = "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p \
        WITH (connect = false, slot_name = 'feed')";
    let new = ["CREATE ROLE etl LOGIN", "CREATE DATABASE logs", subscription];
    cluster.sql(&primary, &new).unwrap();
    let guarded = settings::known(major()).filter(|s| s.kind == Kind::Guarded);
    for (set, reset, whose) in guarded.flat_map(session_sources) {
        cluster.sql(&primary, &[set]).unwrap();
        let seen = cluster.until(whose, 20, |v| {
            v.state == ClusterState::Degraded && doubt(v).is_some_and(|d| d.contains(whose))
        });
        assert!(seen.why.contains("cannot be accounted for"), "{}", seen.why);
        let account = cluster.account();
        assert!(
            matches!(account, LossAccount::Unknown { .. })
                && account.reason().contains(&format!("mend: {reset}")),
            "{account}"
        );
        let said = cluster.runtime.block_on(cluster.client.call(&CallRequest::Verify)).unwrap();
        let CallReply::Verified { parts, .. } = said else { panic!("{said:?}") };
        assert!(parts.iter().any(|(name, held, _)| name == "loss" && !held), "{parts:?}");
        cluster.sql(&primary, &[reset]).unwrap();
        cluster.calm();
    }
}

/// The guarded setting of the server itself.
#[test]
fn a_server_that_would_refuse_writes_is_said_from_every_source_on_both_roles() {
    let mut cluster = Cluster::start(quick());
    let (primary, [standby, _]) = cluster.others();
    for node in [&primary, &standby] {
        include(&cluster, node);
        for source in Source::ALL.into_iter().filter(|s| *s != Source::SystemReset) {
            println!("{node}: {READ_ONLY} by {source:?}");
            let before = std::fs::read_to_string(cluster.file(node, source.file())).unwrap();
            source.set(&mut cluster, node, READ_ONLY, "on");
            let (state, said) = if *node == primary {
                (ClusterState::Critical, "clients' writes are refused")
            } else {
                (ClusterState::Degraded, "promoted, it would take no writes")
            };
            let view = cluster.until(said, 30, |v| {
                v.state == state && (v.why.contains(said) || cluster.why_of(v, node).contains(said))
            });
            let words = format!("{} {}", view.why, cluster.why_of(&view, node));
            assert!(
                words.contains(READ_ONLY) && words.contains("mend: ALTER SYSTEM RESET"),
                "{words}"
            );
            std::fs::write(cluster.file(node, source.file()), before).unwrap();
            reload(&mut cluster, node);
            cluster.calm();
        }
    }
    nothing_lost(&cluster.once(Event::Switchover));
}
