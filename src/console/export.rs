//! What is on the screen, for others: as plain text, with a terminal's codes, and as SVG.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

use super::theme::{Role, Theme};

/// The cells of a row that hold a letter: the second one of a wide letter holds none.
fn cells(buffer: &Buffer, y: u16) -> impl Iterator<Item = &Cell> {
    let mut skip = 0;
    (0..buffer.area.width).filter_map(move |x| {
        if skip > 0 {
            skip -= 1;
            return None;
        }
        let cell = &buffer[(x, y)];
        skip = cell.symbol().width().saturating_sub(1);
        Some(cell)
    })
}

/// Lines of text, without trailing spaces.
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in 0..area.height {
        let line: String = cells(buffer, y).map(Cell::symbol).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Lines with the terminal's own codes for their colours.
pub fn ansi(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in 0..area.height {
        let mut last = None;
        for cell in cells(buffer, y) {
            let style = (cell.fg, cell.bg, cell.modifier);
            if last != Some(style) {
                out.push_str("\x1b[0");
                for (flag, code) in [
                    (Modifier::BOLD, 1),
                    (Modifier::DIM, 2),
                    (Modifier::UNDERLINED, 4),
                    (Modifier::REVERSED, 7),
                ] {
                    if cell.modifier.contains(flag) {
                        // Writing to a String does not fail.
                        let _ = write!(out, ";{code}");
                    }
                }
                for (colour, kind) in [(cell.fg, 38), (cell.bg, 48)] {
                    if let Some((r, g, b)) = rgb(colour) {
                        let _ = write!(out, ";{kind};2;{r};{g};{b}");
                    }
                }
                out.push('m');
                last = Some(style);
            }
            out.push_str(cell.symbol());
        }
        out.push_str("\x1b[0m\n");
    }
    out
}

/// Width and height of a cell in a picture.
const CELL: (u16, u16) = (9, 18);

/// How a cell is painted.
#[derive(Clone, PartialEq)]
struct Look {
    ink: String,
    ground: Option<String>,
    bold: bool,
    dim: bool,
    underline: bool,
}

fn hex((r, g, b): (u8, u8, u8)) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn look(cell: &Cell, ground: &str, ink: &str) -> Look {
    let (mut fg, mut bg) =
        (rgb(cell.fg).map_or_else(|| ink.to_owned(), hex), rgb(cell.bg).map(hex));
    if cell.modifier.contains(Modifier::REVERSED) {
        (fg, bg) = (bg.unwrap_or_else(|| ground.to_owned()), Some(fg));
    }
    Look {
        ink: fg,
        ground: bg,
        bold: cell.modifier.contains(Modifier::BOLD),
        dim: cell.modifier.contains(Modifier::DIM),
        underline: cell.modifier.contains(Modifier::UNDERLINED),
    }
}

/// An SVG picture with a ground of its own. Every letter has its own place: browsers stretch or
/// squeeze longer runs, and drop spaces, each in its own way.
pub fn svg(buffer: &Buffer, theme: &Theme) -> String {
    let ground = hex(theme.ground.unwrap_or((0x0f, 0x14, 0x1a)));
    let plain = if theme.is_dark() { (0xd3, 0xda, 0xe3) } else { (0x1f, 0x29, 0x33) };
    let ink = hex(theme.style(Role::Text).fg.and_then(rgb).unwrap_or(plain));
    let area = buffer.area;
    let (width, height) = (area.width * CELL.0 + 20, area.height * CELL.1 + 20);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
            viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{ground}\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"15\">\n"
    );
    for y in 0..area.height {
        let looks: Vec<Look> =
            (0..area.width).map(|x| look(&buffer[(x, y)], &ground, &ink)).collect();
        grounds(&looks, y, &mut out);
        words(buffer, &looks, y, &mut out);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// One rectangle for cells beside each other on the same ground.
fn grounds(looks: &[Look], y: u16, out: &mut String) {
    let mut from = 0;
    while from < looks.len() {
        let ground = &looks[from].ground;
        let to = (from..looks.len()).find(|i| looks[*i].ground != *ground).unwrap_or(looks.len());
        if let Some(fill) = ground {
            // Writing to a String does not fail.
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\"/>",
                10 + from * usize::from(CELL.0),
                10 + y * CELL.1,
                (to - from) * usize::from(CELL.0),
                CELL.1
            );
        }
        from = to;
    }
}

/// One element for a word, with the place of each letter.
fn words(buffer: &Buffer, looks: &[Look], y: u16, out: &mut String) {
    let mut places: Vec<String> = vec![];
    let mut word = String::new();
    let mut begun: Option<&Look> = None;
    let mut close = |places: &mut Vec<String>, word: &mut String, look: Option<&Look>| {
        if let Some(look) = look.filter(|_| !word.is_empty()) {
            let bold = if look.bold { " font-weight=\"bold\"" } else { "" };
            let dim = if look.dim { " opacity=\"0.6\"" } else { "" };
            let line = if look.underline { " text-decoration=\"underline\"" } else { "" };
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" fill=\"{}\"{bold}{dim}{line}>{word}</text>",
                places.join(" "),
                24 + y * CELL.1,
                look.ink
            );
        }
        places.clear();
        word.clear();
    };
    let mut skip = 0;
    for (x, look) in looks.iter().enumerate() {
        // The second cell of a wide letter.
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let symbol = buffer[(u16::try_from(x).unwrap_or(0), y)].symbol();
        if symbol.trim().is_empty() || begun.is_some_and(|b| b != look) {
            close(&mut places, &mut word, begun);
            begun = None;
        }
        if symbol.trim().is_empty() {
            continue;
        }
        begun = Some(look);
        skip = symbol.width().saturating_sub(1);
        // A place for each character of the letter, its combining ones included.
        for c in symbol.chars() {
            places.push((10 + x * usize::from(CELL.0)).to_string());
            match c {
                '&' => word.push_str("&amp;"),
                '<' => word.push_str("&lt;"),
                '>' => word.push_str("&gt;"),
                c => word.push(c),
            }
        }
    }
    close(&mut places, &mut word, begun);
}

fn rgb(colour: Color) -> Option<(u8, u8, u8)> {
    Some(match colour {
        Color::Reset => return None,
        Color::Rgb(r, g, b) => (r, g, b),
        Color::Black => (0, 0, 0),
        Color::Red | Color::LightRed => (0xe0, 0x55, 0x61),
        Color::Green | Color::LightGreen => (0x8c, 0xc2, 0x65),
        Color::Yellow | Color::LightYellow => (0xd1, 0x8f, 0x52),
        Color::Blue | Color::LightBlue => (0x4a, 0xa5, 0xf0),
        Color::Magenta | Color::LightMagenta => (0xc1, 0x62, 0xde),
        Color::Cyan | Color::LightCyan => (0x42, 0xb3, 0xc2),
        Color::Gray | Color::Indexed(0..=15 | 232..) => (0xc8, 0xcc, 0xd4),
        Color::DarkGray => (0x7f, 0x84, 0x8e),
        Color::White => (0xff, 0xff, 0xff),
        Color::Indexed(i) => {
            let n = i - 16;
            let level = |v: u8| v * 51;
            (level(n / 36), level(n / 6 % 6), level(n % 6))
        }
    })
}
