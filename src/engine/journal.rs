//! The journal: everything an engine was told, in order, and a digest of what it decided. Fed to
//! the same code it gives the same decisions; fed to another policy it tells what would have been
//! different.
//!
//! One JSON document a line. A checkpoint holds a whole engine; a journal that was cut at its
//! beginning replays from the first checkpoint on.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Decision, Engine, Input};
use crate::config::Problem;
use crate::model::record::{Record, shape};
use crate::model::topology::Policy;
use crate::model::view::{Phase, Verdict};
use crate::model::{Digest, Span, Timestamp, WallTime};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The engine as it was here.
    Checkpoint(Box<Engine>),
    /// It was told this.
    Input {
        /// The decider's clock.
        at: Timestamp,
        /// Wall clock.
        wall: WallTime,
        /// What.
        input: Box<Input>,
    },
    /// It decided something.
    Decided {
        /// The moment of the input.
        at: Timestamp,
        /// SHA-256 of the decision's records and effects.
        digest: Digest,
    },
}

impl Entry {
    /// The line for a decision that has records.
    pub fn decided(decision: &Decision) -> Self {
        Entry::Decided { at: decision.at(), digest: decision.digest() }
    }
    /// As a line.
    pub fn line(&self) -> String {
        // Plain data: strings, numbers and lists serialise without failing.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Parses the text of a journal; `path` is for messages.
///
/// # Errors
/// A [`Problem`] with the line that is not understood.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, Problem> {
    let mut entries = vec![];
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let entry = serde_json::from_str(line).map_err(|e| {
            Problem::line(
                path,
                number as u64 + 1,
                e.column() as u64,
                format!("not an entry of a journal: {e}"),
            )
        })?;
        entries.push(entry);
    }
    Ok(entries)
}

/// What a replay came to.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Inputs that were fed.
    pub inputs: usize,
    /// Entries before the first checkpoint, which could not be.
    pub skipped: usize,
    /// Records that were made, in order.
    pub records: Vec<Record>,
    /// Decisions that were compared with the recorded ones.
    pub compared: usize,
    /// The first moment at which another decision was made than was recorded.
    pub differs: Option<Timestamp>,
}

/// Feeds a journal to the engine, under the recorded policy or another.
pub fn replay(entries: &[Entry], policy: Option<&Policy>) -> Replayed {
    let mut replayed = Replayed::default();
    let mut engine: Option<Engine> = None;
    let mut last: Option<(Timestamp, Digest)> = None;
    for entry in entries {
        match (entry, &mut engine) {
            (Entry::Checkpoint(_), Some(_)) if policy.is_some() => {
                // Under another policy the engine has gone its own way; a recorded one would bring
                // it back.
            }
            (Entry::Checkpoint(recorded), _) => {
                let mut begin = (**recorded).clone();
                if let Some(policy) = policy {
                    begin.adopt(policy.clone());
                }
                engine = Some(begin);
            }
            (_, None) => replayed.skipped += 1,
            (Entry::Input { at, wall, input }, Some(engine)) => {
                if *at <= engine.now {
                    continue;
                }
                let decision = engine.handle(*at, *wall, (**input).clone());
                replayed.inputs += 1;
                if !decision.is_empty() {
                    // One that was made and never recorded is a difference too.
                    if policy.is_none()
                        && replayed.differs.is_none()
                        && let Some((unrecorded, _)) = &last
                    {
                        replayed.differs = Some(*unrecorded);
                    }
                    last = Some((*at, decision.digest()));
                    replayed.records.extend(decision.records().iter().cloned());
                }
            }
            (Entry::Decided { at, digest }, Some(_)) => {
                replayed.compared += 1;
                if policy.is_none()
                    && replayed.differs.is_none()
                    && last.take().as_ref() != Some(&(*at, digest.clone()))
                {
                    replayed.differs = Some(*at);
                }
            }
        }
    }
    if policy.is_none() && replayed.differs.is_none() {
        replayed.differs = last.map(|(at, _)| at);
    }
    replayed
}

/// The engine as it was at the last calm moment before `until`: steady, with a primary, nobody
/// failed.
pub fn calm_before(entries: &[Entry], until: Timestamp) -> Option<Engine> {
    let calm = |engine: &Engine| {
        let view = engine.view();
        view.phase.phase == Phase::Steady
            && view.primary.is_some()
            && view.nodes.iter().all(|n| n.verdict <= Verdict::Degraded)
    };
    let (mut engine, mut last): (Option<Engine>, Option<Engine>) = (None, None);
    for entry in entries {
        match (entry, &mut engine) {
            (Entry::Checkpoint(recorded), _) => engine = Some((**recorded).clone()),
            (Entry::Input { at, wall, input }, Some(engine)) if *at > engine.now && *at < until => {
                // Looked at once a second: a picture is not free.
                let second = |t: Timestamp| t.0 / 1_000_000_000;
                if second(*at) > second(engine.now) && calm(engine) {
                    last = Some(engine.clone());
                }
                let _ = engine.handle(*at, *wall, (**input).clone());
            }
            _ => {}
        }
    }
    last
}

/// One event of a back-test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// What, in the words of the record, without what only counts.
    pub text: String,
    /// By which rule.
    pub rule: u16,
    /// When it was, since the first input; `None` where it was not.
    pub recorded: Option<Span>,
    /// When it would have been.
    pub other: Option<Span>,
}

/// What would have been different, event by event. Verdicts, phases, plans, refusals and outcomes
/// are compared; once an order differs, the recorded world goes on answering the orders that it was
/// given.
pub fn compare(recorded: &Replayed, other: &Replayed) -> Vec<Difference> {
    let begin =
        recorded.records.iter().chain(&other.records).map(|r| r.at).min().unwrap_or_default();
    let is_event = |r: &&Record| r.kind != "command" && r.kind != "step";
    let mut left: Vec<&Record> = other.records.iter().filter(is_event).collect();
    let mut differences = vec![];
    for record in recorded.records.iter().filter(is_event) {
        let same = |r: &Record| r.rule == record.rule && shape(&r.text) == shape(&record.text);
        // The nearest in time: the same thing happens more than once.
        let apart = |r: &Record| r.at.0.abs_diff(record.at.0);
        let twin = left
            .iter()
            .enumerate()
            .filter(|(_, r)| same(r))
            .min_by_key(|(_, r)| apart(r))
            .map(|(i, _)| i);
        let twin = twin.map(|i| left.remove(i));
        differences.push(Difference {
            text: record.text.clone(),
            rule: record.rule,
            recorded: Some(record.at.since(begin)),
            other: twin.map(|t| t.at.since(begin)),
        });
    }
    differences.extend(left.into_iter().map(|r| Difference {
        text: r.text.clone(),
        rule: r.rule,
        recorded: None,
        other: Some(r.at.since(begin)),
    }));
    differences.sort_by_key(|d| d.recorded.or(d.other));
    differences
}
