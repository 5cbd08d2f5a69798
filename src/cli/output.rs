//! Printing: tables for people, JSON for tools, and a reader that goes away is no error.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For tools.
    Json,
}

impl Format {
    /// What was asked for; else a table on a terminal and JSON elsewhere.
    pub(super) fn or_default(asked: Option<Format>) -> Format {
        asked.unwrap_or(if std::io::stdout().is_terminal() { Format::Table } else { Format::Json })
    }
}

/// Where a document goes, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// To standard output.
    Shown(Format),
    /// Into this file, as JSON.
    File(PathBuf),
}

impl std::str::FromStr for Output {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "table" => Output::Shown(Format::Table),
            "json" => Output::Shown(Format::Json),
            file => Output::File(file.into()),
        })
    }
}

/// Writes a document as JSON into a file.
pub(super) fn write(path: &Path, document: &impl serde::Serialize) -> color_eyre::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    std::fs::write(path, text + "\n")
        .map_err(|e| color_eyre::eyre::eyre!("{}: {e}", path.display()))
}

/// Prints a line. When nobody reads any more (a closed pipe) the program ends quietly.
pub(super) fn line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::output::line(&format!($($arg)*)) };
}
pub(super) use say;

/// Prints a document as JSON.
pub(super) fn json(document: &impl serde::Serialize) {
    // Our documents serialise without failing: string keys, no foreign types.
    line(&serde_json::to_string_pretty(document).unwrap_or_default());
}
