//! One node: how well it is and for whom, its layers of checks, who sees it, where its log stands.

use ratatui::text::Line;

use super::super::command::Action;
use super::super::model::Model;
use super::page::{Page, Panel, left, right};
use super::{parts, piece};
use crate::model::Span;
use crate::model::view::{ClusterView, Maker, NodeView, Verdict};
use crate::picture::band::{self, Mark};
use crate::picture::{Gauge, Ink, Said, number};

/// What runs there and where.
pub(super) fn what_it_is(node: &NodeView) -> String {
    let version = node.report.as_ref().map(|r| r.resource.version.as_str()).unwrap_or_default();
    if version.is_empty() { node.place.clone() } else { format!("{} · {version}", node.place) }
}

/// What is known of a node, in sentences: why it is judged so, what it does, who sees it.
pub(super) fn in_words(view: &ClusterView, node: &NodeView) -> Vec<Said> {
    let mut said = vec![];
    let first = if node.why.is_empty() {
        let ink = if node.verdict == Verdict::Healthy { Ink::Text } else { Ink::Warn };
        Said::new().say(
            ink,
            format!(
                "{} is {}",
                node.node,
                match node.verdict {
                    Verdict::Healthy => "well",
                    other => other.word(),
                }
            ),
        )
    } else {
        Said::from_words(
            &node.why,
            if node.verdict == Verdict::Failed { Ink::Bad } else { Ink::Warn },
        )
    };
    let mut first = first;
    if let Some(r) = &node.report {
        for extra in [&r.activity, &r.complaint] {
            if !extra.is_empty() && !node.why.contains(extra.as_str()) {
                first = first.then(1, " · ").say(Ink::Text, extra.clone());
            }
        }
    }
    said.push(first);
    let (sees, of) = (node.votes.iter().filter(|(_, v)| *v).count(), node.votes.len());
    let blind: Vec<&str> =
        node.votes.iter().filter(|(_, v)| !*v).map(|(n, _)| n.as_str()).collect();
    let silent = node.verdict == Verdict::Failed && sees == 0 && of > 0;
    let mut second = Said::text(if view.source != Maker::Plane {
        "no plane judges it".into()
    } else if silent && node.closed.is_empty() {
        format!("0 of {of} observers see it: down or cut off, nobody here can tell")
    } else {
        format!("{sees} of {of} observers see it")
    });
    if !blind.is_empty() && sees > 0 {
        second = second.say(Ink::Text, format!("; not {}", blind.join(", ")));
    }
    if !node.closed.is_empty() {
        second = second.then(1, " · ").say(
            Ink::Text,
            format!(
                "its host answers {}, and no agent listens there",
                node.closed.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")
            ),
        );
    }
    let fresh = node.heartbeat_age.is_some_and(|a| a < Span::secs(2));
    if let Some(r) = node.report.as_ref().filter(|_| fresh) {
        if r.resource.sessions > 0 {
            second = second
                .then(1, " · ")
                .say(Ink::Text, format!("{} client sessions", r.resource.sessions));
        }
        if let Some(free) = (r.resource.disk_free * 100).checked_div(r.resource.disk_total) {
            second = second.then(1, " · ").say(
                Ink::Text,
                format!("disk {} %, {} free", 100 - free, number::bytes(r.resource.disk_free)),
            );
        }
        if let Some(upstream) = &r.resource.receiving_from {
            second = second.then(1, " · ").say(Ink::Text, format!("receives from {upstream}"));
        }
        if let Some(holding) = &r.holding {
            let names: Vec<&str> = holding.sync.members.iter().map(|m| m.node.as_str()).collect();
            let confirms = if holding.sync.k == 0 {
                "commits wait for no standby".to_owned()
            } else {
                format!("confirms on any {} of {}", holding.sync.k, names.join(", "))
            };
            second = second.then(1, " · ").say(Ink::Text, confirms);
        }
    }
    said.push(second);
    if node.role == crate::model::topology::Role::Secondary && view.primary.is_some() {
        said.push(match node.lag_bytes {
            Some(lag) => {
                let flushed = number::of_limit(lag, view.rpo_bytes);
                let replayed = node.replay_lag_bytes.map_or("unknown".into(), number::bytes);
                Said::text(format!("flush lag {flushed} · replay lag {replayed}"))
            }
            None => Said::new().say(Ink::Unknown, "its lag is unknown"),
        });
    }
    said
}

pub(super) fn band(view: &ClusterView, node: &NodeView) -> Vec<band::Line> {
    let (mark, ink) = match node.verdict {
        Verdict::Healthy => (Mark::Holds, Ink::Good),
        Verdict::Degraded | Verdict::Suspect => (Mark::Degraded, Ink::Warn),
        Verdict::Failed => (Mark::Critical, Ink::Bad),
        Verdict::Unknown => (Mark::Unknown, Ink::Unknown),
    };
    let mut words = in_words(view, node).into_iter();
    let first = Said::new().say(Ink::Text, format!("{}: ", node.role.word())).and(
        0,
        "",
        words.next().unwrap_or_default(),
    );
    let word = node.verdict.word().to_uppercase();
    let mut lines = vec![band::Line::badge(mark, ink, &word, first)];
    let candidate = view.outlook.candidates.iter().find(|c| c.node == node.node);
    lines.push(band::Line::quiet(
        "if asked",
        match candidate {
            None if view.source != Maker::Plane => {
                Said::text("no plane is heard: nobody judges it")
            }
            None => Said::text("it is no candidate for the write role"),
            Some(c) if c.eligible => Said::text("could take the role: ")
                .say(Ink::Good, format!("all {} checks pass", c.checks.len()))
                .then(1, " · ")
                .say(Ink::Text, format!("rank {}", c.rank)),
            Some(c) => {
                let mut said = Said::text("could not take the role: ");
                for (i, check) in c.checks.iter().filter(|k| !k.passed).enumerate() {
                    if i > 0 {
                        said = said.then(1, "; ");
                    }
                    said = said.say(
                        Ink::Bad,
                        format!("{} {}, limit {}", check.name, check.value, check.limit),
                    );
                }
                said
            }
        },
    ));
    let mut seen = words.next().unwrap_or_default();
    for more in words {
        seen = seen.and(1, " · ", more);
    }
    lines.push(band::Line::quiet("seen", seen));
    lines
}

/// Whether a sentence names it, and not another whose name begins like it.
fn names(text: &str, node: &str) -> bool {
    let of_a_name = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == '.';
    text.match_indices(node).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + node.len()..].chars();
        let next = after.next();
        // A dot ends a sentence too.
        let goes_on = match next {
            Some('.') => after.next().is_some_and(of_a_name),
            other => other.is_some_and(of_a_name),
        };
        !before.is_some_and(of_a_name) && !goes_on
    })
}

pub(super) fn page<'a>(model: &'a Model, view: &'a ClusterView, node: &'a NodeView) -> Page<'a> {
    let (width, side) = super::widths(model);
    let mut panels = vec![
        Panel::lines("layers", "LAYERS", layers(model, node, width))
            .fact(Ink::Muted, what_it_is(node))
            .least(4),
    ];
    let mut lines = vec![];
    for check in
        view.outlook.candidates.iter().filter(|c| c.node == node.node).flat_map(|c| c.checks.iter())
    {
        lines.extend(parts::check(model, check, width));
    }
    let failed = view
        .outlook
        .candidates
        .iter()
        .find(|c| c.node == node.node)
        .map_or(0, |c| c.checks.iter().filter(|k| !k.passed).count());
    let fact = if failed == 0 { "all pass".to_owned() } else { format!("{failed} fail") };
    if !lines.is_empty() {
        panels.push(
            Panel::lines("checks", "COULD IT TAKE THE ROLE", lines).fact(Ink::Muted, fact).least(3),
        );
    }
    panels.push(
        Panel::lines("belief", "WHO SEES IT, AND WHAT IT PROMISED", belief(model, node, width))
            .least(3),
    );
    panels.push(Panel::lines("log", "LOG POSITIONS", positions(model, view, node, width)).least(2));
    let of_it = || view.records.iter().rev().filter(|r| names(&r.record.text, node.node.as_str()));
    let (facts, marks) = parts::facts(model, of_it(), false, 40, width);
    panels.push(Panel::marked("facts", "ITS LAST FACTS", facts, marks).first(None).least(2));
    let mut page = Page::new(panels);
    page.foot = Said::new().say(
        Ink::Muted,
        node.heartbeat_age.map_or("never heard".into(), |a| {
            format!("heard {} ago from its own agent", number::age(a + model.since()))
        }),
    );
    page.keys =
        vec![Action::NextPanel, Action::ReadAll, Action::Why, Action::Earlier, Action::Back];
    if let Some(side) = side {
        page.side = beside(model, node, side);
    }
    page
}

fn layers(model: &Model, node: &NodeView, width: usize) -> Vec<Line<'static>> {
    let head =
        format!(" {:<8}{:>9}{:>9}{:>9}{:>9}  OF LIMIT", "LAYER", "P50", "P95", "P99", "LIMIT");
    let mut lines = vec![Line::from(piece(model, Ink::Muted, head))];
    let Some(health) = &node.health else {
        lines.push(Line::from(piece(model, Ink::Unknown, " nothing was measured yet")));
        return lines;
    };
    for layer in &health.layers {
        let over = layer.p99 > layer.limit;
        let ink = if over { Ink::Bad } else { Ink::Text };
        let mut pieces = vec![
            piece(model, Ink::Text, format!(" {}", left(&layer.name, 8))),
            piece(model, Ink::Text, right(&number::span(layer.p50), 9)),
            piece(model, Ink::Text, right(&number::span(layer.p95), 9)),
            piece(model, ink, right(&number::span(layer.p99), 9)),
            piece(model, Ink::Muted, right(&number::span(layer.limit), 9)),
            piece(model, Ink::Text, "  "),
        ];
        pieces.extend(parts::gauge(model, ink, Gauge::of(layer.p99.0, layer.limit.0, 12)));
        lines.push(Line::from(pieces));
    }
    let mut score =
        Said::new().say(Ink::Muted, "score ").say(Ink::Text, format!("{} of 1000", health.score));
    for part in &health.parts {
        score = score.say(Ink::Muted, format!(" · {} {}", part.name, part.milli));
    }
    lines.extend(parts::said(model, &score, 1, width));
    lines
}

fn belief(model: &Model, node: &NodeView, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![];
    for (observer, sees) in &node.votes {
        let (mark, ink) = model.glyphs.held(*sees);
        let words = if *sees { "sees it" } else { "does not see it" };
        let said = Said::new().say(ink, format!("{mark} {words}"));
        let name = observer.as_str();
        lines.extend(parts::labelled(model, name, Ink::Text, &said, name.len().max(10) + 3, width));
    }
    if let Some(report) = &node.report {
        let vote = &report.vote;
        let holder = vote.holder.as_ref().map_or("nobody", |h| h.node.as_str());
        lines.extend(parts::labelled(
            model,
            "its vote",
            Ink::Muted,
            &Said::text(format!(
                "epoch {} for {holder}{} · voter set of {}{}",
                vote.epoch,
                if vote.released { ", released" } else { "" },
                vote.voters,
                if vote.votes { "" } else { ", and it has no vote" }
            )),
            13,
            width,
        ));
    }
    lines
}

fn positions(
    model: &Model,
    view: &ClusterView,
    node: &NodeView,
    width: usize,
) -> Vec<Line<'static>> {
    let Some(report) = &node.report else {
        return parts::said(model, &Said::new().say(Ink::Unknown, "it was never heard"), 1, width);
    };
    let r = &report.resource;
    let (ink, word) = super::cluster::database(Some(&r.state));
    let mut said = Said::new().say(ink, word).say(Ink::Text, format!(" · {}", r.position));
    if matches!(r.state, crate::model::observation::ResourceState::Standby) {
        said = said.say(Ink::Text, format!(" · flushed {} · replayed {}", r.flushed, r.replayed));
    }
    if let Some(lag) = node.lag_bytes {
        let lag = number::of_limit(lag, view.rpo_bytes);
        said = said.say(Ink::Text, format!(" · flush lag {lag}"));
    }
    if let Some(lag) = node.replay_lag_bytes {
        said = said.say(Ink::Text, format!(" · replay lag {}", number::bytes(lag)));
    }
    let mut lines = parts::said(model, &said, 1, width);
    if !r.trouble.is_empty() {
        lines.extend(parts::said(model, &Said::new().say(Ink::Warn, r.trouble.clone()), 1, width));
    }
    if let Some(setback) = &r.setback {
        let tries = match setback.times {
            1 => format!("a try failed at {}", model.clock(setback.last)),
            n => format!(
                "{n} tries failed since {}, the last at {}",
                model.clock(setback.first),
                model.clock(setback.last)
            ),
        };
        let what = Some(&setback.what).filter(|what| **what != r.trouble);
        let words = what.map_or(tries.clone(), |what| format!("{tries}: {what}"));
        lines.extend(parts::said(model, &Said::new().say(Ink::Warn, words), 1, width));
    }
    for room in &report.rooms {
        let free = match room.total {
            0 => "unknown".into(),
            total => format!("{} free of {}", number::bytes(room.free), number::bytes(total)),
        };
        let words = format!("{free} · {}", room.path);
        lines.extend(parts::labelled(model, &room.what, Ink::Muted, &Said::text(words), 13, width));
    }
    lines
}

fn beside<'a>(model: &'a Model, node: &'a NodeView, width: usize) -> Vec<Panel<'a>> {
    let mut lines = vec![];
    let mut say = |name: &str, value: String| {
        lines.extend(parts::labelled(model, name, Ink::Muted, &Said::text(value), 14, width));
    };
    say("node", node.node.as_str().to_owned());
    say("place", node.place.clone());
    say("declared", node.declared.word().to_owned());
    if let Some(r) = &node.report {
        say("incarnation", r.member.incarnation.as_str().to_owned());
        say("version", r.resource.version.clone());
        say("agent", format!("process {}", r.pids.agent));
        if let Some(pid) = r.pids.postmaster {
            say("postmaster", format!("process {pid}"));
        }
        say("sync setting", r.resource.sync_setting.clone());
    }
    vec![Panel::lines("identity", "IDENTITY", lines).least(8)]
}
