//! The agent's gRPC: peers' messages, windows, and the stream to its plane.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::host;
use super::runtime::{ATTACH_RETRY, Request as Inward, Shown, StartError};
use crate::config::AgentConfig;
use crate::config::allowlist::Permission;
use crate::engine::picture;
use crate::model::view::ClusterView;
use crate::wire::feed::{EventStream, Feed};
use crate::wire::message::{CallReply, CallRequest, FromAgent, PeerMessage, ToAgent};
use crate::wire::proto::attach_client::AttachClient;
use crate::wire::proto::console_server::{Console, ConsoleServer};
use crate::wire::proto::peer_server::{Peer, PeerServer};
use crate::wire::proto::{Envelope, WatchRequest};
use crate::wire::refusals::Refusals;
use crate::wire::{self, tls};

/// Documents of this size and below are taken.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

struct Service {
    config: Arc<AgentConfig>,
    requests: mpsc::Sender<Inward>,
    shown: watch::Receiver<Shown>,
    feed: Feed,
    refusals: Refusals,
}

impl Service {
    fn view(&self) -> ClusterView {
        picture::from_agents(
            &self.config.cluster,
            &self.config.policy,
            &self.config.node.node_id,
            &self.shown.borrow().reports(host::now()),
            host::wall(),
        )
    }

    fn publish(&self) {
        self.feed.publish(&self.view());
    }

    fn allow<T>(&self, request: &Request<T>, permissions: &[Permission]) -> Result<String, Status> {
        let name = tls::caller(request)?;
        if self.config.allowlist.allows(&name, permissions) {
            Ok(name)
        } else {
            let why =
                format!("{name} is not in the allowlist of {} for this", self.config.node.node_id);
            self.refusals.say(&name, &why);
            Err(Status::permission_denied(why))
        }
    }
}

/// Serves until the process ends.
pub(super) fn start(
    config: &AgentConfig,
    listener: std::net::TcpListener,
    credentials: &tls::Credentials,
    requests: mpsc::Sender<Inward>,
    shown: watch::Receiver<Shown>,
) -> Result<(), StartError> {
    let other =
        |e: std::io::Error| StartError::Other(format!("cannot serve on {}: {e}", config.listen));
    listener.set_nonblocking(true).map_err(other)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(other)?;
    let incoming = tls::incoming(listener, credentials.clone());
    let view = picture::from_agents(
        &config.cluster,
        &config.policy,
        &config.node.node_id,
        &Shown::default().reports(host::now()),
        host::wall(),
    );
    let feed = Feed::new(format!("{}-{}", config.node.node_id, host::now().0), &view);
    let service = Arc::new(Service {
        config: Arc::new(config.clone()),
        requests,
        shown,
        feed,
        refusals: Refusals::default(),
    });
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(4)))
        .add_service(
            PeerServer::from_arc(Arc::clone(&service)).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(ConsoleServer::from_arc(Arc::clone(&service)));
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!("the server ended: {error}");
        }
    });
    tokio::spawn(show(service));
    Ok(())
}

impl Shown {
    fn reports(&self, now: crate::model::Timestamp) -> Vec<picture::Heard> {
        let own = self
            .report
            .iter()
            .map(|r| picture::Heard { report: r.clone(), age: crate::model::Span::ZERO });
        let peers = self
            .peers
            .values()
            .map(|(r, at)| picture::Heard { report: r.clone(), age: now.since(*at) });
        own.chain(peers).collect()
    }
}

async fn show(service: Arc<Service>) {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(250));
    loop {
        tick.tick().await;
        if service.feed.is_watched() {
            service.publish();
        }
    }
}

#[tonic::async_trait]
impl Peer for Service {
    async fn exchange(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let name = self.allow(&request, &[Permission::Node])?;
        let message: PeerMessage = wire::open("peer", request.get_ref())?;
        // What is said in somebody's name is taken from that somebody only.
        let speaker = match &message {
            PeerMessage::Renew(m) => Some(&m.holder.node),
            PeerMessage::Ask(m) | PeerMessage::Claim(m) => Some(&m.candidate.node),
            PeerMessage::Release(m) => Some(&m.holder.node),
            PeerMessage::Change(m) => Some(&m.holder.node),
            PeerMessage::Hello | PeerMessage::Install(_) => None,
        };
        if speaker.is_some_and(|s| s.as_str() != name) {
            return Err(Status::permission_denied(format!(
                "{name} may not speak for another node"
            )));
        }
        let (answer, wait) = oneshot::channel();
        let gone = |_| Status::unavailable("the agent is ending");
        self.requests
            .send(Inward::Peer(message, answer))
            .await
            .map_err(|_| Status::unavailable("the agent is ending"))?;
        let reply = wait.await.map_err(gone)?;
        Ok(Response::new(wire::seal("peer", &reply)))
    }
}

#[tonic::async_trait]
impl Console for Service {
    type WatchStream = EventStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<EventStream>, Status> {
        self.allow(
            &request,
            &[Permission::Viewer, Permission::Auditor, Permission::Operator, Permission::Approver],
        )?;
        // While nobody watched it stood still.
        self.publish();
        Ok(Response::new(self.feed.stream(request.get_ref())))
    }

    async fn call(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        self.allow(
            &request,
            &[Permission::Viewer, Permission::Auditor, Permission::Operator, Permission::Approver],
        )?;
        let reply = match wire::open("call", request.get_ref())? {
            CallRequest::View => CallReply::View(Box::new(self.view())),
            CallRequest::Order(_)
            | CallRequest::Why { .. }
            | CallRequest::DryRun { .. }
            | CallRequest::Verify
            | CallRequest::Audit { .. } => CallReply::Refused {
                check: "plane".into(),
                why: format!(
                    "this is the agent of {}; plans and the audit are the plane's. Start a plane, or connect to it",
                    self.config.node.node_id
                ),
            },
        };
        Ok(Response::new(wire::seal("call", &reply)))
    }
}

/// Keeps a stream to the plane: reports up, orders down. Comes back whenever it breaks.
pub(super) fn attach(
    plane: &str,
    credentials: &tls::Credentials,
    requests: mpsc::Sender<Inward>,
    shown: watch::Receiver<Shown>,
) -> Result<(), StartError> {
    let client = wire::Client::with(plane, "plane", credentials)?;
    tokio::spawn(async move {
        let refusals = Refusals::default();
        loop {
            match session(&client, &requests, shown.clone()).await {
                Ok(()) => tracing::info!("the plane ended the stream"),
                Err(status) => refusals.say("the plane", &client.refused(&status).to_string()),
            }
            tokio::time::sleep(ATTACH_RETRY).await;
        }
    });
    Ok(())
}

async fn session(
    client: &wire::Client,
    requests: &mpsc::Sender<Inward>,
    mut shown: watch::Receiver<Shown>,
) -> Result<(), Status> {
    let (up, up_stream) = mpsc::channel(16);
    let mut stub = AttachClient::new(client.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut down = stub.attach(ReceiverStream::new(up_stream)).await?.into_inner();
    tracing::info!("attached to the plane at {}", client.address());
    shown.mark_changed();
    let mut sent = 0;
    loop {
        tokio::select! {
            changed = shown.changed() => {
                if changed.is_err() { return Ok(()); }
                let report = shown.borrow_and_update().report.clone();
                if let Some(report) = report.filter(|r| r.sequence != sent) {
                    sent = report.sequence;
                    let message = wire::seal("from-agent", &FromAgent::Report(Box::new(report)));
                    if up.send(message).await.is_err() { return Ok(()); }
                }
            }
            message = down.next() => {
                let Some(envelope) = message.transpose()? else { return Ok(()) };
                let ToAgent::Command(command) = wire::open("to-agent", &envelope)?;
                let (answer, wait) = oneshot::channel();
                if requests.send(Inward::Order(command, answer)).await.is_err() { return Ok(()); }
                let up = up.clone();
                tokio::spawn(async move {
                    if let Ok(reply) = wait.await {
                        // The stream may have broken; the plane sees the outcome in the next
                        // report.
                        let _ = up.send(wire::seal("from-agent", &FromAgent::Reply(reply))).await;
                    }
                });
            }
        }
    }
}
