//! Every server of a cluster restarted, one at a time, as a new minor version or a setting wants it:
//! the standbys first, then the role moves to one of them, then the former primary. Each step is the
//! same order that a person would give by hand, and is waited for; the first that does not end well
//! stops the rest, and what was done stays.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::output::say;
use super::person::Person;
use super::run::{self, Move};
use super::{Outcome, node};
use crate::config::Identity;
use crate::model::NodeId;
use crate::model::observation::ResourceState;
use crate::model::view::{ClusterState, ClusterView, NodeView, Phase};
use crate::wire::Client;
use crate::wire::changing::NodeChange;
use crate::wire::message::{CallReply, CallRequest};

/// A cluster is well again within this after a step, or somebody looks.
const WELL_WITHIN: Duration = Duration::from_secs(120);
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

/// The steps, standbys first, and the primary where it is one of them.
fn steps(view: &ClusterView, outdated: bool) -> (Vec<Step>, Option<Step>) {
    let step = |n: &NodeView| {
        let resource = &n.report.as_ref()?.resource;
        let runs = matches!(resource.state, ResourceState::Primary | ResourceState::Standby);
        let installed = resource.serving.as_ref().map_or("", |s| &*s.installed).to_owned();
        let wanted = runs && !(outdated && installed.is_empty());
        let version = resource.version.clone();
        wanted.then(|| Step { node: n.node.clone(), version, installed })
    };
    let (primary, standbys): (Vec<Step>, Vec<Step>) =
        view.nodes.iter().filter_map(step).partition(|s| Some(&s.node) == view.primary.as_ref());
    (standbys, primary.into_iter().next())
}

pub(super) async fn run(identity: &Identity, wanted: &Rolling<'_>) -> Result<Outcome> {
    let client = Person::client(identity)?;
    let view = look(&client).await?;
    let (standbys, primary) = steps(&view, wanted.outdated);
    if standbys.is_empty() && primary.is_none() {
        say!("every server of {} runs the version that is installed beside it", view.name);
        return Ok(Outcome::Done);
    }
    if !is_well(&view) {
        eprintln!(
            "quorate: refused (state): {} is {}: {}; nothing is restarted before it is well",
            view.name,
            view.state.word(),
            view.why
        );
        return Ok(Outcome::Refused);
    }
    for (at, words) in plan(&standbys, primary.as_ref()).iter().enumerate() {
        say!("{:>3}  {words}", at + 1);
    }
    if primary.is_some() && wanted.confirm.is_none() && !std::io::stdin().is_terminal() {
        eprintln!(
            "quorate: nothing was done: name the primary ({}) with --confirm",
            view.primary.as_ref().map_or("", NodeId::as_str)
        );
        return Ok(Outcome::Usage);
    }
    if let (Some(named), Some(step)) = (&wanted.confirm, &primary)
        && *named != step.node.as_str()
    {
        eprintln!("quorate: refused (confirm): the primary is {}, not {named}", step.node);
        return Ok(Outcome::Refused);
    }
    for step in &standbys {
        let outcome = restart(&client, &step.node, wanted.reason).await?;
        if outcome != Outcome::Done {
            return Ok(stopped(outcome));
        }
    }
    let Some(primary) = primary else { return done() };
    let wanted_move = Move {
        reason: wanted.reason.to_owned(),
        confirm: wanted.confirm.clone(),
        ..Move::default()
    };
    let outcome = run::move_role(&client, identity, wanted_move).await?;
    if outcome != Outcome::Done {
        return Ok(stopped(outcome));
    }
    well_again(&client).await?;
    match restart(&client, &primary.node, wanted.reason).await? {
        Outcome::Done => done(),
        outcome => Ok(stopped(outcome)),
    }
}

fn plan(standbys: &[Step], primary: Option<&Step>) -> Vec<String> {
    let words = |s: &Step| match s.installed.as_str() {
        "" => format!("restart {} (PostgreSQL {})", s.node, s.version),
        new => format!("restart {} (PostgreSQL {} → {new})", s.node, s.version),
    };
    let mut all: Vec<String> = standbys.iter().map(words).collect();
    if let Some(primary) = primary {
        all.push(format!("move the role away from {}: clients are cut for a moment", primary.node));
        all.push(words(primary));
    }
    all
}

async fn restart(client: &Client, node: &NodeId, reason: &str) -> Result<Outcome> {
    let ended = client.change_node(NodeChange::Restart, node, reason, None).await?;
    let outcome = node::said(ended)?;
    if outcome == Outcome::Done {
        well_again(client).await?;
    }
    Ok(outcome)
}

fn done() -> Result<Outcome> {
    say!("every server was restarted");
    Ok(Outcome::Done)
}

fn stopped(outcome: Outcome) -> Outcome {
    eprintln!(
        "quorate: the rest is not restarted; what was done stays. The same command begins again \
         with all of them, --outdated with those that are left"
    );
    outcome
}

/// Nothing moves, nothing is wrong, and every standby follows.
fn is_well(view: &ClusterView) -> bool {
    let follows = |n: &NodeView| {
        let resource = n.report.as_ref().map(|r| &r.resource);
        resource.is_none_or(|r| {
            !matches!(r.state, ResourceState::Standby) || r.receiving_from.is_some()
        })
    };
    view.state == ClusterState::Healthy
        && matches!(view.phase.phase, Phase::Steady | Phase::Stabilising)
        && view.nodes.iter().all(follows)
}

async fn well_again(client: &Client) -> Result<()> {
    let end = Instant::now() + WELL_WITHIN;
    loop {
        let view = look(client).await?;
        if is_well(&view) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(eyre!(
                "{} is not well {} s after that step: {}: {}; the rest is not restarted",
                view.name,
                WELL_WITHIN.as_secs(),
                view.state.word(),
                view.why
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(client: &Client) -> Result<ClusterView> {
    match Person::call(client, CallRequest::View).await? {
        CallReply::View(view) => Ok(*view),
        other => Err(eyre!("unexpected answer: {other:?}")),
    }
}
