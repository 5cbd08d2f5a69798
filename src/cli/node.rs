//! `quorate node`: who votes and who confirms commits. One node at a time, by the holder; and, when
//! too few voters are left for that, the signed removal of voters that two persons attest to be
//! powered off.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::output::say;
use super::person::{Person, approval_key};
use super::rolling::{self, Rolling};
use crate::agent::host;
use crate::config::Identity;
use crate::engine::PersonOrder;
use crate::model::command::{HistoryOrder, OverrideOrder};
use crate::model::plan::Approval;
use crate::model::view::ClusterView;
use crate::model::{Digest, NodeId, VoterSet, WallTime};
use crate::wire::Client;
use crate::wire::changing::{Changed, GOOD_FOR_MS, NodeChange, Signer, member};
use crate::wire::message::{CallReply, CallRequest};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A node of the cluster file votes from now on, and confirms commits if it holds data.
    Add(Change),
    /// A node neither votes nor confirms any more.
    Remove(Change),
    /// A node that was reinstalled takes the place of its former self.
    Readmit(Change),
    /// A node's host is to be stopped: it is no target until it is undrained. Refused while it
    /// holds the role, or where the others would not be enough to vote and to confirm commits. It
    /// still votes, and its database goes on.
    Drain(Change),
    /// A drained node is one like the others again.
    Undrain(Change),
    /// The server of a standby stops cleanly and starts again, for settings that want a start.
    /// Refused where its host could not be stopped. The primary's: switch over first, or --all.
    Restart(Restart),
    /// Remove voters whose hosts are powered off, when too few are left for anything else. Needs
    /// two persons: the first writes a signed order (--sign), the second adds a signature and
    /// executes it (--with).
    Override(Override),
    /// What this node has is the cluster's history, where every node's data is older than what it
    /// once confirmed, or another's: after a restore, or an upgrade into a new system. Two persons,
    /// as with override.
    History(History),
}

#[derive(Debug, Args)]
struct Change {
    /// The node.
    node: String,
    #[command(flatten)]
    person: Person,
    /// Why, for the audit.
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
}

#[derive(Debug, Args)]
struct Restart {
    /// The node.
    #[arg(required_unless_present_any = ["all", "outdated"])]
    node: Option<String>,
    /// Every server, one at a time: the standbys, then the role moves, then the former primary.
    /// Stops at the first that does not come back.
    #[arg(long, conflicts_with = "node")]
    all: bool,
    /// As --all, only those whose programs were replaced under them: a new minor version.
    #[arg(long, conflicts_with_all = ["node", "all"])]
    outdated: bool,
    /// With --all and --outdated: the name of the primary, which hands the role over; asked for on
    /// a terminal.
    #[arg(long)]
    confirm: Option<String>,
    #[command(flatten)]
    person: Person,
    /// Why, for the audit.
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
}

#[derive(Debug, Args)]
struct Override {
    /// The nodes to remove, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with = "with")]
    remove: Vec<String>,
    #[command(flatten)]
    person: Person,
    /// How it was made sure that their hosts are powered off; goes into the audit for ever.
    #[arg(long, required_unless_present = "with")]
    attest: Option<String>,
    /// The former holder may take the role back although nobody can know what the removed nodes
    /// acknowledged. Without it somebody has to ask for a plan that accepts an unknown loss.
    #[arg(long, conflicts_with = "with")]
    accept_unknown_loss: bool,
    /// Writes the order with your signature here; nothing is done.
    #[arg(long, conflicts_with = "with")]
    sign: Option<PathBuf>,
    /// An order that another person signed: adds your signature and executes it.
    #[arg(long)]
    with: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct History {
    /// Whose data it is.
    #[arg(required_unless_present = "with")]
    node: Option<String>,
    #[command(flatten)]
    person: Person,
    /// How it is known that this is the cluster's data; goes into the audit for ever.
    #[arg(long, required_unless_present = "with")]
    attest: Option<String>,
    /// Writes the order with your signature here; nothing is done.
    #[arg(long, conflicts_with = "with", required_unless_present = "with")]
    sign: Option<PathBuf>,
    /// An order that another person signed: adds your signature and executes it.
    #[arg(long)]
    with: Option<PathBuf>,
}

/// An order on its way from one person to the other.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed<T> {
    order: T,
    approvals: Vec<Approval>,
}

impl<T: serde::Serialize + serde::de::DeserializeOwned> Signed<T> {
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| eyre!("{}: {e}", path.display()))?;
        serde_json::from_str(&text)
            .map_err(|e| eyre!("{}:{}:{}: {e}", path.display(), e.line(), e.column()))
    }
    fn write(&self, path: &Path, command: &str) -> Result<Outcome> {
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")
            .map_err(|e| eyre!("{}: {e}", path.display()))?;
        say!(
            "signed and not executed. A second person executes it: quorate node {command} --with {}",
            path.display()
        );
        Ok(Outcome::Done)
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    match &arguments.what {
        What::Add(one) => change(one, NodeChange::Add),
        What::Remove(one) => change(one, NodeChange::Remove),
        What::Readmit(one) => change(one, NodeChange::Readmit),
        What::Drain(one) => change(one, NodeChange::Drain),
        What::Undrain(one) => change(one, NodeChange::Undrain),
        What::Restart(one) => restart(one),
        What::Override(o) => override_voters(o),
        What::History(h) => take_history(h),
    }
}

fn restart(asked: &Restart) -> Result<Outcome> {
    let identity = asked.person.identity()?;
    let runtime = super::runtime()?;
    let Some(node) = &asked.node else {
        let wanted = Rolling {
            outdated: asked.outdated,
            confirm: asked.confirm.clone(),
            reason: &asked.reason,
        };
        return runtime.block_on(rolling::run(&identity, &wanted));
    };
    let node = NodeId::from(node.as_str());
    let ended = runtime.block_on(async {
        let client = Person::client(&identity)?;
        let change = client.change_node(NodeChange::Restart, &node, &asked.reason, None);
        Ok::<_, color_eyre::Report>(change.await?)
    })?;
    said(ended)
}

fn change(one: &Change, what: NodeChange) -> Result<Outcome> {
    let identity = one.person.identity()?;
    let node = NodeId::from(one.node.as_str());
    let signed = matches!(what, NodeChange::Add | NodeChange::Remove | NodeChange::Readmit);
    let key = if signed { Some(approval_key(&identity)?) } else { None };
    let expires = WallTime(host::wall().0 + GOOD_FOR_MS);
    let signer = key.as_ref().map(|key| Signer { key, name: &identity.name, expires });
    let ended = super::runtime()?.block_on(async {
        let client = Person::client(&identity)?;
        Ok::<_, color_eyre::Report>(client.change_node(what, &node, &one.reason, signer).await?)
    })?;
    said(ended)
}

/// Says how a change ended.
pub(super) fn said(ended: Changed) -> Result<Outcome> {
    Ok(match ended {
        Changed::Done(words) => {
            say!("{words}");
            Outcome::Done
        }
        Changed::Refused { check, why } => {
            eprintln!("quorate: refused ({check}): {why}");
            Outcome::Refused
        }
        Changed::NotAsked(why) => return Err(eyre!(why)),
        Changed::Unknown(what) => {
            eprintln!("quorate: unknown: {what}. Look with `quorate why`");
            Outcome::Unknown
        }
    })
}

fn approve(identity: &Identity, digest: Digest, reason: &str) -> Result<Approval> {
    let expires = WallTime(host::wall().0 + GOOD_FOR_MS);
    approval_key(identity)?.approve(digest, &identity.name, reason, expires).map_err(|e| eyre!(e))
}

async fn view(client: &Client) -> Result<ClusterView> {
    match Person::call(client, CallRequest::View).await? {
        CallReply::View(view) => Ok(*view),
        other => Err(eyre!("unexpected answer: {other:?}")),
    }
}

fn override_voters(o: &Override) -> Result<Outcome> {
    let identity = o.person.identity()?;
    let client = || Person::client(&identity);
    let signed = match &o.with {
        Some(path) => {
            let mut signed = Signed::<OverrideOrder>::read(path)?;
            signed.approvals.push(approve(&identity, signed.order.digest(), &signed.order.reason)?);
            signed
        }
        None => {
            let now = super::runtime()?.block_on(async { view(&client()?).await })?;
            // With no holder any living voter's word on the set will do; each checks the version
            // again.
            let heard = now
                .nodes
                .iter()
                .filter(|n| n.heartbeat_age.is_some_and(|a| a < crate::model::Span::secs(5)));
            let best =
                heard.filter_map(|n| n.report.as_ref()).max_by_key(|r| r.vote.voters_version);
            let vote = &best.ok_or_else(|| eyre!("no agent was heard"))?.vote;
            let find = |name: &String| {
                vote.members
                    .iter()
                    .find(|m| m.node.as_str() == name)
                    .cloned()
                    .ok_or_else(|| eyre!("{name} is not in the voter set"))
            };
            let remove = o.remove.iter().map(find).collect::<Result<Vec<_>>>()?;
            if remove.is_empty() {
                return Err(eyre!("name the nodes that are powered off with --remove"));
            }
            let reason = o.attest.clone().unwrap_or_default();
            let members = vote.members.iter().filter(|m| !remove.contains(m)).cloned().collect();
            let have = VoterSet { version: vote.voters_version, members };
            let newest = now
                .nodes
                .iter()
                .filter_map(|n| n.report.as_ref())
                .map(|r| r.vote.epoch)
                .max()
                .unwrap_or(now.epoch)
                .max(now.epoch);
            let left = VoterSet { version: have.override_version(newest), ..have };
            let order = OverrideOrder {
                cluster: now.cluster.clone(),
                left,
                remove,
                accept_unknown_loss: o.accept_unknown_loss,
                reason,
            };
            let approvals = vec![approve(&identity, order.digest(), &order.reason)?];
            Signed { order, approvals }
        }
    };
    if let Some(path) = &o.sign {
        return signed.write(path, "override");
    }
    let words = signed.order.words();
    let order = PersonOrder::Override { order: signed.order, approvals: signed.approvals };
    pass_on(&identity, order, &words)
}

fn take_history(h: &History) -> Result<Outcome> {
    let identity = h.person.identity()?;
    let mut signed = match (&h.with, &h.node) {
        (Some(path), _) => Signed::<HistoryOrder>::read(path)?,
        (None, Some(node)) => {
            let now =
                super::runtime()?.block_on(async { view(&Person::client(&identity)?).await })?;
            let member = member(&now, &NodeId::from(node.as_str())).map_err(|e| eyre!(e))?;
            let found = now.nodes.iter().find(|n| n.node == member.node);
            let data = found.and_then(|n| n.report.as_ref()).map(|r| &r.data);
            let line = data.and_then(|d| d.line.as_ref());
            let (Some(system), Some(line)) = (data.and_then(|d| d.system), line) else {
                return Err(eyre!("{node} has no database"));
            };
            let order = HistoryOrder {
                cluster: now.cluster.clone(),
                member,
                system,
                timeline: line.timeline,
                reason: h.attest.clone().unwrap_or_default(),
            };
            Signed { order, approvals: vec![] }
        }
        (None, None) => return Err(eyre!("name the node whose data is the history")),
    };
    let approval = approve(&identity, signed.order.digest(), &signed.order.reason)?;
    signed.approvals.push(approval);
    if let Some(path) = &h.sign {
        return signed.write(path, "history");
    }
    let words = signed.order.words();
    let order = PersonOrder::History { order: signed.order, approvals: signed.approvals };
    pass_on(&identity, order, &words)
}

fn pass_on(identity: &Identity, order: PersonOrder, words: &str) -> Result<Outcome> {
    let reply = super::runtime()?.block_on(async {
        Person::call(&Person::client(identity)?, CallRequest::Order(order)).await
    })?;
    match reply {
        CallReply::Accepted { .. } => {
            say!("passed on to every voter: {words}. Look with `quorate why`");
            Ok(Outcome::Done)
        }
        CallReply::Refused { check, why } => {
            eprintln!("quorate: refused ({check}): {why}");
            Ok(Outcome::Refused)
        }
        other => Err(eyre!("unexpected answer: {other:?}")),
    }
}
