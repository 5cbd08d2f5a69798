//! A real HAProxy with the configuration of the docs: clients that know only its address go where
//! the role goes, and are not left on a node that lost it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate::lab::Target;
use quorate::lab::{What, measure};
use tokio_postgres::NoTls;

use crate::fencing::comes_true;
use crate::{Cluster, NODES, free_port, quick};

struct Router {
    process: Child,
    write: u16,
    read: u16,
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One request, as a health check makes it; its code and all that was answered.
fn ask(address: &str, method: &str, target: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "{method} {target} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let code = text.split(' ').nth(1).and_then(|c| c.parse().ok());
    (code.unwrap_or_else(|| panic!("{text:?}")), text)
}

impl Cluster {
    fn door(&self, node: &str) -> String {
        self.lab.as_ref().unwrap().http_address(node).unwrap()
    }
    fn code(&self, node: &str, target: &str) -> u16 {
        ask(&self.door(node), "OPTIONS", target).0
    }
    /// HAProxy with the configuration in the docs; only addresses are the lab's.
    fn router(&self) -> Router {
        let (write, read) = (free_port(), free_port());
        let mut text = std::fs::read_to_string("docs/haproxy.cfg").unwrap();
        for (number, node) in NODES.iter().enumerate() {
            let postgres = self.lab.as_ref().unwrap().postgres_ports()[*node];
            let door = self.door(node);
            let door = door.split(':').nth(1).unwrap();
            let documented = format!("10.0.0.{}:5432 check port 7421", number + 1);
            assert_eq!(text.matches(&documented).count(), 2);
            text = text.replace(&documented, &format!("127.0.0.1:{postgres} check port {door}"));
        }
        text = text.replace("bind :5000", &format!("bind 127.0.0.1:{write}"));
        text = text.replace("bind :5001", &format!("bind 127.0.0.1:{read}"));
        let file = self.folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(self.folder.path().join("haproxy.log")).unwrap();
        let program = ["/usr/sbin/haproxy", "haproxy"]
            .into_iter()
            .find(|p| Command::new(p).arg("-v").stdout(Stdio::null()).status().is_ok())
            .expect("haproxy is not installed: tests/prepare");
        let process = Command::new(program)
            .args(["-db", "-f"])
            .arg(file)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Router { process, write, read }
    }
    /// A statement through the router; the error's words otherwise.
    fn through(&self, port: u16, statement: &str) -> Result<Vec<String>, String> {
        self.runtime.block_on(async {
            let settings = format!(
                "host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=3"
            );
            let words = |e: tokio_postgres::Error| e.to_string();
            let (client, connection) =
                tokio_postgres::connect(&settings, NoTls).await.map_err(words)?;
            tokio::spawn(connection);
            let rows = client.simple_query(statement).await.map_err(words)?;
            let first = |m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
                _ => None,
            };
            Ok(rows.into_iter().filter_map(first).collect())
        })
    }
}

#[test]
fn clients_behind_haproxy_go_where_the_role_goes() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    let router = cluster.router();
    let target = Target { nodes: [("router".to_owned(), router.write)].into(), simulated: false };
    cluster.runtime.block_on(target.prepare(Duration::from_secs(30))).unwrap();
    let load = cluster.load_on(target);
    for round in 0..3 {
        let before = cluster.calm();
        let primary = before.primary.clone().unwrap();
        let node = primary.as_str();
        // A session that nobody uses: it is not told when its host is gone.
        let idle = cluster.runtime.block_on(async {
            let settings = format!("host=127.0.0.1 port={} user=postgres", router.write);
            let (client, connection) = tokio_postgres::connect(&settings, NoTls).await.unwrap();
            (client, tokio::spawn(connection))
        });
        match round {
            0 => _ = cluster.lab().kill(node, What::Postgres).unwrap(),
            1 => cluster
                .runtime
                .block_on(measure::switchover(&cluster.client, &cluster.identity, &primary))
                .unwrap(),
            // Paused as a whole: it closes nothing and answers nothing.
            _ => _ = cluster.lab().freeze(node, What::Host, true).unwrap(),
        }
        let moved = cluster.until("the role to move", 60, |v| {
            v.epoch > before.epoch && v.primary.is_some() && v.primary != before.primary
        });
        load.reach(200);
        comes_true("the old session is cut", 10, || idle.1.is_finished());
        let holder = moved.primary.unwrap();
        let takes: Vec<&str> = NODES
            .into_iter()
            .filter(|n| *n != node && cluster.code(n, "/primary") == 200)
            .collect();
        assert_eq!(takes, [holder.as_str()]);
        cluster.lab().heal(node).unwrap();
    }
    let report = load.end(&cluster);
    println!("{report:?}");
    assert_eq!(report.unverified, "", "{report:?}");
    assert_eq!((report.lost, report.overlaps), (0, 0), "{report:?}");
    cluster.calm();
    // Readers are spread over the standbys.
    let reads = |_| cluster.through(router.read, "select pg_is_in_recovery()");
    comes_true("both standbys serve readers", 20, || {
        NODES.iter().filter(|n| cluster.code(n, "/replica?lag=16MB") == 200).count() == 2
    });
    comes_true("readers reach a standby", 10, || reads(0) == Ok(vec!["t".into()]));
    assert!((0..8).map(reads).all(|answer| answer == Ok(vec!["t".into()])));
}

#[test]
fn every_path_tells_its_own_row() {
    let mut cluster = Cluster::start(quick());
    let view = cluster.calm_at("node-1");
    let paths = [
        "/",
        "/primary",
        "/master",
        "/leader",
        "/read-write",
        "/replica",
        "/replica?lag=16MB",
        "/sync",
        "/async",
        "/read-only",
        "/health",
        "/liveness",
        "/readiness",
        "/standby-leader",
        "/other",
    ];
    let row = |node: &str| paths.map(|path| cluster.code(node, path));
    let primary = [200, 200, 200, 200, 200, 503, 503, 503, 503, 200, 200, 200, 200, 503, 404];
    let standby = [503, 503, 503, 503, 503, 200, 200, 200, 503, 200, 200, 200, 200, 503, 404];
    comes_true("the rows", 10, || {
        [row("node-1"), row("node-2"), row("node-3")] == [primary, standby, standby]
    });
    let door = cluster.door("node-1");
    let (code, text) = ask(&door, "GET", "/primary");
    let body: serde_json::Value =
        serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        (code, &body["role"], &body["epoch"]),
        (200, &"primary".into(), &view.epoch.0.into())
    );
    let left = body["lease_left_ms"].as_u64().unwrap();
    assert!(left > 0 && left <= 2_000, "{text}");
    for (method, expected) in [("HEAD", 200), ("OPTIONS", 200), ("POST", 405)] {
        let (code, text) = ask(&door, method, "/primary");
        assert_eq!((code, text.split("\r\n\r\n").nth(1)), (expected, Some("")), "{text}");
    }
    // Whoever says nothing is let go, and holds up nobody.
    let mut silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&door).unwrap()).collect();
    assert_eq!(cluster.code("node-1", "/primary"), 200);
    silent[0].set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(silent[0].read(&mut [0; 64]).unwrap_or(0), 0);
    // Cut off from the voters it stops saying so by itself, by its own clock.
    cluster.lab().cut("node-1").unwrap();
    comes_true("node-1 says no", 20, || cluster.code("node-1", "/primary") == 503);
    comes_true("another says yes", 60, || {
        ["node-2", "node-3"].iter().any(|n| cluster.code(n, "/primary") == 200)
    });
    assert_eq!(cluster.code("node-1", "/primary"), 503);
}
