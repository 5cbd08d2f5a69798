//! `policy.yaml`.

use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Problem;
use super::constraints::Sections;
use crate::model::Span;
use crate::model::topology::{Cluster, Detection, Policy, Strategy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy_id: String,
    name: String,
    strategy: Strategy,
    #[serde(default = "sixty")]
    max_failover_time_s: Spanned<u64>,
    #[serde(default = "yes")]
    require_quorum: bool,
    #[serde(default)]
    region_priority: Vec<Spanned<String>>,
    #[serde(default)]
    site_priority: Vec<String>,
    #[serde(default = "one")]
    min_healthy_nodes: Spanned<usize>,
    #[serde(default)]
    max_loss_bytes: u64,
    #[serde(default = "sixteen_mib")]
    max_lag_bytes: u64,
    #[serde(default)]
    detection: DetectionEntry,
    #[serde(default = "ten")]
    reclaim_after_s: u64,
    #[serde(default = "five_minutes")]
    approval_timeout_s: u64,
    #[serde(default = "thirty")]
    stabilise_s: u64,
    /// `health`, `decision`, `promotion`, `automation_off`, `maintenance_windows`, limits, `residency`, `failback`.
    #[serde(default)]
    constraints: Sections,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, tag = "mode", rename_all = "snake_case")]
enum DetectionEntry {
    Phi {
        #[serde(default = "eight")]
        suspect_phi: f64,
        #[serde(default = "sixteen")]
        failed_phi: f64,
        #[serde(default = "fifty")]
        min_deviation_ms: u64,
        #[serde(default = "three_hundred")]
        acceptable_pause_ms: u64,
    },
    Counting {
        #[serde(default = "five_thousand")]
        interval_ms: u64,
        #[serde(default = "two_thousand")]
        timeout_ms: u64,
        #[serde(default = "three")]
        failure_threshold: u32,
        #[serde(default = "two")]
        recovery_threshold: u32,
        #[serde(default = "ten")]
        jitter_percent: u64,
    },
}

impl Default for DetectionEntry {
    fn default() -> Self {
        DetectionEntry::Phi { suspect_phi: 8.0, failed_phi: 16.0, min_deviation_ms: 50, acceptable_pause_ms: 300 }
    }
}

macro_rules! defaults {
    ($($name:ident -> $type:ty = $value:expr;)*) => { $(fn $name() -> $type { $value })* };
}
defaults! {
    yes -> bool = true;
    sixty -> Spanned<u64> = unplaced(60);
    one -> Spanned<usize> = unplaced(1);
    ten -> u64 = 10;
    thirty -> u64 = 30;
    five_minutes -> u64 = 300;
    sixteen_mib -> u64 = 16 << 20;
    eight -> f64 = 8.0;
    sixteen -> f64 = 16.0;
    fifty -> u64 = 50;
    three_hundred -> u64 = 300;
    five_thousand -> u64 = 5_000;
    two_thousand -> u64 = 2_000;
    three -> u32 = 3;
    two -> u32 = 2;
}

fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(value, serde_saphyr::Location::UNKNOWN, serde_saphyr::Location::UNKNOWN)
}

/// Reads `policy.yaml` for `cluster`.
///
/// # Errors
/// A [`Problem`] with file, line, column and the nearest valid word.
pub fn read(path: &Path, cluster: &Cluster) -> Result<Policy, Problem> {
    check(path, super::read(path)?, cluster)
}

/// Parses the text of `policy.yaml`; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, text: &str, cluster: &Cluster) -> Result<Policy, Problem> {
    check(path, super::parse(path, text)?, cluster)
}

fn check(path: &Path, file: File, cluster: &Cluster) -> Result<Policy, Problem> {
    for region in &file.region_priority {
        if !cluster.regions.contains(&region.value) {
            let what = format!("region {:?} is not one of the cluster's regions", region.value);
            return Err(Problem::at(path, region, what).nearest(&region.value, cluster.regions.iter().map(String::as_str)));
        }
    }
    if file.max_failover_time_s.value == 0 {
        return Err(Problem::at(path, &file.max_failover_time_s, "max_failover_time_s 0: no failover can be that quick"));
    }
    if file.min_healthy_nodes.value > cluster.nodes.len() {
        let what = format!("min_healthy_nodes {} with {} nodes could never hold", file.min_healthy_nodes.value, cluster.nodes.len());
        return Err(Problem::at(path, &file.min_healthy_nodes, what));
    }
    let detection = match file.detection {
        DetectionEntry::Phi { suspect_phi, failed_phi, min_deviation_ms, acceptable_pause_ms } => {
            if !(suspect_phi > 0.0 && failed_phi > suspect_phi && failed_phi <= 300.0) {
                let what = format!("detection: expected 0 < suspect_phi ({suspect_phi}) < failed_phi ({failed_phi}) ≤ 300");
                return Err(Problem::file(path, what));
            }
            Detection::Phi {
                suspect_milli: milli(suspect_phi),
                failed_milli: milli(failed_phi),
                min_deviation: Span::millis(min_deviation_ms.max(1)),
                acceptable_pause: Span::millis(acceptable_pause_ms),
            }
        }
        DetectionEntry::Counting { interval_ms, timeout_ms, failure_threshold, recovery_threshold, jitter_percent } => {
            if interval_ms == 0 || failure_threshold == 0 || recovery_threshold == 0 {
                return Err(Problem::file(path, "detection: interval_ms, failure_threshold and recovery_threshold start at 1"));
            }
            Detection::Counting {
                interval: Span::millis(interval_ms),
                timeout: Span::millis(timeout_ms),
                failure_threshold,
                recovery_threshold,
                jitter_percent,
            }
        }
    };
    Ok(Policy {
        policy_id: file.policy_id,
        name: file.name,
        strategy: file.strategy,
        max_failover_time: Span::secs(file.max_failover_time_s.value),
        require_quorum: file.require_quorum,
        region_priority: file.region_priority.into_iter().map(|r| r.value).collect(),
        site_priority: file.site_priority,
        min_healthy_nodes: file.min_healthy_nodes.value,
        max_loss_bytes: file.max_loss_bytes,
        max_lag_bytes: file.max_lag_bytes,
        detection,
        reclaim_after: Span::secs(file.reclaim_after_s),
        approval_timeout: Span::secs(file.approval_timeout_s),
        stabilise: Span::secs(file.stabilise_s),
        constraints: file.constraints.check(path, cluster)?,
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in 0 to 300")]
fn milli(phi: f64) -> u64 {
    (phi * 1_000.0) as u64
}
