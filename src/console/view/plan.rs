//! The plan that waits: its loss first, then who notices, the way back, steps and candidates.

use ratatui::text::Line;

use super::super::command::Action;
use super::super::model::Model;
use super::page::{Page, Panel, left, right};
use super::{parts, piece};
use crate::model::loss::LossAccount;
use crate::model::plan::Plan;
use crate::model::view::ClusterView;
use crate::picture::band::{self, Mark};
use crate::picture::{Ink, Said, number, ways};

pub(super) fn band(model: &Model, view: &ClusterView) -> Vec<band::Line> {
    let Some(plan) = &view.plan else {
        let mut lines = band::of(view, model.since());
        lines.truncate(3);
        return lines;
    };
    let first = Said::text(format!("{} ", plan.kind.word()))
        .say(Ink::Strong, plan.nodes(model.glyphs.to()))
        .then(1, "; ")
        .say(Ink::Text, "nothing has begun");
    let cost = band::cost(view, model.since());
    vec![
        band::Line::badge(Mark::Yours, Ink::Warn, "WAITS", first),
        band::Line::quiet("next", band::next(view, model.since())),
        cost,
    ]
}

/// The loss account with its proof, and what the proof does not speak of.
pub(super) fn loss(model: &Model, account: &LossAccount, width: usize) -> Vec<Line<'static>> {
    let mark = match account {
        LossAccount::None { .. } => model.glyphs.held(true).0,
        LossAccount::AtMost { .. } => "!",
        LossAccount::Unknown { .. } => "?",
    };
    let mut said = Said::new()
        .say(
            match account {
                LossAccount::None { .. } => Ink::Good,
                LossAccount::AtMost { .. } => Ink::Warn,
                LossAccount::Unknown { .. } => Ink::Bad,
            },
            format!("{mark} "),
        )
        .and(0, "", ways::loss(account));
    if !account.reason().is_empty() {
        said = said.say(Ink::Text, format!(": {}", account.reason()));
    }
    for text in account.excluded() {
        said = said.say(Ink::Warn, format!(" · not counted: {text}"));
    }
    parts::labelled(model, "LOSS", Ink::Strong, &said, 13, width)
}

fn costs(model: &Model, plan: &Plan, width: usize) -> Vec<Line<'static>> {
    let mut lines = loss(model, &plan.loss, width);
    let mut say = |label: &str, words: &str, ink: Ink| {
        if !words.is_empty() {
            let said = Said::new().say(ink, words);
            lines.extend(parts::labelled(model, label, Ink::Strong, &said, 13, width));
        }
    };
    if plan.accept_unknown_loss {
        say("ACCEPTED", "an unknown loss was accepted by who asked for this plan", Ink::Bad);
    }
    for (i, words) in plan.blast_radius.iter().enumerate() {
        say(if i == 0 { "NOTICED BY" } else { "" }, words, Ink::Text);
    }
    say("WAY BACK", &plan.way_back, Ink::Text);
    say("FENCE", &format!("at least \"{}\"", plan.least_fence.words()), Ink::Muted);
    for transfer in &plan.transfers {
        say("TRANSFER", transfer, Ink::Warn);
    }
    for share in &plan.shares {
        let words =
            format!("{}: {} {} {} units", share.node, share.before, model.glyphs.to(), share.after);
        say("SHARE", &words, Ink::Text);
    }
    if plan.shed > 0 {
        say(
            "REFUSED",
            &format!("{} units of load: those clients are refused", plan.shed),
            Ink::Bad,
        );
    }
    say("WHY", &plan.reason, Ink::Muted);
    lines
}

fn steps(model: &Model, plan: &Plan, width: usize) -> (Vec<Line<'static>>, Vec<(usize, String)>) {
    let (mut lines, mut marks) = (vec![], vec![]);
    let name = plan
        .steps
        .iter()
        .map(|s| unicode_width::UnicodeWidthStr::width(s.node.as_str()))
        .max()
        .unwrap_or(8)
        .clamp(6, 30);
    for (i, step) in plan.steps.iter().enumerate() {
        marks.push((lines.len(), i.to_string()));
        let head =
            format!(" {:>2} {:<8} {} ", i + 1, step.kind.word(), left(step.node.as_str(), name));
        let indent = name + 14;
        let budget = number::span(step.budget);
        let room = width.saturating_sub(10);
        let mut wrapped = parts::said(model, &Said::text(step.action.clone()), indent, room);
        if let Some(first) = wrapped.first_mut() {
            first.spans[0] = piece(model, Ink::Text, head);
            let gap = room.saturating_sub(first.width());
            first.spans.push(piece(
                model,
                Ink::Muted,
                format!("{}{}", " ".repeat(gap), right(&budget, 8)),
            ));
        }
        lines.extend(wrapped);
        if width >= 100 {
            let more = format!("proof: {} · undo: {}", step.verification, step.compensation);
            lines.extend(parts::said(model, &Said::new().say(Ink::Muted, more), indent, width));
        }
    }
    (lines, marks)
}

pub(super) fn candidates<'a>(
    model: &'a Model,
    list: &'a [crate::model::plan::Candidate],
    width: usize,
) -> Panel<'a> {
    let (mut lines, mut marks) = (vec![], vec![]);
    for candidate in list {
        marks.push((lines.len(), candidate.node.as_str().to_owned()));
        lines.extend(parts::candidate(model, candidate, width));
    }
    let eligible = list.iter().filter(|c| c.eligible).count();
    Panel::marked("candidates", "CANDIDATES × CHECKS", lines, marks)
        .first(None)
        .fact(Ink::Muted, format!("{eligible} of {} eligible", list.len()))
        .least(list.len().min(4))
}

pub(super) fn page<'a>(model: &'a Model, view: &'a ClusterView) -> Page<'a> {
    let (width, side) = super::widths(model);
    let Some(plan) = &view.plan else { return none(model, view, width) };
    let costs = costs(model, plan, width);
    let (steps, marks) = steps(model, plan, width);
    let needed = costs.len().min(6);
    let mut page = Page::new(vec![
        Panel::lines("cost", "WHAT IT COSTS", costs)
            .fact(
                Ink::Muted,
                format!(
                    "plan {} · epoch {} · by {}",
                    plan.digest().short(),
                    plan.epoch,
                    plan.requested_by
                ),
            )
            .least(needed),
        Panel::marked("steps", "STEPS", steps, marks)
            .first(None)
            .fact(Ink::Muted, format!("budget {} in all", number::span(plan.budget)))
            .least(plan.steps.len().min(7)),
        candidates(model, &plan.candidates, width),
    ]);
    page.typed = Some(":execute".into());
    page.keys = vec![Action::NextPanel, Action::ReadAll, Action::WhatIf, Action::Back];
    page.foot = super::cluster::picture_age(model, view)
        .then(1, " · ")
        .say(Ink::Muted, "the digest covers all of this");
    if let Some(side) = side {
        page.side = beside(model, view, plan, side);
    }
    page
}

fn none<'a>(model: &'a Model, view: &'a ClusterView, width: usize) -> Page<'a> {
    let mut said = Said::text("No plan waits. ");
    match view.run.as_ref().filter(|r| r.outcome.is_none()) {
        Some(run) => {
            said = said.say(Ink::Warn, format!("Plan {} runs: 4 shows it.", run.plan.short()));
        }
        None => {
            said = said
                .say(Ink::Key, ":switchover NODE")
                .say(Ink::Text, " makes one; asking changes nothing.");
        }
    }
    let mut lines = parts::said(model, &said, 1, width);
    if !view.outlook.plan_news.is_empty() {
        let news = Said::new().say(Ink::Warn, view.outlook.plan_news.clone());
        lines.extend(parts::said(model, &news, 1, width));
    }
    let least = lines.len().min(4);
    let mut page = Page::new(vec![
        Panel::lines("cost", "NO PLAN", lines).least(least),
        candidates(model, &view.outlook.candidates, width),
    ]);
    page.typed =
        view.run.as_ref().is_none_or(|r| r.outcome.is_some()).then(|| ":switchover".into());
    page.keys = vec![Action::NextPanel, Action::ReadAll, Action::Why, Action::Back];
    page.foot = super::cluster::picture_age(model, view);
    page
}

fn beside<'a>(
    model: &'a Model,
    view: &'a ClusterView,
    plan: &'a Plan,
    width: usize,
) -> Vec<Panel<'a>> {
    let mut lines = vec![];
    for check in &plan.constraints {
        lines.extend(parts::check(model, check, width));
    }
    let failed = plan.constraints.iter().filter(|c| !c.passed).count();
    let mut panels = vec![
        Panel::lines("constraints", "CONSTRAINTS", lines)
            .fact(
                Ink::Muted,
                if failed == 0 { "all pass".into() } else { format!("{failed} fail") },
            )
            .least(6),
    ];
    let digest = plan.digest();
    let lines = parts::said(model, &Said::text(digest.as_str().to_owned()), 1, width);
    panels.push(Panel::lines("digest", "DIGEST", lines).least(2));
    if let Some(f) = &view.outlook.forecast {
        let said = Said::text(format!(
            "{} runs: half within {}, 95 of 100 within {}, the longest {}; {} lose data",
            number::count(f.runs),
            number::span(f.outage_p50),
            number::span(f.outage_p95),
            number::span(f.outage_max),
            f.losing
        ));
        panels.push(
            Panel::lines(
                "forecast",
                "IF IT DIED NOW · SIMULATED",
                parts::said(model, &said, 1, width),
            )
            .ink(Ink::Unreal)
            .least(3),
        );
    }
    panels
}
