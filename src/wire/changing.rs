//! Changes of one node that a person asks for, from the command line and from the console: each is
//! ordered, and then looked at until it is found to be so.

use std::time::Duration;

use super::channel::{Client, Refused};
use super::message::{CallReply, CallRequest};
use crate::access::ApprovalKey;
use crate::engine::{PersonOrder, rules};
use crate::model::command::VoterOrder;
use crate::model::observation::NodeReport;
use crate::model::record::ChainedRecord;
use crate::model::view::ClusterView;
use crate::model::{Member, NodeId, Span, WallTime};

/// A restarted server follows again within this, or somebody looks.
const RESTARTS_WITHIN: Duration = Duration::from_secs(120);
/// A change of the voters is done within this, or somebody looks.
const VOTERS_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// A signature over a change is good for so long, in milliseconds.
pub const GOOD_FOR_MS: i64 = 15 * 60_000;
/// Its agent is heard.
const HEARD: Span = Span::secs(5);

/// What is to become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Its host is to be stopped: no target any more.
    Drain,
    /// It is one like the others again.
    Undrain,
    /// The server of a standby stops and starts again.
    Restart,
    /// It votes, and confirms commits if it holds data.
    Add,
    /// It does neither any more.
    Remove,
    /// Reinstalled, it takes the place of its former self.
    Readmit,
}

/// Who signs a change of the voters.
#[derive(Debug)]
pub struct Signer<'a> {
    /// With this key.
    pub key: &'a ApprovalKey,
    /// By this name.
    pub name: &'a str,
    /// Until when the signature is good.
    pub expires: WallTime,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// As asked, and found to be so.
    Done(String),
    /// By that check, or an agent; nothing was changed.
    Refused {
        /// Which.
        check: String,
        /// Why.
        why: String,
    },
    /// There was nothing to ask for.
    NotAsked(String),
    /// It was ordered, and is not found to be so.
    Unknown(String),
}

impl Client {
    /// Asks for it and waits for what is found. A change of the voters takes a `signer`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn change_node(
        &self,
        change: NodeChange,
        node: &NodeId,
        reason: &str,
        signer: Option<Signer<'_>>,
    ) -> Result<Changed, Refused> {
        match change {
            NodeChange::Drain => self.drain(node, Some(reason)).await,
            NodeChange::Undrain => self.drain(node, None).await,
            NodeChange::Restart => self.restart(node, reason).await,
            NodeChange::Add | NodeChange::Remove | NodeChange::Readmit => {
                let Some(signer) = signer else {
                    let why = "a change of the voters is signed, and there is no approval key";
                    return Ok(Changed::NotAsked(why.into()));
                };
                self.change_voters(change, node, reason, signer).await
            }
        }
    }

    async fn drain(&self, node: &NodeId, reason: Option<&str>) -> Result<Changed, Refused> {
        let reason = reason.map(str::to_owned);
        let drains = reason.is_some();
        if let Err(ended) = self.order(PersonOrder::Drain { node: node.clone(), reason }).await? {
            return Ok(ended);
        }
        if !drains {
            return Ok(Changed::Done(format!("{node} is drained no more")));
        }
        let now = self.now().await?;
        let noted = now.records.iter().rev().find(|r| r.record.rule == rules::DRAINED);
        let noted = noted.map_or(String::new(), |r| format!("; {}", r.record.text));
        Ok(Changed::Done(format!(
            "{node} is no target now (of a failover only where nobody else is left), and its host \
             may be stopped: the others are enough to vote and to confirm commits; undrain it \
             afterwards{noted}"
        )))
    }

    async fn restart(&self, node: &NodeId, reason: &str) -> Result<Changed, Refused> {
        let found = |view: &ClusterView| -> Option<NodeReport> {
            view.nodes.iter().find(|n| n.node == *node)?.report.clone()
        };
        let before = self.now().await?;
        let postmaster = found(&before).and_then(|r| r.pids.postmaster);
        let order = PersonOrder::Restart { node: node.clone(), reason: reason.to_owned() };
        if let Err(ended) = self.order(order).await? {
            return Ok(ended);
        }
        let follows = |r: &NodeReport| {
            let another = r.pids.postmaster.is_some() && r.pids.postmaster != postmaster;
            another && r.resource.receiving_from.is_some()
        };
        let done = |now: &ClusterView| {
            found(now)
                .as_ref()
                .is_some_and(follows)
                .then(|| format!("the server of {node} was restarted, and follows again"))
        };
        let unknown = format!("{node} does not follow yet");
        self.found((node, before.record_count), RESTARTS_WITHIN, done, unknown).await
    }

    async fn change_voters(
        &self,
        change: NodeChange,
        node: &NodeId,
        reason: &str,
        signer: Signer<'_>,
    ) -> Result<Changed, Refused> {
        let before = self.now().await?;
        let order = match voter_order(&before, change, node, reason) {
            Ok(order) => order,
            Err(why) => return Ok(Changed::NotAsked(why)),
        };
        let Signer { key, name, expires } = signer;
        let approval = match key.approve(order.digest(), name, reason, expires) {
            Ok(approval) => approval,
            Err(why) => return Ok(Changed::NotAsked(why)),
        };
        let asked = PersonOrder::Voters { order: order.clone(), approval };
        if let Err(ended) = self.order(asked).await? {
            return Ok(ended);
        }
        let words = order.words();
        let done = |now: &ClusterView| {
            let report = holder(now).ok()?;
            let vote = &report.vote;
            let out = order.remove.as_ref().is_none_or(|m| !vote.members.contains(m));
            let inside = order.add.as_ref().is_none_or(|m| vote.members.contains(m));
            let newer = vote.voters_version > order.from_version;
            (out && inside && newer && report.activity.is_empty()).then(|| {
                let voters = vote.members.len();
                let may_fail = voters.saturating_sub(1) / 2;
                format!("done: {words}; of {voters} voters now {may_fail} may fail")
            })
        };
        let unknown = format!("{words} was ordered and is not done yet");
        let holds = match holder(&before) {
            Ok(report) => &report.member.node,
            Err(why) => return Ok(Changed::Unknown(why)),
        };
        self.found((holds, before.record_count), VOTERS_WITHIN, done, unknown).await
    }

    /// Looks until it is `done`, the agent that was asked refused (a record after that many), or the
    /// time is up.
    async fn found(
        &self,
        (asked, records): (&NodeId, u64),
        within: Duration,
        done: impl Fn(&ClusterView) -> Option<String>,
        unknown: String,
    ) -> Result<Changed, Refused> {
        let until = tokio::time::Instant::now() + within;
        while tokio::time::Instant::now() < until {
            let now = self.now().await?;
            if let Some(words) = done(&now) {
                return Ok(Changed::Done(words));
            }
            let mut new = now.records.iter().rev().filter(|r| r.number > records);
            let its = |r: &&ChainedRecord| {
                r.record.rule == rules::REFUSED && r.record.actor == asked.as_str()
            };
            if let Some(refused) = new.find(its) {
                let (check, why) = ("agent".into(), refused.record.text.clone());
                return Ok(Changed::Refused { check, why });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(Changed::Unknown(unknown))
    }

    /// Gives an order; how it ended already where it was not taken.
    async fn order(&self, order: PersonOrder) -> Result<Result<(), Changed>, Refused> {
        Ok(match self.call(&CallRequest::Order(order)).await? {
            CallReply::Accepted { .. } => Ok(()),
            CallReply::Refused { check, why } => Err(Changed::Refused { check, why }),
            _ => return Err(self.refused(&unexpected())),
        })
    }

    async fn now(&self) -> Result<ClusterView, Refused> {
        match self.call(&CallRequest::View).await? {
            CallReply::View(view) => Ok(*view),
            _ => Err(self.refused(&unexpected())),
        }
    }
}

fn unexpected() -> tonic::Status {
    tonic::Status::internal("another kind of answer than was asked for")
}

/// The order of that change, as the voter set stands.
fn voter_order(
    view: &ClusterView,
    change: NodeChange,
    node: &NodeId,
    reason: &str,
) -> Result<VoterOrder, String> {
    let holder = holder(view)?;
    let voter = holder.vote.members.iter().find(|m| m.node == *node).cloned();
    let (remove, add) = if change == NodeChange::Remove {
        (Some(voter.ok_or_else(|| format!("{node} is not in the voter set"))?), None)
    } else {
        let new = member(view, node)?;
        match (change, voter) {
            (NodeChange::Add, Some(old)) if old == new => {
                return Err(format!("{node} votes already: nothing to add"));
            }
            (NodeChange::Add, Some(_)) => {
                return Err(format!("{node} voted before it was reinstalled: readmit it"));
            }
            (_, Some(old)) if old == new => {
                return Err(format!("{node} votes already, as it is: nothing to readmit"));
            }
            // Readmitted; an override may have removed what it was before.
            (_, voter) => (voter, Some(new)),
        }
    };
    Ok(VoterOrder {
        cluster: view.cluster.clone(),
        from_version: holder.vote.voters_version,
        remove,
        add,
        reason: reason.to_owned(),
    })
}

/// The node as its agent reports itself now.
///
/// # Errors
/// In words, where it is not declared or not heard.
pub fn member(view: &ClusterView, node: &NodeId) -> Result<Member, String> {
    let found = view.nodes.iter().find(|n| n.node == *node);
    let found = found.ok_or_else(|| {
        format!("{node} is not in the cluster file: declare it there first, and start its agent")
    })?;
    let heard = found.heartbeat_age.is_some_and(|age| age < HEARD);
    let report = found.report.as_ref().filter(|_| heard);
    Ok(report.ok_or_else(|| format!("{node}'s agent is not heard: start it first"))?.member.clone())
}

/// What the holder reports now; a dead one's last word is no word about now.
///
/// # Errors
/// In words, where nobody holds the role.
pub fn holder(view: &ClusterView) -> Result<&NodeReport, String> {
    let node = view.nodes.iter().find(|n| Some(&n.node) == view.primary.as_ref());
    let report = node.and_then(|n| n.report.as_ref()).filter(|r| r.holding.is_some());
    report.ok_or_else(|| "no node that is heard holds the write role".into())
}
