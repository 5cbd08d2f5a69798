//! One cluster in three faces: healthy, moving by itself, and needing a person.

use ratatui::text::Line;
use unicode_width::UnicodeWidthStr as _;

use super::super::command::Action;
use super::super::model::Model;
use super::page::{Page, Panel, fit, left, right};
use super::{chart, parts, piece};
use crate::model::Span;
use crate::model::observation::ResourceState;
use crate::model::topology::{Role, Strategy};
use crate::model::view::{Act, ClusterView, Maker, NodeView, Owner, Phase, Verdict};
use crate::picture::band::has_no_vote;
use crate::picture::rail::{self, Stop};
use crate::picture::summary::{Attention, attention};
use crate::picture::ways::{self, Way};
use crate::picture::{Gauge, Ink, Said, number};

/// From so many rows on, somebody who has to decide sees the nodes in words and their lag too.
const TALL: u16 = 48;
/// A silent node's last word is no word about now.
const HEARD: Span = Span::secs(2);

pub(super) fn page<'a>(model: &'a Model, view: &'a ClusterView) -> Page<'a> {
    let (width, side) = super::widths(model);
    let yours = matches!(attention(view), Attention::Yours | Attention::Stopped);
    let ways = if ways::anything(view) { ways::ways(view) } else { vec![] };
    let mut panels = vec![];
    if yours {
        if !ways.is_empty() {
            panels.push(may_do(model, &ways, width));
        }
        let why = why_nothing(model, view, width);
        if !why.is_empty() {
            let least = why.len().min(3);
            panels.push(
                Panel::lines("why", "WHY NOTHING HAPPENS", why)
                    .fact(Ink::Muted, "check · measured · limit")
                    .least(least)
                    .before(2),
            );
        }
    } else {
        panels.push(
            Panel::lines("move", "MOVE OF THE WRITE ROLE", ladder(model, view, width))
                .fact(Ink::Muted, facts_of_move(view))
                .least(3),
        );
    }
    panels.push(nodes(model, view, width));
    if !yours || model.size.1 >= TALL {
        panels.push(detail(model, view, width));
        panels.extend(chart::lag(model, view, model.chosen("nodes"), width));
    }
    if !yours {
        // While something moves by itself, nobody is asked to do anything.
        if !ways.is_empty() && view.phase.phase == Phase::Steady {
            panels.push(may_do(model, &ways, width).least(2));
        }
    }
    let (lines, marks) = parts::facts(model, view.records.iter().rev(), false, 60, width);
    panels.push(
        Panel::marked("facts", "LAST FACTS", lines, marks)
            .first(None)
            .fact(Ink::Muted, format!("rule · {} records", number::count(view.record_count)))
            .least(if yours { 1 } else { 2 }),
    );
    let mut page = Page::new(panels);
    page.foot = picture_age(model, view);
    page.typed = act(view);
    page.keys = if yours {
        let plan = if view.plan.is_some() { Action::Plan } else { Action::Audit };
        vec![Action::Open, plan, Action::ReadAll, Action::Why]
    } else if view.phase.phase == Phase::Steady {
        vec![Action::Open, Action::ReadAll, Action::Why, Action::Audit, Action::Earlier]
    } else {
        vec![Action::Open, Action::ReadAll, Action::Why, Action::Run]
    };
    page.detail = ways.into_iter().map(|w| w.what).collect();
    if let Some(side) = side {
        page.side = beside(model, view, side);
    }
    page
}

/// The words to type for what matters here, if there is something.
pub(super) fn act(view: &ClusterView) -> Option<String> {
    if !matches!(attention(view), Attention::Yours | Attention::Stopped) {
        return None;
    }
    // While something comes back by itself nobody is led to accept a loss.
    if view.phase.ways_out.first().is_some_and(|w| w.act == Act::Wait) {
        return None;
    }
    // Only what is typed here.
    ways::ways(view).into_iter().find_map(|w| w.command.filter(|c| c.starts_with(':')))
}

/// How old the picture is, and who made it when it is not a plane.
pub(super) fn picture_age(model: &Model, view: &ClusterView) -> Said {
    let age = model.age().map_or("unknown".into(), number::age);
    let said = Said::new().say(Ink::Muted, format!("picture {age} old"));
    let said = match view.outlook.plan_news.as_str() {
        "" => said,
        news => said.then(0, " · ").say(Ink::Warn, news),
    };
    if view.source == Maker::Plane {
        return said;
    }
    said.then(1, " · ").say(Ink::Warn, format!("by {}", view.source))
}

/// Each way in a sentence; below it what it loses, when writes are back, and what is typed.
pub(super) fn may_do(model: &Model, ways: &[Way], width: usize) -> Panel<'static> {
    let (mut lines, mut marks) = (vec![], vec![]);
    for way in ways {
        marks.push((lines.len(), way.name.clone()));
        // Digits are keys, and lead elsewhere.
        lines.extend(parts::labelled(model, " -", Ink::Muted, &way.what, 5, width));
        let mut more = Said::new();
        if let Some(command) = &way.command {
            more = more.say(Ink::Key, command.clone());
        }
        if !way.loss.is_empty() {
            more = more.then(0, " · ").say(Ink::Muted, "loss ").and(0, "", way.loss.clone());
        }
        if !way.back.is_empty() {
            more = more.then(0, " · ").say(Ink::Muted, "writes back ").and(0, "", way.back.clone());
        }
        if !more.is_empty() {
            lines.extend(parts::said(model, &more, 5, width));
        }
    }
    // The best ways; the rest has what room the nodes leave.
    let needed = lines.len().min(8);
    let mark = model.glyphs.mark(crate::picture::band::Mark::Yours);
    Panel::marked("ways", format!("{mark} WHAT YOU MAY DO"), lines, marks)
        .ink(Ink::Warn)
        .fact(Ink::Muted, "best first · what is typed, what it loses, when writes are back")
        .least(needed)
}

fn why_nothing(model: &Model, view: &ClusterView, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![];
    for check in view.outlook.constraints.iter().filter(|c| !c.passed) {
        lines.extend(parts::check(model, check, width));
    }
    if view.plan.is_none() {
        for candidate in view.outlook.candidates.iter().filter(|c| !c.eligible) {
            lines.extend(parts::candidate(model, candidate, width));
        }
    }
    lines
}

fn facts_of_move(view: &ClusterView) -> String {
    let run = view.run.as_ref().filter(|r| r.outcome.is_none());
    match run {
        Some(run) => {
            format!(
                "epoch {} → {} · plan {}",
                run.body.epoch,
                run.body.epoch.next(),
                run.plan.short()
            )
        }
        None => {
            let policy = view.strategy.map_or("unknown", |s| s.word());
            format!("epoch {} · policy {policy}", view.epoch)
        }
    }
}

/// The rail with its stations, and the clock of what is lit.
pub(super) fn ladder(model: &Model, view: &ClusterView, width: usize) -> Vec<Line<'static>> {
    let stations = rail::stations(view);
    let mut track = vec![piece(model, Ink::Text, "  ")];
    let mut words = vec![piece(model, Ink::Text, " ")];
    let mut before = Stop::ToCome;
    for (i, (phase, stop)) in stations.iter().enumerate() {
        let word = rail::word(*phase);
        let ink = match stop {
            Stop::Done => Ink::Good,
            Stop::Here if *phase == Phase::Steady => Ink::Good,
            Stop::Here => Ink::Warn,
            Stop::ToCome | Stop::LeftOut => Ink::Muted,
        };
        // A bracket takes the place of a space, so nothing moves when the place does.
        let open = match (*stop, before) {
            (Stop::Here, _) => "[",
            (_, Stop::Here) => "]",
            _ => " ",
        };
        before = *stop;
        words.push(piece(model, Ink::Strong, open));
        let lit = if *stop == Stop::Here { Ink::Strong } else { Ink::Muted };
        words.push(piece(model, lit, word));
        track.push(piece(model, ink, model.glyphs.stop(*stop)));
        if i + 1 < stations.len() {
            let (line, ink) = match stop {
                Stop::Done => (model.glyphs.full(), Ink::Good),
                _ => (model.glyphs.rest(), Ink::Muted),
            };
            track.push(piece(model, ink, line.repeat(word.width())));
        }
    }
    words.push(piece(model, Ink::Strong, if before == Stop::Here { "]" } else { " " }));
    let mut lines = vec![Line::from(track), Line::from(words)];
    // Of an old picture nothing runs on: what it says was so when it was last heard.
    let old = model.frozen.is_none() && model.stale().is_some();
    let mut clock = clock(view, if old { Span::ZERO } else { model.since() });
    if old {
        clock = clock.then(0, " · ").say(Ink::Unknown, "when it was last heard");
    }
    lines.extend(parts::fitted(model, &clock, 1, width));
    lines
}

fn clock(view: &ClusterView, since: Span) -> Said {
    let p = &view.phase;
    let age = p.age + since;
    if p.phase == Phase::Steady {
        let mut said = Said::text(format!("nothing moves since {}", number::lasting(age)));
        let holding = view
            .primary
            .as_ref()
            .and_then(|id| view.nodes.iter().find(|n| n.node == *id))
            .and_then(|n| n.report.as_ref())
            .and_then(|r| r.holding.as_ref());
        if let Some(holding) = holding {
            said = said.then(1, " · ").say(
                Ink::Text,
                format!("lease promised by {} of {}", holding.promised_by.len(), view.voters),
            );
        }
        return said;
    }
    let acts = if p.owner == Owner::Observers { "act" } else { "acts" };
    let mut said = Said::new()
        .say(Ink::Strong, p.owner.to_string())
        .say(Ink::Text, format!(" {acts} since {}", number::since(age)));
    if let Some(left) = p.deadline {
        let left = Span(left.0.saturating_sub(since.0));
        let whole = p.age.0 + p.deadline.map_or(0, |d| d.0);
        said = said
            .say(Ink::Text, " ")
            .gauge(Ink::Warn, Gauge::of(left.0, whole, 14))
            .say(Ink::Text, format!(" {} left", number::countdown(left)));
        if !p.at_deadline.is_empty() {
            said = said.then(1, ", then ").say(Ink::Text, p.at_deadline.clone());
        }
    }
    said
}

fn heard(node: &NodeView, since: Span) -> bool {
    node.heartbeat_age.is_some_and(|a| a + since < HEARD)
}

fn votes(model: &Model, view: &ClusterView) -> (Ink, String) {
    let granted: usize = match view.run.as_ref().filter(|r| r.outcome.is_none()) {
        Some(run) => {
            let next = run.body.epoch.next();
            view.nodes
                .iter()
                .filter_map(|n| n.report.as_ref())
                .filter(|r| r.vote.epoch == next && r.vote.holder.as_ref() == Some(&run.body.to))
                .count()
        }
        None => 0,
    };
    let (have, word) =
        if granted > view.votes { (granted, "granted") } else { (view.votes, "promise") };
    let dots: String = (0..view.voters).map(|i| model.glyphs.vote(i < have)).collect();
    let ink = if have >= view.quorum { Ink::Good } else { Ink::Bad };
    let spare = match have.checked_sub(view.quorum) {
        Some(0) => " · none may fail".to_owned(),
        Some(n) => format!(" · {n} may fail"),
        None => String::new(),
    };
    (ink, format!("votes {dots} {have} of {} {word}, {} needed{spare}", view.voters, view.quorum))
}

/// Cells of the name column: as long as the names are, within what the table leaves.
fn name_width(view: &ClusterView, width: usize) -> usize {
    let longest = view.nodes.iter().map(|n| n.node.as_str().width()).max().unwrap_or(10);
    longest.clamp(10, width.saturating_sub(67).clamp(10, 60))
}

/// From this width on the table has room for how far replay is behind.
const WITH_REPLAY: usize = 88;
/// And for where its log ends.
const WITH_POSITION: usize = 104;
/// And for its sessions.
const WITH_SESSIONS: usize = 114;

pub(super) fn nodes<'a>(model: &'a Model, view: &'a ClusterView, width: usize) -> Panel<'a> {
    let name = name_width(view, width);
    let mut extra = String::new();
    if width >= WITH_REPLAY {
        extra.push_str(&format!(" {:>8}", "REPLAY"));
    }
    if width >= WITH_POSITION {
        extra.push_str(&format!(" {:<19}", "POSITION"));
    }
    if width >= WITH_SESSIONS {
        extra.push_str(&format!(" {:>8}", "SESSIONS"));
    }
    let head = format!(
        "   {} {:<9} {:<10} {:<10} {:>6} {:>3} {:>8} {:<10}{extra}",
        left("NODE", name),
        "ROLE",
        "VERDICT",
        "DATABASE",
        "HEARD",
        "PHI",
        "LAG",
        ""
    );
    let rows = &view.nodes;
    let (ink, fact) = votes(model, view);
    let sight = rows.iter().position(|n| n.verdict == Verdict::Failed);
    let primary = rows.iter().position(|n| n.role == Role::Primary);
    Panel::table(
        "nodes",
        "NODES",
        rows.len(),
        move |i| rows[i].node.as_str().to_owned(),
        move |key| rows.iter().position(|n| n.node.as_str() == key),
        move |i| row(model, view, &rows[i], name, width),
    )
    .head(Line::from(piece(model, Ink::Muted, head)))
    .fact(ink, fact)
    .first(sight.or(primary).or(Some(0)))
    .least(rows.len().min(9) + 1)
    .before(rows.len().min(5) + 1)
}

/// That a node is no target, or does not count, stands where its state stands.
fn word(node: &NodeView) -> &'static str {
    match (&node.drained, node.verdict) {
        (_, Verdict::Healthy) if has_no_vote(node) => "no vote",
        (Some(_), Verdict::Healthy) => "drained",
        (_, verdict) => verdict.word(),
    }
}

fn row(
    model: &Model,
    view: &ClusterView,
    node: &NodeView,
    name: usize,
    width: usize,
) -> Line<'static> {
    let since = model.since();
    let fresh = heard(node, since);
    let is_primary = view.primary.as_ref() == Some(&node.node);
    let (mark, ink) = model.glyphs.verdict(node.verdict);
    let resource = node.report.as_ref().map(|r| &r.resource).filter(|_| fresh);
    let (database_ink, database) = database(resource.map(|r| &r.state));
    let failed = node.verdict == Verdict::Failed;
    let former = view.primary.is_none() && view.last_primary.as_ref() == Some(&node.node);
    let role = if former { "former" } else { node.role.word() };
    let glyph = if failed { " " } else { model.glyphs.role(node.role) };
    let (heard_ink, heard) = match node.heartbeat_age.map(|a| a + since) {
        None => (Ink::Unknown, "never".to_owned()),
        Some(a) if a >= HEARD => (Ink::Bad, format!("{}!", number::age(a))),
        Some(a) => (Ink::Text, number::age(a)),
    };
    let carries = node.role == Role::Secondary;
    let (lag_ink, lag) = match node.lag_bytes {
        _ if !carries => (Ink::Text, String::new()),
        None => (Ink::Unknown, "unknown".to_owned()),
        Some(l) if l > view.rpo_bytes => (Ink::Bad, format!("{}!", number::bytes(l))),
        Some(l) => (Ink::Text, number::bytes(l)),
    };
    let spark = if carries {
        parts::sparkline(model, &node.lag_history, view.rpo_bytes, 10)
    } else {
        String::new()
    };
    let mut pieces = vec![
        piece(model, Ink::Text, format!(" {glyph} ")),
        piece(
            model,
            if is_primary { Ink::Strong } else { Ink::Text },
            left(node.node.as_str(), name),
        ),
        piece(model, Ink::Text, format!(" {role:<9} ")),
        piece(model, ink, format!("{mark} {:<8} ", word(node))),
        piece(model, database_ink, format!("{database:<10} ")),
        piece(model, heard_ink, right(&heard, 6)),
        piece(model, Ink::Text, format!(" {:>3} ", number::phi(node.phi_milli))),
        piece(model, lag_ink, right(&lag, 8)),
        piece(model, if lag_ink == Ink::Bad { Ink::Bad } else { Ink::Muted }, format!(" {spark}")),
    ];
    if width >= WITH_REPLAY {
        // What readers here do not see yet, beside what is not flushed here.
        let behind = match node.replay_lag_bytes.filter(|_| fresh) {
            _ if !carries => String::new(),
            None => "unknown".to_owned(),
            Some(bytes) => number::bytes(bytes),
        };
        pieces.push(piece(model, Ink::Muted, format!(" {}", right(&behind, 8))));
    }
    if width >= WITH_POSITION {
        let position = resource.map_or_else(String::new, |r| r.position.to_string());
        pieces.push(piece(model, Ink::Muted, format!(" {position:<19}")));
    }
    if width >= WITH_SESSIONS {
        let sessions = resource.map_or_else(String::new, |r| r.sessions.to_string());
        pieces.push(piece(model, Ink::Muted, format!(" {sessions:>8}")));
    }
    Line::from(pieces)
}

pub(super) fn database(state: Option<&ResourceState>) -> (Ink, &'static str) {
    let ink = match state {
        Some(ResourceState::Primary) => Ink::Good,
        Some(ResourceState::Stopped(_) | ResourceState::Hung) => Ink::Bad,
        Some(ResourceState::Starting | ResourceState::Rebuilding) => Ink::Warn,
        Some(ResourceState::Standby | ResourceState::None) => Ink::Text,
        Some(ResourceState::Unknown) | None => Ink::Unknown,
    };
    (ink, state.map_or("unknown", |s| s.word()))
}

/// The node that is selected, in words.
fn detail<'a>(model: &'a Model, view: &'a ClusterView, width: usize) -> Panel<'a> {
    let unwell = || view.nodes.iter().find(|n| n.verdict == Verdict::Failed);
    let chosen = model
        .chosen("nodes")
        .and_then(|key| view.nodes.iter().find(|n| n.node.as_str() == key))
        .or_else(unwell)
        .or_else(|| view.nodes.iter().find(|n| Some(&n.node) == view.primary.as_ref()))
        .or_else(|| view.nodes.first());
    let Some(node) = chosen else { return Panel::lines("detail", "NODE", vec![]) };
    let (mark, _) = model.glyphs.verdict(node.verdict);
    let title = format!("{}: {mark} {}", node.node, node.verdict.word());
    let lines = super::node::in_words(view, node)
        .iter()
        .flat_map(|s| parts::said(model, s, 1, width))
        .collect::<Vec<_>>();
    let needed = lines.len().min(4);
    Panel::lines("detail", fit(&title, width.saturating_sub(4)), lines)
        .fact(Ink::Muted, super::node::what_it_is(node))
        .least(needed)
}

fn beside<'a>(model: &'a Model, view: &'a ClusterView, width: usize) -> Vec<Panel<'a>> {
    let mut panels =
        vec![Panel::lines("sight", "WHO SEES WHOM", sight(model, view, width)).least(4)];
    panels.extend(what_if(model, view));
    let mut lines = vec![];
    let limits = [
        ("policy", view.strategy.map_or("unknown".to_owned(), |s| s.word().to_owned())),
        ("lag limit", number::bytes(view.rpo_bytes)),
        ("RTO objective", number::span(view.rto)),
        ("quorum", format!("{} of {}", view.quorum, view.voters)),
    ];
    for (name, value) in limits {
        lines.extend(parts::labelled(model, name, Ink::Muted, &Said::text(value), 16, width));
    }
    panels.push(Panel::lines("limits", "LIMITS OF THE POLICY", lines).least(4));
    let mut checks = vec![];
    for check in &view.outlook.constraints {
        checks.extend(parts::check(model, check, width));
    }
    panels.push(Panel::lines("checks", "WHAT THE POLICY SAYS OF A MOVE", checks).least(2));
    panels
}

/// What many simulated runs from now came to, where somebody simulated them.
pub(super) fn what_if(model: &Model, view: &ClusterView) -> Option<Panel<'static>> {
    let f = view.outlook.forecast.as_ref()?;
    let mut lines = vec![];
    let row = |name: &str, value: String| {
        Line::from(vec![
            piece(model, Ink::Muted, format!(" {}", left(name, 14))),
            piece(model, Ink::Text, value),
        ])
    };
    lines.push(row("half of them", format!("≈ {}", number::span(f.outage_p50))));
    lines.push(row("95 of 100", number::span(f.outage_p95)));
    lines.push(row("99 of 100", number::span(f.outage_p99)));
    lines.push(row("the longest", number::span(f.outage_max)));
    lines.push(row("objective", number::span(view.rto)));
    lines.push(row("losing data", format!("{} of {} runs", f.losing, f.runs)));
    let ends = match view.strategy {
        Some(Strategy::Manual) => "for a person",
        _ => "read-only",
    };
    lines.push(row(ends, format!("{} of {} runs", f.read_only, f.runs / 2)));
    lines.push(row("whole host", format!("≈ {}", number::span(f.host_p50))));
    Some(
        Panel::lines("forecast", "IF IT DIED NOW · SIMULATED", lines)
            .ink(Ink::Unreal)
            .fact(Ink::Muted, format!("{} runs", number::count(f.runs)))
            .least(8),
    )
}

fn sight(model: &Model, view: &ClusterView, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![];
    for node in &view.nodes {
        let sees = node.votes.iter().filter(|(_, v)| *v).count();
        let ink = if sees == node.votes.len() { Ink::Text } else { Ink::Warn };
        let mut said = if view.source == Maker::Plane {
            Said::new().say(ink, format!("{sees} of {} observers see it", node.votes.len()))
        } else {
            Said::new().say(Ink::Unknown, "no plane: nobody counts who sees it")
        };
        let blind: Vec<&str> =
            node.votes.iter().filter(|(_, v)| !*v).map(|(n, _)| n.as_str()).collect();
        if !blind.is_empty() {
            said = said.say(Ink::Bad, format!(" · not {}", blind.join(", ")));
        }
        let name = node.node.as_str();
        if name.width() > 20 {
            // A long name is part of the sentence.
            let said = Said::new().say(Ink::Strong, format!("{name} ")).and(0, "", said);
            lines.extend(parts::said(model, &said, 1, width));
            continue;
        }
        let column = name.width().max(10) + 3;
        lines.extend(parts::labelled(model, name, Ink::Text, &said, column, width));
    }
    lines
}
