//! The gate: who loses the role, who gets it, what it costs, what it is armed on, and one field.
//! It is the only thick frame in the program.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span as Text};

use super::super::confirm::{Confirm, Field};
use super::super::model::Model;
use super::super::theme::Role;
use super::glyph::Border;
use super::{overlay, parts, piece};
use crate::model::plan::PlanKind;
use crate::picture::{Ink, Said, number, ways};

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect, confirm: &Confirm) {
    let environment = model.view().map_or(String::new(), |v| v.environment.clone());
    let name = model.view().map_or(String::new(), |v| v.name.clone());
    let width = usize::from(area.width.min(78)).saturating_sub(4);
    let mut lines = what(model, confirm, width);
    let armed = armed(model, confirm, width);
    let field = field(model, confirm, width);
    let room = usize::from(area.height).saturating_sub(2);
    // The field and what it is armed on are always there; what is above them gives way, and then
    // nothing is confirmed.
    let below = field.len() + armed.len() + 1;
    if lines.len() + below > room {
        lines.retain(|l| l.width() > 0);
        lines.truncate(room.saturating_sub(below));
    }
    lines.extend(field);
    let title = format!("{environment} · THIS MOVES THE WRITE ROLE OF {name}");
    let (border, role) = if confirm.broken.is_some() {
        (Border::Light, Role::Line)
    } else {
        (Border::Thick, Role::BadBadge)
    };
    let height = u16::try_from(lines.len() + armed.len() + 1).unwrap_or(u16::MAX);
    let inside = overlay::window(model, frame, area, (78, height), &title, border, role);
    let buffer = frame.buffer_mut();
    let at = |y: usize| Rect {
        y: inside.y + u16::try_from(y).unwrap_or(0).min(inside.height.saturating_sub(1)),
        height: 1,
        ..inside
    };
    use ratatui::widgets::Widget as _;
    let first = lines.len();
    for (y, line) in lines.into_iter().enumerate() {
        line.render(at(y), buffer);
    }
    let rule = model.glyphs.rest().repeat(usize::from(inside.width).saturating_sub(2));
    Line::from(piece(model, Ink::Muted, format!(" {rule}"))).render(at(first), buffer);
    Line::from(piece(model, Ink::Strong, " ARMED ON "))
        .render(Rect { x: inside.x + 2, width: 12, ..at(first) }, buffer);
    for (y, line) in armed.into_iter().enumerate() {
        line.render(at(first + 1 + y), buffer);
    }
}

/// Lines of what it does that a sheet of that size has no room for.
pub(super) fn missing(model: &Model, area: Rect, confirm: &Confirm) -> usize {
    let width = usize::from(area.width.min(78)).saturating_sub(4);
    let words = what(model, confirm, width).iter().filter(|l| l.width() > 0).count();
    let below = field(model, confirm, width).len() + armed(model, confirm, width).len() + 1;
    (words + below).saturating_sub(usize::from(area.height).saturating_sub(2))
}

fn what(model: &Model, confirm: &Confirm, width: usize) -> Vec<Line<'static>> {
    let plan = &confirm.plan;
    let mut lines = vec![Line::default()];
    let demoted = Said::new().say(Ink::Strong, confirm.demoted().as_str());
    let moves = if plan.kind == PlanKind::Resume {
        demoted.say(Ink::Text, " takes the write role back that it held last")
    } else {
        demoted
            .say(Ink::Text, format!(" loses the write role {} ", model.glyphs.to()))
            .say(Ink::Strong, plan.to.node.as_str())
            .say(Ink::Text, " gets it")
    };
    lines.extend(parts::said(model, &moves, 2, width));
    lines.push(Line::default());
    let mut loss = ways::loss(&plan.loss);
    if !plan.loss.reason().is_empty() {
        loss = loss.then(1, ": ").say(Ink::Text, plan.loss.reason());
    }
    for words in plan.loss.excluded() {
        loss = loss.then(1, " · ").say(Ink::Warn, format!("not counted: {words}"));
    }
    lines.extend(parts::labelled(model, " loss", Ink::Muted, &loss, 13, width));
    for (i, words) in plan.blast_radius.iter().enumerate() {
        let label = if i == 0 { " noticed" } else { "" };
        let said = Said::text(words.clone());
        lines.extend(parts::labelled(model, label, Ink::Muted, &said, 13, width));
    }
    if !plan.way_back.is_empty() {
        let said = Said::text(plan.way_back.clone());
        lines.extend(parts::labelled(model, " way back", Ink::Muted, &said, 13, width));
    }
    lines.push(Line::default());
    lines
}

fn field(model: &Model, confirm: &Confirm, width: usize) -> Vec<Line<'static>> {
    if let Some(broken) = &confirm.broken {
        let said = Said::new()
            .say(Ink::Bad, format!("Closed: {}.", broken.why))
            .say(Ink::Text, " Nothing was done. Esc, then read the plan again.");
        return parts::said(model, &said, 2, width);
    }
    let (prompt, label) = match confirm.field {
        Field::Loss => (
            Said::text("What is lost is ")
                .say(Ink::Bad, "unknown")
                .say(Ink::Text, ". Type that word to accept it; the name comes after:"),
            " loss ",
        ),
        Field::Name if confirm.plan.kind == PlanKind::Resume => (
            Said::text("Type the name of the node that takes the role ")
                .say(Ink::Strong, "back")
                .say(Ink::Text, ":"),
            " resume ",
        ),
        Field::Name => (
            Said::text("Type the name of the node that ")
                .say(Ink::Strong, "loses")
                .say(Ink::Text, " the role:"),
            " demote ",
        ),
    };
    let mut lines = parts::said(model, &prompt, 2, width);
    lines.push(Line::from(vec![
        Text::raw("  "),
        Text::styled(label, model.theme.style(Role::BadBadge)),
        piece(model, Ink::Strong, format!(" {}_", confirm.typed)),
    ]));
    let (same, of) = confirm.matching();
    let said = if !confirm.hint.is_empty() {
        Said::new().say(Ink::Bad, confirm.hint.clone()).say(Ink::Text, ". Nothing was changed.")
    } else if same == of && model.moment.now >= confirm.ready_at() {
        Said::new().say(Ink::Warn, "Enter executes it").say(Ink::Muted, " · Esc cancels")
    } else {
        Said::new().say(
            Ink::Muted,
            format!("{same} of {of} letters match · paste is refused · Enter alone or Esc cancels"),
        )
    };
    lines.extend(parts::said(model, &said, 2, width));
    lines
}

fn armed(model: &Model, confirm: &Confirm, width: usize) -> Vec<Line<'static>> {
    let broken = confirm.broken.as_ref().map(|b| b.part);
    let age = model.age().map_or("unknown".into(), number::age);
    let parts_of = [
        ("cluster", confirm.cluster().as_str().to_owned()),
        ("epoch", format!("epoch {}", confirm.epoch())),
        ("plan", confirm.digest().short().to_owned()),
        ("picture", format!("picture {age}")),
    ];
    let mut said = Said::new();
    for (part, words) in parts_of {
        let (mark, ink) = model.glyphs.held(broken != Some(part));
        said = said.say(ink, format!("{mark}\u{a0}{} ", words.replace(' ', "\u{a0}")));
        said = said.say(Ink::Text, " ");
    }
    parts::said(model, &said, 2, width)
}
