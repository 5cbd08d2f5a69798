//! "If the primary died now": the simulator, fed with the plane's present picture, on a thread of
//! its own with the lowest priority, a run at a time with rests between. The plane's loop never
//! waits for it.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::model::WallTime;
use crate::model::outlook::ForecastView;
use crate::model::topology::{Cluster, Policy};
use crate::model::view::{ClusterState, ClusterView};
use crate::sim::forecast::{self, Sample};
use crate::sim::{self, Stand, whatif};

/// How often the loop hands its picture over.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Runs of each scenario before the sum is shown again.
const RUNS: u64 = 40;
/// So many of each are enough: no percentile changes any more.
const ENOUGH: usize = 2_000;
/// Between two runs.
const REST: Duration = Duration::from_millis(40);
/// The present state is measured and forecast anew after this, changed or not.
const AGAIN: Duration = Duration::from_secs(600);

/// Runs from one state, summed up over minutes.
struct Course {
    begun: std::time::Instant,
    shape: Vec<String>,
    made: WallTime,
    stand: Stand,
    process: Vec<Sample>,
    host: Vec<Sample>,
}

/// Forecasts until the plane ends.
pub(super) fn run(
    cluster: &Cluster,
    policy: &Policy,
    pictures: &watch::Receiver<Option<ClusterView>>,
    forecasts: &mpsc::Sender<ForecastView>,
) {
    // Where the priority cannot be lowered the rests still keep it small.
    let _ = rustix::process::nice(19);
    let mut course: Option<Course> = None;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        if forecasts.is_closed() {
            return;
        }
        let Some(view) = pictures.borrow().clone() else { continue };
        if view.primary.is_none()
            || matches!(view.state, ClusterState::Critical | ClusterState::Unknown)
        {
            continue;
        }
        // Who holds the role and who is well: only that changes the answer much.
        let shape: Vec<String> =
            view.nodes.iter().map(|n| format!("{} {:?} {:?}", n.node, n.role, n.verdict)).collect();
        let goes_on = |c: &Course| c.begun.elapsed() < AGAIN && c.shape == shape;
        let course = match &mut course {
            Some(course) if goes_on(course) => course,
            stale => {
                let stand = whatif::stand(cluster, policy, &view);
                let begun = std::time::Instant::now();
                stale.insert(Course {
                    begun,
                    shape,
                    made: view.made,
                    stand,
                    process: vec![],
                    host: vec![],
                })
            }
        };
        if course.process.len() >= ENOUGH {
            continue;
        }
        more(&course.stand, &whatif::process_dies(), &mut course.process);
        more(&course.stand, &whatif::host_dies(), &mut course.host);
        let (process, host) =
            (forecast::sum_up("process", &course.process), forecast::sum_up("host", &course.host));
        let made = ForecastView {
            made: course.made,
            runs: process.runs + host.runs,
            outage_p50: process.outage_p50,
            outage_p95: process.outage_p95,
            outage_p99: process.outage_p99,
            outage_max: process.outage_max,
            host_p50: host.outage_p50,
            host_p95: host.outage_p95,
            host_p99: host.outage_p99,
            losing: process.losing + host.losing,
            lost_max: process.lost_max.max(host.lost_max),
            read_only: process.read_only,
            host_read_only: host.read_only,
            worst_seed: process.worst_seed,
        };
        if forecasts.blocking_send(made).is_err() {
            return;
        }
    }
}

fn more(stand: &Stand, scenario: &sim::Scenario, samples: &mut Vec<Sample>) {
    let next = samples.len() as u64;
    samples.extend((next..next + RUNS).map(|seed| {
        std::thread::sleep(REST);
        Sample::from(&stand.play(scenario, seed))
    }));
}
