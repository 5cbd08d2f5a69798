//! The audit: records newest first, the selected one in full with its proof, and whether the chain
//! holds, computed here.

use ratatui::text::Line;

use super::super::command::Action;
use super::super::model::{Model, Screen};
use super::page::{Page, Panel, left, right};
use super::{parts, piece};
use crate::audit::Verifier;
use crate::engine::rules;
use crate::model::record::ChainedRecord;
use crate::model::view::ClusterView;
use crate::picture::band::{self, Mark};
use crate::picture::{Ink, Said, number};

/// Whether a word of a filter lets a record through: `rule:302`, `by:plane`, `kind:plan`,
/// `epoch:3`, else its rule, its number, the beginning of its time of day (UTC), or anywhere in its
/// sentence or its actor.
pub fn record_passes(record: &ChainedRecord, word: &str) -> bool {
    let r = &record.record;
    match word.split_once(':') {
        Some(("rule", value)) => r.rule.to_string() == value,
        Some(("epoch", value)) => r.epoch.to_string() == value,
        Some(("kind", value)) => r.kind.starts_with(value),
        Some(("by", value)) => r.actor.to_lowercase().contains(value),
        _ => {
            r.text.to_lowercase().contains(word)
                || r.actor.to_lowercase().contains(word)
                || r.rule.to_string() == word
                || record.number.to_string() == word
                || word.contains(':') && r.wall.clock().starts_with(word)
        }
    }
}

/// Whether the records that are here follow each other, by their own hashes.
fn chain(view: &ClusterView) -> Result<usize, String> {
    let Some(first) = view.records.first() else { return Ok(0) };
    let mut verifier = Verifier::behind(first.number, &first.previous);
    for record in &view.records {
        verifier.check(record).map_err(|broken| broken.to_string())?;
    }
    Ok(view.records.len())
}

pub(super) fn band(model: &Model, view: &ClusterView) -> Vec<band::Line> {
    let shown = model.records().len();
    let first = match chain(view) {
        Err(why) => band::Line::badge(Mark::Critical, Ink::Bad, "BROKEN", Said::text(why)),
        Ok(_) if view.chain.is_broken() => {
            let how = Said::text(view.chain.to_string());
            band::Line::badge(Mark::Critical, Ink::Bad, "BROKEN", how)
        }
        Ok(here) if here == 0 || !view.chain.holds() => {
            let here = format!("{here} of {} records are here", number::count(view.record_count));
            let said = Said::text(view.chain.to_string()).then(0, " · ").say(Ink::Text, here);
            band::Line::badge(Mark::Unknown, Ink::Unknown, "UNKNOWN", said)
        }
        Ok(here) => band::Line::badge(
            Mark::Holds,
            Ink::Good,
            "INTACT",
            Said::text(format!("{} records", number::count(view.record_count)))
                .then(0, " · ")
                .say(Ink::Text, format!("the last {here} checked here"))
                .then(1, " · ")
                .say(Ink::Text, format!("by the plane: {}", view.chain)),
        ),
    };
    let filter = model.filters.get(&Screen::Audit).filter(|f| !f.is_empty());
    let mut said = Said::text(format!("{shown} of {} here", view.records.len()));
    said = match filter {
        Some(filter) => said.then(0, " · ").say(Ink::Key, format!("/{filter}")),
        None => said.then(1, " · ").say(Ink::Muted, "/ filters: words rule:302 by:plane kind:plan"),
    };
    let mut lines = vec![first, band::Line::quiet("shown", said)];
    if let (Some(old), Some(new)) = (view.records.first(), view.records.last()) {
        let span = number::span(crate::model::Span::millis(
            u64::try_from(new.record.wall.0 - old.record.wall.0).unwrap_or(0),
        ));
        let said = Said::text(
            format!(
                "{} {} {} {} · {span}",
                model.clock(old.record.wall),
                spread(model, view),
                model.clock(new.record.wall),
                model.glyphs.dot()
            )
            .replace(" · · ", " · ")
            .replace(" - · ", " - "),
        );
        lines.push(band::Line::quiet("when", said));
    }
    lines
}

/// How the records lie over their time.
fn spread(model: &Model, view: &ClusterView) -> String {
    const CELLS: usize = 30;
    let times: Vec<i64> = view.records.iter().map(|r| r.record.wall.0).collect();
    let (Some(from), Some(to)) = (times.first(), times.last()) else { return String::new() };
    let mut counts = [0_usize; CELLS];
    for time in &times {
        let part = (time - from) * (i64::try_from(CELLS).unwrap_or(1) - 1) / (to - from).max(1);
        counts[usize::try_from(part).unwrap_or(0).min(CELLS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let bars = model.glyphs.bars();
    counts.iter().map(|n| bars[n * 7 / most]).collect()
}

pub(super) fn page<'a>(model: &'a Model, view: &'a ClusterView) -> Page<'a> {
    let (width, side) = super::widths(model);
    let records = model.records();
    let count = records.len();
    let chosen = model.chosen("records").and_then(|k| k.parse::<u64>().ok());
    let at = chosen.and_then(|n| records.iter().position(|r| r.number == n));
    let selected: Option<&ChainedRecord> =
        records.get(at.unwrap_or(0)).copied().filter(|_| chosen.is_none() || at.is_some());
    let head =
        format!(" {:>9} {:<9} {:>5} {:>4} {:<10} WHAT", "NUMBER", "TIME", "EPOCH", "RULE", "BY");
    let filter = model.filters.get(&Screen::Audit).filter(|f| !f.is_empty());
    let fact = filter.map_or("newest first".to_owned(), |f| format!("newest first · /{f}"));
    let list = records.clone();
    let rows = records.clone();
    let finder = records;
    let table = Panel::table(
        "records",
        "RECORDS",
        count,
        move |i| list[i].number.to_string(),
        move |key| {
            let number: u64 = key.parse().ok()?;
            // Newest first.
            finder.binary_search_by(|r| number.cmp(&r.number)).ok()
        },
        move |i| row(model, rows[i], width),
    )
    .head(Line::from(piece(model, Ink::Muted, head)))
    .fact(Ink::Muted, fact)
    .least(6);
    let mut panels = vec![table];
    if let Some(r) = selected {
        let lines = in_full(model, r, width);
        let needed = lines.len().min(6);
        let rule = rules::sentence(r.record.rule).unwrap_or("by no rule of the table");
        panels.push(
            Panel::lines("record", format!("RECORD {}", number::count(r.number)), lines)
                .fact(
                    Ink::Muted,
                    if r.record.rule == 0 {
                        String::new()
                    } else {
                        format!("rule {}", r.record.rule)
                    },
                )
                .least(needed),
        );
        panels.push(
            Panel::lines("proof", "PROOF", proof(model, view, r, rule, width))
                .fact(Ink::Muted, "computed here")
                .least(2),
        );
    }
    let mut page = Page::new(panels);
    page.foot = Said::new().say(Ink::Muted, format!("{count} of {} shown", view.records.len()));
    page.keys =
        vec![Action::ReadAll, Action::Filter, Action::Earlier, Action::Export, Action::Back];
    if let (Some(width), Some(r)) = (side, selected) {
        let text = serde_json::to_string_pretty(&r.record.data).unwrap_or_default();
        let lines = text
            .lines()
            .flat_map(|l| {
                let indent = l.len() - l.trim_start().len();
                parts::said(model, &Said::text(l.trim_start().to_owned()), 1 + indent, width)
            })
            .collect();
        page.side = vec![Panel::lines("data", "EVIDENCE AS RECORDED", lines).least(8)];
    }
    page
}

fn row(model: &Model, r: &ChainedRecord, width: usize) -> Line<'static> {
    let text = &r.record.text;
    let oldest = model.view().and_then(|v| v.records.first()).map_or(r, |first| first);
    let cells = model.clock_cells(oldest.record.wall);
    let room = width.saturating_sub(34 + cells);
    // The whole sentence stands below, for the selected one.
    let what = if unicode_width::UnicodeWidthStr::width(text.as_str()) > room {
        format!("{}…", crate::picture::wrap_words(text, room.saturating_sub(1)).swap_remove(0))
    } else {
        text.clone()
    };
    let ink = if r.record.kind == "refusal" { Ink::Bad } else { Ink::Text };
    Line::from(vec![
        piece(model, Ink::Text, format!(" {} ", right(&number::count(r.number), 9))),
        piece(model, Ink::Muted, format!("{} ", left(&model.clock(r.record.wall), cells))),
        piece(model, Ink::Muted, format!("{:>5} ", r.record.epoch.to_string())),
        piece(
            model,
            Ink::Text,
            format!(
                "{:>4} ",
                if r.record.rule == 0 { String::new() } else { r.record.rule.to_string() }
            ),
        ),
        piece(model, Ink::Text, format!("{} ", left(&r.record.actor, 10))),
        piece(model, ink, what),
    ])
}

fn in_full(model: &Model, r: &ChainedRecord, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![];
    let mut say = |label: &str, said: Said| {
        lines.extend(parts::labelled(model, label, Ink::Muted, &said, 11, width));
    };
    say("what", Said::text(r.record.text.clone()));
    say(
        "who",
        Said::text(r.record.actor.clone())
            .say(Ink::Muted, format!(" · {} · epoch {}", r.record.kind, r.record.epoch)),
    );
    say("when", Said::text(r.record.wall.rfc3339()));
    lines
}

fn proof(
    model: &Model,
    view: &ClusterView,
    r: &ChainedRecord,
    rule: &str,
    width: usize,
) -> Vec<Line<'static>> {
    let own = Verifier::behind(r.number, &r.previous).check(r).is_ok();
    let before = view.records.iter().find(|b| b.number + 1 == r.number);
    let mut said = Said::new();
    let (mark, ink) = model.glyphs.held(own);
    said = said.say(ink, format!("{mark} own hash {}", &r.hash.get(..12).unwrap_or(&r.hash)));
    said = match before {
        Some(before) => {
            let (mark, ink) = model.glyphs.held(before.hash == r.previous);
            said.say(ink, format!("  {mark} follows record {}", number::count(before.number)))
        }
        None => said.say(Ink::Unknown, "  ? the record before it is not here"),
    };
    let mut lines = parts::said(model, &said, 1, width);
    lines.extend(parts::labelled(
        model,
        "rule says",
        Ink::Muted,
        &Said::text(rule.to_owned()),
        11,
        width,
    ));
    lines
}
