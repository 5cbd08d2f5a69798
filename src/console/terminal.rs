//! The terminal, taken and given back: whatever happens, its modes are as they were.

use std::io::{Write as _, stdout};

use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::style::ResetColor;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};

/// While it lives the terminal is the console's.
#[derive(Debug)]
pub struct Guard;

impl Guard {
    /// Takes the terminal. A panic gives it back before it speaks.
    ///
    /// # Errors
    /// Where there is none.
    pub fn take() -> std::io::Result<Self> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            hook(info);
        }));
        enter()?;
        Ok(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
    }
}

pub(super) fn enter() -> std::io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)
}

/// The wheel is the console's, or the terminal's own.
pub(super) fn mouse(on: bool) {
    // A terminal without a wheel has nothing to give.
    let _ = if on {
        execute!(stdout(), EnableMouseCapture)
    } else {
        execute!(stdout(), DisableMouseCapture)
    };
}

/// Can be done twice.
pub(super) fn give_back() {
    // A terminal that is gone needs nothing back.
    let _ = execute!(
        stdout(),
        ResetColor,
        DisableMouseCapture,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _ = disable_raw_mode();
    let _ = stdout().flush();
}
