//! `cargo bench --bench simulator`: what one simulated run costs. Allocations are not counted here:
//! counting them is a third of the time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark stops at what it does not expect"
)]

use std::path::Path;

use divan::{Bencher, black_box};
use quorate::config;
use quorate::model::topology::{Cluster, Policy};
use quorate::sim::{self, Conditions, Stand, scenario};

fn main() {
    divan::main();
}

fn stage() -> (Cluster, Policy, sim::Scenario) {
    let cluster = config::cluster::parse(Path::new("bench"), scenario::CLUSTER).unwrap();
    let policy = config::policy::parse(Path::new("bench"), scenario::POLICY, &cluster).unwrap();
    let text = scenario::named("primary_failure").unwrap();
    let scenario = scenario::parse(Path::new("bench"), text, &cluster).unwrap();
    (cluster, policy, scenario)
}

/// From nothing: warm-up, failure, failover, rest.
#[divan::bench(sample_count = 200)]
fn simulated_primary_failure(bencher: Bencher) {
    let (cluster, policy, scenario) = stage();
    let mut seed = 0;
    bencher.bench_local(|| {
        seed += 1;
        black_box(sim::run(&cluster, &policy, &Conditions::default(), &scenario, seed))
    });
}

/// The same, and how its times are spread.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn simulated_primary_failure_spread(bencher: Bencher) {
    let (cluster, policy, scenario) = stage();
    let mut times = vec![];
    bencher.bench_local(|| {
        for seed in 1..=1_000 {
            let began = std::time::Instant::now();
            drop(black_box(sim::run(&cluster, &policy, &Conditions::default(), &scenario, seed)));
            times.push(began.elapsed());
        }
    });
    times.sort();
    println!(
        "1,000 runs from nothing: p50 {:?} · p95 {:?} · p99 {:?}",
        times[500], times[950], times[990]
    );
}

/// As what-if runs it: from a cluster that is warmed up already.
#[divan::bench(sample_count = 200)]
fn simulated_primary_failure_from_a_warm_cluster(bencher: Bencher) {
    let (cluster, policy, scenario) = stage();
    let stand = Stand::new(&cluster, &policy, &Conditions::default(), 1, false);
    let mut seed = 0;
    bencher.bench_local(|| {
        seed += 1;
        black_box(stand.play(&scenario, seed))
    });
}
