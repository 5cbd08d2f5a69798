//! Adapters: one per engine. Each gets a goal as a level and reports what it sees.

pub mod none;
pub mod postgres;
mod proving;
pub mod sim;

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};

use super::machine::{Goal, Resource};
use crate::model::observation::{NodeReport, ResourceFacts, ResourceState};
use crate::model::{DataMark, NodeId, Timestamp};

/// Why no adapter here serves a share of the traffic.
pub(crate) const ONE_WRITER: &str =
    "this database has one writer: it cannot serve a share of the traffic beside others";

/// What an adapter tells the runtime.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Its picture, for decisions and for reports.
    Now(Box<(Resource, ResourceFacts, Option<u32>)>),
    /// It has to know what this peer's agent says of its receiver.
    Asks(NodeId),
}

/// Whether a peer's database receives from this one, as its own agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// It does.
    Here,
    /// It was told to, and its agent cannot look into it now: it starts, or does not answer.
    Perhaps,
    /// It does not.
    Not,
}

impl Receiver {
    /// By that peer's own report.
    pub fn of(report: &NodeReport, me: &NodeId) -> Self {
        let resource = &report.resource;
        if resource.receiving_from.as_ref() == Some(me) {
            return Self::Here;
        }
        let follows = report.vote.holder.as_ref().is_some_and(|h| h.node == *me);
        match resource.state {
            // One that is rebuilt has no receiver: who copies goes by another name.
            ResourceState::Starting | ResourceState::Hung if follows => Self::Perhaps,
            _ => Self::Not,
        }
    }
}

/// What every peer said of that last, and when it was asked.
pub type Words = BTreeMap<NodeId, (Timestamp, Receiver)>;

/// The runtime's end of an adapter.
#[derive(Debug)]
pub struct Handle {
    /// The goal, numbered.
    pub goal: watch::Sender<(u64, Goal)>,
    /// The command that wants a real write proved.
    pub prove: watch::Sender<String>,
    /// Which data the voter answers for.
    pub data: watch::Sender<DataMark>,
    /// What the peers say of their receivers.
    pub words: watch::Sender<Words>,
    /// What it sees.
    pub seen: mpsc::Receiver<Seen>,
}

/// The adapter's end.
#[derive(Debug)]
pub struct Port {
    /// The goal, numbered; 0 means none yet.
    pub goal: watch::Receiver<(u64, Goal)>,
    /// The command that wants a real write proved.
    pub prove: watch::Receiver<String>,
    /// Which data the voter answers for: nothing else is started or replaced.
    pub data: watch::Receiver<DataMark>,
    /// What the peers say of their receivers.
    pub words: watch::Receiver<Words>,
    /// Where to tell what is seen.
    pub seen: mpsc::Sender<Seen>,
}

/// A pair of ends.
pub fn pair() -> (Handle, Port) {
    let start = Goal::Standby { upstream: None, may_init: false };
    let (goal, goal_port) = watch::channel((0, start));
    let (prove, prove_port) = watch::channel(String::new());
    let (data, data_port) = watch::channel(DataMark::default());
    let (words, words_port) = watch::channel(Words::new());
    let (seen_port, seen) = mpsc::channel(64);
    let handle = Handle { goal, prove, data, words, seen };
    let port = Port {
        goal: goal_port,
        prove: prove_port,
        data: data_port,
        words: words_port,
        seen: seen_port,
    };
    (handle, port)
}
