//! A frame into the fewest bytes that show it. ratatui's own backend gives every colour back at the
//! end of each frame: most of what an idle console would send. This one remembers what the terminal
//! is set to, writes a frame at once, and brackets it where a half of it could be seen.

use std::io::{self, Write};

use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::style::{
    Attribute, Print, SetAttribute, SetAttributes, SetBackgroundColor, SetForegroundColor,
};
use crossterm::terminal::{self, BeginSynchronizedUpdate, Clear, EndSynchronizedUpdate};
use ratatui::backend::{Backend, ClearType, IntoCrossterm as _, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier, Style};

/// So many cells are written and read at once, whatever lies between: nobody sees half of them.
const PIECE: usize = 16;

/// What the terminal was told to write with.
type Set = (Color, Color, Modifier);

/// The terminal's end of the drawing.
pub(super) struct Paint<W: Write> {
    out: W,
    frame: Vec<u8>,
    set: Option<Set>,
}

impl<W: Write> Paint<W> {
    /// Nothing is known of the terminal yet.
    pub(super) fn on(out: W) -> Self {
        Self { out, frame: Vec::new(), set: None }
    }
    /// Others wrote to the terminal: what it is set to is not known any more.
    pub(super) fn forget(&mut self) {
        self.set = None;
    }

    fn set(&mut self, to: Set) -> io::Result<()> {
        let (fg, bg, modifier) = to;
        let known = self.set.filter(|(_, _, m)| *m == modifier);
        if known.is_none() {
            queue!(self.frame, SetAttribute(Attribute::Reset))?;
            if !modifier.is_empty() {
                let style = Style::default().add_modifier(modifier).into_crossterm();
                queue!(self.frame, SetAttributes(style.attributes))?;
            }
        }
        let (old_fg, old_bg, _) = known.unwrap_or((Color::Reset, Color::Reset, modifier));
        if fg != old_fg {
            queue!(self.frame, SetForegroundColor(fg.into_crossterm()))?;
        }
        if bg != old_bg {
            queue!(self.frame, SetBackgroundColor(bg.into_crossterm()))?;
        }
        self.set = Some(to);
        Ok(())
    }
}

impl<W: Write> Backend for Paint<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let begun = self.frame.len();
        let mut cells = 0_usize;
        let mut next = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                queue!(self.frame, MoveTo(x, y))?;
            }
            next = Some((x + 1, y));
            let wanted = (cell.fg, cell.bg, cell.modifier);
            if self.set != Some(wanted) {
                self.set(wanted)?;
            }
            queue!(self.frame, Print(cell.symbol()))?;
            cells += 1;
        }
        // A few cells come in one piece.
        if cells > PIECE {
            let mut bracket = Vec::new();
            queue!(bracket, BeginSynchronizedUpdate)?;
            self.frame.splice(begun..begun, bracket);
            queue!(self.frame, EndSynchronizedUpdate)?;
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        queue!(self.frame, crossterm::cursor::Hide)
    }
    fn show_cursor(&mut self) -> io::Result<()> {
        queue!(self.frame, crossterm::cursor::Show)
    }
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // Asked for by inline viewports only; the console has the whole screen.
        Ok(Position::ORIGIN)
    }
    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        queue!(self.frame, MoveTo(x, y))
    }
    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }
    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        // Cleared cells take the ground that is set.
        self.set((Color::Reset, Color::Reset, Modifier::empty()))?;
        queue!(
            self.frame,
            Clear(match region {
                ClearType::All => terminal::ClearType::All,
                ClearType::AfterCursor => terminal::ClearType::FromCursorDown,
                ClearType::BeforeCursor => terminal::ClearType::FromCursorUp,
                ClearType::CurrentLine => terminal::ClearType::CurrentLine,
                ClearType::UntilNewLine => terminal::ClearType::UntilNewLine,
            })
        )
    }
    fn size(&self) -> io::Result<Size> {
        terminal::size().map(Size::from)
    }
    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }
    fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.frame).and_then(|()| self.out.flush());
        self.frame.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    use super::*;

    fn second(paint: &mut Paint<Vec<u8>>, clock: &str, age: &str) -> String {
        let style = Style::default().fg(Color::Rgb(211, 218, 227)).bg(Color::Rgb(27, 36, 47));
        let mut cells = Buffer::empty(Rect::new(0, 0, 20, 1));
        cells.set_string(0, 0, age, style);
        cells.set_string(10, 0, clock, style);
        let changed: Vec<(u16, u16, &Cell)> = (0..20)
            .map(|x| (x, 0, &cells[(x, 0)]))
            .filter(|(.., cell)| cell.symbol() != " ")
            .collect();
        paint.draw(changed.into_iter()).unwrap();
        paint.flush().unwrap();
        String::from_utf8(std::mem::take(&mut paint.out)).unwrap()
    }

    #[test]
    fn a_second_of_the_clock_is_a_handful_of_bytes_and_a_larger_frame_is_seen_whole() {
        let mut paint = Paint::on(Vec::new());
        second(&mut paint, "8", "");
        assert_eq!(second(&mut paint, "9", ""), "\x1b[1;11H9", "the colours stand already");
        assert_eq!(second(&mut paint, "10", "1"), "\x1b[1;1H1\x1b[1;11H10");
        let large = second(&mut paint, "23:59:59Z", "STALE 12 s");
        assert!(large.starts_with("\x1b[?2026h\x1b[1;1HSTALE"), "{large:?}");
        assert!(large.ends_with("59Z\x1b[?2026l"), "{large:?}");
        // What others wrote in between is not trusted.
        paint.forget();
        assert_eq!(
            second(&mut paint, "1", ""),
            "\x1b[1;11H\x1b[0m\x1b[38;2;211;218;227m\x1b[48;2;27;36;47m1"
        );
    }
}
