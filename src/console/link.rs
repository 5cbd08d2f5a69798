//! The connection, in a task of its own: the screen never waits for it. A plane first; while there
//! is none, an agent, which serves the same stream with a smaller picture.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt as _;

use super::event::{Event, Link};
use crate::agent::host;
use crate::config::Identity;
use crate::model::Span;
use crate::wire::Client;
use crate::wire::channel::DOCUMENT_BYTES_MAX;
use crate::wire::channel::{NotConnected, not_connected};
use crate::wire::feed::Picture;
use crate::wire::proto::console_client::ConsoleClient;

const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// A stream without any event for so long is taken as broken: planes and agents send at least every
/// second.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// While an agent serves, the plane is tried this often.
const PLANE_AGAIN: Duration = Duration::from_secs(2);
const FIRST_ANSWER: Duration = Duration::from_secs(2);

struct Target {
    name: String,
    client: Client,
    plane: bool,
}

/// Runs until the console goes away. `now`: the person wants the next try at once.
pub(super) async fn run(identity: Identity, events: mpsc::Sender<Event>, now: Arc<Notify>) {
    let mut targets = Vec::new();
    let plane = Client::watcher(&identity.plane, "plane", &identity.tls).map(|client| Target {
        name: "plane".into(),
        client,
        plane: true,
    });
    let agents = identity.agents.iter().map(|(node, address)| {
        Client::watcher(address, node.as_str(), &identity.tls).map(|client| Target {
            name: format!("agent {node}"),
            client,
            plane: false,
        })
    });
    for target in std::iter::once(plane).chain(agents) {
        match target {
            Ok(target) => targets.push(target),
            Err(refused) => {
                if events.send(Event::Failed(refused.to_string())).await.is_err() {
                    return;
                }
            }
        }
    }
    let mut retry = RETRY_MIN;
    let mut attempt = 0;
    let mut picture = Picture::default();
    'again: loop {
        let mut why = None;
        for target in &targets {
            attempt += 1;
            let connecting = Link::Connecting { target: target.name.clone(), attempt };
            if attempt > 1 && events.send(Event::Link(connecting)).await.is_err() {
                return;
            }
            match watch(target, &targets, &mut picture, &events).await {
                Ended::Gone => return,
                // The plane is back, or a stream that had worked broke: begin at the plane again,
                // at once.
                Ended::PlaneIsBack => {
                    (retry, attempt) = (RETRY_MIN, 0);
                    continue 'again;
                }
                Ended::Broke { worked, why: reason } => {
                    // What the plane said counts for more than what the last agent said.
                    if target.plane || why.is_none() {
                        why = Some(reason);
                    }
                    if worked {
                        (retry, attempt) = (RETRY_MIN, 0);
                        break;
                    }
                }
            }
        }
        let why = why.unwrap_or_else(|| "there is nobody to connect to".into());
        let wait = jittered(retry);
        let since = host::now();
        let retry_at = since + Span::from(wait);
        let lost = Link::Lost { why, attempt: attempt + 1, retry_at, since };
        if events.send(Event::Link(lost)).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = now.notified() => retry = RETRY_MIN,
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Anywhere between nothing and `most`: consoles that lost the same plane come back one by one.
fn jittered(most: Duration) -> Duration {
    let mut bytes = [0_u8; 4];
    // Without randomness every console waits as long as it may.
    let part = getrandom::fill(&mut bytes).map_or(u32::MAX, |()| u32::from_le_bytes(bytes));
    most.mul_f64(f64::from(part) / f64::from(u32::MAX)).max(RETRY_MIN / 2)
}

enum Ended {
    /// The console went away.
    Gone,
    PlaneIsBack,
    Broke {
        worked: bool,
        why: String,
    },
}

async fn watch(
    target: &Target,
    targets: &[Target],
    picture: &mut Picture,
    events: &mpsc::Sender<Event>,
) -> Ended {
    let broke = |worked, why: String| Ended::Broke {
        worked,
        why: format!("{} at {}: {why}", target.name, target.client.address()),
    };
    let mut stub =
        ConsoleClient::new(target.client.channel()).max_decoding_message_size(DOCUMENT_BYTES_MAX);
    let mut stream = match tokio::time::timeout(FIRST_ANSWER, stub.watch(picture.resume())).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return broke(false, words(&status)),
        Err(_) => return broke(false, "did not answer within 2 s".into()),
    };
    if events
        .send(Event::Link(Link::Live { target: target.name.clone(), plane: target.plane }))
        .await
        .is_err()
    {
        return Ended::Gone;
    }
    let plane = targets.iter().find(|t| t.plane && !target.plane);
    let mut again =
        tokio::time::interval_at(tokio::time::Instant::now() + PLANE_AGAIN, PLANE_AGAIN);
    loop {
        tokio::select! {
            next = tokio::time::timeout(SILENCE_MAX, stream.next()) => {
                let event = match next {
                    Err(_) => return broke(true, "silent for 5 s".into()),
                    Ok(None) => return broke(true, "ended the stream".into()),
                    Ok(Some(Err(status))) => return broke(true, words(&status)),
                    Ok(Some(Ok(event))) => event,
                };
                match picture.take(event) {
                    Ok(view) => if events.send(Event::View(Box::new(view))).await.is_err() { return Ended::Gone },
                    Err(why) => {
                        *picture = Picture::default();
                        return broke(true, why);
                    }
                }
            }
            _ = again.tick(), if plane.is_some() => {
                if let Some(plane) = plane {
                    let mut stub = ConsoleClient::new(plane.client.channel());
                    let probe = stub.watch(Picture::default().resume());
                    if matches!(tokio::time::timeout(Duration::from_millis(300), probe).await, Ok(Ok(_))) {
                        return Ended::PlaneIsBack;
                    }
                }
            }
            () = events.closed() => return Ended::Gone,
        }
    }
}

fn words(status: &tonic::Status) -> String {
    match not_connected(status) {
        Some(silent @ NotConnected::Silent) => silent.to_string(),
        Some(NotConnected::Failed(_) | NotConnected::Closed(_)) => "cannot be reached".into(),
        None if status.code() == tonic::Code::Unavailable => "cannot be reached".into(),
        None => status.message().to_owned(),
    }
}
