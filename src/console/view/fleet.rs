//! Every cluster, one row each.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::Paragraph;

use super::super::model::Model;
use super::super::theme::Role;
use super::{piece, words};
use crate::model::view::ClusterView;

pub(super) fn draw(model: &Model, view: &ClusterView, frame: &mut Frame<'_>, area: Rect) {
    let head = format!(
        " {:<16} {:<10} {:<12} {:<8} {:<7} {}",
        "cluster", "state", "primary", "epoch", "votes", "phase"
    );
    let mut lines = vec![Line::default(), Line::from(piece(model, Role::Muted, head))];
    let (glyph, role) = words::state(model, view.state);
    let primary = view.primary.as_ref().map_or("nobody", |p| p.as_str());
    lines.push(Line::from(vec![
        Text::styled(
            format!(" {:<16}", words::cut(&view.name, 16)),
            model.theme.style(Role::Selected),
        ),
        piece(model, role, format!(" {glyph} {:<8}", view.state.word())),
        piece(
            model,
            Role::Text,
            format!(
                " {primary:<12} {:<8} {:<7} {}",
                view.epoch,
                format!("{}/{}", view.votes, view.voters),
                view.phase.phase.word()
            ),
        ),
    ]));
    lines.push(Line::default());
    for text in [&view.why, &view.outlook.if_primary_died] {
        for line in words::wrap(text, usize::from(area.width).saturating_sub(4)) {
            lines.push(Line::from(piece(model, Role::Muted, format!("   {line}"))));
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}
