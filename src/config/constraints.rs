//! The sections of `policy.yaml` that become named checks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Problem;
use super::number::{Millis, Percent, Seconds};
use crate::model::constraints::{
    AutomationOff, Constraints, DecisionClasses, Failback, HealthLimits, Promotion, PromotionRule,
    Residency, TransferBasis, TransferException, Window,
};
use crate::model::topology::Cluster;
use crate::model::{NodeId, WallTime};

/// As written; every key may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sections {
    health: Option<HealthEntry>,
    decision: Option<Spanned<DecisionEntry>>,
    #[serde(default)]
    promotion: Vec<PromotionEntry>,
    automation_off: Option<AutomationEntry>,
    #[serde(default)]
    maintenance_windows: Vec<WindowEntry>,
    cooldown_s: Option<Seconds>,
    max_failovers_per_hour: Option<u32>,
    crash_loop: Option<CrashLoopEntry>,
    incumbent_wait_s: Option<Seconds>,
    min_disk_free_mb: Option<u64>,
    data_first: Option<bool>,
    residency: Option<ResidencyEntry>,
    failback: Option<Spanned<FailbackEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthEntry {
    live_ms: Option<Millis>,
    ready_ms: Option<Millis>,
    deep_ms: Option<Millis>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionEntry {
    immediate_below: Option<f64>,
    graceful_below: Option<f64>,
    graceful_after_s: Option<Seconds>,
    target_at_least: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromotionEntry {
    node: Spanned<String>,
    rule: Promotion,
    until: Option<Spanned<String>>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AutomationEntry {
    owner: Spanned<String>,
    reason: Spanned<String>,
    until: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowEntry {
    days: Vec<Day>,
    from: Spanned<String>,
    to: Spanned<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CrashLoopEntry {
    failures: u32,
    within_s: Seconds,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResidencyEntry {
    classes: BTreeMap<String, Spanned<ClassEntry>>,
    #[serde(default)]
    countries: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    exceptions: Vec<ExceptionEntry>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassEntry {
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default)]
    countries: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionEntry {
    class: Spanned<String>,
    to: String,
    basis: TransferBasis,
    #[serde(default)]
    version: Option<String>,
    until: Spanned<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailbackEntry {
    automatic: Option<bool>,
    healthy_for_s: Option<Seconds>,
    score_at_least: Option<f64>,
    verified_at_least: Option<Percent>,
}

impl Sections {
    pub(super) fn check(self, path: &Path, cluster: &Cluster) -> Result<Constraints, Problem> {
        let plain = Constraints::default();
        let health = self.health.map_or(plain.health.clone(), |h| HealthLimits {
            live: h.live_ms.map_or(plain.health.live, Millis::span),
            ready: h.ready_ms.map_or(plain.health.ready, Millis::span),
            deep: h.deep_ms.map_or(plain.health.deep, Millis::span),
        });
        let promotion =
            self.promotion.iter().map(|p| promotion(path, p, cluster)).collect::<Result<_, _>>()?;
        let automation_off =
            self.automation_off.as_ref().map(|a| automation(path, a)).transpose()?;
        let windows =
            self.maintenance_windows.iter().map(|w| window(path, w)).collect::<Result<_, _>>()?;
        let (failures, within) =
            self.crash_loop.map_or((plain.crash_loop_failures, plain.crash_loop_within), |c| {
                (c.failures.max(1), c.within_s.span())
            });
        Ok(Constraints {
            health,
            decision: decision(path, self.decision.as_ref(), &plain.decision)?,
            promotion,
            automation_off,
            windows,
            cooldown: self.cooldown_s.map_or(plain.cooldown, Seconds::span),
            max_failovers_per_hour: self
                .max_failovers_per_hour
                .unwrap_or(plain.max_failovers_per_hour),
            crash_loop_failures: failures,
            crash_loop_within: within,
            incumbent_wait: self.incumbent_wait_s.map_or(plain.incumbent_wait, Seconds::span),
            disk_free_min: self
                .min_disk_free_mb
                .map_or(plain.disk_free_min, |mb| mb.saturating_mul(1 << 20)),
            data_first: self.data_first.unwrap_or(plain.data_first),
            residency: residency(path, self.residency, cluster)?,
            failback: failback(path, self.failback.as_ref(), &plain.failback)?,
        })
    }
}

fn wall(path: &Path, text: &Spanned<String>) -> Result<WallTime, Problem> {
    let parsed = chrono::DateTime::parse_from_rfc3339(&text.value);
    parsed.map(|t| WallTime(t.timestamp_millis())).map_err(|_| {
        Problem::at(
            path,
            text,
            format!(
                "{:?}: expected a time with its zone, such as 2026-12-01T06:00:00Z",
                text.value
            ),
        )
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie in 0 to 1"
)]
fn score<T>(
    path: &Path,
    place: &Spanned<T>,
    value: Option<f64>,
    plain: u64,
) -> Result<u64, Problem> {
    match value {
        None => Ok(plain),
        Some(v) if (0.0..=1.0).contains(&v) => Ok((v * 1_000.0).round() as u64),
        Some(v) => {
            Err(Problem::at(path, place, format!("a health score is between 0 and 1, not {v}")))
        }
    }
}

fn decision(
    path: &Path,
    entry: Option<&Spanned<DecisionEntry>>,
    plain: &DecisionClasses,
) -> Result<DecisionClasses, Problem> {
    let Some(entry) = entry else { return Ok(plain.clone()) };
    let at = |value, plain| score(path, entry, value, plain);
    let classes = DecisionClasses {
        immediate_below: at(entry.value.immediate_below, plain.immediate_below)?,
        graceful_below: at(entry.value.graceful_below, plain.graceful_below)?,
        graceful_after: entry.value.graceful_after_s.map_or(plain.graceful_after, Seconds::span),
        target_at_least: at(entry.value.target_at_least, plain.target_at_least)?,
    };
    if classes.immediate_below > classes.graceful_below
        || classes.graceful_below > classes.target_at_least
    {
        return Err(Problem::at(
            path,
            entry,
            "expected immediate_below ≤ graceful_below ≤ target_at_least",
        ));
    }
    Ok(classes)
}

fn promotion(
    path: &Path,
    entry: &PromotionEntry,
    cluster: &Cluster,
) -> Result<(NodeId, PromotionRule), Problem> {
    let Some(node) = cluster.nodes.iter().find(|n| n.node_id.as_str() == entry.node.value) else {
        let names = cluster.nodes.iter().map(|n| n.node_id.as_str());
        return Err(Problem::at(
            path,
            &entry.node,
            format!("{:?} is not a node of the cluster", entry.node.value),
        )
        .nearest(&entry.node.value, names));
    };
    let until = entry.until.as_ref().map(|u| wall(path, u)).transpose()?;
    Ok((
        node.node_id.clone(),
        PromotionRule { rule: entry.rule, until, reason: entry.reason.clone() },
    ))
}

fn automation(path: &Path, entry: &AutomationEntry) -> Result<AutomationOff, Problem> {
    for (key, text) in [("owner", &entry.owner), ("reason", &entry.reason)] {
        if text.value.trim().is_empty() {
            return Err(Problem::at(
                path,
                text,
                format!(
                    "automation_off.{key} is empty: whoever finds it off at night must know whom \
                        to ask, and why"
                ),
            ));
        }
    }
    Ok(AutomationOff {
        owner: entry.owner.value.clone(),
        reason: entry.reason.value.clone(),
        until: wall(path, &entry.until)?,
    })
}

fn window(path: &Path, entry: &WindowEntry) -> Result<Window, Problem> {
    let minute = |text: &Spanned<String>| -> Result<u16, Problem> {
        let parsed = text
            .value
            .split_once(':')
            .and_then(|(h, m)| Some((h.parse::<u16>().ok()?, m.parse::<u16>().ok()?)));
        match parsed {
            Some((h, m)) if h <= 24 && m < 60 && h * 60 + m <= 1_440 => Ok(h * 60 + m),
            _ => Err(Problem::at(
                path,
                text,
                format!("{:?}: expected a time of day in UTC, such as 22:30", text.value),
            )),
        }
    };
    let (from, to) = (minute(&entry.from)?, minute(&entry.to)?);
    if from == to {
        return Err(Problem::at(path, &entry.to, "a window that ends when it begins never is"));
    }
    Ok(Window { days: entry.days.iter().map(|d| *d as u8).collect(), from, to })
}

fn residency(
    path: &Path,
    entry: Option<ResidencyEntry>,
    cluster: &Cluster,
) -> Result<Residency, Problem> {
    let entry = entry.unwrap_or(ResidencyEntry {
        classes: BTreeMap::new(),
        countries: BTreeMap::new(),
        exceptions: vec![],
    });
    let mut classes = BTreeMap::new();
    for (name, class) in &entry.classes {
        let mut regions = class.value.regions.clone();
        for country in &class.value.countries {
            let Some(of_country) = entry.countries.get(country) else {
                let what = format!(
                    "residency class {name}: country {country:?} is not listed under \
                        residency.countries"
                );
                return Err(Problem::at(path, class, what)
                    .nearest(country, entry.countries.keys().map(String::as_str)));
            };
            regions.extend(of_country.iter().cloned());
        }
        if regions.is_empty() {
            return Err(Problem::at(
                path,
                class,
                format!(
                    "residency class {name} allows no region at all: name regions or countries"
                ),
            ));
        }
        classes.insert(name.clone(), regions);
    }
    if let Some(class) = cluster.data_classes.iter().find(|c| !classes.contains_key(*c)) {
        let what = format!(
            "cluster {} holds data of class {class:?} and this policy has no rule for it under \
                residency.classes; without one it may be nowhere",
            cluster.cluster_id
        );
        return Err(Problem::file(path, what));
    }
    let mut exceptions = vec![];
    for exception in &entry.exceptions {
        if !classes.contains_key(&exception.class.value) {
            let what = format!(
                "residency exception for class {:?}, which has no rule",
                exception.class.value
            );
            return Err(Problem::at(path, &exception.class, what)
                .nearest(&exception.class.value, classes.keys().map(String::as_str)));
        }
        if exception.basis != TransferBasis::ExplicitConsent && exception.version.is_none() {
            let what = format!("a transfer under {} names their version", exception.basis.words());
            return Err(Problem::at(path, &exception.class, what));
        }
        exceptions.push(TransferException {
            class: exception.class.value.clone(),
            to: exception.to.clone(),
            basis: exception.basis,
            version: exception.version.clone().unwrap_or_default(),
            until: wall(path, &exception.until)?,
        });
    }
    for class in &cluster.data_classes {
        let here = |region: &String| cluster.regions.contains(region);
        let excepted = exceptions.iter().any(|e| e.class == *class && here(&e.to));
        if let Some((entry, regions)) = entry.classes.get(class).zip(classes.get(class))
            && !regions.iter().any(here)
            && !excepted
        {
            let what = format!(
                "residency class {class} allows {}, and none of them is a region of cluster {}: \
                    its data could be nowhere",
                regions.join(", "),
                cluster.cluster_id
            );
            let first = regions.first().map_or("", String::as_str);
            return Err(Problem::at(path, entry, what)
                .nearest(first, cluster.regions.iter().map(String::as_str)));
        }
    }
    Ok(Residency { classes, exceptions })
}

fn failback(
    path: &Path,
    entry: Option<&Spanned<FailbackEntry>>,
    plain: &Failback,
) -> Result<Failback, Problem> {
    let Some(entry) = entry else { return Ok(plain.clone()) };
    let verified = entry.value.verified_at_least.map_or(plain.verified_at_least, |v| v.0);
    Ok(Failback {
        automatic: entry.value.automatic.unwrap_or(plain.automatic),
        healthy_for: entry.value.healthy_for_s.map_or(plain.healthy_for, Seconds::span),
        score_at_least: score(path, entry, entry.value.score_at_least, plain.score_at_least)?,
        verified_at_least: verified,
    })
}
