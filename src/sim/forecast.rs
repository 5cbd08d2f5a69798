//! Many runs of one scenario: how long, how much is lost, how it ends, and the worst seed to look
//! at.

use serde::{Deserialize, Serialize};

use super::run::{Outcome, Stand};
use super::scenario::Scenario;
use super::world::Conditions;
use crate::model::Span;
use crate::model::topology::{Cluster, Policy};

/// Runs from one warmed-up cluster before another is warmed up.
const RUNS_PER_STAND: u64 = 50;

/// One run in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its seed.
    pub seed: u64,
    /// The longest time in which no write was acknowledged.
    pub outage: Span,
    /// Whether writes were acknowledged at the end.
    pub writable: bool,
    /// Whether another node held the role at the end.
    pub moved: bool,
    /// Acknowledged writes that were lost.
    pub lost: u64,
    /// Who held the role at the end.
    pub primary: Option<String>,
    /// Laws that were broken.
    pub violations: u64,
    /// Whether what the scenario expects is so.
    #[serde(default)]
    pub as_expected: bool,
}

/// What many runs came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The scenario.
    pub scenario: String,
    /// How many runs.
    pub runs: u64,
    /// Runs in which another node held the role at the end.
    pub moved: u64,
    /// Runs after which no write was acknowledged.
    pub read_only: u64,
    /// Half of the runs that ended writable were without writes for at most so long.
    pub outage_p50: Span,
    /// 95 of 100.
    pub outage_p95: Span,
    /// 99 of 100.
    pub outage_p99: Span,
    /// All of them.
    pub outage_max: Span,
    /// Runs in which acknowledged writes were lost.
    pub losing: u64,
    /// The most acknowledged writes lost in one run.
    pub lost_max: u64,
    /// Who took the role, and in how many runs.
    pub primaries: Vec<(String, u64)>,
    /// The worst run: read-only first, then lost writes, then the longest outage.
    pub worst_seed: u64,
    /// Laws that were broken; anything but 0 is a defect of this program.
    pub violations: u64,
    /// Runs in which something that the scenario expects is not so.
    #[serde(default)]
    pub unexpected: u64,
}

impl From<&Outcome> for Sample {
    fn from(outcome: &Outcome) -> Self {
        Self {
            seed: outcome.seed,
            outage: outcome.outage,
            writable: outcome.writable,
            moved: outcome.primary_after != outcome.primary_before,
            lost: outcome.lost.len() as u64,
            primary: outcome.primary_after.as_ref().map(|n| n.as_str().to_owned()),
            violations: outcome.violations.len() as u64,
            as_expected: outcome.unmet.is_empty(),
        }
    }
}

/// Plays the scenario with these seeds; `each` sees every run and says whether to go on.
pub fn samples(
    cluster: &Cluster,
    policy: &Policy,
    conditions: &Conditions,
    scenario: &Scenario,
    seeds: impl Iterator<Item = u64>,
    mut each: impl FnMut(&Sample) -> bool,
) -> Vec<Sample> {
    let mut samples: Vec<Sample> = vec![];
    let mut stand: Option<(u64, Stand)> = None;
    for seed in seeds {
        let group = seed / RUNS_PER_STAND;
        if stand.as_ref().is_none_or(|(g, _)| *g != group) {
            stand = Some((group, Stand::new(cluster, policy, conditions, group, false)));
        }
        let Some((_, ready)) = &stand else { continue };
        let sample = Sample::from(&ready.play(scenario, seed));
        let goes_on = each(&sample);
        samples.push(sample);
        if !goes_on {
            break;
        }
    }
    samples
}

/// Sums up.
pub fn sum_up(scenario: &str, samples: &[Sample]) -> Forecast {
    let mut outages: Vec<Span> = samples.iter().filter(|s| s.writable).map(|s| s.outage).collect();
    outages.sort_unstable();
    // The nearest-rank percentile.
    let percentile = |per_cent: usize| {
        outages
            .get((outages.len() * per_cent).div_ceil(100).saturating_sub(1))
            .copied()
            .unwrap_or_default()
    };
    let mut primaries = std::collections::BTreeMap::new();
    for name in samples.iter().filter_map(|s| s.primary.clone()) {
        *primaries.entry(name).or_insert(0) += 1;
    }
    let mut primaries: Vec<(String, u64)> = primaries.into_iter().collect();
    primaries.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let count = |which: fn(&Sample) -> bool| samples.iter().filter(|s| which(s)).count() as u64;
    let worst =
        samples.iter().max_by_key(|s| (!s.writable, s.lost, s.outage, std::cmp::Reverse(s.seed)));
    Forecast {
        scenario: scenario.to_owned(),
        runs: samples.len() as u64,
        moved: count(|s| s.moved),
        read_only: count(|s| !s.writable),
        outage_p50: percentile(50),
        outage_p95: percentile(95),
        outage_p99: percentile(99),
        outage_max: outages.last().copied().unwrap_or_default(),
        losing: count(|s| s.lost > 0),
        lost_max: samples.iter().map(|s| s.lost).max().unwrap_or(0),
        primaries,
        worst_seed: worst.map_or(0, |s| s.seed),
        violations: samples.iter().map(|s| s.violations).sum(),
        unexpected: count(|s| !s.as_expected),
    }
}
