//! Who confirms commits under a member's name, while that member is away.

use std::process::{Child, Command};

use quorate::lab::What;
use quorate::model::loss::LossAccount;

use crate::data::as_user;
use crate::settings::doubt;
use crate::{Cluster, quick};

/// Ends with the test, also when it fails.
struct Process(Child);

impl Process {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Cluster {
    /// The primary and a standby whose host is lost: the primary has no connection of it.
    fn member_away(&mut self) -> (String, String) {
        let primary = self.primary();
        let away = if primary == "node-3" { "node-2" } else { "node-3" };
        self.lab().kill(away, What::Host).unwrap();
        let gone =
            format!("SELECT count(*) FROM pg_stat_replication WHERE application_name = '{away}'");
        self.until_sql(&primary, &gone, "0");
        (primary, away.to_owned())
    }
    fn doubted(&self, away: &str) {
        let seen = self.until("the doubt", 30, |v| doubt(v).is_some_and(|d| d.contains(away)));
        let why = doubt(&seen).unwrap();
        assert!(why.contains("does not say that it is its own"), "{why}");
        let account = self.account();
        assert!(matches!(&account, LossAccount::Unknown { .. }), "{account}");
    }
    fn doubt_ends(&mut self, away: &str) {
        self.lab().heal(away).unwrap();
        self.until("the doubt to end", 60, |v| doubt(v).is_none());
        self.calm();
        assert!(matches!(self.account(), LossAccount::None { .. }), "{}", self.account());
    }
}

#[test]
fn a_single_receiver_under_the_name_of_a_member_that_is_away_is_a_doubt() {
    let mut cluster = Cluster::start(quick());
    let (primary, away) = cluster.member_away();
    let port = cluster.lab().postgres_ports()[&primary];
    let folder = cluster.folder.path().join("received");
    std::fs::create_dir(&folder).unwrap();
    // The server compares names without regard to case.
    let name = away.to_uppercase();
    let mut receiver = Command::new(cluster.program("pg_receivewal"));
    receiver.arg("--synchronous").arg("--directory").arg(&folder).arg("--dbname");
    receiver.arg(format!("host=127.0.0.1 port={port} user=postgres application_name={name}"));
    let mut receiver = Process(receiver.spawn().unwrap());
    cluster.doubted(&name);
    receiver.end();
    cluster.doubt_ends(&away);
}

#[test]
fn a_copy_of_a_standby_without_its_agent_is_a_doubt() {
    let mut cluster = Cluster::start(quick());
    let (_, away) = cluster.member_away();
    let copy = cluster.dir(&away).join("copy");
    cluster.copy(&cluster.dir(&away).join("data"), &copy);
    std::fs::remove_file(copy.join("postmaster.pid")).unwrap();
    let mut server = Command::new(cluster.program("postgres"));
    server.arg("-D").arg(&copy).args(["-c", "listen_addresses=", "-c", "hot_standby=off", "-c"]);
    server.arg(format!("unix_socket_directories={}", copy.display()));
    as_user(&mut server);
    let mut server = Process(server.spawn().unwrap());
    cluster.doubted(&away);
    server.end();
    cluster.doubt_ends(&away);
}
