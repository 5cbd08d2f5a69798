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

/// The terminal is asked; what a person chose stands.
#[test]
fn the_theme_is_for_the_terminals_ground() {
    let home = tempfile::tempdir().unwrap();
    let identity = stranger(home.path(), &server::absent());
    let inks = |ground: &'static str, more: &[&str]| {
        let arguments = [&console(&identity)[..], more].concat();
        let mut terminal = Pty::on(ground, (120, 30), home.path(), PROGRAM, &arguments);
        terminal.wait("cannot be reached");
        let inks = terminal.colours("UNKNOWN");
        terminal.write("\x03");
        assert!(terminal.left().success());
        inks.unwrap()
    };
    let (dark, light) = ("0000/0000/0000", "ffff/ffff/ffff");
    let (on_dark, on_light) = (inks(dark, &[]), inks(light, &[]));
    assert_ne!(on_dark, on_light);
    assert_eq!(inks(light, &["--theme", "dark"]), on_dark);
    assert_eq!(inks(dark, &["--theme", "light"]), on_light);
}

/// Several planes: a folder each, by name.
#[test]
fn a_context_is_an_identity_by_its_name_with_its_word_in_the_bar() {
    let home = tempfile::tempdir().unwrap();
    let contexts = home.path().join("quorate/contexts");
    let identity = stranger(&contexts, &server::absent());
    std::fs::rename(identity, contexts.join("eu")).unwrap();
    let mut terminal = Pty::start((120, 30), home.path(), PROGRAM, &["console", "--context", "eu"]);
    terminal.wait("cannot be reached");
    terminal.wait(" eu ");
    terminal.write("\x03");
    assert!(terminal.left().success());
    let mut terminal =
        Pty::start((120, 30), home.path(), PROGRAM, &["status", "--context", "../eu"]);
    terminal.wait("there is no context");
    terminal.wait("(eu)");
    assert!(!terminal.left().success());
}

/// A plan of a simulated cluster is nobody's who has to say who they are.
#[test]
fn a_plan_drawn_up_from_files_is_played_from_them() {
    let home = tempfile::tempdir().unwrap();
    let cluster = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/examples/cluster.yaml");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(PROGRAM);
        let done = command.args(arguments).current_dir(home.path()).output().unwrap();
        let all = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(all).unwrap())
    };
    let (code, said) = run(&["plan", "--cluster", cluster, "--output", "plan.json"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["execute", "--plan", "plan.json", "--dry-run", "--output", "table"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("simulated, from the moment of its confirmation"), "{said}");
    let (code, said) = run(&["execute", "--plan", "plan.json"]);
    assert!(code == Some(2) && said.contains("there is nothing to execute"), "{said}");
}
