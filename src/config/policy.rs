//! `policy.yaml`.

use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Problem;
use super::constraints::Sections;
use super::number::{Millis, Percent, Seconds, Whole};
use crate::model::Span;
use crate::model::topology::{Cluster, Detection, Policy, Strategy, Unsynchronised};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy_id: String,
    name: String,
    strategy: Strategy,
    #[serde(default = "sixty")]
    max_failover_time_s: Spanned<Seconds>,
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
    detection: Option<Spanned<DetectionEntry>>,
    #[serde(default = "ten")]
    reclaim_after_s: Seconds,
    #[serde(default = "five_minutes")]
    approval_timeout_s: Seconds,
    #[serde(default = "thirty")]
    stabilise_s: Seconds,
    /// `health`, `decision`, `promotion`, `automation_off`, `maintenance_windows`, limits,
    /// `residency`, `failback`.
    #[serde(default)]
    constraints: Sections,
    #[serde(default)]
    unsynchronised: Unsynchronised,
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
        min_deviation_ms: Millis,
        #[serde(default = "three_hundred")]
        acceptable_pause_ms: Millis,
    },
    Counting {
        #[serde(default = "five_thousand")]
        interval_ms: Millis,
        #[serde(default = "two_thousand")]
        timeout_ms: Millis,
        #[serde(default = "three")]
        failure_threshold: u32,
        #[serde(default = "two")]
        recovery_threshold: u32,
        #[serde(default = "ten_percent")]
        jitter_percent: Percent,
    },
}

impl Default for DetectionEntry {
    fn default() -> Self {
        DetectionEntry::Phi {
            suspect_phi: 8.0,
            failed_phi: 16.0,
            min_deviation_ms: fifty(),
            acceptable_pause_ms: three_hundred(),
        }
    }
}

macro_rules! defaults {
    ($($name:ident -> $type:ty = $value:expr;)*) => { $(fn $name() -> $type { $value })* };
}
defaults! {
    yes -> bool = true;
    sixty -> Spanned<Seconds> = unplaced(Whole(60));
    one -> Spanned<usize> = unplaced(1);
    ten -> Seconds = Whole(10);
    ten_percent -> Percent = Whole(10);
    thirty -> Seconds = Whole(30);
    five_minutes -> Seconds = Whole(300);
    sixteen_mib -> u64 = 16 << 20;
    eight -> f64 = 8.0;
    sixteen -> f64 = 16.0;
    fifty -> Millis = Whole(50);
    three_hundred -> Millis = Whole(300);
    five_thousand -> Millis = Whole(5_000);
    two_thousand -> Millis = Whole(2_000);
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
            return Err(Problem::at(path, region, what)
                .nearest(&region.value, cluster.regions.iter().map(String::as_str)));
        }
    }
    if file.max_failover_time_s.value.0 == 0 {
        return Err(Problem::at(
            path,
            &file.max_failover_time_s,
            "max_failover_time_s 0: no failover can be that quick",
        ));
    }
    if file.min_healthy_nodes.value > cluster.nodes.len() {
        let what = format!(
            "min_healthy_nodes {} with {} nodes could never hold",
            file.min_healthy_nodes.value,
            cluster.nodes.len()
        );
        return Err(Problem::at(path, &file.min_healthy_nodes, what));
    }
    let place = file.detection.unwrap_or_else(|| unplaced(DetectionEntry::default()));
    let detection = match place.value {
        DetectionEntry::Phi { suspect_phi, failed_phi, min_deviation_ms, acceptable_pause_ms } => {
            if !(suspect_phi > 0.0 && failed_phi > suspect_phi && failed_phi <= 300.0) {
                let what = format!(
                    "detection: expected 0 < suspect_phi ({suspect_phi}) < failed_phi \
                        ({failed_phi}) ≤ 300"
                );
                return Err(Problem::at(path, &place, what));
            }
            Detection::Phi {
                suspect_milli: milli(suspect_phi),
                failed_milli: milli(failed_phi),
                min_deviation: Span::millis(min_deviation_ms.0.max(1)),
                acceptable_pause: acceptable_pause_ms.span(),
            }
        }
        DetectionEntry::Counting {
            interval_ms,
            timeout_ms,
            failure_threshold,
            recovery_threshold,
            jitter_percent,
        } => {
            if interval_ms.0 == 0 || failure_threshold == 0 || recovery_threshold == 0 {
                return Err(Problem::at(
                    path,
                    &place,
                    "detection: interval_ms, failure_threshold and recovery_threshold start at 1",
                ));
            }
            Detection::Counting {
                interval: interval_ms.span(),
                timeout: timeout_ms.span(),
                failure_threshold,
                recovery_threshold,
                jitter_percent: jitter_percent.0,
            }
        }
    };
    Ok(Policy {
        policy_id: file.policy_id,
        name: file.name,
        strategy: file.strategy,
        max_failover_time: file.max_failover_time_s.value.span(),
        require_quorum: file.require_quorum,
        region_priority: file.region_priority.into_iter().map(|r| r.value).collect(),
        site_priority: file.site_priority,
        min_healthy_nodes: file.min_healthy_nodes.value,
        max_loss_bytes: file.max_loss_bytes,
        max_lag_bytes: file.max_lag_bytes,
        detection,
        reclaim_after: file.reclaim_after_s.span(),
        approval_timeout: file.approval_timeout_s.span(),
        stabilise: file.stabilise_s.span(),
        constraints: file.constraints.check(path, cluster)?,
        unsynchronised: file.unsynchronised,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie in 0 to 300"
)]
fn milli(phi: f64) -> u64 {
    (phi * 1_000.0) as u64
}
