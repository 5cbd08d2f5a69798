//! A write that proves the present state, under way: it may wait for a standby for as long as that
//! stays away, and whoever looks goes on looking meanwhile.

use crate::agent::host;
use crate::model::observation::{ResourceFacts, Unproved, WriteProof};
use crate::model::{Epoch, Span, WallTime};

/// One proof.
pub(super) struct Proving {
    epoch: Epoch,
    asked: String,
    at: WallTime,
    task: tokio::task::JoinHandle<Result<Span, String>>,
}

impl Proving {
    /// Only what was asked for counts: an older proof is put away first.
    pub(super) fn begin(
        facts: &mut ResourceFacts,
        epoch: Epoch,
        asked: String,
        write: impl Future<Output = Result<Span, String>> + Send + 'static,
    ) -> Self {
        (facts.proof, facts.unproved) = (None, None);
        Self { epoch, asked, at: host::wall(), task: tokio::spawn(write) }
    }

    /// How it ended; never, where none is under way.
    pub(super) async fn end(proving: &mut Option<Self>) -> Result<Span, String> {
        match proving {
            Some(proving) => {
                (&mut proving.task).await.unwrap_or_else(|error| Err(error.to_string()))
            }
            None => std::future::pending().await,
        }
    }

    /// Keeps how it ended.
    pub(super) fn note(self, facts: &mut ResourceFacts, said: Result<Span, String>) {
        let Self { epoch, asked, at, .. } = self;
        match said {
            Ok(took) => facts.proof = Some(WriteProof { epoch, took, at, asked }),
            Err(why) => facts.unproved = Some(Unproved { asked, why, at }),
        }
    }
}
