//! What is on the screen, for others: as plain text, and as SVG.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

/// Lines of text, without trailing spaces.
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in 0..area.height {
        let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// An SVG picture with a background of its own.
pub fn svg(buffer: &Buffer, dark: bool) -> String {
    const CELL: (u16, u16) = (9, 18);
    let (ground, ink) = if dark { ("#1b1f27", "#d8dee9") } else { ("#ffffff", "#24292f") };
    let area = buffer.area;
    let (width, height) = (area.width * CELL.0 + 20, area.height * CELL.1 + 20);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
            viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{ground}\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"15\" \
         xml:space=\"preserve\">\n"
    );
    for y in 0..area.height {
        let mut x = 0;
        while x < area.width {
            let cell = &buffer[(x, y)];
            let same = |other: &ratatui::buffer::Cell| {
                other.fg == cell.fg && other.bg == cell.bg && other.modifier == cell.modifier
            };
            let start = x;
            let mut run = String::new();
            while x < area.width && same(&buffer[(x, y)]) {
                run.push_str(buffer[(x, y)].symbol());
                x += 1;
            }
            let reversed = cell.modifier.contains(Modifier::REVERSED);
            let (mut fg, mut bg) =
                (colour(cell.fg).unwrap_or_else(|| ink.to_owned()), colour(cell.bg));
            if reversed {
                (fg, bg) = (bg.unwrap_or_else(|| ground.to_owned()), Some(fg));
            }
            let (left, top) = (10 + start * CELL.0, 10 + y * CELL.1);
            let length = (x - start) * CELL.0;
            if let Some(bg) = bg {
                // Writing to a String does not fail.
                let _ = writeln!(
                    out,
                    "<rect x=\"{left}\" y=\"{top}\" width=\"{length}\" height=\"{}\" \
                        fill=\"{bg}\"/>",
                    CELL.1
                );
            }
            if !run.trim().is_empty() {
                let bold = if cell.modifier.contains(Modifier::BOLD) {
                    " font-weight=\"bold\""
                } else {
                    ""
                };
                let dim =
                    if cell.modifier.contains(Modifier::DIM) { " opacity=\"0.6\"" } else { "" };
                let escaped = run.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let _ = writeln!(
                    out,
                    "<text x=\"{left}\" y=\"{}\" fill=\"{fg}\"{bold}{dim} textLength=\"{length}\" \
                        lengthAdjust=\"spacingAndGlyphs\">{escaped}</text>",
                    top + 14
                );
            }
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn colour(colour: Color) -> Option<String> {
    Some(match colour {
        Color::Reset => return None,
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        Color::Black => "#000000".into(),
        Color::Red | Color::LightRed => "#e05561".into(),
        Color::Green | Color::LightGreen => "#8cc265".into(),
        Color::Yellow | Color::LightYellow => "#d18f52".into(),
        Color::Blue | Color::LightBlue => "#4aa5f0".into(),
        Color::Magenta | Color::LightMagenta => "#c162de".into(),
        Color::Cyan | Color::LightCyan => "#42b3c2".into(),
        Color::Gray => "#c8ccd4".into(),
        Color::DarkGray => "#7f848e".into(),
        Color::White => "#ffffff".into(),
        Color::Indexed(i @ 16..=231) => {
            let n = i - 16;
            let level = |v: u8| v * 51;
            format!("#{:02x}{:02x}{:02x}", level(n / 36), level(n / 6 % 6), level(n % 6))
        }
        Color::Indexed(_) => "#c8ccd4".into(),
    })
}
