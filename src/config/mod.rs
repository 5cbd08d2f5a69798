//! The users' files → validated model. A file is understood whole or refused with file, line,
//! column, what was expected and the nearest valid word; nothing starts on a half-understood file.
//!
//! Deliberately absent: reading the environment, defaults that depend on the machine, anything that
//! connects.

pub mod agent;
pub mod allowlist;
pub mod cluster;
mod constraints;
pub mod identity;
mod number;
pub mod plane;
pub mod policy;
pub mod problem;

pub use agent::AgentConfig;
pub use allowlist::Allowlist;
pub use identity::Identity;
pub use plane::PlaneConfig;
pub use problem::Problem;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads and parses one YAML file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Problem> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Problem::file(path, format!("cannot be read: {e}")))?;
    parse(path, &text)
}

pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Problem> {
    serde_saphyr::from_str(text).map_err(|e| Problem::from_yaml(path, &e))
}

/// A path in a file is relative to that file.
fn beside(file: &Path, path: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if path.is_relative() => folder.join(path),
        _ => path.to_owned(),
    }
}

/// Certificate files of one identity.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The authority that every peer's certificate must come from.
    pub ca: PathBuf,
    /// Own certificate.
    pub cert: PathBuf,
    /// Own key.
    pub key: PathBuf,
}

impl TlsFiles {
    fn beside(self, file: &Path) -> Self {
        Self {
            ca: beside(file, &self.ca),
            cert: beside(file, &self.cert),
            key: beside(file, &self.key),
        }
    }
}

#[cfg(test)]
mod tests;
