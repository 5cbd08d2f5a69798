//! Themes and keymaps while they are edited.

use crate::pty::Pty;
use crate::{PROGRAM, console, server, stranger};

#[test]
fn an_edited_keymap_is_in_force_at_once_and_a_wrong_one_is_not() {
    let home = tempfile::tempdir().unwrap();
    let identity = stranger(home.path(), &server::absent());
    let file = home.path().join("mine.toml");
    let text = include_str!("../../keymaps/default.toml");
    std::fs::write(&file, text).unwrap();
    let arguments = [&console(&identity)[..], &["--keymap", file.to_str().unwrap()]].concat();
    let mut terminal = Pty::start((120, 30), home.path(), PROGRAM, &arguments);
    terminal.wait("UNKNOWN");
    // What is wrong is said with its line, and the keys stay.
    std::fs::write(&file, text.replace("help = [\"?\"]", "help = [\"?\"")).unwrap();
    terminal.wait("the keymap stays as it was");
    terminal.wait("line ");
    terminal.write("?");
    terminal.wait("WHAT WORKS HERE");
    terminal.write("\x1b");
    std::fs::write(&file, text.replace("help = [\"?\"]", "help = [\"!\"]")).unwrap();
    terminal.wait("the keymap was read again");
    terminal.write("!");
    terminal.wait("WHAT WORKS HERE");
    terminal.write("\x03");
    assert!(terminal.left().success());
}
