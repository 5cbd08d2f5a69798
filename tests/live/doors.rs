//! What a new client finds: a server whose postmaster stands still, and one that is full.

use std::time::{Duration, Instant};

use quorate::agent::host;
use quorate::model::view::{ClusterState, ClusterView, Verdict};
use rustix::process::Signal;

use crate::{Cluster, nothing_lost, quick};

fn verdict<'a>(view: &'a ClusterView, node: &str) -> (Verdict, &'a str) {
    let found = view.nodes.iter().find(|n| n.node.as_str() == node);
    found.map_or((Verdict::Unknown, ""), |n| (n.verdict, &n.why))
}

/// Every new client hung for 30 s while all was "healthy": the agent's checks rode on a session
/// that had been opened before.
#[test]
fn a_postmaster_that_stands_still_loses_the_role() {
    let mut cluster = Cluster::start(quick());
    cluster.calm_at("node-1");
    let server = cluster.server("node-1");
    let load = cluster.load();
    host::signal(server.pid, Signal::STOP);
    cluster.until("node-1 is not healthy any more", 20, |v| {
        verdict(v, "node-1").0 > Verdict::Degraded
    });
    cluster.until("another node takes the role", 60, |v| {
        v.primary.as_ref().is_some_and(|p| p.as_str() != "node-1")
            && v.run.as_ref().is_some_and(|r| r.outcome.is_some())
    });
    load.reach(100);
    nothing_lost(&load.end(&cluster));
    cluster.calm();
}

/// A server that says "too many clients already" works: that is no reason to move the role.
#[test]
fn a_server_without_a_free_connection_is_degraded_and_keeps_the_role() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm_at("node-1");
    let port = cluster.lab().postgres_ports()["node-1"];
    let load = cluster.load();
    let settings = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let clients = cluster.runtime.block_on(async {
        let mut clients = Vec::new();
        let end = Instant::now() + Duration::from_secs(60);
        // Whatever the agent lets go for a moment is taken too.
        loop {
            match tokio_postgres::connect(&settings, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    clients.push((client, tokio::spawn(connection)));
                }
                Err(error) if error.code().is_some_and(|c| c.code() == "53300") => return clients,
                Err(error) => panic!("{error:?}"),
            }
            assert!(Instant::now() < end);
        }
    });
    let full = cluster.until("node-1 is degraded", 30, |v| {
        let (verdict, why) = verdict(v, "node-1");
        verdict == Verdict::Degraded && why.contains("53300")
    });
    assert_eq!(full.epoch, before.epoch);
    // Several leases.
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        load.reach(10);
        let view = cluster.until("the picture", 10, |_| true);
        assert!(verdict(&view, "node-1").0 <= Verdict::Degraded, "{:?}", verdict(&view, "node-1"));
        assert_eq!((&view.epoch, &view.primary), (&before.epoch, &before.primary));
    }
    drop(clients);
    let after = cluster.calm();
    assert_eq!((after.epoch, after.primary), (before.epoch, before.primary));
    let report = load.end(&cluster);
    assert_eq!((report.lost, report.overlaps, report.failed), (0, 0, 0), "{report:?}");
}

/// An agent is a superuser, for whom connections are kept: it is let in where nobody else is.
#[test]
fn a_server_full_of_ordinary_clients_is_degraded_and_keeps_the_role() {
    let cluster = Cluster::start(quick());
    let before = cluster.calm();
    let primary = before.primary.clone().unwrap();
    cluster.ok(primary.as_str(), "CREATE ROLE app LOGIN");
    let port = cluster.lab.as_ref().unwrap().postgres_ports()[primary.as_str()];
    let settings = format!("host=127.0.0.1 port={port} user=app dbname=postgres");
    let clients = cluster.runtime.block_on(async {
        let mut clients = Vec::new();
        while let Ok((client, connection)) =
            tokio_postgres::connect(&settings, tokio_postgres::NoTls).await
        {
            clients.push((client, tokio::spawn(connection)));
        }
        clients
    });
    let seen = cluster.until("that nobody else is let in", 30, |v| {
        v.state == ClusterState::Degraded && v.why.contains("connections of ordinary roles")
    });
    assert_eq!((seen.primary, seen.epoch), (before.primary.clone(), before.epoch));
    drop(clients);
    assert_eq!(cluster.calm().primary, before.primary);
}
