//! `quorate simulate`: what would happen if, from files alone.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::output::{self, say};
use crate::config;
use crate::model::topology::{Cluster, Policy};
use crate::sim::forecast::{self, Forecast, Sample};
use crate::sim::{
    self, Conditions, Scenario, Walked, chaos, needs, scenario, sharing_day, unattended,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// cluster.yaml; default: the scenario's own, else five nodes in three regions.
    #[arg(long)]
    cluster: Option<PathBuf>,
    /// policy.yaml; default: the scenario's own, else an automatic policy.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// A scenario by name (see --list), or a scenario file.
    #[arg(long, default_value = "primary_failure")]
    scenario: String,
    /// The same seed gives the same bytes on every machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many runs, with this seed and those after it: their distribution instead of one course of
    /// events.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Writes the outcome here as JSON (`json` or `-`: standard output; `table`: in words)
    #[arg(long)]
    output: Option<PathBuf>,
    /// Lists the named scenarios.
    #[arg(long)]
    list: bool,
    /// Prints the scenario's file, to write one's own from.
    #[arg(long)]
    print: bool,
    /// Random days instead of a scenario, on generated clusters: `0-1000` plays the seeds from 0 up
    /// to, not with, 1000 and names every broken law; `17` plays that one and prints it.
    #[arg(long, value_name = "FROM-TO", conflicts_with_all = ["runs", "output", "cluster", "policy", "print"])]
    days: Option<String>,
    /// The same on clusters in which several nodes accept writes.
    #[arg(long, value_name = "FROM-TO", conflicts_with_all = ["days", "runs", "output", "cluster", "policy", "print"])]
    sharing_days: Option<String>,
    /// The same under a manual policy with nobody there: afterwards a person takes the ways out that
    /// the screen names, until clients can write.
    #[arg(long, value_name = "FROM-TO", conflicts_with_all = ["days", "sharing_days", "runs", "output", "cluster", "policy", "print"])]
    unattended_days: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    if arguments.list {
        return list();
    }
    if let Some(range) = &arguments.days {
        return days(range, chaos::day);
    }
    if let Some(range) = &arguments.sharing_days {
        return days(range, sharing_day::day);
    }
    if let Some(range) = &arguments.unattended_days {
        return days(range, unattended::day);
    }
    let (path, text) = source(&arguments.scenario)?;
    if arguments.print {
        output::line(text.trim_end());
        return Ok(Outcome::Done);
    }
    let (cluster, policy) =
        stage(&path, &text, arguments.cluster.as_deref(), arguments.policy.as_deref())?;
    let scenario = scenario::parse(&path, &text, &cluster)?;
    let lacks = needs::lacks(&cluster, &policy, &scenario.needs);
    if !lacks.is_empty() {
        eprintln!(
            "quorate: {} cannot be played on cluster {}; it needs",
            scenario.name, cluster.cluster_id
        );
        lacks.iter().for_each(|what| eprintln!("  {what}"));
        return Ok(Outcome::Refused);
    }
    if !scenario.waived.is_empty() {
        eprintln!(
            "quorate: {}: on {} commits wait for no standby (synchronous_standbys: 0): nobody can \
             prove that nothing was lost, and a person decides. Expected elsewhere, and not here: {}",
            scenario.name,
            cluster.cluster_id,
            scenario.waived.join(", ")
        );
    }
    let conditions = Conditions::default();
    match arguments.runs {
        Some(runs) => {
            let forecast = many(&cluster, &policy, &conditions, &scenario, arguments.seed, runs);
            write(file(arguments), &forecast)?;
            if file(arguments).is_none() {
                print_forecast(&forecast, arguments);
            }
            let (broken, other) = (forecast.violations, forecast.unexpected);
            Ok(ended(arguments, broken == 0 && other == 0, || {
                eprintln!(
                    "quorate: {}: broken laws {broken}; something that it expects is not so in \
                     {other} of {} runs",
                    forecast.scenario, forecast.runs
                );
            }))
        }
        None => {
            let outcome = sim::run(&cluster, &policy, &conditions, &scenario, arguments.seed);
            write(file(arguments), &outcome)?;
            if file(arguments).is_none() {
                print_outcome(&scenario, &outcome);
            }
            let well = outcome.violations.is_empty() && outcome.unmet.is_empty();
            Ok(ended(arguments, well, || {
                judged(&outcome).for_each(|line| eprintln!("quorate: {}: {line}", scenario.name));
            }))
        }
    }
}

/// What it came to. Where the document goes to a file, why it is not done is said all the same.
fn ended(arguments: &Arguments, well: bool, why: impl FnOnce()) -> Outcome {
    if well {
        return Outcome::Done;
    }
    if file(arguments).is_some() {
        why();
    }
    Outcome::NotDone
}

/// Every law that was broken and every expectation that was not met, in words.
fn judged(outcome: &sim::Outcome) -> impl Iterator<Item = String> {
    let broken = outcome.violations.iter().map(|v| format!("BROKEN LAW: {}: {}", v.law, v.seen));
    broken.chain(outcome.unmet.iter().map(|unmet| format!("EXPECTED and not so: {unmet}")))
}

/// The text of a scenario, and what to call it in messages.
fn source(name: &str) -> Result<(PathBuf, String)> {
    if let Some(text) = scenario::named(name) {
        return Ok((PathBuf::from(format!("{name} (named scenario)")), text.to_owned()));
    }
    let path = PathBuf::from(name);
    if path.exists() {
        return Ok((path.clone(), std::fs::read_to_string(&path)?));
    }
    let names = scenario::NAMED.iter().map(|(n, _)| *n);
    let hint = config::problem::nearest(name, names)
        .map_or(String::new(), |n| format!(" Did you mean {n:?}?"));
    Err(eyre!(
        "there is no scenario {name:?}, and no such file.{hint} `quorate simulate --list` lists \
            the named ones"
    ))
}

/// The cluster and the policy to play on.
fn stage(
    path: &Path,
    text: &str,
    cluster: Option<&Path>,
    policy: Option<&Path>,
) -> Result<(Cluster, Policy)> {
    let stage = scenario::stage(path, text)?;
    let named = cluster;
    let cluster = match (cluster, &stage.cluster) {
        (Some(file), _) => config::cluster::read(file)?,
        (None, Some(own)) => {
            config::cluster::parse(path, own).map_err(|p| p.inside(path, text, "cluster"))?
        }
        (None, None) => {
            config::cluster::parse(Path::new("the built-in cluster"), scenario::CLUSTER)?
        }
    };
    // A policy that comes along is for the cluster that comes along.
    let own = stage.policy.as_ref().filter(|_| named.is_none() || stage.cluster.is_none());
    let policy = match (policy, own) {
        (Some(file), _) => config::policy::read(file, &cluster)?,
        (None, Some(own)) => config::policy::parse(path, own, &cluster)
            .map_err(|p| p.inside(path, text, "policy"))?,
        (None, None) => plain_policy(&cluster)?,
    };
    Ok((cluster, policy))
}

/// The built-in policy; it prefers regions that only the built-in cluster has.
pub(super) fn plain_policy(cluster: &Cluster) -> Result<Policy> {
    let known = ["us-east-1", "eu-central-1", "eu-west-1"]
        .iter()
        .all(|r| cluster.regions.iter().any(|c| c == r));
    let text = scenario::POLICY
        .lines()
        .filter(|l| known || !l.starts_with("region_priority"))
        .collect::<Vec<_>>()
        .join("\n");
    Ok(config::policy::parse(Path::new("the built-in policy"), &text, cluster)?)
}

fn list() -> Result<Outcome> {
    let cluster = config::cluster::parse(Path::new("the built-in cluster"), scenario::CLUSTER)?;
    for (name, text) in scenario::NAMED {
        let scenario = scenario::parse(Path::new(name), text, &cluster)?;
        let first = scenario
            .story
            .split_inclusive(['.', ':'])
            .next()
            .unwrap_or_default()
            .replace('\n', " ");
        say!("{name:<22} {}", first.trim_end_matches(':').trim());
    }
    Ok(Outcome::Done)
}

/// Where the document goes; `table` is what is printed anyway.
fn file(arguments: &Arguments) -> Option<&Path> {
    arguments.output.as_deref().filter(|path| *path != Path::new("table"))
}

fn write(path: Option<&Path>, document: &impl serde::Serialize) -> Result<()> {
    match path {
        Some(path) if ["-", "json"].map(Path::new).contains(&path) => output::json(document),
        Some(path) => output::write(path, document)?,
        None => {}
    }
    Ok(())
}

/// Seeds are dealt to the processors; the sum does not depend on how.
fn many(
    cluster: &Cluster,
    policy: &Policy,
    conditions: &Conditions,
    scenario: &Scenario,
    first: u64,
    runs: u64,
) -> Forecast {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let shown = std::io::stderr().is_terminal();
    let mut samples: Vec<Sample> = std::thread::scope(|scope| {
        let worker = |w: u64| {
            let (done, stop) = (&done, &stop);
            scope.spawn(move || {
                // Whole groups of seeds that share a warmed-up cluster stay together.
                let seeds = (first..first + runs).filter(move |seed| (seed / 50) % workers == w);
                forecast::samples(cluster, policy, conditions, scenario, seeds, |_| {
                    let n = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if shown && (n.is_multiple_of(50) || n == runs) {
                        eprint!("\r{n} of {runs} runs ");
                        let _ = std::io::stderr().flush();
                    }
                    !stop.load(Ordering::Relaxed)
                })
            })
        };
        let handles: Vec<_> = (0..workers).map(worker).collect();
        handles.into_iter().flat_map(|h| h.join().unwrap_or_default()).collect()
    });
    if shown {
        eprintln!();
    }
    samples.sort_by_key(|s| s.seed);
    forecast::sum_up(&scenario.name, &samples)
}

pub(super) fn print_outcome(scenario: &Scenario, outcome: &sim::Outcome) {
    say!("{}: {}", scenario.name, scenario.story.trim().replace('\n', " "));
    say!(
        "cluster {}, policy {}, seed {}; simulated; times count from the first event",
        outcome.cluster,
        outcome.policy,
        outcome.seed
    );
    say!("");
    print_course(outcome);
}

/// What happened, and what became of it.
pub(super) fn print_course(outcome: &sim::Outcome) {
    let begin = outcome
        .facts
        .iter()
        .find(|f| f.who == "script")
        .or(outcome.facts.first())
        .map_or(0, |f| f.at.0);
    for fact in outcome.facts.iter().filter(|f| f.at.0 >= begin) {
        let rule = if fact.rule > 0 { fact.rule.to_string() } else { String::new() };
        let since = std::time::Duration::from_nanos(fact.at.0 - begin).as_millis();
        say!(
            "{:>4}.{:03} s  {:<12} {rule:>3}  {}",
            since / 1_000,
            since % 1_000,
            fact.who,
            fact.text
        );
    }
    say!("");
    let name = |node: &Option<crate::model::NodeId>| {
        node.as_ref().map_or("nobody".to_owned(), ToString::to_string)
    };
    let state = if outcome.writable { "writable" } else { "READ-ONLY" };
    let (before, after) = (outcome.epoch_before, outcome.epoch_after);
    if outcome.primary_before.is_none() && outcome.primary_after.is_none() {
        say!("several nodes accept writes: shares of epoch {before} → {after}; {state}");
    } else {
        say!(
            "primary {} (epoch {before}) → {} (epoch {after}); {state}",
            name(&outcome.primary_before),
            name(&outcome.primary_after)
        );
    }
    say!("no write was acknowledged for at most {}", outcome.outage);
    if let Some(account) = &outcome.account {
        say!("loss account: {account}");
    }
    say!("{} writes acknowledged, {} of them lost", outcome.acknowledged, outcome.lost.len());
    let walked = &outcome.walked;
    say!("{} states that were not healthy, {} ways out of them tried", walked.states, walked.ways);
    if outcome.met > 0 {
        say!(
            "{} of them met another write to the same key that they had not seen: of each pair one is gone",
            outcome.met
        );
    }
    judged(outcome).for_each(|line| say!("{line}"));
}

fn print_forecast(f: &Forecast, arguments: &Arguments) {
    say!("{}: {} runs, simulated", f.scenario, f.runs);
    say!("moved {} · read-only at the end {} · broken laws {}", f.moved, f.read_only, f.violations);
    say!(
        "without writes   p50 {} · p95 {} · p99 {} · longest {}",
        f.outage_p50,
        f.outage_p95,
        f.outage_p99,
        f.outage_max
    );
    say!("acknowledged writes lost in {} runs, at most {} in one", f.losing, f.lost_max);
    let who: Vec<String> = f.primaries.iter().map(|(n, count)| format!("{n} {count}")).collect();
    say!("primary at the end: {}", who.join(" · "));
    if f.unexpected > 0 {
        say!("something that the scenario expects is not so in {} runs", f.unexpected);
    }
    let file = |flag: &str, path: &Option<PathBuf>| {
        path.as_ref().map_or(String::new(), |p| format!("--{flag} {} ", p.display()))
    };
    let files = file("cluster", &arguments.cluster) + &file("policy", &arguments.policy);
    say!(
        "worst: `quorate simulate {files}--scenario {} --seed {}`",
        arguments.scenario,
        f.worst_seed
    );
}

/// Days, acknowledged writes, events, and what was broken.
type Sum = (u64, u64, u64, Vec<String>, Walked);

fn days(range: &str, live: fn(u64, bool) -> chaos::Day) -> Result<Outcome> {
    let one = || range.parse::<u64>().ok().map(|seed| (seed, seed.saturating_add(1)));
    let several = |(a, b): (&str, &str)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?));
    let parsed = range.split_once('-').map_or_else(one, several).filter(|(from, to)| from < to);
    let (from, to) = parsed.ok_or_else(|| {
        eyre!("days {range:?}: write FROM-TO, for example 0-1000 (1000 is not played), or one seed")
    })?;
    if to == from + 1 {
        let day = live(from, true);
        for fact in &day.facts {
            say!(
                "{:>10.3} s  {:<8} {:>3}  {}",
                std::time::Duration::from_nanos(fact.at.0).as_secs_f64(),
                fact.who,
                fact.rule,
                fact.text
            );
        }
        say!("{}: {} acknowledged, epoch {}", day.shape, day.acknowledged, day.epochs);
    }
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let next = AtomicU64::new(from);
    let started = std::time::Instant::now();
    let sums: Vec<Sum> = std::thread::scope(|scope| {
        let worker = || {
            let (mut days, mut writes, mut events, mut broken) = (0, 0, 0, vec![]);
            let mut walked = Walked::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= to {
                    return (days, writes, events, broken, walked);
                }
                let day = live(seed, false);
                (days, writes, events) =
                    (days + 1, writes + day.acknowledged as u64, events + day.events);
                walked += day.walked;
                if let Some(first) = day.violations.first() {
                    broken.push(format!(
                        "seed {seed} ({}): {}: {}",
                        day.shape, first.law, first.seen
                    ));
                }
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().filter_map(|h| h.join().ok()).collect()
    });
    let total = |f: fn(&Sum) -> u64| sums.iter().map(f).sum::<u64>();
    let broken: Vec<&String> = sums.iter().flat_map(|s| &s.3).collect();
    say!(
        "{} days, {} events, {} acknowledged writes in {:.0} s: {} days with a broken law",
        total(|s| s.0),
        total(|s| s.2),
        total(|s| s.1),
        started.elapsed().as_secs_f64(),
        broken.len()
    );
    say!(
        "{} states that were not healthy, {} ways out of them tried ({} of them orders); {} days \
         were ended by a person's decision",
        total(|s| s.4.states),
        total(|s| s.4.ways),
        total(|s| s.4.orders),
        total(|s| s.4.decisions)
    );
    for line in &broken {
        say!("{line}");
    }
    if broken.is_empty() && total(|s| s.0) < to - from {
        return Err(eyre!("a run ended early: an assertion of the program failed (above)"));
    }
    Ok(if broken.is_empty() { Outcome::Done } else { Outcome::NotDone })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster that a scenario brings along is refused with its place in the scenario's file.
    #[test]
    fn an_embedded_file_is_refused_where_it_stands() {
        let text = "scenario: mine\nstory: x\ncluster: |\n  cluster_id: c\n  name: C\n  regions: \
            [eu-1]\n  nodes:\n    - {node_id: a, hostname: h, role: primary, region: \
            eu-2}\nevents: []\nexpect: []\n";
        let refused = stage(Path::new("mine.yaml"), text, None, None).unwrap_err().to_string();
        assert!(refused.starts_with("mine.yaml:8:"), "{refused}");
        assert!(refused.contains("did you mean \"eu-1\"?"), "{refused}");
    }

    #[test]
    fn ranges_of_days_that_mean_nothing_are_refused() {
        for range in ["5-1", "7-7", "x", "1-", ""] {
            assert!(days(range, |_, _| unreachable!("nothing is played")).is_err(), "{range:?}");
        }
    }
}
