//! Watch: a snapshot, then changes with sequence numbers, resumable while the server remembers
//! them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::proto::{WatchEvent, WatchRequest, watch_event::Body};
use crate::model::view::ClusterView;

/// Changes remembered for windows that come back.
pub const REMEMBERED_MAX: usize = 256;
/// Events a slow window may be behind before it is given a fresh snapshot.
pub const BEHIND_MAX: usize = 64;

/// The server's end: give it views; windows get the difference.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Mutex<Shared>>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Shared {
    stream_id: String,
    sequence: u64,
    view: serde_json::Value,
    patches: VecDeque<(u64, Vec<u8>)>,
}

impl Feed {
    /// A feed that starts with `view`. `stream_id` names this life of this server.
    pub fn new(stream_id: String, view: &ClusterView) -> Self {
        let view = serde_json::to_value(view).unwrap_or_default();
        let shared = Shared { stream_id, sequence: 1, view, patches: VecDeque::new() };
        Self { shared: Arc::new(Mutex::new(shared)), newest: watch::Sender::new(1) }
    }

    /// Somebody watches.
    pub fn is_watched(&self) -> bool {
        self.newest.receiver_count() > 0
    }

    /// A newer view. Nothing is sent when nothing changed.
    pub fn publish(&self, view: &ClusterView) {
        let value = serde_json::to_value(view).unwrap_or_default();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let patch = json_patch::diff(&shared.view, &value);
        if patch.0.is_empty() {
            return;
        }
        shared.sequence += 1;
        let sequence = shared.sequence;
        shared.patches.push_back((sequence, serde_json::to_vec(&patch).unwrap_or_default()));
        if shared.patches.len() > REMEMBERED_MAX {
            shared.patches.pop_front();
        }
        shared.view = value;
        drop(shared);
        self.newest.send_replace(sequence);
    }

    /// Events behind `seen`: the patches, or a snapshot when they are not all remembered.
    fn behind(&self, seen: u64) -> Vec<WatchEvent> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let event = |sequence, body| WatchEvent {
            stream_id: shared.stream_id.clone(),
            sequence,
            body: Some(body),
        };
        if seen == shared.sequence {
            return vec![];
        }
        let oldest = shared.patches.front().map_or(u64::MAX, |(s, _)| *s);
        let known = seen > 0 && seen < shared.sequence && seen + 1 >= oldest;
        if known && usize::try_from(shared.sequence - seen).is_ok_and(|n| n <= BEHIND_MAX) {
            return shared
                .patches
                .iter()
                .filter(|(s, _)| *s > seen)
                .map(|(s, p)| event(*s, Body::Patch(p.clone())))
                .collect();
        }
        vec![event(
            shared.sequence,
            Body::Snapshot(serde_json::to_vec(&shared.view).unwrap_or_default()),
        )]
    }

    /// The stream for one window.
    pub fn stream(&self, request: &WatchRequest) -> EventStream {
        let (sender, receiver) = tokio::sync::mpsc::channel(BEHIND_MAX);
        let ours = self.shared.lock().unwrap_or_else(PoisonError::into_inner).stream_id
            == request.stream_id;
        let mut seen = if ours { request.sequence } else { 0 };
        let feed = self.clone();
        let mut newest = self.newest.subscribe();
        tokio::spawn(async move {
            loop {
                for event in feed.behind(seen) {
                    seen = event.sequence;
                    if sender.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

/// What the generated service returns.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, tonic::Status>> + Send>>;

/// The window's end: puts snapshot and patches together again.
#[derive(Debug, Default)]
pub struct Picture {
    stream_id: String,
    sequence: u64,
    value: serde_json::Value,
}

impl Picture {
    /// Where to resume.
    pub fn resume(&self) -> WatchRequest {
        WatchRequest { stream_id: self.stream_id.clone(), sequence: self.sequence }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// In words, when it does not fit; then watch again from the start.
    pub fn take(&mut self, event: WatchEvent) -> Result<ClusterView, String> {
        match event.body {
            Some(Body::Snapshot(body)) => {
                self.value = serde_json::from_slice(&body)
                    .map_err(|e| format!("unreadable snapshot: {e}"))?
            }
            Some(Body::Patch(body)) => {
                if event.stream_id != self.stream_id || event.sequence != self.sequence + 1 {
                    return Err(format!(
                        "event {} does not follow {}",
                        event.sequence, self.sequence
                    ));
                }
                let patch: json_patch::Patch =
                    serde_json::from_slice(&body).map_err(|e| format!("unreadable change: {e}"))?;
                json_patch::patch(&mut self.value, &patch)
                    .map_err(|e| format!("change does not apply: {e}"))?;
            }
            None => return Err("empty event".into()),
        }
        self.stream_id = event.stream_id;
        self.sequence = event.sequence;
        ClusterView::deserialize(&self.value).map_err(|e| format!("unreadable view: {e}"))
    }
}

use serde::Deserialize as _;
