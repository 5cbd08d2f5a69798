//! Named scenarios on several seeds, and the same seed twice.

use std::path::Path;

use super::*;
use crate::config;
use crate::model::topology::{Cluster, Policy};

fn stage(text: &str) -> (Cluster, Policy, Scenario) {
    let path = Path::new("scenario.yaml");
    let stage = scenario::stage(path, text).unwrap();
    let cluster = stage.cluster.unwrap_or_else(|| scenario::CLUSTER.to_owned());
    let cluster = config::cluster::parse(Path::new("cluster.yaml"), &cluster).unwrap();
    let policy = stage.policy.unwrap_or_else(|| scenario::POLICY.to_owned());
    let policy = config::policy::parse(Path::new("policy.yaml"), &policy, &cluster).unwrap();
    let scenario = scenario::parse(path, text, &cluster).unwrap();
    (cluster, policy, scenario)
}

#[test]
fn named_scenarios_end_as_their_files_say() {
    let only = std::env::var("SCENARIO").ok();
    let mut wrong = vec![];
    for (name, text) in scenario::NAMED.iter().filter(|(n, _)| only.as_ref().is_none_or(|o| o == n)) {
        let (cluster, policy, scenario) = stage(text);
        assert_eq!(scenario.name, *name);
        for seed in 1..=5 {
            let outcome = run(&cluster, &policy, &Conditions::default(), &scenario, seed);
            if !outcome.violations.is_empty() || !outcome.unmet.is_empty() {
                wrong.push(format!("{name} seed {seed}: {:?} {:?}", outcome.violations, outcome.unmet));
                if only.is_some() {
                    for f in &outcome.facts {
                        println!("{:>10.3} {:>10} {:>4} {}", f.at.0 as f64 / 1e9, f.who, f.rule, f.text);
                    }
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (cluster, policy, scenario) = stage(scenario::named("split_brain_attempt").unwrap());
    let text = |seed| serde_json::to_string(&run(&cluster, &policy, &Conditions::default(), &scenario, seed)).unwrap();
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4));
}

/// `SEEDS=1000-2000` sweeps; `SEED=17` prints one day.
#[test]
fn random_days_break_no_law() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|s| s.parse().ok()) {
        let day = chaos::day(seed, true);
        for f in &day.facts {
            println!("{:>10.3} {:>10} {:>4} {}", f.at.0 as f64 / 1e9, f.who, f.rule, f.text);
        }
        panic!("{} {:#?}", day.shape, day.violations);
    }
    let range = std::env::var("SEEDS").unwrap_or_else(|_| "0-300".into());
    let (from, to) = range.split_once('-').map(|(a, b)| (a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap())).unwrap();
    let mut broken = vec![];
    for seed in from..to {
        let day = chaos::day(seed, false);
        if !day.violations.is_empty() {
            broken.push(format!("SEED={seed} ({}): {}: {}", day.shape, day.violations[0].law, day.violations[0].seen));
        }
    }
    assert!(broken.is_empty(), "{} of {} days:\n{}", broken.len(), to - from, broken.join("\n"));
}
