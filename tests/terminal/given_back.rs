//! However the console ends, the terminal is as it was: its line, its screen, cursor, paste and
//! mouse.

use rustix::process::{Pid, Signal, kill_process};

use crate::pty::{Pty, State};
use crate::{PROGRAM, console, server, stranger};

const PROMPT: &str = "ready$ ";

/// A shell in a terminal, and the terminal as it was before anything ran in it.
struct Shell {
    terminal: Pty,
    before: State,
    _home: tempfile::TempDir,
}

impl Shell {
    /// With the console in it, which has nobody to talk to.
    fn with_console() -> Self {
        Self::of((80, 24))
    }
    fn of(size: (u16, u16)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let identity = stranger(home.path(), &server::absent());
        // Everything that could be left behind is on.
        let folder = home.path().join("quorate");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("console.toml"), "mouse = true\n").unwrap();
        let mut terminal = Pty::start(size, home.path(), "/bin/sh", &["-i"]);
        terminal.wait(PROMPT);
        let before = terminal.state();
        terminal.write(format!("{PROGRAM} {}\n", console(&identity).join(" ")));
        terminal.wait("UNKNOWN");
        let during = terminal.state();
        assert!(during.alternate && during.cursor_hidden && during.paste && during.mouse);
        assert_ne!(during.line, before.line);
        Self { terminal, before, _home: home }
    }
    fn console(&self) -> Pid {
        let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
            (*fields.get(1)? == self.terminal.pid().to_string()).then_some(pid)
        });
        Pid::from_raw(found.expect("the console runs")).unwrap()
    }
    /// The shell has the terminal again, and it is as it was.
    fn is_as_before(&self) {
        self.terminal.until("the shell's prompt, at the end", |screen| {
            screen.trim_end().ends_with(PROMPT.trim_end()) && !screen.contains("UNKNOWN")
        });
        assert_eq!(self.terminal.state(), self.before);
    }
}

#[test]
fn q_and_control_c_give_it_back() {
    for key in [&b"q"[..], b"\x03"] {
        let mut shell = Shell::with_console();
        shell.terminal.write(key);
        shell.is_as_before();
    }
}

#[test]
fn control_c_leaves_from_every_dialog() {
    for dialog in [&b"?"[..], b":", b"/", b" ", b"g", b"gs", b":exec"] {
        let mut shell = Shell::with_console();
        shell.terminal.write(dialog);
        shell.terminal.write(b"\x03");
        shell.is_as_before();
    }
}

#[test]
fn signals_give_it_back() {
    for signal in [Signal::TERM, Signal::HUP] {
        let shell = Shell::with_console();
        kill_process(shell.console(), signal).unwrap();
        shell.is_as_before();
    }
}

#[test]
fn control_z_gives_it_back_and_fg_takes_it_again() {
    let mut shell = Shell::with_console();
    let during = shell.terminal.state();
    shell.terminal.write(b"\x1a");
    shell.is_as_before();
    shell.terminal.write("fg\n");
    shell.terminal.wait("UNKNOWN");
    assert_eq!(shell.terminal.state(), during);
    shell.terminal.write(b"q");
    shell.is_as_before();
}

#[test]
fn a_paste_of_a_megabyte_is_no_keys() {
    let mut shell = Shell::with_console();
    let bomb = "q\r:quit\r\x03".repeat(125_000);
    shell.terminal.write(format!("\x1b[200~{bomb}\x1b[201~"));
    shell.terminal.wait("a paste is not taken as keys");
    assert!(shell.terminal.state().alternate, "it is still there");
    shell.terminal.write(b"q");
    shell.is_as_before();
}

#[test]
fn a_storm_of_sizes_leaves_it_standing() {
    let mut shell = Shell::of((400, 120));
    for step in 0..60_u16 {
        let wide = [1, 400, 71, 72, 120, 3][usize::from(step) % 6];
        let high = [1, 120, 20, 21, 2][usize::from(step) % 5];
        shell.terminal.resize((wide, high));
        shell.terminal.write(b"1");
    }
    shell.terminal.resize((80, 24));
    shell.terminal.wait("nothing was received yet");
    // A `q` in a burst of keys is a paste.
    shell.terminal.write(b"\x03");
    shell.is_as_before();
}

/// Set for the process that has to panic.
const PANICS: &str = "QUORATE_TEST_PANICS";

/// Run by the test below, in a terminal of its own.
#[test]
fn panics_with_the_terminal_in_its_hands() {
    if std::env::var_os(PANICS).is_some() {
        let _guard = quorate::console::terminal::Guard::take().unwrap();
        // Of another thread, as of a task: nobody unwinds past the guard.
        let ended = std::thread::spawn(|| panic!("planted")).join();
        assert!(ended.is_err());
        std::process::abort();
    }
}

/// A panic gives the terminal back before it speaks, so that what it says can be read.
#[test]
fn a_panic_gives_it_back_and_is_readable() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Pty::start((100, 30), home.path(), "/bin/sh", &["-i"]);
    terminal.wait(PROMPT);
    let before = terminal.state();
    let own = std::env::current_exe().unwrap();
    let name = "given_back::panics_with_the_terminal_in_its_hands";
    terminal.write(format!("{PANICS}=1 {} --exact {name} --nocapture\n", own.display()));
    terminal.wait("planted");
    terminal.until("the shell's prompt, at the end", |screen| {
        screen.contains("planted") && screen.trim_end().ends_with(PROMPT.trim_end())
    });
    assert_eq!(terminal.state(), before);
}
