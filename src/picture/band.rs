//! The lines that answer, before anything else is read: what is wrong, what happens next and when,
//! what it costs or would cost.

use super::said::{Gauge, Ink, Said};
use super::summary::{Attention, attention};
use super::ways;
use super::{number, outlook};
use crate::model::plan::StepKind;
use crate::model::view::{ClusterState, ClusterView, NodeView, Phase, RunView, StepState, Verdict};
use crate::model::{NodeId, Span};

/// A glyph with a meaning; a window has a character for it, and an ASCII twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each stands beside its word")]
pub enum Mark {
    None,
    Healthy,
    Degraded,
    Critical,
    Unknown,
    Yours,
    Moves,
    Running,
    Holds,
}

/// What stands in the first twelve cells of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// A word on a filled ground: at most one in a band.
    Badge(Mark, Ink, String),
    /// A word, with or without a glyph.
    Word(Mark, Ink, String),
}

impl Label {
    /// Its word.
    pub fn word(&self) -> &str {
        match self {
            Label::Badge(_, _, word) | Label::Word(_, _, word) => word,
        }
    }
}

/// One line: label and sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The label.
    pub label: Label,
    /// The sentence.
    pub said: Said,
}

impl Line {
    /// A line with a quiet label.
    pub fn quiet(label: &str, said: Said) -> Self {
        Self { label: Label::Word(Mark::None, Ink::Muted, label.to_owned()), said }
    }
    /// A line with a badge.
    pub fn badge(mark: Mark, ink: Ink, word: &str, said: Said) -> Self {
        Self { label: Label::Badge(mark, ink, word.to_owned()), said }
    }
}

/// The glyph and the ink of a state.
pub fn state(state: ClusterState) -> (Mark, Ink) {
    match state {
        ClusterState::Healthy => (Mark::Healthy, Ink::Good),
        ClusterState::Degraded => (Mark::Degraded, Ink::Warn),
        ClusterState::Critical => (Mark::Critical, Ink::Bad),
        ClusterState::Unknown => (Mark::Unknown, Ink::Unknown),
    }
}

/// The band of a cluster. `since` is how old the view is: countdowns go on meanwhile.
pub fn of(view: &ClusterView, since: Span) -> Vec<Line> {
    let (mark, ink) = state(view.state);
    if attention(view) == Attention::Yours {
        let ink_of_yours = if view.state == ClusterState::Critical { Ink::Bad } else { Ink::Warn };
        let label = Label::Word(mark, ink, view.state.word().to_owned());
        return vec![
            Line::badge(Mark::Yours, ink_of_yours, "YOURS", yours(view)),
            Line { label, said: verdict(view) },
            Line::quiet("next", next(view, since)),
            cost(view, since),
        ];
    }
    let mut lines = vec![Line::badge(mark, ink, view.state.word(), verdict(view))];
    lines.push(if attention(view) == Attention::Moves {
        let label = Label::Word(Mark::Moves, Ink::Warn, "by itself".to_owned());
        Line { label, said: next(view, since) }
    } else {
        Line::quiet("next", next(view, since))
    });
    lines.push(cost(view, since));
    if let Some(way) = view.phase.ways_out.first().filter(|_| running(view).is_some()) {
        lines.push(Line::quiet("way to stop", Said::text(way.text.clone())));
    }
    lines
}

/// What is true for writers, and because of what.
pub fn verdict(view: &ClusterView) -> Said {
    let Some(primary) = view.primary.as_ref().and_then(|p| node(view, p)) else {
        return stopped(view);
    };
    let writes = match view.state {
        ClusterState::Healthy | ClusterState::Degraded => {
            Said::new().say(Ink::Strong, primary.node.as_str()).say(
                Ink::Text,
                if takes_writes(primary) { " takes writes" } else { " holds the write role" },
            )
        }
        ClusterState::Critical | ClusterState::Unknown => {
            return Said::from_words(&view.why, Ink::Text);
        }
    };
    match view.state {
        ClusterState::Healthy => {
            let confirmed = match confirming(primary) {
                Some((k, names)) if k > 0 => {
                    format!("commits are confirmed by {k} of {}", names.join(", "))
                }
                Some(_) => "commits wait for no standby".to_owned(),
                None => "commits are confirmed as configured".to_owned(),
            };
            let drained: Vec<&str> = view
                .nodes
                .iter()
                .filter(|n| n.drained.is_some())
                .map(|n| n.node.as_str())
                .collect();
            let named = |word: &str, names: &[&str]| match names {
                [] => String::new(),
                names => format!(", {word}: {}", names.join(", ")),
            };
            let voteless: Vec<&str> =
                view.nodes.iter().filter(|n| has_no_vote(n)).map(|n| n.node.as_str()).collect();
            let nodes = format!(
                "every node is well{}{}",
                named("drained", &drained),
                named("without a vote", &voteless)
            );
            // Who is well and counts less is never left out.
            let rank = u8::from(drained.is_empty() && voteless.is_empty());
            writes.then(rank, "; ").say(Ink::Text, nodes).then(2, "; ").say(Ink::Text, confirmed)
        }
        _ => unwell(view, writes),
    }
}

/// It speaks, and does not count: it was removed, or not admitted yet.
pub fn has_no_vote(node: &NodeView) -> bool {
    let report = node.report.as_ref();
    report.is_some_and(|r| !r.vote.votes && r.shares.is_none() && r.vote.voters > 0)
}

fn takes_writes(node: &NodeView) -> bool {
    node.report
        .as_ref()
        .is_none_or(|r| r.resource.state == crate::model::observation::ResourceState::Primary)
}

fn confirming(primary: &NodeView) -> Option<(usize, Vec<&str>)> {
    let sync = &primary.report.as_ref()?.holding.as_ref()?.sync;
    Some((sync.k, sync.members.iter().map(|m| m.node.as_str()).collect()))
}

/// Whose trouble it is, by name up to three; then how many more.
fn unwell(view: &ClusterView, writes: Said) -> Said {
    let nodes: Vec<&NodeView> =
        view.nodes.iter().filter(|n| n.verdict != Verdict::Healthy).collect();
    if nodes.is_empty() {
        return writes.and(0, "; ", Said::from_words(&view.why, Ink::Text));
    }
    let mut said = writes;
    for (i, node) in nodes.iter().take(3).enumerate() {
        let rank = u8::try_from(i).unwrap_or(u8::MAX);
        said = said.then(rank, "; ").say(Ink::Strong, node.node.as_str()).say(Ink::Text, " is ");
        said = said.say(Ink::Text, node.verdict.word());
        if !node.why.is_empty() && !is_bare(&node.why) {
            said = said.then(rank + 1, ": ").say(Ink::Text, node.why.clone());
        }
    }
    if nodes.len() > 3 {
        said = said.then(1, "; ").say(Ink::Text, format!("{} nodes more", nodes.len() - 3));
    }
    // Where it is not the nodes' own trouble, the cluster's sentence says what it is.
    let own = nodes.iter().all(|n| view.why.contains(n.node.as_str()));
    if own { said } else { said.and(1, "; ", Said::from_words(&view.why, Ink::Text)) }
}

fn is_bare(why: &str) -> bool {
    ["healthy", "degraded", "suspect", "failed", "unknown"].contains(&why)
}

/// Nobody holds the role: the engine's own sentence, then what is known of the node it is about.
fn stopped(view: &ClusterView) -> Said {
    let mut said = Said::from_words(&view.why, Ink::Text);
    for node in view.nodes.iter().filter(|n| n.verdict == Verdict::Failed && !n.why.is_empty()) {
        said = said.and(2, " · ", Said::text(format!("{}: {}", node.node, node.why)));
    }
    said
}

/// What waits for a person, or why nothing is done.
pub fn yours(view: &ClusterView) -> Said {
    if let Some(plan) = &view.plan {
        let from = plan.demoted().map_or("nobody", |n| n.as_str());
        return Said::new()
            .say(Ink::Text, plan.kind.word())
            .say(Ink::Text, format!(" {from} → "))
            .say(Ink::Strong, plan.to.node.as_str())
            .say(Ink::Text, " waits for a person")
            .then(0, " · loss ")
            .and(0, "", ways::loss(&plan.loss))
            .then(1, " · ")
            .say(Ink::Muted, format!("asked for by {}", plan.requested_by));
    }
    match outlook::answer(&view.outlook.answer) {
        said if said.is_empty() => Said::text("a person has to decide"),
        said => said,
    }
}

/// What happens next by itself, when, and what comes then.
pub fn next(view: &ClusterView, since: Span) -> Said {
    let phase = &view.phase;
    let left = phase.deadline.map(|d| Span(d.0.saturating_sub(since.0)));
    if let Some((run, at)) = running(view) {
        return step(run, at, left, &phase.at_deadline);
    }
    let mut said = match phase.phase {
        Phase::AwaitingApproval => {
            Said::text("the plan is dropped in ").and(0, "", drain(phase, left))
        }
        Phase::Stabilising => {
            let mut said = Said::text("steady in ").and(0, "", drain(phase, left));
            if let Some(primary) = &view.primary {
                said = said.say(Ink::Text, format!(" if {primary} still holds the role"));
            }
            return said;
        }
        Phase::Deciding if left.is_some() => {
            Said::text("a target is sought again in ").and(0, "", drain(phase, left))
        }
        _ => return outlook::next(&view.outlook.next, &view.outlook.answer),
    };
    if phase.phase == Phase::AwaitingApproval {
        said = said
            .say(Ink::Text, " if nobody decides, and another may be made then")
            .then(1, " · ")
            .say(Ink::Text, "read it, then ")
            .say(Ink::Key, ":execute");
    }
    said
}

fn drain(phase: &crate::model::view::PhaseView, left: Option<Span>) -> Said {
    let Some(left) = left else { return Said::text("a time nobody knows") };
    let whole = phase.age.0 + phase.deadline.map_or(0, |d| d.0);
    Said::new()
        .gauge(Ink::Warn, Gauge::of(left.0, whole, 8))
        .say(Ink::Text, format!(" {}", number::countdown(left)))
}

/// The run and the step that it is at.
fn running(view: &ClusterView) -> Option<(&RunView, usize)> {
    let run = view.run.as_ref().filter(|r| r.outcome.is_none())?;
    let at = run.steps.iter().position(|s| s.state != StepState::Done)?;
    Some((run, at))
}

fn step(run: &RunView, at: usize, left: Option<Span>, at_deadline: &str) -> Said {
    let now = &run.steps[at];
    let left =
        left.unwrap_or_else(|| Span(now.budget.0.saturating_sub(now.took.unwrap_or_default().0)));
    let mut said = Said::new()
        .say(Ink::Strong, now.node.as_str())
        .say(Ink::Text, format!(" {} ", verb(now.kind, run)));
    said = if left == Span::ZERO {
        said.say(Ink::Warn, "past its time")
    } else {
        said.gauge(Ink::Warn, Gauge::of(left.0, now.budget.0, 8))
            .say(Ink::Text, format!(" {}", number::countdown(left)))
    };
    if let Some(then) = run.steps.get(at + 1) {
        said = said.then(0, ", ").say(Ink::Text, format!("then {}", after(then.kind, run)));
    }
    if !at_deadline.is_empty() {
        said = said.then(2, "; ").say(Ink::Text, format!("at its end {at_deadline}"));
    }
    said
}

fn verb(kind: StepKind, run: &RunView) -> String {
    match kind {
        StepKind::Arm => "is given the plan".into(),
        StepKind::Shift => "gets its new share".into(),
        StepKind::Fence if run.body.kind.is_planned() => "stops cleanly".into(),
        StepKind::Fence => "is fenced".into(),
        StepKind::Claim => format!("claims epoch {}", run.body.epoch.next()),
        StepKind::Promote => "promotes".into(),
        StepKind::Follow => "follow".into(),
        StepKind::Drain => "finishes".into(),
        StepKind::Keep => "keeps within its capacity".into(),
        StepKind::Verify => "proves it with a real write".into(),
    }
}

fn after(kind: StepKind, run: &RunView) -> String {
    let to = &run.body.to.node;
    match kind {
        StepKind::Arm => "the candidate is armed".into(),
        StepKind::Shift => "the shares change".into(),
        StepKind::Fence => "the old primary is fenced".into(),
        StepKind::Claim => format!("{to} claims epoch {}", run.body.epoch.next()),
        StepKind::Promote => "it promotes".into(),
        StepKind::Follow => "the others follow".into(),
        StepKind::Drain => "it finishes".into(),
        StepKind::Keep => "everybody stays within capacity".into(),
        StepKind::Verify => "a real write proves it".into(),
    }
}

/// What it has cost so far, or would cost.
pub fn cost(view: &ClusterView, since: Span) -> Line {
    if let Some((run, _)) = running(view) {
        let clock = match silent(view, run.body.demoted()).filter(|_| !run.body.kind.is_planned()) {
            Some((name, age)) => Said::text(format!("no sign of {name} for "))
                .say(Ink::Warn, number::countdown(age + since)),
            None => Said::text("it runs since ").say(Ink::Warn, number::countdown(run.age + since)),
        };
        let account = run.rpo.as_ref().unwrap_or(&run.body.loss);
        let said = clock
            .then(1, " ")
            .say(Ink::Text, format!("of {}", number::span(view.rto)))
            .then(0, " · loss ")
            .and(0, "", ways::loss(account));
        let expected = if run.rpo.is_some() { said } else { said.say(Ink::Muted, ", as planned") };
        return Line::quiet("so far", expected);
    }
    if let Some(plan) = &view.plan {
        let mut said = ways::loss(&plan.loss);
        if let Some(f) = view.outlook.forecast.as_ref().filter(|f| f.read_only == 0) {
            said = said.then(0, " · ").and(0, "", outlook::rto(f, view.rto));
        }
        for words in &plan.blast_radius {
            said = said.then(1, " · ").say(Ink::Text, words.clone());
        }
        return Line::quiet("its loss", said);
    }
    let outlook = &view.outlook;
    Line::quiet(outlook::label(outlook), outlook::in_short(outlook, view.rto))
}

fn silent<'a>(view: &'a ClusterView, id: Option<&'a NodeId>) -> Option<(&'a NodeId, Span)> {
    let node = node(view, id?)?;
    node.heartbeat_age.filter(|a| *a > Span::secs(1)).map(|age| (&node.node, age))
}

fn node<'a>(view: &'a ClusterView, id: &NodeId) -> Option<&'a NodeView> {
    view.nodes.iter().find(|n| n.node == *id)
}
