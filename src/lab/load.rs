//! A client as applications are: inserts numbered rows one at a time, goes to whichever node takes
//! writes, and at the end counts what was acknowledged and is not there. Beside it one prober a
//! node tries to write there, wherever the role is: two nodes that acknowledge at once are seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::client::{Target, Wrote};
use crate::agent::host;
use crate::model::Timestamp;

/// What a load saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Inserts the server acknowledged.
    pub acknowledged: u64,
    /// Inserts the server refused.
    pub failed: u64,
    /// Inserts whose connection broke before an answer, or whose wait for a standby was cancelled.
    pub unknown: u64,
    /// Acknowledged, and not there at the end.
    pub lost: u64,
    /// Longest time between two acknowledgements, in ms.
    pub longest_outage_ms: f64,
    /// When that began, in ms after the start.
    pub outage_began_ms: f64,
    /// How long it ran, in ms.
    pub ran_ms: f64,
    /// Times that a node acknowledged after another had taken over from it; must be 0.
    pub overlaps: u64,
    /// Acknowledged by node.
    pub by_node: BTreeMap<String, u64>,
    /// Why the count at the end could not be made; empty when it was.
    pub unverified: String,
}

const PAUSE: Duration = Duration::from_millis(10);

/// Runs until `stop`. `acknowledged` counts while it runs.
pub async fn run(target: &Target, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) -> Report {
    let started = host::now();
    let probers: Vec<_> = target
        .nodes
        .iter()
        .zip(1_i64..)
        .map(|((node, port), number)| {
            tokio::spawn(probe(target.clone(), node.clone(), *port, number, Arc::clone(&stop)))
        })
        .collect();
    let mut report = Report::default();
    let mut acks: BTreeSet<i64> = BTreeSet::new();
    let mut moments: Vec<(Timestamp, u32)> = Vec::new();
    let (mut n, mut last) = (0_i64, started);
    let mut longest = (0_u64, started);
    let nodes: Vec<(&String, &u16)> = target.nodes.iter().collect();
    let mut next = 0;
    while !stop.load(Ordering::SeqCst) {
        let (node, port) = nodes[next % nodes.len()];
        next += 1;
        if let Some(mut c) = target.connect(*port).await {
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                match c.insert(n, "").await {
                    Wrote::Acknowledged(timeline) => {
                        let now = host::now();
                        if now.since(last).0 > longest.0 {
                            longest = (now.since(last).0, last);
                        }
                        last = now;
                        acks.insert(n);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        report.acknowledged += 1;
                        *report.by_node.entry(node.clone()).or_default() += 1;
                        if moments.last().is_none_or(|(_, last)| *last != timeline)
                            || acks.len().is_multiple_of(20)
                        {
                            moments.push((now, timeline));
                        }
                        continue;
                    }
                    Wrote::Elsewhere => n -= 1,
                    Wrote::Failed => report.failed += 1,
                    Wrote::Unknown => report.unknown += 1,
                }
                break;
            }
        }
        if next % nodes.len() == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    let end = host::now();
    if end.since(last).0 > longest.0 {
        longest = (end.since(last).0, last);
    }
    for prober in probers {
        if let Ok((seen, written)) = prober.await {
            moments.extend(seen);
            acks.extend(written);
        }
    }
    report.overlaps = overlaps(moments);
    report.longest_outage_ms = ms(longest.0);
    report.outage_began_ms = ms(longest.1.since(started).0);
    report.ran_ms = ms(end.since(started).0);
    match target.rows().await {
        Ok(there) => report.lost = acks.difference(&there).count() as u64,
        Err(why) => report.unverified = why,
    }
    report
}

#[expect(clippy::cast_precision_loss, reason = "a measurement for people")]
fn ms(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}

/// Tries to write on one node every few milliseconds, wherever the role is. Its rows have negative
/// numbers of their own.
async fn probe(
    target: Target,
    node: String,
    port: u16,
    number: i64,
    stop: Arc<AtomicBool>,
) -> (Vec<(Timestamp, u32)>, Vec<i64>) {
    let (mut moments, mut written) = (Vec::new(), Vec::new());
    let mut connection = None;
    let mut n = 0;
    while !stop.load(Ordering::SeqCst) {
        if connection.is_none() {
            connection = target.connect(port).await;
        }
        if let Some(c) = &mut connection {
            n += 1;
            let row = -(n * 1_000 + number);
            match c.insert(row, &node).await {
                Wrote::Acknowledged(timeline) => {
                    moments.push((host::now(), timeline));
                    written.push(row);
                }
                Wrote::Failed | Wrote::Elsewhere => {}
                Wrote::Unknown => connection = None,
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (moments, written)
}

/// Acknowledgements by an older epoch after a newer one had acknowledged. A client may learn of an
/// acknowledgement a moment late, so a few milliseconds are told apart from a second primary.
fn overlaps(mut moments: Vec<(Timestamp, u32)>) -> u64 {
    const LATE: u64 = 5_000_000;
    moments.sort_unstable();
    let mut newest: Option<(u32, Timestamp)> = None;
    let mut count = 0;
    for (at, timeline) in moments {
        match newest {
            Some((top, since)) if timeline < top => {
                count += u64::from(at.0.saturating_sub(since.0) > LATE)
            }
            Some((top, _)) if timeline == top => {}
            _ => newest = Some((timeline, at)),
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(of: &[(u64, u32)]) -> u64 {
        overlaps(of.iter().map(|(t, timeline)| (Timestamp(t * 1_000_000), *timeline)).collect())
    }

    #[test]
    fn a_handover_is_no_overlap_and_a_second_primary_is() {
        assert_eq!(seen(&[(0, 2), (20, 2), (200, 3), (220, 3)]), 0);
        assert_eq!(
            seen(&[(0, 2), (200, 3), (204, 2), (220, 3)]),
            0,
            "an acknowledgement heard late"
        );
        assert_eq!(seen(&[(0, 2), (200, 3), (220, 2), (240, 3), (260, 2)]), 2);
        assert_eq!(seen(&[(0, 2), (200, 3), (2_000, 2)]), 1, "one stray acknowledgement is enough");
        assert_eq!(seen(&[(0, 2), (200, 3), (900, 4)]), 0, "the role came back in a newer epoch");
    }
}
