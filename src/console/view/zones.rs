//! Bar, band and keys: who and where, what is wrong and what comes next, what may be pressed or
//! typed here.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span as Text};
use unicode_width::UnicodeWidthStr as _;

use super::super::command::Action;
use super::super::confirm::STALE;
use super::super::event::Link;
use super::super::model::{Access, Model, Overlay, Screen};
use super::super::theme::Role;
use super::page::{Page, Panel, fit};
use super::piece;
use crate::model::Span;
use crate::picture::band::{self, Label, Mark};
use crate::picture::{Gauge, Ink, Said, number};

/// Cells of a label; sentences begin behind them.
const LABEL: u16 = 14;

fn link(model: &Model) -> (Ink, String) {
    let age = model.age();
    let words = |age: Span| {
        // A calm plane sends once a second; its beat is not an age.
        if age.as_millis() < 2_000 {
            "live".to_owned()
        } else {
            format!("live {}", number::age(age))
        }
    };
    let stale = age.is_none_or(|a| a > STALE);
    match (&model.link, age) {
        (_, Some(age)) if stale => (Ink::Warn, format!("STALE {}", number::age(age))),
        (Link::Live { plane: true, .. }, Some(age)) => (Ink::Good, words(age)),
        (Link::Live { target, .. }, Some(_)) => {
            (Ink::Warn, format!("NO PLANE, {}", fit(target, 24)))
        }
        (Link::Lost { .. }, Some(age)) => (Ink::Warn, format!("LOST {}", number::age(age))),
        (_, Some(age)) => (Ink::Warn, format!("connecting {}", number::age(age))),
        (Link::Idle, None) => (Ink::Muted, "starting".into()),
        (_, None) => (Ink::Warn, "connecting".into()),
    }
}

fn crumbs(model: &Model) -> Vec<(Ink, String)> {
    let mut crumbs = vec![(Ink::Muted, "fleet".to_owned())];
    let place = model.place();
    if let Some(view) =
        model.view().filter(|_| !matches!(place, Screen::Fleet | Screen::Log | Screen::Settings))
    {
        crumbs.push((Ink::Muted, view.name.clone()));
        match place {
            Screen::Node => {
                if let Some(node) = &model.node {
                    crumbs.push((Ink::Muted, node.as_str().to_owned()));
                }
            }
            Screen::Plan => {
                let digest = view.plan.as_ref().map(|p| p.digest().short().to_owned());
                crumbs.push((
                    Ink::Muted,
                    format!("plan {}", digest.unwrap_or_default()).trim_end().to_owned(),
                ));
            }
            Screen::Run => {
                let digest = view.run.as_ref().map(|r| r.plan.short().to_owned());
                crumbs.push((
                    Ink::Muted,
                    format!("run {}", digest.unwrap_or_default()).trim_end().to_owned(),
                ));
            }
            Screen::Audit | Screen::Why => crumbs.push((Ink::Muted, place.name().to_owned())),
            _ => {}
        }
    } else if place != Screen::Fleet {
        crumbs = vec![(Ink::Muted, place.name().to_owned())];
    }
    if let Some(last) = crumbs.last_mut() {
        last.0 = Ink::Strong;
    }
    crumbs
}

/// The first row.
pub(super) fn bar(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let surface = model.theme.style(Role::Surface);
    frame.buffer_mut().set_style(area, surface);
    let mut left = vec![];
    if let Some(v) = model.view() {
        let role = if v.environment.to_uppercase().starts_with("PROD") {
            Role::Production
        } else {
            Role::Environment
        };
        left.push(Text::styled(format!(" {} ", v.environment), model.theme.style(role)));
        if v.simulated {
            left.push(Text::styled(" SIMULATED ", model.theme.style(Role::UnrealBadge)));
        }
    } else {
        left.push(piece(model, Ink::Strong, " quorate "));
    }
    if !model.context.word.is_empty() {
        let style = model.theme.on(model.context.colour);
        left.push(Text::styled(format!(" {} ", fit(&model.context.word, 16)), style));
    }
    let modes = model.theme.style(Role::UnknownBadge);
    if model.access == Access::ReadOnly && model.view().is_some() {
        left.push(Text::styled(" READ-ONLY ", modes));
    }
    if let Some((seen, missed)) = &model.frozen {
        left.push(Text::styled(
            format!(" FROZEN {} +{missed} ", model.clock(seen.view.made)),
            modes,
        ));
    }
    let (ink, words) = link(model);
    let mut right = vec![piece(model, ink, words)];
    if !model.who.is_empty() {
        right.push(piece(model, Ink::Muted, format!("  {}", fit(&model.who, 16))));
    }
    right.push(piece(model, Ink::Text, format!("  {} ", model.clock(model.moment.wall))));
    let right = Line::from(right);
    let width = u16::try_from(right.width()).unwrap_or(0).min(area.width);
    let used: usize = left.iter().map(Text::width).sum();
    let mut room = usize::from(area.width - width).saturating_sub(used + 3);
    // The last crumb is where one is: what does not fit goes from the front.
    let mut crumbs = crumbs(model);
    let long = |c: &[(Ink, String)]| c.iter().map(|(_, t)| t.width() + 3).sum::<usize>();
    while crumbs.len() > 1 && long(&crumbs) > room {
        crumbs.remove(0);
    }
    left.push(Text::raw("  "));
    for (i, (ink, words)) in crumbs.iter().enumerate() {
        if i > 0 {
            left.push(piece(model, Ink::Muted, format!(" {} ", model.glyphs.crumb())));
            room = room.saturating_sub(3);
        }
        let words = fit(words, room);
        room = room.saturating_sub(words.width());
        left.push(piece(model, *ink, words));
    }
    let cut = Rect { width: area.width - width, ..area };
    frame.render_widget(Line::from(left).style(surface), cut);
    let at = Rect { x: area.right() - width, width, ..area };
    frame.render_widget(right.style(surface), at);
}

/// A row of the band: its label, where a sentence begins, and its words.
type Row = (Option<Label>, Vec<(Ink, String)>);

/// The lines of the band, each as drawn: three, four where there are rows, more where the names
/// are so long that decisive words need them.
pub(super) fn band(model: &Model, area: Rect) -> Vec<Row> {
    let width = usize::from(area.width - LABEL);
    let want = if area.height >= 30 { 4 } else { 3 };
    let lines = about(model);
    let least: Vec<usize> = lines.iter().map(|l| l.said.least(width)).collect();
    // A fourth sentence only where it has a row of its own.
    let mut shown = lines.len().min(want);
    while shown > 3 && least[..shown].iter().sum::<usize>() > want {
        shown -= 1;
    }
    let mut rows = least[..shown].to_vec();
    let mut left = want.saturating_sub(rows.iter().sum());
    for (row, line) in rows.iter_mut().zip(&lines) {
        while left > 0 && line.said.whole(width).len() > *row {
            *row += 1;
            left -= 1;
        }
    }
    let mut drawn = vec![];
    for (line, rows) in lines.into_iter().take(shown).zip(rows) {
        let mut label = Some(line.label);
        for words in line.said.fit(width, rows) {
            drawn.push((label.take(), words));
        }
    }
    while drawn.len() < want {
        drawn.push((None, vec![]));
    }
    // The sheet keeps at least half of the rows.
    drawn.truncate(usize::from(area.height / 3).max(want));
    drawn
}

/// What the band is about on this screen.
pub(super) fn about(model: &Model) -> Vec<band::Line> {
    let Some(view) = model.view() else { return connecting(model) };
    if model.frozen.is_none() && model.stale().is_some() && model.place() != Screen::Settings {
        return old(model);
    }
    match model.place() {
        Screen::Fleet => super::fleet::band(model),
        Screen::Node => match model.node_view() {
            Some(node) => super::node::band(view, node),
            None => band::of(view, model.since()),
        },
        Screen::Plan => super::plan::band(model, view),
        Screen::Run => super::run::band(model, view),
        Screen::Audit => super::audit::band(model, view),
        Screen::Why => super::why::band(model, view),
        Screen::Settings => super::settings::band(model),
        Screen::Cluster | Screen::Log => band::of(view, model.since()),
    }
}

/// The last known picture is no state: it says what it was, and how the next try stands.
fn old(model: &Model) -> Vec<band::Line> {
    let age = model.age().map_or("some time".into(), number::since);
    let mut said = Said::text(format!("what stands below is {age} old"));
    if let Some(view) = model.view() {
        said = said.say(Ink::Text, format!(": it was {}", view.state.word())).then(1, ", ").and(
            1,
            "",
            Said::from_words(&view.why, Ink::Muted),
        );
    }
    let meanwhile = match model.view().and_then(|v| v.run.as_ref()).filter(|r| r.outcome.is_none())
    {
        Some(run) => Said::text(format!(
            "plan {} was running: it goes on without the plane and without this console",
            run.plan.short()
        )),
        None => Said::text("agents keep the lease among themselves, with or without a plane"),
    };
    vec![
        band::Line::badge(Mark::Unknown, Ink::Unknown, "UNKNOWN", said),
        band::Line::quiet("link", tries(model)),
        band::Line::quiet("meanwhile", meanwhile),
    ]
}

fn tries(model: &Model) -> Said {
    match &model.link {
        Link::Lost { why, attempt, retry_at, since } => {
            let left = model.moment.now.until(*retry_at);
            let whole = retry_at.since(*since);
            Said::text(format!("try {attempt} in "))
                .gauge(Ink::Warn, Gauge::of(left.0, whole.0, 8))
                .say(Ink::Text, format!(" {}", number::countdown(left)))
                .then(0, " · ")
                .say(Ink::Key, "r")
                .say(Ink::Text, ": now")
                .then(1, " · ")
                .say(Ink::Text, why.clone())
        }
        Link::Connecting { target, attempt } => {
            Said::text(format!("connecting to {target}, try {attempt}"))
        }
        Link::Live { target, .. } => {
            Said::text(format!("connected to {target}, and it sends nothing newer"))
        }
        Link::Idle => Said::text("starting"),
    }
}

fn connecting(model: &Model) -> Vec<band::Line> {
    let what = match &model.link {
        Link::Idle if model.starting.is_empty() => Said::text("starting"),
        Link::Idle => Said::text("the lab is being made"),
        Link::Live { target, .. } => {
            Said::text(format!("connected to {target}, waiting for the first picture"))
        }
        _ => Said::text("nothing was received yet"),
    };
    let mut lines = vec![band::Line::badge(Mark::Unknown, Ink::Unknown, "UNKNOWN", what)];
    if !matches!(model.link, Link::Idle | Link::Live { .. }) {
        lines.push(band::Line::quiet("link", tries(model)));
    }
    lines
}

/// The page before any picture.
pub(super) fn waiting(model: &Model) -> Page<'_> {
    let mut lines: Vec<Line<'static>> = vec![];
    for step in &model.starting {
        lines.extend(super::parts::said(
            model,
            &Said::new().say(Ink::Muted, step.clone()),
            1,
            usize::from(model.size.0),
        ));
    }
    for (at, what) in &model.tries {
        let clock = model.clock(*at);
        lines.extend(super::parts::labelled(
            model,
            &clock,
            Ink::Muted,
            &Said::text(what.clone()),
            clock.len() + 3,
            usize::from(model.size.0).saturating_sub(2),
        ));
    }
    let mut page = Page::new(vec![Panel::lines("waiting", "CONNECTING", lines)]);
    page.keys = vec![Action::Retry, Action::Settings];
    page
}

/// Draws the band.
pub(super) fn draw_band(model: &Model, frame: &mut Frame<'_>, lines: Vec<Row>, area: Rect) {
    frame.buffer_mut().set_style(area, model.theme.style(Role::Surface));
    for (i, (label, words)) in lines.into_iter().enumerate() {
        let y = area.y + u16::try_from(i).unwrap_or(0);
        if y >= area.bottom() {
            return;
        }
        let row = Rect { y, height: 1, ..area };
        if let Some(label) = label {
            let (style, mark, words) = match label {
                Label::Badge(mark, ink, words) => {
                    (model.theme.style(Role::badge(ink)), mark, words)
                }
                Label::Word(mark, ink, words) => {
                    let role =
                        model.theme.style(Role::Surface).patch(model.theme.style(Role::from(ink)));
                    (role, mark, words)
                }
            };
            let glyph = model.glyphs.mark(mark);
            let gap = if glyph.is_empty() { "" } else { " " };
            let text = format!(" {glyph}{gap}{words} ");
            frame.render_widget(
                Line::from(Text::styled(text, style)),
                Rect { x: row.x + 1, width: LABEL - 1, ..row },
            );
        }
        let pieces: Vec<Text<'_>> =
            words.into_iter().map(|(ink, text)| piece(model, ink, text)).collect();
        let at = Rect { x: row.x + LABEL, width: row.width - LABEL, ..row };
        frame.render_widget(Line::from(pieces), at);
        frame.buffer_mut().set_style(at, model.theme.style(Role::Surface));
    }
}

/// The last row: what is typed here first, then the keys of this place, then `:` and `?`. Too
/// narrow: words go from the left, then whole hints; never half a hint.
pub(super) fn keys(model: &Model, page: &Page<'_>, frame: &mut Frame<'_>, area: Rect) {
    frame.buffer_mut().set_style(area, model.theme.style(Role::Surface));
    let hint = |action: Action| {
        let key = model.keymap.keys_of(action).into_iter().next()?;
        Some((Ink::Key, key, action.short().to_owned()))
    };
    let typed = |words: &str, what: &str| Some((Ink::Key, words.to_owned(), what.to_owned()));
    let mut hints: Vec<(Ink, String, String)> = match &model.overlay {
        Some(Overlay::Confirm(confirm)) if confirm.broken.is_some() => {
            vec![typed("Esc", "close; nothing happened")]
        }
        Some(Overlay::Confirm(_) | Overlay::Sure(_)) => vec![
            typed("type the name", ""),
            typed("Enter", "only with the whole name"),
            typed("Esc", "cancel, nothing happened"),
        ],
        Some(Overlay::Palette { .. }) => vec![
            typed("Tab", "complete"),
            typed("↑↓", "choose"),
            typed("Enter", "run it"),
            typed("Esc", "close"),
        ],
        Some(Overlay::Filter(_)) => vec![typed("Enter", "keep"), typed("Esc", "clear")],
        Some(Overlay::Help { .. }) => {
            vec![typed("type", "to find"), typed("↑↓", "scroll"), typed("Esc", "close")]
        }
        Some(Overlay::ReadAll { .. }) => {
            vec![typed("↑↓", "scroll"), hint(Action::Copy), typed("Esc", "close")]
        }
        Some(Overlay::Refused { .. }) => {
            vec![typed("Enter", "close"), hint(Action::Copy), typed("Esc", "close")]
        }
        None if model.prefix.is_some() => vec![typed("", "the next key"), typed("Esc", "close")],
        None => {
            let act = page.typed.as_ref().map(|words| (Ink::Key, words.clone(), String::new()));
            std::iter::once(act)
                .chain(page.keys.iter().map(|a| hint(*a)))
                .chain([hint(Action::Palette), hint(Action::Help)])
                .collect()
        }
    }
    .into_iter()
    .flatten()
    .collect();
    let width = usize::from(area.width).saturating_sub(2);
    let long = |hints: &[(Ink, String, String)]| {
        hints
            .iter()
            .map(|(_, k, w)| k.width() + w.width() + usize::from(!w.is_empty()) + 2)
            .sum::<usize>()
    };
    // The act and the last two stay.
    let first = usize::from(page.typed.is_some() && model.overlay.is_none());
    let mut at = first;
    while long(&hints) > width && at + 2 < hints.len() {
        hints[at].2.clear();
        at += 1;
    }
    while long(&hints) > width && hints.len() > first + 2 {
        hints.remove(hints.len() - 3);
    }
    let mut pieces = vec![Text::raw(" ")];
    for (ink, key, words) in hints {
        let gap = if words.is_empty() { "  " } else { " " };
        pieces.push(piece(model, ink, format!("{key}{gap}")));
        if !words.is_empty() {
            pieces.push(piece(model, Ink::Muted, format!("{words}  ")));
        }
    }
    frame.render_widget(Line::from(pieces), area);
    frame.buffer_mut().set_style(area, model.theme.style(Role::Surface));
}
