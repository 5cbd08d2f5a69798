//! Man pages and completions, made from the command line's own definition.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::output::say;

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The folder that gets `quorate.1` and a page for each subcommand.
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// Which shell's.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn man(arguments: &ManArguments) -> Result<Outcome> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).map_err(|e| eyre!("{}: {e}", dir.display()))?;
    let mut command = super::Arguments::command();
    command.build();
    let pages = pages(&command, dir)?;
    say!("{pages} pages in {}", dir.display());
    Ok(Outcome::Done)
}

/// A page for this command and those below it; those that people never call have none.
fn pages(command: &clap::Command, dir: &Path) -> Result<usize> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let path = dir.join(format!("{name}.1"));
    let page = clap_mangen::Man::new(command.clone()).title(name.to_uppercase());
    let mut text = vec![];
    page.render(&mut text)?;
    std::fs::write(&path, text).map_err(|e| eyre!("{}: {e}", path.display()))?;
    let mut count = 1;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        count += pages(below, dir)?;
    }
    Ok(count)
}

pub(super) fn completions(arguments: &CompletionsArguments) -> Result<Outcome> {
    // Into memory first: a reader that goes away is no error, and the generator panics on one.
    let mut text = vec![];
    clap_complete::generate(
        arguments.shell,
        &mut super::Arguments::command(),
        "quorate",
        &mut text,
    );
    say!("{}", String::from_utf8_lossy(&text).trim_end());
    Ok(Outcome::Done)
}
