//! Scenarios: what happens to a cluster, when, and what is expected of it. The named ones are files
//! like everybody's (`src/sim/scenarios/*.yaml`).

use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::fault::{Fault, Whom};
use super::needs::Need;
use super::written::{Written, span};
use crate::config::Problem;
use crate::model::topology::Cluster;
use crate::model::{NodeId, Span};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scenario: Spanned<String>,
    story: String,
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    run_for: Option<Spanned<String>>,
    #[serde(default)]
    person_confirms_after: Option<Spanned<String>>,
    #[serde(default)]
    needs: Vec<Spanned<String>>,
    #[serde(default)]
    events: Vec<Spanned<Entry>>,
    #[serde(default)]
    expect: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at: String,
    #[serde(rename = "do")]
    what: Written,
}

/// What must be true at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Another node holds the write role.
    Moved,
    /// The same node holds it, in the same epoch.
    Stays,
    /// The role is at this node.
    PrimaryIs(Whom),
    /// Clients' writes are acknowledged.
    Writable,
    /// They are not.
    ReadOnly,
    /// Every acknowledged write is there.
    NothingLost,
    /// A record carries this rule.
    Rule(u16),
    /// No record carries it.
    NotRule(u16),
    /// A record's text contains this.
    Says(String),
    /// A node's share of the traffic in the newest shares that any agent keeps, in units.
    Share(Whom, u64),
    /// Every node that runs has the same writes, where several accept them; else everybody follows
    /// the primary and votes.
    Converged,
}

/// A scenario, checked against a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What happens, in words.
    pub story: String,
    /// Runs for so long after the first event; `None`: until the cluster is at rest.
    pub run_for: Option<Span>,
    /// A person is there and confirms plans after this time.
    pub person_confirms_after: Option<Span>,
    /// What it needs of a cluster, as written and as checked.
    pub needs: Vec<(String, Need)>,
    /// What happens when, counted from the end of the warm-up.
    pub events: Vec<(Span, Fault)>,
    /// What is expected.
    pub expect: Vec<(String, Expectation)>,
    /// What is expected elsewhere and not here, for commits wait for no standby: nobody can prove
    /// then that nothing was lost, and a person decides. The laws hold all the same.
    pub waived: Vec<String>,
}

macro_rules! named {
    ($($name:literal),* $(,)?) => {
        /// The named scenarios: name and file.
        pub const NAMED: &[(&str, &str)] = &[$(($name, include_str!(concat!("scenarios/", $name, ".yaml")))),*];
    };
}
named!(
    "cascading_failure",
    "data_corruption",
    "disk_full",
    "failback",
    "flapping_node",
    "host_pause",
    "network_partition",
    "no_safe_candidate",
    "one_way_partition",
    "overload_cascade",
    "plane_loss",
    "planned_maintenance",
    "primary_failure",
    "quorum_loss",
    "region_failure",
    "replication_lag_spike",
    "residency_conflict",
    "secondary_failure",
    "slow_disk",
    "split_brain_attempt",
    "witness_loss",
);

/// The cluster that scenarios are played on when nobody names another.
pub const CLUSTER: &str = include_str!("scenarios/cluster.yaml");
/// And its policy.
pub const POLICY: &str = include_str!("scenarios/policy.yaml");

/// The cluster and policy that a scenario brings along, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// `cluster.yaml`.
    pub cluster: Option<String>,
    /// `policy.yaml`.
    pub policy: Option<String>,
}

/// The stage of a scenario, before there is a cluster to check it against.
///
/// # Errors
/// As [`parse`].
pub fn stage(path: &Path, text: &str) -> Result<Stage, Problem> {
    let file: File = crate::config::parse(path, text)?;
    Ok(Stage { cluster: file.cluster, policy: file.policy })
}

/// Parses the text of a scenario; `path` is for messages.
///
/// # Errors
/// A [`Problem`] with file, line, column and what was expected.
pub fn parse(path: &Path, text: &str, cluster: &Cluster) -> Result<Scenario, Problem> {
    let file: File = crate::config::parse(path, text)?;
    let nodes: Vec<NodeId> = cluster.nodes.iter().map(|n| n.node_id.clone()).collect();
    let time = |text: &Spanned<String>| span(&text.value).map_err(|e| Problem::at(path, text, e));
    let needs: Vec<(String, Need)> = file
        .needs
        .iter()
        .map(|need| {
            let parsed = Need::parse(&need.value, &nodes, &cluster.regions)
                .map_err(|what| Problem::at(path, need, what))?;
            Ok((need.value.clone(), parsed))
        })
        .collect::<Result<_, _>>()?;
    let mut events = vec![];
    for entry in file.events {
        let at = span(&entry.value.at).map_err(|e| Problem::at(path, &entry, e))?;
        let fault = entry
            .value
            .what
            .clone()
            .check(&nodes, &cluster.regions)
            .map_err(|e| Problem::at(path, &entry, e))?;
        if let Some(end) = &file.run_for
            && at > time(end)?
        {
            return Err(Problem::at(
                path,
                &entry,
                format!("at {}: the run is over after {} (run_for)", entry.value.at, end.value),
            ));
        }
        events.push((at, fault));
    }
    events.sort_by_key(|(at, _)| *at);
    let mut expect: Vec<(String, Expectation)> = file
        .expect
        .iter()
        .map(|e| {
            let parsed = expectation(&e.value, &nodes, &cluster.regions)
                .map_err(|what| Problem::at(path, e, what))?;
            Ok((e.value.clone(), parsed))
        })
        .collect::<Result<_, _>>()?;
    let proves = needs.iter().any(|(_, need)| *need == Need::Synchronous);
    let waived = if proves && cluster.synchronous_standbys == 0 {
        expect.drain(..).map(|(text, _)| text).collect()
    } else {
        vec![]
    };
    Ok(Scenario {
        name: file.scenario.value.clone(),
        story: file.story,
        run_for: file.run_for.as_ref().map(time).transpose()?,
        person_confirms_after: file.person_confirms_after.as_ref().map(time).transpose()?,
        needs,
        events,
        expect,
        waived,
    })
}

fn expectation(text: &str, nodes: &[NodeId], regions: &[String]) -> Result<Expectation, String> {
    let rule = |n: &str| {
        let known = n.parse().ok().filter(|n| crate::engine::rules::sentence(*n).is_some());
        known.ok_or_else(|| format!("{n:?} is not the number of a rule; docs/rules.md lists them"))
    };
    Ok(match text.split_once(' ') {
        Some(("rule", n)) => Expectation::Rule(rule(n)?),
        Some(("no", n)) if n.starts_with("rule ") => Expectation::NotRule(rule(&n[5..])?),
        Some(("share", rest)) => {
            let (node, units) = rest
                .rsplit_once(' ')
                .ok_or_else(|| format!("{text:?}: expected share NODE UNITS"))?;
            let units = units.parse().map_err(|_| format!("{units:?} is not a number of units"))?;
            Expectation::Share(Whom::parse(node, nodes, regions)?, units)
        }
        Some(("says", words)) => Expectation::Says(words.to_owned()),
        Some(("primary", whom)) => Expectation::PrimaryIs(Whom::parse(whom, nodes, regions)?),
        _ => match text {
            "moved" => Expectation::Moved,
            "stays" => Expectation::Stays,
            "writable" => Expectation::Writable,
            "read_only" => Expectation::ReadOnly,
            "nothing_lost" => Expectation::NothingLost,
            "converged" => Expectation::Converged,
            _ => {
                return Err(format!(
                    "{text:?}: expected moved, stays, primary NODE, writable, read_only, \
                        nothing_lost, share NODE UNITS, converged, rule N, no \
                     rule N or says WORDS"
                ));
            }
        },
    })
}

/// The text of a named scenario.
pub fn named(name: &str) -> Option<&'static str> {
    NAMED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}
