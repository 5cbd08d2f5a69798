//! Named scenarios on several seeds, and the same seed twice.

use std::path::Path;

use super::*;
use crate::config;
use crate::model::planted::{self, Bug};
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

/// Every scenario there is: the named ones, and the files of `tests/rehearsals`.
fn all() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        scenario::NAMED.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    for file in std::fs::read_dir("tests/rehearsals").unwrap().flatten() {
        let name = file.path().file_stem().unwrap().to_str().unwrap().to_owned();
        all.push((name, std::fs::read_to_string(file.path()).unwrap()));
    }
    all.sort();
    all
}

/// `SCENARIO=name,name` plays those and prints them where they fail.
#[test]
fn scenarios_end_as_their_files_say() {
    let only = std::env::var("SCENARIO").ok();
    let (mut wrong, mut walked) = (vec![], Walked::default());
    let wanted = |name: &str| only.as_ref().is_none_or(|o| o.split(',').any(|o| o == name));
    for (name, text) in all().iter().filter(|(n, _)| wanted(n)) {
        let (cluster, policy, scenario) = stage(text);
        assert_eq!(scenario.name, *name);
        for seed in 1..=5 {
            let outcome = run(&cluster, &policy, &Conditions::default(), &scenario, seed);
            walked += outcome.walked;
            if !outcome.violations.is_empty() || !outcome.unmet.is_empty() {
                wrong.push(format!(
                    "{name} seed {seed}: {:?} {:?}",
                    outcome.violations, outcome.unmet
                ));
                if only.is_some() {
                    for f in &outcome.facts {
                        println!(
                            "{:>10.3} {:>10} {:>4} {}",
                            f.at.0 as f64 / 1e9,
                            f.who,
                            f.rule,
                            f.text
                        );
                    }
                    break;
                }
            }
        }
    }
    println!("{walked:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_fires_in_some_scenario() {
    let mut fired = std::collections::BTreeSet::new();
    for (_, text) in all() {
        let (cluster, policy, scenario) = stage(&text);
        for seed in 1..=3 {
            let outcome = run(&cluster, &policy, &Conditions::default(), &scenario, seed);
            fired.extend(outcome.facts.iter().map(|f| f.rule));
        }
    }
    let never: Vec<u16> = crate::engine::rules::RULES
        .iter()
        .map(|(n, _)| *n)
        .filter(|n| !fired.contains(n))
        .collect();
    assert!(never.is_empty(), "no scenario shows the rules {never:?}");
}

/// Four clusters leave a region two at a time; one that cannot stops the rest.
#[test]
fn a_region_is_evacuated_in_waves() {
    use crate::engine::evacuation::{FleetKind, Standing, Terms};
    let (cluster, policy, _) = stage(scenario::named("primary_failure").unwrap());
    let stand = |name: &str| {
        let cluster = Cluster { cluster_id: crate::model::ClusterId::new(name), ..cluster.clone() };
        Stand::new(&cluster, &policy, &Conditions::default(), 1, true)
    };
    let stands: Vec<Stand> = ["a", "b", "c", "d"].map(stand).into();
    let terms = Terms {
        kind: FleetKind::RegionEvacuation,
        leave: "eu-central-1".into(),
        to: None,
        concurrency: 2,
        failures_max: 1,
        least_confidence: 80,
    };
    let plan = fleet::plan(&stands, &terms, "who", "why");
    assert_eq!(plan.waves.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    let outcome = fleet::rehearse(&stands, plan.clone());
    assert!(
        outcome.run.is_done() && outcome.most_at_once == 2 && outcome.violations.is_empty(),
        "{:?}",
        outcome.run.standing
    );
    // The plan was shown; since then two nodes of the first cluster died.
    let mut broken = stands;
    let whom = ["node-3", "node-4"].map(|n| Whom::Node(n.into())).to_vec();
    broken[0].world_mut().inject(&Fault::PowerOff(whom));
    let outcome = fleet::rehearse(&broken, plan);
    let standing: Vec<&str> = outcome.run.standing.values().map(Standing::word).collect();
    assert_eq!(standing, ["failed", "moved", "not begun", "not begun"], "{:?}", outcome.run);
    let again = serde_json::to_string(&fleet::rehearse(&broken, outcome.run.plan.clone())).unwrap();
    assert_eq!(again, serde_json::to_string(&outcome).unwrap(), "same seed, same bytes");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (cluster, policy, scenario) = stage(scenario::named("split_brain_attempt").unwrap());
    let text = |seed| {
        serde_json::to_string(&run(&cluster, &policy, &Conditions::default(), &scenario, seed))
            .unwrap()
    };
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4));
}

#[test]
fn unattended_days_that_once_broke_a_law() {
    for seed in [501, 860, 2_241, 5_514] {
        let day = unattended::day(seed, false);
        assert!(day.violations.is_empty(), "SEED={seed} ({}): {:?}", day.shape, day.violations);
    }
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
    let (from, to) = range
        .split_once('-')
        .map(|(a, b)| (a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap()))
        .unwrap();
    let mut broken = vec![];
    for seed in from..to {
        let day = chaos::day(seed, false);
        if !day.violations.is_empty() {
            broken.push(format!(
                "SEED={seed} ({}): {}: {}",
                day.shape, day.violations[0].law, day.violations[0].seen
            ));
        }
    }
    assert!(broken.is_empty(), "{} of {} days:\n{}", broken.len(), to - from, broken.join("\n"));
}

/// Days that once broke a law: two of two voters with a change half-way, changes that waited for
/// ever, a person's plan that kept a failover from being made, a release that was said again with
/// every answer to it; a holder whose clock stood still and climbed above its successor (10103), a
/// volume exchanged under a lease (68338) or between a win and the promotion (52691, 93420, 94299), a
/// fence that forgot who was before (25199), and a winner shown healthy too early (32468); survivors
/// with the beginning of a line that only another one heard its winner open (3414, 43014), an
/// agent that started over a newer epoch while its store failed (175627), a joint stage whose
/// standby was replaced (42368), and one gap that passed for the pace (136752).
#[test]
fn days_that_once_broke_a_law() {
    for seed in [
        7_274, 10_327, 10_668, 13_716, 14_721, 16_686, 17_441, 19_926, 46_131, 48_557, 50_338,
        50_530, 52_102, 53_290, 67_253, 10_103, 68_338, 52_691, 93_420, 94_299, 25_199, 32_468,
        62_556, 3_414, 43_014, 122_011, 175_627, 42_368, 136_752, 403_406, 407_267, 408_979,
        409_759, 15_898, 400_064, 401_562, 406_879, 526_323, 540_000, 574_235, 593_067, 647_866,
        649_767, 683_746, 683_793, 706_066, 1_104_941, 1_106_548,
    ] {
        let day = chaos::day(seed, false);
        assert!(day.violations.is_empty(), "SEED={seed} ({}): {:?}", day.shape, day.violations);
        assert!(day.events < 1_000_000, "SEED={seed}: a storm of {} events", day.events);
    }
}

/// `SEEDS=1000-2000` sweeps; `SEED=17` prints one day.
#[test]
fn random_days_of_several_writers_break_no_law() {
    let range = std::env::var("SEEDS").unwrap_or_else(|_| "0-300".into());
    let (from, to) = range
        .split_once('-')
        .map(|(a, b)| (a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap()))
        .unwrap();
    let broken: Vec<String> = (from..to)
        .map(|seed| sharing_day::day(seed, false))
        .filter(|day| !day.violations.is_empty())
        .map(|day| {
            format!(
                "SEED={} ({}): {}: {}",
                day.seed, day.shape, day.violations[0].law, day.violations[0].seen
            )
        })
        .collect();
    assert!(broken.is_empty(), "{} of {} days:\n{}", broken.len(), to - from, broken.join("\n"));
}

/// Nobody is there under a manual policy; every way out that is shown can be taken, and those that
/// one person takes end the outage. `SEEDS=1000-2000` sweeps.
#[test]
fn ways_out_end_unattended_days() {
    let range = std::env::var("SEEDS").unwrap_or_else(|_| "0-300".into());
    let (from, to) = range
        .split_once('-')
        .map(|(a, b)| (a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap()))
        .unwrap();
    let mut walked = Walked::default();
    let mut broken = vec![];
    for day in (from..to).map(|seed| unattended::day(seed, false)) {
        walked += day.walked;
        broken.extend(
            day.violations
                .first()
                .map(|v| format!("SEED={} ({}): {}: {}", day.seed, day.shape, v.law, v.seen)),
        );
    }
    println!("{walked:?}");
    assert!(walked.states > 0 && walked.orders > 0, "nothing was walked");
    assert!(broken.is_empty(), "{} of {} days:\n{}", broken.len(), to - from, broken.join("\n"));
}

/// Days that once broke a law: a node that is heard and that nothing reaches was given a share for
/// ever; a node that only one of two peers answers was never brought up to date.
#[test]
fn days_of_several_writers_that_once_broke_a_law() {
    for seed in [206, 258, 480, 508, 1_152, 1_471, 1_601, 2_051, 2_454] {
        let day = sharing_day::day(seed, false);
        assert!(day.violations.is_empty(), "SEED={seed} ({}): {:?}", day.shape, day.violations);
    }
}

/// Where a bug was found: it shows in a scenario that ends otherwise than without it, or in a
/// random day with a broken law.
#[derive(Debug)]
enum Place {
    Scenario(&'static str),
    Day(u64),
}

/// Whether that bug shows there. When a change of the code moves it: `found_anywhere` looks for
/// another place.
fn shows(bug: Bug, place: &Place) -> bool {
    match place {
        Place::Scenario(name) => {
            let text = all()
                .into_iter()
                .find(|(n, _)| n == name)
                .map(|(_, text)| text)
                .unwrap_or_else(|| panic!("no scenario {name}"));
            let (cluster, policy, scenario) = stage(&text);
            (1..=8).any(|seed| {
                let breaks = || {
                    let outcome = run(&cluster, &policy, &Conditions::default(), &scenario, seed);
                    !outcome.violations.is_empty() || !outcome.unmet.is_empty()
                };
                planted::with(bug, breaks) && !breaks()
            })
        }
        Place::Day(seed) => {
            let breaks = || !chaos::day(*seed, false).violations.is_empty();
            planted::with(bug, breaks) && !breaks()
        }
    }
}

/// Each was met, or is one that the protocol exists to prevent; put back, it is found again. (Of
/// `KeepsOldEpochs` no day tells any more since marks are written, nor of `GuardOnlyRises` since a
/// change of voters counts no earlier than it is promised; the machine's own tests do.)
#[test]
fn planted_bugs_are_found() {
    let places = [
        (Bug::SettlesEarly, Place::Scenario("replication_lag_spike")),
        (Bug::NoCut, Place::Scenario("data_corruption")),
        (Bug::NoFence, Place::Scenario("database_hung_under_a_live_agent")),
        (Bug::StaysStopped, Place::Scenario("stopped_former_primary_has_a_word")),
        (Bug::NoBlackout, Place::Scenario("voters_restart_together")),
        (Bug::ReclaimsAtAnyLoss, Place::Scenario("successor_gave_back_and_is_gone")),
        (Bug::OldGuard, Place::Scenario("guard_of_the_volume_before")),
        (Bug::StoppedByPath, Place::Scenario("directory_renamed_under_a_primary")),
        (Bug::TrustsTheCache, Place::Scenario("voter_whose_store_fails")),
        (Bug::LeavesStrays, Place::Scenario("started_by_hand_after_its_death")),
        (Bug::NoMark, Place::Scenario("another_clusters_data")),
        (Bug::NoMark, Place::Scenario("older_backup_of_the_only_confirmer")),
        (Bug::NoMark, Place::Scenario("older_backup_of_a_lone_primary")),
        (Bug::AnyLog, Place::Scenario("copy_run_by_hand_under_a_lone_primary")),
        (Bug::AnyLog, Place::Scenario("copy_run_by_hand_of_the_only_confirmer")),
        (Bug::AnyLine, Place::Scenario("promoted_by_hand_and_furthest")),
        (Bug::UnguardedForEver, Place::Scenario("guard_cannot_be_started")),
        (Bug::DoubtForgotten, Place::Scenario("commits_that_do_not_wait")),
        (Bug::HoldsOnOvertaken, Place::Day(10_103)),
        (Bug::AnyProof, Place::Scenario("verified_by_an_old_proof")),
    ];
    let missed: Vec<_> = places.iter().filter(|(bug, place)| !shows(*bug, place)).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// `BUG=NoCut cargo nextest run found_anywhere --run-ignored all --no-capture` looks through all
/// scenarios and 8,000 days.
#[test]
#[ignore = "thousands of random days, for one bug named by the environment"]
fn found_anywhere() {
    let wanted = std::env::var("BUG").unwrap();
    let bug = Bug::ALL
        .into_iter()
        .find(|b| format!("{b:?}") == wanted)
        .unwrap_or_else(|| panic!("{wanted}: one of {:?}", Bug::ALL));
    let scenarios: Vec<(&'static str, String)> =
        all().into_iter().map(|(name, text)| (&*name.leak(), text)).collect();
    let place = scenarios
        .iter()
        .map(|(name, _)| Place::Scenario(name))
        .chain((0..8_000).map(Place::Day))
        .find(|place| shows(bug, place));
    println!("{place:?}");
    assert!(place.is_some(), "{bug:?} was not found");
}

fn parsed(cluster: &str) -> Cluster {
    config::cluster::parse(Path::new("cluster.yaml"), cluster).unwrap()
}

/// Clusters as people have them, by what is special about them.
const CLUSTERS: &[(&str, &str)] = &[
    (
        "three nodes in one region, with names of their own",
        "cluster_id: shop\nname: Shop\nregions: [home]\nsynchronous_standbys: 1\nlease_ms: 5000\n\
         nodes:\n\
         - {node_id: alpha, hostname: a, role: primary, region: home}\n\
         - {node_id: bravo, hostname: b, role: secondary, region: home}\n\
         - {node_id: charlie, hostname: c, role: secondary, region: home}\n",
    ),
    (
        "five nodes in three regions, the primary not the first",
        "cluster_id: pay\nname: Pay\nregions: [north, south, west]\nsynchronous_standbys: 2\n\
         nodes:\n\
         - {node_id: s1, hostname: a, role: secondary, region: south}\n\
         - {node_id: n1, hostname: b, role: primary, region: north}\n\
         - {node_id: s2, hostname: c, role: secondary, region: south}\n\
         - {node_id: w1, hostname: d, role: secondary, region: west}\n\
         - {node_id: w2, hostname: e, role: secondary, region: west}\n",
    ),
    (
        "two nodes",
        "cluster_id: two\nname: Two\nregions: [r]\nsynchronous_standbys: 1\nnodes:\n\
         - {node_id: left, hostname: a, role: primary, region: r}\n\
         - {node_id: right, hostname: b, role: secondary, region: r}\n",
    ),
    (
        "two nodes and a witness, commits wait for nobody",
        "cluster_id: lean\nname: Lean\nregions: [r, q]\nsynchronous_standbys: 0\nnodes:\n\
         - {node_id: main, hostname: a, role: primary, region: r}\n\
         - {node_id: spare, hostname: b, role: secondary, region: q}\n\
         - {node_id: eye, hostname: c, role: witness, region: q}\n",
    ),
];

/// Two of them named nodes and regions that only the built-in cluster has, and others expected what
/// a smaller cluster cannot give.
#[test]
fn named_scenarios_are_played_on_any_cluster_or_say_what_they_need() {
    let only = std::env::var("SCENARIO").ok();
    let (mut wrong, mut played) = (vec![], 0);
    for (what, text) in CLUSTERS {
        let cluster = parsed(text);
        let policy = scenario::POLICY.lines().filter(|l| !l.starts_with("region_priority"));
        let policy = policy.collect::<Vec<_>>().join("\n");
        let policy = config::policy::parse(Path::new("policy.yaml"), &policy, &cluster).unwrap();
        for (name, text) in
            scenario::NAMED.iter().filter(|(n, _)| only.as_ref().is_none_or(|o| o == n))
        {
            let scenario = match scenario::parse(Path::new(name), text, &cluster) {
                Ok(scenario) => scenario,
                Err(problem) => {
                    wrong.push(format!("{name} on {what}: {problem}"));
                    continue;
                }
            };
            assert!(!scenario.needs.is_empty(), "{name}");
            let lacks = needs::lacks(&cluster, &policy, &scenario.needs);
            if !lacks.is_empty() {
                println!("{name} on {what} needs {}", lacks.join("; "));
                continue;
            }
            played += 1;
            for seed in 1..=2 {
                let outcome = run(&cluster, &policy, &Conditions::default(), &scenario, seed);
                if !outcome.violations.is_empty() || !outcome.unmet.is_empty() {
                    wrong.push(format!(
                        "{name} on {what}, seed {seed}: {:?} {:?}",
                        outcome.violations, outcome.unmet
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(only.is_some() || played > 40, "{played}");
}

#[test]
fn what_a_scenario_needs_is_said_with_its_numbers() {
    let cluster = parsed(CLUSTERS[2].1);
    let policy = "policy_id: p\nname: P\nstrategy: automatic\n";
    let policy = config::policy::parse(Path::new("policy.yaml"), policy, &cluster).unwrap();
    let lacks = |name: &str| {
        let text = scenario::named(name).unwrap();
        let scenario = scenario::parse(Path::new(name), text, &cluster).unwrap();
        needs::lacks(&cluster, &policy, &scenario.needs)
    };
    assert_eq!(
        lacks("network_partition"),
        ["a majority of the voters without primary: without left are 1 of 2, and 2 are needed"]
    );
    assert_eq!(lacks("witness_loss"), ["witnesses; there is no such node"]);
    assert_eq!(
        lacks("residency_conflict"),
        [
            "data_classes, and a policy whose residency forbids the region of one standby and allows \
          that of another"
        ]
    );
    assert_eq!(
        lacks("secondary_failure")[0],
        "standbys that confirm commits without secondary (right): 0 are left, and \
         synchronous_standbys is 1"
    );
    assert_eq!(lacks("primary_failure"), Vec::<String>::new());
}

/// Most were refused: the one thing that whoever runs such a cluster should see.
#[test]
fn where_commits_wait_for_no_standby_an_incident_is_played_and_proves_nothing() {
    let mut cluster = parsed(CLUSTERS[2].1);
    cluster.synchronous_standbys = 0;
    let policy = "policy_id: p\nname: P\nstrategy: automatic\n";
    let policy = config::policy::parse(Path::new("policy.yaml"), policy, &cluster).unwrap();
    let text = scenario::named("primary_failure").unwrap();
    let scenario = scenario::parse(Path::new("primary_failure"), text, &cluster).unwrap();
    assert_eq!(needs::lacks(&cluster, &policy, &scenario.needs), Vec::<String>::new());
    assert!(scenario.expect.is_empty() && scenario.waived[0] == "moved", "{scenario:?}");
    let outcome = run(&cluster, &policy, &Conditions::default(), &scenario, 1);
    assert_eq!(outcome.violations, [], "the laws hold all the same");
}
