//! The plan that waits, or what would be chosen now: the loss account first, then steps and the
//! whole candidate table.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::model::Model;
use super::super::theme::Role;
use super::{piece, words};
use crate::model::loss::LossAccount;
use crate::model::plan::{Candidate, Plan};
use crate::model::view::ClusterView;

pub(super) fn draw(model: &Model, view: &ClusterView, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    let mut lines = match &view.plan {
        Some(plan) => waiting(model, plan, width),
        None => nothing_waits(model, view),
    };
    let table = view.plan.as_ref().map_or(&view.outlook.candidates, |p| &p.candidates);
    lines.push(Line::from(piece(model, Role::Title, " candidates")));
    for candidate in table {
        candidate_lines(model, candidate, width, &mut lines);
    }
    let shown = super::scrolled(model, lines, area);
    frame.render_widget(Paragraph::new(shown), area);
}

pub(super) fn loss_role(loss: &LossAccount) -> Role {
    match loss {
        LossAccount::None { .. } => Role::Good,
        LossAccount::AtMost { .. } => Role::Warn,
        LossAccount::Unknown { .. } => Role::Bad,
    }
}

fn waiting(model: &Model, plan: &Plan, width: usize) -> Vec<Line<'static>> {
    let from = plan.demoted().map_or("nobody", |n| n.as_str());
    let digest = plan.digest();
    let mut lines = vec![
        Line::from(vec![
            piece(model, Role::Current, format!(" plan {} ", digest.short())),
            piece(model, Role::Title, format!(" {} {from} → {}", plan.kind.word(), plan.to.node)),
            piece(model, Role::Muted, format!("  epoch {}  by {}", plan.epoch, plan.requested_by)),
        ]),
        Line::from(vec![
            piece(model, Role::Text, " loss  "),
            piece(model, loss_role(&plan.loss), plan.loss.short()),
        ]),
    ];
    for line in words::wrap(plan.loss.reason(), width.saturating_sub(9)) {
        lines.push(Line::from(piece(model, Role::Muted, format!("       {line}"))));
    }
    if let LossAccount::None { excluded, .. } = &plan.loss {
        for text in excluded {
            for line in words::wrap(&format!("not counted: {text}"), width.saturating_sub(9)) {
                lines.push(Line::from(piece(model, Role::Muted, format!("       {line}"))));
            }
        }
    }
    lines.push(Line::from(piece(
        model,
        Role::Text,
        format!(" fence at least \"{}\" · budget {}", plan.least_fence.words(), plan.budget),
    )));
    for text in
        plan.blast_radius.iter().chain(std::iter::once(&plan.way_back)).filter(|t| !t.is_empty())
    {
        for line in words::wrap(text, width.saturating_sub(3)) {
            lines.push(Line::from(piece(model, Role::Muted, format!("  {line}"))));
        }
    }
    for transfer in &plan.transfers {
        lines.push(Line::from(piece(
            model,
            Role::Warn,
            words::cut(&format!(" transfer {transfer}"), width),
        )));
    }
    lines.push(Line::from(piece(model, Role::Key, " :execute goes on · :dismiss drops it")));
    for (i, step) in plan.steps.iter().enumerate() {
        let text = format!(" {} {:<8} {:<10} {}", i + 1, step.kind.word(), step.node, step.action);
        for (n, line) in words::wrap(&text, width.saturating_sub(2)).into_iter().enumerate() {
            let indent = if n == 0 { String::new() } else { " ".repeat(23) };
            lines.push(Line::from(piece(model, Role::Text, format!("{indent}{line}"))));
        }
        if width >= 110 {
            let text = format!(
                "{}proof: {} · undo: {} · within {}",
                " ".repeat(23),
                step.verification,
                step.compensation,
                step.budget
            );
            lines.push(Line::from(piece(model, Role::Muted, words::cut(&text, width))));
        }
    }
    lines
}

fn nothing_waits(model: &Model, view: &ClusterView) -> Vec<Line<'static>> {
    let mut lines = vec![
        Line::from(piece(model, Role::Title, " no plan waits")),
        Line::from(piece(model, Role::Muted, " ask for one: :switchover [NODE]")),
    ];
    if let Some(run) = view.run.as_ref().filter(|r| r.outcome.is_none()) {
        lines.push(Line::from(piece(
            model,
            Role::Warn,
            format!(" plan {} runs: see run", run.plan.short()),
        )));
    }
    lines
}

pub(super) fn candidate_lines(
    model: &Model,
    candidate: &Candidate,
    width: usize,
    lines: &mut Vec<Line<'static>>,
) {
    let (glyph, role) = words::held(model, candidate.eligible);
    let rank = if candidate.eligible {
        format!("rank {}", candidate.rank)
    } else {
        "not eligible".to_owned()
    };
    lines.push(Line::from(vec![
        piece(model, role, format!("  {glyph} {:<10} {rank:<13}", candidate.node)),
        piece(model, Role::Muted, words::cut(&passed(candidate), width.saturating_sub(28))),
    ]));
    for check in candidate.checks.iter().filter(|c| !c.passed) {
        let text = format!(
            "      {} is {}, limit {}; until {}",
            check.name, check.value, check.limit, check.would_change
        );
        lines.push(Line::from(piece(model, Role::Bad, words::cut(&text, width))));
    }
}

fn passed(candidate: &Candidate) -> String {
    let list: Vec<String> = candidate
        .checks
        .iter()
        .filter(|c| c.passed)
        .map(|c| format!("{} {}", c.name, c.value))
        .collect();
    list.join(" · ")
}
