//! Why it is as it is: the answer in a sentence, what the policy says of a move now, every
//! candidate through every check.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::model::Model;
use super::super::theme::Role;
use super::{piece, plan, words};
use crate::model::plan::Check;
use crate::model::view::ClusterView;

pub(super) fn draw(model: &Model, view: &ClusterView, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    let mut lines = vec![];
    for line in words::wrap(&view.outlook.answer, width.saturating_sub(2)) {
        lines.push(Line::from(piece(model, Role::Title, format!(" {line}"))));
    }
    for line in words::wrap(&view.outlook.if_primary_died, width.saturating_sub(2)) {
        lines.push(Line::from(piece(model, Role::Muted, format!(" {line}"))));
    }
    lines.push(Line::default());
    if !view.outlook.constraints.is_empty() {
        lines.push(Line::from(piece(model, Role::Title, " the policy on a move now")));
    }
    for check in &view.outlook.constraints {
        check_lines(model, check, width, &mut lines);
    }
    lines.push(Line::from(piece(model, Role::Title, " nodes")));
    for node in &view.nodes {
        let (sees, of) = (node.votes.iter().filter(|(_, v)| *v).count(), node.votes.len());
        let score = node.health.as_ref().map_or(String::new(), |h| {
            format!(" · health {}.{:02}", h.score / 1_000, h.score % 1_000 / 10)
        });
        let text = format!(
            "  {:<12} {:<9} seen by {sees} of {of}{score}  {}",
            node.node,
            node.verdict.word(),
            node.why
        );
        lines.push(Line::from(piece(
            model,
            words::verdict(model, node.verdict).1,
            words::cut(&text, width),
        )));
    }
    lines.push(Line::from(piece(model, Role::Title, " candidates")));
    for candidate in &view.outlook.candidates {
        plan::candidate_lines(model, candidate, width, &mut lines);
    }
    let shown = super::scrolled(model, lines, area);
    frame.render_widget(Paragraph::new(shown), area);
}

fn check_lines(model: &Model, check: &Check, width: usize, lines: &mut Vec<Line<'static>>) {
    let (glyph, role) = words::held(model, check.passed);
    let text = format!("{:<22} {} · limit {}", check.name, check.value, check.limit);
    lines.push(Line::from(vec![
        piece(model, role, format!("  {glyph} ")),
        piece(model, Role::Text, words::cut(&text, width.saturating_sub(6))),
    ]));
    if !check.passed {
        for line in words::wrap(&format!("until {}", check.would_change), width.saturating_sub(8)) {
            lines.push(Line::from(piece(model, Role::Bad, format!("      {line}"))));
        }
    }
}
