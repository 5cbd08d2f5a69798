//! A page: panels that share one framed sheet. A panel has a title, one fact, and lines or rows; it
//! scrolls where it holds more than there is room for. What can be selected has a name, and the
//! selection is that name, never a place in a list.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::Widget as _;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::super::command::Action;
use super::super::model::Model;
use super::super::theme::Role;
use super::glyph::Border;
use super::piece;
use crate::picture::{Ink, Said};

/// The row of a name.
type Find<'a> = dyn Fn(&str) -> Option<usize> + 'a;

/// What a panel holds.
pub(crate) enum Body<'a> {
    /// Lines; some of them begin what can be selected.
    Lines {
        /// All of them.
        lines: Vec<Line<'static>>,
        /// First line and name of each thing that can be selected, in order.
        marks: Vec<(usize, String)>,
    },
    /// A table of any length: a row is drawn when it is seen.
    Table {
        /// How many rows.
        count: usize,
        /// The name of a row.
        key: Box<dyn Fn(usize) -> String + 'a>,
        /// The row of a name.
        find: Box<Find<'a>>,
        /// A row.
        row: Box<dyn Fn(usize) -> Line<'static> + 'a>,
    },
}

/// One panel.
pub(crate) struct Panel<'a> {
    /// Names it: selection, scroll and focus are kept under it.
    pub(crate) id: &'static str,
    title: String,
    ink: Ink,
    fact: Vec<(Ink, String)>,
    head: Option<Line<'static>>,
    body: Body<'a>,
    /// Lines it needs at least.
    least: u16,
    /// Lines that it has before any other has what it needs at least.
    before: u16,
    /// The row that is selected while the person chose none.
    first: Option<usize>,
}

impl<'a> Panel<'a> {
    pub(crate) fn lines(
        id: &'static str,
        title: impl Into<String>,
        lines: Vec<Line<'static>>,
    ) -> Self {
        Self::new(id, title.into(), Body::Lines { lines, marks: vec![] })
    }
    pub(crate) fn marked(
        id: &'static str,
        title: impl Into<String>,
        lines: Vec<Line<'static>>,
        marks: Vec<(usize, String)>,
    ) -> Self {
        let mut panel = Self::new(id, title.into(), Body::Lines { lines, marks });
        panel.first = Some(0);
        panel
    }
    pub(crate) fn table(
        id: &'static str,
        title: impl Into<String>,
        count: usize,
        key: impl Fn(usize) -> String + 'a,
        find: impl Fn(&str) -> Option<usize> + 'a,
        row: impl Fn(usize) -> Line<'static> + 'a,
    ) -> Self {
        let body =
            Body::Table { count, key: Box::new(key), find: Box::new(find), row: Box::new(row) };
        let mut panel = Self::new(id, title.into(), body);
        panel.first = Some(0);
        panel
    }
    fn new(id: &'static str, title: String, body: Body<'a>) -> Self {
        Self {
            id,
            title,
            ink: Ink::Strong,
            fact: vec![],
            head: None,
            body,
            least: 1,
            before: 1,
            first: None,
        }
    }
    /// The fact at the right of its title.
    pub(crate) fn fact(mut self, ink: Ink, fact: impl Into<String>) -> Self {
        self.fact.push((ink, fact.into()));
        self
    }
    /// Its title has that ink.
    pub(crate) fn ink(mut self, ink: Ink) -> Self {
        self.ink = ink;
        self
    }
    /// Column heads, which do not scroll.
    pub(crate) fn head(mut self, head: Line<'static>) -> Self {
        self.head = Some(head);
        self
    }
    /// It needs so many lines at least, or all that it has.
    pub(crate) fn least(mut self, lines: usize) -> Self {
        self.least = u16::try_from(lines).unwrap_or(u16::MAX);
        self
    }
    /// It has so many lines before any other has what it needs at least.
    pub(crate) fn before(mut self, lines: usize) -> Self {
        self.before = u16::try_from(lines).unwrap_or(u16::MAX);
        self
    }
    /// The row that is selected while the person chose none.
    pub(crate) fn first(mut self, row: Option<usize>) -> Self {
        self.first = row;
        self
    }
    fn len(&self) -> usize {
        let body = match &self.body {
            Body::Lines { lines, .. } => lines.len(),
            Body::Table { count, .. } => *count,
        };
        body + usize::from(self.head.is_some())
    }
    /// How many things can be selected.
    pub(crate) fn count(&self) -> usize {
        match &self.body {
            Body::Lines { marks, .. } => marks.len(),
            Body::Table { count, .. } => *count,
        }
    }
    /// The name of one.
    pub(crate) fn key(&self, at: usize) -> Option<String> {
        match &self.body {
            Body::Lines { marks, .. } => marks.get(at).map(|(_, key)| key.clone()),
            Body::Table { count, key, .. } => (at < *count).then(|| key(at)),
        }
    }
    /// Which one is selected.
    pub(crate) fn at(&self, model: &Model) -> Option<usize> {
        match model.chosen(self.id) {
            None => self.first.filter(|at| *at < self.count()),
            // A row that has gone is not followed by its neighbour.
            Some(name) => match &self.body {
                Body::Lines { marks, .. } => marks.iter().position(|(_, key)| key == name),
                Body::Table { find, .. } => find(name),
            },
        }
    }
    /// The name of the selected one.
    pub(crate) fn selected(&self, model: &Model) -> Option<String> {
        self.key(self.at(model)?)
    }
    fn lines_of(&self, at: usize) -> std::ops::Range<usize> {
        match &self.body {
            Body::Table { .. } => at..at + 1,
            Body::Lines { lines, marks } => {
                let from = marks.get(at).map_or(0, |(line, _)| *line);
                from..marks.get(at + 1).map_or(lines.len(), |(line, _)| *line)
            }
        }
    }
    fn line(&self, at: usize) -> Option<Line<'static>> {
        match &self.body {
            Body::Lines { lines, .. } => lines.get(at).cloned(),
            Body::Table { count, row, .. } => (at < *count).then(|| row(at)),
        }
    }
    /// All its lines, for reading all of it.
    pub(crate) fn all_lines(&self) -> Vec<Line<'static>> {
        (0..self.len()).map_while(|i| self.line(i)).collect()
    }
    /// The furthest it can be scrolled in a room of that height.
    pub(crate) fn scroll_max(&self, height: u16) -> usize {
        self.len().saturating_sub(usize::from(height))
    }
}

/// A page.
pub(crate) struct Page<'a> {
    /// The panels of the main sheet, from above.
    pub(crate) panels: Vec<Panel<'a>>,
    /// The panels beside it, where there is width.
    pub(crate) side: Vec<Panel<'a>>,
    /// Where the main sheet's lower border has room.
    pub(crate) foot: Said,
    /// Commands of this place, for the last row.
    pub(crate) keys: Vec<Action>,
    /// What is typed here, for the last row: the act that matters.
    pub(crate) typed: Option<String>,
    /// What the selected thing says in full.
    pub(crate) detail: Vec<Said>,
}

impl<'a> Page<'a> {
    pub(crate) fn new(panels: Vec<Panel<'a>>) -> Self {
        Self { panels, side: vec![], foot: Said::new(), keys: vec![], typed: None, detail: vec![] }
    }
    /// The panel that keys go to: the one that was chosen, else the first with rows.
    pub(crate) fn focused(&self, model: &Model) -> Option<&Panel<'a>> {
        let all = || self.panels.iter().chain(&self.side);
        model
            .focus()
            .and_then(|id| all().find(|p| p.id == id))
            .or_else(|| all().find(|p| p.count() > 0))
            .or_else(|| all().next())
    }
    /// The panel after, or before, the one that has the focus.
    pub(crate) fn neighbour(&self, model: &Model, back: bool) -> Option<&'static str> {
        let ids: Vec<&'static str> = self.panels.iter().chain(&self.side).map(|p| p.id).collect();
        let at = ids.iter().position(|id| Some(*id) == self.focused(model).map(|p| p.id))?;
        let next = if back { at + ids.len() - 1 } else { at + 1 } % ids.len();
        Some(ids[next])
    }
}

/// Rows for each panel in a sheet of `height` lines inside: first every title and a line below it
/// (of the nodes a few), then what each needs at least, the one that is looked at before the others, then what it has,
/// from above; what is left goes to the last. A panel without room is closed: only its title stays.
pub(crate) fn arrange(panels: &[Panel<'_>], height: u16, focus: Option<&str>) -> Vec<Option<u16>> {
    let has = |p: &Panel<'_>| u16::try_from(p.len()).unwrap_or(u16::MAX);
    let mut room: Vec<Option<u16>> = vec![None; panels.len()];
    let mut left = height;
    let mut order: Vec<usize> = (0..panels.len()).collect();
    order.sort_by_key(|i| Some(panels[*i].id) != focus);
    for i in &order {
        let title = u16::from(*i > 0);
        if left >= title {
            left -= title;
            room[*i] = Some(0);
        }
    }
    for all in [false, true] {
        for i in &order {
            if let Some(given) = &mut room[*i] {
                let panel = &panels[*i];
                let least = if all { panel.least } else { panel.least.min(panel.before) };
                let more = has(panel).min(least).saturating_sub(*given).min(left);
                *given += more;
                left -= more;
            }
        }
    }
    for (panel, given) in panels.iter().zip(&mut room) {
        if let Some(given) = given {
            let more = (has(panel) - *given).min(left);
            *given += more;
            left -= more;
        }
    }
    if let Some(last) = room.iter_mut().rev().flatten().next() {
        *last += left;
    }
    room
}

/// How a sheet is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) border: Border,
    pub(crate) role: Role,
    /// Everything inside is in quiet ink.
    pub(crate) muted: bool,
}

/// Draws panels into one frame.
pub(crate) fn sheet(
    model: &Model,
    panels: &[Panel<'_>],
    focus: Option<&str>,
    foot: &Said,
    manner: Manner,
    area: Rect,
    buffer: &mut Buffer,
) {
    if area.width < 8 || area.height < 3 || panels.is_empty() {
        return;
    }
    let frame = model.glyphs.frame(manner.border);
    let style = model.theme.style(manner.role);
    let rooms = arrange(panels, area.height - 2, focus);
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    for y in area.y..=bottom {
        buffer.set_string(area.x, y, frame.down, style);
        buffer.set_string(right, y, frame.down, style);
    }
    let mut y = area.y;
    for (i, (panel, room)) in panels.iter().zip(rooms).enumerate() {
        let Some(room) = room else { continue };
        let (across, ends) = if i == 0 {
            (frame.across, [frame.corners[0], frame.corners[1]])
        } else {
            (frame.divide, frame.tees)
        };
        for x in area.x..=right {
            buffer.set_string(x, y, across, style);
        }
        buffer.set_string(area.x, y, ends[0], style);
        buffer.set_string(right, y, ends[1], style);
        let lit = focus == Some(panel.id) && panels.len() > 1;
        title(model, panel, lit, manner.muted, Rect { y, height: 1, ..area }, buffer);
        let inside = Rect { x: area.x + 1, y: y + 1, width: area.width - 2, height: room };
        body(model, panel, focus == Some(panel.id), manner, inside, buffer);
        scrollbar(model, panel, Rect { x: right, width: 1, ..inside }, style, buffer);
        y += 1 + room;
    }
    for x in area.x..=right {
        buffer.set_string(x, bottom, frame.across, style);
    }
    buffer.set_string(area.x, bottom, frame.corners[2], style);
    buffer.set_string(right, bottom, frame.corners[3], style);
    if !foot.is_empty() {
        let width = usize::from(area.width.saturating_sub(8));
        let mut lines = foot.fit(width.saturating_sub(3), 1);
        let more = lines.len() > 1;
        if let Some(mut first) = lines.drain(..).next() {
            if more {
                // All of it stands in the log.
                first.push((Ink::Key, " …".into()));
            }
            let words = Line::from(
                std::iter::once(Text::styled(" ", style))
                    .chain(first.into_iter().map(|(ink, t)| piece(model, ink, t)))
                    .chain(std::iter::once(Text::styled(" ", style)))
                    .collect::<Vec<_>>(),
            );
            let at = Rect { x: area.x + 2, y: bottom, width: area.width - 4, height: 1 };
            words.render(at, buffer);
        }
    }
}

fn title(
    model: &Model,
    panel: &Panel<'_>,
    lit: bool,
    muted: bool,
    area: Rect,
    buffer: &mut Buffer,
) {
    if panel.title.is_empty() {
        return;
    }
    let ink = if muted {
        Ink::Muted
    } else if lit {
        Ink::Key
    } else {
        panel.ink
    };
    let mut style = model.theme.style(Role::from(ink));
    if lit {
        // Seen without colour too.
        style = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    }
    let words = fit(&panel.title, usize::from(area.width.saturating_sub(8)));
    let left = u16::try_from(words.width()).unwrap_or(0);
    buffer.set_string(area.x + 2, area.y, " ", style.remove_modifier(Modifier::UNDERLINED));
    buffer.set_string(area.x + 3, area.y, &words, style);
    let plain = model.theme.style(Role::Line);
    buffer.set_string(area.x + 3 + left, area.y, " ", plain);
    // The fact goes, whole, where there is no room for it.
    let wide: usize = panel.fact.iter().map(|(_, t)| t.width()).sum::<usize>() + 2;
    let wide = u16::try_from(wide).unwrap_or(u16::MAX);
    if panel.fact.is_empty() || area.width < left + wide.saturating_add(8) {
        return;
    }
    let mut pieces = vec![Text::raw(" ")];
    pieces.extend(
        panel
            .fact
            .iter()
            .map(|(ink, t)| piece(model, if muted { Ink::Muted } else { *ink }, t.clone())),
    );
    pieces.push(Text::raw(" "));
    let at = Rect { x: area.right() - 2 - wide, width: wide, ..area };
    Line::from(pieces).render(at, buffer);
}

fn body(
    model: &Model,
    panel: &Panel<'_>,
    lit: bool,
    manner: Manner,
    area: Rect,
    buffer: &mut Buffer,
) {
    let mut area = area;
    if let Some(head) = panel.head.as_ref().filter(|_| area.height > 0) {
        head.render(Rect { height: 1, ..area }, buffer);
        area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    }
    let at = panel.at(model);
    let chosen = at.map(|at| panel.lines_of(at));
    let height = usize::from(area.height);
    let top = top(model, panel, chosen.clone(), height);
    for (row, line) in (top..top + height).enumerate() {
        let Some(words) = panel.line(line) else { break };
        let y = area.y + u16::try_from(row).unwrap_or(0);
        let place = Rect { y, height: 1, ..area };
        words.render(place, buffer);
        if manner.muted {
            buffer.set_style(place, model.theme.style(Role::Muted));
        }
        if lit && chosen.as_ref().is_some_and(|lines| lines.contains(&line)) {
            buffer.set_style(place, model.theme.style(Role::Selected));
            let mark = if line == chosen.as_ref().map_or(0, |l| l.start) {
                model.glyphs.selected()
            } else {
                " "
            };
            buffer.set_string(
                area.x,
                y,
                mark,
                model.theme.style(Role::Key).patch(model.theme.style(Role::Selected)),
            );
        }
    }
}

/// The first line shown: where the person scrolled to, and the selected row is always in sight.
fn top(
    model: &Model,
    panel: &Panel<'_>,
    chosen: Option<std::ops::Range<usize>>,
    height: usize,
) -> usize {
    let lines = panel.len() - usize::from(panel.head.is_some());
    let last = lines.saturating_sub(height);
    let top = model.scrolled(panel.id).min(last);
    match chosen.filter(|_| panel.count() > 0) {
        Some(rows) if rows.start < top => rows.start,
        Some(rows) if rows.end > top + height => rows.end.saturating_sub(height).min(rows.start),
        _ => top,
    }
}

fn scrollbar(
    model: &Model,
    panel: &Panel<'_>,
    area: Rect,
    style: ratatui::style::Style,
    buffer: &mut Buffer,
) {
    let (lines, height) = (panel.len(), usize::from(area.height));
    if lines <= height || height < 2 {
        return;
    }
    let chosen = panel.at(model).map(|at| panel.lines_of(at));
    let top = top(model, panel, chosen, height - usize::from(panel.head.is_some()));
    let thumb = (height * height / lines).clamp(1, height);
    let from = (top * (height - thumb)).div_ceil((lines - height).max(1)).min(height - thumb);
    for y in from..from + thumb {
        let y = area.y + u16::try_from(y).unwrap_or(0);
        buffer.set_string(area.x, y, model.glyphs.bars()[7].to_string(), style);
    }
}

/// Letters from the front that fit.
fn taken<'t>(letters: impl Iterator<Item = &'t str>, room: usize) -> Vec<&'t str> {
    let mut used = 0;
    letters
        .take_while(|g| {
            used += g.width();
            used <= room
        })
        .collect()
}

/// A label: cut in the middle, both ends kept. Only for names that stand in full elsewhere.
pub(crate) fn fit(label: &str, width: usize) -> String {
    if label.width() <= width {
        return label.to_owned();
    }
    let graphemes: Vec<&str> = label.graphemes(true).collect();
    let room = width.saturating_sub(1);
    let tail = taken(graphemes.iter().rev().copied(), room / 2);
    let head = taken(graphemes.iter().copied(), room - room / 2);
    let mut out: String = head.concat();
    if width > 0 {
        out.push('…');
    }
    out.extend(tail.into_iter().rev());
    out
}

/// A label in a column of `width` cells, at the left.
pub(crate) fn left(label: &str, width: usize) -> String {
    let mut out = fit(label, width);
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(out.width())));
    out
}

/// A value in a column of `width` cells, at the right.
pub(crate) fn right(value: &str, width: usize) -> String {
    let gap = width.saturating_sub(value.width());
    format!("{}{value}", " ".repeat(gap)).replace('\u{a0}', " ")
}
