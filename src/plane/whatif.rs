//! "If the primary died now": the simulator, fed with the plane's present picture, on a thread of its own with the
//! lowest priority, a run at a time with rests between. The plane's loop never waits for it.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::model::topology::{Cluster, Policy};
use crate::model::view::{ClusterState, ClusterView, ForecastView};
use crate::sim::forecast::{self, Forecast};
use crate::sim::{self, Stand, whatif};

/// How often the loop hands its picture over.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Runs of each scenario.
const RUNS: u64 = 40;
/// Between two runs.
const REST: Duration = Duration::from_millis(40);
/// The present state is forecast again after this, changed or not.
const AGAIN: Duration = Duration::from_secs(60);

/// Forecasts until the plane ends.
pub(super) fn run(
    cluster: &Cluster,
    policy: &Policy,
    pictures: &watch::Receiver<Option<ClusterView>>,
    forecasts: &mpsc::Sender<ForecastView>,
) {
    // Where the priority cannot be lowered the rests still keep it small.
    let _ = rustix::process::nice(19);
    let mut last: Option<(std::time::Instant, Vec<String>)> = None;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        if forecasts.is_closed() {
            return;
        }
        let Some(view) = pictures.borrow().clone() else { continue };
        if view.primary.is_none() || matches!(view.state, ClusterState::Critical | ClusterState::Unknown) {
            continue;
        }
        // Who holds the role and who is well: only that changes the answer much.
        let shape: Vec<String> = view.nodes.iter().map(|n| format!("{} {:?} {:?}", n.node, n.role, n.verdict)).collect();
        if last.as_ref().is_some_and(|(at, s)| at.elapsed() < AGAIN && *s == shape) {
            continue;
        }
        let stand = whatif::stand(cluster, policy, &view);
        let (process, host) = (play(&stand, &whatif::process_dies()), play(&stand, &whatif::host_dies()));
        last = Some((std::time::Instant::now(), shape));
        let made = ForecastView {
            made: view.made,
            runs: process.runs + host.runs,
            outage_p50: process.outage_p50,
            outage_p95: process.outage_p95,
            outage_max: process.outage_max,
            host_p50: host.outage_p50,
            host_p95: host.outage_p95,
            losing: process.losing + host.losing,
            read_only: process.read_only,
        };
        if forecasts.blocking_send(made).is_err() {
            return;
        }
    }
}

fn play(stand: &Stand, scenario: &sim::Scenario) -> Forecast {
    let samples: Vec<_> = (0..RUNS)
        .map(|seed| {
            std::thread::sleep(REST);
            forecast::Sample::from(&stand.play(scenario, seed))
        })
        .collect();
    forecast::sum_up(&scenario.name, &samples)
}
