//! How far a standby was behind in the last ten minutes, with the limit that a move is held to.
//! Drawn by ratatui's chart into lines; its own are only the square-root scale (a lag of pages and
//! one of megabytes are both to be seen) and gaps.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget as _};

use super::super::history::SECONDS;
use super::super::model::Model;
use super::super::theme::Role;
use super::glyph::Glyphs;
use super::page::Panel;
use crate::model::view::ClusterView;
use crate::model::{NodeId, Span};
use crate::picture::{Ink, number};

/// A terminal of fewer rows has no room for it.
const ROWS: u16 = 40;
/// The scale reaches to this at least.
const LEAST: u64 = 64 << 10;

fn root(bytes: u64) -> f64 {
    (bytes as f64).sqrt()
}

/// Of the standby that is selected, else of the one that was furthest behind.
pub(super) fn lag(
    model: &Model,
    view: &ClusterView,
    selected: Option<&str>,
    width: usize,
) -> Option<Panel<'static>> {
    if model.size.1 < ROWS || width < 70 {
        return None;
    }
    // What came since the picture was frozen is not drawn.
    let frozen =
        model.frozen.as_ref().map_or(Span::ZERO, |(seen, _)| model.moment.now.since(seen.at));
    let since = usize::try_from(frozen.as_millis() / 1_000).unwrap_or(SECONDS);
    let samples = |node: &NodeId| -> Vec<(usize, u64)> {
        let kept = model.lags.get(&(view.cluster.clone(), node.clone()));
        kept.map_or(vec![], |lag| lag.samples(since).collect())
    };
    let all: Vec<(&NodeId, Vec<(usize, u64)>)> = view
        .nodes
        .iter()
        .map(|n| (&n.node, samples(&n.node)))
        .filter(|(_, samples)| !samples.is_empty())
        .collect();
    let worst = |samples: &[(usize, u64)]| samples.iter().map(|(_, b)| *b).max().unwrap_or(0);
    let chosen = all.iter().find(|(n, _)| Some(n.as_str()) == selected);
    // Of equals the first.
    let (node, samples) = chosen.or_else(|| all.iter().rev().max_by_key(|(_, s)| worst(s)))?;
    let limit = view.rpo_bytes;
    let top = worst(samples).max(limit).max(LEAST);
    let points: Vec<(f64, f64)> =
        samples.iter().map(|(ago, bytes)| ((SECONDS - 1 - ago) as f64, root(*bytes))).collect();
    let last = (SECONDS - 1) as f64;
    let line = [(0.0, root(limit)), (last, root(limit))];
    let ascii = model.glyphs == Glyphs::Ascii;
    let marker = if ascii { Marker::Dot } else { Marker::Braille };
    let mut sets = vec![
        Dataset::default()
            .marker(marker)
            .graph_type(GraphType::Bar)
            .style(model.theme.style(Role::Text))
            .data(&points),
    ];
    if limit > 0 {
        sets.push(
            Dataset::default()
                .marker(marker)
                .graph_type(GraphType::Line)
                .style(model.theme.style(Role::Warn))
                .data(&line),
        );
    }
    let quiet = model.theme.style(Role::Muted);
    let label = |bytes: u64| {
        let words = number::bytes(bytes);
        Line::styled(
            if bytes == limit && bytes > 0 { format!("limit {words}") } else { words },
            quiet,
        )
    };
    let chart = Chart::new(sets)
        .x_axis(
            Axis::default()
                .bounds([0.0, last])
                .style(quiet)
                .labels(["10 min ago", "now"].map(|w| Line::styled(w, quiet))),
        )
        .y_axis(Axis::default().bounds([0.0, root(top)]).style(quiet).labels([
            label(0),
            label(top / 4),
            label(top),
        ]));
    let height = (model.size.1 - ROWS).div_ceil(2).clamp(7, 14);
    let area = Rect::new(0, 0, u16::try_from(width).unwrap_or(u16::MAX), height);
    let mut buffer = Buffer::empty(area);
    chart.render(area, &mut buffer);
    let lines = (0..height).map(|y| row(&buffer, y, ascii)).collect::<Vec<_>>();
    let least = lines.len();
    Some(
        Panel::lines("lag", "LAG BEHIND THE PRIMARY", lines)
            .fact(Ink::Muted, format!("{node} · 10 min · gaps are gaps"))
            .least(least),
    )
}

fn row(buffer: &Buffer, y: u16, ascii: bool) -> Line<'static> {
    let mut spans: Vec<Text<'static>> = vec![];
    for x in 0..buffer.area.width {
        let cell = &buffer[(x, y)];
        let symbol = match cell.symbol() {
            "•" | "─" | "│" | "└" if ascii => match cell.symbol() {
                "•" => "#",
                "─" => "-",
                _ => "|",
            },
            symbol => symbol,
        };
        match spans.last_mut().filter(|last| last.style == cell.style()) {
            Some(last) => last.content.to_mut().push_str(symbol),
            None => spans.push(Text::styled(symbol.to_owned(), cell.style())),
        }
    }
    Line::from(spans)
}
