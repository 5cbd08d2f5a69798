//! A program in a terminal of its own: what it shows, what it asked the terminal for, and how the
//! line is set. Waiting is for bytes, never for time.

use std::io::{Read as _, Write};
use std::num::NonZeroU16;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// A bound on every wait; nothing is expected to need it.
const DEADLINE: Duration = Duration::from_secs(90);

struct Seen {
    screen: vt100::Parser,
    bytes: usize,
    ended: bool,
}

/// The terminal and the program in it.
pub struct Pty {
    master: Box<dyn MasterPty + Send>,
    input: Arc<Mutex<Box<dyn Write + Send>>>,
    child: Box<dyn Child + Send + Sync>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

/// What the terminal was asked for, and how its line is set.
#[derive(Debug, PartialEq)]
pub struct State {
    pub alternate: bool,
    pub cursor_hidden: bool,
    pub paste: bool,
    pub mouse: bool,
    pub coloured: bool,
    pub line: String,
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

fn size((width, height): (u16, u16)) -> PtySize {
    PtySize { rows: height, cols: width, pixel_width: 0, pixel_height: 0 }
}

fn cells(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).expect("no terminal has no cells")
}

impl Pty {
    /// Starts `program` with `arguments`; `home` is where it finds nothing of the person's.
    pub fn start(
        cells_of: (u16, u16),
        home: &std::path::Path,
        program: &str,
        arguments: &[&str],
    ) -> Self {
        Self::on("0000/0000/0000", cells_of, home, program, arguments)
    }

    /// The same, and when it is asked for its ground it says this one.
    pub fn on(
        ground: &'static str,
        cells_of: (u16, u16),
        home: &std::path::Path,
        program: &str,
        arguments: &[&str],
    ) -> Self {
        let pair = native_pty_system().openpty(size(cells_of)).expect("a terminal is to be had");
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.cwd(home);
        for (name, value) in [("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8"), ("PS1", "ready$ ")]
        {
            command.env(name, value);
        }
        for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            command.env(name, home);
        }
        for name in ["COLORTERM", "NO_COLOR", "SSH_CONNECTION", "COLORFGBG"] {
            command.env_remove(name);
        }
        let child = pair.slave.spawn_command(command).expect("the program starts");
        drop(pair.slave);
        let screen = vt100::Parser::new(cells(cells_of.1), cells(cells_of.0), 0);
        let seen = Seen { screen, bytes: 0, ended: false };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let mut reader = pair.master.try_clone_reader().expect("a terminal can be read");
        let input = pair.master.take_writer().expect("a terminal can be written to");
        let input = Arc::new(Mutex::new(input));
        let answers = Arc::clone(&input);
        let theirs = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut asked = Vec::new();
            loop {
                let read = reader.read(&mut buffer).unwrap_or(0);
                asked.extend_from_slice(&buffer[..read]);
                // As terminals do.
                if contains(&asked, b"\x1b]11;?") {
                    asked.clear();
                    let answer = format!("\x1b]11;rgb:{ground}\x1b\\");
                    let mut input = answers.lock().expect("nobody panics with it");
                    let _ = input.write_all(answer.as_bytes()).and_then(|()| input.flush());
                }
                let (lock, changed) = &*theirs;
                let mut seen = lock.lock().expect("nobody panics with it");
                seen.screen.process(&buffer[..read]);
                seen.bytes += read;
                seen.ended = read == 0;
                changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Self { master: pair.master, input, child, seen }
    }

    /// The program's process.
    pub fn pid(&self) -> u32 {
        self.child.process_id().expect("it was started")
    }
    /// Types, as bytes.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // A program that has left does not read.
        let mut input = self.input.lock().expect("nobody panics with it");
        let _ = input.write_all(bytes.as_ref()).and_then(|()| input.flush());
    }
    /// Enter in the palette, by itself: a test types faster than a person, and what comes within a
    /// moment of the text counts as pasted.
    pub fn enter(&mut self) {
        self.write("\r");
        let pasted = "press it by itself";
        let taken = |screen: &str| !screen.contains("COMMAND ·") || screen.contains(pasted);
        if self.until("Enter to be taken", taken).contains(pasted) {
            self.write("\r");
        }
    }
    /// Another size, up to the one it was started with: what is shown stands at its left and top.
    pub fn resize(&self, to: (u16, u16)) {
        self.master.resize(size(to)).expect("a terminal can be resized");
    }
    /// How many bytes came so far.
    pub fn bytes(&self) -> usize {
        self.seen.0.lock().expect("nobody panics with it").bytes
    }
    /// Waits until there are more bytes than these.
    pub fn more_than(&self, bytes: usize) {
        let (lock, changed) = &*self.seen;
        let seen = lock.lock().expect("nobody panics with it");
        let (_seen, late) = changed
            .wait_timeout_while(seen, DEADLINE, |seen| seen.bytes <= bytes && !seen.ended)
            .expect("nobody panics with it");
        assert!(!late.timed_out(), "nothing more came");
    }
    /// Whether the screen says it now.
    pub fn shows(&self, words: &str) -> bool {
        let seen = self.seen.0.lock().expect("nobody panics with it");
        seen.screen.screen().contents().contains(words)
    }
    /// How the first place that shows these words is drawn: ink and ground.
    pub fn colours(&self, words: &str) -> Option<(vt100::Color, vt100::Color)> {
        let seen = self.seen.0.lock().expect("nobody panics with it");
        let screen = seen.screen.screen();
        let (rows, columns) = screen.size();
        (0..rows.get()).find_map(|row| {
            let line = screen.rows(0, columns.get()).nth(usize::from(row))?;
            let before = line.split(words).next().filter(|_| line.contains(words))?;
            let column = u16::try_from(before.chars().count()).ok()?;
            screen.cell(row, column).map(|cell| (cell.fgcolor(), cell.bgcolor()))
        })
    }
    /// Waits until the screen says it.
    pub fn wait(&self, words: &str) -> String {
        self.until(words, |screen| screen.contains(words))
    }
    /// Waits until the screen is so.
    pub fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let (lock, changed) = &*self.seen;
        let end = Instant::now() + DEADLINE;
        let mut seen = lock.lock().expect("nobody panics with it");
        loop {
            let screen = seen.screen.screen().contents();
            if holds(&screen) {
                return screen;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !seen.ended,
                "waited for {what:?} (ended: {}); the screen is:\n{screen}",
                seen.ended
            );
            seen = changed.wait_timeout(seen, left).expect("nobody panics with it").0;
        }
    }
    /// Waits until the program has left and all it wrote has come.
    pub fn left(&mut self) -> portable_pty::ExitStatus {
        let (lock, changed) = &*self.seen;
        let seen = lock.lock().expect("nobody panics with it");
        let (seen, late) = changed
            .wait_timeout_while(seen, DEADLINE, |seen| !seen.ended)
            .expect("nobody panics with it");
        assert!(!late.timed_out(), "it did not leave:\n{}", seen.screen.screen().contents());
        drop(seen);
        self.child.wait().expect("it was started")
    }
    /// The state of the terminal.
    pub fn state(&self) -> State {
        let seen = self.seen.0.lock().expect("nobody panics with it");
        let screen = seen.screen.screen();
        State {
            alternate: screen.alternate_screen(),
            cursor_hidden: screen.hide_cursor(),
            paste: screen.bracketed_paste(),
            mouse: screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None,
            coloured: screen.fgcolor() != vt100::Color::Default
                || screen.bgcolor() != vt100::Color::Default
                || screen.bold(),
            line: format!("{:?}", self.master.get_termios()),
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have left already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
