//! Where PostgreSQL's programs are, and running them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// PostgreSQL's programs, all of one installation.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    /// Major version.
    pub major: u32,
    /// As it says itself.
    pub version: String,
}

/// PostgreSQL could not be found or used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProgramError {
    /// Nowhere.
    #[error(
        "PostgreSQL was not found{0}. Install it: Debian and Ubuntu: apt-get install postgresql; Fedora and RHEL: dnf install postgresql-server"
    )]
    Missing(String),
    /// Found, but not one that is supported.
    #[error("{found} in {folder} is not supported: expected PostgreSQL 13 to 17")]
    Unsupported {
        /// What it said.
        found: String,
        /// Where.
        folder: String,
    },
    /// The server is there, programs that the agent needs are not.
    #[error(
        "{folder} has no {missing}: install PostgreSQL's server and client packages of the same \
         version (psql: postgresql-client)"
    )]
    Incomplete {
        /// Where the server is.
        folder: String,
        /// What is not there.
        missing: String,
    },
    /// A program failed.
    #[error("{program} failed: {why}")]
    Failed {
        /// Which.
        program: String,
        /// The end of what it said.
        why: String,
    },
}

impl Programs {
    /// Looks in `folder` if given; else on PATH, then where Debian and RPM put it, newest first.
    ///
    /// # Errors
    /// [`ProgramError::Missing`] or [`ProgramError::Unsupported`].
    pub fn find(folder: Option<&Path>) -> Result<Self, ProgramError> {
        if let Some(folder) = folder {
            return Self::at(folder).unwrap_or_else(|| {
                Err(ProgramError::Missing(format!(" in {}", folder.display())))
            });
        }
        let mut unsupported = None;
        for folder in places() {
            match Self::at(&folder) {
                Some(Ok(found)) => return Ok(found),
                Some(Err(e)) => unsupported = Some(e),
                None => {}
            }
        }
        Err(unsupported.unwrap_or_else(|| ProgramError::Missing(String::new())))
    }

    /// `None` when there is no complete installation in `folder`.
    fn at(folder: &Path) -> Option<Result<Self, ProgramError>> {
        // A link on PATH leads to the folder where the other programs are.
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let folder = postgres.parent()?.to_owned();
        let missing: Vec<&str> = ["initdb", "pg_controldata", "pg_rewind", "pg_basebackup", "psql"]
            .into_iter()
            .filter(|p| !folder.join(p).exists())
            .collect();
        if !missing.is_empty() {
            return Some(Err(ProgramError::Incomplete {
                folder: folder.display().to_string(),
                missing: missing.join(", "),
            }));
        }
        let output = std::process::Command::new(&postgres).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let major = version.split_whitespace().nth(2)?.split('.').next()?.parse().ok()?;
        Some(if (13..=17).contains(&major) {
            let version = version.split_whitespace().nth(2).unwrap_or_default().to_owned();
            Ok(Self { folder, major, version })
        } else {
            Err(ProgramError::Unsupported { found: version, folder: folder.display().to_string() })
        })
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// A command that dies with its future, in the C locale.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command
            .kill_on_drop(true)
            .env("LC_ALL", "C")
            .env("PGCONNECT_TIMEOUT", "5")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// [`ProgramError::Failed`] with the end of what it said.
    pub async fn run(
        &self,
        program: &str,
        configure: impl FnOnce(&mut Command),
    ) -> Result<String, ProgramError> {
        let mut command = self.command(program);
        configure(&mut command);
        let failed = |why: String| ProgramError::Failed { program: program.to_owned(), why };
        let output = command.output().await.map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = said.lines().rev().take(4).collect();
        Err(failed(tail.into_iter().rev().collect::<Vec<_>>().join("; ")))
    }
}

fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    for major in (13..=17).rev() {
        places.push(format!("/usr/lib/postgresql/{major}/bin").into());
        places.push(format!("/usr/pgsql-{major}/bin").into());
    }
    places
}
