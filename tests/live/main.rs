//! Real PostgreSQL, real processes, real signals. Conditions with deadlines, no sleeps as
//! synchronisation; correctness is asserted, times are reported.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod adopt;
mod archive;
mod bad_days;
mod bare;
mod certificates;
mod console;
mod data;
mod doors;
mod failover;
mod fencing;
mod laws;
mod layouts;
mod ledger;
mod membership;
mod plane;
mod power;
mod rebuilding;
mod receivers;
mod release;
mod rolling;
mod routers;
mod serving;
mod settings;
mod sources;
mod stops;
mod store;
mod twice;
mod unseen;
mod walk;

use std::path::Path;
use std::time::Duration;

use quorate::config::Identity;
use quorate::lab::{Lab, Options, measure};
use quorate::wire::Client;

/// Of every lab that the tests build.
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// A lab that ends with the test, also when it fails.
struct Cluster {
    lab: Option<Lab>,
    folder: tempfile::TempDir,
    identity: Identity,
    client: Client,
    runtime: tokio::runtime::Runtime,
    laws: Option<laws::Laws>,
}

impl Cluster {
    fn start(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("qt-").tempdir_in("/tmp").unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
        let lab = Lab::create(&folder.path().join("lab"), options, program, |_| {}).unwrap();
        let identity = Identity::read(&lab.identity("operator")).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime
            .block_on(async { Client::new(&identity.plane, "plane", &identity.tls).unwrap() });
        let ports = lab.postgres_ports().clone();
        let laws = Some(laws::Laws::watch(&identity, folder.path().join("lab"), ports));
        Self { lab: Some(lab), folder, identity, client, runtime, laws }
    }
    fn lab(&mut self) -> &mut Lab {
        self.lab.as_mut().unwrap()
    }
    fn once(&mut self, event: measure::Event) -> quorate::lab::load::Report {
        let lab = self.lab.as_mut().unwrap();
        let report = self.runtime.block_on(measure::once(lab, &self.client, &self.identity, event));
        let report = report.unwrap_or_else(|e| panic!("{e}"));
        println!("{event:?}: {report:?}");
        report
    }
    fn until(
        &self,
        what: &str,
        seconds: u64,
        holds: impl Fn(&quorate::model::view::ClusterView) -> bool,
    ) -> quorate::model::view::ClusterView {
        let found = self.runtime.block_on(measure::until(
            &self.client,
            Duration::from_secs(seconds),
            what,
            holds,
        ));
        found.unwrap_or_else(|e| panic!("{e}"))
    }
    fn calm(&self) -> quorate::model::view::ClusterView {
        self.until("a healthy, steady cluster", 90, measure::is_calm)
    }
    /// Calm, and the role on that node: a machine under load may have moved it in the meantime.
    fn calm_at(&self, node: &str) -> quorate::model::view::ClusterView {
        for _ in 0..3 {
            let view = self.calm();
            let holder = view.primary.as_ref().expect("a calm cluster has one");
            if holder.as_str() == node {
                return view;
            }
            // What a refusal says is in the logs.
            self.quorate(&["switchover", "--to", node, "--confirm", holder.as_str()]);
        }
        panic!("{node} does not get the role")
    }
    /// The ends of all logs, said when a test fails.
    fn logs(&self) -> String {
        let lab = self.folder.path().join("lab");
        let mut text = String::new();
        for log in ["plane.log", "node-1/agent.log", "node-2/agent.log", "node-3/agent.log"] {
            let all = std::fs::read_to_string(lab.join(log)).unwrap_or_default();
            let tail: Vec<&str> = all.lines().rev().take(25).collect();
            text.push_str(&format!(
                "--- {log}\n{}\n",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let broken = self.laws.take().map_or(vec![], laws::Laws::broken);
        let memory = laws::memory_of_servers(&self.folder.path().join("lab"));
        let failed = std::thread::panicking();
        let kept = failed && std::env::var_os("QUORATE_TEST_KEEP").is_some();
        if failed {
            eprintln!("{}", self.logs());
        }
        if let Some(lab) = self.lab.take()
            && let Err(error) = lab.down(kept)
        {
            eprintln!("ending the lab: {error}");
        }
        if kept {
            self.folder.disable_cleanup(true);
            eprintln!("its folder is kept: {}", self.folder.path().display());
        }
        if !failed {
            assert!(broken.is_empty(), "said, and not so: {broken:#?}");
            let left: Vec<_> = memory.intersection(&laws::memory_segments()).copied().collect();
            assert!(left.is_empty(), "a lab that ended left shared memory behind: {left:?}");
        }
    }
}

/// With PostgreSQL's programs in the folder that QUORATE_TEST_POSTGRES names, where it names one.
fn quick() -> Options {
    let postgres = std::env::var_os("QUORATE_TEST_POSTGRES").map(Into::into);
    Options { stabilise_s: 1, postgres, ..Options::default() }
}

/// The kernel says which.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What must hold whatever happened to the primary.
fn nothing_lost(report: &quorate::lab::load::Report) {
    assert_eq!(report.unverified, "", "{report:?}");
    assert_eq!(report.lost, 0, "acknowledged rows are missing: {report:?}");
    assert_eq!(report.overlaps, 0, "two nodes acknowledged at once: {report:?}");
    assert!(report.by_node.len() >= 2, "the role did not move: {report:?}");
}
