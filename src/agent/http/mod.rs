//! The routers' door: HTTP on the paths and codes that HAProxy files for Patroni already ask for.
//! It is answered from memory, on a thread of its own: nothing asks the database inside a check, a
//! slow caller holds up nobody but itself, and a disk under the votes that stalls does not either.

mod answer;
mod facts;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};

pub use answer::{Answer, answer};
pub use facts::RouterFacts;

use super::host;

/// Checks that are answered at once; the others wait for their turn.
const CONNECTIONS_MAX: usize = 256;
/// A check that takes longer than this is ended.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(2);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Serves until the process ends.
///
/// # Errors
/// When the listener cannot be used.
pub(super) fn start(
    listener: std::net::TcpListener,
    facts: watch::Receiver<RouterFacts>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = async move {
        // A listener of this process that is not blocking.
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Most often no file descriptor is left; the next may find one.
                    tracing::warn!("the routers' door: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let facts = facts.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let response = respond(&request, &facts.borrow());
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .keep_alive(false)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                // Whoever is slow, or speaks something else, is not answered.
                let _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await;
                drop(place);
            });
        }
    };
    std::thread::Builder::new().name("routers".into()).spawn(move || runtime.block_on(serve))?;
    Ok(())
}

fn respond(request: &Request<Incoming>, facts: &RouterFacts) -> Response<Full<Bytes>> {
    let uri = request.uri();
    let (code, body) = match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => {
            let found = answer(uri.path(), uri.query().unwrap_or(""), facts, host::now());
            (found.code, serde_json::to_vec(&found.body).unwrap_or_default())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, vec![]),
    };
    let body = if *request.method() == Method::OPTIONS { vec![] } else { body };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD, OPTIONS"));
    response
}
