//! The plane's door: agents attach, windows watch, people call. Every caller is named by
//! certificate and looked up in the allowlist; what is not allowed there is refused.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::runtime::{AGENT_SILENCE_MAX, Request as Inward, StartError};
use crate::config::PlaneConfig;
use crate::config::allowlist::Permission;
use crate::engine::{PersonOrder, RefusedRequest};
use crate::model::NodeId;
use crate::wire::feed::{EventStream, Feed};
use crate::wire::message::{CallRequest, FromAgent};
use crate::wire::proto::attach_server::{Attach, AttachServer};
use crate::wire::proto::console_server::{Console, ConsoleServer};
use crate::wire::proto::{Envelope, WatchRequest};
use crate::wire::refusals::Refusals;
use crate::wire::{self, channel::DOCUMENT_BYTES_MAX, tls};

const LOOKERS: &[Permission] =
    &[Permission::Viewer, Permission::Auditor, Permission::Operator, Permission::Approver];

struct Service {
    config: PlaneConfig,
    requests: mpsc::Sender<Inward>,
    feed: Feed,
    refusals: Refusals,
}

impl Service {
    fn allow<T>(&self, request: &Request<T>, permissions: &[Permission]) -> Result<String, Status> {
        let name = tls::caller(request)?;
        if self.config.allowlist.allows(&name, permissions) {
            Ok(name)
        } else {
            let why = format!("{name} is not in the plane's allowlist for this");
            self.refusals.say(&name, &why);
            Err(Status::permission_denied(why))
        }
    }
}

impl Service {
    /// Who was refused what is told to the loop, which records it.
    async fn refused<T>(&self, request: &Request<T>, asked: String, status: Status) -> Status {
        let Ok(who) = tls::caller(request) else { return status };
        let known = [LOOKERS, &[Permission::Node]].concat();
        let stranger = !self.config.allowlist.allows(&who, &known);
        let why = status.message().to_owned();
        let refused = RefusedRequest { who, stranger, asked, why };
        // A plane that is ending records nothing more.
        let _ = self.requests.send(Inward::Refused(refused)).await;
        status
    }
}

/// Serves until the process ends.
pub(super) fn start(
    config: &PlaneConfig,
    listener: std::net::TcpListener,
    credentials: &tls::Credentials,
    requests: mpsc::Sender<Inward>,
    feed: Feed,
) -> Result<(), StartError> {
    let other =
        |e: std::io::Error| StartError::Other(format!("cannot serve on {}: {e}", config.listen));
    listener.set_nonblocking(true).map_err(other)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(other)?;
    let incoming = tls::incoming(listener, credentials.clone());
    let service =
        Arc::new(Service { config: config.clone(), requests, feed, refusals: Refusals::default() });
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(4)))
        .add_service(
            AttachServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(DOCUMENT_BYTES_MAX),
        )
        .add_service(ConsoleServer::from_arc(service));
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!("the server ended: {error}");
        }
    });
    Ok(())
}

#[tonic::async_trait]
impl Attach for Service {
    type AttachStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let name = self.allow(&request, &[Permission::Node])?;
        let node = NodeId::new(&name);
        if self.config.cluster.node(&node).is_none() {
            return Err(Status::permission_denied(format!(
                "{name} is not a node of cluster {}",
                self.config.cluster.cluster_id
            )));
        }
        let (down, down_stream) = mpsc::channel(16);
        let ending = |_| Status::unavailable("the plane is ending");
        self.requests.send(Inward::Attached(node.clone(), down)).await.map_err(ending)?;
        let requests = self.requests.clone();
        let mut up = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(Ok(envelope))) =
                tokio::time::timeout(AGENT_SILENCE_MAX, up.next()).await
            {
                match wire::open::<FromAgent>("from-agent", &envelope) {
                    Ok(said) => {
                        if requests.send(Inward::Said(node.clone(), said)).await.is_err() {
                            return;
                        }
                    }
                    Err(status) => tracing::warn!(%node, "{}", status.message()),
                }
            }
        });
        let stream =
            ReceiverStream::new(down_stream).map(|command| Ok(wire::seal("to-agent", &command)));
        Ok(Response::new(Box::pin(stream)))
    }
}

#[tonic::async_trait]
impl Console for Service {
    type WatchStream = EventStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<EventStream>, Status> {
        if let Err(status) = self.allow(&request, LOOKERS) {
            return Err(self.refused(&request, "the picture".into(), status).await);
        }
        Ok(Response::new(self.feed.stream(request.get_ref())))
    }

    async fn call(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let call: CallRequest = wire::open("call", request.get_ref())?;
        let allowed = match &call {
            CallRequest::View
            | CallRequest::Why { .. }
            | CallRequest::DryRun { .. }
            | CallRequest::Verify
            | CallRequest::Audit { .. } => self.allow(&request, LOOKERS),
            CallRequest::Order(
                PersonOrder::Execute { .. }
                | PersonOrder::Voters { .. }
                | PersonOrder::Override { .. }
                | PersonOrder::History { .. },
            ) => self.allow(&request, &[Permission::Approver]),
            CallRequest::Order(_) => {
                self.allow(&request, &[Permission::Operator, Permission::Approver])
            }
        };
        let who = match allowed {
            Ok(who) => who,
            Err(status) => return Err(self.refused(&request, call.words(), status).await),
        };
        let (answer, wait) = oneshot::channel();
        let ending = || Status::unavailable("the plane is ending");
        self.requests
            .send(Inward::Call { who, request: call, answer })
            .await
            .map_err(|_| ending())?;
        let reply = wait.await.map_err(|_| ending())?;
        Ok(Response::new(wire::seal("call", &reply)))
    }
}
