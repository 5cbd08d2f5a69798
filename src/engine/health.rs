//! How well is a node: three layers with their latencies, and one score from 0 to 1000 with its
//! parts.
//!
//! Score = how surely it is heard × what its checks say. A check within its limit counts whole and
//! falls to nothing at twice the limit; one that was not answered counts nothing. A database that
//! does not run scores 0.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::mind::NodeMind;
use super::rooms;
use crate::model::constraints::{DecisionClass, DecisionClasses};
use crate::model::observation::{CheckTimes, ResourceState};
use crate::model::topology::{Detection, Policy};
use crate::model::view::{HealthPart, HealthView, LayerView};
use crate::model::{Span, Timestamp};

/// Latencies remembered of each layer.
const SAMPLES: usize = 120;
/// Weights of live, ready, deep, lag and disk.
const WEIGHTS: [u64; 5] = [350, 250, 200, 100, 100];
const DEEP: usize = 2;
/// The names of the layers.
const LAYERS: [&str; 3] = ["live", "ready", "deep"];

/// The latencies of one node's layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Latencies([VecDeque<Span>; 3]);

impl Latencies {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| VecDeque::with_capacity(SAMPLES)))
    }
    /// Does not allocate.
    pub(super) fn note(&mut self, check: &CheckTimes) {
        for (layer, took) in self.0.iter_mut().zip([check.live, check.ready, check.deep]) {
            if let Some(took) = took {
                if layer.len() == SAMPLES {
                    layer.pop_front();
                }
                layer.push_back(took);
            }
        }
    }
    /// What it usually takes, where it answers now at all.
    fn usual(&self, layer: usize, now: Option<Span>) -> Option<Span> {
        now.map(|took| self.percentiles(layer).map_or(took, |[p50, ..]| p50))
    }
    /// By nearest rank.
    fn percentiles(&self, layer: usize) -> Option<[Span; 3]> {
        let mut sorted: Vec<Span> = self.0[layer].iter().copied().collect();
        sorted.sort_unstable();
        let at = |per_cent: usize| {
            sorted.get((sorted.len() * per_cent).div_ceil(100).saturating_sub(1)).copied()
        };
        Some([at(50)?, at(95)?, at(99)?])
    }
}

/// Whole within the limit, nothing from twice the limit on.
fn within(value: u64, limit: u64) -> u64 {
    match value {
        v if v <= limit => 1_000,
        v if limit == 0 || v >= limit.saturating_mul(2) => 0,
        v => 1_000 - (v - limit).saturating_mul(1_000) / limit,
    }
}

/// How surely it is heard: whole while silence is usual, nothing where it counts as failed.
fn heard(mind: &NodeMind, detection: &Detection, now: Timestamp) -> u64 {
    use super::detector::Silence;
    if now < mind.detector.due() {
        return 1_000;
    }
    match (detection, mind.detector.silence(now)) {
        // It spoke a moment ago, for the first times: no pace is known that it could miss.
        (_, Silence::Unknown) if mind.detector.age(now).is_some() => 1_000,
        (_, Silence::Unknown | Silence::Failed) => 0,
        (Detection::Phi { suspect_milli, failed_milli, .. }, _) => {
            let phi = mind.detector.phi_milli(now);
            match phi {
                p if p <= suspect_milli / 2 => 1_000,
                p => 1_000u64.saturating_sub(
                    (p - suspect_milli / 2) * 1_000 / (failed_milli - suspect_milli / 2).max(1),
                ),
            }
        }
        (Detection::Counting { .. }, Silence::Suspect) => 500,
        (Detection::Counting { .. }, Silence::None) => 1_000,
    }
}

/// The score alone; cheap enough for every judgement: it does not allocate.
pub(super) fn score(mind: &NodeMind, policy: &Policy, now: Timestamp) -> u64 {
    let check = mind.report.as_ref().map_or_else(CheckTimes::default, |r| r.resource.check.clone());
    let (heard, parts) = measure(mind, policy, &check, now);
    total(heard, &parts)
}

/// The score that chooses: one slow answer is none of it.
pub(super) fn usual_score(mind: &NodeMind, policy: &Policy, now: Timestamp) -> u64 {
    let last = mind.report.as_ref().map_or_else(CheckTimes::default, |r| r.resource.check.clone());
    let usual = CheckTimes {
        live: mind.latencies.usual(0, last.live),
        ready: mind.latencies.usual(1, last.ready),
        deep: mind.latencies.usual(DEEP, last.deep),
    };
    let (heard, parts) = measure(mind, policy, &usual, now);
    total(heard, &parts)
}

/// Who is well enough stays so until its score is this much below the limit.
const SLACK: u64 = 50;

/// Whether a node is well enough to be chosen; `was`: it was so until now.
pub(super) fn is_fit(was: bool, score: u64, least: u64) -> bool {
    score >= if was { least.saturating_sub(SLACK) } else { least }
}

/// The class of a primary's usual score; one that was low stays so until it is this much better.
pub(super) fn decide(was_low: bool, score: u64, classes: &DecisionClasses) -> DecisionClass {
    match classes.of(score) {
        DecisionClass::None if was_low && score < classes.graceful_below + SLACK => {
            DecisionClass::Graceful
        }
        class => class,
    }
}

/// (weight, part) of every check; a weight of 0 says that it does not apply.
type Parts = [(u64, u64); 5];

fn total(heard: u64, parts: &Parts) -> u64 {
    let weight: u64 = parts.iter().map(|(w, _)| w).sum();
    let sum: u64 = parts.iter().map(|(w, part)| w * part).sum();
    heard * (sum / weight.max(1)) / 1_000
}

/// A single part that stands for all.
fn only(part: u64) -> Parts {
    [(1, part), (0, 0), (0, 0), (0, 0), (0, 0)]
}

fn measure(mind: &NodeMind, policy: &Policy, check: &CheckTimes, now: Timestamp) -> (u64, Parts) {
    let heard = heard(mind, &policy.detection, now);
    let Some(report) = &mind.report else { return (0, only(0)) };
    let resource = &report.resource;
    match &resource.state {
        // A witness has no checks of its own.
        ResourceState::None => return (heard, only(1_000)),
        ResourceState::Stopped(_) | ResourceState::Unknown => return (heard, only(0)),
        _ => {}
    }
    let limits = &policy.constraints.health;
    let layer = |took: Option<Span>, limit: Span| took.map_or(0, |t| within(t.0, limit.0));
    let lag = mind
        .lags
        .back()
        .copied()
        .flatten()
        .map_or(1_000, |bytes| within(bytes, policy.max_lag_bytes.max(1)));
    let disk = if rooms::enough(report, policy.constraints.disk_free_min) { 1_000 } else { 0 };
    let parts = [
        layer(check.live, limits.live),
        layer(check.ready, limits.ready),
        layer(check.deep, limits.deep),
        lag,
        disk,
    ];
    // A standby has no write path of its own to look at.
    let applies = |i: usize| i != DEEP || resource.state == ResourceState::Primary;
    let weight = |i: usize| if applies(i) { WEIGHTS[i] } else { 0 };
    (heard, std::array::from_fn(|i| (weight(i), parts[i])))
}

/// The score with its parts and the percentiles, for people.
pub(super) fn view(mind: &NodeMind, policy: &Policy, now: Timestamp) -> HealthView {
    let check = mind.report.as_ref().map_or_else(CheckTimes::default, |r| r.resource.check.clone());
    let (heard, measured) = measure(mind, policy, &check, now);
    let limits = &policy.constraints.health;
    let mut parts = vec![HealthPart { name: "heard".into(), milli: heard }];
    if measured[0].0 == WEIGHTS[0] {
        let names = ["live", "ready", "deep", "lag", "disk"];
        parts.extend(
            names
                .iter()
                .zip(&measured)
                .filter(|(_, (weight, _))| *weight > 0)
                .map(|(name, (_, milli))| HealthPart { name: (*name).into(), milli: *milli }),
        );
    }
    let limits = [limits.live, limits.ready, limits.deep];
    let layers = LAYERS
        .iter()
        .enumerate()
        .filter_map(|(i, name)| {
            let [p50, p95, p99] = mind.latencies.percentiles(i)?;
            Some(LayerView { name: (*name).into(), p50, p95, p99, limit: limits[i] })
        })
        .collect();
    HealthView { score: total(heard, &measured), parts, layers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_slope_and_not_a_cliff() {
        for (value, expected) in [(0, 1_000), (100, 1_000), (150, 500), (200, 0), (5_000, 0)] {
            assert_eq!(within(value, 100), expected, "{value}");
        }
    }

    #[test]
    fn a_choice_does_not_flap_at_its_limit() {
        let mut fit = false;
        let walk =
            [(690, false), (700, true), (690, true), (650, true), (649, false), (699, false)];
        for (score, expected) in walk {
            fit = is_fit(fit, score, 700);
            assert_eq!(fit, expected, "{score}");
        }
        // A primary that hovers at the limit is low all the time, and hands over after its patience.
        let classes = DecisionClasses::default();
        let mut low = false;
        for (score, expected) in [(500, false), (499, true), (510, true), (549, true), (550, false)]
        {
            low = decide(low, score, &classes) != DecisionClass::None;
            assert_eq!(low, expected, "{score}");
        }
        assert_eq!(decide(true, 199, &classes), DecisionClass::Immediate);
    }

    /// A failover by itself waited half a second for the next sample.
    #[test]
    fn one_slow_answer_is_not_what_is_usual() {
        let mut latencies = Latencies::new();
        let took = |ms| Some(Span::millis(ms));
        for _ in 0..20 {
            latencies.note(&CheckTimes { live: took(1), ready: took(1), deep: None });
        }
        latencies.note(&CheckTimes { live: took(900), ready: took(900), deep: None });
        assert_eq!(latencies.usual(0, took(900)), took(1));
        assert_eq!(latencies.usual(0, None), None, "no answer is not a slow one");
        assert_eq!(latencies.usual(DEEP, took(7)), took(7));
    }

    /// "HEALTHY" in the first half second of a lab, and a move refused for "health is 0.00".
    #[test]
    fn who_was_heard_for_the_first_times_is_heard() {
        let detection = Detection::default();
        let mut mind = NodeMind::new(&detection);
        let at = |ms| Timestamp(Span::millis(ms).0);
        assert_eq!(heard(&mind, &detection, at(0)), 0, "never heard");
        for n in 1..=10 {
            mind.detector.heartbeat(at(200 * n));
            assert_eq!(heard(&mind, &detection, at(200 * n + 50)), 1_000, "after {n}");
        }
        assert_eq!(heard(&mind, &detection, at(60_000)), 0, "silent for a minute");
    }

    #[test]
    fn silence_outweighs_everything() {
        assert_eq!(total(0, &only(1_000)), 0);
        assert_eq!(total(1_000, &[(350, 1_000), (650, 0), (0, 0), (0, 0), (0, 0)]), 350);
    }
}
