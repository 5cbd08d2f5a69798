//! What can change something: it asks the plane, each time in a task of its own that says how it
//! ended. A read-only console has none of these, and so nothing that could express a change.

use tokio::sync::mpsc;

use super::confirm::TypedProof;
use super::event::{CallFailed, Change, Event};
use crate::access::ApprovalKey;
use crate::agent::host;
use crate::config::Identity;
use crate::engine::PersonOrder;
use crate::model::{NodeId, WallTime};
use crate::wire::changing::{Changed, GOOD_FOR_MS, NodeChange, Signer};
use crate::wire::message::{CallReply, CallRequest};
use crate::wire::{Client, Refused};

/// The signature over a plan that was read is good for so long, in milliseconds.
const EXECUTION_GOOD_FOR_MS: i64 = 300_000;

/// The hands of a person who may approve.
#[derive(Debug)]
pub(super) struct Hands {
    identity: Identity,
    events: mpsc::Sender<Event>,
}

impl Hands {
    /// Of somebody with an approval key; nobody else changes anything here.
    pub(super) fn of(identity: &Identity, events: mpsc::Sender<Event>) -> Option<Self> {
        identity.approval_key.as_ref()?;
        Some(Self { identity: identity.clone(), events })
    }

    /// Asks the plane for it. Nothing that writes is tried again by itself.
    pub(super) fn carry_out(&self, change: Change) {
        let order = match change {
            Change::Propose(what) => PersonOrder::Propose(what),
            Change::Acknowledge(reason) => PersonOrder::Acknowledge { reason },
            Change::Dismiss(plan) => {
                PersonOrder::Dismiss { plan, reason: "dropped in the console".into() }
            }
            Change::Verify => {
                return self
                    .ask(|client| async move { client.prove("asked for in the console").await });
            }
            Change::Node(change, node, reason) => return self.change_node(change, node, reason),
            Change::Execute(proof) => match self.sign(&proof) {
                Ok(order) => order,
                Err(why) => {
                    let failed = CallFailed { why, outcome_unknown: false };
                    return self.tell(Event::Reply(Err(failed)));
                }
            },
        };
        self.ask(move |client| async move { client.call(&CallRequest::Order(order)).await });
    }

    fn tell(&self, event: Event) {
        let events = self.events.clone();
        tokio::spawn(async move { events.send(event).await });
    }

    fn approval_key(&self) -> Result<ApprovalKey, String> {
        let path = self.identity.approval_key.as_ref();
        let path = path.ok_or("this identity has no approval key")?;
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        ApprovalKey::from_hex(&text)
    }

    fn sign(&self, proof: &TypedProof) -> Result<PersonOrder, String> {
        let expires = WallTime(host::wall().0 + EXECUTION_GOOD_FOR_MS);
        let (plan, name) = (proof.plan().clone(), &self.identity.name);
        let approval =
            self.approval_key()?.approve(plan, name, "confirmed in the console", expires)?;
        Ok(PersonOrder::Execute {
            plan: proof.plan().clone(),
            demoted: proof.demoted().as_str().to_owned(),
            approval,
        })
    }

    fn change_node(&self, change: NodeChange, node: NodeId, reason: String) {
        let client = Client::new(&self.identity.plane, "plane", &self.identity.tls);
        let (events, key) = (self.events.clone(), self.approval_key().ok());
        let name = self.identity.name.clone();
        tokio::spawn(async move {
            let expires = WallTime(host::wall().0 + GOOD_FOR_MS);
            let signer = key.as_ref().map(|key| Signer { key, name: &name, expires });
            let ended = match client {
                Ok(client) => client.change_node(change, &node, &reason, signer).await,
                Err(refused) => Err(refused),
            };
            let ended = ended.unwrap_or_else(|refused| {
                let why = refused.to_string();
                if refused.outcome_unknown { Changed::Unknown(why) } else { Changed::NotAsked(why) }
            });
            events.send(Event::Changed(ended)).await
        });
    }

    fn ask<R>(&self, what: impl FnOnce(Client) -> R + Send + 'static)
    where
        R: Future<Output = Result<CallReply, Refused>> + Send,
    {
        let client = Client::new(&self.identity.plane, "plane", &self.identity.tls);
        let events = self.events.clone();
        tokio::spawn(async move {
            let reply = match client {
                Ok(client) => what(client).await,
                Err(refused) => Err(refused),
            };
            let reply = reply
                .map_err(|r| CallFailed { why: r.to_string(), outcome_unknown: r.outcome_unknown });
            events.send(Event::Reply(reply)).await
        });
    }
}
