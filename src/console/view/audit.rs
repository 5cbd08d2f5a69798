//! The audit log: newest first, the selected record in full, and whether the chain verifies.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::model::Model;
use super::super::theme::Role;
use super::{piece, words};
use crate::engine::rules;
use crate::model::view::ClusterView;

pub(super) fn draw(model: &Model, view: &ClusterView, frame: &mut Frame<'_>, area: Rect) {
    let [head, list, detail] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(6)])
            .areas(area);
    let broken = view.chain.contains("breaks");
    let width = usize::from(area.width);
    let first = Line::from(vec![
        piece(model, Role::Text, format!(" {} records · chain ", view.record_count)),
        piece(model, if broken { Role::Danger } else { Role::Good }, view.chain.clone()),
    ]);
    let columns = format!(
        "   {:>6} {:<9} {:>5} {:>4} {:<10} {:<10} what",
        "number", "time", "epoch", "rule", "by", "kind"
    );
    frame.render_widget(
        Paragraph::new(vec![first, Line::from(piece(model, Role::Muted, columns))]),
        head,
    );
    let records = model.records();
    let at = model.record.and_then(|n| records.iter().position(|r| r.number == n)).unwrap_or(0);
    let height = usize::from(list.height);
    let top = at.saturating_sub(height.saturating_sub(1));
    let rows: Vec<Line<'_>> = records
        .iter()
        .enumerate()
        .skip(top)
        .take(height)
        .map(|(i, r)| {
            let on = i == at;
            let text = format!(
                "{} {:>6} {:<9} {:>5} {:>4} {:<10} {:<10} {}",
                if on { " >" } else { "  " },
                r.number,
                r.record.wall.clock(),
                r.record.epoch,
                r.record.rule,
                words::cut(&r.record.actor, 10),
                words::cut(&r.record.kind, 10),
                r.record.text
            );
            Line::from(piece(
                model,
                if on { Role::Selected } else { Role::Text },
                words::cut(&text, width),
            ))
        })
        .collect();
    frame.render_widget(Paragraph::new(rows), list);
    if let Some(r) = records.get(at) {
        let mut lines = vec![Line::default()];
        for line in words::wrap(&r.record.text, width.saturating_sub(3)).into_iter().take(3) {
            lines.push(Line::from(piece(model, Role::Title, format!(" {line}"))));
        }
        let rule = rules::sentence(r.record.rule)
            .map_or(String::new(), |s| format!("rule {}: {s}", r.record.rule));
        lines.push(Line::from(piece(model, Role::Muted, words::cut(&format!(" {rule}"), width))));
        lines.push(Line::from(piece(
            model,
            Role::Muted,
            words::cut(&format!(" {}  hash {}", r.record.wall.rfc3339(), r.hash), width),
        )));
        frame.render_widget(Paragraph::new(lines), detail);
    }
}
