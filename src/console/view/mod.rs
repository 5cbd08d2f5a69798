//! Drawing: a model → a frame, and nothing else. One file a screen. At 80×24 everything essential
//! is there; a wider screen adds, it never rearranges.

mod audit;
mod cluster;
mod fleet;
mod overlay;
mod plan;
mod run;
mod why;
mod words;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::{Clear, Paragraph};

use super::command::Action;
use super::event::Link;
use super::model::{Access, Model, Screen};
use super::theme::Role;
use crate::model::Span;
use crate::model::view::ClusterState;

/// Smaller terminals get a card that says so.
pub const SIZE_MIN: (u16, u16) = (72, 21);

/// Draws.
pub fn view(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    frame.buffer_mut().set_style(area, model.theme.style(Role::Text));
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        too_small(model, frame, area);
        return;
    }
    let [bar, body, told, footer] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_bar(model, frame, bar);
    match (model.view(), model.screen) {
        (None, _) => draw_waiting(model, frame, body),
        (Some(v), Screen::Fleet) => fleet::draw(model, v, frame, body),
        (Some(v), Screen::Cluster) => cluster::draw(model, v, frame, body),
        (Some(v), Screen::Plan) => plan::draw(model, v, frame, body),
        (Some(v), Screen::Run) => run::draw(model, v, frame, body),
        (Some(v), Screen::Why) => why::draw(model, v, frame, body),
        (Some(v), Screen::Audit) => audit::draw(model, v, frame, body),
    }
    draw_told(model, frame, told);
    draw_footer(model, frame, footer);
    overlay::draw(model, frame, area);
    if model.ascii {
        to_ascii(frame.buffer_mut());
    }
}

/// Every glyph that is left gets a twin of the same width.
fn to_ascii(buffer: &mut ratatui::buffer::Buffer) {
    for cell in &mut buffer.content {
        let twin = match cell.symbol() {
            symbol if symbol.is_ascii() => continue,
            "→" | "›" | "▸" => ">",
            "─" | "·" => "-",
            "│" => "|",
            "┌" | "┐" | "└" | "┘" => "+",
            "…" => "~",
            "↑" => "^",
            "↓" => "v",
            "≤" => "<",
            "φ" => "p",
            _ => "?",
        };
        cell.set_symbol(twin);
    }
}

fn too_small(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Clear, area);
    let state = model.view().map_or("no picture yet".to_owned(), |v| {
        format!(
            "{} {}",
            v.state.word(),
            v.primary.as_ref().map_or("no primary".into(), ToString::to_string)
        )
    });
    let text = format!(
        "{state}\ntoo small: {}x{}\nneeds {}x{}\nq quits",
        area.width, area.height, SIZE_MIN.0, SIZE_MIN.1
    );
    frame.render_widget(Paragraph::new(text).style(model.theme.style(Role::Warn)), area);
}

/// One styled piece.
fn piece(model: &Model, role: Role, text: impl Into<String>) -> Text<'static> {
    Text::styled(text.into(), model.theme.style(role))
}

fn link_words(model: &Model) -> (Role, String) {
    let age = model.age().map_or(String::new(), |a| format!(" {a}"));
    match &model.link {
        Link::Idle => (Role::Muted, "starting".into()),
        Link::Connecting { target, attempt } => {
            (Role::Warn, format!("connecting to {target} ({attempt})"))
        }
        Link::Live { plane: true, .. } if model.stale().is_none() => {
            (Role::Good, "plane live".into())
        }
        Link::Live { plane: true, .. } => (Role::Bad, format!("STALE{age}")),
        Link::Live { target, .. } if model.stale().is_none() => {
            (Role::Warn, format!("NO PLANE, {target}"))
        }
        Link::Live { target, .. } => (Role::Bad, format!("STALE{age}, {target}")),
        Link::Lost { attempt, retry_at, .. } => (
            Role::Bad,
            format!("STALE{age}, retry in {} ({attempt})", model.moment.now.until(*retry_at)),
        ),
    }
}

fn draw_bar(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let style = model.theme.style(Role::Bar);
    let mut left = vec![];
    if let Some(v) = model.view() {
        let role = if v.environment.to_uppercase().starts_with("PROD") {
            Role::Production
        } else {
            Role::Environment
        };
        left.push(piece(model, role, format!(" {} ", v.environment)));
        if v.simulated {
            left.push(piece(model, Role::Simulated, " SIMULATED "));
        }
        left.push(Text::styled(format!(" {} › {} ", v.name, model.screen.name()), style));
    } else {
        left.push(Text::styled(" quorate ", style));
    }
    if model.access == Access::ReadOnly {
        left.push(piece(model, Role::Warn, " READ-ONLY "));
    }
    if let Some((_, missed)) = &model.frozen {
        let at = model.view().map_or(String::new(), |v| v.made.clock());
        let now =
            model.seen.as_ref().filter(|s| Some(s.view.state) != model.view().map(|v| v.state));
        let now = now.map_or(String::new(), |s| format!(", NOW {}", s.view.state.word()));
        left.push(piece(
            model,
            Role::Danger,
            format!(" FROZEN at {at}, {missed} pictures since{now} "),
        ));
    }
    let (role, words) = link_words(model);
    let right = Line::from(vec![
        piece(model, role, words),
        Text::styled(format!("  {} ", model.moment.wall.clock()), style),
    ]);
    let [top, second] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    frame.buffer_mut().set_style(top, style);
    let width = u16::try_from(right.width()).unwrap_or(0).min(top.width);
    let [a, b] = Layout::horizontal([Constraint::Min(1), Constraint::Length(width)]).areas(top);
    frame.render_widget(Line::from(left), a);
    frame.render_widget(right, b);
    if let Some(v) = model.view() {
        let (glyph, role) = words::state(model, v.state);
        // The last known state is no state when the picture is old.
        let line = match model.stale() {
            Some(why) if model.frozen.is_none() => Line::from(piece(
                model,
                Role::Stale,
                words::cut(
                    &format!(" ? UNKNOWN now; was {}: {why}", v.state.word()),
                    usize::from(area.width),
                ),
            )),
            _ => Line::from(vec![
                piece(model, role, format!(" {glyph} {} ", v.state.word())),
                piece(
                    model,
                    Role::Text,
                    words::cut(&v.why, usize::from(area.width).saturating_sub(14)),
                ),
            ]),
        };
        frame.render_widget(line, second);
    }
}

fn draw_waiting(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<Line<'_>> = vec![Line::default()];
    for step in &model.starting {
        lines.push(Line::from(piece(model, Role::Muted, format!("  {step}"))));
    }
    let what = match &model.link {
        Link::Idle if model.starting.is_empty() => "starting".to_owned(),
        Link::Idle => "the lab is being made".to_owned(),
        Link::Connecting { target, attempt } => format!("connecting to {target}, try {attempt}"),
        Link::Live { target, .. } => {
            format!("connected to {target}, waiting for the first picture")
        }
        Link::Lost { why, attempt, retry_at } => {
            format!("{why}; try {attempt} in {}", model.moment.now.until(*retry_at))
        }
    };
    lines.push(Line::from(piece(model, Role::Title, format!("  {what}"))));
    frame.render_widget(Paragraph::new(lines).wrap(ratatui::widgets::Wrap { trim: false }), area);
}

fn draw_told(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let line = match (&model.told, &model.calling, &model.link) {
        (Some(told), _, _) => {
            piece(model, if told.bad { Role::Bad } else { Role::Title }, format!(" {}", told.text))
        }
        (None, Some(since), _) => piece(
            model,
            Role::Warn,
            format!(" waiting for the plane's answer, {}", model.moment.now.since(*since)),
        ),
        (None, None, Link::Lost { why, .. }) => piece(model, Role::Bad, format!(" {why}")),
        _ => piece(model, Role::Muted, ""),
    };
    let mut line = line;
    line.content = words::cut(&line.content, usize::from(area.width)).into();
    frame.render_widget(Line::from(line), area);
}

/// Keys that matter here, made from the keymap in force.
fn draw_footer(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let here: &[Action] = match model.screen {
        Screen::Fleet => &[Action::Open, Action::Cluster, Action::Audit],
        Screen::Cluster => &[Action::Next, Action::Plan, Action::Run, Action::Audit, Action::Why],
        Screen::Plan => &[Action::PageDown, Action::Cluster, Action::Run, Action::Audit],
        Screen::Run => &[Action::PageDown, Action::Cluster, Action::Plan, Action::Audit],
        Screen::Audit => &[Action::Next, Action::PageDown, Action::Cluster, Action::Run],
        Screen::Why => &[Action::PageDown, Action::Cluster, Action::Plan, Action::Audit],
    };
    let always = [Action::Palette, Action::Help, Action::Quit];
    let mut pieces = vec![Text::raw(" ")];
    for action in here.iter().chain(&always) {
        if let Some(key) = model.keymap.keys_of(*action).into_iter().next() {
            pieces.push(piece(model, Role::Key, key));
            pieces.push(piece(model, Role::Muted, format!(" {}  ", action.short())));
        }
    }
    frame.render_widget(Line::from(pieces), area);
}

/// The lines that fit, from where the person scrolled to; what is below is said.
fn scrolled(model: &Model, lines: Vec<Line<'static>>, area: Rect) -> Vec<Line<'static>> {
    let height = usize::from(area.height);
    let top = model.scroll.min(lines.len().saturating_sub(height));
    let more = lines.len().saturating_sub(top + height);
    let mut shown: Vec<Line<'static>> = lines.into_iter().skip(top).take(height).collect();
    if more > 0 {
        shown.pop();
        shown.push(Line::from(piece(
            model,
            Role::Warn,
            format!(" … {} more lines: page down", more + 1),
        )));
    }
    shown
}

/// An age, marked when it is past its limit.
fn age(model: &Model, age: Option<Span>, limit: Span) -> Text<'static> {
    match age {
        None => piece(model, Role::Unknown, "never"),
        Some(a) if a > limit => piece(model, Role::Bad, format!("{a}!")),
        Some(a) => piece(model, Role::Text, a.to_string()),
    }
}

fn state_role(state: ClusterState) -> Role {
    match state {
        ClusterState::Healthy => Role::Good,
        ClusterState::Degraded => Role::Warn,
        ClusterState::Critical => Role::Bad,
        ClusterState::Unknown => Role::Unknown,
    }
}
