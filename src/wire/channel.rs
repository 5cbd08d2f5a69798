//! Client channels with bounds on every wait.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::message::{CallReply, CallRequest, PeerMessage, PeerReply};
use super::proto::console_client::ConsoleClient;
use super::proto::peer_client::PeerClient;
use super::{open, seal, tls};
use crate::config::TlsFiles;

/// A call that did not get an answer, in words for a person.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{who} at {address} {why}")]
pub struct Refused {
    /// Who was called, in words: `the plane`, or a node.
    pub who: String,
    /// Where it was called.
    pub address: String,
    /// What happened.
    pub why: String,
    /// Whether it cannot be known if the other side acted.
    pub outcome_unknown: bool,
    /// The other side does not let this identity do it: a refusal, and no error.
    pub not_allowed: bool,
}

/// A channel to `address` (`host:port`), where a server that is `name` is expected. Connects when
/// first used and again when it breaks; a peer that went silent is noticed by keep-alive.
///
/// # Errors
/// [`Refused`] when the address or the certificates cannot be used.
pub fn connect(address: &str, name: &str, files: &TlsFiles) -> Result<Channel, Refused> {
    let endpoint = endpoint(address, name, files)?
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

fn endpoint(address: &str, name: &str, files: &TlsFiles) -> Result<Endpoint, Refused> {
    let bad = |why: String| Refused {
        who: in_words(name),
        address: address.to_owned(),
        why,
        outcome_unknown: false,
        not_allowed: false,
    };
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|e| bad(format!("is no address: {e}")))?;
    let tls = tls::client(files, name).map_err(|e| bad(e.to_string()))?;
    let endpoint =
        endpoint.tls_config(tls).map_err(|e| bad(format!("TLS cannot be set up: {e}")))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true))
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    who: String,
    address: String,
    channel: Channel,
}

/// Bound on messages between agents: a lease message that is later than this is worthless.
pub const PEER_TIMEOUT: Duration = Duration::from_millis(900);
/// Bound on a person's request.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;

impl Client {
    /// A client of the server `name` at `address`.
    ///
    /// # Errors
    /// [`Refused`] when the address or the certificates cannot be used.
    pub fn new(address: &str, name: &str, files: &TlsFiles) -> Result<Self, Refused> {
        let channel = connect(address, name, files)?;
        Ok(Self { who: in_words(name), address: address.to_owned(), channel })
    }
    /// A client that only watches: the stream's own silence tells when the server is gone, so it is
    /// not pinged.
    ///
    /// # Errors
    /// [`Refused`] when the address or the certificates cannot be used.
    pub fn watcher(address: &str, name: &str, files: &TlsFiles) -> Result<Self, Refused> {
        let channel = endpoint(address, name, files)?.connect_lazy();
        Ok(Self { who: in_words(name), address: address.to_owned(), channel })
    }
    /// Whom it calls.
    pub fn address(&self) -> &str {
        &self.address
    }
    /// Its channel.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// One message to another agent.
    ///
    /// # Errors
    /// [`Refused`] when no answer came in [`PEER_TIMEOUT`].
    pub async fn exchange(&self, message: &PeerMessage) -> Result<PeerReply, Refused> {
        let mut client =
            PeerClient::new(self.channel.clone()).max_decoding_message_size(DOCUMENT_BYTES_MAX);
        let call = client.exchange(seal("peer", message));
        let answer = self.bounded(PEER_TIMEOUT, call).await?;
        open("peer", &answer).map_err(|s| self.status(&s))
    }

    /// One request of a person.
    ///
    /// # Errors
    /// [`Refused`] when no answer came in [`CALL_TIMEOUT`], or the server refused the caller.
    pub async fn call(&self, request: &CallRequest) -> Result<CallReply, Refused> {
        let mut client =
            ConsoleClient::new(self.channel.clone()).max_decoding_message_size(DOCUMENT_BYTES_MAX);
        let answer = self.bounded(CALL_TIMEOUT, client.call(seal("call", request))).await?;
        open("call", &answer).map_err(|s| self.status(&s))
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Refused> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.status(&status)),
            Err(_) => {
                let why = format!("did not answer within {} ms", limit.as_millis());
                Err(Refused {
                    who: self.who.clone(),
                    address: self.address.clone(),
                    why,
                    outcome_unknown: true,
                    not_allowed: false,
                })
            }
        }
    }

    fn status(&self, status: &tonic::Status) -> Refused {
        let text = deepest(status);
        let why = match status.code() {
            tonic::Code::Unavailable => format!("cannot be reached: {text}"),
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
                format!("refused this identity: {}", status.message())
            }
            _ => format!("answered: {}", status.message()),
        };
        let connected = !text.contains("onnect");
        Refused {
            who: self.who.clone(),
            address: self.address.clone(),
            why,
            outcome_unknown: connected && status.code() == tonic::Code::Unavailable,
            not_allowed: matches!(
                status.code(),
                tonic::Code::PermissionDenied | tonic::Code::Unauthenticated
            ),
        }
    }
}

/// The plane is one thing; nodes have names.
fn in_words(name: &str) -> String {
    if name == "plane" { "the plane".into() } else { name.to_owned() }
}

/// The innermost cause: "connection refused" rather than "transport error".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
