//! `quorate theme` and `quorate keymap`: what comes with the program, and whether one's own can be
//! read, told apart and reached.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::output::say;
use crate::console::contrast;
use crate::console::keymap::{self, Keymap};
use crate::console::theme::{self, Depth, Theme};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what comes with the program.
    List,
    /// Check a file, or all that come with the program.
    Check {
        /// The file, or the name of one that comes with the program.
        file: Option<PathBuf>,
    },
    /// Print one that comes with the program, as a start for one's own.
    Show {
        /// Its name.
        name: String,
    },
}

type BuiltIn = [(&'static str, &'static str)];

pub(super) fn themes(arguments: &Arguments) -> Result<Outcome> {
    run(&arguments.command, theme::BUILT_IN, |name, text| {
        match Theme::parse(name, text, Depth::True) {
            Ok(theme) => contrast::problems(&theme),
            Err(problems) => problems,
        }
    })
}

pub(super) fn keymaps(arguments: &Arguments) -> Result<Outcome> {
    run(&arguments.command, keymap::BUILT_IN, |_, text| {
        Keymap::parse(text).err().unwrap_or_default()
    })
}

fn run(
    command: &Command,
    built_in: &BuiltIn,
    problems: impl Fn(&str, &str) -> Vec<String>,
) -> Result<Outcome> {
    let find = |name: &str| built_in.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
    let mut failed = false;
    let mut judge = |name: &str, text: &str| {
        let found = problems(name, text);
        if found.is_empty() {
            say!("✓ {name}");
        }
        for problem in found {
            failed = true;
            say!("✗ {name}: {problem}");
        }
    };
    match command {
        Command::List => {
            for (name, text) in built_in {
                let about = text.lines().next().unwrap_or_default().trim_start_matches("# ");
                say!("{name:<10} {about}");
            }
        }
        Command::Show { name } => {
            let text =
                find(name).ok_or_else(|| eyre!("{name:?} does not come with the program"))?;
            say!("{}", text.trim_end());
        }
        Command::Check { file: None } => {
            for (name, text) in built_in {
                judge(name, text);
            }
        }
        Command::Check { file: Some(file) } => {
            let name = file.display().to_string();
            match find(&name) {
                Some(text) => judge(&name, text),
                None => {
                    let text = std::fs::read_to_string(file).map_err(|e| eyre!("{name}: {e}"))?;
                    judge(&name, &text);
                }
            }
        }
    }
    Ok(if failed { Outcome::NotDone } else { Outcome::Done })
}
