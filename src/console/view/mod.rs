//! Drawing: a model → a frame, and nothing else. Four zones that never move: bar, band, sheet,
//! keys. `page` is what a sheet is made of; one file a screen. At 80×24 everything essential is
//! there; a wider screen adds, it never rearranges.

mod audit;
mod chart;
mod cluster;
mod fleet;
mod gate;
mod glyph;
mod node;
mod overlay;
mod page;
mod parts;
mod plan;
mod run;
mod settings;
mod why;
mod zones;

use ratatui::Frame;
use ratatui::buffer::Cell;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::text::Span as Text;
use ratatui::widgets::{Clear, Paragraph};

use super::event::Link;
use super::model::{Model, Overlay, Screen};
use super::theme::Role;
use crate::picture::{Ink, SIMULATED, Said};
pub use audit::record_passes;
pub(super) use fleet::next_trouble;
use glyph::Border;
pub use glyph::Glyphs;
pub(super) use overlay::{HINT_AFTER, scroll_max};
pub(super) use page::Page;
pub(super) use settings::choices;

/// Smaller terminals get a card that says so.
pub const SIZE_MIN: (u16, u16) = (72, 21);

/// Draws.
pub fn view(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    frame.buffer_mut().set_style(area, model.theme.style(Role::Text));
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        too_small(model, frame, area);
    } else {
        draw(model, frame, area);
    }
    if model.glyphs == Glyphs::Ascii {
        glyph::twins(frame.buffer_mut());
    }
    if let Some(ground) = model.theme.ground_on(model.on_light) {
        let bare = |cell: &&mut Cell| cell.bg == Color::Reset;
        let cells = frame.buffer_mut().content.iter_mut();
        cells.filter(bare).for_each(|cell| _ = cell.set_bg(ground));
    }
}

/// Between the band and the keys.
fn sheet_below(band: usize, area: Rect) -> Rect {
    let band = u16::try_from(band).unwrap_or(3);
    Rect { y: area.y + 1 + band, height: area.height.saturating_sub(2 + band), ..area }
}

/// The sheet as it is drawn.
fn sheet_of(model: &Model) -> Rect {
    let area = Rect::new(0, 0, model.size.0, model.size.1);
    sheet_below(zones::band(model, area).len(), area)
}

/// Lines of the open gate that the terminal has no room for.
pub(super) fn gate_missing(model: &Model, confirm: &super::confirm::Confirm) -> usize {
    gate::missing(model, sheet_of(model), confirm)
}

fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let page = page(model);
    let lines = zones::band(model, area);
    let sheet = sheet_below(lines.len(), area);
    let band = sheet.y - area.y - 1;
    zones::bar(model, frame, Rect { height: 1, ..area });
    zones::draw_band(model, frame, lines, Rect { y: area.y + 1, height: band, ..area });
    let manner = manner(model);
    let focus = page.focused(model).map(|p| p.id);
    let (left, right) = columns(sheet, !page.side.is_empty());
    let foot = foot(model, &page);
    page::sheet(model, &page.panels, focus, &foot, manner, left, frame.buffer_mut());
    if let Some(right) = right {
        let second = Rect { x: right.right(), ..right };
        let here =
            if second.right() <= area.right() { page.side.len().div_ceil(2) } else { usize::MAX };
        let (first, last) = page.side.split_at(here.min(page.side.len()));
        let none = Said::new();
        page::sheet(model, first, focus, &none, manner, right, frame.buffer_mut());
        if second.right() <= area.right() {
            page::sheet(model, last, focus, &none, manner, second, frame.buffer_mut());
        }
    }
    if model.overlay.is_some() {
        // What is behind a dialog steps back; bar and band stay bright.
        if !matches!(model.overlay, Some(Overlay::Filter(_))) {
            frame.buffer_mut().set_style(sheet, model.theme.style(Role::Line));
        }
        overlay::draw(model, &page, frame, sheet);
    }
    overlay::which_key(model, frame, sheet);
    zones::keys(model, &page, frame, Rect { y: area.bottom() - 1, height: 1, ..area });
}

/// The main sheet and the one beside it.
fn columns(area: Rect, beside: bool) -> (Rect, Option<Rect>) {
    let side = match area.width {
        0..120 => 0,
        120..160 => 40,
        160..200 => 52,
        // Two beside each other.
        _ => 46,
    };
    if side == 0 || !beside {
        return (area, None);
    }
    let sheets = if area.width < 200 { 1 } else { 2 };
    let left = Rect { width: area.width - side * sheets, ..area };
    (left, Some(Rect { x: left.right(), width: side, ..area }))
}

/// Cells inside the main sheet, and inside the one beside it where there is one.
fn widths(model: &Model) -> (usize, Option<usize>) {
    let (left, side) = columns(Rect::new(0, 0, model.size.0, 1), true);
    (usize::from(left.width).saturating_sub(2), side.map(|s| usize::from(s.width) - 2))
}

fn manner(model: &Model) -> page::Manner {
    let simulated = model.view().is_some_and(|v| v.simulated);
    let old = model.frozen.is_none() && model.stale().is_some() && model.shown().is_some();
    if old && model.place() != Screen::Settings && model.place() != Screen::Log {
        page::Manner { border: Border::Dashed, role: Role::Muted, muted: true }
    } else if simulated {
        page::Manner { border: Border::Double, role: Role::Unreal, muted: false }
    } else {
        page::Manner { border: Border::Light, role: Role::Line, muted: false }
    }
}

/// The lower border of the sheet: what was told last, else what the page has to say.
fn foot(model: &Model, page: &Page<'_>) -> Said {
    if let Some(told) = &model.told {
        let (mark, ink) = if told.bad {
            (model.glyphs.held(false).0, Ink::Bad)
        } else {
            (model.glyphs.held(true).0, Ink::Good)
        };
        return Said::new().say(ink, format!("{mark} ")).and(
            0,
            "",
            Said::from_words(&told.text, if told.bad { Ink::Bad } else { Ink::Text }),
        );
    }
    if let Some(since) = model.calling {
        let waits = crate::picture::number::since(model.moment.now.since(since));
        return Said::new().say(Ink::Warn, format!("waiting for the plane's answer since {waits}"));
    }
    if let Link::Lost { why, .. } = &model.link {
        return Said::new()
            .say(Ink::Bad, why.clone())
            .then(1, " · ")
            .say(Ink::Muted, "commands that change anything are off");
    }
    if model.view().is_some_and(|v| v.simulated) {
        let simulated = Said::new().say(Ink::Muted, SIMULATED);
        return simulated.and(1, " · ", page.foot.clone());
    }
    page.foot.clone()
}

/// The page of the screen that is looked at: what is drawn, and what keys move in.
pub(super) fn page(model: &Model) -> Page<'_> {
    let Some(view) = model.view() else {
        return match model.place() {
            Screen::Settings => settings::page(model),
            Screen::Log => settings::log(model),
            _ => zones::waiting(model),
        };
    };
    match model.place() {
        Screen::Fleet => fleet::page(model),
        Screen::Cluster => cluster::page(model, view),
        Screen::Node => match model.node_view() {
            Some(node) => node::page(model, view, node),
            None => cluster::page(model, view),
        },
        Screen::Plan => plan::page(model, view),
        Screen::Run => run::page(model, view),
        Screen::Audit => audit::page(model, view),
        Screen::Why => why::page(model, view),
        Screen::Log => settings::log(model),
        Screen::Settings => settings::page(model),
    }
}

fn too_small(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Clear, area);
    let state = model.view().map_or("no picture yet".to_owned(), |v| {
        let word = if model.stale().is_some() { "UNKNOWN, was " } else { "" };
        format!(
            "{word}{} {}",
            v.state.word(),
            v.primary.as_ref().map_or("no primary".into(), ToString::to_string)
        )
    });
    let text = format!(
        "{state}\ntoo small: {}x{}\nneeds {}x{}\nq leaves",
        area.width, area.height, SIZE_MIN.0, SIZE_MIN.1
    );
    frame.render_widget(Paragraph::new(text).style(model.theme.style(Role::Warn)), area);
}

/// One styled piece.
pub(crate) fn piece(model: &Model, ink: Ink, text: impl Into<String>) -> Text<'static> {
    let text: String = text.into();
    let text = if model.glyphs == Glyphs::Ascii {
        text.replace(" · ", " - ").replace('⏎', "Enter")
    } else {
        text
    };
    Text::styled(text.replace('\u{a0}', " "), model.theme.style(Role::from(ink)))
}

/// All of what is selected, as text to copy.
pub(super) fn all_text(model: &Model) -> String {
    let lines = overlay::all_of(model, &page(model), 100);
    let text = |line: &ratatui::text::Line<'_>| {
        line.spans.iter().map(|s| s.content.as_ref()).collect::<String>().trim_end().to_owned()
    };
    lines.iter().map(text).collect::<Vec<_>>().join("\n")
}
