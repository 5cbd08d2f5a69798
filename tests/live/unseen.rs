//! A server that lets its agent's looks in no more.

use quorate::model::loss::LossAccount;

use crate::settings::doubt;
use crate::{Cluster, quick};

impl Cluster {
    /// The agent comes by the Unix socket: from here on it is refused, whatever it asks.
    fn refuse_looks(&mut self, node: &str) -> String {
        let rules = self.file(node, "data/pg_hba.conf");
        let before = std::fs::read_to_string(&rules).unwrap();
        std::fs::write(&rules, format!("local all all reject\n{before}")).unwrap();
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE \
            application_name = 'quorate'";
        self.sql(node, &["SELECT pg_reload_conf()"]).unwrap();
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'quorate'";
        self.client_sees("its looks are refused", 30, || {
            let _ = self.ask(node, end);
            self.ask(node, left).is_ok_and(|n| n == ["0"])
        });
        before
    }
    fn let_looks_in(&mut self, node: &str, rules: &str) {
        std::fs::write(self.file(node, "data/pg_hba.conf"), rules).unwrap();
        // Where nothing runs, the next start reads it.
        let _ = self.sql(node, &["SELECT pg_reload_conf()"]);
    }
}

#[test]
fn a_promotion_by_hand_is_seen_where_no_look_succeeds() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let standby = if primary == "node-3" { "node-2" } else { "node-3" };
    let rules = cluster.refuse_looks(standby);
    cluster.ok(standby, "select pg_promote(false)");
    cluster.until("it was found and stopped", 20, |v| {
        v.nodes.iter().filter_map(|n| n.report.as_ref()).any(|r| {
            r.member.node.as_str() == standby
                && r.resource.found.iter().any(|f| f.what.contains("without a lease"))
        })
    });
    cluster.let_looks_in(standby, &rules);
    cluster.calm();
    assert_eq!(cluster.ok(standby, "select pg_is_in_recovery()"), ["t"]);
}

#[test]
fn a_primary_that_lets_no_look_in_has_no_account() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let rules = cluster.refuse_looks(&primary);
    let seen = cluster.until("the doubt", 20, |v| doubt(v).is_some());
    assert!(doubt(&seen).unwrap().contains("no look at this server"), "{:?}", doubt(&seen));
    let account = cluster.account();
    assert!(matches!(account, LossAccount::Unknown { .. }), "{account}");
    // It goes on serving: that is no reason to move the role.
    cluster.ok(&primary, "create table served (n int)");
    assert_eq!(seen.primary.as_ref().unwrap().as_str(), primary);
    cluster.let_looks_in(&primary, &rules);
    cluster.calm();
    assert!(matches!(cluster.account(), LossAccount::None { .. }), "{}", cluster.account());
}

/// Whatever its source, `fsync = off` does not last on a standby: files lose to the command line, and
/// a server with a command line of somebody's own is not the agent's.
#[test]
fn a_standby_does_not_run_without_fsync() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let standby = if primary == "node-3" { "node-2" } else { "node-3" };
    std::fs::create_dir(cluster.file(standby, "data/conf.d")).unwrap();
    cluster.append(standby, "data/conf.d/site.conf", "fsync = off");
    cluster.append(standby, "data/postgresql.conf", "fsync = off\ninclude_dir 'conf.d'");
    let all = ["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", "SHOW fsync"];
    assert_eq!(cluster.sql(standby, &all).unwrap(), "on");
    let data = cluster.file(standby, "data").display().to_string();
    let log = cluster.file(standby, "by-hand.log").display().to_string();
    let socket = cluster.file(standby, "socket").display().to_string();
    let port = cluster.lab().postgres_ports()[standby];
    let line = format!("-c fsync=off -p {port} -c unix_socket_directories={socket}");
    // The agent may end it before it is up.
    cluster.postgres_tries(
        "pg_ctl",
        &["-D", &data, "-l", &log, "-o", &line, "-m", "fast", "-w", "restart"],
    );
    cluster.calm();
    cluster.until_sql(standby, "SHOW fsync", "on");
    assert_eq!(cluster.sql(standby, &["SHOW hot_standby"]).unwrap(), "on");
}
