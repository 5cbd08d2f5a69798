//! Pieces that several screens draw: sentences, gauges, sparklines, node rows, checks.

use ratatui::text::Line;

use super::super::model::Model;
use super::piece;
use crate::model::plan::{Candidate, Check};
use crate::model::record::ChainedRecord;
use crate::picture::{Gauge, Ink, Said, number};

/// All of a sentence, wrapped, each line behind `indent` cells.
pub(super) fn said(model: &Model, said: &Said, indent: usize, width: usize) -> Vec<Line<'static>> {
    lines(model, said.whole(width.saturating_sub(indent + 1)), indent)
}

/// One line of a sentence, with the clauses that fit; the others are counted.
pub(super) fn fitted(
    model: &Model,
    said: &Said,
    indent: usize,
    width: usize,
) -> Vec<Line<'static>> {
    lines(model, said.fit(width.saturating_sub(indent + 1), 1), indent)
}

fn lines(model: &Model, lines: Vec<Vec<(Ink, String)>>, indent: usize) -> Vec<Line<'static>> {
    lines
        .into_iter()
        .map(|line| {
            let gap = (Ink::Text, " ".repeat(indent));
            Line::from(
                std::iter::once(gap)
                    .chain(line)
                    .map(|(ink, words)| piece(model, ink, words))
                    .collect::<Vec<_>>(),
            )
        })
        .collect()
}

/// A label, then a sentence with a hanging indent.
pub(super) fn labelled(
    model: &Model,
    label: &str,
    label_ink: Ink,
    text: &Said,
    indent: usize,
    width: usize,
) -> Vec<Line<'static>> {
    let mut all = said(model, text, indent, width);
    if let Some(first) = all.first_mut() {
        first.spans[0] = piece(model, label_ink, super::page::left(&format!(" {label}"), indent));
    }
    all
}

/// A gauge and nothing else.
pub(super) fn gauge(model: &Model, ink: Ink, gauge: Gauge) -> Vec<ratatui::text::Span<'static>> {
    let (full, rest) = gauge.cells();
    vec![
        piece(model, ink, model.glyphs.full().repeat(full)),
        piece(model, Ink::Muted, model.glyphs.rest().repeat(rest)),
    ]
}

/// The last samples against a limit: one cell each, a gap drawn as a gap, over the limit as a mark.
pub(super) fn sparkline(
    model: &Model,
    samples: &[Option<u64>],
    limit: u64,
    width: usize,
) -> String {
    let bars = model.glyphs.bars();
    let tail = &samples[samples.len().saturating_sub(width)..];
    let mut text: String = std::iter::repeat_n(' ', width - tail.len()).collect();
    for sample in tail {
        text.push(match sample {
            None => ' ',
            Some(n) if *n > limit => '!',
            Some(n) => {
                // By powers of two: a lag of a few pages and one of a few megabytes are both to be
                // seen.
                let full = u64::from(64 - limit.max(2).leading_zeros());
                let part = u64::from(64 - n.leading_zeros());
                bars[usize::try_from(part * 7 / full).unwrap_or(7).min(7)]
            }
        });
    }
    text
}

/// The newest records, newest first, one line each; the same sentence again is counted. Of which
/// cluster each is where `of_many` are listed.
pub(super) fn facts<'a>(
    model: &'a Model,
    records: impl Iterator<Item = &'a ChainedRecord>,
    of_many: bool,
    most: usize,
    width: usize,
) -> (Vec<Line<'static>>, Vec<(usize, String)>) {
    // The newest of equal ones, how many they are, and the oldest: its number stays.
    let mut kept: Vec<(&ChainedRecord, u32, u64)> = vec![];
    for record in records {
        let again = kept.last().is_some_and(|(last, ..)| same(last, record));
        if let Some((_, times, oldest)) = kept.last_mut().filter(|_| again) {
            (*times, *oldest) = (*times + 1, record.number);
        } else if kept.len() < most {
            kept.push((record, 1, record.number));
        } else {
            break;
        }
    }
    let (mut lines, mut marks) = (vec![], vec![]);
    let cells = kept.last().map_or(9, |(oldest, ..)| model.clock_cells(oldest.record.wall));
    for (record, times, oldest) in kept {
        let cluster_of = |name: &str| format!("{}/{name}", record.record.cluster);
        let key = oldest.to_string();
        marks.push((lines.len(), if of_many { cluster_of(&key) } else { key }));
        let again = if times > 1 { format!(" · {times} times") } else { String::new() };
        let cluster = if of_many { format!("{} ", record.record.cluster) } else { String::new() };
        let text = Said::new()
            .say(Ink::Strong, cluster)
            .say(Ink::Text, record.record.text.clone())
            .say(Ink::Muted, again);
        let rule = match record.record.rule {
            0 => "   ".to_owned(),
            rule => format!("{rule:>3}"),
        };
        let clock = super::page::left(&model.clock(record.record.wall), cells);
        let label = format!("{clock} {rule}");
        let indent = unicode_width::UnicodeWidthStr::width(label.as_str()) + 3;
        lines.extend(labelled(model, &label, Ink::Muted, &text, indent, width));
    }
    (lines, marks)
}

/// By the same rule, in the same words but for what was measured.
fn same(a: &ChainedRecord, b: &ChainedRecord) -> bool {
    use crate::model::record::shape;
    (a.record.rule, &a.record.cluster) == (b.record.rule, &b.record.cluster)
        && shape(&a.record.text) == shape(&b.record.text)
}

/// A check: measured against its limit; where it failed, what would change it.
pub(super) fn check(model: &Model, check: &Check, width: usize) -> Vec<Line<'static>> {
    let (glyph, ink) = model.glyphs.held(check.passed);
    let value_ink = if check.passed { Ink::Text } else { Ink::Bad };
    let mut text = Said::new().say(value_ink, check.value.as_ref());
    if !check.limit.is_empty() {
        text = text.say(Ink::Muted, format!(" · limit {}", check.limit));
    }
    if let Some(age) = check.age.filter(|a| a.as_millis() >= 1_000) {
        text = text.say(Ink::Muted, format!(" · {} old", number::age(age)));
    }
    if !check.passed && !check.would_change.is_empty() {
        text = text.say(Ink::Muted, " · until ").say(Ink::Warn, check.would_change.as_ref());
    }
    if width < 60 {
        // In a narrow sheet the name is part of the sentence.
        let text = Said::new().say(Ink::Strong, format!("{} ", check.name)).and(0, "", text);
        return labelled(model, glyph, ink, &text, 3, width);
    }
    let mut lines = labelled(model, "", ink, &text, 28, width);
    if let Some(first) = lines.first_mut() {
        let name = super::page::left(&check.name, 24);
        first.spans[0] = piece(model, ink, format!(" {glyph} "));
        first.spans.insert(1, piece(model, Ink::Text, format!("{name} ")));
    }
    lines
}

/// A candidate: its rank, or the checks that it fails, each with what would change it.
pub(super) fn candidate(model: &Model, candidate: &Candidate, width: usize) -> Vec<Line<'static>> {
    let failed: Vec<&Check> = candidate.checks.iter().filter(|c| !c.passed).collect();
    let passed = candidate.checks.len() - failed.len();
    let (glyph, ink) = model.glyphs.held(candidate.eligible);
    let mut text = if candidate.eligible {
        Said::new()
            .say(Ink::Good, format!("rank {}", candidate.rank))
            .say(Ink::Muted, format!(" · {passed} of {} checks pass", candidate.checks.len()))
    } else {
        Said::new().say(Ink::Muted, format!("{passed} of {} pass", candidate.checks.len()))
    };
    for check in failed {
        text = text
            .say(Ink::Bad, format!(" · {}: {}", check.name, check.value))
            .say(Ink::Muted, format!(", limit {}", check.limit));
        if !check.would_change.is_empty() {
            text = text.say(Ink::Muted, ", until ").say(Ink::Warn, check.would_change.as_ref());
        }
    }
    let name = candidate.node.as_str();
    let column = unicode_width::UnicodeWidthStr::width(name).max(10);
    if column > 24 {
        // A long name is part of the sentence: nothing of it is cut.
        let text = Said::new().say(Ink::Strong, format!("{name} ")).and(0, " ", text);
        return labelled(model, glyph, ink, &text, 3, width);
    }
    let mut lines = labelled(model, "", ink, &text, column + 4, width);
    if let Some(first) = lines.first_mut() {
        first.spans[0] = piece(model, ink, format!(" {glyph} "));
        first.spans.insert(1, piece(model, Ink::Strong, super::page::left(name, column + 1)));
    }
    lines
}
