//! Client channels with bounds on every wait.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};

use super::message::{CallReply, CallRequest, PeerMessage, PeerReply};
use super::proto::console_client::ConsoleClient;
use super::proto::peer_client::PeerClient;
use super::tls::Credentials;
use super::{open, seal};
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
    /// Its host answered that nothing listens there: the host lives, and what was called does not
    /// run.
    pub closed: bool,
}

/// There was no connection: nothing was said, and nothing can have been done.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// Why not.
    #[error("{0}")]
    Failed(String),
    /// The host answered that nothing listens there.
    #[error("{0}")]
    Closed(String),
    /// It took the connection and said nothing.
    #[error("did not answer within {} ms", HELLO_TIMEOUT.as_millis())]
    Silent,
}

/// A channel to `address` (`host:port`), where a server that is `name` is expected. Connects when
/// first used and again when it breaks, each time with the credentials of that moment; a peer that
/// went silent is noticed by keep-alive.
///
/// # Errors
/// [`Refused`] when the address cannot be used.
pub fn connect(address: &str, name: &str, credentials: &Credentials) -> Result<Channel, Refused> {
    lazily(address, name, credentials, |endpoint| {
        endpoint
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(2))
            .keep_alive_while_idle(true)
    })
}

fn lazily(
    address: &str,
    name: &str,
    credentials: &Credentials,
    minded: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Channel, Refused> {
    let bad = |why: String| Refused {
        who: in_words(name),
        address: address.to_owned(),
        why,
        outcome_unknown: false,
        not_allowed: false,
        closed: false,
    };
    // The connector below speaks TLS, always; of an `https` address the library would do it itself.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| bad(format!("is no address: {e}")))?;
    let server = ServerName::try_from(name.to_owned())
        .map_err(|e| bad(format!("{name} is no name for a certificate: {e}")))?;
    let (credentials, address) = (credentials.clone(), address.to_owned());
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let (credentials, address) = (credentials.clone(), address.clone());
        let server = server.clone();
        async move {
            let refused = |e: std::io::Error| match e.kind() {
                std::io::ErrorKind::ConnectionRefused => NotConnected::Closed(e.to_string()),
                _ => NotConnected::Failed(e.to_string()),
            };
            let tcp = TcpStream::connect(&address).await.map_err(refused)?;
            tcp.set_nodelay(true).map_err(refused)?;
            let config = std::sync::Arc::clone(&credentials.current().await.client);
            let hello = TlsConnector::from(config).connect(server, tcp);
            let tls = tokio::time::timeout(HELLO_TIMEOUT, hello)
                .await
                .map_err(|_| NotConnected::Silent)?
                .map_err(refused)?;
            Ok::<_, NotConnected>(TokioIo::new(tls))
        }
    });
    let endpoint = minded(endpoint.connect_timeout(Duration::from_secs(1)));
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    who: String,
    address: String,
    channel: Channel,
}

/// Bound on the first word of a server that took a connection.
const HELLO_TIMEOUT: Duration = Duration::from_millis(900);
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
        Self::with(address, name, &read(files, address, name)?)
    }
    /// The same with credentials that others use too.
    ///
    /// # Errors
    /// [`Refused`] when the address cannot be used.
    pub fn with(address: &str, name: &str, credentials: &Credentials) -> Result<Self, Refused> {
        let channel = connect(address, name, credentials)?;
        Ok(Self { who: in_words(name), address: address.to_owned(), channel })
    }
    /// A client that only watches: the stream's own silence tells when the server is gone, so it is
    /// not pinged.
    ///
    /// # Errors
    /// [`Refused`] when the address or the certificates cannot be used.
    pub fn watcher(address: &str, name: &str, files: &TlsFiles) -> Result<Self, Refused> {
        let credentials = read(files, address, name)?;
        let channel = lazily(address, name, &credentials, |endpoint| endpoint)?;
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
        open("peer", &answer).map_err(|s| self.refused(&s))
    }

    /// One request of a person.
    ///
    /// # Errors
    /// [`Refused`] when no answer came in [`CALL_TIMEOUT`], or the server refused the caller.
    pub async fn call(&self, request: &CallRequest) -> Result<CallReply, Refused> {
        let mut client =
            ConsoleClient::new(self.channel.clone()).max_decoding_message_size(DOCUMENT_BYTES_MAX);
        let answer = self.bounded(CALL_TIMEOUT, client.call(seal("call", request))).await?;
        open("call", &answer).map_err(|s| self.refused(&s))
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Refused> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.refused(&status)),
            Err(_) => {
                let why = format!("did not answer within {} ms", limit.as_millis());
                Err(Refused {
                    who: self.who.clone(),
                    address: self.address.clone(),
                    why,
                    outcome_unknown: true,
                    not_allowed: false,
                    closed: false,
                })
            }
        }
    }

    /// What this answer means, in words.
    pub fn refused(&self, status: &tonic::Status) -> Refused {
        let text = deepest(status);
        let connected = !was_not_connected(status);
        // What the transport says has a cause; what a server says has none.
        let broke = status.code() == tonic::Code::Unavailable
            || std::error::Error::source(status).is_some();
        let why = match status.code() {
            _ if broke && connected => format!("broke off: {text}"),
            _ if broke => format!("cannot be reached: {text}"),
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
                format!("refused this identity: {}", status.message())
            }
            _ => format!("answered: {}", status.message()),
        };
        Refused {
            who: self.who.clone(),
            address: self.address.clone(),
            why,
            outcome_unknown: connected && broke,
            not_allowed: matches!(
                status.code(),
                tonic::Code::PermissionDenied | tonic::Code::Unauthenticated
            ),
            closed: matches!(not_connected(status), Some(NotConnected::Closed(_))),
        }
    }
}

fn read(files: &TlsFiles, address: &str, name: &str) -> Result<Credentials, Refused> {
    Credentials::read(files).map_err(|e| Refused {
        who: in_words(name),
        address: address.to_owned(),
        why: e.to_string(),
        outcome_unknown: false,
        not_allowed: false,
        closed: false,
    })
}

/// The plane is one thing; nodes have names.
fn in_words(name: &str) -> String {
    if name == "plane" { "the plane".into() } else { name.to_owned() }
}

fn was_not_connected(status: &tonic::Status) -> bool {
    not_connected(status).is_some()
}

/// Why there was no connection, where that is what happened.
pub fn not_connected(status: &tonic::Status) -> Option<&NotConnected> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The innermost cause: "connection refused" rather than "transport error".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
