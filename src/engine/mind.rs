//! What the engine keeps in mind of one node.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::detector::{Detector, Silence};
use super::health::Latencies;
use super::picture::own_word;
use super::voices::Voices;
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::topology::Detection;
use crate::model::view::Verdict;
use crate::model::{NodeId, Span, Timestamp};

/// Lags remembered for the picture.
pub(super) const LAGS_MAX: usize = 60;
/// Time between two of them.
pub(super) const LAG_INTERVAL: Span = Span::millis(500);
/// After a start nobody is judged by silence.
const GRACE: Span = Span::secs(2);
/// A node that was not heard for so long after a start is judged by its observers.
const NEVER_HEARD: Span = Span::secs(5);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NodeMind {
    pub(super) detector: Detector,
    pub(super) report: Option<NodeReport>,
    pub(super) heard: Option<Timestamp>,
    pub(super) verdict: Verdict,
    pub(super) why: String,
    pub(super) lags: VecDeque<Option<u64>>,
    pub(super) lag_at: Timestamp,
    pub(super) latencies: Latencies,
    /// Since when it speaks again after a silence.
    #[serde(default)]
    pub(super) back_since: Option<Timestamp>,
    /// Since when it should accept writes, by its shares, and does not by its own word.
    pub(super) stuck_since: Option<Timestamp>,
    /// Since when it is ordered to take shares and has not.
    pub(super) ordered_since: Option<Timestamp>,
    /// It is well enough to be chosen, with hysteresis.
    pub(super) fit: bool,
    /// Since when it is healthy with a score that allows a failback.
    pub(super) well_since: Option<Timestamp>,
    /// Who spoke as this node.
    #[serde(default)]
    pub(super) voices: Voices,
}

/// A node's word of itself is old after this, however uneven its heartbeats were, and also where the
/// observer itself was stalled.
const WORD_MAX: Span = Span::secs(4);

impl NodeMind {
    pub(super) fn new(detection: &Detection) -> Self {
        Self {
            detector: Detector::new(detection.clone()),
            report: None,
            heard: None,
            verdict: Verdict::Unknown,
            why: "never heard".into(),
            lags: VecDeque::with_capacity(LAGS_MAX),
            lag_at: Timestamp(0),
            latencies: Latencies::new(),
            back_since: None,
            stuck_since: None,
            ordered_since: None,
            well_since: None,
            fit: false,
            voices: Voices::default(),
        }
    }

    /// Takes a report; an older one than the newest of the same process is dropped. True when it
    /// says something that may change a decision: ages and positions alone wait for the next
    /// judgement. `now` is `None` where nobody knows how long it waited to be read.
    pub(super) fn hear(&mut self, now: Option<Timestamp>, report: NodeReport) -> bool {
        if let Some(have) = &self.report
            && have.process == report.process
            && have.member == report.member
            && have.sequence >= report.sequence
        {
            return false;
        }
        if let Some(now) = now {
            self.voices.hear(now, report.process);
            let believes = |have| self.voices.believes(now, have, self.age(now), &report);
            if !self.report.as_ref().is_none_or(believes) {
                return false;
            }
        }
        let news = self.report.as_ref().is_none_or(|have| is_news(have, &report))
            || self.verdict != Verdict::Healthy;
        if let Some(now) = now {
            if self.age(now).is_none_or(|age| age >= WORD_MAX) {
                self.back_since = Some(now);
            }
            self.detector.heartbeat(now);
            self.heard = Some(now);
        }
        self.latencies.note(&report.resource.check);
        let serves = report
            .shares
            .as_ref()
            .is_some_and(|s| s.of.get(&report.member.node).is_some_and(|units| *units > 0));
        let writes =
            report.resource.state == ResourceState::Primary && report.resource.check.deep.is_some();
        self.stuck_since = if serves && !writes { self.stuck_since.or(now) } else { None };
        self.report = Some(report);
        news
    }

    /// The observer itself stood still and has heard nothing from it since: what was known of it
    /// before stands until silence can be judged again.
    pub(super) fn knows_no_better(&self, now: Timestamp, started: Timestamp) -> bool {
        self.verdict >= Verdict::Suspect
            && self.heard.is_some_and(|heard| heard < started)
            && now.since(started) < NEVER_HEARD
    }

    pub(super) fn age(&self, now: Timestamp) -> Option<Span> {
        self.heard.map(|heard| now.since(heard))
    }
    pub(super) fn phi_milli(&self, now: Timestamp) -> u64 {
        self.detector.phi_milli(now)
    }

    /// The verdict, and why. `gave_back`: the node held the role and gave it back, by its word or
    /// by a voter's record; `needed`: votes against it that make a quorum; `votes` are counted only
    /// when it is silent.
    pub(super) fn conclude(
        &self,
        now: Timestamp,
        started: Timestamp,
        gave_back: bool,
        needed: usize,
        votes: impl Fn() -> Vec<(NodeId, bool)>,
    ) -> (Verdict, String) {
        if gave_back {
            let how = match self.report.as_ref().map(|r| &r.resource.state) {
                Some(ResourceState::Stopped(e)) => format!("stopped ({})", e.how),
                Some(other) => other.word().to_owned(),
                None => "not heard".to_owned(),
            };
            return (
                Verdict::Failed,
                format!("it gave the write role back; its database is {how}"),
            );
        }
        let count = || {
            let votes = votes();
            (votes.iter().filter(|(_, sees)| *sees).count(), votes.len())
        };
        let Some(report) = &self.report else {
            let (sees, of) = count();
            let against = of - sees;
            // Never heard since the plane started: the observers' word alone, once they had time to
            // speak.
            return if now.since(started) >= NEVER_HEARD && against >= needed && against * 2 > of {
                (Verdict::Failed, format!("never heard; {}", unseen_by(against, of)))
            } else {
                (Verdict::Unknown, "never heard".into())
            };
        };
        let silence = self.detector.silence(now);
        let silence =
            if now.since(started) < GRACE { silence.min(Silence::Suspect) } else { silence };
        let age = self.age(now).unwrap_or(Span::ZERO);
        let usual = self.detector.interval().unwrap_or(Span::ZERO);
        let spoke = age <= WORD_MAX.max(Span(usual.0 * 3));
        if matches!(silence, Silence::None | Silence::Unknown) && spoke {
            // What it says of itself counts while it speaks.
            let (verdict, why) = own_word(report);
            if self.voices.are_two(now) && verdict < Verdict::Suspect {
                let why = "two agents report as this node: a copy of its host or volume runs \
                           somewhere; stop it there";
                return (Verdict::Degraded, why.into());
            }
            return (verdict, why);
        }
        let (sees, of) = count();
        let against = of - sees;
        match silence {
            Silence::None | Silence::Unknown | Silence::Suspect => {
                (Verdict::Suspect, format!("silent for {age}; {}", seen_by(sees, of)))
            }
            // Votes bind: a majority that still sees it vetoes, and without a quorum against it
            // nothing is concluded.
            Silence::Failed if against >= needed && against * 2 > of => {
                (Verdict::Failed, format!("silent for {age}; {}", unseen_by(against, of)))
            }
            Silence::Failed => {
                let but = if sees > 0 { ", but" } else { ";" };
                (Verdict::Suspect, format!("silent for {age}{but} {}", seen_by(sees, of)))
            }
        }
    }

    pub(super) fn remember_lag(&mut self, now: Timestamp, lag: Option<u64>) {
        if now.since(self.lag_at) < LAG_INTERVAL {
            return;
        }
        self.lag_at = now;
        if self.lags.len() == LAGS_MAX {
            self.lags.pop_front();
        }
        self.lags.push_back(lag);
    }
}

fn is_news(a: &NodeReport, b: &NodeReport) -> bool {
    let streams = |r: &NodeReport| r.resource.standbys.iter().filter(|s| s.streams()).count();
    let vote = |r: &NodeReport| {
        let vote = &r.vote;
        let releases = (vote.released, vote.releases.len());
        (vote.epoch, releases, vote.won, vote.voters_version, vote.votes)
    };
    a.process != b.process
        || a.member != b.member
        || a.vote.holder != b.vote.holder
        || vote(a) != vote(b)
        || a.holding.as_ref().map(|h| h.epoch) != b.holding.as_ref().map(|h| h.epoch)
        || std::mem::discriminant(&a.resource.state) != std::mem::discriminant(&b.resource.state)
        || a.resource.position.timeline != b.resource.position.timeline
        || a.resource.receiving_from != b.resource.receiving_from
        || a.resource.trouble != b.resource.trouble
        || a.resource.setback.is_some() != b.resource.setback.is_some()
        || a.resource.refuses != b.resource.refuses
        || a.resource.blocked.is_some() != b.resource.blocked.is_some()
        || a.resource.found != b.resource.found
        || a.data_fault != b.data_fault
        || a.resource.proof != b.resource.proof
        || a.resource.unproved != b.resource.unproved
        || streams(a) != streams(b)
        || a.armed != b.armed
}

const NO_OBSERVER: &str = "no observer of it is heard";

fn seen_by(sees: usize, of: usize) -> String {
    if of == 0 { NO_OBSERVER.into() } else { format!("seen by {sees} of {of} observers") }
}

fn unseen_by(against: usize, of: usize) -> String {
    if of == 0 { NO_OBSERVER.into() } else { format!("{against} of {of} observers do not see it") }
}
