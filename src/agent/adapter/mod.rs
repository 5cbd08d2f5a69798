//! Adapters: one per engine. Each gets a goal as a level and reports what it sees.

pub mod none;
pub mod postgres;
pub mod sim;

use tokio::sync::{mpsc, watch};

use super::machine::{Goal, Resource};
use crate::model::DataMark;
use crate::model::observation::ResourceFacts;

/// Why no adapter here serves a share of the traffic.
pub(crate) const ONE_WRITER: &str =
    "this database has one writer: it cannot serve a share of the traffic beside others";

/// What an adapter tells the runtime.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Its picture, for decisions and for reports.
    Now(Box<(Resource, ResourceFacts, Option<u32>)>),
}

/// The runtime's end of an adapter.
#[derive(Debug)]
pub struct Handle {
    /// The goal, numbered.
    pub goal: watch::Sender<(u64, Goal)>,
    /// The command that wants a real write proved.
    pub prove: watch::Sender<String>,
    /// Which data the voter answers for.
    pub data: watch::Sender<DataMark>,
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
    /// Where to tell what is seen.
    pub seen: mpsc::Sender<Seen>,
}

/// A pair of ends.
pub fn pair() -> (Handle, Port) {
    let start = Goal::Standby { upstream: None, may_init: false };
    let (goal, goal_port) = watch::channel((0, start));
    let (prove, prove_port) = watch::channel(String::new());
    let (data, data_port) = watch::channel(DataMark::default());
    let (seen_port, seen) = mpsc::channel(64);
    let handle = Handle { goal, prove, data, seen };
    (handle, Port { goal: goal_port, prove: prove_port, data: data_port, seen: seen_port })
}
