//! Ways to the peers: one queue and one task each, so that a silent peer delays nobody else. What
//! does not fit is dropped: every message is repeated by whoever needs it, and releases travel in
//! every hello.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::host;
use crate::config::AgentConfig;
use crate::model::observation::PeerProbe;
use crate::model::{NodeId, Span, Timestamp};
use crate::wire::message::{PeerMessage, PeerReply};
use crate::wire::refusals::Refusals;
use crate::wire::tls::Credentials;
use crate::wire::{Client, Refused};

/// Messages that may wait for one peer.
const WAITING_MAX: usize = 32;
/// Messages under way to one peer.
const UNDER_WAY_MAX: usize = 8;

/// An answer, and how long it took.
#[derive(Debug)]
pub struct Answered {
    /// Who.
    pub from: NodeId,
    /// What.
    pub reply: PeerReply,
    /// Round trip.
    pub took: Span,
}

/// All peers.
#[derive(Debug)]
pub struct Peers {
    queues: BTreeMap<NodeId, mpsc::Sender<PeerMessage>>,
    seen: BTreeMap<NodeId, (Timestamp, Span, Option<bool>)>,
    closed: BTreeMap<NodeId, Arc<AtomicBool>>,
}

impl Peers {
    /// Starts a task a peer. Answers go to `answers`.
    ///
    /// # Errors
    /// When an address or a certificate cannot be used.
    pub fn start(
        config: &AgentConfig,
        credentials: &Credentials,
        answers: &mpsc::Sender<Answered>,
    ) -> Result<Self, Refused> {
        let (mut queues, mut closed) = (BTreeMap::new(), BTreeMap::new());
        for (node, route) in &config.routes {
            let client = Client::with(&route.agent, node.as_str(), credentials)?;
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            let shut: Arc<AtomicBool> = Arc::default();
            let way = Way { node: node.clone(), client, closed: shut.clone() };
            tokio::spawn(talk(way, receiver, answers.clone()));
            queues.insert(node.clone(), sender);
            closed.insert(node.clone(), shut);
        }
        Ok(Self { queues, seen: BTreeMap::new(), closed })
    }

    /// Sends, or drops when too much waits: every message is repeated by whoever needs it.
    pub fn send(&self, to: &NodeId, message: PeerMessage) {
        if let Some(queue) = self.queues.get(to) {
            // What is said again every few milliseconds leaves room for what is not.
            let repeated =
                matches!(message, PeerMessage::Ask(_) | PeerMessage::Claim(_) | PeerMessage::Hello);
            if repeated && queue.capacity() < WAITING_MAX / 2 {
                return;
            }
            let _ = queue.try_send(message);
        }
    }

    /// Asks every peer how it is.
    pub fn probe(&self) {
        for queue in self.queues.values() {
            let _ = queue.try_send(PeerMessage::Hello);
        }
    }

    /// An answer arrived.
    pub fn note(&mut self, answered: &Answered) {
        let runs = match &answered.reply {
            PeerReply::Hello(hello) => Some(hello.resource_runs),
            _ => self.seen.get(&answered.from).and_then(|s| s.2),
        };
        self.seen.insert(answered.from.clone(), (host::now(), answered.took, runs));
    }

    /// What is known of every peer.
    pub fn probes(&self) -> Vec<PeerProbe> {
        let now = host::now();
        let probe = |node: &NodeId| {
            let seen = self.seen.get(node);
            PeerProbe {
                node: node.clone(),
                answered: seen.map(|(at, ..)| now.since(*at)),
                round_trip: seen.map(|(_, took, _)| *took),
                resource_runs: seen.and_then(|s| s.2),
                closed: self.closed.get(node).is_some_and(|c| c.load(Ordering::Relaxed)),
            }
        };
        self.queues.keys().map(probe).collect()
    }
}

/// One peer, and how it is called.
#[derive(Clone)]
struct Way {
    node: NodeId,
    client: Client,
    /// Its host answered the last try, and no agent listened there.
    closed: Arc<AtomicBool>,
}

async fn talk(way: Way, mut queue: mpsc::Receiver<PeerMessage>, answers: mpsc::Sender<Answered>) {
    let refusals = Arc::new(Refusals::default());
    let slots = Arc::new(tokio::sync::Semaphore::new(UNDER_WAY_MAX));
    while let Some(message) = queue.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (Way { node, client, closed }, answers) = (way.clone(), answers.clone());
        let refusals = Arc::clone(&refusals);
        tokio::spawn(async move {
            let started = host::now();
            let answer = client.exchange(&message).await;
            closed.store(answer.as_ref().is_err_and(|r| r.closed), Ordering::Relaxed);
            match answer {
                Ok(reply) => {
                    refusals.over(node.as_str());
                    let took = host::now().since(started);
                    // Only fails when the agent ends.
                    let _ = answers.send(Answered { from: node, reply, took }).await;
                }
                Err(refused) => refusals.say(node.as_str(), &refused.to_string()),
            }
            drop(slot);
        });
    }
}
