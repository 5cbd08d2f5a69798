//! Mutual TLS, the server's end: connections are taken, and who a caller is.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

pub use super::credentials::{Credentials, TlsError};
use super::refusals::Refusals;

/// A caller that does not say who it is within this time is let go.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Callers that say who they are at the same time.
const HANDSHAKES_MAX: usize = 256;

/// Connections whose callers have shown a certificate of the same authority. Each is met with the
/// credentials of its moment; whoever is refused is in the log, with the reason.
pub fn incoming(
    listener: TcpListener,
    credentials: Credentials,
) -> Pin<Box<dyn tokio_stream::Stream<Item = std::io::Result<TlsStream<TcpStream>>> + Send>> {
    let (taken, stream) = mpsc::channel(16);
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let refusals = Arc::new(Refusals::default());
    tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (tcp, from) = tokio::select! {
                () = taken.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Most often no file descriptor is left; the next may find one.
                        tracing::warn!("a connection could not be taken: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let (credentials, refusals, taken) =
                (credentials.clone(), Arc::clone(&refusals), taken.clone());
            tokio::spawn(async move {
                let from = from.ip().to_string();
                match tokio::time::timeout(HANDSHAKE_MAX, meet(tcp, &credentials)).await {
                    Ok(Ok(stream)) => {
                        refusals.over(&from);
                        // Only fails when the server ends.
                        let _ = taken.send(Ok(stream)).await;
                    }
                    Ok(Err(error)) => {
                        refusals.say(
                            &from,
                            &format!("a connection from {from} came to nothing: {error}"),
                        );
                    }
                    Err(_) => {
                        let why = format!("a connection from {from} said nothing and was let go");
                        refusals.say(&from, &why);
                    }
                }
                drop(place);
            });
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

async fn meet(tcp: TcpStream, credentials: &Credentials) -> std::io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    let config = Arc::clone(&credentials.current().await.server);
    TlsAcceptor::from(config).accept(tcp).await
}

/// The common name in the caller's certificate.
///
/// # Errors
/// `unauthenticated` when there is none.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<String, tonic::Status> {
    let none = || tonic::Status::unauthenticated("no client certificate with a common name");
    let certificates = request.peer_certs().ok_or_else(none)?;
    let first = certificates.first().ok_or_else(none)?;
    common_name(first).ok_or_else(none)
}

/// The common name in a DER certificate.
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}
