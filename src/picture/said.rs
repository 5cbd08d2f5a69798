//! Decisive text: clauses with ranks. It wraps; whole clauses go where room is short, never letters.

use std::fmt;

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// What a piece of text means; a window gives it a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ink {
    /// A value.
    #[default]
    Text,
    /// The subject of a sentence.
    Strong,
    /// A label, a unit, what is past.
    Muted,
    /// Something to type or to press.
    Key,
    /// Proved, held, healthy.
    Good,
    /// Moves by itself, waits, degraded.
    Warn,
    /// Writes are stopped, data is at stake, failed.
    Bad,
    /// Not known.
    Unknown,
    /// Simulated, drilled, replayed.
    Unreal,
}

/// A bar beside its number: what is left drains, what is used fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// How much of it is full, in thousandths.
    pub milli: u16,
    /// How long it is.
    pub cells: u16,
}

impl Gauge {
    /// `part` of `whole`, `cells` long.
    pub fn of(part: u64, whole: u64, cells: u16) -> Self {
        let milli = (u128::from(part) * 1_000).checked_div(u128::from(whole)).unwrap_or(1_000);
        Self { milli: u16::try_from(milli.min(1_000)).unwrap_or(1_000), cells }
    }
    /// Its cells: full ones, then the rest. Anything above zero fills one.
    pub fn cells(self) -> (usize, usize) {
        let cells = usize::from(self.cells);
        let full = (usize::from(self.milli) * cells).div_ceil(1_000).min(cells);
        (full, cells - full)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Words(Ink, String),
    Gauge(Ink, Gauge),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Clause {
    rank: u8,
    join: &'static str,
    pieces: Vec<Piece>,
}

/// A sentence of ranked clauses. Rank 0 is always shown; the highest rank goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    clauses: Vec<Clause>,
}

/// A space inside a number and its unit: no line is broken there.
pub(super) const HARD_SPACE: char = '\u{a0}';
/// Stands for a full cell of a gauge until a window draws it.
const FULL: char = '━';
const REST: char = '─';

/// A line as drawn: pieces with their meaning.
pub type Drawn = Vec<(Ink, String)>;

impl Said {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Begins with plain words.
    pub fn text(words: impl Into<String>) -> Self {
        Self::new().say(Ink::Text, words)
    }
    /// Words that came as one string: split at semicolons and dots between spaces, the first
    /// clause always stays.
    pub fn from_words(words: &str, ink: Ink) -> Self {
        let mut said = Self::new();
        for (i, part) in words.split(" · ").enumerate() {
            for (j, clause) in part.split("; ").enumerate() {
                let rank = u8::try_from(i + j).unwrap_or(u8::MAX);
                said = if i + j == 0 {
                    said
                } else if j == 0 {
                    said.then(rank, " · ")
                } else {
                    said.then(rank, "; ")
                };
                said = said.say(ink, clause);
            }
        }
        said
    }
    /// Adds words to the present clause.
    #[must_use]
    pub fn say(mut self, ink: Ink, words: impl Into<String>) -> Self {
        self.last().push(Piece::Words(ink, words.into()));
        self
    }
    /// Adds a gauge to the present clause.
    #[must_use]
    pub fn gauge(mut self, ink: Ink, gauge: Gauge) -> Self {
        self.last().push(Piece::Gauge(ink, gauge));
        self
    }
    /// Begins a clause of that rank, joined to the one before it by `join`.
    #[must_use]
    pub fn then(mut self, rank: u8, join: &'static str) -> Self {
        let join = if self.clauses.is_empty() { "" } else { join };
        self.clauses.push(Clause { rank, join, pieces: vec![] });
        self
    }
    /// Adds another sentence, its clauses each at least of that rank. Without a `join`, or behind a
    /// clause that was just begun, its first clause goes on with the present one.
    #[must_use]
    pub fn and(mut self, rank: u8, join: &'static str, other: Said) -> Self {
        for (i, mut clause) in other.clauses.into_iter().enumerate() {
            clause.rank = clause.rank.max(rank);
            let goes_on =
                self.clauses.last().is_some_and(|c| join.is_empty() || c.pieces.is_empty());
            if i == 0 && goes_on {
                self.last().extend(clause.pieces);
                continue;
            }
            if i == 0 {
                clause.join = if self.clauses.is_empty() { "" } else { join };
            }
            self.clauses.push(clause);
        }
        self
    }
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.clauses.iter().all(|c| c.pieces.is_empty())
    }

    fn last(&mut self) -> &mut Vec<Piece> {
        if self.clauses.is_empty() {
            self.clauses.push(Clause { rank: 0, join: "", pieces: vec![] });
        }
        let at = self.clauses.len() - 1;
        &mut self.clauses[at].pieces
    }

    fn drawn(&self, up_to: u8) -> Drawn {
        let mut line = Drawn::new();
        for clause in self.clauses.iter().filter(|c| c.rank <= up_to && !c.pieces.is_empty()) {
            if !line.is_empty() && !clause.join.is_empty() {
                line.push((Ink::Muted, clause.join.to_owned()));
            }
            for piece in &clause.pieces {
                match piece {
                    Piece::Words(ink, words) => line.push((*ink, words.clone())),
                    Piece::Gauge(ink, gauge) => {
                        let (full, rest) = gauge.cells();
                        line.push((*ink, FULL.to_string().repeat(full)));
                        line.push((Ink::Muted, REST.to_string().repeat(rest)));
                    }
                }
            }
        }
        line
    }

    /// All of it, wrapped to `width` cells.
    pub fn whole(&self, width: usize) -> Vec<Drawn> {
        wrap(&self.drawn(u8::MAX), width)
    }

    /// Wrapped to `width`, in at most `rows` lines if whole clauses can be left out for it; `+n`
    /// says how many were. Clauses of rank 0 always stay, whatever lines they need.
    pub fn fit(&self, width: usize, rows: usize) -> Vec<Drawn> {
        let mut ranks: Vec<u8> = self.clauses.iter().map(|c| c.rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        for (i, up_to) in ranks.iter().rev().enumerate() {
            let mut line = self.drawn(*up_to);
            let left_out =
                self.clauses.iter().filter(|c| c.rank > *up_to && !c.pieces.is_empty()).count();
            if left_out > 0 {
                line.push((Ink::Key, format!(" +{left_out}")));
            }
            let lines = wrap(&line, width);
            if lines.len() <= rows || i + 1 == ranks.len() {
                return lines;
            }
        }
        vec![]
    }

    /// How many lines its clauses of rank 0 need.
    pub fn least(&self, width: usize) -> usize {
        let more = self.clauses.iter().any(|c| c.rank > 0);
        let mut line = self.drawn(0);
        if more {
            line.push((Ink::Key, " +9".into()));
        }
        wrap(&line, width).len()
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, words) in self.drawn(u8::MAX) {
            f.write_str(&words.replace(HARD_SPACE, " "))?;
        }
        Ok(())
    }
}

/// The words of a drawn line.
pub fn line_of(line: &[(Ink, String)]) -> String {
    line.iter().map(|(_, words)| words.as_str()).collect()
}

/// Plain words, wrapped to `width` cells.
pub fn wrap_words(words: &str, width: usize) -> Vec<String> {
    wrap(&[(Ink::Text, words.to_owned())], width).iter().map(|l| line_of(l)).collect()
}

/// Lines are broken at spaces; a word that is longer than a line, between its letters, for then
/// nothing of it is lost.
fn wrap(line: &[(Ink, String)], width: usize) -> Vec<Drawn> {
    let width = width.max(4);
    let mut lines: Vec<Drawn> = vec![];
    let mut current = Drawn::new();
    let mut used = 0;
    for word in words(line) {
        let length: usize = word.iter().map(|(_, t)| t.width()).sum();
        let gap = usize::from(used > 0);
        if used > 0 && used + gap + length > width {
            lines.push(std::mem::take(&mut current));
            used = 0;
        }
        if used > 0 {
            push(&mut current, Ink::Text, " ");
            used += 1;
        }
        for (ink, text) in word {
            for grapheme in text.graphemes(true) {
                let w = grapheme.width();
                if used + w > width {
                    lines.push(std::mem::take(&mut current));
                    used = 0;
                }
                let hard = grapheme.starts_with(HARD_SPACE);
                push(&mut current, ink, if hard { " " } else { grapheme });
                used += w;
            }
        }
    }
    if !current.is_empty() || lines.is_empty() {
        lines.push(current);
    }
    lines
}

fn push(line: &mut Drawn, ink: Ink, text: &str) {
    match line.last_mut() {
        Some((last, words)) if *last == ink => words.push_str(text),
        _ => line.push((ink, text.to_owned())),
    }
}

/// Words, each of pieces with their ink: a word may change its ink inside.
fn words(line: &[(Ink, String)]) -> Vec<Drawn> {
    let mut words: Vec<Drawn> = vec![];
    let mut open = false;
    for (ink, text) in line {
        for (i, part) in text.split(' ').enumerate() {
            if i > 0 {
                open = false;
            }
            if part.is_empty() {
                continue;
            }
            match words.last_mut().filter(|_| open) {
                Some(word) => word.push((*ink, part.to_owned())),
                None => words.push(vec![(*ink, part.to_owned())]),
            }
            open = true;
        }
        if text.ends_with(' ') {
            open = false;
        }
    }
    words
}
