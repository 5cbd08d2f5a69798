//! The wire: generated code, envelopes, TLS and identities. No other room sees protobuf.

pub mod changing;
pub mod channel;
pub mod credentials;
pub mod feed;
pub mod message;
mod proving;
pub mod refusals;
pub mod tls;

pub use channel::{Client, Refused, connect};
pub use message::{CallReply, CallRequest, FromAgent, Hello, PeerMessage, PeerReply, ToAgent};

/// What `build.rs` makes of `quorate.proto`.
#[allow(missing_docs, reason = "generated")]
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod proto {
    tonic::include_proto!("quorate.v1");
}

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Puts a document into an envelope.
pub fn seal<T: Serialize>(kind: &str, document: &T) -> proto::Envelope {
    // Model types serialise without failing: string keys, no foreign types.
    proto::Envelope {
        kind: kind.to_owned(),
        body: serde_json::to_vec(document).unwrap_or_default(),
    }
}

/// Takes a document out of an envelope.
///
/// # Errors
/// `invalid_argument` when it is of another kind or unreadable.
pub fn open<T: DeserializeOwned>(
    kind: &str,
    envelope: &proto::Envelope,
) -> Result<T, tonic::Status> {
    if envelope.kind != kind {
        return Err(tonic::Status::invalid_argument(format!(
            "expected a document of kind {kind:?}, got {:?}",
            envelope.kind
        )));
    }
    serde_json::from_slice(&envelope.body).map_err(|e| {
        tonic::Status::invalid_argument(format!(
            "unreadable {kind}: {e}; the other end may be of a newer version than this one ({})",
            env!("CARGO_PKG_VERSION")
        ))
    })
}
