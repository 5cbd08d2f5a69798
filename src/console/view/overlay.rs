//! What lies over a screen: help, the palette, the gate.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use super::super::command::Action;
use super::super::confirm::Confirm;
use super::super::model::{Model, Overlay};
use super::super::theme::Role;
use super::super::update::suggestions;
use super::{piece, plan, words};

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    match &model.overlay {
        None => {}
        Some(Overlay::Help { scroll }) => help(model, frame, area, *scroll),
        Some(Overlay::Palette { input, selected }) => palette(model, frame, area, input, *selected),
        Some(Overlay::Confirm(confirm)) => gate(model, frame, area, confirm),
    }
}

fn window(
    model: &Model,
    frame: &mut Frame<'_>,
    area: Rect,
    size: (u16, u16),
    title: &str,
    role: Role,
) -> Rect {
    let (width, height) =
        (size.0.min(area.width.saturating_sub(2)), size.1.min(area.height.saturating_sub(2)));
    let outer = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, outer);
    frame.buffer_mut().set_style(outer, model.theme.style(Role::Text));
    let block = Block::bordered()
        .title(format!(" {title} "))
        .border_style(model.theme.style(role))
        .title_style(model.theme.style(role));
    let inner = block.inner(outer);
    frame.render_widget(block, outer);
    inner
}

fn help(model: &Model, frame: &mut Frame<'_>, area: Rect, scroll: usize) {
    let inner = window(model, frame, area, (100, 30), "what works here (Esc closes)", Role::Key);
    let width = usize::from(inner.width);
    let lines: Vec<Line<'_>> = Action::ALL
        .into_iter()
        .map(|action| {
            let keys = if action.is_mutating() {
                format!(":{}", action.name())
            } else {
                model.keymap.keys_of(action).join(" ")
            };
            let (role, text) = match action.unavailable(model) {
                None => (Role::Text, action.doc().to_owned()),
                Some(why) => (Role::Muted, format!("not now: {why}")),
            };
            let head = format!("{:<12} {:<11} ", words::cut(&keys, 12), action.name());
            Line::from(vec![
                piece(model, Role::Key, head),
                piece(model, role, words::cut(&text, width.saturating_sub(25))),
            ])
        })
        .collect();
    let top = scroll.min(lines.len().saturating_sub(usize::from(inner.height)));
    frame.render_widget(Paragraph::new(lines.into_iter().skip(top).collect::<Vec<_>>()), inner);
}

fn palette(model: &Model, frame: &mut Frame<'_>, area: Rect, input: &str, selected: usize) {
    let inner =
        window(model, frame, area, (90, 14), "command (Tab completes, Esc closes)", Role::Key);
    let width = usize::from(inner.width);
    let mut lines = vec![Line::from(vec![
        piece(model, Role::Key, ":"),
        piece(model, Role::Title, format!("{input}_")),
    ])];
    for (i, action) in
        suggestions(input).into_iter().take(usize::from(inner.height).saturating_sub(1)).enumerate()
    {
        let keys = if action.is_mutating() {
            "plan".to_owned()
        } else {
            model.keymap.keys_of(action).join(" ")
        };
        let why = action.unavailable(model);
        let text = why.as_ref().map_or(action.doc().to_owned(), |w| format!("not now: {w}"));
        let row = format!(
            "{} {:<11} {:<10} {text}",
            if i == selected { ">" } else { " " },
            action.name(),
            words::cut(&keys, 10)
        );
        let role = if i == selected {
            Role::Selected
        } else if why.is_some() {
            Role::Muted
        } else {
            Role::Text
        };
        lines.push(Line::from(piece(model, role, words::cut(&row, width))));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn gate(model: &Model, frame: &mut Frame<'_>, area: Rect, confirm: &Confirm) {
    let inner = window(model, frame, area, (78, 14), "execute this plan", Role::Danger);
    let width = usize::from(inner.width).saturating_sub(2);
    let plan_of = &confirm.plan;
    let demoted = confirm.demoted();
    let mut lines = vec![
        Line::from(piece(
            model,
            Role::Title,
            format!(
                " {} {demoted} → {}   plan {}   epoch {}",
                plan_of.kind.word(),
                plan_of.to.node,
                confirm.digest().short(),
                plan_of.epoch
            ),
        )),
        Line::from(vec![
            piece(model, Role::Text, " loss: "),
            piece(model, plan::loss_role(&plan_of.loss), plan_of.loss.short()),
        ]),
    ];
    for line in words::wrap(plan_of.loss.reason(), width.saturating_sub(7)).into_iter().take(3) {
        lines.push(Line::from(piece(model, Role::Muted, format!("       {line}"))));
    }
    lines.push(Line::default());
    lines.push(Line::from(piece(
        model,
        Role::Text,
        format!(" Type the name of the node that loses the write role ({demoted}), then Enter."),
    )));
    lines.push(Line::from(piece(model, Role::Muted, " Enter alone or Esc cancels.")));
    lines.push(Line::default());
    lines.push(Line::from(vec![
        piece(model, Role::Danger, " demote "),
        piece(model, Role::Title, format!(" {}_", confirm.typed)),
    ]));
    if !confirm.hint.is_empty() {
        lines.push(Line::from(piece(model, Role::Bad, format!(" {}", confirm.hint))));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}
