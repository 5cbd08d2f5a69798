//! Every server of a cluster restarted, one at a time, as a new minor version or a setting wants it:
//! the standbys first, then the role moves to one of them, then the former primary. What would
//! refuse it is looked for before anything is done. Each step is the same order that a person would
//! give by hand, and is waited for; the first that does not end well stops the rest, and what was
//! done stays.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::output::say;
use super::person::{Person, approval_key};
use super::run::{self, Move};
use super::{Outcome, node};
use crate::config::Identity;
use crate::model::NodeId;
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::view::{ClusterState, ClusterView, NodeView, Phase};
use crate::wire::Client;
use crate::wire::changing::{Changed, NodeChange};
use crate::wire::message::{CallReply, CallRequest};

/// A cluster is well again within this after a step, or somebody looks.
const WELL_WITHIN: Duration = Duration::from_secs(120);
/// Words that are on their way are here within this.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// What is wanted.
#[derive(Debug)]
pub(super) struct Rolling<'a> {
    /// Only servers whose programs were replaced under them.
    pub(super) outdated: bool,
    /// The name of the primary.
    pub(super) confirm: Option<String>,
    /// Why, for the audit.
    pub(super) reason: &'a str,
}

/// One server that is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    node: NodeId,
    version: String,
    installed: String,
}

/// The steps: standbys, and the primary where it is one of them.
#[derive(Debug)]
struct Steps {
    standbys: Vec<Step>,
    primary: Option<Step>,
    /// Of whom it is not known what a start would run.
    unknown: Vec<NodeId>,
}

fn report<'a>(view: &'a ClusterView, node: &NodeId) -> Option<&'a NodeReport> {
    view.nodes.iter().find(|n| n.node == *node)?.report.as_ref()
}

fn runs(report: &NodeReport) -> bool {
    matches!(report.resource.state, ResourceState::Primary | ResourceState::Standby)
}

fn steps(view: &ClusterView, outdated: bool) -> Steps {
    let mut found = Steps { standbys: vec![], primary: None, unknown: vec![] };
    for node in &view.nodes {
        let Some(report) = node.report.as_ref().filter(|r| runs(r)) else { continue };
        let version = report.resource.version.clone();
        let installed = report.resource.serving.as_ref().map_or("", |s| &*s.installed).to_owned();
        if outdated && (installed.is_empty() || version.is_empty()) {
            found.unknown.push(node.node.clone());
        } else if !outdated || installed != version {
            let step = Step { node: node.node.clone(), version, installed };
            if view.primary.as_ref() == Some(&node.node) {
                found.primary = Some(step);
            } else {
                found.standbys.push(step);
            }
        }
    }
    found
}

/// What would stop it in the middle, as far as that is known before the beginning.
fn in_the_way(view: &ClusterView, steps: &Steps) -> Option<(&'static str, String)> {
    if let Err(why) = well(view) {
        return Some(("state", format!("{why}; nothing is restarted before all is well")));
    }
    if let Some(plan) = &view.plan {
        let plan = plan.digest();
        let why = format!("plan {} waits for a person: execute or dismiss it first", plan.short());
        return Some(("plan", why));
    }
    if !steps.unknown.is_empty() {
        let names: Vec<&str> = steps.unknown.iter().map(NodeId::as_str).collect();
        let why = format!(
            "which version is installed is not known of {}: an agent looks once a minute, and an \
             older one does not",
            names.join(", ")
        );
        return Some(("version", why));
    }
    steps.primary.as_ref()?;
    if !view.outlook.candidates.iter().any(|c| c.eligible) {
        return Some(("candidates", "nobody could take the role at its end".into()));
    }
    None
}

/// Nothing moves, nothing is wrong, and the primary sends to every standby that runs.
fn well(view: &ClusterView) -> std::result::Result<(), String> {
    let not = |why: String| Err(format!("{} is {}: {why}", view.name, view.state.word()));
    if view.state != ClusterState::Healthy {
        return not(view.why.clone());
    }
    if !matches!(view.phase.phase, Phase::Steady | Phase::Stabilising) {
        return not(format!("phase {}", view.phase.phase.word()));
    }
    let Some(sends) = view.primary.as_ref().and_then(|p| report(view, p)) else {
        return not("one node that holds the write role is needed".into());
    };
    let standby = |n: &&NodeView| {
        let resource = n.report.as_ref().map(|r| &r.resource);
        resource.is_some_and(|r| matches!(r.state, ResourceState::Standby))
    };
    let streams = |n: &NodeView| {
        let receives = n.report.as_ref().is_some_and(|r| r.resource.receiving_from.is_some());
        receives && sends.resource.standbys.iter().any(|s| s.node == n.node && s.streams())
    };
    match view.nodes.iter().filter(standby).find(|n| !streams(n)) {
        Some(node) => not(format!("{} does not stream", node.node)),
        None => Ok(()),
    }
}

pub(super) async fn run(identity: &Identity, wanted: &Rolling<'_>) -> Result<Outcome> {
    let client = Person::client(identity)?;
    // What every node says of itself may be a heartbeat old, and the primary's word of it another.
    let end = Instant::now() + SETTLES_WITHIN;
    let (view, steps) = loop {
        let view = look(&client).await?;
        let steps = steps(&view, wanted.outdated);
        match in_the_way(&view, &steps) {
            None => break (view, steps),
            Some(("state", _)) if Instant::now() < end => tokio::time::sleep(LOOK).await,
            Some((check, why)) => {
                eprintln!("quorate: refused ({check}): {why}");
                return Ok(Outcome::Refused);
            }
        }
    };
    if steps.standbys.is_empty() && steps.primary.is_none() {
        say!("every server of {} runs the version that is installed beside it", view.name);
        return Ok(Outcome::Done);
    }
    for (at, words) in plan(&steps).iter().enumerate() {
        say!("{:>3}  {words}", at + 1);
    }
    let mut confirm = None;
    if let Some(primary) = &steps.primary {
        // The move is signed; without the key nothing is begun.
        approval_key(identity)?;
        let Some(named) = wanted.confirm.clone().map_or_else(ask, |named| Ok(Some(named)))? else {
            eprintln!(
                "quorate: nothing was done: name the primary ({}) with --confirm",
                primary.node
            );
            return Ok(Outcome::Usage);
        };
        if named != primary.node.as_str() {
            eprintln!("quorate: refused (confirm): the primary is {}, not {named}", primary.node);
            return Ok(Outcome::Refused);
        }
        confirm = Some(named);
    }
    let walk = Walk { client, identity, reason: wanted.reason };
    let outcome = walk.carry_out(&steps, confirm).await;
    if !matches!(outcome, Ok(Outcome::Done)) {
        eprintln!(
            "quorate: the rest is not restarted; what was done stays. The same command begins \
             again with all of them, --outdated with those that are left"
        );
    }
    outcome
}

fn plan(steps: &Steps) -> Vec<String> {
    let words = |s: &Step| {
        if s.installed.is_empty() || s.installed == s.version {
            format!("restart {} (PostgreSQL {})", s.node, s.version)
        } else {
            format!("restart {} (PostgreSQL {} → {})", s.node, s.version, s.installed)
        }
    };
    let mut all: Vec<String> = steps.standbys.iter().map(words).collect();
    if let Some(primary) = &steps.primary {
        all.push(format!("move the role away from {}: clients are cut for a moment", primary.node));
        all.push(words(primary));
    }
    all
}

/// The primary's name, before anything is done; `None` where nobody can be asked.
fn ask() -> Result<Option<String>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    print!("type the name of the primary, which hands the role over, to begin (Enter cancels): ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    match line.trim() {
        "" => Err(eyre!("cancelled; nothing was done")),
        typed => Ok(Some(typed.to_owned())),
    }
}

struct Walk<'a> {
    client: Client,
    identity: &'a Identity,
    reason: &'a str,
}

impl Walk<'_> {
    async fn carry_out(&self, steps: &Steps, confirm: Option<String>) -> Result<Outcome> {
        for (at, step) in steps.standbys.iter().enumerate() {
            match self.restart(&step.node, at > 0).await? {
                Outcome::Done => {}
                outcome => return Ok(outcome),
            }
        }
        if let Some(primary) = &steps.primary {
            // The world may have moved meanwhile.
            if look(&self.client).await?.primary.as_ref() == Some(&primary.node) {
                let wanted = Move {
                    reason: self.reason.to_owned(),
                    confirm,
                    planned_only: true,
                    ..Move::default()
                };
                match run::move_role(&self.client, self.identity, wanted).await? {
                    Outcome::Done => {}
                    outcome => return Ok(outcome),
                }
                if let Err(outcome) = self.well_again().await {
                    return Ok(outcome);
                }
            } else {
                say!("{} gave the role up by itself meanwhile: nothing is moved", primary.node);
            }
            match self.restart(&primary.node, true).await? {
                Outcome::Done => {}
                outcome => return Ok(outcome),
            }
        }
        let all = steps.standbys.iter().chain(&steps.primary);
        let names: Vec<&str> = all.map(|s| s.node.as_str()).collect();
        say!("restarted: {}", names.join(", "));
        Ok(Outcome::Done)
    }

    /// With `again` a refusal is tried again for a while: what it waits for may be on its way, such
    /// as the primary's word that the standby before is back.
    async fn restart(&self, node: &NodeId, again: bool) -> Result<Outcome> {
        let end = Instant::now() + if again { WELL_WITHIN } else { Duration::ZERO };
        loop {
            let asked = self.client.change_node(NodeChange::Restart, node, self.reason, None);
            let ended = match asked.await {
                Ok(ended) => ended,
                Err(refused) if refused.outcome_unknown => {
                    Changed::Unknown(format!("{refused}; whether {node} restarts is not known"))
                }
                Err(refused) => return Err(refused.into()),
            };
            if matches!(ended, Changed::Refused { .. }) && Instant::now() < end {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            return Ok(match node::said(ended)? {
                Outcome::Done => match self.well_again().await {
                    Ok(()) => Outcome::Done,
                    Err(outcome) => outcome,
                },
                outcome => outcome,
            });
        }
    }

    /// Until everything is well, by a word of the primary that is newer than now: its last one may
    /// still tell of the connection from before.
    async fn well_again(&self) -> std::result::Result<(), Outcome> {
        let end = Instant::now() + WELL_WITHIN;
        let said = |view: &ClusterView| {
            let primary = view.primary.as_ref()?;
            report(view, primary).map(|r| (primary.clone(), r.process, r.sequence))
        };
        let mut first = None;
        let mut last = String::from("the plane did not answer");
        while Instant::now() < end {
            match look(&self.client).await {
                Ok(view) => {
                    let now = said(&view);
                    let newer = first.as_ref().is_some_and(|f| *f != now);
                    match well(&view) {
                        Ok(()) if newer => return Ok(()),
                        Ok(()) => {}
                        Err(why) => last = why,
                    }
                    first.get_or_insert(now);
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK).await;
        }
        eprintln!(
            "quorate: unknown: not well {} s after that step: {last}. Look with `quorate why`",
            WELL_WITHIN.as_secs()
        );
        Err(Outcome::Unknown)
    }
}

async fn look(client: &Client) -> Result<ClusterView> {
    match Person::call(client, CallRequest::View).await? {
        CallReply::View(view) => Ok(*view),
        other => Err(eyre!("unexpected answer: {other:?}")),
    }
}
