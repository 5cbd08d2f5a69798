//! A rebuild that has begun to touch what is here, kept in the state folder until it is done: the
//! data directory may be a mount point, and a rewind removes what it finds inside.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Setup;
use crate::agent::host;

/// What was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unfinished {
    /// A rewind: what is here cannot be used.
    Rewind,
    /// A whole copy takes the place of what was here: it is carried on.
    Exchange(Exchange),
}

/// A whole copy on its way into its folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exchange {
    /// What was here before is still on its way out.
    pub out: bool,
    /// Each takes up the copy that lies in it.
    pub folders: Vec<PathBuf>,
    /// Names that stay where they are: they lead to one of the folders.
    pub stays: Vec<String>,
}

fn file(setup: &Setup) -> PathBuf {
    setup.state_dir.join("rebuilding.json")
}

/// Where older versions said so.
fn older(setup: &Setup) -> PathBuf {
    setup.config.data_dir.with_extension("rebuilding")
}

/// Whether something was begun.
pub(super) fn is_here(setup: &Setup) -> bool {
    file(setup).exists() || older(setup).exists()
}

/// What was begun. A record that cannot be read is taken for what cannot be carried on.
pub(super) fn read(setup: &Setup) -> Option<Unfinished> {
    if !is_here(setup) {
        return None;
    }
    let text = std::fs::read_to_string(file(setup)).unwrap_or_default();
    Some(serde_json::from_str(&text).unwrap_or(Unfinished::Rewind))
}

/// Keeps it, durably.
///
/// # Errors
/// When the disk says no.
pub(super) fn write(setup: &Setup, what: &Unfinished) -> std::io::Result<()> {
    // Names and paths; one that is no text is refused.
    let text = serde_json::to_string(what).map_err(std::io::Error::other)?;
    host::write_durably(&file(setup), &text)
}

/// It is done.
///
/// # Errors
/// When the disk says no.
pub(super) fn remove(setup: &Setup) -> std::io::Result<()> {
    for file in [file(setup), older(setup)] {
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}
