//! Every character that means something, one cell wide, with an ASCII twin that belongs to the
//! meaning and not to the character; each stands beside a word.

use crate::model::view::{StepState, Verdict};
use crate::picture::Ink;
use crate::picture::band::Mark;
use crate::picture::rail::Stop;

/// Which characters the terminal can draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Glyphs {
    /// Rounded corners too.
    #[default]
    Full,
    /// Blocks and square corners: the Linux console, unknown fonts.
    Blocks,
    /// ASCII only.
    Ascii,
}

/// How real a sheet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Border {
    /// Live.
    Light,
    /// Stale.
    Dashed,
    /// Simulated, drilled, replayed.
    Double,
    /// The gate.
    Thick,
}

/// Characters of a border.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) across: &'static str,
    pub(crate) divide: &'static str,
    pub(crate) down: &'static str,
    pub(crate) corners: [&'static str; 4],
    pub(crate) tees: [&'static str; 2],
}

impl Glyphs {
    /// All, in the order in which settings show them.
    pub const ALL: [Glyphs; 3] = [Glyphs::Full, Glyphs::Blocks, Glyphs::Ascii];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Glyphs::Full => "full",
            Glyphs::Blocks => "blocks",
            Glyphs::Ascii => "ascii",
        }
    }
    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|g| g.name() == name)
    }
    fn pick(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self == Glyphs::Ascii { ascii } else { unicode }
    }

    pub(crate) fn mark(self, mark: Mark) -> &'static str {
        match mark {
            Mark::None => "",
            Mark::Healthy => self.pick("●", "*"),
            Mark::Degraded => self.pick("◐", "~"),
            Mark::Critical => self.pick("✗", "X"),
            Mark::Unknown => "?",
            Mark::Yours => self.pick("►", "!"),
            Mark::Moves => self.pick("↯", "%"),
            Mark::Running => self.pick("▸", ">"),
            Mark::Holds => self.pick("✓", "+"),
        }
    }
    pub(crate) fn verdict(self, verdict: Verdict) -> (&'static str, Ink) {
        match verdict {
            Verdict::Healthy => (self.pick("✓", "+"), Ink::Good),
            Verdict::Degraded => (self.pick("◐", "~"), Ink::Warn),
            Verdict::Suspect => (self.pick("◌", "o"), Ink::Warn),
            Verdict::Failed => (self.pick("✗", "X"), Ink::Bad),
            Verdict::Unknown => ("?", Ink::Unknown),
        }
    }
    pub(crate) fn step(self, state: StepState) -> (&'static str, Ink) {
        match state {
            StepState::Waiting => (self.pick("·", "."), Ink::Muted),
            StepState::Running => (self.pick("▸", ">"), Ink::Warn),
            StepState::Done => (self.pick("✓", "+"), Ink::Good),
            StepState::Failed => (self.pick("✗", "X"), Ink::Bad),
            StepState::Unknown => ("?", Ink::Unknown),
        }
    }
    pub(crate) fn held(self, held: bool) -> (&'static str, Ink) {
        if held { (self.pick("✓", "+"), Ink::Good) } else { (self.pick("✗", "X"), Ink::Bad) }
    }
    pub(crate) fn role(self, role: crate::model::topology::Role) -> &'static str {
        match role {
            crate::model::topology::Role::Primary => self.pick("◆", "@"),
            crate::model::topology::Role::Secondary => self.pick("◇", "-"),
            crate::model::topology::Role::Witness => self.pick("△", "^"),
        }
    }
    pub(crate) fn vote(self, on: bool) -> &'static str {
        if on { self.pick("●", "*") } else { self.pick("○", "o") }
    }
    pub(crate) fn stop(self, stop: Stop) -> &'static str {
        match stop {
            Stop::Done => self.pick("●", "*"),
            Stop::Here => self.pick("◉", "O"),
            Stop::ToCome => self.pick("○", "o"),
            Stop::LeftOut => self.pick("·", "."),
        }
    }
    pub(crate) fn selected(self) -> &'static str {
        self.pick("▌", ">")
    }
    pub(crate) fn dot(self) -> &'static str {
        self.pick("·", "-")
    }
    pub(crate) fn to(self) -> &'static str {
        self.pick("→", ">")
    }
    pub(crate) fn crumb(self) -> &'static str {
        self.pick("›", ">")
    }
    pub(crate) fn full(self) -> &'static str {
        self.pick("━", "#")
    }
    pub(crate) fn rest(self) -> &'static str {
        self.pick("─", "-")
    }
    /// Eighths of a cell, from the least to a whole one.
    pub(crate) fn bars(self) -> [char; 8] {
        match self {
            Glyphs::Full | Glyphs::Blocks => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            Glyphs::Ascii => ['_', '.', ':', '-', '=', '+', '*', '#'],
        }
    }

    pub(crate) fn frame(self, border: Border) -> Frame {
        match (self, border) {
            (Glyphs::Ascii, _) => {
                let across = match border {
                    Border::Light => "-",
                    Border::Dashed => ".",
                    Border::Double => "=",
                    Border::Thick => "#",
                };
                let corner = if border == Border::Thick { "#" } else { "+" };
                let down = if border == Border::Thick { "#" } else { "|" };
                Frame { across, divide: "-", down, corners: [corner; 4], tees: [corner; 2] }
            }
            (Glyphs::Full, Border::Light) => Frame {
                across: "─",
                divide: "─",
                down: "│",
                corners: ["╭", "╮", "╰", "╯"],
                tees: ["├", "┤"],
            },
            (Glyphs::Blocks, Border::Light) => Frame {
                across: "─",
                divide: "─",
                down: "│",
                corners: ["┌", "┐", "└", "┘"],
                tees: ["├", "┤"],
            },
            (_, Border::Dashed) => Frame {
                across: "┄",
                divide: "┄",
                down: "┆",
                corners: ["┌", "┐", "└", "┘"],
                tees: ["├", "┤"],
            },
            (_, Border::Double) => Frame {
                across: "═",
                divide: "─",
                down: "║",
                corners: ["╔", "╗", "╚", "╝"],
                tees: ["╟", "╢"],
            },
            (_, Border::Thick) => Frame {
                across: "━",
                divide: "─",
                down: "┃",
                corners: ["┏", "┓", "┗", "┛"],
                tees: ["┠", "┨"],
            },
        }
    }
}

/// What is left that is not ASCII, in words that came over the wire.
pub(super) fn twins(buffer: &mut ratatui::buffer::Buffer) {
    for cell in &mut buffer.content {
        let twin = match cell.symbol() {
            symbol if symbol.is_ascii() => continue,
            "→" | "›" | "▸" | "►" => ">",
            "─" | "·" | "–" | "◇" | "┄" => "-",
            "━" => "#",
            "…" | "≈" => "~",
            "↑" => "^",
            "↓" => "v",
            "←" => "<",
            "×" => "x",
            "≤" => "<",
            "φ" => "p",
            "µ" => "u",
            "✓" => "+",
            "✗" => "X",
            "’" => "'",
            _ => "?",
        };
        cell.set_symbol(twin);
    }
}
