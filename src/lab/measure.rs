//! Measuring a lab: the same fault again and again under load, each time on a healthy cluster.
//! Reported, never asserted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::load::{self, Report};
use super::{Lab, LabError, What};
use crate::config::Identity;
use crate::engine::PersonOrder;
use crate::model::NodeId;
use crate::model::observation::ResourceState;
use crate::model::plan::Proposal;
use crate::model::view::{ClusterState, ClusterView, NodeView, Phase};
use crate::wire::Client;
use crate::wire::message::{CallReply, CallRequest};

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// SIGKILL to the primary's postmaster.
    Kill,
    /// A planned switchover.
    Switchover,
    /// Agent, guard and database killed at once.
    Host,
    /// The primary's agent frozen.
    Freeze,
    /// The primary cut off from everyone; clients still reach it.
    Cut,
}

/// Figures of all runs.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What was done.
    pub event: Event,
    /// Longest outages in ms, sorted.
    pub outages_ms: Vec<f64>,
    /// Their median.
    pub median_ms: f64,
    /// The worst.
    pub worst_ms: f64,
    /// Over all runs.
    pub acknowledged: u64,
    /// Acknowledged and gone, over all runs.
    pub lost: u64,
    /// Refused, over all runs.
    pub failed: u64,
    /// Without an answer, over all runs.
    pub unknown: u64,
    /// Two nodes acknowledging at once, over all runs.
    pub overlaps: u64,
    /// Runs whose end could not be counted.
    pub unverified: u64,
    /// The same outages without any manager, in turn with the runs; empty where nobody asked.
    pub floors_ms: Vec<f64>,
    /// Their median.
    pub floor_median_ms: f64,
}

fn words(error: impl std::fmt::Display) -> LabError {
    LabError(error.to_string())
}

/// The lab's picture, from its plane.
///
/// # Errors
/// In words, when the plane does not answer.
pub async fn picture(client: &Client) -> Result<ClusterView, LabError> {
    match client.call(&CallRequest::View).await {
        Ok(CallReply::View(view)) => Ok(*view),
        Ok(other) => Err(LabError(format!("unexpected answer: {other:?}"))),
        Err(refused) => Err(words(refused)),
    }
}

/// Waits until `holds`.
///
/// # Errors
/// In words, when it does not within `limit`.
pub async fn until(
    client: &Client,
    limit: Duration,
    what: &str,
    holds: impl Fn(&ClusterView) -> bool,
) -> Result<ClusterView, LabError> {
    let end = Instant::now() + limit;
    let mut last = String::new();
    loop {
        match picture(client).await {
            Ok(view) if holds(&view) => return Ok(view),
            Ok(view) => {
                last = format!(
                    "{}: {}; phase {}",
                    view.state.word(),
                    view.why,
                    view.phase.phase.word()
                )
            }
            Err(error) => last = error.to_string() + " after " + &last,
        }
        if Instant::now() > end {
            return Err(LabError(format!(
                "waited {} s for: {what}. Last: {last}",
                limit.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Healthy and steady, every node, and any standby could be moved to.
pub fn is_calm(view: &ClusterView) -> bool {
    let serving = |n: &NodeView| n.report.as_ref().and_then(|r| r.resource.serving.clone());
    let refused = |n: &NodeView| {
        serving(n).is_some_and(|s| s.reaches.iter().any(|reach| !reach.refused.is_empty()))
    };
    let line = |n: &NodeView| n.report.as_ref().map(|r| r.resource.position.timeline);
    let primary = view.nodes.iter().find(|n| Some(&n.node) == view.primary.as_ref());
    // One that comes back receives for a moment before it is on the new line.
    let behind = |n: &NodeView| {
        n.report.as_ref().is_some_and(|r| r.resource.state == ResourceState::Standby)
            && line(n) < primary.and_then(line)
    };
    view.state == ClusterState::Healthy
        && view.phase.phase == Phase::Steady
        && !view.nodes.iter().any(|n| refused(n) || behind(n))
}

/// One event under load on a calm cluster, and everything mended afterwards.
///
/// # Errors
/// In words.
pub async fn once(
    lab: &mut Lab,
    client: &Client,
    identity: &Identity,
    event: Event,
) -> Result<Report, LabError> {
    let calm = until(client, Duration::from_secs(90), "a healthy, steady cluster", is_calm).await?;
    let primary = calm.primary.clone().ok_or_else(|| LabError("no primary".into()))?;
    let target = lab.target();
    target.prepare(Duration::from_secs(20)).await.map_err(LabError)?;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let running = tokio::spawn({
        let (target, stop, count) = (target, Arc::clone(&stop), Arc::clone(&count));
        async move { load::run(&target, stop, count).await }
    });
    reach(&count, 200).await?;
    let node = primary.as_str();
    match event {
        Event::Kill => _ = lab.kill(node, What::Postgres)?,
        Event::Host => _ = lab.kill(node, What::Host)?,
        Event::Freeze => _ = lab.freeze(node, What::Agent, true)?,
        Event::Cut => lab.cut(node)?,
        Event::Switchover => switchover(client, identity, &primary).await?,
    }
    let moved = |v: &ClusterView| {
        v.primary.as_ref().is_some_and(|p| *p != primary)
            && v.run.as_ref().is_some_and(|r| r.outcome.is_some())
    };
    until(client, Duration::from_secs(60), "the role to move", moved).await?;
    let after = count.load(Ordering::Relaxed);
    reach(&count, after + 200).await?;
    stop.store(true, Ordering::SeqCst);
    let report = running.await.map_err(words)?;
    lab.heal(node)?;
    Ok(report)
}

pub(super) async fn reach(count: &AtomicU64, wanted: u64) -> Result<(), LabError> {
    let end = Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::Relaxed) < wanted {
        if Instant::now() > end {
            return Err(LabError("no write was acknowledged for too long".into()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Plans and executes, as a person would.
///
/// # Errors
/// In words.
pub async fn switchover(
    client: &Client,
    identity: &Identity,
    from: &NodeId,
) -> Result<(), LabError> {
    let request = CallRequest::Order(PersonOrder::Propose(Proposal {
        reason: "measured".into(),
        ..Proposal::default()
    }));
    let digest = match client.call(&request).await.map_err(words)? {
        CallReply::Plan { digest, .. } => digest,
        other => return Err(LabError(format!("no plan: {other:?}"))),
    };
    let path = identity.approval_key.as_ref().ok_or_else(|| LabError("no approval key".into()))?;
    let key = crate::access::ApprovalKey::from_hex(&std::fs::read_to_string(path).map_err(words)?)
        .map_err(LabError)?;
    let expires = crate::model::WallTime(crate::agent::host::wall().0 + 60_000);
    let approval =
        key.approve(digest.clone(), &identity.name, "measured", expires).map_err(LabError)?;
    match client
        .call(&CallRequest::Order(PersonOrder::Execute {
            plan: digest,
            demoted: from.as_str().to_owned(),
            approval,
        }))
        .await
        .map_err(words)?
    {
        CallReply::Accepted { .. } => Ok(()),
        other => Err(LabError(format!("not accepted: {other:?}"))),
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn outages(reports: &[Report]) -> Vec<f64> {
    let mut outages: Vec<f64> = reports.iter().map(|r| r.longest_outage_ms).collect();
    outages.sort_by(f64::total_cmp);
    outages
}

/// `runs` times; with `floor` in turn with the same event on two servers that nobody manages.
///
/// # Errors
/// In words.
pub async fn run(
    lab: &mut Lab,
    event: Event,
    runs: usize,
    floor: bool,
    mut said: impl FnMut(usize, &Report),
) -> Result<Figures, LabError> {
    if floor {
        super::floor::is_for(event)?;
    }
    let identity = Identity::read(&lab.identity("operator")).map_err(words)?;
    let client = Client::new(&identity.plane, "plane", &identity.tls).map_err(words)?;
    let (mut reports, mut floors) = (Vec::new(), Vec::new());
    for i in 0..runs {
        // One run after another on purpose: the policy's guards are for what nobody looks at.
        let reason = format!("measuring {event:?}, run {} of {runs}", i + 1);
        let order = CallRequest::Order(PersonOrder::Acknowledge { reason });
        match client.call(&order).await.map_err(words)? {
            CallReply::Accepted { .. } => {}
            other => return Err(LabError(format!("not acknowledged: {other:?}"))),
        }
        let report = once(lab, &client, &identity, event).await?;
        said(i + 1, &report);
        reports.push(report);
        if floor {
            floors.push(lab.floor(event).await?);
        }
    }
    let (outages, floors) = (outages(&reports), outages(&floors));
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum();
    Ok(Figures {
        event,
        median_ms: median(&outages),
        worst_ms: outages.last().copied().unwrap_or(0.0),
        outages_ms: outages,
        acknowledged: sum(|r| r.acknowledged),
        lost: sum(|r| r.lost),
        failed: sum(|r| r.failed),
        unknown: sum(|r| r.unknown),
        overlaps: sum(|r| r.overlaps),
        unverified: sum(|r| u64::from(!r.unverified.is_empty())),
        floor_median_ms: median(&floors),
        floors_ms: floors,
    })
}
