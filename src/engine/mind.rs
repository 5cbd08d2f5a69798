//! What the engine keeps in mind of one node.

use std::collections::VecDeque;

use super::detector::{Detector, Silence};
use super::picture::own_word;
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

#[derive(Clone, Debug)]
pub(super) struct NodeMind {
    pub(super) detector: Detector,
    pub(super) report: Option<NodeReport>,
    pub(super) heard: Option<Timestamp>,
    pub(super) verdict: Verdict,
    pub(super) why: String,
    pub(super) votes: Vec<(NodeId, bool)>,
    pub(super) lags: VecDeque<Option<u64>>,
    pub(super) lag_at: Timestamp,
}

impl NodeMind {
    pub(super) fn new(detection: &Detection) -> Self {
        Self {
            detector: Detector::new(detection.clone()),
            report: None,
            heard: None,
            verdict: Verdict::Unknown,
            why: "never heard".into(),
            votes: vec![],
            lags: VecDeque::with_capacity(LAGS_MAX),
            lag_at: Timestamp(0),
        }
    }

    /// Takes a report; an older one than the newest of the same process is dropped.
    pub(super) fn hear(&mut self, now: Timestamp, report: NodeReport) {
        if let Some(have) = &self.report
            && have.process == report.process
            && have.member == report.member
            && have.sequence >= report.sequence
        {
            return;
        }
        self.detector.heartbeat(now);
        self.heard = Some(now);
        self.report = Some(report);
    }

    pub(super) fn age(&self, now: Timestamp) -> Option<Span> {
        self.heard.map(|heard| now.since(heard))
    }
    pub(super) fn phi_milli(&self, now: Timestamp) -> u64 {
        self.detector.phi_milli(now)
    }

    /// Seen by `m` of `n` observers.
    fn seen(&self) -> (usize, usize) {
        (self.votes.iter().filter(|(_, sees)| *sees).count(), self.votes.len())
    }

    /// The verdict, and why. `gave_back`: the node held the role and gave it back, by its word or by a voter's record;
    /// `needed`: votes against it that make a quorum.
    pub(super) fn conclude(&self, now: Timestamp, started: Timestamp, gave_back: bool, needed: usize) -> (Verdict, String) {
        if gave_back {
            let how = match self.report.as_ref().map(|r| &r.resource.state) {
                Some(ResourceState::Stopped(e)) => format!("stopped ({})", e.how),
                Some(other) => other.word().to_owned(),
                None => "not heard".to_owned(),
            };
            return (Verdict::Failed, format!("it gave the write role back; its database is {how}"));
        }
        let (sees, of) = self.seen();
        let against = of - sees;
        let Some(report) = &self.report else {
            // Never heard since the plane started: the observers' word alone, once they had time to speak.
            return if now.since(started) >= NEVER_HEARD && against >= needed {
                (Verdict::Failed, format!("never heard; {against} of {of} observers do not see it"))
            } else {
                (Verdict::Unknown, "never heard".into())
            };
        };
        let silence = self.detector.silence(now);
        let silence = if now.since(started) < GRACE { silence.min(Silence::Suspect) } else { silence };
        let age = self.age(now).unwrap_or(Span::ZERO);
        match silence {
            // What it says of itself counts while it speaks.
            Silence::None | Silence::Unknown => own_word(report),
            Silence::Suspect => (Verdict::Suspect, format!("silent for {age}; seen by {sees} of {of} observers")),
            // Votes bind: a majority that still sees it vetoes, and without a quorum against it nothing is concluded.
            Silence::Failed if against >= needed && against * 2 > of => {
                (Verdict::Failed, format!("silent for {age}; {against} of {of} observers do not see it"))
            }
            Silence::Failed => (Verdict::Suspect, format!("silent for {age}, but seen by {sees} of {of} observers")),
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
