//! Settings, seen at once and kept between sessions; and what this console told, the last fifty.

use super::super::command::Action;
use super::super::keymap;
use super::super::model::Model;
use super::super::settings::Bell;
use super::super::theme;
use super::page::{Page, Panel, left};
use super::{Glyphs, parts};
use crate::picture::band::{self, Mark};
use crate::picture::{Ink, Said};

/// Every setting with its values and the one in force.
pub(in super::super) fn choices(model: &Model) -> Vec<(&'static str, Vec<&'static str>, usize)> {
    let at = |names: &[&str], now: &str| names.iter().position(|n| *n == now).unwrap_or(0);
    let themes: Vec<&'static str> = theme::BUILT_IN.iter().map(|(n, _)| *n).collect();
    let keymaps: Vec<&'static str> = keymap::BUILT_IN.iter().map(|(n, _)| *n).collect();
    let glyphs: Vec<&'static str> = Glyphs::ALL.iter().map(|g| g.name()).collect();
    let theme_at = at(&themes, &model.theme.name);
    let keymap_at = at(&keymaps, &model.settings.keymap);
    let glyphs_at = at(&glyphs, model.glyphs.name());
    vec![
        ("theme", themes, theme_at),
        ("glyphs", glyphs, glyphs_at),
        ("keymap", keymaps, keymap_at),
        ("mouse", vec!["off", "on"], usize::from(model.settings.mouse)),
        ("zone", vec!["UTC", "local"], usize::from(model.settings.local)),
        ("bell", vec!["needs-me", "never"], usize::from(model.settings.bell == Bell::Never)),
    ]
}

fn doc(name: &str) -> &'static str {
    match name {
        "theme" => "colours; with NO_COLOR or sixteen colours the terminal's own are used",
        "glyphs" => "blocks draws square corners; ascii draws nothing but ASCII",
        "keymap" => "? shows the keys in force; commands that change production have none",
        "mouse" => "the wheel moves and scrolls; it never confirms",
        "zone" => "times in UTC or in local time; the zone is always printed",
        _ => "the terminal's bell when something becomes yours",
    }
}

pub(super) fn band(_model: &Model) -> Vec<band::Line> {
    let said = Said::text("kept for you on this machine; no cluster is touched");
    let file = super::super::settings::Settings::path()
        .map_or("nowhere: there is no home folder".to_owned(), |p| p.display().to_string());
    vec![
        band::Line::badge(Mark::None, Ink::Key, "YOURS", said),
        band::Line::quiet("file", Said::text(file)),
        band::Line::quiet(
            "change",
            Said::new().say(Ink::Key, "⏎").say(Ink::Text, " takes the next value; seen at once"),
        ),
    ]
}

pub(super) fn page(model: &Model) -> Page<'_> {
    let (mut lines, mut marks) = (vec![], vec![]);
    for (name, values, at) in choices(model) {
        marks.push((lines.len(), name.to_owned()));
        let mut said = Said::new();
        for (i, value) in values.iter().enumerate() {
            said = if i == at {
                said.say(Ink::Key, format!("[{value}] "))
            } else {
                said.say(Ink::Muted, format!(" {value}  "))
            };
        }
        lines.extend(parts::labelled(
            model,
            name,
            Ink::Text,
            &said,
            17,
            usize::from(model.size.0).saturating_sub(2),
        ));
        let words = Said::new().say(Ink::Muted, doc(name));
        lines.extend(parts::said(model, &words, 17, usize::from(model.size.0).saturating_sub(2)));
    }
    let mut page = Page::new(vec![Panel::marked("settings", "LOOK, KEYS, TIME", lines, marks)]);
    page.foot = Said::new().say(Ink::Muted, "saved as you change it");
    page.keys = vec![Action::Next, Action::Open, Action::Back];
    page
}

pub(super) fn log(model: &Model) -> Page<'_> {
    let width = usize::from(model.size.0).saturating_sub(2);
    let mut lines = vec![];
    let cells = model.log.front().map_or(9, |oldest| model.clock_cells(oldest.wall));
    for told in model.log.iter().rev() {
        let (mark, ink) = model.glyphs.held(!told.bad);
        let label = format!("{} {mark}", left(&model.clock(told.wall), cells));
        let said = Said::new().say(if told.bad { ink } else { Ink::Text }, told.text.clone());
        lines.extend(parts::labelled(model, &label, Ink::Muted, &said, cells + 5, width));
    }
    if lines.is_empty() {
        lines = parts::said(model, &Said::new().say(Ink::Muted, "Nothing was told yet."), 1, width);
    }
    let mut tries = vec![];
    for (at, what) in model.tries.iter().rev() {
        tries.extend(parts::labelled(
            model,
            &model.clock(*at),
            Ink::Muted,
            &Said::text(what.clone()),
            14,
            width,
        ));
    }
    let mut page = Page::new(vec![
        Panel::lines("told", "WHAT THIS CONSOLE TOLD YOU", lines)
            .fact(Ink::Muted, "newest first")
            .least(4),
        Panel::lines("tries", "THE CONNECTION", tries).fact(Ink::Muted, "newest first").least(2),
    ]);
    page.keys = vec![Action::NextPanel, Action::Copy, Action::Back];
    page
}
