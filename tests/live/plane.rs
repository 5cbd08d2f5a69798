//! The plane dies: for long, and in the middle of a failover at each step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::lab::load;
use quorate::lab::{Target, What, measure};
use quorate::model::Span;

use crate::{Cluster, nothing_lost, quick};

/// Writers on all nodes, whoever holds the role.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    running: tokio::task::JoinHandle<load::Report>,
}

impl Cluster {
    pub(crate) fn load(&mut self) -> Load {
        let target = self.lab().target();
        self.runtime.block_on(target.prepare(Duration::from_secs(20))).unwrap();
        self.load_on(target)
    }
    /// On a target that is prepared.
    pub(crate) fn load_on(&self, target: Target) -> Load {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let running = self.runtime.spawn({
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            async move { load::run(&target, stop, count).await }
        });
        let load = Load { stop, count, running };
        load.reach(200);
        load
    }
}

impl Load {
    pub(crate) fn reach(&self, more: u64) {
        let wanted = self.count.load(Ordering::Relaxed) + more;
        let end = Instant::now() + Duration::from_secs(60);
        while self.count.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < end, "no write was acknowledged for a minute");
            std::thread::yield_now();
        }
    }
    pub(crate) fn end(self, cluster: &Cluster) -> load::Report {
        self.stop.store(true, Ordering::SeqCst);
        cluster.runtime.block_on(self.running).unwrap()
    }
}

/// Longer than many leases. Three minutes by hand: `QUORATE_TEST_PLANE_GONE_S=180`.
fn gone_for() -> Duration {
    Duration::from_secs(
        std::env::var("QUORATE_TEST_PLANE_GONE_S").ok().and_then(|s| s.parse().ok()).unwrap_or(12),
    )
}

#[test]
fn without_a_plane_the_primary_stays_writable_and_nothing_fails_over() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm();
    let load = cluster.load();
    cluster.lab().kill_plane().unwrap();
    let end = Instant::now() + gone_for();
    while Instant::now() < end {
        load.reach(10);
    }
    let report = load.end(&cluster);
    assert_eq!((report.lost, report.overlaps, report.failed), (0, 0, 0), "{report:?}");
    assert!(report.longest_outage_ms < 2_000.0, "a lease was lost on the way: {report:?}");
    assert_eq!(report.by_node.len(), 1, "{report:?}");
    cluster.lab().start_plane().unwrap();
    let after = cluster.calm();
    assert_eq!((after.epoch, after.primary), (before.epoch, before.primary));
}

/// The plane is killed so many milliseconds after the fault: before it heard, while it decides,
/// claims, promotes, verifies, and after.
#[test]
fn a_plane_killed_in_the_middle_of_a_failover_leaves_nothing_half_done() {
    let mut cluster = Cluster::start(quick());
    for delay_ms in [0, 8, 20, 30, 45, 70, 110, 180] {
        let before = cluster.calm();
        let primary = before.primary.clone().unwrap();
        let load = cluster.load();
        cluster.lab().kill(primary.as_str(), What::Postgres).unwrap();
        let fault = quorate::agent::host::now();
        while quorate::agent::host::now().since(fault) < Span::millis(delay_ms) {
            std::hint::spin_loop();
        }
        cluster.lab().kill_plane().unwrap();
        cluster.lab().start_plane().unwrap();
        let view = cluster.until("a primary in a newer epoch", 60, |v| {
            v.epoch > before.epoch && measure::is_calm(v)
        });
        load.reach(100);
        let report = load.end(&cluster);
        let ran = view.run.map(|r| {
            format!(
                "{:?} {:?}",
                r.outcome,
                r.steps.iter().map(|s| s.state.word()).collect::<Vec<_>>()
            )
        });
        println!(
            "plane killed {delay_ms} ms after the fault: outage {:.0} ms, run {ran:?}",
            report.longest_outage_ms
        );
        assert_eq!((report.lost, report.overlaps), (0, 0), "{report:?}");
        let restarted_in_place = report.by_node.len() == 1;
        if !restarted_in_place {
            nothing_lost(&report);
        }
    }
}
