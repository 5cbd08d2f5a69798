//! Glyphs, and text that fits. Every glyph is one cell wide, has an ASCII twin, and stands beside a
//! word.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::super::model::Model;
use super::super::theme::Role;
use crate::model::view::{ClusterState, StepState, Verdict};

fn glyph(model: &Model, unicode: &'static str, ascii: &'static str) -> &'static str {
    if model.ascii { ascii } else { unicode }
}

pub(super) fn state(model: &Model, state: ClusterState) -> (&'static str, Role) {
    let glyph = match state {
        ClusterState::Healthy => glyph(model, "●", "*"),
        ClusterState::Degraded => glyph(model, "◐", "~"),
        ClusterState::Critical => glyph(model, "✗", "X"),
        ClusterState::Unknown => "?",
    };
    (glyph, super::state_role(state))
}

pub(super) fn verdict(model: &Model, verdict: Verdict) -> (&'static str, Role) {
    match verdict {
        Verdict::Healthy => (glyph(model, "✓", "+"), Role::Good),
        Verdict::Degraded => (glyph(model, "◐", "~"), Role::Warn),
        Verdict::Suspect => (glyph(model, "◌", "o"), Role::Warn),
        Verdict::Failed => (glyph(model, "✗", "X"), Role::Bad),
        Verdict::Unknown => ("?", Role::Unknown),
    }
}

pub(super) fn step(model: &Model, state: StepState) -> (&'static str, Role) {
    match state {
        StepState::Waiting => (glyph(model, "·", "."), Role::Muted),
        StepState::Running => (glyph(model, "▸", ">"), Role::Warn),
        StepState::Done => (glyph(model, "✓", "+"), Role::Good),
        StepState::Failed => (glyph(model, "✗", "X"), Role::Bad),
        StepState::Unknown => ("?", Role::Unknown),
    }
}

pub(super) fn held(model: &Model, held: bool) -> (&'static str, Role) {
    if held {
        (glyph(model, "✓", "+"), Role::Good)
    } else {
        (glyph(model, "✗", "X"), Role::Bad)
    }
}

pub(super) fn dot(model: &Model, on: bool) -> &'static str {
    if on { glyph(model, "●", "*") } else { glyph(model, "○", "o") }
}

/// Fits into `width` cells; what was cut is marked.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > width {
            break;
        }
        used += w;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Broken into lines of at most `width` cells, at spaces where there are any.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = vec![];
    let mut line: String = text.chars().take_while(|c| *c == ' ').collect();
    let mut fresh = true;
    for word in text.trim_start().split(' ') {
        if !fresh && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
            fresh = true;
        }
        let mut word = word.to_owned();
        while word.width() > width {
            let head: String = word.chars().take(width).collect();
            word = word.chars().skip(width).collect();
            lines.push(head);
        }
        if !fresh {
            line.push(' ');
        }
        fresh = false;
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

/// The last lags against the limit: one cell a sample, a gap drawn as a gap, over the limit as a
/// mark.
pub(super) fn sparkline(
    model: &Model,
    samples: &[Option<u64>],
    limit: u64,
    width: usize,
) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];
    let bars = if model.ascii { ASCII } else { BARS };
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

/// Bytes for people.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..=9_999 => format!("{n} B"),
        10_000..=10_485_759 => format!("{} KiB", n >> 10),
        10_485_760..=10_737_418_239 => format!("{} MiB", n >> 20),
        _ => format!("{} GiB", n >> 30),
    }
}
