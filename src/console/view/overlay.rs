//! What lies over a sheet, never over bar or band: help, the palette, a filter, reading all,
//! a refusal, the gate, and the keys that come next.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Clear, Widget as _};
use unicode_width::UnicodeWidthStr as _;

use super::super::command::Action;
use super::super::event::Moment;
use super::super::model::{Model, Overlay};
use super::super::sure::Sure;
use super::super::theme::Role;
use super::super::update::suggestions;
use super::glyph::Border;
use super::page::{Page, fit, left};
use super::{gate, parts, piece};
use crate::model::Span;
use crate::picture::{Ink, Said};

/// The next keys appear after so long.
pub(in super::super) const HINT_AFTER: Span = Span::millis(150);

pub(super) fn draw(model: &Model, page: &Page<'_>, frame: &mut Frame<'_>, area: Rect) {
    match &model.overlay {
        None => {}
        Some(Overlay::Help { scroll, filter }) => help(model, frame, area, *scroll, filter),
        Some(Overlay::Palette { input, selected }) => {
            palette(model, frame, area, input, *selected);
        }
        Some(Overlay::Filter(input)) => filter(model, frame, area, input),
        Some(Overlay::ReadAll { scroll }) => read_all(model, page, frame, area, *scroll),
        Some(Overlay::Refused { check, why }) => refused(model, frame, area, check, why),
        Some(Overlay::Confirm(confirm)) => gate::draw(model, frame, area, confirm),
        Some(Overlay::Sure(sure)) => self::sure(model, frame, area, sure),
    }
}

/// A framed window in the middle of `area`; what is inside it.
pub(super) fn window(
    model: &Model,
    frame: &mut Frame<'_>,
    area: Rect,
    size: (u16, u16),
    title: &str,
    border: Border,
    role: Role,
) -> Rect {
    let (width, height) = (size.0.min(area.width), (size.1 + 2).min(area.height));
    let outer = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, outer);
    let buffer = frame.buffer_mut();
    buffer.set_style(outer, model.theme.style(Role::Text));
    let chars = model.glyphs.frame(border);
    // The gate's border is drawn in its ink, not filled.
    let line = if role == Role::BadBadge { Role::Bad } else { role };
    let style = model.theme.style(line);
    for y in outer.y..outer.bottom() {
        buffer.set_string(outer.x, y, chars.down, style);
        buffer.set_string(outer.right() - 1, y, chars.down, style);
    }
    for x in outer.x..outer.right() {
        buffer.set_string(x, outer.y, chars.across, style);
        buffer.set_string(x, outer.bottom() - 1, chars.across, style);
    }
    let ends = [
        (outer.x, outer.y),
        (outer.right() - 1, outer.y),
        (outer.x, outer.bottom() - 1),
        (outer.right() - 1, outer.bottom() - 1),
    ];
    for ((x, y), corner) in ends.into_iter().zip(chars.corners) {
        buffer.set_string(x, y, corner, style);
    }
    let title = format!(" {} ", fit(title, usize::from(outer.width).saturating_sub(6)));
    let title =
        if model.glyphs == super::Glyphs::Ascii { title.replace(" · ", " - ") } else { title };
    buffer.set_string(outer.x + 2, outer.y, title, model.theme.style(role));
    Rect {
        x: outer.x + 1,
        y: outer.y + 1,
        width: outer.width - 2,
        height: outer.height.saturating_sub(2),
    }
}

/// Lines from where they were scrolled to; what is above and below is said.
fn scrolled(
    model: &Model,
    lines: Vec<Line<'static>>,
    scroll: usize,
    area: Rect,
    frame: &mut Frame<'_>,
) {
    let height = usize::from(area.height);
    let top = scroll.min(lines.len().saturating_sub(height));
    let below = lines.len().saturating_sub(top + height);
    let total = lines.len();
    for (y, line) in lines.into_iter().skip(top).take(height).enumerate() {
        let at = Rect { y: area.y + u16::try_from(y).unwrap_or(0), height: 1, ..area };
        line.render(at, frame.buffer_mut());
    }
    if total > height {
        let words = format!(" {} of {total} lines, {below} below ", top + height.min(total));
        let width = u16::try_from(words.width()).unwrap_or(0);
        let at =
            Rect { x: area.right().saturating_sub(width + 1), y: area.bottom(), width, height: 1 };
        if at.bottom() <= frame.area().bottom() {
            Line::from(piece(model, Ink::Muted, words)).render(at, frame.buffer_mut());
        }
    }
}

/// The commands that help lists, in its order.
fn help_lines(model: &Model, width: usize, filter: &str) -> Vec<Line<'static>> {
    let mut lines = vec![];
    let wanted = filter.to_lowercase();
    let fits = |a: &Action| {
        wanted.is_empty() || a.name().contains(&wanted) || a.doc().to_lowercase().contains(&wanted)
    };
    let here = super::page(model).keys;
    let plain = |a: &Action| !a.is_mutating() && !a.is_reserved();
    let groups: [(&str, Vec<Action>); 4] = [
        ("THIS PLACE", here.clone()),
        (
            "COMMANDS THAT LEAD TO A CHANGE   no key, typed only",
            Action::ALL.iter().copied().filter(|a| a.is_mutating()).collect(),
        ),
        (
            "THE SAME EVERYWHERE",
            Action::ALL.iter().copied().filter(|a| plain(a) && !here.contains(a)).collect(),
        ),
        ("LATER", Action::ALL.iter().copied().filter(|a| a.is_reserved()).collect()),
    ];
    for (title, actions) in groups {
        let actions: Vec<Action> = actions.into_iter().filter(fits).collect();
        if actions.is_empty() {
            continue;
        }
        lines.push(Line::from(piece(model, Ink::Strong, format!(" {title}"))));
        for action in actions {
            let keys = if action.is_mutating() {
                format!(":{}", action.name())
            } else {
                model.keymap.keys_of(action).join(" ")
            };
            let keys = if keys.is_empty() { format!(":{}", action.name()) } else { keys };
            let said = match action.unavailable(model) {
                None => Said::text(action.doc()),
                Some(why) => Said::new()
                    .say(Ink::Bad, format!("{} not now: ", model.glyphs.held(false).0))
                    .say(Ink::Text, why)
                    .say(Ink::Muted, format!(" · {}", action.doc())),
            };
            lines.extend(parts::labelled(model, &format!("  {keys}"), Ink::Key, &said, 18, width));
        }
    }
    lines
}

fn help(model: &Model, frame: &mut Frame<'_>, area: Rect, scroll: usize, filter: &str) {
    let width = area.width.min(if area.width >= 120 { 112 } else { 78 });
    let title = format!("WHAT WORKS HERE · {} · type to find: {filter}_", model.place().name());
    let inside = window(model, frame, area, (width, area.height), &title, Border::Light, Role::Key);
    let lines = help_lines(model, usize::from(inside.width), filter);
    scrolled(model, lines, scroll, inside, frame);
}

/// How far help and reading all can be scrolled.
pub(in super::super) fn scroll_max(model: &Model) -> usize {
    let width =
        usize::from(model.size.0.min(if model.size.0 >= 120 { 112 } else { 78 })).saturating_sub(2);
    match &model.overlay {
        Some(Overlay::Help { filter, .. }) => help_lines(model, width, filter)
            .len()
            .saturating_sub(usize::from(super::sheet_of(model).height).saturating_sub(2)),
        Some(Overlay::ReadAll { .. }) => {
            let lines =
                all_of(model, &super::page(model), usize::from(model.size.0).saturating_sub(2));
            lines.len().saturating_sub(read_rows(model.size.1))
        }
        _ => 0,
    }
}

fn read_rows(height: u16) -> usize {
    usize::from(height / 2 + 2)
}

/// The band in full, then the panel that is looked at, then what its selected row says.
pub(in super::super) fn all_of(model: &Model, page: &Page<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![];
    if model.view().is_some() {
        for line in super::zones::about(model) {
            lines.extend(parts::labelled(
                model,
                line.label.word(),
                Ink::Muted,
                &line.said,
                13,
                width,
            ));
        }
        lines.push(Line::default());
    }
    for said in &page.detail {
        lines.extend(parts::said(model, said, 1, width));
    }
    if let Some(panel) = page.focused(model) {
        if panel.id == "nodes" {
            let chosen = panel.selected(model);
            let node = model.view().and_then(|v| {
                v.nodes.iter().find(|n| Some(n.node.as_str()) == chosen.as_deref()).map(|n| (v, n))
            });
            if let Some((view, node)) = node {
                for said in super::node::in_words(view, node) {
                    lines.extend(parts::said(model, &said, 1, width));
                }
            }
        }
        if panel.id == "records" {
            let chosen = panel.selected(model).and_then(|k| k.parse::<u64>().ok());
            let records = model.records();
            if let Some(r) = records.iter().find(|r| Some(r.number) == chosen) {
                lines.extend(parts::said(model, &Said::text(r.record.text.clone()), 1, width));
                let data = serde_json::to_string_pretty(&r.record.data).unwrap_or_default();
                for line in data.lines() {
                    lines.extend(parts::said(model, &Said::text(line.to_owned()), 1, width));
                }
                lines.extend(parts::said(model, &Said::text(format!("hash {}", r.hash)), 1, width));
            }
        } else {
            lines.extend(panel.all_lines());
        }
    }
    if let Some(told) = &model.told {
        lines.push(Line::default());
        lines.extend(parts::labelled(
            model,
            "told",
            Ink::Muted,
            &Said::text(told.text.clone()),
            13,
            width,
        ));
    }
    lines
}

fn read_all(model: &Model, page: &Page<'_>, frame: &mut Frame<'_>, area: Rect, scroll: usize) {
    let height = u16::try_from(read_rows(model.size.1)).unwrap_or(10);
    let lower = Rect {
        y: area.bottom().saturating_sub((height + 2).min(area.height)),
        height: (height + 2).min(area.height),
        ..area
    };
    let inside = window(
        model,
        frame,
        lower,
        (area.width, height),
        "ALL OF IT · y copies · Esc closes",
        Border::Light,
        Role::Key,
    );
    let lines = all_of(model, page, usize::from(inside.width));
    scrolled(model, lines, scroll, inside, frame);
}

fn refused(model: &Model, frame: &mut Frame<'_>, area: Rect, check: &str, why: &str) {
    let width = usize::from(area.width.min(78)).saturating_sub(4);
    let mut lines = vec![Line::default()];
    lines.extend(parts::said(model, &Said::from_words(why, Ink::Text), 2, width));
    lines.push(Line::default());
    lines.extend(parts::said(
        model,
        &Said::new()
            .say(Ink::Muted, "Nothing was changed. A refusal is normal; w shows every check."),
        2,
        width,
    ));
    let height = u16::try_from(lines.len() + 1).unwrap_or(8);
    let title = format!("REFUSED: {check}");
    let inside = window(model, frame, area, (78, height), &title, Border::Light, Role::Bad);
    scrolled(model, lines, 0, inside, frame);
}

fn sure(model: &Model, frame: &mut Frame<'_>, area: Rect, sure: &Sure) {
    let width = usize::from(area.width.min(78)).saturating_sub(4);
    let mut lines = vec![Line::default()];
    let (before, after) = sure.may_fail();
    let left = sure.voters.saturating_sub(1);
    let to = model.glyphs.to();
    let what = Said::new().say(Ink::Strong, sure.node.as_str()).say(
        Ink::Text,
        " neither votes nor confirms commits any more; its database is not stopped.",
    );
    lines.extend(parts::said(model, &what, 2, width));
    let cost = Said::text(format!("voters {} {to} {left} · may fail {before} {to} ", sure.voters))
        .say(if after < before { Ink::Bad } else { Ink::Text }, after.to_string());
    lines.extend(parts::said(model, &cost, 2, width));
    lines.push(Line::default());
    lines.extend(parts::said(model, &Said::text("Type the node's name to remove it:"), 2, width));
    lines.push(Line::from(vec![
        piece(model, Ink::Warn, "  remove "),
        piece(model, Ink::Strong, format!(" {}_", sure.typed)),
    ]));
    let said = if sure.hint.is_empty() {
        Said::new().say(Ink::Muted, "paste is refused · Enter alone or Esc cancels")
    } else {
        Said::new().say(Ink::Bad, sure.hint.clone()).say(Ink::Text, ". Nothing was asked for.")
    };
    lines.extend(parts::said(model, &said, 2, width));
    let height = u16::try_from(lines.len()).unwrap_or(10);
    let title = format!("{} LOSES ITS VOTE", sure.node);
    let inside = window(model, frame, area, (78, height), &title, Border::Light, Role::Warn);
    scrolled(model, lines, 0, inside, frame);
}

fn filter(model: &Model, frame: &mut Frame<'_>, area: Rect, input: &tui_input::Input) {
    let at = Rect { y: area.bottom() - 1, x: area.x + 2, width: area.width - 4, height: 1 };
    frame.render_widget(Clear, at);
    let line = Line::from(vec![
        piece(model, Ink::Key, " /"),
        piece(model, Ink::Strong, format!("{}_ ", input.value())),
        piece(model, Ink::Muted, " Enter keeps it, Esc clears it "),
    ]);
    line.render(at, frame.buffer_mut());
}

fn palette(
    model: &Model,
    frame: &mut Frame<'_>,
    area: Rect,
    input: &tui_input::Input,
    selected: usize,
) {
    let wide = area.width.min(if area.width >= 120 { 100 } else { 78 });
    let all = suggestions(input.value());
    let title = format!("COMMAND · {} of {} match", all.len(), Action::ALL.len());
    let inside = window(model, frame, area, (wide, 15), &title, Border::Light, Role::Key);
    let width = usize::from(inside.width);
    let (before, after) = input.value().split_at(
        input.value().char_indices().nth(input.cursor()).map_or(input.value().len(), |(i, _)| i),
    );
    let mut lines = vec![Line::from(vec![
        piece(model, Ink::Key, " :"),
        piece(model, Ink::Strong, format!("{before}_{after}")),
    ])];
    let word = input.value().split(' ').next().unwrap_or_default();
    let named = Action::by_name(word);
    let room = usize::from(inside.height).saturating_sub(4);
    let top = selected.saturating_sub(room.saturating_sub(1));
    let list: Vec<Action> = match named {
        Some(action) if input.value().contains(' ') => vec![action],
        _ => all,
    };
    if list.is_empty() {
        lines.push(Line::from(piece(model, Ink::Bad, format!("   there is no command {word:?}"))));
    }
    for (i, action) in list.iter().enumerate().skip(top).take(room) {
        let keys = if action.is_mutating() {
            "typed".to_owned()
        } else {
            model.keymap.keys_of(*action).into_iter().next().unwrap_or_default()
        };
        let (ink, text) = match action.unavailable(model) {
            None => (Ink::Text, action.doc().to_owned()),
            Some(why) => (Ink::Muted, format!("{} not now: {why}", model.glyphs.held(false).0)),
        };
        let on = i == selected;
        let mark = if on { model.glyphs.selected() } else { " " };
        let head = format!(" {mark} {:<14} {} ", action.name(), left(&keys, 6));
        let room = width.saturating_sub(26);
        let first = crate::picture::wrap_words(&text, room).swap_remove(0);
        let name_ink = if on { Ink::Strong } else { Ink::Text };
        lines.push(Line::from(vec![piece(model, name_ink, head), piece(model, ink, first)]));
    }
    let chosen = named.or_else(|| list.get(selected).copied());
    let mut below = vec![];
    if let Some(action) = chosen {
        let said = match action.unavailable(model) {
            Some(why) => Said::new().say(Ink::Bad, format!("not now: {why}")),
            None => Said::text(action.doc()),
        };
        below.extend(parts::said(model, &said, 1, width));
        if let Some(twin) = action.twin() {
            below.extend(parts::labelled(model, "as", Ink::Muted, &Said::text(twin), 5, width));
        }
    }
    let height = usize::from(inside.height);
    lines.truncate(height.saturating_sub(below.len()));
    while lines.len() + below.len() < height {
        lines.push(Line::default());
    }
    lines.extend(below);
    scrolled(model, lines, 0, inside, frame);
}

/// The keys that may come next, once the first has been held back for a moment.
pub(super) fn which_key(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let Some((keys, since)) = &model.prefix else { return };
    let Moment { now, .. } = model.moment;
    if now.since(*since) < HINT_AFTER {
        return;
    }
    let next = model.keymap.after(keys);
    let columns = usize::from(area.width.saturating_sub(4)) / 18;
    let rows = next.len().div_ceil(columns.max(1));
    let height = u16::try_from(rows).unwrap_or(4);
    let at = Rect { y: area.bottom().saturating_sub(height + 3), height: height + 3, ..area };
    let title =
        format!("{} · GO TO · no letter here changes anything", super::super::keymap::labels(keys));
    let inside =
        window(model, frame, at, (area.width, height + 1), &title, Border::Light, Role::Key);
    for (row, chunk) in next.chunks(columns.max(1)).enumerate() {
        let mut pieces = vec![piece(model, Ink::Text, " ")];
        for (key, action) in chunk {
            pieces.push(piece(model, Ink::Key, format!("{key} ")));
            pieces.push(piece(model, Ink::Text, left(action.short(), 16)));
        }
        let y = inside.y + u16::try_from(row).unwrap_or(0);
        if y < inside.bottom() {
            Line::from(pieces).render(Rect { y, height: 1, ..inside }, frame.buffer_mut());
        }
    }
}
